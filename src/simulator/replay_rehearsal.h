// Replays a log on copies of the disks it is for, with the code that ships, and tells what the LUNs
// hold then. Nothing of the world changes, no time passes there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "nvlog/position.h"
#include "simulator/sim_disk.h"

namespace duet::simulator {

class ReplayRehearsal {
 public:
  static constexpr std::uint64_t cut_off_max = 12;  // writes to the disks

  struct Outcome {
    nvlog::LogPosition from, end;  // of what was replayed
    std::uint64_t digest = 0;      // of all LUNs, their names, contents and reservations
  };
  // `units`: all of the identity's shelf. `ring`: its log. Both as they are now.
  ReplayRehearsal(const std::vector<std::unique_ptr<SimUnit>>& units, Bytes ring, NodeId identity)
      : units_(units), ring_(ring), identity_(identity) {}

  // In whole; if `cut_off`, only after another one that got no further than so many writes to the
  // disks. Nothing: there is no pool to be read, or no log to be replayed.
  std::optional<Outcome> replay(std::optional<std::uint64_t> cut_off) const;

 private:
  const std::vector<std::unique_ptr<SimUnit>>& units_;
  Bytes ring_;
  NodeId identity_;
};

}  // namespace duet::simulator
