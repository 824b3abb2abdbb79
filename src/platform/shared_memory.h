// A shared mapping of ports::SharedState between the processes of a node.
#pragma once

#include "base/result.h"
#include "ports/shared_state.h"

namespace duet::platform {

using ports::SharedState;

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
