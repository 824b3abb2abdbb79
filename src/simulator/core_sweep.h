// At the end of a run: reads all core files as `duet core` does, and compares them with the memory
// that was dumped (C8 of docs/protocols/coredump.md). What was said to be saved must be there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "admin/control.h"
#include "simulator/checkers_dump.h"
#include "simulator/world.h"

namespace duet::simulator {

class CoreSweep {
 public:
  static constexpr Duration retry_delay = milliseconds(500);

  // Both outlive us.
  CoreSweep(World& world, const DumpCheckers& dumps) : world_(world), dumps_(dumps) {}
  ~CoreSweep() { *alive_ = false; }

  void start();
  // What was found to be wrong is violated by then.
  bool over() const { return open_.empty(); }
  std::uint64_t compared() const { return compared_; }  // core files

 private:
  using Use = std::function<void(const admin::CoreReply&)>;
  void ask(NodeId identity, admin::CoreOrder order, Use use);
  void list(NodeId identity);
  void next(NodeId identity);
  void read(NodeId identity);
  void compare(NodeId identity);
  void violate(NodeId identity, const std::string& what);

  World& world_;
  const DumpCheckers& dumps_;
  std::set<NodeId> open_;
  struct Sweep {
    std::set<std::string> expected;
    std::vector<admin::CoreItem> cores;  // still to be read; the last one first
    std::vector<std::byte> bytes;        // of that
  };
  std::array<Sweep, 3> sweeps_;
  std::uint64_t compared_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
