// A place in the log of an identity: right after record `sequence`. The pool's superblock holds the
// one its consistency point reaches to. Format: docs/formats/nvlog.md, "Log position".
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet::nvlog {

inline constexpr std::uint64_t record_alignment = 64;
inline constexpr std::uint64_t sequence_limit = std::uint64_t{1} << 48;  // of foreign positions
inline constexpr std::uint64_t lap_limit = std::uint64_t{1} << 40;

struct LogPosition {
  Epoch epoch;               // of the last record before this place; 0: none
  LogSequence sequence;      // of the last record before this place; 0: none
  std::uint64_t offset = 0;  // in the ring, of the next record; multiple of 64
  std::uint64_t lap = 0;
  bool operator==(const LogPosition&) const = default;
};

inline constexpr std::size_t position_size = 32;
std::array<std::byte, position_size> encode(const LogPosition& position);
// Error: invalid (misaligned offset, a value beyond its limit, or not position_size bytes).
Result<LogPosition> decode_position(Bytes bytes);

}  // namespace duet::nvlog
