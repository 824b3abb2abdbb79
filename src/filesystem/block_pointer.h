// Reference to a block of the pool: where it is, in which consistency point it was written, and its
// checksum. Format: docs/formats/pool.md, "Block pointer".
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "raid/address.h"

namespace duet::filesystem {

using raid::BlockAddress;
inline constexpr std::uint32_t block_size = raid::block_size;  // bytes

// Number of a consistency point, 1, 2, 3, ... of a pool: the generation of its superblock.
using Generation = std::uint64_t;
inline constexpr Generation generation_limit = std::uint64_t{1} << 48;

struct BlockPointer {
  BlockAddress address;
  Generation birth = 0;  // 0: a hole, reads as zeros
  std::uint32_t crc = 0;

  bool hole() const { return birth == 0; }
  bool operator==(const BlockPointer&) const = default;
};

inline constexpr std::size_t pointer_size = 16;  // bytes
inline constexpr std::uint64_t pointers_per_block = block_size / pointer_size;

inline void store_pointer(std::byte* to, const BlockPointer& p) {
  store_le<std::uint64_t>(to, p.address.value | (p.birth & 0xffff) << 48);
  store_le<std::uint64_t>(to + 8, p.birth >> 16 | std::uint64_t{p.crc} << 32);
}
inline BlockPointer load_pointer(const std::byte* from) {
  const auto w0 = load_le<std::uint64_t>(from);
  const auto w1 = load_le<std::uint64_t>(from + 8);
  return {BlockAddress(w0 & ((std::uint64_t{1} << 48) - 1)), (w0 >> 48) | (w1 & 0xffffffff) << 16,
          static_cast<std::uint32_t>(w1 >> 32)};
}

}  // namespace duet::filesystem
