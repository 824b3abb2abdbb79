#include "simulator/sim_network.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulator {

// ---- the server's end ----

class ServerStream final : public ports::Stream, public std::enable_shared_from_this<ServerStream> {
 public:
  ServerStream(SimNetwork& network, std::shared_ptr<ClientStream> client, std::string peer,
               std::string address)
      : network_(&network), client_(client), peer_(std::move(peer)), address_(std::move(address)) {}

  const std::string& peer() const override { return peer_; }
  std::size_t pending() const override { return 0; }
  void send(std::vector<Slice> data) override;
  void resume_reading() override;
  void close(bool flush) override;

  // Bytes of the client have arrived at this machine; `order` keeps them apart from a reset.
  void arrive(std::vector<std::byte> bytes);
  void reset();    // by the client or the network, told to the server
  void abandon();  // the process has died
  void release_handler() { handler_.reset(); }

 private:
  friend class ClientNetwork;
  friend class ClientStream;
  void deliver();
  void end();

  SimNetwork* network_;  // null: its process is gone
  std::shared_ptr<ClientStream> client_;
  std::string peer_;
  std::string address_;
  std::shared_ptr<ports::StreamHandler> handler_;
  std::vector<std::byte> inbox_;
  std::size_t taken_ = 0;
  bool delivery_posted_ = false;
  bool closed_ = false;
  Instant last_arrival_{};  // at the server: in order
};

void ServerStream::send(std::vector<Slice> data) {
  if (closed_ || network_ == nullptr || network_->ended_) return;
  std::vector<std::byte> bytes;
  for (const auto& slice : data) {
    bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
  }
  auto& clients = network_->clients_;
  if (!clients.held(address_, network_->node_)) return;  // no way out for this source address
  if (clients.on_server_send) clients.on_server_send({network_->node_, address_, bytes.size()});
  auto when = clients.arrival(client_->last_arrival_);
  clients.outside_.at(when, [client = client_, bytes = std::move(bytes)] {
    if (client->state_ == ClientStream::State::open) client->handler_->on_received(bytes);
  });
  network_->process_.post([self = shared_from_this()] {
    if (self->handler_ && !self->closed_) self->handler_->on_sent(0);
  });
}

void ServerStream::resume_reading() {
  if (network_ == nullptr || std::exchange(delivery_posted_, true)) return;
  network_->process_.post([self = shared_from_this()] {
    self->delivery_posted_ = false;
    self->deliver();
  });
}

void ServerStream::arrive(std::vector<std::byte> bytes) {
  if (closed_ || network_ == nullptr) return;
  inbox_.insert(inbox_.end(), bytes.begin(), bytes.end());
  resume_reading();
}

void ServerStream::deliver() {
  while (taken_ < inbox_.size() && !closed_ && handler_) {
    auto handler = handler_;
    auto room = handler->receive_buffer();
    if (room.empty()) return;
    auto size = std::min(room.size(), inbox_.size() - taken_);
    std::copy_n(inbox_.begin() + static_cast<std::ptrdiff_t>(taken_), size, room.begin());
    taken_ += size;
    handler->on_received(size);
  }
  if (taken_ == inbox_.size()) {
    inbox_.clear();
    taken_ = 0;
  }
}

void ServerStream::close(bool) {
  if (closed_ || network_ == nullptr || network_->ended_) return;
  auto& clients = network_->clients_;
  auto when = clients.arrival(client_->last_arrival_);
  clients.outside_.at(when, [client = client_] { client->end(); });
  end();
}

void ServerStream::reset() {
  if (!closed_ && network_ != nullptr) end();
}

void ServerStream::end() {
  closed_ = true;
  network_->process_.post([self = shared_from_this()] {
    if (auto handler = std::exchange(self->handler_, nullptr)) handler->on_closed();
  });
}

void ServerStream::abandon() {
  closed_ = true;
  network_ = nullptr;
}

// ---- the client's end ----

ClientStream::ClientStream(ClientNetwork& network, std::string address, std::uint16_t port,
                           Handler& handler)
    : network_(network), address_(std::move(address)), port_(port), handler_(&handler) {}

void ClientStream::send(std::vector<std::byte> bytes) {
  auto server = peer_.lock();
  if (state_ != State::open || !server) return;
  auto when = network_.arrival(server->last_arrival_);
  network_.outside_.at(when,
                       [self = shared_from_this(), server, bytes = std::move(bytes)]() mutable {
                         if (server->network_ != nullptr) return server->arrive(std::move(bytes));
                         // No process there any more: its machine, if there is one, says so.
                         if (self->network_.machine_up(self->node_)) {
                           auto back = self->network_.arrival(self->last_arrival_);
                           self->network_.outside_.at(back, [self] { self->end(); });
                         }
                       });
}

