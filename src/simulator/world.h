// The simulated world: two nodes that run the code that ships, their shelves, NVRAM, interconnect
// and clients, under one clock, one thread and one seed.
//
// Checkers look in from the outside: they see the media, the NVRAM and the nodes after each step,
// and report what they find through violate().
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "node/config.h"
#include "simulator/sabotage.h"
#include "simulator/sim_network.h"
#include "simulator/sim_scheduler.h"

namespace duet::simulator {

// What a failed assertion throws inside of a simulated process. Elsewhere it aborts as ever.
struct SimulatedPanic {
  std::string what;
};
class InNodeProcess {
 public:
  InNodeProcess() { ++depth; }
  ~InNodeProcess() { --depth; }
  InNodeProcess(const InNodeProcess&) = delete;
  InNodeProcess& operator=(const InNodeProcess&) = delete;
  static inline int depth = 0;
};

class SimNode;        // sim_node.h
class SimUnit;        // sim_disk.h: a disk of a shelf
class Interconnects;  // sim_interconnect.h: the cables between the nodes

inline constexpr std::size_t disks_per_shelf = 3;  // of the pool, which also bear the mailbox
// Behind them come the coredump disks, if there are any.
inline constexpr bool is_dump_disk(std::size_t index) {
  return index >= disks_per_shelf;
}

struct WorldOptions {
  std::uint64_t seed = 1;
  Sabotage sabotage;         // which safeguard is left out
  bool print_trace = false;  // every line, as it comes
};

// What a seed makes of the world before anything happens in it.
struct Shape {
  bool persistent_nvram = true;
  bool hardware_rdma = false;  // reaches the memory of a stopped process
  bool write_cache = false;    // of the disks
  bool auto_giveback = false;
  bool managed_addresses = false;  // by the nodes; else they are local on both
  std::size_t dump_disks = 0;      // on each shelf: an engine that crashes is dumped to one
  Duration dump_limit{};
  std::uint64_t nvram_size = 0;
};
Shape shape_of(std::uint64_t seed);
inline std::size_t disks_of(const Shape& shape) {
  return disks_per_shelf + shape.dump_disks;
}

struct Violation {
  std::string invariant;  // "I13"
  std::string what;
  Instant when{};
};

class World {
 public:
  explicit World(WorldOptions options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // ---- time ----
  Instant now() const { return clock_.now(); }
  Clock& clock() { return clock_; }
  // For everything that is not a node: clients, operators, faults, checkers. Never stopped.
  Process& outside() { return *outside_; }
  // Of this world only. Clients and checkers make their own from it: Random(world.random().next()).
  Random& random() { return random_; }
  // Runs one event, and then after_step. False: nothing was due until `limit`; it is `limit` now.
  bool step(Instant limit);
  void run_for(Duration time);  // ends early when something is violated

  // ---- parts ----
  SimNode& node(NodeId node) { return *nodes_[node.value()]; }
  std::vector<std::unique_ptr<SimUnit>>& shelf(NodeId identity) {
    return shelves_[identity.value()];
  }
  ClientNetwork& clients() { return *clients_; }
  Interconnects& interconnects() { return *interconnects_; }
  // What node `self` was configured with; services[], timers and names are the same on both.
  const node::Config& config(NodeId self) const { return configs_[self.value()]; }
  const WorldOptions& options() const { return options_; }
  const Shape& shape() const { return shape_; }
  const Sabotage& sabotage() const { return options_.sabotage; }
  Sabotage& sabotage() { return options_.sabotage; }

  // ---- findings ----
  // The first one counts.
  void violate(std::string_view invariant, std::string what);
  // An assertion failed in a process of this node: a finding, whatever it was doing.
  void panicked(NodeId node, std::string_view process, const std::string& what);
  const Violation* violation() const { return violated_ ? &violation_ : nullptr; }
  // Why data or service of an identity may legitimately be missing (I1 allows it), e.g. "NVRAM of
  // both nodes lost". Empty: no excuse.
  std::string& excuse(NodeId identity) { return excuses_[identity.value()]; }
  // The operator gave up acknowledged writes of this identity, knowingly: from now on its data
  // proves nothing. All else holds.
  void forgive_loss(NodeId identity) { forgiven_[identity.value()] = true; }
  bool forgiven(NodeId identity) const { return forgiven_[identity.value()]; }
  bool excused(NodeId identity, std::string_view invariant) const;

  // A line of the trace: mixed into the hash, the last ones kept.
  void trace(std::string_view who, std::string_view text);
  std::vector<std::function<void(std::string_view who, std::string_view text)>> on_trace;
  std::vector<std::string> last_lines() const;
  static constexpr std::size_t kept_lines = 200;

  // Called after every step.
  std::vector<std::function<void()>> after_step;

 private:
  void make_configs();
  void make_shelf(NodeId owner);
  void format(NodeId owner);

  WorldOptions options_;
  Random random_;
  Shape shape_;
  Clock clock_;
  std::unique_ptr<Process> outside_;
  std::array<node::Config, 3> configs_;
  std::array<std::vector<std::unique_ptr<SimUnit>>, 3> shelves_;
  std::unique_ptr<ClientNetwork> clients_;
  std::unique_ptr<Interconnects> interconnects_;
  std::array<std::unique_ptr<SimNode>, 3> nodes_;
  bool violated_ = false;
  Violation violation_;
  std::array<std::string, 3> excuses_;
  std::array<bool, 3> forgiven_{};
  std::deque<std::string> lines_;
  Instant busy_at_{};
  std::uint64_t steps_at_ = 0;
};

}  // namespace duet::simulator
