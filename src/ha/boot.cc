#include "ha/boot.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"

namespace duet::ha {

using ports::ReservationType;
using Purpose = MailboxKeeper::Purpose;
using Kind = MailboxKeeper::Outcome::Kind;

//  in this order:
//  held Exclusive by the partner                       givewait
//  disks missing or unreadable                         wait (disks missing)
//  mailbox kept out                                    givewait
//  forced by the operator                              claim
//  mailbox unknown, or of another version              wait, never serve
//  taken over, partner does not hold every disk        givewait (partner absent)
//  engine not ready                                    wait; givewait if taken over: mbwait is a
//  promise
//                                                      to serve as soon as the mailbox says so
//  taken over, partner holds every disk (readable)     mbwait
//  the log is in another NVRAM                         wait (nvram lost), never serve
//  waited for the partner's decision: given back       claim
//  link not up yet; partner watches an earlier boot    wait, bounded
//  otherwise                                           claim
BootDecision decide_boot(const BootView& view, NodeId self) {
  // Which disks may be missing can be read only when the partner lets us.
  if (view.holding == Holding::exclusive && !view.forced) {
    return BootWait{NodeState::givewait, Reason::taken_over};
  }
  if (!view.disks_connected || view.holding == Holding::unreadable) {
    return BootWait{.why = Reason::disks_missing};
  }
  if (view.holding == Holding::exclusive) return BootClaim{};
  if (view.mailbox_kept_out) return BootWait{NodeState::givewait, Reason::taken_over};
  if (!view.mailbox) {
    return BootWait{.why = view.mailbox_of_other_version ? Reason::version_mismatch
                                                         : Reason::mailbox_unknown};
  }
  bool taken_over = view.mailbox->taken_over_by == partner_of(self);
  if (!view.forced && taken_over && view.holding != Holding::shared_all) {
    return BootWait{NodeState::givewait, Reason::partner_absent_taken_over};
  }
  if (!view.nvram) {
    return BootWait{taken_over ? NodeState::givewait : NodeState::booting, Reason::awaiting_engine};
  }
  if (view.forced) return BootClaim{};
  if (taken_over) return BootWait{NodeState::mbwait, Reason::awaiting_giveback};
  if (!decide_replay(*view.mailbox, *view.nvram).possible) {
    return BootWait{.why = Reason::nvram_lost};
  }
  if (!view.coordinated && !view.partner_wait_over &&
      (view.link_may_come || view.partner_watches_earlier_boot)) {
    return BootWait{.why = Reason::awaiting_partner};
  }
  return BootClaim{};
}

void Boot::start(Output& out) {
  ASSERT(std::holds_alternative<Idle>(state_));
  started_ = out.now();
  why_ = Reason::disks_missing;
  state_ = Waiting{out.now()};
}

void Boot::wait(BootWait what, Duration time, World& world, Output& out) {
  if (what.shown != shown_ || what.why != why_) {
    ++world.progress;
    std::string text(sentence(what.why));
    auto missing = world.missing(world.self());
    if (what.why == Reason::disks_missing && !missing.empty()) {
      text += " (missing:";
      for (auto disk : missing) text += " " + std::to_string(disk);
      text += ")";
    }
    out.log(Severity::notice, "boot." + std::string(interconnect::name(what.shown)), text);
  }
  shown_ = what.shown;
  why_ = what.why;
  if (std::exchange(look_again_, false)) time = Duration{};
  state_ = Waiting{out.now() + time};
}

void Boot::probe(World& world, Output& out) {
  absent_ = world.missing(world.self());
  world.serve_without(world.self(), {});
  Probing probing{Survey(world.config, world.self(), absent_)};
  probing.survey.start(out);
  state_ = std::move(probing);
}

// Disks that do not answer, or that the partner keeps to itself though not the others (it could not
// reach them when it gave back), are done without, if they can be.
Holding Boot::conclude(const Survey& survey, const World& world) {
  auto without = absent_;
  for (auto disk : survey.unreadable()) add(without, disk);
  for (auto disk : survey.exclusive()) add(without, disk);
  if (!world.bears(world.self(), without)) {
    // Just let in: the labels, which say what may be missing, are being read.
    bool unread = false;
    for (std::uint8_t i = 0; i < world.config.disks(world.self()); ++i) {
      unread |= !contains(without, i) && !world.places[world.self().value()][i];
    }
    bool wait = shown_ == NodeState::givewait && unread && !without.empty();
    return wait ? Holding::exclusive : survey.holding();
  }
  absent_ = without;
  auto holding = survey.holding(without);
  auto elsewhere = without;
  for (auto disk : survey.not_held_by_partner()) add(elsewhere, disk);
  bool all_but_some = holding == Holding::shared_some && world.bears(world.self(), elsewhere);
  return all_but_some ? Holding::shared_all : holding;
}

void Boot::decide(Holding holding, std::optional<Mailbox> mailbox, bool kept_out, World& world,
                  Output& out) {
  ++world.progress;  // a disk poll came to its end: we are alive, and so are our disks
  const auto& timers = world.config.timers;
  auto watched = world.monitor.stable() ? world.monitor.stable()->seen_partner : BootNonce(0);
  // Who waits for a giveback decides nothing: it waits for us.
  bool decides = world.monitor.interconnect(out.now()) == Channel::fresh &&
                 !world.monitor.in(NodeState::givewait) && !world.monitor.in(NodeState::mbwait);
  BootView view{
      .disks_connected = world.enough_connected(world.self()),
      .holding = holding,
      .mailbox = mailbox,
      .mailbox_kept_out = kept_out,
      .mailbox_of_other_version = other_version_,
      .partner_watches_earlier_boot = decides && watched != BootNonce(0) && watched != world.nonce,
      .link_may_come = out.now() < started_ + timers.boot_link_wait &&
                       (world.link != ports::LinkState::ready || !world.monitor.stable()),
      .coordinated = shown_ != NodeState::booting,
      .partner_wait_over = partner_wait_until_ && out.now() >= *partner_wait_until_,
      .nvram = world.engine ? std::optional(world.engine->nvram) : std::nullopt,
      .forced = forced_};
  auto decision = decide_boot(view, world.self());
  if (auto* waiting = std::get_if<BootWait>(&decision)) {
    if (waiting->why == Reason::awaiting_partner && !partner_wait_until_) {
      MARK(boot_waits_for_partner_decision);
      partner_wait_until_ = out.now() + timers.boot_partner_wait;
    }
    bool unknown =
        waiting->why == Reason::mailbox_unknown || waiting->why == Reason::version_mismatch;
    return wait(*waiting, unknown ? unknown_retry : timers.wait_poll, world, out);
  }
  if (mailbox) return claim(std::move(*mailbox), world, out);
  seize(world, out);
}

// Forced while the partner keeps us out: we cannot even read the mailbox, so we do not know our
// epoch yet. Takes the disks under a key of no epoch; the probe that follows reads, and claims
// under the right one.
void Boot::seize(World& world, Output& out) {
  MARK(boot_seized);
  ++world.progress;
  auto rules = world.rules(FenceMode::fence, ReservationType::write_exclusive_registrants_only);
  rules.key = world.key_in(Epoch(0xffffffff));
  FenceSet fences(rules, world.self(), world.config.disks(world.self()), absent_,
                  world.tolerance(world.self()));
  fences.start(out);
  state_ = Seizing{std::move(fences)};
}

void Boot::claim(Mailbox from, World& world, Output& out) {
  ++world.progress;
  shown_ = NodeState::booting;
  why_ = Reason::claiming;
  world.boot_epoch = from.epoch.next();
  auto mode = forced_ ? FenceMode::fence : FenceMode::claim;
  FenceSet fences(world.rules(mode, ReservationType::write_exclusive_registrants_only),
                  world.self(), world.config.disks(world.self()), absent_,
                  world.tolerance(world.self()));
  fences.start(out);
  state_ = Claiming{std::move(fences), std::move(from)};
}

//  Waiting (booting, givewait, mbwait) --time--> Probing --> Reading --decide_boot--> Waiting
//     ^                                            ^                       | claim
//     |                                            +-- Seizing <-- forced, +
//     |                                                kept out            v
//     +-- lost, or the mailbox says something else -- {Claiming --> Rereading --> Marking}
//                                                                                  | written
//                                          Up <--IdentityAssumed-- Assuming <------+
bool Boot::advance(World& world, Output& out) {
  return std::visit(
      Overloaded{
          [](Idle&) { return false; },
          [&](Waiting& s) {
            bool engine_came = why_ == Reason::awaiting_engine && world.engine;
            if (s.until > out.now() && !engine_came) return false;
            if (world.missing(world.self()).size() == world.config.disks(world.self())) {
              wait({.why = Reason::disks_missing}, io_retry, world, out);
              return false;
            }
            probe(world, out);
            return true;
          },
          [&](Probing& s) {
            if (!s.survey.done()) return false;
            auto holding = conclude(s.survey, world);
            if (holding == Holding::unreadable || (holding == Holding::exclusive && !forced_)) {
              decide(holding, std::nullopt, false, world, out);
            } else {
              state_ = Reading{holding};
              world.keeper(world.self()).read(Purpose::boot, out);
            }
            return true;
          },
          [](Reading&) { return false; },
          [&](Seizing& s) {
            s.fences.on_time(out);
            if (s.fences.outcome() == FenceSet::Outcome::running) return false;
            if (s.fences.outcome() == FenceSet::Outcome::done) {
              probe(world, out);
            } else {
              wait({.why = Reason::disks_missing}, io_retry, world, out);
            }
            return true;
          },
          [&](Claiming& s) {
            s.fences.on_time(out);
            if (s.fences.outcome() == FenceSet::Outcome::running) return false;
            if (s.fences.outcome() == FenceSet::Outcome::done) {
              absent_ = s.fences.absent();
              world.serve_without(world.self(), absent_);
              state_ = Rereading{std::move(s.from)};
              world.keeper(world.self()).read(Purpose::boot, out);
            } else {
              out.log(Severity::warning, "boot.claim_failed", s.fences.why());
              MARK(boot_claim_failed);
              world.boot_epoch = Epoch(0);
              wait({.why = s.fences.outcome() == FenceSet::Outcome::lost ? Reason::lost_arbitration
                                                                         : Reason::disks_missing},
                   io_retry, world, out);
            }
            return true;
          },
          [&](Rereading& s) {
            if (s.retry > out.now()) return false;
            s.retry = never;
            world.keeper(world.self()).read(Purpose::boot, out);
            return true;
          },
          [&](Marking& s) {
            if (s.retry > out.now()) return false;
            s.retry = never;
            world.keeper(world.self()).write(Purpose::boot, s.mailbox, out);
            return true;
          },
          [&](Assuming& s) {
            if (s.retry > out.now()) return false;
            assume(world, out);
            return true;
          },
          [](Up&) { return false; },
      },
      state_);
}

bool Boot::on_completed(const DiskCompleted& event, Output& out) {
  if (auto* s = std::get_if<Probing>(&state_)) return s->survey.on_completed(event);
  if (auto* s = std::get_if<Seizing>(&state_)) return s->fences.on_completed(event, out);
  if (auto* s = std::get_if<Claiming>(&state_)) return s->fences.on_completed(event, out);
  return false;
}

void Boot::on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  if (auto* s = std::get_if<Reading>(&state_)) {
    auto holding = s->holding;
    bool known = outcome.kind == Kind::known;
    other_version_ = outcome.other_version;
    if (known) world.mailbox(world.self()) = outcome.mailbox;
    decide(holding, known ? std::optional(outcome.mailbox) : std::nullopt,
           !known && outcome.kept_out, world, out);
  } else if (std::holds_alternative<Rereading>(state_)) {
    on_reread(outcome, world, out);
  } else if (std::holds_alternative<Marking>(state_)) {
    on_marked(outcome, world, out);
  }
}