void ClientStream::close() {
  if (state_ == State::closed) return;
  state_ = State::closed;
  handler_ = nullptr;
  auto server = peer_.lock();
  if (!server) return;
  auto when = network_.arrival(server->last_arrival_);
  network_.outside_.at(when, [server] { server->reset(); });
}

void ClientStream::end() {
  if (state_ == State::closed) return;
  state_ = State::closed;
  if (auto* handler = std::exchange(handler_, nullptr)) handler->on_closed();
}

// ---- the network between ----

ClientNetwork::ClientNetwork(Process& outside, Random& random)
    : outside_(outside), random_(random) {}

ClientNetwork::~ClientNetwork() {
  for (auto& weak : streams_) {
    if (auto stream = weak.lock()) stream->release_handler();
  }
}

Duration ClientNetwork::latency() {
  auto span = static_cast<std::uint64_t>((faults.latency_max - faults.latency_min).count()) + 1;
  return faults.latency_min + Duration(random_.below(span));
}

Instant ClientNetwork::arrival(Instant& last) {
  auto start = std::max(outside_.now(), faults.cut_until);
  last = std::max(last, start + latency());
  return last;
}

const ClientNetwork::Listening* ClientNetwork::newest(const Where& where) const {
  auto it = listening_.find(where);
  if (it == listening_.end() || it->second.empty()) return nullptr;
  return &it->second.back();
}

NodeId ClientNetwork::owner(const std::string& address, std::uint16_t port) const {
  const auto* listening = newest({address, port});
  return listening == nullptr ? no_node : listening->network->node_;
}

bool ClientNetwork::listening(NodeId node, const std::string& address, std::uint16_t port) const {
  auto it = listening_.find({address, port});
  return it != listening_.end() &&
         std::ranges::any_of(it->second, [&](const auto& l) { return l.network->node_ == node; });
}

std::shared_ptr<ClientStream> ClientNetwork::connect(const std::string& address, std::uint16_t port,
                                                     ClientStream::Handler& handler) {
  auto client = std::make_shared<ClientStream>(*this, address, port, handler);
  Instant last{};
  outside_.at(arrival(last), [this, client] { establish(client); });
  outside_.at(outside_.now() + connect_limit, [client] {
    if (client->state_ == ClientStream::State::connecting) client->end();
  });
  return client;
}

// The first packet has arrived at whoever has the address.
void ClientNetwork::establish(const std::shared_ptr<ClientStream>& client) {
  if (client->state_ != ClientStream::State::connecting) return;
  const auto* listening = newest({client->address_, client->port_});
  if (managed_) {
    auto node = found_at(client->address_);
    // Nobody answers: the limit of the attempt ends it.
    if (node == no_node || !machine_up(node) || !held(client->address_, node)) return;
    listening = listener_of(node, {client->address_, client->port_});
  }
  if (listening == nullptr) {  // a live machine refuses; or nobody is there, which takes longer
    auto when = arrival(client->last_arrival_);
    outside_.at(when, [client] { client->end(); });
    return;
  }
  // Accepted by the process when it runs; its kernel answers before.
  auto& network = *listening->network;
  auto name = "10.0.0.1:" + std::to_string(20000 + ++last_client_ % 40000);
  auto server = std::make_shared<ServerStream>(network, client, name, client->address_);
  client->peer_ = server;
  client->node_ = network.node_;
  std::erase_if(streams_, [](const auto& weak) { return weak.expired(); });
  std::erase_if(network.streams_, [](const auto& weak) { return weak.expired(); });
  streams_.push_back(server);
  network.streams_.push_back(server);
  outside_.at(arrival(client->last_arrival_), [client, server] {
    if (client->state_ != ClientStream::State::connecting) return;
    client->state_ = ClientStream::State::open;
    client->handler_->on_open();
  });
  network.process_.post(
      [this, server, where = Where{client->address_, client->port_}, order = listening->order] {
        auto it = listening_.find(where);
        if (it == listening_.end()) return server->close(false);
        auto found = std::ranges::find(it->second, order, &Listening::order);
        if (found == it->second.end()) return server->close(false);
        auto handler = (*found->accept)(server);
        if (!handler) return server->close(false);
        server->handler_ = std::move(handler);
        server->resume_reading();
      });
}

// ---- addresses ----

// A machine comes back without addresses.
void ClientNetwork::set_machine_up(NodeId node, bool up) {
  machines_up_[node.value()] = up;
  for (auto& [address, a] : addresses_) a.held_until[node.value()] = {};
}

void ClientNetwork::hold(const std::string& address, NodeId node, Instant until) {
  addresses_[address].held_until[node.value()] = until;
}

