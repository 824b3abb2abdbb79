// What an acknowledgement of a node rests on, and the mark in the mailbox that says so.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/ids.h"

namespace duet::nvlog {

// Values are stored in the mailbox.
enum class Durability : std::uint8_t {
  mirrored = 1,  // the log is in both nodes' NVRAM
  local = 2,     // only in the owner's NVRAM, which is persistent: the partner must not take over
  write_through = 3,  // in a consistency point on disk: a takeover needs no log
};
std::string_view name(Durability mode);

// The mailbox says: acknowledgements of `epoch` rest on `mode`. `sequence`: mirrored: the partner's
// copy is complete through it; local and write_through: nothing after it need be at the partner.
struct Mark {
  Durability mode = Durability::write_through;
  Epoch epoch;
  LogSequence sequence;
  bool operator==(const Mark&) const = default;
};

}  // namespace duet::nvlog