void Boot::on_reread(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  auto& s = std::get<Rereading>(state_);
  if (outcome.kind != Kind::known || !outcome.all_answered) {
    if (++s.attempts < max_attempts && !outcome.kept_out) {
      MARK(boot_reread_repeated);
      s.retry = out.now() + io_retry;
      return;
    }
    world.boot_epoch = Epoch(0);
    return wait({.why = Reason::mailbox_unknown}, unknown_retry, world, out);
  }
  const auto& now = outcome.mailbox;
  // B2, G6: what we read before the claim may be old by now.
  if ((now.taken_over_by != no_node && !forced_) || now.epoch != s.from.epoch) {
    MARK(boot_mailbox_changed_while_claiming);
    world.boot_epoch = Epoch(0);
    return wait({.why = Reason::lost_arbitration}, io_retry, world, out);
  }
  auto m = now;
  if (forced_) {
    MARK(boot_forced);
    m.durability = Durability::write_through;
    m.nvram_server = 0;
    m.nvram_mirror = 0;
    out.log(Severity::error, "boot.forced",
            "forced by the operator: writes that only the partner had are lost");
  }
  m.generation = world.keeper(world.self()).next_generation();
  m.epoch = world.boot_epoch;
  m.server = world.self();
  m.taken_over_by = no_node;
  m.intent = Intent::none;
  m.reason = 0;
  m.writer = world.nonce;
  const auto& ids = world.config.shelves[world.self().value()].ids;
  if (!ids.empty()) m.disks = ids;
  state_ = Marking{.mailbox = m};
  world.keeper(world.self()).write(Purpose::boot, m, out);
}

