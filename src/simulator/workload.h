// The clients of a world, its LUNs, and what they saw: one history per identity.
//   prepare, until prepared(); start; ...; stop, until quiet(); sweep, until quiet(); judge.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "simulator/client.h"
#include "simulator/history.h"
#include "simulator/reservation_model.h"
#include "simulator/world.h"

namespace duet::simulator {

struct WorkloadOptions {
  unsigned clients = 2;  // per identity
  unsigned luns = 2;     // per identity; clients reserve the last one
  std::uint64_t lun_size = 512u << 10;
  Duration pause = milliseconds(400);  // mean, between two commands of a slot
  unsigned depth_max = 8;              // commands that a client keeps under way: 1 .. this
  bool reservations = true;
};

class Workload {
 public:
  Workload(World& world, WorkloadOptions options);
  ~Workload();

  // Creates the LUNs, wherever their identity is served, until they are there.
  void prepare();
  bool prepared() const;
  void start();
  void stop();
  void sweep();
  bool quiet() const;
  // The histories to their ends.
  void judge();

  // I18: every client got its answers since then, and waits for nothing. Empty: so it is.
  std::string unserved_since(Instant since) const;
  // A write was answered GOOD. For checkers.
  std::function<void(const BlockRange&, Stamp)> on_acknowledged;
  std::vector<const Client*> clients() const;
  History& history(NodeId identity) { return *sides_[identity.value()].history; }
  Client::Counters totals() const;
  std::uint64_t operations() const;
  std::uint64_t undecided_blocks() const;

 private:
  struct Side {
    std::unique_ptr<History> history;
    std::vector<std::unique_ptr<SharedLun>> luns;
    std::vector<std::unique_ptr<Client>> clients;
  };
  void create_next(NodeId identity);
  void violate(NodeId identity, std::string_view invariant, std::string what);

  World& world_;
  WorkloadOptions options_;
  Random random_;
  std::array<Side, 3> sides_;
  bool sweeping_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
