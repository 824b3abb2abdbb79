#include "nvlog/region.h"

#include <algorithm>

#include "base/crc32c.h"
#include "nvlog/control_block.h"

namespace duet::nvlog {
namespace {

constexpr std::uint64_t first_section = 2 * page;
constexpr std::uint64_t control_in_section = page;
constexpr std::uint64_t ring_in_section = 3 * page;
constexpr std::uint32_t version = 1;
constexpr std::uint64_t magic = 0x4d52564e54455544;  // "DUETNVRM"
constexpr std::size_t crc_at = region_header_size - 4;

}  // namespace

Result<RegionLayout> RegionLayout::of_size(std::uint64_t size) {
  constexpr std::uint64_t min_size = first_section + 2 * (ring_in_section + min_ring_size);
  if (size % page != 0)
    return fail(ErrorCode::invalid, "NVRAM region: size is not a multiple of 4096");
  if (size < min_size)
    return fail(ErrorCode::invalid,
                "NVRAM region: smaller than " + std::to_string(min_size) + " bytes");
  std::uint64_t section = (size - first_section) / 2;
  return RegionLayout(size, (section - ring_in_section) / page * page);
}

Extent RegionLayout::section(NodeId identity) const {
  ASSERT(identity.value() == 1 || identity.value() == 2);
  std::uint64_t length = ring_in_section + ring_size_;
  return {first_section + (identity.value() - 1u) * length, length};
}
Extent RegionLayout::both_sections() const {
  Extent one = section(NodeId(1));
  return {one.offset, 2 * one.length};
}
Extent RegionLayout::health_record(NodeId node) const {
  return {section(node).offset, page};
}
Extent RegionLayout::control_block(NodeId identity, unsigned copy) const {
  ASSERT(copy < 2);
  return {section(identity).offset + control_in_section + copy * page, control_block_size};
}
Extent RegionLayout::ring(NodeId identity) const {
  return {section(identity).offset + ring_in_section, ring_size_};
}

std::array<std::byte, region_header_size> encode(const RegionHeader& header) {
  auto layout = RegionLayout::of_size(header.region_size);
  ASSERT(layout.has_value());
  std::array<std::byte, region_header_size> out{};
  store_le(&out[0], magic);
  store_le(&out[8], version);
  store_le(&out[12], static_cast<std::uint32_t>(region_header_size));
  store_le(&out[16], header.cluster.value());
  store_le(&out[24], header.node.value());
  std::memcpy(&out[32], header.uuid.data(), header.uuid.size());
  store_le(&out[48], header.region_size);
  store_le(&out[56], layout->section(NodeId(1)).offset);
  store_le(&out[64], layout->section(NodeId(2)).offset);
  store_le(&out[72], ring_in_section);
  store_le(&out[80], layout->ring_size());
  store_le(&out[crc_at], crc32c(Bytes(out).first(crc_at)));
  return out;
}

Result<RegionHeader> decode_region_header(Bytes bytes) {
  if (bytes.size() < region_header_size || load_le<std::uint64_t>(&bytes[0]) != magic)
    return fail(ErrorCode::invalid, "NVRAM region: no header");
  if (load_le<std::uint32_t>(&bytes[crc_at]) != crc32c(bytes.first(crc_at)))
    return fail(ErrorCode::invalid, "NVRAM region: the header's checksum is wrong");
  if (load_le<std::uint32_t>(&bytes[8]) != version)
    return fail(ErrorCode::unsupported_version,
                "NVRAM region: version " + std::to_string(load_le<std::uint32_t>(&bytes[8])));
  RegionHeader header;
  header.cluster = ClusterId(load_le<std::uint64_t>(&bytes[16]));
  header.node = NodeId(load_le<std::uint8_t>(&bytes[24]));
  std::memcpy(header.uuid.data(), &bytes[32], header.uuid.size());
  header.region_size = load_le<std::uint64_t>(&bytes[48]);
  if (header.node.value() != 1 && header.node.value() != 2)
    return fail(ErrorCode::invalid, "NVRAM region: node number is neither 1 nor 2");
  if (auto layout = RegionLayout::of_size(header.region_size); !layout)
    return std::unexpected(layout.error());
  // One layout per size: whatever else differs is not version 1.
  if (!std::ranges::equal(encode(header), bytes.first(region_header_size)))
    return fail(ErrorCode::invalid, "NVRAM region: the header is not of version 1");
  return header;
}

Status format_region(ports::Nvram& nvram, ClusterId cluster, NodeId node,
                     const std::array<std::uint8_t, 16>& uuid) {
  MutableBytes region = nvram.region();
  auto layout = RegionLayout::of_size(region.size());
  if (!layout) return std::unexpected(layout.error());
  std::ranges::fill(region, std::byte{0});
  nvram.persist(region);
  for (std::uint8_t i = 1; i <= 2; ++i) {
    ControlBlock block;
    block.identity = NodeId(i);
    for (unsigned copy = 0; copy < 2; ++copy) {
      block.generation = copy;
      Extent at = layout->control_block(NodeId(i), copy);
      nvram.copy(region.subspan(at.offset, at.length), encode(block));
    }
  }
  // The header last: a region that has one is complete.
  auto header = encode(RegionHeader{cluster, node, uuid, region.size()});
  for (std::uint64_t at : {std::uint64_t{0}, page})
    nvram.copy(region.subspan(at, header.size()), header);
  return {};
}

Result<OpenedRegion> open_region(ports::Nvram& nvram, ClusterId cluster, NodeId node) {
  MutableBytes region = nvram.region();
  auto layout = RegionLayout::of_size(region.size());
  if (!layout) return std::unexpected(layout.error());
  Result<RegionHeader> copies[2] = {decode_region_header(region.first(page)),
                                    decode_region_header(region.subspan(page, page))};
  if (!copies[0] && !copies[1]) {
    bool blank =
        std::ranges::all_of(region.first(2 * page), [](std::byte b) { return b == std::byte{0}; });
    if (blank) return fail(ErrorCode::not_found, "NVRAM region: blank, not formatted yet");
    return std::unexpected(copies[0].error());
  }
  // A version we do not speak must not be overwritten by what we do.
  for (const auto& copy : copies)
    if (!copy && copy.error().code == ErrorCode::unsupported_version)
      return std::unexpected(copy.error());
  unsigned good = copies[0] ? 0 : 1;
  const RegionHeader& header = *copies[good];
  if (header.region_size != region.size())
    return fail(ErrorCode::invalid, "NVRAM region: formatted for " +
                                        std::to_string(header.region_size) + " bytes, but is " +
                                        std::to_string(region.size()));
  if (header.cluster != cluster)
    return fail(ErrorCode::refused, "NVRAM region: belongs to another cluster");
  if (header.node != node)
    return fail(ErrorCode::refused,
                "NVRAM region: belongs to node " + std::to_string(header.node.value()));
  bool repaired = !copies[0] || !copies[1] || *copies[0] != *copies[1];
  if (repaired) nvram.copy(region.subspan((1 - good) * page, region_header_size), encode(header));
  return OpenedRegion{header, *layout, repaired};
}

}  // namespace duet::nvlog
