#include "nvlog/control_block.h"

#include <algorithm>

#include "base/crc32c.h"

namespace duet::nvlog {
namespace {
constexpr std::uint64_t magic = 0x4243564e54455544;  // "DUETNVCB"
constexpr std::uint32_t version = 1;
constexpr std::size_t crc_at = control_block_size - 4;
}  // namespace

std::array<std::byte, control_block_size> encode(const ControlBlock& block) {
  std::array<std::byte, control_block_size> out{};
  store_le(&out[0], magic);
  store_le(&out[8], version);
  store_le(&out[12], block.identity.value());
  store_le(&out[16], block.generation);
  store_le(&out[24], block.epoch.value());
  auto tail = encode(block.tail);
  std::memcpy(&out[32], tail.data(), tail.size());
  store_le(&out[64], block.acknowledged.value());
  store_le(&out[crc_at], crc32c(Bytes(out).first(crc_at)));
  return out;
}

Result<ControlBlock> decode_control_block(Bytes bytes) {
  if (bytes.size() < control_block_size || load_le<std::uint64_t>(&bytes[0]) != magic ||
      load_le<std::uint32_t>(&bytes[crc_at]) != crc32c(bytes.first(crc_at)))
    return fail(ErrorCode::invalid, "log control block: not valid");
  if (load_le<std::uint32_t>(&bytes[8]) != version)
    return fail(ErrorCode::unsupported_version, "log control block: unknown version");
  auto tail = decode_position(bytes.subspan(32, position_size));
  if (!tail) return std::unexpected(tail.error());
  return ControlBlock{NodeId(load_le<std::uint8_t>(&bytes[12])), load_le<std::uint64_t>(&bytes[16]),
                      Epoch(load_le<std::uint64_t>(&bytes[24])), *tail,
                      LogSequence(load_le<std::uint64_t>(&bytes[64]))};
}

ControlBlock read_control_block(Bytes region, const RegionLayout& layout, NodeId identity) {
  ControlBlock best;
  best.identity = identity;
  bool found = false;
  for (unsigned copy = 0; copy < 2; ++copy) {
    Extent at = layout.control_block(identity, copy);
    auto block = decode_control_block(region.subspan(at.offset, at.length));
    if (!block || block->identity != identity) continue;
    if (!found || block->generation > best.generation) best = *block;
    found = true;
  }
  return best;
}

void duplicate_control_block(ports::Nvram& nvram, const RegionLayout& layout, NodeId identity) {
  auto bytes = encode(read_control_block(nvram.region(), layout, identity));
  for (unsigned copy = 0; copy < 2; ++copy) {
    MutableBytes at =
        nvram.region().subspan(layout.control_block(identity, copy).offset, bytes.size());
    if (!std::ranges::equal(at, bytes)) nvram.copy(at, bytes);
  }
}

}  // namespace duet::nvlog
