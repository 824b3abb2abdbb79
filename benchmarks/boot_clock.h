// The clock of all programs here: CLOCK_BOOTTIME, the one events of the nodes carry.
#pragma once

#include <time.h>

#include <cstdint>

#include "base/time.h"

namespace duet::load {

inline Instant now() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return Instant(Duration(std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec));
}
inline std::int64_t ns(Instant t) {
  return t.time_since_epoch().count();
}
inline double ms(Duration d) {
  return static_cast<double>(d.count()) / 1e6;
}

}  // namespace duet::load
