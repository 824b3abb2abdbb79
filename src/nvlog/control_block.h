// The control block of a ring: up to which epoch the ring holds the whole log, and hints. Two
// copies, written in turn, so that a torn write leaves the one before (docs/formats/nvlog.md,
// "Control block").
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "nvlog/position.h"
#include "nvlog/region.h"

namespace duet::nvlog {

inline constexpr std::size_t control_block_size = 128;

struct ControlBlock {
  NodeId identity;
  std::uint64_t generation = 0;
  Epoch epoch;               // the ring holds the whole log as of this epoch's start, and goes on
  LogPosition tail;          // hint: what lies before it has been freed
  LogSequence acknowledged;  // records through this one had been acknowledged
  bool operator==(const ControlBlock&) const = default;
};

std::array<std::byte, control_block_size> encode(const ControlBlock& block);
// Errors: invalid, unsupported_version.
Result<ControlBlock> decode_control_block(Bytes bytes);

// The newest valid copy in a region. With none, a block of epoch 0: a ring that holds nothing.
ControlBlock read_control_block(Bytes region, const RegionLayout& layout, NodeId identity);

// Writes the newest copy over the other one. To be called before the partner's window is opened:
// the partner's copies have other generations, and its first torn write must not take away the
// newest.
void duplicate_control_block(ports::Nvram& nvram, const RegionLayout& layout, NodeId identity);

}  // namespace duet::nvlog
