// The content of one 4 KiB block of a verifying load: who wrote it, where, the how manieth time,
// and a CRC32C over all of it. Every byte follows from the stamp, so a block is either exactly
// right or wrong.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace duet::load {

inline constexpr std::size_t block_size = 4096;

struct Stamp {
  std::uint64_t run = 0;  // random for each run: yesterday's data is not today's
  std::uint32_t lun = 0;
  std::uint64_t block = 0;
  std::uint64_t sequence = 0;
  bool operator==(const Stamp&) const = default;
};

// Requires: `block` has block_size bytes.
void fill(MutableBytes block, const Stamp& stamp);
bool holds(Bytes block, const Stamp& stamp);
// What a block holds, for people: "sequence 17 of block 4 of LUN 0", "zeroes", "torn or foreign
// bytes".
std::string describe(Bytes block);

}  // namespace duet::load
