#include "node/control_service.h"

#include <fmt/format.h>

#include "filesystem/log_record.h"
#include "node/control_status.h"
#include "node/disk_report.h"
#include "node/rehearsal.h"
#include "node/test_panic.h"

namespace duet::node {
namespace {

constexpr std::size_t max_pool_name = 255;  // bytes; the pool knows better what is allowed
constexpr std::size_t max_pool_path = 4096;
constexpr std::size_t max_core_id = 16;

admin::OperateOutcome outcome_of(ha::OperatorAnswer::Outcome outcome) {
  using From = ha::OperatorAnswer::Outcome;
  switch (outcome) {
    case From::accepted:
      return admin::OperateOutcome::accepted;
    case From::done:
      return admin::OperateOutcome::done;
    case From::failed:
      return admin::OperateOutcome::failed;
    case From::refused:
      return admin::OperateOutcome::refused;
  }
  UNREACHABLE();
}

ha::OperatorVerb verb_of(admin::Verb verb) {
  switch (verb) {
    case admin::Verb::takeover:
      return ha::OperatorVerb::takeover;
    case admin::Verb::giveback:
      return ha::OperatorVerb::giveback;
    case admin::Verb::halt:
      return ha::OperatorVerb::halt;
    case admin::Verb::cancel:
      return ha::OperatorVerb::cancel;
  }
  return ha::OperatorVerb::takeover;
}

bool known(admin::Verb verb) {
  return verb == admin::Verb::takeover || verb == admin::Verb::giveback ||
         verb == admin::Verb::halt || verb == admin::Verb::cancel;
}

}  // namespace

ControlService::~ControlService() {
  *alive_ = false;
  for (auto& [id, client] : clients_) supervisor_.events().unfollow(client.follower);
}

void ControlService::add_client(std::unique_ptr<ports::MessageChannel> channel) {
  if (clients_.size() >= max_clients) return;
  auto id = ++last_client_;
  channel->on_message([this, id](Bytes bytes) { on_message(id, bytes); });
  channel->on_closed([this, id] { remove(id); });
  clients_[id].channel = std::move(channel);
}

void ControlService::remove(ClientId client) {
  auto it = clients_.find(client);
  if (it == clients_.end()) return;
  supervisor_.events().unfollow(it->second.follower);
  clients_.erase(it);
}

void ControlService::on_message(ClientId client, Bytes bytes) {
  auto request = admin::from_message<admin::Request>(bytes);
  if (!request) {
    if (request.error().code == ErrorCode::unsupported_version) {
      if (auto it = clients_.find(client); it != clients_.end()) {
        it->second.channel->send(admin::other_version());
      }
    }
    // The channel is the caller, so it goes a turn later.
    supervisor_.ports().scheduler.post([this, client, alive = alive_] {
      if (*alive) remove(client);
    });
    return;
  }
  std::visit([&](const auto& r) { serve(client, r); }, *request);
}

void ControlService::reply(ClientId client, const admin::Reply& reply) {
  auto it = clients_.find(client);
  if (it != clients_.end()) it->second.channel->send(admin::to_message(reply));
}

void ControlService::serve(ClientId client, const admin::StatusQuery&) {
  reply(client, status_report(supervisor_, supervisor_pid_));
}

void ControlService::serve(ClientId client, const admin::HealthQuery&) {
  reply(client, health_report(supervisor_));
}

void ControlService::serve(ClientId client, const admin::CheckQuery&) {
  if (checks_ >= max_checks) return reply(client, check_report(supervisor_, {}));
  ++checks_;
  auto partner = supervisor_.config().partner().value();
  rehearse_takeover(supervisor_.config(), supervisor_.ports().disks[partner],
                    [this, client, alive = alive_](const ha::Vetoes& found) {
                      if (!*alive) return;
                      --checks_;
                      reply(client, check_report(supervisor_, found));
                    });
}

void ControlService::serve(ClientId client, const admin::EventsQuery& query) {
  auto& events = supervisor_.events();
  for (const auto& event : events.kept()) reply(client, event);
  if (query.follow) {
    auto& follower = clients_.at(client).follower;
    events.unfollow(follower);
    follower =
        events.follow([this, client](const admin::EventItem& event) { reply(client, event); });
    if (follower != 0) return;
  }
  reply(client, admin::EventsEnd{});
}

// Whose takeover is under way at this node, if any.
NodeId ControlService::moving_node() const {
  auto core = supervisor_.core().snapshot(supervisor_.ports().scheduler.now());
  const auto& config = supervisor_.config();
  return core.departure_step == "idle" ? config.partner() : config.self;
}

void ControlService::serve(ClientId client, const admin::Operate& request) {
  auto answer = [this, client, alive = alive_](const ha::OperatorAnswer& a) {
    if (*alive) reply(client, admin::OperateReply{outcome_of(a.outcome), a.reasons});
  };
  auto node = request.node;
  if (node == no_node && request.verb == admin::Verb::cancel) node = moving_node();
  if (!known(request.verb) || node.value() < 1 || node.value() > 2) {
    answer({0, ha::OperatorAnswer::Outcome::refused, {"no such command or node"}});
    return;
  }
  ha::OperatorRequest order;
  order.verb = verb_of(request.verb);
  order.node = node;
  order.force = request.force;
  order.overrides = request.overrides;
  order.timeout = milliseconds(request.timeout_ms);
  order.no_takeover = request.no_takeover;
  order.uncoordinated = request.uncoordinated;
  supervisor_.operate(std::move(order), answer);
}

Supervisor::LunDone ControlService::answer_luns(ClientId client) {
  return [this, client, alive = alive_](const LunAnswer& answer) {
    if (!*alive) return;
    admin::LunReply r;
    r.ok = answer.ok;
    r.why = answer.why;
    r.luns = answer.luns;
    reply(client, r);
  };
}

// What the engine may rely on: an identity that exists, and a name of a bearable length.
template <class Order>
void ControlService::change_lun(ClientId client, Order order) {
  if (order.identity == no_node) order.identity = supervisor_.config().self;
  auto refuse = [&](const char* why) {
    LunAnswer answer;
    answer.why = why;
    answer_luns(client)(answer);
  };
  if (order.identity.value() > 2) return refuse("no such node");
  if (!filesystem::valid_lun_name(order.name)) {
    return refuse("a LUN's name has 1 to 63 characters a-z A-Z 0-9 . _ -");
  }
  supervisor_.ask_engine(std::move(order), answer_luns(client));
}

void ControlService::serve(ClientId client, const admin::LunCreate& request) {
  LunCreateOrder order;
  order.identity = request.identity;
  order.name = request.name;
  order.size = request.size;
  order.reserve = request.reserve;
  change_lun(client, std::move(order));
}

void ControlService::serve(ClientId client, const admin::LunDelete& request) {
  LunDeleteOrder order;
  order.identity = request.identity;
  order.name = request.name;
  change_lun(client, std::move(order));
}

void ControlService::serve(ClientId client, const admin::LunList&) {
  supervisor_.ask_engine(LunListOrder{}, answer_luns(client));
}

// Why not here, and where to ask instead.
std::string ControlService::not_served(NodeId asked) const {
  if (asked.value() < 1 || asked.value() > 2) return "no such node";
  const auto core = supervisor_.core().snapshot(supervisor_.ports().scheduler.now());
  const auto& identity = core.identities[asked.value() - 1u];
  if (identity.served_here && supervisor_.ports().engine.running()) return {};
  const auto& config = supervisor_.config();
  const std::string& name = config.name_of(identity.identity);
  const std::string& partner = config.name_of(config.partner());
  if (identity.server == config.partner()) {
    return fmt::format("the pool of {} is served by {}: ask there", name, partner);
  }
  return fmt::format("the pool of {} is not served here: ask {}, or see `duet status`", name,
                     partner);
}

void ControlService::serve(ClientId client, const admin::PoolOrder& request) {
  PoolAsk ask;
  ask.order = request;
  if (ask.order.identity == no_node) ask.order.identity = supervisor_.config().self;
  auto refuse = [&](const std::string& why) {
    admin::PoolReply answer;
    answer.why = why;
    reply(client, answer);
  };
  if (static_cast<std::uint8_t>(request.verb) >= admin::pool_verbs) return refuse("no such order");
  for (const auto* name : {&request.volume, &request.snapshot, &request.lun, &request.name,
                           &request.disk, &request.spare}) {
    if (name->size() > max_pool_name) return refuse("a name is too long");
  }
  if (request.file.size() > max_pool_path) return refuse("a path is too long");
  if (auto why = not_served(ask.order.identity); !why.empty()) return refuse(why);
  supervisor_.ask_engine(
      std::move(ask),
      Supervisor::PoolDone([this, client, alive = alive_](const PoolAnswer& answer) {
        if (*alive) reply(client, answer.reply);
      }));
}

void ControlService::serve(ClientId client, const admin::NodePanic& request) {
  auto answer = [&](admin::OperateOutcome outcome, std::vector<std::string> reasons) {
    reply(client, admin::OperateReply{outcome, std::move(reasons)});
  };
  auto kind = panic_kind(request.kind);
  if (!kind) return answer(admin::OperateOutcome::refused, {"no such kind of panic"});
  if (!supervisor_.config().test_panics) {
    return answer(admin::OperateOutcome::refused,
                  {"for tests only: the configuration does not say coredump.test_panics = true"});
  }
  if (!supervisor_.ports().engine.running()) {
    return answer(admin::OperateOutcome::refused, {"the engine of this node does not run"});
  }
  supervisor_.note(ha::Severity::warning, "node.test_panic", request.kind);
  supervisor_.panic_engine(*kind);
  answer(admin::OperateOutcome::done, {});
}

void ControlService::serve(ClientId client, const admin::CoreOrder& request) {
  CoreAsk ask;
  ask.order = request;
  if (ask.order.identity == no_node) ask.order.identity = supervisor_.config().self;
  auto refuse = [&](const std::string& why) {
    admin::CoreReply answer;
    answer.why = why;
    reply(client, answer);
  };
  if (static_cast<std::uint8_t>(request.verb) >= admin::core_verbs) return refuse("no such order");
  if (request.id.size() > max_core_id) return refuse("no core has such an id");
  if (auto why = not_served(ask.order.identity); !why.empty()) return refuse(why);
  supervisor_.ask_engine(
      std::move(ask),
      Supervisor::CoreDone([this, client, alive = alive_](const CoreAnswer& answer) {
        if (*alive) reply(client, answer.reply);
      }));
}

void ControlService::serve(ClientId client, const admin::DiskList&) {
  report_disks(supervisor_.config(), supervisor_.ports(),
               [this, client, alive = alive_](admin::DiskReport report) {
                 if (*alive) reply(client, std::move(report));
               });
}

}  // namespace duet::node
