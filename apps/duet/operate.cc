#include "operate.h"

#include <fmt/format.h>

#include "client.h"

namespace duet::cli {
namespace {

Duration from_seconds(double seconds_count) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds_count));
}

constexpr const char* goes_on = "the job goes on: 'duet status' shows it";

int end_of(const admin::OperateReply& reply) {
  for (const auto& reason : reply.reasons) complain(done, reason);
  switch (reply.outcome) {
    case admin::OperateOutcome::refused:
      return refused;
    case admin::OperateOutcome::failed:
      return failed;
    case admin::OperateOutcome::accepted:
    case admin::OperateOutcome::done:
      return done;
  }
  return failed;
}

// `wait`: for the end, once the order was accepted.
int order(const Target& target, const admin::Operate& order, Duration wait) {
  auto client = Client::connect(target);
  if (!client) return failure(client.error());
  (*client)->catch_interrupts();
  (*client)->send(order);
  bool accepted = false;
  for (;;) {
    auto reply = (*client)->receive(accepted ? wait : Client::answer_limit);
    if (!reply) {
      auto code = reply.error().code;
      if (order.verb == admin::Verb::halt && code == ErrorCode::disconnected && accepted) {
        return done;
      }
      if (code == ErrorCode::cancelled) {
        return complain(
            wait_over, std::string("interrupted; ") + goes_on +
                           (order.verb == admin::Verb::takeover ? ", 'duet cancel' stops it" : ""));
      }
      if (accepted && code == ErrorCode::timed_out) {
        return complain(wait_over, std::string("not finished yet; ") + goes_on);
      }
      if (accepted && code == ErrorCode::disconnected) {
        return complain(failed, "the daemon went away; " + std::string(goes_on));
      }
      return failure(reply.error());
    }
    const auto* answer = std::get_if<admin::OperateReply>(&*reply);
    if (!answer) return complain(failed, "unexpected answer from duetd");
    if (answer->outcome != admin::OperateOutcome::accepted) return end_of(*answer);
    accepted = true;
  }
}

admin::Operate make_order(admin::Verb verb, NodeId node, const Arguments& a) {
  admin::Operate o;
  o.verb = verb;
  o.node = node;
  o.force = a.force;
  o.overrides = a.overrides;
  o.timeout_ms = static_cast<std::uint32_t>(a.countdown_s * 1000);
  o.no_takeover = a.no_takeover;
  o.uncoordinated = a.uncoordinated;
  return o;
}

// The node whose daemon we talk to.
Result<NodeId> asked_node(const Target& target) {
  if (target.config) return target.config->self;
  auto client = Client::connect(target);
  if (!client) return std::unexpected(client.error());
  (*client)->send(admin::StatusQuery{});
  auto reply = (*client)->receive(Client::answer_limit);
  if (!reply) return std::unexpected(reply.error());
  const auto* status = std::get_if<admin::StatusReport>(&*reply);
  if (!status) return fail(ErrorCode::invalid, "unexpected answer from duetd");
  return status->node;
}

int order_for(const Target& target, const Arguments& a, admin::Verb verb, Duration wait) {
  auto node = target.find_node(a.node);
  if (!node) return complain(usage, node.error().message);
  return order(target, make_order(verb, *node, a), wait);
}

}  // namespace

int takeover(const Target& target, const Arguments& a) {
  if (a.cancel) return cancel(target, a);
  // The countdown is the daemon's; what comes after it takes seconds.
  auto wait = std::min(from_seconds(a.wait_s), from_seconds(a.countdown_s) + seconds(60));
  if (a.self == !a.node.empty()) return complain(usage, "name the NODE that shall go, or --self");
  if (!a.self) return order_for(target, a, admin::Verb::takeover, wait);
  auto node = asked_node(target);
  if (!node) return failure(node.error());
  return order(target, make_order(admin::Verb::takeover, *node, a), wait);
}

int giveback(const Target& target, const Arguments& a) {
  return order_for(target, a, admin::Verb::giveback, from_seconds(a.wait_s));
}

int halt(const Target& target, const Arguments& a) {
  return order_for(target, a, admin::Verb::halt, from_seconds(a.wait_s));
}

int cancel(const Target& target, const Arguments& a) {
  auto node = no_node;  // the one whose takeover is under way there
  if (!a.node.empty()) {
    auto found = target.find_node(a.node);
    if (!found) return complain(usage, found.error().message);
    node = *found;
  }
  return order(target, make_order(admin::Verb::cancel, node, a), from_seconds(a.wait_s));
}

// With a NODE it must be the asked one: an engine panics by order of its own supervisor only.
int panic(const Target& target, const Arguments& a) {
  if (!a.node.empty()) {
    auto node = target.find_node(a.node);
    if (!node) return complain(usage, node.error().message);
    auto asked = asked_node(target);
    if (!asked) return failure(asked.error());
    if (*node != *asked) {
      return complain(refused, fmt::format("ask {} itself: this is {}", target.name_of(*node),
                                           target.name_of(*asked)));
    }
  }
  auto client = Client::connect(target);
  if (!client) return failure(client.error());
  (*client)->send(admin::NodePanic{a.kind});
  auto reply = (*client)->receive(Client::answer_limit);
  if (!reply) return failure(reply.error());
  const auto* answer = std::get_if<admin::OperateReply>(&*reply);
  return answer ? end_of(*answer) : complain(failed, "unexpected answer from duetd");
}

}  // namespace duet::cli
