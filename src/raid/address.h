// Where a block of 4 KiB lies: on which member of the pool, and which block of that disk's data
// area. A member keeps its number when a spare takes its place, so addresses stay as they are.
#pragma once

#include <compare>
#include <cstdint>

namespace duet::raid {

inline constexpr std::uint32_t block_size = 4096;   // bytes
inline constexpr std::uint32_t max_members = 1024;  // of a pool, parity included
inline constexpr std::uint64_t max_member_blocks = std::uint64_t{1} << 36;  // 256 TiB

// Bits 0..35: block on the disk; bits 36..47: member. 48 bits in all.
struct BlockAddress {
  std::uint64_t value = 0;

  constexpr BlockAddress() = default;
  constexpr explicit BlockAddress(std::uint64_t v) : value(v) {}
  constexpr BlockAddress(std::uint32_t member, std::uint64_t block)
      : value(std::uint64_t{member} << 36 | block) {}
  constexpr std::uint32_t member() const { return static_cast<std::uint32_t>(value >> 36); }
  constexpr std::uint64_t block() const { return value & (max_member_blocks - 1); }
  constexpr auto operator<=>(const BlockAddress&) const = default;
};

}  // namespace duet::raid
