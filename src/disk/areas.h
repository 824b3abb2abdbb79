// Where everything lies on a Duet disk (docs/formats/disk_label.md): byte offsets and sizes, all
// multiples of 4 KiB, the same on every disk whatever its role.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace duet::disk {

inline constexpr std::uint32_t area_block_size = 4096;

struct Area {
  std::uint64_t offset = 0;  // bytes
  std::uint64_t size = 0;    // bytes
  constexpr std::uint64_t end() const { return offset + size; }
  constexpr bool operator==(const Area&) const = default;
};

constexpr Area blocks(std::uint64_t first, std::uint64_t count) {
  return {first * area_block_size, count * area_block_size};
}

inline constexpr int label_copies = 2;
inline constexpr Area label_area = blocks(0, label_copies);
inline constexpr Area mailbox_area = blocks(8, 8);
inline constexpr int mailbox_copies = 2;
inline constexpr Area coredump_header_area = blocks(16, 16);
inline constexpr std::uint64_t data_offset = 1024 * 1024;

// Each copy is one block, so that a torn write damages one copy only.
constexpr Area label_copy(int copy) {
  return blocks(static_cast<std::uint64_t>(copy), 1);
}
constexpr Area mailbox_copy(int copy) {
  return blocks(8 + static_cast<std::uint64_t>(copy), 1);
}
// Heartbeat of the node that serves the identity of this disk; mailbox disks only.
inline constexpr Area heartbeat_block = blocks(10, 1);

// One block of data is the least a disk can be good for.
inline constexpr std::uint64_t min_disk_size = data_offset + area_block_size;
// Larger than any disk for decades; keeps sums of offsets far from overflow.
inline constexpr std::uint64_t max_disk_size = std::uint64_t{1} << 56;

// A disk of `size` bytes as we use it: the end that does not fill a block is left alone.
constexpr std::uint64_t usable_size(std::uint64_t size) {
  return size & ~std::uint64_t{4095};
}

// Data of a disk of `size` bytes: from data_offset to the end. Error: invalid (too small or too
// large).
inline Result<Area> data_area(std::uint64_t size) {
  if (size < min_disk_size || size > max_disk_size) {
    return fail(ErrorCode::invalid, "a disk of " + std::to_string(size) +
                                        " bytes cannot be used: it needs at least " +
                                        std::to_string(min_disk_size));
  }
  return Area{data_offset, usable_size(size) - data_offset};
}

}  // namespace duet::disk
