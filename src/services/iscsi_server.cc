#include "services/iscsi_server.h"

#include <algorithm>
#include <utility>

namespace duet::services {

struct IscsiServer::Target {
  TargetConfig config;
  bool ready = false;
  // Of a planned end; `quiet` and `gone` until they are called.
  enum class End : std::uint8_t { none, holding, parting } end = End::none;
  std::uint64_t ends = 0;  // changes with each; what was posted for an earlier one is stale
  std::move_only_function<void()> quiet;
  std::move_only_function<void()> gone;
  ports::TimerId limit{};
};

// A listener, and the view of the targets that its connections get.
class IscsiServer::Portal final : public iscsi::TargetDirectory {
 public:
  Portal(IscsiServer& server, PortalId portal_id, std::string target, PortalConfig portal_config)
      : id(portal_id),
        target_name(std::move(target)),
        config(std::move(portal_config)),
        server_(server) {}

  std::optional<iscsi::TargetInfo> find(std::string_view name) const override {
    const Target* target = server_.find_target(name);
    if (target == nullptr) return {};
    // Served here, but elsewhere on this node: not for ever, an identity may be moving.
    bool here = name == target_name;
    return iscsi::TargetInfo{.ready = here && target->ready, .alias = target->config.alias};
  }

  std::vector<iscsi::DiscoveredTarget> discover() const override {
    std::vector<iscsi::DiscoveredTarget> found;
    for (const auto& target : server_.targets_) {
      if (!target->ready) continue;
      iscsi::DiscoveredTarget each{.name = target->config.name, .addresses = {}};
      for (const auto& [_, portal] : server_.portals_) {
        if (portal->target_name == each.name) each.addresses.push_back(portal->advertised());
      }
      if (!each.addresses.empty()) found.push_back(std::move(each));
    }
    return found;
  }

  std::string advertised() const {
    std::string where = config.advertised;
    if (where.empty()) {
      bool v6 = config.address.find(':') != std::string::npos;
      where = (v6 ? "[" + config.address + "]" : config.address) + ":" +
              std::to_string(listener->port());
    }
    return where + "," + std::to_string(config.group_tag);
  }

  const PortalId id;
  const std::string target_name;
  const PortalConfig config;
  std::unique_ptr<ports::Listener> listener;

 private:
  IscsiServer& server_;
};

class IscsiServer::Client final : public ports::StreamHandler {
 public:
  Client(IscsiServer& owner, std::uint32_t client_number, std::shared_ptr<Portal> at,
         std::shared_ptr<ports::Stream> transport)
      : server(&owner),
        number(client_number),
        portal(std::move(at)),
        stream(std::move(transport)),
        connection(client_number, *portal, portal->config.group_tag,
                   portal->config.relative_target_port, owner.scheduler_.now()) {}

  MutableBytes receive_buffer() override { return connection.receive_buffer(); }
  void on_received(std::size_t size) override {
    if (server == nullptr) return;
    server->step(*this, [&](iscsi::Actions& actions) {
      connection.on_received(size, server->scheduler_.now(), actions);
    });
  }
  void on_sent(std::size_t) override {
    if (server != nullptr) server->close_if_sent(*this);
  }
  void on_closed() override {
    if (server == nullptr) return;
    stream_closed = true;
    server->close(*this, false);
  }

  bool same_nexus(const Client& other) const {
    return target == other.target &&
           connection.session().nexus() == other.connection.session().nexus();
  }
  bool closed() const { return connection.phase() == iscsi::Connection::Phase::closed; }

