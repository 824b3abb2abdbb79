#include "node/control_service.h"

#include <fmt/format.h>

#include "base/ip_address.h"
#include "filesystem/log_record.h"
#include "node/disk_report.h"

namespace duet::node {
namespace {

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
  auto request = unarchive<admin::Request>(bytes);
  if (!request) {
    // Of another version, or nonsense: the channel is the caller, so it goes a turn later.
    supervisor_.ports().scheduler.post([this, client, alive = alive_] {
      if (*alive) remove(client);
    });
    return;
  }
  std::visit([&](const auto& r) { serve(client, r); }, *request);
}

void ControlService::reply(ClientId client, const admin::Reply& reply) {
  auto it = clients_.find(client);
  if (it != clients_.end()) it->second.channel->send(archive(reply));
}

void ControlService::serve(ClientId client, const admin::StatusQuery&) {
  reply(client, status());
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

void ControlService::serve(ClientId client, const admin::Operate& request) {
  auto answer = [this, client, alive = alive_](const ha::OperatorAnswer& a) {
    if (*alive) reply(client, admin::OperateReply{outcome_of(a.outcome), a.reasons});
  };
  if (!known(request.verb) || request.node.value() < 1 || request.node.value() > 2) {
    answer({0, ha::OperatorAnswer::Outcome::refused, {"no such command or node"}});
    return;
  }
  ha::OperatorRequest order;
  order.verb = verb_of(request.verb);
  order.node = request.node;
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

void ControlService::serve(ClientId client, const admin::DiskList&) {
  report_disks(supervisor_.config(), supervisor_.ports(),
               [this, client, alive = alive_](admin::DiskReport report) {
                 if (*alive) reply(client, std::move(report));
               });
}

// ---- status ----

namespace {

std::string text_of(ha::Reason reason) {
  return reason == ha::Reason::none ? "" : std::string(ha::sentence(reason));
}

admin::Possible possible(ha::Reason obstacle) {
  if (obstacle == ha::Reason::none) return {true, {}};
  return {false, {std::string(ha::sentence(obstacle))}};
}

admin::IdentityStatus identity_status(const ha::IdentitySnapshot& i, const Config& config,
                                      const EngineReport& engine, Instant now) {
  const auto& service = config.services[i.identity.value()];
  admin::IdentityStatus s;
  s.identity = i.identity;
  s.name = config.name_of(i.identity);
  s.served_here = i.served_here;
  s.epoch = i.epoch.value();
  s.target = service.iqn;
  s.address = host_and_port(service.address, service.port);
  s.lease_valid = now < i.lease_until;
  if (!i.served_here) return s;
  s.durability = duet::name(i.durability);
  for (const auto& e : engine.identities) {
    if (e.identity != i.identity) continue;
    s.luns = e.luns;
    s.sessions = e.sessions;
    s.log_used = e.log_used;
    s.log_size = e.log_size;
    s.consistency_points = e.consistency_points;
  }
  return s;
}

}  // namespace

admin::StatusReport ControlService::status() const {
  auto now = supervisor_.ports().scheduler.now();
  const auto& config = supervisor_.config();
  const auto& engine = supervisor_.engine_report();
  auto core = supervisor_.core().snapshot(now);
  admin::StatusReport s;
  s.node = config.self;
  s.name = config.name_of(config.self);
  s.cluster = config.cluster_name;
  s.supervisor_pid = supervisor_pid_;
  s.engine_pid = supervisor_.ports().engine.pid();
  s.state = interconnect::name(core.state);
  s.why = text_of(core.why);
  s.next = core.next;
  s.boot_nonce = core.nonce.value();
  s.partner_name = config.name_of(config.partner());
  s.partner_state = core.partner_known ? interconnect::name(core.partner_state) : "unknown";
  s.partner_verdict = ha::name(core.partner_verdict);
  s.link = ports::name(core.link);
  s.link_why = supervisor_.link_why();
  s.mirror_outgoing = engine.mirror_outgoing;
  s.mirror_incoming = engine.mirror_incoming;
  s.nvram_persistent = supervisor_.nvram_persistent();
  s.auto_giveback = config.auto_giveback;
  for (const auto& i : core.identities) {
    s.identities.push_back(identity_status(i, config, engine, now));
    s.identities.back().network = supervisor_.addresses().report(i.identity).text;
  }
  s.takeover = possible(core.takeover_obstacle);
  s.giveback = possible(core.giveback_obstacle);
  s.counters = {{"progress", core.progress},
                {"stale_messages", core.stale_messages},
                {"invalid_messages", core.invalid_messages},
                {"invalid_states", core.invalid_states},
                {"illegal_states", core.illegal_states}};
  return s;
}

}  // namespace duet::node
