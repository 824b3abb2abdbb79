#include "ha/giveback.h"

#include <algorithm>
#include <array>

#include "base/coverage.h"

namespace duet::ha {

using ports::ReservationType;
using Purpose = MailboxKeeper::Purpose;
using Kind = MailboxKeeper::Outcome::Kind;
using Answer = OperatorAnswer::Outcome;

Giveback::Giveback(const Config& config)
    : auto_(
          [&] {
            auto rules = config.auto_giveback_rules;
            rules.enabled = config.auto_giveback;
            return rules;
          }(),
          config.past_takeovers) {}

void Giveback::answer(Answer outcome, Reason reason, Output& out) {
  ordered_ = false;
  if (request_ == 0) return;
  std::vector<std::string> reasons;
  if (reason != Reason::none) reasons.emplace_back(sentence(reason));
  out.act(OperatorAnswer{request_, outcome, std::move(reasons)});
  request_ = 0;
}

bool Giveback::partner_waits(const World& world, Instant now) {
  const auto& m = world.monitor;
  return (m.in(NodeState::givewait) || m.in(NodeState::mbwait)) &&
         m.interconnect(now) == Channel::fresh &&
         m.makes_progress(now, world.config.timers.interconnect_silence);
}

Reason Giveback::order(std::uint64_t request, bool uncoordinated, const World& world,
                       const Takeover& takeover, Instant now) {
  if (!takeover.serving()) return Reason::not_taken_over;
  if (giving() || request_ != 0) return Reason::busy;
  if (!uncoordinated && !partner_waits(world, now)) return Reason::partner_makes_no_progress;
  auto_.on_order();
  request_ = request;
  ordered_ = true;
  uncoordinated_ = uncoordinated;
  ordered_until_ = now + world.config.timers.givewait_deadline;
  return Reason::none;
}

bool Giveback::take_back(World& world, Takeover& takeover, Output& out) {
  if (!uncoordinated_ || !std::holds_alternative<AwaitingUp>(state_)) return false;
  retake(world, takeover, out);
  return true;
}

// Disks that are not ours, and those that cannot be reached and are not needed.
DiskSet Giveback::left_out(const World& world) {
  auto disks = world.absent(world.partner());
  for (auto disk : world.missing(world.partner())) add(disks, disk);
  return world.bears(world.partner(), disks) ? disks : world.absent(world.partner());
}

void Giveback::re_reserve(World& world, Output& out) {
  out.log(Severity::warning, "giveback.re_reserving",
          "the partner did not go on: its disks are ours alone again");
  not_before_ = out.now() + backoff;
  FenceSet fences(world.rules(FenceMode::fence, ReservationType::exclusive_access_registrants_only),
                  world.partner(), world.config.disks(world.partner()), left_out(world),
                  world.tolerance(world.partner()));
  fences.start(out);
  state_ = ReReserving{std::move(fences)};
}

void Giveback::stop(BootNonce nonce, World& world, Output& out) {
  ++world.progress;
  if (uncoordinated_) {
    out.log(Severity::error, "giveback.uncoordinated",
            "by order, and the partner is not waiting: nobody serves its clients until it has "
            "booted");
  }
  out.log(Severity::notice, "giveback.stopping", "the engine releases the partner's identity");
  world.dump_collector.cancel(world.partner(), out);
  out.act(ReleaseIdentity{world.partner()});
  state_ = Stopping{nonce};
}

void Giveback::retake(World& world, Takeover& takeover, Output& out) {
  answer(Answer::failed, Reason::giveback_timed_out, out);
  not_before_ = out.now() + backoff;
  auto_.on_failed(out.now());
  uncoordinated_ = false;
  state_ = Holding{};
  takeover.retake(world, out);
}

//  Holding --partner waits--> Releasing --> Released --MBWAIT, wanted--> Stopping
//     ^                          | failed      | silent, other boot,       | | released
//     |                          v             v too late    vetoed: Released v
//     +----------------------- ReReserving <---+                            Marking
//     |                                              partner serves, or written |
//     +-- given back, or retaken (deadline, dead, write failed) -- AwaitingUp <-+
bool Giveback::advance(World& world, Takeover& takeover, bool vetoed, Output& out) {
  auto now = out.now();
  if (ordered_ && !giving() && now >= ordered_until_) {
    uncoordinated_ = false;
    answer(Answer::failed, Reason::partner_makes_no_progress, out);
  }
  if (!giving()) {
    auto_.on_ready(
        takeover.serving() && partner_waits(world, now) && world.monitor.in(NodeState::mbwait),
        now);
  }
  return std::visit(
      Overloaded{
          [&](Holding&) {
            bool wanted = uncoordinated_ || partner_waits(world, now);
            if (!takeover.serving() || now < not_before_ || !wanted) return false;
            if (!uncoordinated_ && world.dump_watch.busy()) {
              MARK(giveback_waits_for_a_dump_disk);
              return false;
            }
            FenceSet fences(
                world.rules(FenceMode::release, ReservationType::write_exclusive_registrants_only),
                world.partner(), world.config.disks(world.partner()), left_out(world),
                world.tolerance(world.partner()));
            fences.start(out);
            state_ = Releasing{std::move(fences), world.monitor.nonce()};
            return true;
          },
          [&](Releasing& s) {
            s.fences.on_time(out);
            switch (s.fences.outcome()) {
              case FenceSet::Outcome::running:
                return false;
              case FenceSet::Outcome::done:
                ++world.progress;
                out.log(Severity::notice, "giveback.released",
                        "the partner may read its disks; this node serves on");
                state_ = Released{s.nonce, now + world.config.timers.givewait_deadline};
                return true;
              case FenceSet::Outcome::lost:
                MARK(giveback_disks_lost);
                world.fenced = "the partner's disks are not ours any more: " + s.fences.why();
                return true;
              case FenceSet::Outcome::failed:
                MARK(giveback_release_failed);
                re_reserve(world, out);
                return true;
            }
            UNREACHABLE();
          },
          [&](Released& s) {
            if (uncoordinated_) {
              stop(s.nonce, world, out);
              return true;
            }
            bool ready = world.monitor.in(NodeState::mbwait);
            if (!partner_waits(world, now) || world.monitor.nonce() != s.nonce ||
                (!ready && now >= s.deadline)) {
              MARK(giveback_re_reserved);
              re_reserve(world, out);
              return true;
            }
            bool automatic = auto_.plan(true, vetoed, now).why == AutoGivebackPlan::Why::now;
            if (!ready || !(ordered_ || automatic)) return false;
            stop(s.nonce, world, out);
            return true;
          },
          [&](ReReserving& s) {
            s.fences.on_time(out);
            switch (s.fences.outcome()) {
              case FenceSet::Outcome::running:
                return false;
              case FenceSet::Outcome::done:
                state_ = Holding{};
                return true;
              case FenceSet::Outcome::lost:
                world.fenced = "the partner's disks are not ours any more: " + s.fences.why();
                return true;
              case FenceSet::Outcome::failed:
                MARK(giveback_re_reserve_failed);
                re_reserve(world, out);
                return true;
            }
            UNREACHABLE();
          },
          [](Stopping&) { return false; },
          [&](Marking& s) {
            // The partner has read a copy and its claim aborted the rest of our write: no answer
            // may come for that until the command times out, and none is needed.
            if (partner_serves(world, s.mailbox.epoch)) {
              world.keeper(world.partner()).abandon_write();
              MARK(giveback_partner_claims_early);
              on_written(s, world, out);
              return true;
            }
            if (!uncoordinated_ && partner_left(world, s.nonce, now)) {
              world.keeper(world.partner()).abandon_write();
              MARK(giveback_partner_left_while_marking);
              retake(world, takeover, out);
              return true;
            }
            if (s.retry > now) return false;
            if (world.keeper(world.partner()).writing()) {  // a durability mark on its way
              MARK(giveback_waits_for_mark);
              s.retry = now + keeper_retry;
              return false;
            }
            s.retry = never;
            if (now >= s.deadline) {
              MARK(giveback_mark_too_late);
              retake(world, takeover, out);
            } else {
              world.keeper(world.partner()).write(Purpose::giveback, s.mailbox, out);
            }
            return true;
          },
          [&](AwaitingUp&) { return settle_awaiting_up(world, takeover, out); },
      },
      state_);
}

void Giveback::on_released(World& world, Takeover& takeover, Output& out) {
  auto* s = std::get_if<Stopping>(&state_);
  if (s == nullptr) return;
  ++world.progress;
  out.log(Severity::notice, "giveback.stopped", "nobody serves the partner's identity now");
  auto nonce = s->nonce;
  auto now = out.now();
  bool waits = partner_waits(world, now) && world.monitor.nonce() == nonce;
  if (!waits && !uncoordinated_) {
    MARK(giveback_partner_left_while_stopping);
    return retake(world, takeover, out);  // nothing was given away yet
  }
  // G3, and detection is armed before anything is given away.
  world.lease(world.partner()).stop(out);
  world.watch.restart(now);
  auto m = *world.mailbox(world.partner());
  m.generation = world.keeper(world.partner()).next_generation();
  m.server = world.self();
  m.taken_over_by = no_node;
  m.durability = Durability::write_through;
  m.nvram_server = 0;
  m.nvram_mirror = 0;
  m.log_epoch = m.epoch;
  m.reason = static_cast<std::uint8_t>(Reason::none);
  m.writer = world.nonce;
  state_ = Marking{.nonce = nonce, .mailbox = m, .deadline = now + mark_limit, .retry = now};
}

void Giveback::on_release_failed(const std::string& why, World& world, Output& out) {
  auto* s = std::get_if<Stopping>(&state_);
  if (s == nullptr) return;
  out.log(Severity::warning, "giveback.vetoed", why);
  answer(Answer::failed, Reason::vetoed, out);
  MARK(giveback_vetoed);
  auto_.on_failed(out.now());
  uncoordinated_ = false;
  state_ = Released{s->nonce, out.now() + world.config.timers.givewait_deadline};
}

void Giveback::on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  auto* s = std::get_if<Marking>(&state_);
  if (s == nullptr) return;
  if (outcome.kind == Kind::write_failed) {
    s->retry = out.now() + io_retry;  // same generation: re-drivable
    MARK(giveback_mark_repeated);
    return;
  }
  // A conflict means that the partner has read one of the copies and claims already.
  on_written(*s, world, out);
}

