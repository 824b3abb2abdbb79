// The NVRAM region of a node: memory that survives the process and, when persistent(), power loss.
#pragma once

#include "base/bytes.h"

namespace duet::ports {

class Nvram {
 public:
  virtual ~Nvram() = default;
  // The whole region; the same bytes for as long as the object lives.
  virtual MutableBytes region() = 0;
  // Survives power loss. False for a region in ordinary memory (/dev/shm): then no acknowledgement
  // may rest on it alone.
  virtual bool persistent() const = 0;
  // Copies into the region; durable on return. `to` lies inside the region.
  virtual void copy(MutableBytes to, Bytes from) = 0;
  // Makes bytes of the region durable that were stored directly.
  virtual void persist(Bytes range) = 0;
};

}  // namespace duet::ports
