// One run: a world from a seed, brought up, loaded, hurt, healed, and judged.
//
//   bring-up -> safety (load and faults) -> liveness (no faults: every identity is served within a
//   bound) -> verification of everything that clients ever wrote
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "simulator/faults.h"
#include "simulator/world.h"

namespace duet::simulator {

struct RunOptions {
  std::uint64_t seed = 1;
  Sabotage sabotage;
  bool print_trace = false;
  std::optional<Duration> length;  // of the safety phase; else by the seed
  std::set<Fault> without;         // kinds that do not happen
  std::set<std::size_t> left_out;  // events that do not happen, by index in the plan
};

struct RunResult {
  std::optional<Violation> violation;
  Duration violated_after{};  // since the first fault could happen
  std::uint64_t hash = 0;
  std::uint64_t steps = 0;
  Duration simulated{};
  std::uint64_t cores = 0;  // core files that were compared with what was dumped
  std::uint64_t takeovers = 0;
  std::uint64_t operations = 0;  // of clients
  std::uint64_t faults = 0;
  FaultPlan plan;
  std::vector<std::string> last_lines;
};

inline constexpr Duration bring_up_limit = seconds(60);
// From the end of all faults until every client is served.
inline constexpr Duration liveness_limit = seconds(60);
inline constexpr Duration verify_limit = seconds(120);

RunResult run(const RunOptions& options);
// What is to happen in that run.
FaultPlan plan_of(const RunOptions& options);

}  // namespace duet::simulator
