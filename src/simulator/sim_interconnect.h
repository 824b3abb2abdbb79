// The cluster interconnect, simulated below the connection manager that ships: connections between
// the two nodes that are slow, cut (both ways or one way) and lost; RDMA reads of the state
// structure, torn or stale by order; frames in order and at most once per connection.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "interconnect/connection_manager.h"
#include "interconnect/state_structure.h"
#include "ports/interconnect.h"
#include "simulator/sabotage.h"
#include "simulator/sim_scheduler.h"

namespace duet::simulator {

class SimInterconnect;
class SimMirror;

// The cables between the nodes, and who is at their ends.
class Interconnects {
 public:
  Interconnects(Process& outside, Random& random, const Sabotage& sabotage)
      : outside_(outside), random_(random), sabotage_(sabotage) {}

  // RDMA by hardware reaches the memory of a stopped process, RDMA in software does not.
  bool hardware = false;

  struct Faults {
    Duration latency_min = std::chrono::microseconds(10);
    Duration latency_max = std::chrono::microseconds(60);
    unsigned torn_reads_per_1000 = 0, stale_reads_per_1000 = 0;
    unsigned lost_completions_per_10000 = 0;  // of mirror writes
    unsigned late_writes_per_10000 = 0;       // a mirror write is seconds on its way
    unsigned reordered_per_1000 = 0, duplicated_per_1000 = 0;  // of messages
  };
  Faults faults;
  // Told when a write of the partner changes the NVRAM of `node` although its window is closed.
  std::function<void(NodeId node)> on_stray_write;
  // The next write into the partner's NVRAM, and all behind it, is on its way until released.
  void hold_next_write(NodeId from) { hold_next_[from.value()] = true; }
  void release_writes(NodeId from);
  std::function<void(NodeId from)> on_write_held;
  // What `from` sends does not arrive until then.
  void cut(NodeId from, Instant until);
  void heal();
  bool cut(NodeId from) const { return outside_.now() < cut_until_[from.value()]; }

  // Runs `task` in `process` when what `from` sent has arrived. `last` keeps one connection and
  // direction in order.
  void carry(NodeId from, Process& process, Instant& last, ports::Task task,
             Duration extra = Duration(0));

  // Whose processes are there; null: none.
  SimInterconnect* control(NodeId node) const { return control_[node.value()]; }
  SimMirror* mirror(NodeId node) const { return mirror_[node.value()]; }
  bool powered(NodeId node) const { return powered_[node.value()]; }
  void set_powered(NodeId node, bool on) { powered_[node.value()] = on; }

  Process& outside() { return outside_; }
  Random& random() { return random_; }
  const Sabotage& sabotage() const { return sabotage_; }

 private:
  friend class SimInterconnect;
  friend class SimMirror;
  void arrive(NodeId from, Process& process, ports::Task task);
  bool take_hold(NodeId from);
  Process& outside_;
  Random& random_;
  const Sabotage& sabotage_;
  std::array<Instant, 3> cut_until_{};
  std::array<bool, 3> hold_next_{};
  std::array<std::vector<ports::Task>, 3> held_;  // what lets held writes go
  std::array<SimInterconnect*, 3> control_{};
  std::array<SimMirror*, 3> mirror_{};
  std::array<bool, 3> powered_{};
};

class SimInterconnect final : public ports::Interconnect {
 public:
  static constexpr Duration operation_timeout = milliseconds(500);
  static constexpr std::size_t slots = 32;

  SimInterconnect(Interconnects& cables, Process& process, ClusterId cluster, NodeId self,
                  BootNonce nonce);
  ~SimInterconnect() override;
  void start();
  // Its process ends. `announce`: a kernel is left that says so.
  void end(bool announce);
  Bytes published() const { return state_; }
  // Until then the partner reads our state as it is now.
  void freeze_state(Instant until) {
    frozen_state_ = state_;
    frozen_until_ = until;
  }

