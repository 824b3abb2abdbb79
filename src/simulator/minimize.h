// Shortens a failing run: fewer kinds of faults, fewer faults, an earlier end, for as long as it
// violates the same invariant.
#pragma once

#include <functional>
#include <string>

#include "simulator/run.h"

namespace duet::simulator {

// The invariant that a run violates; empty: none.
using Attempt = std::function<std::string(const RunOptions&)>;

struct Minimized {
  RunOptions options;
  std::size_t events = 0;  // that are left
  unsigned runs = 0;
};
// Requires: attempt(options) == invariant. `plan` is that of `options`, `violated_after` the time
// from the first fault to the violation.
Minimized minimize(RunOptions options, const FaultPlan& plan, Duration violated_after,
                   const std::string& invariant, const Attempt& attempt);

// How `duet-sim` is called for this run.
std::string command_line(const RunOptions& options);

}  // namespace duet::simulator