bool ClientNetwork::held(const std::string& address, NodeId node) const {
  if (!managed_) return true;
  auto it = addresses_.find(address);
  return it != addresses_.end() && machine_up(node) &&
         outside_.now() < it->second.held_until[node.value()];
}

void ClientNetwork::announce(const std::string& address, NodeId node, Duration delay) {
  outside_.at(outside_.now() + delay,
              [this, address, node] { addresses_[address].found_at = node; });
}

NodeId ClientNetwork::found_at(const std::string& address) const {
  auto it = addresses_.find(address);
  return it == addresses_.end() ? no_node : it->second.found_at;
}

void ClientNetwork::reset_strangers(const std::string& address, NodeId node) {
  for (auto& weak : streams_) {
    auto server = weak.lock();
    if (!server || server->address_ != address || server->client_->node_ == node) continue;
    outside_.at(outside_.now() + latency(), [this, client = server->client_, node] {
      if (found_at(client->address_) == node && held(client->address_, node)) client->end();
    });
  }
}

// What a client sends gets to the machine of its connection. If it gets to another one, that resets
// the connection.
bool ClientNetwork::reaches(ClientStream& client) {
  if (!managed_) return true;
  auto to = found_at(client.address_);
  if (to == client.node_) return held(client.address_, to);
  if (held(client.address_, to)) {
    outside_.at(arrival(client.last_arrival_), [self = client.shared_from_this()] { self->end(); });
  }
  return false;
}

const ClientNetwork::Listening* ClientNetwork::listener_of(NodeId node, const Where& where) const {
  auto it = listening_.find(where);
  if (it == listening_.end()) return nullptr;
  auto found =
      std::ranges::find_if(it->second, [&](const auto& l) { return l.network->node_ == node; });
  return found == it->second.end() ? nullptr : &*found;
}

void ClientNetwork::reset_all(NodeId node) {
  for (auto& weak : streams_) {
    auto server = weak.lock();
    if (!server || server->closed_ || server->network_ == nullptr) continue;
    if (node != no_node && server->network_->node_ != node) continue;
    outside_.post([client = server->client_] { client->end(); });
    server->reset();
  }
}

// What clients send on connections to the former owner arrives at the new one, who resets them.
// Until the network has noticed the move the former owner may still be heard.
void ClientNetwork::moved(const std::string& address, NodeId to) {
  if (managed_) return;  // announcements tell the network
  for (auto& weak : streams_) {
    auto server = weak.lock();
    if (!server || server->closed_ || server->network_ == nullptr) continue;
    if (server->address_ != address || server->network_->node_ == to) continue;
    auto notice = milliseconds(random_.below(move_notice_max / milliseconds(1)));
    outside_.at(outside_.now() + notice, [client = server->client_] { client->end(); });
  }
}

void ClientNetwork::process_ended(SimNetwork& network, bool announce) {
  network.ended_ = true;
  for (auto& weak : network.streams_) {
    auto server = weak.lock();
    if (!server) continue;
    bool was_open = !server->closed_;
    server->abandon();
    if (!was_open || !announce) continue;
    outside_.at(arrival(server->client_->last_arrival_),
                [client = server->client_] { client->end(); });
  }
  for (auto& [where, all] : listening_) {
    std::erase_if(all, [&](const auto& l) { return l.network == &network; });
  }
}

// ---- ports::Network ----

class SimNetwork::SimListener final : public ports::Listener {
 public:
  SimListener(ClientNetwork& clients, ClientNetwork::Where where, Accept accept)
      : clients_(clients), where_(std::move(where)), accept_(std::move(accept)) {}
  ~SimListener() override {
    std::erase_if(clients_.listening_[where_],
                  [this](const auto& l) { return l.accept == &accept_; });
  }
  std::uint16_t port() const override { return where_.second; }
  Accept& accept() { return accept_; }

 private:
  ClientNetwork& clients_;
  ClientNetwork::Where where_;
  Accept accept_;
};

SimNetwork::~SimNetwork() {
  if (!ended_) clients_.process_ended(*this, false);
  for (auto& weak : streams_) {
    if (auto stream = weak.lock()) stream->release_handler();
  }
}

Result<std::unique_ptr<ports::Listener>> SimNetwork::listen(const std::string& address,
                                                            std::uint16_t port, bool,
                                                            Accept accept) {
  if (ended_) return fail(ErrorCode::io_error, "the process has ended");
  ClientNetwork::Where where{address, port};
  auto listener = std::make_unique<SimListener>(clients_, where, std::move(accept));
  clients_.listening_[where].push_back({this, &listener->accept(), ++clients_.order_});
  clients_.moved(address, node_);
  return listener;
}

}  // namespace duet::simulator
