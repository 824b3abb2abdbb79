// A seeded random source (splitmix64): equal seeds, equal runs.
#pragma once

#include <cstdint>

#include "base/assert.h"

namespace duet::simulation {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // 0 .. bound - 1. Requires: bound > 0.
  std::uint64_t below(std::uint64_t bound) {
    ASSERT(bound > 0);
    return next() % bound;
  }
  bool chance(std::uint64_t numerator, std::uint64_t denominator) {
    return below(denominator) < numerator;
  }

 private:
  std::uint64_t state_;
};

}  // namespace duet::simulation
