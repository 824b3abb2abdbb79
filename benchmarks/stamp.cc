#include "stamp.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::load {
namespace {

// Layout, little-endian: 0 magic, 8 run, 16 block, 24 sequence, 32 LUN, 36 CRC32C of all 4096 bytes
// with this field zero, 40 filler.
constexpr std::uint64_t magic = 0x504d415453544544;  // "DETSTAMP"
constexpr std::size_t crc_offset = 36;
constexpr std::size_t filler_offset = 40;

std::uint32_t checksum(Bytes block) {
  constexpr std::array<std::byte, 4> zero{};
  auto crc = crc32c(block.first(crc_offset));
  crc = crc32c_extend(crc, zero);
  return crc32c_extend(crc, block.subspan(crc_offset + 4));
}

}  // namespace

void fill(MutableBytes block, const Stamp& stamp) {
  ASSERT(block.size() == block_size);
  std::byte* p = block.data();
  store_le(p, magic);
  store_le(p + 8, stamp.run);
  store_le(p + 16, stamp.block);
  store_le(p + 24, stamp.sequence);
  store_le(p + 32, stamp.lun);
  store_le(p + crc_offset, std::uint32_t{0});
  // splitmix64: different in every sector of every write.
  std::uint64_t state = stamp.run ^ (stamp.block << 20) ^ (stamp.sequence << 1) ^ stamp.lun;
  for (std::size_t at = filler_offset; at < block_size; at += 8) {
    state += 0x9e3779b97f4a7c15;
    std::uint64_t v = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
    v = (v ^ (v >> 27)) * 0x94d049bb133111eb;
    store_le(p + at, v ^ (v >> 31));
  }
  store_le(p + crc_offset, checksum(block));
}

bool holds(Bytes block, const Stamp& stamp) {
  std::array<std::byte, block_size> want;
  fill(want, stamp);
  return std::ranges::equal(block, want);
}

std::string describe(Bytes block) {
  ASSERT(block.size() == block_size);
  if (std::ranges::all_of(block, [](std::byte b) { return b == std::byte{0}; })) return "zeroes";
  const std::byte* p = block.data();
  if (load_le<std::uint64_t>(p) != magic ||
      load_le<std::uint32_t>(p + crc_offset) != checksum(block)) {
    return "torn or foreign bytes";
  }
  return fmt::format("sequence {} of block {} of LUN {} of run {:016x}",
                     load_le<std::uint64_t>(p + 24), load_le<std::uint64_t>(p + 16),
                     load_le<std::uint32_t>(p + 32), load_le<std::uint64_t>(p + 8));
}

}  // namespace duet::load