void Giveback::on_written(const Marking& marking, World& world, Output& out) {
  ++world.progress;
  world.mailbox(world.partner()) = marking.mailbox;
  out.log(Severity::notice, "giveback.mailbox_written", "the partner may take its identity back");
  world.send(GivenBack{}, world.monitor.nonce(), out);  // it would find out by itself, a poll later
  state_ = AwaitingUp{
      marking.nonce, marking.mailbox.epoch,
      out.now() + (uncoordinated_ ? uncoordinated_limit : world.config.timers.giveback_deadline)};
}

// It says so, or its heartbeats of a newer epoch do.
bool Giveback::partner_serves(const World& world, Epoch after) {
  const auto& m = world.monitor;
  bool says = m.stable() && serving_state(m.stable()->state) && m.stable()->own_epoch > after;
  return says || (world.watch.last() && world.watch.last()->epoch > after);
}

bool Giveback::partner_left(const World& world, BootNonce boot, Instant now) {
  const auto& m = world.monitor;
  bool over = m.stable() && ended_state(m.stable()->state);
  bool silent = m.interconnect(now) == Channel::silent;
  return m.nonce() != boot || over || silent || world.verdict(now) == Verdict::gone;
}

bool Giveback::settle_awaiting_up(World& world, Takeover& takeover, Output& out) {
  const auto& s = std::get<AwaitingUp>(state_);
  auto now = out.now();
  if (partner_serves(world, s.epoch)) {
    ++world.progress;
    out.log(Severity::notice, "giveback.done", "the partner serves its identity again");
    answer(Answer::done, Reason::none, out);
    auto_.on_done();
    uncoordinated_ = false;
    state_ = Holding{};
    takeover.given_back(world, out);
    return true;
  }
  if (uncoordinated_ && now < s.deadline) return false;  // it has yet to boot
  if (now < s.deadline && !partner_left(world, s.nonce, now)) return false;
  retake(world, takeover, out);
  return true;
}

bool Giveback::on_completed(const DiskCompleted& event, Output& out) {
  if (auto* s = std::get_if<Releasing>(&state_)) return s->fences.on_completed(event, out);
  if (auto* s = std::get_if<ReReserving>(&state_)) return s->fences.on_completed(event, out);
  return false;
}

std::string_view Giveback::step() const {
  constexpr std::array<std::string_view, std::variant_size_v<decltype(state_)>> names{
      "holding", "releasing", "released", "re_reserving", "stopping", "marking", "awaiting_up"};
  return names.at(state_.index());
}

Instant Giveback::next_time(Instant now) const {
  if (auto* s = std::get_if<Released>(&state_)) {
    auto next = std::min(s->deadline, auto_.next_time(true, now));
    return ordered_ ? std::min(next, ordered_until_) : next;
  }
  return std::visit(Overloaded{
                        [](const Holding&) { return never; },
                        [](const Releasing& s) { return s.fences.next_time(); },
                        [](const Released&) { return never; },
                        [](const ReReserving& s) { return s.fences.next_time(); },
                        [](const Stopping&) { return never; },
                        [](const Marking& s) { return s.retry; },
                        [](const AwaitingUp& s) { return s.deadline; },
                    },
                    state_);
}

}  // namespace duet::ha
