// The memory that supervisor and engine of a node share: what must be seen without a message,
// because a message may wait behind others and a paused process reads none.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/ids.h"
#include "base/time.h"

namespace duet::ports {

struct SharedState {
  // Replies to clients of identity [n] may leave while now < this (nanoseconds of BootTime).
  // Written by the supervisor. 0: none.
  std::array<std::atomic<std::int64_t>, 3> lease_until;
  // Grows while the engine's loop turns. Written by the engine.
  std::atomic<std::uint64_t> engine_progress;
  // Of the log of the node's own identity: the last record, and the last one in a consistency
  // point. Written by the engine, for whoever looks into its memory after a panic.
  std::atomic<std::uint64_t> log_written, log_freed;

  bool lease_valid(NodeId identity, Instant now) const {
    return now.time_since_epoch().count() <
           lease_until[identity.value()].load(std::memory_order_acquire);
  }
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

}  // namespace duet::ports
