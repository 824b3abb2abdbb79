// Random lengths of time.
#pragma once

#include <cmath>

#include "base/time.h"
#include "simulation/random.h"

namespace duet::simulator {

// Between the two, and as likely to be short as long: each order of magnitude has the same chance.
inline Duration log_uniform(simulation::Random& random, Duration low, Duration high) {
  constexpr std::uint64_t steps = 1 << 20;
  double share = static_cast<double>(random.below(steps)) / steps;
  double ratio = static_cast<double>(high.count()) / static_cast<double>(low.count());
  return Duration(
      static_cast<std::int64_t>(static_cast<double>(low.count()) * std::pow(ratio, share)));
}

}  // namespace duet::simulator
