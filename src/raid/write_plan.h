// From a batch of blocks to stripes, and from stripes to as few disk writes as possible. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "raid/array.h"
#include "raid/group_map.h"

namespace duet::raid {

inline constexpr std::size_t max_disk_write_blocks = 256;  // 1 MiB

// What a batch writes of one stripe.
struct StripeWrite {
  StripeKey key = 0;
  ColumnMask written = 0;
  std::vector<Slice> columns;  // by column, parity included; empty: not written
};

// In ascending order. Error: invalid (an address outside the pool's data, a block of another size,
// or one that is given twice).
Result<std::vector<StripeWrite>> plan_writes(const Layout& layout,
                                             const std::vector<Columns>& groups,
                                             std::vector<BlockWrite> blocks);

// Neighbouring blocks of one column.
struct ColumnWrite {
  std::uint32_t column = 0;
  std::uint64_t block = 0;
  std::vector<Slice> data;
};
// Requires: stripes of one group in ascending order. Columns in `skip` are left out.
std::vector<ColumnWrite> merge_writes(std::span<const StripeWrite> stripes, ColumnMask skip);

}  // namespace duet::raid
