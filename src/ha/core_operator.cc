// What operators order, what they are refused and why, and what they are shown.
#include <algorithm>

#include "base/coverage.h"
#include "ha/core.h"

namespace duet::ha {

using Answer = OperatorAnswer::Outcome;

namespace {

void refuse(const OperatorRequest& request, Reason why, Output& out) {
  out.act(OperatorAnswer{request.request, Answer::refused, {std::string(sentence(why))}});
}

void refuse(const OperatorRequest& request, const Vetoes& vetoes, Output& out) {
  OperatorAnswer answer{request.request, Answer::refused, {}};
  for (const auto& veto : vetoes) answer.reasons.push_back(describe(veto));
  out.act(std::move(answer));
}

}  // namespace

void Core::on(const OperatorRequest& request, Output& out) {
  if (ending_) {
    if (halt_instead_of_reboot(request, out)) return;
    return refuse(request, Reason::ended, out);
  }
  if (request.node != NodeId(1) && request.node != NodeId(2)) {
    return refuse(request, Reason::no_such_node, out);
  }
  switch (request.verb) {
    case OperatorVerb::takeover:
      return takeover_order(request, out);
    case OperatorVerb::giveback:
      return giveback_order(request, out);
    case OperatorVerb::halt:
      return halt_order(request, out);
    case OperatorVerb::cancel:
      return cancel_order(request, out);
  }
}

// Of a takeover by order; what only the mailbox can tell is decided anew when checking.
Vetoes Core::takeover_vetoes(Instant now) const {
  const auto& mailbox = world_.mailbox(world_.partner());
  bool here = mailbox && world_.engine && decide_replay(*mailbox, world_.engine->nvram).possible;
  auto vetoes = ha::takeover_vetoes(
      {.up = boot_.up(),
       .serves_partner = takeover_.serving(),
       .busy = !takeover_.idle() || !leftovers_.done() || world_.suspended || halting_,
       .departing = !departure_.idle(),
       .engine = world_.engine.has_value(),
       .disks_connected = world_.enough_connected(world_.partner()),
       .version_known = !world_.monitor.other_version(),
       .lease = world_.lease(world_.self()).until() > now,
       .mailbox_known = mailbox.has_value(),
       .log_here = here,
       .halted_for_maintenance = mailbox && mailbox->intent == Intent::halt_no_takeover});
  complete_takeover(vetoes, readiness_facts(now));
  return vetoes;
}

Vetoes Core::giveback_vetoes(Instant now) const {
  const auto& m = world_.monitor;
  auto vetoes =
      ha::giveback_vetoes({.serves_partner = takeover_.serving(),
                           .giving = giveback_.giving(),
                           .partner_waits = m.in(NodeState::givewait) || m.in(NodeState::mbwait),
                           .partner_advances = Giveback::partner_waits(world_, now),
                           .version_known = !world_.monitor.other_version()});
  complete_giveback(vetoes, readiness_facts(now));
  if (auto dump = dump_under_way(now); dump && takeover_.serving()) {
    vetoes.push_back(
        {.reason = Reason::coredump_in_progress, .hard = false, .detail = std::move(*dump)});
  }
  return vetoes;
}

// Of the partner's identity: for people, with the time that it will take.
std::optional<std::string> Core::dump_under_way(Instant now) const {
  auto in = [](Duration time) {
    return std::to_string((std::max(time, Duration(0)) + seconds(1) - Duration(1)) / seconds(1)) +
           " s";
  };
  for (const auto& left : world_.dump_watch.left()) {
    std::string text = "disk " + std::to_string(left.disk);
    const auto& h = left.header;
    if (h && h->core_done > 0) {
      auto rest = h->elapsed *
                  (static_cast<double>(h->core_total) - static_cast<double>(h->core_done)) /
                  static_cast<double>(h->core_done);
      text += ", done in " + in(std::chrono::duration_cast<Duration>(rest));
    }
    if (left.until != never) text += ", at the latest in " + in(left.until - now);
    return text;
  }
  for (const auto& c : world_.dump_collector.collections(world_.partner())) {
    std::string text = "disk " + std::to_string(c.disk.index) + " is collected";
    if (c.done > 0 && c.total >= c.done) {
      auto rest = (now - c.since) * (static_cast<double>(c.total) - static_cast<double>(c.done)) /
                  static_cast<double>(c.done);
      text += ", done in " + in(std::chrono::duration_cast<Duration>(rest));
    }
    return text;
  }
  return {};
}

bool Core::giveback_vetoed(Instant now) const {
  return takeover_.serving() && !giveback_.giving() && world_.monitor.in(NodeState::mbwait) &&
         !giveback_vetoes(now).empty();
}

void Core::takeover_order(const OperatorRequest& request, Output& out) {
  auto overrides = parse_overrides(request.overrides);
  if (!overrides) {
    out.act(OperatorAnswer{request.request, Answer::refused, {overrides.error().message}});
    return;
  }
  if (request.node == world_.self()) return ask_partner(request, std::move(*overrides), out);
  if (giveback_.take_back(world_, takeover_, out)) {
    out.act(OperatorAnswer{request.request, Answer::accepted, {}});
    out.act(OperatorAnswer{request.request, Answer::done, {}});
    return;
  }
  auto vetoes = standing(takeover_vetoes(out.now()), request.force, *overrides);
  std::erase_if(vetoes, [](const Veto& v) { return decided_when_checking(v.reason); });
  if (!vetoes.empty()) return refuse(request, vetoes, out);
  takeover_.begin({.trigger = Reason::operator_order,
                   .request = request.request,
                   .asked = 0,
                   .unwell = false,
                   .force = request.force,
                   .overrides = std::move(*overrides),
                   .countdown = request.timeout},
                  world_, out);
}

void Core::ask_partner(const OperatorRequest& request, std::vector<Reason> overrides, Output& out) {
  if (!boot_.up()) return refuse(request, Reason::not_up, out);
  if (!departure_.idle()) return refuse(request, Reason::departing, out);
  if (takeover_.serving()) return refuse(request, Reason::serves_partner, out);
  if (!takeover_.idle() || halting_ || world_.suspended) return refuse(request, Reason::busy, out);
  if (world_.monitor.interconnect(out.now()) != Channel::fresh) {
    return refuse(request, Reason::no_answer, out);
  }
  auto time = std::clamp(request.timeout, Takeover::min_countdown, Takeover::max_countdown);
  PleaseTakeover please{.countdown_ms = static_cast<std::uint32_t>(time / milliseconds(1)),
                        .force = request.force};
  for (std::size_t i = 0; i < std::min(overrides.size(), please.overrides.size()); ++i) {
    please.overrides[i] = static_cast<std::uint8_t>(overrides[i]);
  }
  departure_.ask(please, request.request, out);
}

void Core::giveback_order(const OperatorRequest& request, Output& out) {
  if (request.node == world_.self()) {
    if (!request.force) return refuse(request, Reason::ask_the_partner, out);
    if (!boot_.force(out)) return refuse(request, Reason::partner_not_waiting, out);
    out.act(OperatorAnswer{request.request, Answer::accepted, {}});
    out.act(OperatorAnswer{request.request, Answer::done, {}});
    return;
  }
  auto overrides = parse_overrides(request.overrides);
  if (!overrides) {
    out.act(OperatorAnswer{request.request, Answer::refused, {overrides.error().message}});
    return;
  }
  auto vetoes = standing(giveback_vetoes(out.now()), request.force, *overrides);
  if (request.uncoordinated) {
    std::erase_if(vetoes, [](const Veto& v) {
      return v.reason == Reason::partner_not_waiting ||
             v.reason == Reason::partner_makes_no_progress;
    });
  }
  if (!vetoes.empty()) return refuse(request, vetoes, out);
  auto why = giveback_.order(request.request, request.uncoordinated, world_, takeover_, out.now());
  if (why != Reason::none) return refuse(request, why, out);
  out.act(OperatorAnswer{request.request, Answer::accepted, {}});
}

void Core::halt_order(const OperatorRequest& request, Output& out) {
  if (request.node != world_.self()) return refuse(request, Reason::ask_the_node, out);
  if (halting_) return refuse(request, Reason::busy, out);
  if (takeover_.graceful() && !request.force) return refuse(request, Reason::busy, out);
  if (!takeover_.idle() && !request.force) return refuse(request, Reason::serves_partner, out);
  if (request.no_takeover) {
    if (!boot_.up()) return refuse(request, Reason::not_up, out);
    if (departure_.departing()) return refuse(request, Reason::departing, out);
  }
  out.act(OperatorAnswer{request.request, Answer::accepted, {}});
  if (!request.no_takeover) return halt(request.request, out);
  halting_ = Halting{.request = request.request, .retry = out.now()};
}

// What ends this boot goes on, a dump too; there is no next one.
bool Core::halt_instead_of_reboot(const OperatorRequest& request, Output& out) {
  if (request.verb != OperatorVerb::halt || request.node != world_.self()) return false;
  if (!ending_->reboot || ending_->request != 0) return false;
  MARK(core_halted_while_ending);
  ending_->reboot = false;
  ending_->request = request.request;
  out.act(OperatorAnswer{request.request, Answer::accepted, {}});
  return true;
}

void Core::halt(std::uint64_t request, Output& out) {
  out.log(Severity::notice, "node.halting", std::string(sentence(Reason::operator_order)));
  begin_ending({.shown = NodeState::halted,
                .why = Reason::operator_order,
                .reboot = false,
                .request = request,
                .text = "halted by the operator"},
               true, out);
}

// Persist, then stop: the partner refuses the takeover because the mailbox says so.
bool Core::settle_halting(Output& out) {
  if (!halting_ || halting_->retry > out.now()) return false;
  auto& keeper = world_.keeper(world_.self());
  if (keeper.writing()) {  // a durability mark
    halting_->retry = out.now() + keeper_retry;
    return false;
  }
  halting_->retry = never;
  auto m = *world_.mailbox(world_.self());
  m.generation = keeper.next_generation();
  m.intent = Intent::halt_no_takeover;
  m.reason = static_cast<std::uint8_t>(Reason::operator_order);
  m.writer = world_.nonce;
  keeper.write(MailboxKeeper::Purpose::halt, m, out);
  return true;
}

void Core::on_halt_marked(const MailboxKeeper::Outcome& outcome, Output& out) {
  if (!halting_) return;
  using Kind = MailboxKeeper::Outcome::Kind;
  if (outcome.kind == Kind::fenced) {
    world_.fenced = "a reservation keeps our mailbox writes out";
  } else if (outcome.kind == Kind::written) {
    world_.mailbox(world_.self()) = outcome.mailbox;
    out.log(Severity::notice, "node.halt_without_takeover", "the partner shall not take over");
    halt(std::exchange(halting_, {})->request, out);
  } else if (++halting_->attempts < Takeover::max_attempts) {
    halting_->retry = out.now() + io_retry;
  } else {
    out.act(OperatorAnswer{
        halting_->request, Answer::failed, {std::string(sentence(Reason::mailbox_unwritable))}});
    halting_.reset();
  }
}

void Core::cancel_order(const OperatorRequest& request, Output& out) {
  auto why = request.node == world_.self() ? departure_.cancel(request.request, world_, out)
                                           : takeover_.cancel(request.request, world_, out);
  if (why != Reason::none) refuse(request, why, out);
}

Snapshot Core::snapshot(Instant now) const {
  Snapshot s{
      .self = world_.self(),
      .nonce = world_.nonce,
      .boot_epoch = world_.boot_epoch,
      .state = state(),
      .why = reason(),
      .next = {},
      .takeover_step = takeover_.step(),
      .giveback_step = giveback_.step(),
      .partner_verdict = world_.verdict(now),
      .partner_known = world_.monitor.stable().has_value(),
      .partner_state = world_.monitor.stable() ? world_.monitor.stable()->state : NodeState{},
      .partner_nonce = world_.monitor.nonce(),
      .interconnect = world_.monitor.interconnect(now),
      .disk_heartbeat = world_.watch.channel(now),
      .link = world_.link,
      .mirror_window_open = mirror_.open(),
      .suspended = world_.suspended,
      .departure_step = departure_.step(),
      .countdown_left = {},
      .asked_by_partner = takeover_.asked() != 0,
      .may_cancel = departure_.may_cancel() || takeover_.graceful(),
      .takeover_vetoes = takeover_vetoes(now),
      .giveback_vetoes = giveback_vetoes(now),
      .auto_giveback = giveback_.automatic().plan(takeover_.serving(), giveback_vetoed(now), now),
      .uncoordinated = giveback_.uncoordinated(),
      .takeovers = giveback_.automatic().history(),
      .takeover_obstacle = {},
      .giveback_obstacle = {},
      .own_health = world_.own_health,
      .partner_health = world_.partner_health,
      .partner_health_age = now - world_.partner_health_at,
      .last_refusal = takeover_.refusal(),
      .identities = {},
      .progress = world_.progress,
      .stale_messages = stale_messages_,
      .invalid_messages = invalid_messages_,
      .unknown_messages = unknown_messages_,
      .invalid_states = world_.monitor.invalid_states(),
      .illegal_states = world_.monitor.illegal_states(),
      .partner_dump_disks = DumpWatch::candidates(world_).size()};
  if (!s.takeover_vetoes.empty()) s.takeover_obstacle = s.takeover_vetoes.front().reason;
  if (!s.giveback_vetoes.empty()) s.giveback_obstacle = s.giveback_vetoes.front().reason;
  auto ends = takeover_.countdown_ends() ? takeover_.countdown_ends() : departure_.ends();
  if (ends) s.countdown_left = std::max(Duration(0), *ends - now);
  auto serves = served();
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto& i = s.identities[identity.value() - 1];
    i.identity = identity;
    i.served_here = serves[identity.value()];
    i.missing_disks = world_.missing(identity);
    i.absent_disks = world_.absent(identity);
    if (identity == world_.partner()) {
      for (const auto& left : world_.dump_watch.left()) {
        auto& dump = i.left_to_dump.emplace_back();
        dump.disk = left.disk;
        dump.since = left.since;
        dump.until = left.until;
        if (left.header) dump.done = left.header->core_done, dump.total = left.header->core_total;
      }
    }
    for (const auto& c : world_.dump_collector.collections(identity)) {
      i.collected.push_back({c.disk.index, c.since, never, c.done, c.total});
    }
    i.replayed = world_.replayed[identity.value()];
    i.lease_until = world_.lease(identity).until();
    if (const auto& mailbox = world_.mailbox(identity)) {
      i.mailbox_known = true;
      i.server = mailbox->server;
      i.epoch = mailbox->epoch;
      i.durability = mailbox->durability;
    }
  }
  if (departure_.departing()) {
    s.next = "hands its identity over and leaves";
  } else if (departure_.asking()) {
    s.next = "waits for the partner to begin the takeover";
  } else if (takeover_.counting_down()) {
    s.next = "takes over when the partner has handed over, or when the countdown ends";
  } else if (ending_) {
    s.next = ending_->reboot ? "reboots" : "halts";
  } else if (!boot_.up()) {
    s.next = boot_.reason() == Reason::awaiting_giveback
                 ? "claims its disks when the partner gives back"
             : boot_.reason() == Reason::taken_over
                 ? "reads its mailbox when the partner releases the disks"
             : boot_.reason() == Reason::nvram_lost ? "waits for the partner or the operator"
                                                    : "claims its disks and serves";
  } else if (takeover_.serving()) {
    bool automatic =
        world_.config.auto_giveback && s.auto_giveback.why != AutoGivebackPlan::Why::by_order;
    s.next = giveback_.idle()     ? "gives back when the partner has booted and waits"
             : giveback_.giving() ? "waits for the partner to serve"
             : automatic          ? "gives back by itself (see auto-giveback)"
                                  : "gives back when the operator says so";
  } else if (!takeover_.idle()) {
    s.next = "serves the partner's identity";
  } else if (takeover_.refusal() != Reason::none && s.partner_verdict != Verdict::alive) {
    s.next = "tries to take over again; refused: " + std::string(sentence(takeover_.refusal()));
  }
  return s;
}

}  // namespace duet::ha
