// The memory of an engine that panicked and stands still, as its supervisor dumps it: comes out as
// the blocks of a raw dump (docs/formats/coredump.md), in the order in which they are written.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "ports/scheduler.h"

namespace duet::ports {

class CoreSource {
 public:
  // What the dump says of itself, and how much of the disk it may use.
  struct Dump {
    NodeId node;
    Epoch epoch;
    BootNonce boot_nonce;
    LogSequence log_written, log_freed;
    std::uint64_t wall_time = 0;  // seconds since 1970
    std::string version;
    std::string reason;
    bool cache = false;      // with memory that is marked MADV_DONTDUMP
    std::uint64_t room = 0;  // bytes
  };
  struct Piece {
    Slice blocks;                 // right behind those of the piece before
    std::uint64_t core_done = 0;  // bytes of core up to here
    std::uint64_t core_total = 0;
    bool last = false;  // the end chunk
  };

  virtual ~CoreSource() = default;
  // Stops the threads of the process, once; one that hangs in the kernel is left alone. Ends within
  // seconds. Errors: not_found (it has ended), io_error (it cannot be traced).
  virtual void stop(Done<void> done) = 0;
  // Begins a dump. Once, after stop().
  virtual void begin(Dump dump) = 0;
  // One at a time, until the last one. Errors: no_space (the room is used up; what came before is a
  // truncated core), not_found (the process has ended).
  virtual void next(Done<Piece> done) = 0;
};

}  // namespace duet::ports
