// The network between clients and nodes: connections in order and without loss, that are slow, cut
// or reset. Service addresses are held by whoever listened last (what gratuitous ARP does for real
// ones); connections of the owner before live on until they are reset or time out, as a stopped
// node's do.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "ports/stream.h"
#include "simulator/sim_scheduler.h"

namespace duet::simulator {

class ClientNetwork;
class ServerStream;

// A client's end of a connection.
class ClientStream : public std::enable_shared_from_this<ClientStream> {
 public:
  // The client. No call comes after close().
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void on_open() = 0;
    virtual void on_received(Bytes bytes) = 0;
    // Refused, reset, closed by the server, or nothing heard while connecting for connect_limit.
    virtual void on_closed() = 0;
  };

  ClientStream(ClientNetwork& network, std::string address, std::uint16_t port, Handler& handler);
  bool open() const { return state_ == State::open; }
  bool closed() const { return state_ == State::closed; }
  void send(std::vector<std::byte> bytes);
  void close();  // what the server has already got it may still execute
  // Who accepted the connection; no_node while connecting.
  NodeId server_node() const { return node_; }

 private:
  friend class ClientNetwork;
  friend class ServerStream;
  enum class State : std::uint8_t { connecting, open, closed };
  void end();

  ClientNetwork& network_;
  std::string address_;
  std::uint16_t port_;
  Handler* handler_;
  State state_ = State::connecting;
  NodeId node_;
  std::weak_ptr<ServerStream> peer_;
  Instant last_arrival_{};  // at the client: in order
};

// What an engine's network sees.
class SimNetwork;

class ClientNetwork {
 public:
  // `outside` runs the clients; it is never stopped.
  ClientNetwork(Process& outside, Random& random);
  ~ClientNetwork();

  // Never calls back from inside.
  std::shared_ptr<ClientStream> connect(const std::string& address, std::uint16_t port,
                                        ClientStream::Handler& handler);
  // Who gets new connections to this address now; no_node: nobody listens.
  NodeId owner(const std::string& address, std::uint16_t port) const;
  // Whether this node's engine listens there: it serves the identity of the address.
  bool listening(NodeId node, const std::string& address, std::uint16_t port) const;

  static constexpr Duration connect_limit = seconds(3);
  static constexpr Duration move_notice_max = milliseconds(1500);

  // For checkers: a server hands bytes to the network: what a client will see.
  struct ServerSend {
    NodeId node;
    const std::string& address;  // of the service
    std::size_t size;
  };
  std::function<void(const ServerSend&)> on_server_send;

  // Whether this machine has power: only then does its kernel answer for dead processes.
  void set_machine_up(NodeId node, bool up);
  bool machine_up(NodeId node) const { return machines_up_[node.value()]; }

  // ---- service addresses, where nodes manage them (sim_addresses.h) ----
  // Else an address is where somebody listens, and found by who listened last.
  void manage_addresses() { managed_ = true; }
  // The kernel of `node` has the address until then.
  void hold(const std::string& address, NodeId node, Instant until);
  bool held(const std::string& address, NodeId node) const;
  // Clients find it there, after `delay`.
  void announce(const std::string& address, NodeId node, Duration delay);
  // Whom clients take for its owner; no_node: nobody was ever announced.
  NodeId found_at(const std::string& address) const;
  // Clients with a connection to another machine find out that it does not exist here.
  void reset_strangers(const std::string& address, NodeId node);

  // ---- faults ----
  struct Faults {
    Duration latency_min = std::chrono::microseconds(50);
    Duration latency_max = std::chrono::microseconds(500);
    Instant cut_until{};  // nothing gets through; what was sent arrives afterwards
  };
  Faults faults;
  // Resets every connection (of `node` only, unless no_node), at both ends.
  void reset_all(NodeId node);
  // The machine `node` is off or its process died: `announce` = its kernel still sends resets.
  void process_ended(SimNetwork& network, bool announce);

 private:
  friend class ClientStream;
  friend class ServerStream;
  friend class SimNetwork;
  struct Listening {
    SimNetwork* network;
    ports::Network::Accept* accept;
    std::uint64_t order;
  };
  using Where = std::pair<std::string, std::uint16_t>;
  Duration latency();
  Instant arrival(Instant& last);
  const Listening* newest(const Where& where) const;
  void establish(const std::shared_ptr<ClientStream>& client);
  void moved(const std::string& address, NodeId to);
  bool reaches(ClientStream& client);
  const Listening* listener_of(NodeId node, const Where& where) const;

  Process& outside_;
  Random& random_;
  std::map<Where, std::vector<Listening>> listening_;
  struct Address {
    std::array<Instant, 3> held_until{};
    NodeId found_at;
  };
  bool managed_ = false;
  std::map<std::string, Address> addresses_;
  std::array<bool, 3> machines_up_{};
  std::uint64_t order_ = 0;
  std::uint32_t last_client_ = 0;
  std::vector<std::weak_ptr<ServerStream>> streams_;
};

// ports::Network of one engine process. `node`: on which machine.
class SimNetwork final : public ports::Network {
 public:
  SimNetwork(ClientNetwork& clients, Process& process, NodeId node)
      : clients_(clients), process_(process), node_(node) {}
  ~SimNetwork() override;

  Result<std::unique_ptr<ports::Listener>> listen(const std::string& address, std::uint16_t port,
                                                  bool foreign, Accept accept) override;

 private:
  friend class ClientNetwork;
  friend class ServerStream;
  friend class ClientStream;
  class SimListener;
  ClientNetwork& clients_;
  Process& process_;
  NodeId node_;
  bool ended_ = false;
  std::vector<std::weak_ptr<ServerStream>> streams_;
};

}  // namespace duet::simulator