  IscsiServer* server;  // null once the server is gone
  const std::uint32_t number;
  const std::shared_ptr<Portal> portal;
  const std::shared_ptr<ports::Stream> stream;
  iscsi::Connection connection;
  Target* target = nullptr;  // from admission on, except for discovery
  bool established = false;  // the backend knows the nexus
  bool stream_closed = false;
  std::vector<Slice> outgoing;
  bool unsent = false;
  std::optional<std::uint32_t> cold_reset;  // the request of one that is under way
};

IscsiServer::IscsiServer(ports::Scheduler& scheduler, ports::Network& network)
    : scheduler_(scheduler), network_(network) {
  set_tick();
}

IscsiServer::~IscsiServer() {
  *alive_ = false;
  scheduler_.cancel(tick_);
  // Clients keep their portal until their streams are closed: it must not accept for us until then.
  for (auto& [_, portal] : portals_) portal->listener.reset();
  portals_.clear();
  for (auto& [_, client] : clients_) {
    client->server = nullptr;
    client->connection.on_transport_closed();
    client->stream->close(false);
  }
}

// ---- targets and portals ----

IscsiServer::Target* IscsiServer::find_target(std::string_view name) const {
  auto found =
      std::ranges::find_if(targets_, [&](const auto& t) { return t->config.name == name; });
  return found == targets_.end() ? nullptr : found->get();
}

Status IscsiServer::add_target(TargetConfig config) {
  if (!iscsi::valid_iscsi_name(config.name)) {
    return fail(ErrorCode::invalid, "'" + config.name + "' is not an iSCSI name");
  }
  if (find_target(config.name) != nullptr) {
    return fail(ErrorCode::already_exists, "target " + config.name);
  }
  ASSERT(config.backend != nullptr);
  targets_.push_back(std::make_unique<Target>(std::move(config)));
  return {};
}

void IscsiServer::set_ready(std::string_view name, bool ready) {
  if (Target* target = find_target(name)) target->ready = ready;
}

void IscsiServer::remove_target(std::string_view name) {
  auto found =
      std::ranges::find_if(targets_, [&](const auto& t) { return t->config.name == name; });
  if (found == targets_.end()) return;
  std::erase_if(portals_, [&](const auto& each) { return each.second->target_name == name; });
  auto target = std::move(*found);
  targets_.erase(found);
  scheduler_.cancel(target->limit);
  for (auto& client : all_clients()) {
    if (client->portal->target_name != target->config.name) continue;
    client->target = nullptr;
    client->established = false;
    close(*client, false);
  }
}

Result<PortalId> IscsiServer::add_portal(std::string_view target, PortalConfig config) {
  if (find_target(target) == nullptr) {
    return fail(ErrorCode::not_found, "no target " + std::string(target));
  }
  PortalId id(++last_portal_);
  auto portal = std::make_shared<Portal>(*this, id, std::string(target), std::move(config));
  auto listener = network_.listen(
      portal->config.address, portal->config.port, portal->config.foreign,
      [this, weak = std::weak_ptr(portal)](
          std::shared_ptr<ports::Stream> stream) -> std::shared_ptr<ports::StreamHandler> {
        auto at = weak.lock();
        return at ? accept(at, std::move(stream)) : nullptr;
      });
  if (!listener) return std::unexpected(listener.error());
  portal->listener = std::move(*listener);
  portals_.emplace(id, std::move(portal));
  return id;
}

void IscsiServer::remove_portal(PortalId portal) {
  auto found = portals_.find(portal);
  if (found == portals_.end()) return;
  found->second->listener.reset();
  portals_.erase(found);
}

std::uint16_t IscsiServer::port(PortalId portal) const {
  auto found = portals_.find(portal);
  return found == portals_.end() ? 0 : found->second->listener->port();
}

// ---- connections ----

std::shared_ptr<ports::StreamHandler> IscsiServer::accept(const std::shared_ptr<Portal>& portal,
                                                          std::shared_ptr<ports::Stream> stream) {
  if (clients_.size() >= max_connections) return nullptr;
  do {
    ++last_client_;
  } while (last_client_ == 0 || clients_.contains(last_client_));
  auto client = std::make_shared<Client>(*this, last_client_, portal, std::move(stream));
  clients_.emplace(client->number, client);
  return client;
}

// A copy, for loops whose body may end clients.
std::vector<std::shared_ptr<IscsiServer::Client>> IscsiServer::all_clients() const {
  std::vector<std::shared_ptr<Client>> all;
  all.reserve(clients_.size());
  for (const auto& [_, client] : clients_) all.push_back(client);
  return all;
}

IscsiServer::Client* IscsiServer::client_of(std::uint64_t tag) {
  auto found = clients_.find(static_cast<std::uint32_t>(tag >> 32));
  return found == clients_.end() ? nullptr : found->second.get();
}

// Lets the connection take an event and performs what it orders. A backend may answer from inside,
// so this nests.
template <class Event>
void IscsiServer::step(Client& client, Event event) {
  auto keep = clients_.find(client.number);
  if (keep == clients_.end()) return;
  auto self = keep->second;
  iscsi::Actions actions;
  actions.send.swap(client.outgoing);
  actions.orders.swap(spare_orders_);
  event(actions);
  client.outgoing.swap(actions.send);
  if (!client.outgoing.empty()) mark_unsent(client);
  for (auto& order : actions.orders) perform(client, order);
  actions.orders.clear();
  spare_orders_.swap(actions.orders);
  Target* target = client.target;
  if (client.closed()) retire(client);
  if (target != nullptr && target->quiet) look_whether_quiet(*target);
}

void IscsiServer::perform(Client& client, iscsi::Order& order) {
  if (std::holds_alternative<iscsi::AdmitSession>(order)) {
    admit(client);
  } else if (auto* submit = std::get_if<iscsi::SubmitCommand>(&order)) {
    if (client.established) {
      client.target->config.backend->submit(submit->lun, std::move(submit->command));
    } else {  // the target went while the orders were performed
      aborted(submit->command.tag);
    }
  } else if (auto* manage = std::get_if<iscsi::ManageTasks>(&order)) {
    if (!client.established) return;
    bool reset = manage->function == scsi::TaskManagement::target_cold_reset ||
                 manage->function == scsi::TaskManagement::target_warm_reset;
    if (manage->function == scsi::TaskManagement::target_cold_reset) {
      client.cold_reset = manage->request;
    }
    client.target->config.backend->task_management(
        std::uint64_t{client.number} << 32 | manage->request, client.connection.session().nexus(),
        manage->function, reset ? std::nullopt : manage->lun, manage->task);
  } else if (auto* close_order = std::get_if<iscsi::Close>(&order)) {
    close(client, close_order->flush);
  }
}

void IscsiServer::close(Client& client, bool flush) {
  client.connection.on_transport_closed();
  if (!client.stream_closed) {
    client.stream_closed = true;
    if (flush && gate_open()) {
      if (!client.outgoing.empty()) client.stream->send(std::exchange(client.outgoing, {}));
      client.stream->close(true);
    } else {
      client.stream->close(false);
    }
  }
  client.outgoing.clear();
  lose_nexus(client);
  retire(client);
}

void IscsiServer::lose_nexus(Client& client) {
  if (!client.established) return;
  client.established = false;
  client.target->config.backend->nexus_lost(client.connection.session().nexus());
}

// Forgets a closed client when its last command has been answered.
void IscsiServer::retire(Client& client) {
  if (!client.closed() || (client.connection.commands_at_unit() > 0 && client.target != nullptr)) {
    return;
  }
  if (clients_.erase(client.number) == 0) return;
  client.server = nullptr;  // its stream may outlive us while it closes
  if (Target* target = find_target(client.portal->target_name)) look_whether_gone(*target);
  // Someone may have waited for this. Not now: we may be deep in the call of a backend.
  scheduler_.post([this, alive = alive_] {
    if (*alive) try_admissions();
  });
}

// ---- admission: one session per nexus (RFC 7143 6.3.5) ----

void IscsiServer::admit(Client& client) {
  if (!client.connection.session().discovery) {
    client.target = find_target(client.connection.session().target_name);
    if (client.target == nullptr || !client.target->ready) {
      client.target = nullptr;
      step(client, [&](iscsi::Actions& actions) {
        client.connection.on_refused(iscsi::LoginStatus::service_unavailable, actions);
      });
      return;
    }
    for (auto& other : all_clients()) {
      if (other.get() != &client && !other->closed() && other->same_nexus(client)) {
        close(*other, false);
      }
    }
  }
  try_admissions();
}

void IscsiServer::try_admissions() {
  for (auto& client : all_clients()) {
    if (client->connection.phase() != iscsi::Connection::Phase::admission) continue;
    if (client->target != nullptr) {
      // What is left of an older session still has commands under way.
      bool busy = std::ranges::any_of(clients_, [&](const auto& each) {
        return each.second != client && each.second->same_nexus(*client);
      });
      if (busy) continue;
      if (client->target->end != Target::End::none) {  // it waited for too long
        client->target = nullptr;
        step(*client, [&](iscsi::Actions& actions) {
          client->connection.on_refused(iscsi::LoginStatus::service_unavailable, actions);
        });
        continue;
      }
      client->established = true;
      client->target->config.backend->nexus_established(client->connection.session().nexus());
    }
    step(*client,
         [&](iscsi::Actions& actions) { client->connection.on_admitted(fresh_tsih(), actions); });
    if (!client->stream_closed) client->stream->resume_reading();
  }
}

std::uint16_t IscsiServer::fresh_tsih() {
  while (true) {  // ends: there are fewer connections than handles
    ++last_tsih_;
    bool used = last_tsih_ == 0 || std::ranges::any_of(clients_, [&](const auto& each) {
                  return each.second->connection.session().tsih == last_tsih_;
                });
    if (!used) return last_tsih_;
  }
}

// ---- answers ----

void IscsiServer::respond(scsi::CommandTag tag, scsi::Response&& response) {
  Client* client = client_of(tag.value());
  if (client == nullptr) return;
  step(*client, [&](iscsi::Actions& actions) {
    client->connection.on_response(tag, std::move(response), actions);
  });
}

void IscsiServer::aborted(scsi::CommandTag tag) {
  Client* client = client_of(tag.value());
  if (client == nullptr) return;
  step(*client, [&](iscsi::Actions& actions) { client->connection.on_aborted(tag, actions); });
}

void IscsiServer::task_management_done(std::uint64_t request, iscsi::TaskManagementResult result) {
  Client* client = client_of(request);
  if (client == nullptr) return;
  auto number = static_cast<std::uint32_t>(request);
  step(*client, [&](iscsi::Actions& actions) {
    client->connection.on_task_management_done(number, result, actions);
  });
  client = client_of(request);
  if (client == nullptr || client->cold_reset != number) return;
  // RFC 7143 11.5.1: a cold reset ends all connections of the target, after its answer.
  Target* target = client->target;
  for (auto& each : all_clients()) {
    if (target != nullptr && each->target == target) close(*each, true);
  }
}

// All that is sent in a turn of the scheduler leaves together.
void IscsiServer::mark_unsent(Client& client) {
  if (client.unsent || client.stream_closed) return;
  client.unsent = true;
  if (unsent_.empty()) {
    scheduler_.post([this, alive = alive_] {
      if (*alive) send_unsent();
    });
  }
  unsent_.push_back(clients_.at(client.number));
}

void IscsiServer::send_unsent() {
  auto clients = std::exchange(unsent_, {});
  for (auto& client : clients) client->unsent = false;
  if (!gate_open()) {
    drop_all_if([](const Client&) { return true; });
    return;
  }
  for (auto& client : clients) {
    if (client->stream_closed || client->outgoing.empty()) continue;
    client->stream->send(std::exchange(client->outgoing, {}));
  }
}

bool IscsiServer::gate_open() {
  return !gate_ || gate_();
}

// ---- ends ----

void IscsiServer::drop_all_if(const std::function<bool(const Client&)>& condition) {
  for (auto& client : all_clients()) {
    if (!client->closed() && condition(*client)) close(*client, false);
  }
}

void IscsiServer::drop_sessions(std::string_view target) {
  drop_all_if([&](const Client& client) { return client.portal->target_name == target; });
}

void IscsiServer::drop_sessions(PortalId portal) {
  drop_all_if([&](const Client& client) { return client.portal->id == portal; });
}

void IscsiServer::request_logout(std::string_view target) {
  for (auto& client : all_clients()) {
    if (client->portal->target_name != target) continue;
    step(*client, [&](iscsi::Actions& actions) {
      client->connection.request_logout(scheduler_.now(), actions);
    });
  }
}

// ---- planned end ----

void IscsiServer::hold(std::string_view name, std::move_only_function<void()> quiet) {
  Target* target = find_target(name);
  ASSERT(target != nullptr && target->end == Target::End::none);
  target->ready = false;
  target->end = Target::End::holding;
  ++target->ends;
  target->quiet = std::move(quiet);
  for (auto& client : all_clients()) {
    if (client->portal->target_name == name) client->connection.hold();
  }
  look_whether_quiet(*target);
}

void IscsiServer::look_whether_quiet(const Target& target) {
  bool busy = std::ranges::any_of(clients_, [&](const auto& each) {
    return each.second->target == &target && each.second->connection.commands_at_unit() > 0;
  });
  if (busy) return;
  scheduler_.post([this, alive = alive_, name = target.config.name, ends = target.ends] {
    Target* held = *alive ? find_target(name) : nullptr;
    if (held == nullptr || held->ends != ends || !held->quiet) return;
    std::exchange(held->quiet, nullptr)();
  });
}

void IscsiServer::resume(std::string_view name) {
  Target* target = find_target(name);
  ASSERT(target != nullptr);
  target->end = Target::End::none;
  ++target->ends;
  target->quiet = nullptr;
  target->gone = nullptr;
  scheduler_.cancel(target->limit);
  target->ready = true;
  for (auto& client : all_clients()) {
    if (client->portal->target_name != name) continue;
    step(*client, [&](iscsi::Actions& actions) { client->connection.resume(actions); });
  }
}

std::vector<iscsi::StoredRequest> IscsiServer::waiting_requests(std::string_view name,
                                                                std::size_t most) {
  std::vector<iscsi::StoredRequest> all;
  for (auto& client : all_clients()) {
    if (client->portal->target_name != name) continue;
    for (auto& request : client->connection.waiting_requests()) {
      if (all.size() == most) return all;
      all.push_back(std::move(request));
    }
  }
  return all;
}

void IscsiServer::part(std::string_view name, Instant limit, std::move_only_function<void()> gone) {
  Target* target = find_target(name);
  ASSERT(target != nullptr && target->end == Target::End::holding);
  target->end = Target::End::parting;
  target->gone = std::move(gone);
  target->limit = scheduler_.at(limit, [this, alive = alive_, target_name = std::string(name)] {
    if (*alive) drop_sessions(target_name);
  });
  for (auto& client : all_clients()) {
    if (client->portal->target_name != name) continue;
    step(*client, [&](iscsi::Actions& actions) { client->connection.announce_drop(actions); });
    close_if_sent(*client);
  }
  look_whether_gone(*target);
}

void IscsiServer::close_if_sent(Client& client) {
  Target* target = find_target(client.portal->target_name);
  if (target == nullptr || target->end != Target::End::parting || client.closed()) return;
  if (client.outgoing.empty() && client.stream->pending() == 0) close(client, true);
}

void IscsiServer::look_whether_gone(const Target& target) {
  if (!target.gone || std::ranges::any_of(clients_, [&](const auto& each) {
        return each.second->portal->target_name == target.config.name;
      })) {
    return;
  }
  scheduler_.post([this, alive = alive_, name = target.config.name, ends = target.ends] {
    Target* left = *alive ? find_target(name) : nullptr;
    if (left == nullptr || left->ends != ends || !left->gone) return;
    scheduler_.cancel(left->limit);
    std::exchange(left->gone, nullptr)();
  });
}

void IscsiServer::set_tick() {
  tick_ = scheduler_.at(scheduler_.now() + tick_interval, [this] {
    set_tick();
    for (auto& client : all_clients()) {
      step(*client,
           [&](iscsi::Actions& actions) { client->connection.on_tick(scheduler_.now(), actions); });
    }
  });
}

std::vector<SessionInfo> IscsiServer::sessions() const {
  std::vector<SessionInfo> list;
  for (const auto& [_, client] : clients_) {
    if (client->connection.phase() != iscsi::Connection::Phase::full_feature) continue;
    const auto& session = client->connection.session();
    list.push_back({.initiator_name = session.initiator_name,
                    .target_name = session.target_name,
                    .peer = client->stream->peer(),
                    .relative_target_port = session.relative_target_port,
                    .commands = client->connection.commands_at_unit()});
  }
  return list;
}

}  // namespace duet::services
