// What the answer to a SCSI command means for the operation behind it: the one table that maps SCSI
// status and sense (SAM-5 5.3, SPC-4 4.5) to the errors of ports/disk.h.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "ports/disk.h"

namespace duet::initiator {

// Status and sense as the disk sent them.
struct ScsiStatus {
  std::uint8_t status = 0;  // SAM-5 table 33
  std::uint8_t response =
      0;                   // sense response code 70h..73h with CHECK CONDITION; 71h, 73h: deferred
  std::uint8_t key = 0;    // sense key
  std::uint16_t code = 0;  // additional sense code and qualifier: ASC << 8 | ASCQ
};

enum class CommandKind : std::uint8_t {
  transfer,      // READ, WRITE, SYNCHRONIZE CACHE
  inquire,       // TEST UNIT READY, INQUIRY, READ CAPACITY, MODE SENSE, REPORT LUNS, PR IN
  register_key,  // PR OUT REGISTER AND IGNORE, RELEASE: the same whatever happened before
  reserve,       // PR OUT RESERVE, PREEMPT
};

struct Verdict {
  enum class Action : std::uint8_t {
    succeed,
    repeat_now,    // not executed; nothing to wait for
    repeat_later,  // not executed; the disk is busy or not ready. `error` when patience ends
    fail,          // with `error`
  };
  Action action = Action::succeed;
  ErrorCode error = ErrorCode::io_error;
  std::optional<ports::Attention> attention;  // to be reported
  bool operator==(const Verdict&) const = default;
};

Verdict judge(const ScsiStatus& status, CommandKind kind);

}  // namespace duet::initiator
