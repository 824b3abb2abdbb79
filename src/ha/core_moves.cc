// When a node moves by itself: takes over, asks to be taken over, leaves, or ends its boot.
#include <algorithm>

#include "base/assert.h"
#include "base/coverage.h"
#include "ha/core.h"

namespace duet::ha {

// Our disks or our clients' network are lost, and the partner says that it could take over.
void Core::consider_going(Output& out) {
  auto now = out.now();
  bool wants = boot_.up() && takeover_.idle() && departure_.idle() && !halting_ &&
               !world_.suspended && world_.own_health && cannot_serve(*world_.own_health) &&
               world_.monitor.interconnect(now) == Channel::fresh &&
               asks_to_be_taken_over(*world_.own_health, world_.fresh_partner_health(now));
  if (!wants) {
    unwell_since_.reset();
    return;
  }
  if (!unwell_since_) {
    unwell_since_ = now;
    go_at_ = std::max(go_at_, now + unwell_patience);
  }
  if (go_at_ > now) return;
  MARK(core_asks_to_be_taken_over);
  go_pause_ = std::clamp(2 * go_pause_, go_pause_min, go_pause_max);
  go_at_ = now + go_pause_;
  out.log(Severity::error, "departure.unwell",
          "this node cannot serve its clients, and its partner can");
  // Its own disks may be what it has lost: then it cannot hand over.
  departure_.ask({.countdown_ms = static_cast<std::uint32_t>(seconds(10) / milliseconds(1)),
                  .force = false,
                  .unwell = true,
                  .number = 0,
                  .overrides = {static_cast<std::uint8_t>(Reason::hand_over_failed),
                                static_cast<std::uint8_t>(Reason::not_prepared)}},
                 0, out);
}

bool Core::trigger_takeover(Output& out) {
  auto verdict = world_.verdict(out.now());
  if (verdict != last_verdict_ && takeover_.idle()) {
    last_verdict_ = verdict;
    if (verdict == Verdict::dead) {
      out.log(Severity::error, "partner.silent", std::string(sentence(Reason::partner_silent)));
    } else {
      out.log(Severity::info, "partner." + std::string(name(verdict)), "");
    }
  }
  bool dead = verdict == Verdict::dead || verdict == Verdict::absent;
  if (!dead)
    dead_since_.reset();
  else if (!dead_since_)
    dead_since_ = out.now();
  if (!boot_.up() || !leftovers_.done() || world_.suspended || !world_.engine ||
      departure_.departing() || halting_ || !takeover_.may_begin(world_, out.now())) {
    return false;
  }
  const auto& mailbox = world_.mailbox(world_.partner());
  if (mailbox && mailbox->taken_over_by == world_.self()) {
    takeover_.begin({.trigger = Reason::resumed}, world_, out);
    MARK(takeover_resumed);
    return true;
  }
  const auto& timers = world_.config.timers;
  // Silence is no arbiter when both are silent: the higher node yields a little (takeover.md).
  auto patience = world_.self() > world_.partner() ? timers.tie_break_delay : Duration{};
  switch (verdict) {
    case Verdict::alive:
      takeover_.forget_refusal();
      return false;
    case Verdict::suspect:
      return false;
    case Verdict::absent:
      if (timers.cold_start_wait == Duration{}) return false;
      patience += timers.cold_start_wait;
      MARK(core_partner_absent);
      [[fallthrough]];
    case Verdict::dead:
      if (out.now() < *dead_since_ + patience) return false;
      break;
    case Verdict::gone:
      break;
  }
  takeover_.begin({.trigger = world_.monitor.reason(world_.watch, out.now())}, world_, out);
  return true;
}

// ---- ends ----

// The gate of the acknowledgements is closed before anybody hears that we have left (P2).
void Core::leave(Output& out) {
  bool quiet = departure_.quiet();
  begin_ending({.shown = NodeState::halted,
                .why = Reason::handed_over,
                .reboot = true,
                .request = departure_.take_request(),
                .text = quiet ? "handed over to the partner" : "the engine did not hand over"},
               true, out);
  if (quiet) world_.send(Departed{}, world_.monitor.nonce(), out);
}

void Core::begin_ending(Ending ending, bool stop_engine, Output& out) {
  for (auto& lease : world_.leases) lease.stop(out);
  if (stop_engine) out.act(StopEngine{});
  ending.until = out.now() + (ending.engine_ended ? farewell : stop_wait);
  ending.unserved_since = read_state_at_ = out.now();
  ending_ = std::move(ending);
}

void Core::settle_ending(Output& out) {
  if (ending_->dumped) return watch_dump(out);
  if (ending_->until > out.now()) return;
  if (ending_->request != 0) {
    out.act(OperatorAnswer{
        ending_->request,
        ending_->engine_ended ? OperatorAnswer::Outcome::done : OperatorAnswer::Outcome::failed,
        {}});
  }
  end_boot(ending_->reboot, ending_->text, out);
}

// A dump is worth nothing to clients: without a partner that serves them the reboot comes first.
void Core::watch_dump(Output& out) {
  read_partner_state(out);
  const bool served = world_.monitor.in(NodeState::taken_over_partner) &&
                      world_.monitor.interconnect(out.now()) != Channel::silent;
  if (served) ending_->unserved_since = out.now();
  if (ending_->dump_stopped || out.now() - ending_->unserved_since < dump_patience) return;
  MARK(core_dump_stopped);
  ending_->dump_stopped = true;
  out.log(Severity::warning, "node.dump_stopped", "the partner does not serve for this node");
  out.act(StopDump{});
}

void Core::end_fenced(Output& out) {
  MARK(core_fenced);
  for (auto& lease : world_.leases) lease.stop(out);
  out.act(StopEngine{});
  out.log(Severity::error, "node.fenced", *world_.fenced);
  end_boot(true, "fenced: " + *world_.fenced, out);
}

void Core::end_boot(bool reboot, std::string why, Output& out) {
  ended_ = true;
  out.act(EndBoot{reboot, std::move(why)});
}

}  // namespace duet::ha
