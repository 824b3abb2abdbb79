#include "ha/takeover.h"

#include <algorithm>

#include "base/assert.h"
#include "base/coverage.h"
#include "disk/areas.h"

namespace duet::ha {

using ports::ReservationType;
using Purpose = MailboxKeeper::Purpose;
using Kind = MailboxKeeper::Outcome::Kind;
using Answer = OperatorAnswer::Outcome;

void Takeover::answer(Answer outcome, Reason reason, Output& out) {
  if (order_.request == 0) return;
  std::vector<std::string> reasons;
  if (reason != Reason::none) reasons.emplace_back(sentence(reason));
  out.act(OperatorAnswer{order_.request, outcome, std::move(reasons)});
  if (outcome != Answer::accepted) order_.request = 0;
}

void Takeover::begin(TakeoverOrder order, World& world, Output& out) {
  ASSERT(idle());
  bool again = order.trigger == order_.trigger && refusal_ != Reason::none;
  order_ = std::move(order);
  ++attempt_;
  looked_at_.reset();
  damaged_ = false;
  victim_ = world.monitor.served() != BootNonce(0) ? world.monitor.served() : world.monitor.nonce();
  bool ordered = order_.trigger == Reason::operator_order;
  if (!again || ordered) {
    out.log(Severity::notice, "takeover.checking", std::string(sentence(order_.trigger)));
  }
  state_ = Checking{};
  if (!world.enough_connected(world.partner())) {
    MARK(takeover_disks_unreachable);
    return refuse(Reason::partner_disks_unreachable, world, out);
  }
  if (world.lease(world.self()).until() <= out.now() && !ordered) {
    return refuse(Reason::no_lease, world, out);
  }
  world.keeper(world.partner()).read(Purpose::takeover, out);
}

void Takeover::retake(World& world, Output& out) {
  MARK(giveback_retaken);
  order_ = {.trigger = Reason::giveback_failed};
  looked_at_.reset();
  damaged_ = false;
  victim_ = world.monitor.nonce();
  world.lease(world.partner()).stop(out);
  out.log(Severity::warning, "giveback.retake", std::string(sentence(order_.trigger)));
  close_window(out);
}

void Takeover::refuse(Reason why, World& world, Output& out) {
  bool ordered = order_.trigger == Reason::operator_order;
  if (why != refusal_ || ordered) {  // tried again every second
    out.log(Severity::error, "takeover.refused", std::string(sentence(why)));
  }
  leave_alone(world);
  if (ordered) return give_up(Answer::refused, why, world, out);
  refusal_ = why;
  retry_at_ = out.now() + backoff;
  connections_ = world.connections;
  refused_ = world.monitor.nonce();
  state_ = Idle{};
}

// The partner may be waiting for our decision: it has rebooted, however the boot before it ended.
void Takeover::leave_alone(World& world) {
  if (world.monitor.watched() != world.monitor.nonce()) world.monitor.forget_served();
}

// What only the mailbox can tell is read again after `backoff`.
bool Takeover::refusal_cleared(const World& world, Instant now) const {
  switch (refusal_) {
    case Reason::partner_disks_unreachable:
      return world.enough_connected(world.partner());
    case Reason::no_lease:
      return world.lease(world.self()).until() > now;
    case Reason::mailbox_unknown:
      return connections_ != world.connections;
    case Reason::log_not_here:
    case Reason::log_damaged:
    case Reason::halt_without_takeover:
      return refused_ != world.monitor.nonce();
    default:
      return false;
  }
}

void Takeover::hand_back(Reason why, World& world, Output& out) {
  MARK(takeover_handed_back);
  connections_ = world.connections;
  refused_ = world.monitor.nonce();
  out.log(Severity::error, "takeover.handing_back", std::string(sentence(why)));
  refusal_ = why;
  drop_prepared(world, out);
  world.lease(world.partner()).stop(out);
  auto partner = world.partner();
  world.dump_watch.stop();
  world.serve_without(partner, {});
  // Those that cannot be reached are handed back when they can (leftovers.h).
  auto left_out = world.enough_connected(partner) ? world.missing(partner) : DiskSet{};
  HandingBack back{
      FenceSet(world.rules(FenceMode::release, ReservationType::write_exclusive_registrants_only),
               partner, world.config.disks(partner), left_out, world.tolerance(partner))};
  back.fences.start(out);
  state_ = std::move(back);
}

bool Takeover::settle_handing_back(World& world, Output& out) {
  auto& s = std::get<HandingBack>(state_);
  if (s.retry <= out.now()) {
    hand_back(refusal_, world, out);
    return true;
  }
  s.fences.on_time(out);
  if (s.fences.outcome() == FenceSet::Outcome::running || s.retry != never) return false;
  answer(Answer::failed, refusal_, out);
  retry_at_ = out.now() + backoff;
  if (s.fences.outcome() == FenceSet::Outcome::failed) {
    MARK(takeover_hand_back_repeated);
    s.retry = retry_at_;  // the partner cannot boot before we let go of every disk
    return true;
  }
  if (world.partner_fenced) {
    world.partner_fenced = false;
    out.act(PartnerFenced{false});
  }
  leave_alone(world);
  state_ = Idle{};
  return true;
}

// The read may have taken long, and the partner may have come up meanwhile.
bool Takeover::still_wanted(const World& world, Instant now) const {
  switch (order_.trigger) {
    case Reason::operator_order:
      return true;
    case Reason::resumed:
      return world.mailbox(world.partner())->taken_over_by == world.self();
    default:
      break;
  }
  auto verdict = world.verdict(now);
  return verdict == Verdict::gone || verdict == Verdict::dead || verdict == Verdict::absent;
}

void Takeover::on_checked(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  if (outcome.kind != Kind::known) {
    auto why = outcome.other_version ? Reason::version_mismatch : Reason::mailbox_unknown;
    return refuse(why, world, out);
  }
  world.mailbox(world.partner()) = outcome.mailbox;
  const auto& m = outcome.mailbox;
  if (!still_wanted(world, out.now())) {
    MARK(takeover_not_needed);
    out.log(Severity::notice, "takeover.not_needed", "the partner is back");
    refusal_ = Reason::none;
    state_ = Idle{};
    return;
  }
  bool loses = !decide_replay(m, world.engine->nvram).possible;
  if (loses && !order_.overridden(Reason::log_not_here)) {
    MARK(takeover_log_not_here);
    return refuse(Reason::log_not_here, world, out);
  }
  if (m.intent == Intent::halt_no_takeover && !order_.overridden(Reason::halt_without_takeover)) {
    MARK(takeover_halt_intent);
    return refuse(Reason::halt_without_takeover, world, out);
  }
  answer(Answer::accepted, Reason::none, out);
  const auto& partner = world.monitor.stable();
  bool serves = world.monitor.interconnect(out.now()) == Channel::fresh && partner &&
                serving_state(partner->state) && world.verdict(out.now()) != Verdict::gone;
  if (order_.trigger == Reason::operator_order && serves) return warm(world, out);
  close_window(out);
}

void Takeover::close_window(Output& out) {
  ++closes_;
  out.act(CloseMirrorWindow{});
  state_ = ClosingWindow{out.now() + window_wait};
}

void Takeover::on_window_closed(World& world, Output& out) {
  if (closes_ > 0) --closes_;
  if (closes_ > 0 || !std::holds_alternative<ClosingWindow>(state_)) return;
  out.log(Severity::info, "takeover.window_closed",
          "the partner cannot write into our NVRAM any more");
  if (!look(*world.mailbox(world.partner()), {}, world, out)) fence(world, out);
}

// Nothing has been changed yet, and a partner whose mirror is damaged may still have its own log.
bool Takeover::look(const Mailbox& m, std::optional<Confirming> confirmed, World& world,
                    Output& out) {
  auto decision = decide_replay(m, world.engine->nvram);
  Log log{m.durability, m.log_epoch, m.durability_since, decision.own_log};
  if (!decision.replay || looked_at_ == log) return false;
  if (confirmed) MARK(takeover_looks_again);
  looked_at_ = log;
  out.act(CheckLog{.identity = world.partner(),
                   .durability = m.durability,
                   .log_epoch = m.log_epoch,
                   .since = m.durability_since,
                   .own_log = decision.own_log});
  state_ = Looking{out.now() + look_wait, std::move(confirmed)};
  return true;
}

void Takeover::on_log_checked(const LogChecked& event, World& world, Output& out) {
  auto* s = std::get_if<Looking>(&state_);
  if (s == nullptr) return;
  auto confirmed = std::move(s->confirmed);
  if (!event.sound) {
    out.log(Severity::error, "takeover.log_damaged", event.why);
    damaged_ = order_.overridden(Reason::log_damaged);
    if (!damaged_) {
      MARK(takeover_log_damaged);
      if (confirmed) return hand_back(Reason::log_damaged, world, out);
      return refuse(Reason::log_damaged, world, out);
    }
  }
  if (confirmed) {
    mark(*confirmed, world, out);
  } else {
    fence(world, out);
  }
}

void Takeover::fence(World& world, Output& out) {
  out.act(HangUpMirror{});
  auto absent = world.missing(world.partner());
  for (auto disk : world.dump_watch.begin(world, victim_, out)) add(absent, disk);
  Fencing fencing{
      FenceSet(world.rules(FenceMode::fence, ReservationType::exclusive_access_registrants_only),
               world.partner(), world.config.disks(world.partner()), std::move(absent),
               world.tolerance(world.partner()))};
  world.serve_without(world.partner(), {});
  fencing.fences.start(out);
  state_ = std::move(fencing);
}

void Takeover::on_fenced(const FenceSet& fences, World& world, Output& out) {
  absent_ = fences.absent();
  world.serve_without(world.partner(), absent_);
  std::string without;
  for (auto disk : absent_) without += (without.empty() ? " but " : ", ") + std::to_string(disk);
  out.log(absent_.empty() ? Severity::notice : Severity::warning, "takeover.fenced",
          "every disk of the partner is ours alone" + without);
  forget_aborted(fences, world);
}

// The partner's claim took our keys and aborted what was left of the giveback's mailbox write: most
// targets never answer that, and the next write need not wait for its timeout (M7 holds).
void Takeover::forget_aborted(const FenceSet& fences, World& world) {
  for (std::uint8_t i = 0; i < world.config.mailbox_disks_of(world.partner()); ++i) {
    if (fences.registered_anew(i)) world.keeper(world.partner()).on_aborted(i);
  }
}

void Takeover::confirm(int attempts, World& world, Output& out) {
  Confirming s;
  s.attempts = attempts;
  for (std::uint8_t i = 0; i < world.config.mailbox_disks_of(world.self()); ++i) {
    if (contains(world.absent(world.self()), i)) continue;
    s.own_disks.push_back(out.disk({world.self(), i}, ReadReservation{}));
  }
  for (std::uint8_t i = 0; i < world.config.mailbox_disks_of(world.partner()); ++i) {
    if (contains(absent_, i)) continue;
    auto command = out.disk({world.partner(), i}, ReadBlock{disk::heartbeat_block.offset});
    s.beats.push_back({command, i});
  }
  state_ = std::move(s);
  world.keeper(world.partner()).read(Purpose::takeover, out);
}

bool Takeover::settle_confirming(World& world, Output& out) {
  auto& s = std::get<Confirming>(state_);
  if (s.retry <= out.now()) {
    confirm(s.attempts, world, out);
    return true;
  }
  if (s.retry != never || !s.own_disks.empty() || !s.beats.empty() || s.mailbox_pending) {
    return false;
  }
  // The partner that fenced us has fenced most of our mailbox disks: one of those that we read.
  bool enough = s.own_disks_ours > world.config.mailbox_disks_of(world.self()) / 2U;
  if (!s.own_disk_lost && (!enough || !s.mailbox)) {
    if (++s.attempts >= max_attempts) {
      MARK(takeover_mailbox_stays_unknown);
      hand_back(Reason::mailbox_unknown, world, out);
    } else {
      s.retry = out.now() + io_retry;
    }
    return true;
  }
  if (s.own_disk_lost) {  // T6
    MARK(takeover_mutual);
    world.fenced = "the partner holds our disks while we fenced its";
    return true;
  }
  const auto& m = *s.mailbox;
  if (!order_.overridden(Reason::log_not_here) && !decide_replay(m, world.engine->nvram).possible) {
    MARK(takeover_log_moved_while_fencing);
    hand_back(Reason::log_not_here, world, out);
    return true;
  }
  Confirming seen = std::move(s);
  if (!look(*seen.mailbox, seen, world, out)) mark(seen, world, out);
  return true;
}

void Takeover::mark(const Confirming& seen, World& world, Output& out) {
  auto m = *seen.mailbox;
  auto decision = decide_replay(m, world.engine->nvram);
  replay_ = decision;
  // T8: that one boot has stopped says nothing of the next, which may have claimed while we were
  // not scheduled. Who serves wrote the mailbox first.
  bool heard_of = m.server != world.partner() || m.writer == victim_;
  if (!heard_of) MARK(takeover_of_a_boot_unheard_of);
  bool stopped = heard_of && world.monitor.stopped(victim_);
  if (!decision.possible || damaged_) {
    MARK(takeover_forced);
    replay_ = {};
    out.log(Severity::error, "takeover.forced",
            damaged_ ? "forced by the operator: acknowledged writes since the partner's last "
                       "consistency point are lost"
                     : "forced by the operator: acknowledged writes that only the partner's NVRAM "
                       "has are lost");
    m.durability = Durability::write_through;
    m.nvram_server = 0;
    m.nvram_mirror = 0;
  }
  m.generation = world.keeper(world.partner()).next_generation();
  m.epoch = m.epoch.next();  // T5
  m.server = world.self();
  m.taken_over_by = world.self();
  m.intent = Intent::none;
  bool goes_on = order_.trigger == Reason::resumed && m.reason != 0;
  auto cause = order_.unwell ? Reason::partner_unwell : order_.trigger;
  if (!goes_on) m.reason = static_cast<std::uint8_t>(cause);
  m.writer = world.nonce;
  const auto& ids = world.config.shelves[world.partner().value()].ids;
  if (!ids.empty()) m.disks = ids;
  state_ = Marking{.mailbox = m,
                   .lease_ends = stopped ? out.now() : seen.lease_ends,
                   .heard_of = heard_of,
                   .retry = out.now()};
}

void Takeover::on_marked(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  auto& s = std::get<Marking>(state_);
  if (outcome.kind == Kind::write_failed && ++s.attempts < max_attempts) {
    MARK(takeover_mark_repeated);
    s.retry = out.now() + io_retry;
    return;
  }
  if (outcome.kind != Kind::written) {
    MARK(takeover_mark_failed);
    return hand_back(
        outcome.kind == Kind::fenced ? Reason::lost_arbitration : Reason::fencing_failed, world,
        out);
  }
  ++world.progress;
  marked_ = s.mailbox;
  epoch_ = s.mailbox.epoch;
  world.mailbox(world.partner()) = s.mailbox;
  world.partner_fenced = true;
  out.act(PartnerFenced{true});
  world.lease(world.partner()).start(world.nonce, epoch_, out);
  kill_at_ = out.now();
  out.log(Severity::notice, "takeover.marked", "epoch " + std::to_string(epoch_.value()));
  state_ = AwaitingLease{s.lease_ends, s.heard_of};
}

void Takeover::assume(World& world, Output& out) {
  prepared_ = false;  // the engine uses it now
  out.act(AssumeIdentity{.identity = world.partner(),
                         .epoch = epoch_,
                         .replay = replay_.replay,
                         .log_epoch = marked_.log_epoch,
                         .key = world.engine_key(),
                         .holder = world.key(),
                         .durability = marked_.durability,
                         .since = marked_.durability_since,
                         .own_log = replay_.own_log,
                         .absent = world.absent(world.partner())});
  state_ = Assuming{};
}

bool Takeover::send_kill_packets(World& world, Output& out) {
  if (!holding() || kill_at_ > out.now()) return false;
  bool other_boot = world.monitor.stable() && world.monitor.nonce() != victim_;
  if (other_boot || victim_ == BootNonce(0)) {
    MARK(kill_packets_end);
    kill_at_ = never;
    return false;
  }
  world.send(PleaseDie{epoch_}, victim_, out);
  kill_at_ = out.now() + world.config.timers.kill_interval;
  return false;
}

//  Idle --begin--> Checking --may; by order, partner serves--> Warming --> CountingDown
//   ^ ^               | may not  | may                            |            | left, dead, or
//   over | +---------------+----------|--- Cancelling, refused <-------+------------+ | retake
//   ----> ClosingWindow <------------------------------------+ |                            |
//   closed |    refused: Idle <-- Looking (at the log)  <--- another log --+
//   sound  |                         Fencing --> Confirming --> Marking --> AwaitingLease -->
//   Assuming |                            | lost, failed, refused    |                            |
//   +------- HandingBack <-------+--------------------------+                            v
//   +------------------------------- given_back --------------------------------------- Serving
bool Takeover::advance(World& world, Output& out) {
  send_kill_packets(world, out);
  return std::visit(
      Overloaded{
          [](Idle&) { return false; },
          [](Checking&) { return false; },
          [&](Warming&) { return settle_warming(world, out); },
          [&](CountingDown&) { return settle_counting_down(world, out); },
          [&](Cancelling&) { return settle_cancelling(world, out); },
          [&](ClosingWindow& s) {
            if (s.until > out.now()) return false;
            if (order_.trigger == Reason::giveback_failed) {
              MARK(takeover_window_stuck_in_giveback);
              world.fenced = "our engine does not close the mirror window";
              return true;
            }
            refuse(Reason::engine_stuck, world, out);
            return true;
          },
          [&](Looking& s) {
            if (s.until > out.now()) return false;
            MARK(takeover_look_too_long);
            if (s.confirmed) {
              hand_back(Reason::engine_stuck, world, out);
            } else {
              refuse(Reason::engine_stuck, world, out);
            }
            return true;
          },
          [&](Fencing& s) {
            s.fences.on_time(out);
            switch (s.fences.outcome()) {
              case FenceSet::Outcome::running:
                return false;
              case FenceSet::Outcome::done:
                ++world.progress;
                on_fenced(s.fences, world, out);
                confirm(0, world, out);
                return true;
              case FenceSet::Outcome::lost:
                MARK(takeover_arbitration_lost);
                out.log(Severity::warning, "takeover.lost", s.fences.why());
                hand_back(Reason::lost_arbitration, world, out);
                return true;
              case FenceSet::Outcome::failed:
                MARK(takeover_fencing_failed);
                out.log(Severity::warning, "takeover.fencing_failed", s.fences.why());
                hand_back(Reason::fencing_failed, world, out);
                return true;
            }
            UNREACHABLE();
          },
          [&](Confirming&) { return settle_confirming(world, out); },
          [&](Marking& s) {
            if (s.retry > out.now()) return false;
            if (world.keeper(world.partner()).writing()) {  // of the giveback that failed
              MARK(takeover_mark_waits_for_giveback);
              s.retry = out.now() + keeper_retry;
              return false;
            }
            s.retry = never;
            world.keeper(world.partner()).write(Purpose::takeover, s.mailbox, out);
            return true;
          },
          [&](AwaitingLease& s) {
            bool stopped = s.heard_of && world.monitor.stopped(victim_);
            if (s.until > out.now() && !stopped) return false;
            assume(world, out);
            return true;
          },
          [&](Assuming& s) {
            if (s.retry > out.now()) return false;
            assume(world, out);
            return true;
          },
          [](Serving&) { return false; },
          [&](HandingBack&) { return settle_handing_back(world, out); },
      },
      state_);
}

bool Takeover::on_completed(const DiskCompleted& event, World& world, Output& out) {
  if (auto* s = std::get_if<Fencing>(&state_)) return s->fences.on_completed(event, out);
  if (auto* s = std::get_if<HandingBack>(&state_)) return s->fences.on_completed(event, out);
  auto* s = std::get_if<Confirming>(&state_);
  if (s == nullptr) return false;
  if (std::erase(s->own_disks, event.command) > 0) {
    const auto* held = event.reply ? std::get_if<ports::ReservationState>(&*event.reply) : nullptr;
    if (held == nullptr) return true;
    bool ours = held->reserved && held->holder == world.key();
    s->own_disks_ours += ours ? 1 : 0;
    s->own_disk_lost |= !ours;
    return true;
  }
  auto beat = std::ranges::find(s->beats, event.command, &Confirming::Beat::command);
  if (beat == s->beats.end()) return false;
  // T8: a heartbeat that we knew before the fence was issued before we first saw it.
  auto lease = world.config.timers.lease();
  const auto* bytes = event.reply ? std::get_if<std::vector<std::byte>>(&*event.reply) : nullptr;
  auto since = bytes ? world.watch.seen_since(beat->disk, *bytes, out.now()) : out.now();
  s->lease_ends = std::max(s->lease_ends, since + lease);
  s->beats.erase(beat);
  return true;
}

void Takeover::on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  if (std::holds_alternative<Checking>(state_)) {
    on_checked(outcome, world, out);
  } else if (auto* s = std::get_if<Confirming>(&state_)) {
    s->mailbox_pending = false;
    if (outcome.kind == Kind::known && outcome.all_answered) s->mailbox = outcome.mailbox;
  } else if (std::holds_alternative<Marking>(state_)) {
    on_marked(outcome, world, out);
  }
}

