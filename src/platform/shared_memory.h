// The memory that supervisor and engine of a node share: what must be seen without a message,
// because a message may wait behind others and a paused process reads none.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace duet::platform {

struct SharedState {
  // Replies to clients of identity [n] may leave while now < this (nanoseconds of BootTime).
  // Written by the supervisor. 0: none.
  std::array<std::atomic<std::int64_t>, 3> lease_until;
  // Grows while the engine's loop turns. Written by the engine.
  std::atomic<std::uint64_t> engine_progress;

  bool lease_valid(NodeId identity, Instant now) const {
    return now.time_since_epoch().count() <
           lease_until[identity.value()].load(std::memory_order_acquire);
  }
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

// A mapping of the region behind a memfd.
class SharedMemory {
 public:
  static Result<SharedMemory> create();             // zeroed, a new memfd
  static Result<SharedMemory> map(int descriptor);  // owns the descriptor
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();
  SharedState& state() const { return *state_; }
  int descriptor() const { return descriptor_; }

 private:
  SharedMemory(int descriptor, SharedState* state) : descriptor_(descriptor), state_(state) {}
  int descriptor_ = -1;
  SharedState* state_ = nullptr;
};

}  // namespace duet::platform