void Boot::on_marked(const MailboxKeeper::Outcome& outcome, World& world, Output& out) {
  auto& s = std::get<Marking>(state_);
  if (outcome.kind == Kind::write_failed && ++s.attempts < max_attempts) {
    MARK(boot_mark_repeated);
    s.retry = out.now() + io_retry;
    return;
  }
  if (outcome.kind != Kind::written) {
    MARK(boot_mark_lost);
    world.boot_epoch = Epoch(0);
    return wait({.why = Reason::lost_arbitration}, io_retry, world, out);
  }
  ++world.progress;
  auto m = s.mailbox;
  world.mailbox(world.self()) = m;
  world.lease(world.self()).start(world.nonce, m.epoch, out);
  std::string without;
  for (auto disk : absent_)
    without += (without.empty() ? ", without disk " : ", ") + std::to_string(disk);
  out.log(absent_.empty() ? Severity::notice : Severity::warning, "boot.claimed",
          "epoch " + std::to_string(m.epoch.value()) + without);
  why_ = Reason::awaiting_engine;
  auto log = forced_ ? ReplayDecision{} : decide_replay(m, world.engine->nvram);
  state_ = Assuming{.mailbox = m, .log = log, .retry = out.now()};
}

void Boot::assume(World& world, Output& out) {
  auto& s = std::get<Assuming>(state_);
  s.retry = never;
  out.act(AssumeIdentity{.identity = world.self(),
                         .epoch = s.mailbox.epoch,
                         .replay = s.log.replay,
                         .log_epoch = s.mailbox.log_epoch,
                         .key = world.engine_key(),
                         .holder = world.key(),
                         .durability = s.mailbox.durability,
                         .since = s.mailbox.durability_since,
                         .own_log = s.log.own_log,
                         .absent = world.absent(world.self())});
}

