// Instants of a clock that only grows and counts suspended time too (CLOCK_BOOTTIME on Linux), so
// that a paused node notices. There is no now() here: who needs the time is handed it.
#pragma once

#include <chrono>

namespace duet {

struct BootTime {
  using rep = std::int64_t;
  using period = std::nano;
  using duration = std::chrono::nanoseconds;
  using time_point = std::chrono::time_point<BootTime, duration>;
  static constexpr bool is_steady = true;
};

using Instant = BootTime::time_point;
using Duration = std::chrono::nanoseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

}  // namespace duet
