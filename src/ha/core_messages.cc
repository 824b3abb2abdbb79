// What the partner's core says, and what follows from it.
#include <algorithm>

#include "ha/core.h"

namespace duet::ha {

using Answer = OperatorAnswer::Outcome;

void Core::on(const MessageArrived& event, Output& out) {
  if (auto health = decode_health_message(event.bytes)) {
    return on_health_message(std::move(*health), out);
  }
  auto message = decode_message(event.bytes);
  if (!message && message.error().code == ErrorCode::unsupported_version) {
    ++unknown_messages_;  // of a partner that is newer: what it says is not needed
    return;
  }
  if (!message || message->cluster != world_.config.cluster ||
      message->sender != world_.partner()) {
    ++invalid_messages_;
    return;
  }
  bool die = std::holds_alternative<PleaseDie>(message->body);
  bool known_sender = message->sender_nonce == world_.monitor.nonce();
  if (message->addressee != world_.nonce || (!die && !known_sender)) {
    ++stale_messages_;
    return;
  }
  if (!ending_) heard(*message, out);
}

void Core::heard(const Message& message, Output& out) {
  auto sender = message.sender_nonce;
  std::visit(
      Overloaded{
          [&](const MirrorOffer& offer) { mirror_.on_offer(offer, sender, world_, out); },
          [&](const PanicNotice&) {
            world_.monitor.on_panic_notice(sender);
            out.log(Severity::error, "partner.panic_seen", "the partner says that it panicked");
          },
          [&](const PleaseDie& please) {
            if (boot_.holding() && please.epoch > world_.boot_epoch) {
              world_.fenced =
                  "the partner has taken over under epoch " + std::to_string(please.epoch.value());
            } else {
              ++stale_messages_;
            }
          },
          [&](const PleaseShutdown& please) { please_shutdown(please, sender, out); },
          [&](const PleaseTakeover& please) { please_takeover(please, out); },
          [&](const TakeoverRefused& refused) { departure_.on_refused(refused, out); },
          [&](const CancelShutdown& cancel) { departure_.on_cancel(cancel, world_, out); },
          [&](const ShutdownDeclined& declined) { takeover_.on_declined(declined, world_, out); },
          [&](const ForcedTakeover&) {
            if (!boot_.holding()) return;
            out.log(Severity::error, "node.forced_down",
                    std::string(sentence(Reason::takeover_forced)));
            begin_ending({.shown = NodeState::halted,
                          .why = Reason::takeover_forced,
                          .reboot = true,
                          .request = departure_.take_request(),
                          .text = "forced down for a takeover"},
                         true, out);
          },
          [&](const GivenBack&) { boot_.on_given_back(out); },
          [&](const Departed&) {
            world_.monitor.on_departed(sender);
            out.log(Severity::notice, "partner.departed", "the partner says that it has stopped");
          },
      },
      message.body);
}

// Both at once: of two nodes that count down the one with the lower number goes on (P3).
void Core::please_shutdown(const PleaseShutdown& please, BootNonce sender, Output& out) {
  if (takeover_.counting_down() && world_.self() < world_.partner()) return;
  if (takeover_.graceful()) {
    takeover_.give_up(Answer::failed, Reason::partner_takes_over, world_, out);
  }
  // What passes by itself is no reason to refuse: it is asked again.
  if (!leftovers_.done() || world_.suspended || halting_ || takeover_.cancelling()) return;
  auto obstacle = Reason::none;
  if (!boot_.up()) obstacle = Reason::not_up;
  if (takeover_.holding()) obstacle = Reason::serves_partner;
  if (obstacle == Reason::none && !takeover_.idle()) return;
  departure_.on_please_shutdown(please, sender, obstacle, world_, out);
}

void Core::please_takeover(const PleaseTakeover& please, Output& out) {
  if (takeover_.asked() == please.number) return;  // under way
  TakeoverRefused refused{.number = please.number, .reasons = {}};
  std::vector<Reason> overrides;
  for (auto code : please.overrides) {
    if (code != 0) overrides.push_back(static_cast<Reason>(code));
  }
  if (takeover_.refused_ask(please.number, world_.monitor.nonce())) {
    refused.reasons[0] = static_cast<std::uint8_t>(takeover_.refusal());
    return world_.send(refused, world_.monitor.nonce(), out);
  }
  std::size_t n = 0;
  for (const auto& veto : standing(takeover_vetoes(out.now()), please.force, overrides)) {
    if (decided_when_checking(veto.reason) || n == refused.reasons.size()) continue;
    refused.reasons[n++] = static_cast<std::uint8_t>(veto.reason);
  }
  if (n > 0) return world_.send(refused, world_.monitor.nonce(), out);
  out.log(please.unwell ? Severity::error : Severity::notice, "takeover.asked",
          please.unwell ? std::string(sentence(Reason::partner_unwell))
                        : "the partner wants to be taken over");
  takeover_.begin({.trigger = Reason::operator_order,
                   .request = 0,
                   .asked = please.number,
                   .unwell = please.unwell,
                   .force = please.force,
                   .overrides = std::move(overrides),
                   .countdown = milliseconds(please.countdown_ms)},
                  world_, out);
}

}  // namespace duet::ha