void Takeover::on_assumed(World& world, Output& out) {
  if (!std::holds_alternative<Assuming>(state_)) return;
  ++world.progress;
  state_ = Serving{};
  refusal_ = Reason::none;
  world.monitor.forget_served();
  out.log(Severity::notice, "takeover.serving", "serving the partner's identity");
  answer(Answer::done, Reason::none, out);
}

void Takeover::on_assume_failed(const std::string& why, World& world, Output& out) {
  auto* s = std::get_if<Assuming>(&state_);
  if (s == nullptr) return;
  ++world.progress;
  if (world.dump_watch.leaves_any()) {
    MARK(takeover_needs_the_disks_left);
    world.dump_watch.need_all();  // serving goes before the dump, whatever it was that failed
  }
  s->retry = out.now() + assume_retry;
  out.log(Severity::error, "takeover.assume_failed", why);
}

void Takeover::given_back(World& world, Output& out) {
  ASSERT(serving());
  world.partner_fenced = false;
  out.act(PartnerFenced{false});
  world.lease(world.partner()).stop(out);
  world.dump_watch.stop();
  world.serve_without(world.partner(), {});
  kill_at_ = never;
  epoch_ = Epoch(0);
  order_.trigger = Reason::none;
  state_ = Idle{};
}

std::string_view Takeover::step() const {
  constexpr std::array<std::string_view, std::variant_size_v<decltype(state_)>> names{
      "idle",           "checking", "warming", "counting_down", "cancelling",
      "closing_window", "looking",  "fencing", "confirming",    "marking",
      "awaiting_lease", "assuming", "serving", "handing_back"};
  return names.at(state_.index());
}

Instant Takeover::next_time() const {
  Instant next =
      std::visit(Overloaded{
                     [](const Idle&) { return never; },
                     [](const Checking&) { return never; },
                     [](const Warming& s) { return s.until; },
                     [](const CountingDown& s) { return std::min(s.ends, s.send_at); },
                     [](const Cancelling& s) { return std::min(s.until, s.send_at); },
                     [](const ClosingWindow& s) { return s.until; },
                     [](const Looking& s) { return s.until; },
                     [](const Fencing& s) { return s.fences.next_time(); },
                     [](const Confirming& s) { return s.retry; },
                     [](const Marking& s) { return s.retry; },
                     [](const AwaitingLease& s) { return s.until; },
                     [](const Assuming& s) { return s.retry; },
                     [](const Serving&) { return never; },
                     [](const HandingBack& s) { return std::min(s.retry, s.fences.next_time()); },
                 },
                 state_);
  return holding() ? std::min(next, kill_at_) : next;
}

}  // namespace duet::ha
