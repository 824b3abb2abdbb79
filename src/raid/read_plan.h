// From the blocks that are asked for to disk reads. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "raid/array.h"

namespace duet::raid {

inline constexpr std::size_t max_disk_read_blocks = 256;  // 1 MiB

// blocks[first, first + count): neighbours on their disk.
struct ReadRun {
  std::size_t first = 0;
  std::size_t count = 0;
};
std::vector<ReadRun> plan_reads(std::span<const BlockRead> blocks);

}  // namespace duet::raid