void Boot::on_assumed(World& world, Output& out) {
  if (!std::holds_alternative<Assuming>(state_)) return;
  ++world.progress;
  why_ = Reason::none;
  state_ = Up{};
  out.log(Severity::notice, "node.up", "serving its own identity");
}

void Boot::on_assume_failed(const std::string& why, World& world, Output& out) {
  auto* s = std::get_if<Assuming>(&state_);
  if (s == nullptr) return;
  ++world.progress;
  why_ = Reason::engine_failed;
  MARK(boot_assume_failed);
  s->retry = out.now() + assume_retry;
  out.log(Severity::error, "boot.assume_failed", why);
}

void Boot::on_given_back(Output& out) {
  if (shown_ == NodeState::booting) return;
  if (auto* s = std::get_if<Waiting>(&state_)) {
    s->until = out.now();
  } else {
    look_again_ = true;
  }
}

bool Boot::force(Output& out) {
  bool stuck = shown_ != NodeState::booting || why_ == Reason::nvram_lost;
  if (!stuck || up() || holding() || std::holds_alternative<Claiming>(state_)) return false;
  forced_ = true;
  if (auto* s = std::get_if<Waiting>(&state_)) s->until = out.now();
  return true;
}

Instant Boot::next_time() const {
  return std::visit(Overloaded{
                        [](const Idle&) { return never; },
                        [](const Waiting& s) { return s.until; },
                        [](const Probing&) { return never; },
                        [](const Reading&) { return never; },
                        [](const Seizing& s) { return s.fences.next_time(); },
                        [](const Claiming& s) { return s.fences.next_time(); },
                        [](const Rereading& s) { return s.retry; },
                        [](const Marking& s) { return s.retry; },
                        [](const Assuming& s) { return s.retry; },
                        [](const Up&) { return never; },
                    },
                    state_);
}

}  // namespace duet::ha