  ports::LinkState state() const override { return manager_.state(); }
  void on_state(std::function<void(ports::LinkState, const std::string&)> callback) override {
    on_state_ = std::move(callback);
  }
  void announce_clients(std::vector<ports::ConnectionClient> clients) override;
  void on_partner(std::function<void(const ports::Partner&)> callback) override {
    on_partner_ = std::move(callback);
  }
  void read_partner_state(ports::Done<std::vector<std::byte>> done) override;
  void send(std::vector<std::byte> message, ports::Done<void> done) override;
  void on_message(std::function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void publish_state(Bytes structure) override;
  void restart(BootNonce nonce) override;
  // Faults: a message of another time arrives.
  void deliver_again(Bytes message) {
    if (on_message_) on_message_(message);
  }
  std::vector<std::vector<std::byte>> delivered;  // the last ones

 private:
  struct Connection {
    SimInterconnect* dialer;    // null: gone
    SimInterconnect* acceptor;  // null: gone
    NodeId dialer_node, acceptor_node;
    bool open_at_dialer = true, open_at_acceptor = true;
    Instant last_there{}, last_back{};
  };
  using Shared = std::shared_ptr<Connection>;
  struct Operation {
    std::uint64_t id;
    ports::Done<std::vector<std::byte>> done;
    ports::TimerId limit;
  };

  void handle(interconnect::Event event);
  void perform(interconnect::Dial& action);
  void perform(interconnect::ReadState& action);
  void perform(interconnect::WriteGreeting& action);
  void perform(interconnect::SendFrame& action);
  void perform(interconnect::CloseOutgoing& action);
  void perform(interconnect::CloseIncoming& action);
  void perform(interconnect::SetTimer& action);
  void perform(interconnect::ReportState& action);
  void perform(interconnect::ReportPartner& action);
  void perform(interconnect::Deliver& action);

  void accept(const Shared& connection, interconnect::Peer peer, interconnect::Session session);
  void lose_outgoing(const Shared& connection, const std::string& why);
  void lose_incoming(const Shared& connection);
  void close_outgoing();
  void close_incoming();
  // Something to be done at the partner's memory, and what to do with the answer here.
  using There = std::move_only_function<std::vector<std::byte>(SimInterconnect&)>;
  void operate(There there, bool needs_process, ports::Done<std::vector<std::byte>> done);
  void complete(std::uint64_t id, Result<std::vector<std::byte>> result);
  std::vector<std::byte> read_here();
  Result<std::vector<std::byte>> as_if_alive(Result<std::vector<std::byte>> bytes);
  SimInterconnect* partner() const { return cables_.control(partner_of(self_)); }

  Interconnects& cables_;
  Process& process_;
  ClusterId cluster_;
  NodeId self_;
  BootNonce nonce_;
  interconnect::ConnectionManager manager_;
  bool ended_ = false;
  std::uint64_t dials_ = 0;
  Shared outgoing_, incoming_;
  std::vector<std::weak_ptr<Connection>> connections_;
  std::vector<Operation> operations_;  // under way on outgoing_
  std::uint64_t last_operation_ = 0;
  ports::TimerId timer_;
  std::array<std::byte, interconnect::state_structure_size> state_{};
  std::deque<std::array<std::byte, interconnect::state_structure_size>> earlier_states_;
  std::array<std::byte, interconnect::state_structure_size> frozen_state_{};
  Instant frozen_until_{};
  interconnect::GreetingBytes greeting_{};
  std::optional<interconnect::StateStructure> waiting_partner_;  // sabotage: giveback_progress
  std::deque<interconnect::Event> events_;
  bool handling_ = false;
  std::function<void(ports::LinkState, const std::string&)> on_state_;
  std::function<void(const ports::Partner&)> on_partner_;
  std::function<void(Bytes)> on_message_;
};

}  // namespace duet::simulator
