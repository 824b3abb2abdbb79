// What operators order, what they are refused and why, and what they are shown.
#include "ha/core.h"

namespace duet::ha {

using Answer = OperatorAnswer::Outcome;

namespace {

void refuse(const OperatorRequest& request, Reason why, Output& out) {
  out.act(OperatorAnswer{request.request, Answer::refused, {std::string(sentence(why))}});
}

}  // namespace

void Core::on(const OperatorRequest& request, Output& out) {
  if (ending_) return refuse(request, Reason::ended, out);
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
      return refuse(request, Reason::no_takeover_under_way, out);
  }
}

// Of a takeover by order; what only the mailbox can tell is found when checking.
Reason Core::takeover_obstacle(Instant now) const {
  if (!boot_.up()) return Reason::not_up;
  if (takeover_.serving()) return Reason::already_taken_over;
  if (!takeover_.idle() || !leftovers_.done() || world_.suspended) return Reason::busy;
  if (!world_.engine) return Reason::awaiting_engine;
  if (!world_.all_connected(world_.partner())) return Reason::partner_disks_unreachable;
  if (world_.lease(world_.self()).until() <= now) return Reason::no_lease;
  const auto& mailbox = world_.mailbox(world_.partner());
  if (!mailbox) return Reason::mailbox_unknown;
  // A partner that is alive can stop in order: its writes then need no log of ours.
  if (!decide_replay(*mailbox, world_.engine->nvram).possible) return Reason::log_not_here;
  if (mailbox->intent == Intent::halt_no_takeover) return Reason::halt_without_takeover;
  return Reason::none;
}

void Core::takeover_order(const OperatorRequest& request, Output& out) {
  if (request.node == world_.self()) return refuse(request, Reason::ask_the_partner, out);
  auto why = takeover_obstacle(out.now());
  bool soft = why == Reason::log_not_here || why == Reason::halt_without_takeover ||
              why == Reason::mailbox_unknown;  // decided anew, on a fresh read, when checking
  if (why != Reason::none && !soft) return refuse(request, why, out);
  takeover_.begin(Reason::operator_order, request.request, request.force, world_, out);
}

void Core::giveback_order(const OperatorRequest& request, Output& out) {
  if (request.node == world_.self()) {
    if (!request.force) return refuse(request, Reason::ask_the_partner, out);
    if (!boot_.force(world_, out)) return refuse(request, Reason::partner_not_waiting, out);
    out.act(OperatorAnswer{request.request, Answer::accepted, {}});
    out.act(OperatorAnswer{request.request, Answer::done, {}});
    return;
  }
  auto why = giveback_.order(request.request, world_, takeover_, out.now());
  if (why != Reason::none) return refuse(request, why, out);
  out.act(OperatorAnswer{request.request, Answer::accepted, {}});
}

void Core::halt_order(const OperatorRequest& request, Output& out) {
  if (request.node != world_.self()) return refuse(request, Reason::ask_the_node, out);
  if (!takeover_.idle() && !request.force) return refuse(request, Reason::serves_partner, out);
  out.act(OperatorAnswer{request.request, Answer::accepted, {}});
  out.log(Severity::notice, "node.halting", std::string(sentence(Reason::operator_order)));
  begin_ending({.shown = NodeState::halted,
                .why = Reason::operator_order,
                .reboot = false,
                .request = request.request,
                .text = "halted by the operator"},
               true, out);
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
      .takeover_obstacle = takeover_obstacle(now),
      .giveback_obstacle = giveback_.obstacle(world_, takeover_, now),
      .last_refusal = takeover_.refusal(),
      .identities = {},
      .progress = world_.progress,
      .stale_messages = stale_messages_,
      .invalid_messages = invalid_messages_,
      .invalid_states = world_.monitor.invalid_states(),
      .illegal_states = world_.monitor.illegal_states()};
  auto serves = served();
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto& i = s.identities[identity.value() - 1];
    i.identity = identity;
    i.served_here = serves[identity.value()];
    i.replayed = world_.replayed[identity.value()];
    i.lease_until = world_.lease(identity).until();
    if (const auto& mailbox = world_.mailbox(identity)) {
      i.mailbox_known = true;
      i.server = mailbox->server;
      i.epoch = mailbox->epoch;
      i.durability = mailbox->durability;
    }
  }
  if (ending_) {
    s.next = ending_->reboot ? "reboots" : "halts";
  } else if (!boot_.up()) {
    s.next = boot_.reason() == Reason::awaiting_giveback
                 ? "claims its disks when the partner gives back"
             : boot_.reason() == Reason::taken_over
                 ? "reads its mailbox when the partner releases the disks"
             : boot_.reason() == Reason::nvram_lost ? "waits for the partner or the operator"
                                                    : "claims its disks and serves";
  } else if (takeover_.serving()) {
    s.next = giveback_.idle()              ? "gives back when the partner has booted and waits"
             : giveback_.giving()          ? "waits for the partner to serve"
             : world_.config.auto_giveback ? "gives back as soon as the partner is ready"
                                           : "gives back when the operator says so";
  } else if (!takeover_.idle()) {
    s.next = "serves the partner's identity";
  } else if (takeover_.refusal() != Reason::none && s.partner_verdict != Verdict::alive) {
    s.next = "tries to take over again; refused: " + std::string(sentence(takeover_.refusal()));
  }
  return s;
}

}  // namespace duet::ha
