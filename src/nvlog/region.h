// The NVRAM region of a node: layout and header (docs/formats/nvlog.md, "Region").
// Sections are per identity and lie at the same offsets in both nodes' regions; a section is the
// window that the node serving the identity writes at the partner.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "ports/nvram.h"

namespace duet::nvlog {

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint64_t min_ring_size = 64 * 1024;

// A range of a region.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool operator==(const Extent&) const = default;
};

class RegionLayout {
 public:
  // Error: invalid (not a multiple of 4096, or too small).
  static Result<RegionLayout> of_size(std::uint64_t region_size);

  std::uint64_t region_size() const { return region_size_; }
  std::uint64_t ring_size() const { return ring_size_; }
  Extent section(NodeId identity) const;  // the mirror window
  Extent both_sections() const;           // what a node without any identity opens to the partner
  Extent health_record(NodeId node) const;
  Extent control_block(NodeId identity, unsigned copy) const;
  Extent ring(NodeId identity) const;

 private:
  explicit RegionLayout(std::uint64_t region_size, std::uint64_t ring_size)
      : region_size_(region_size), ring_size_(ring_size) {}
  std::uint64_t region_size_;
  std::uint64_t ring_size_;
};

inline constexpr std::size_t region_header_size = 128;

struct RegionHeader {
  ClusterId cluster;
  NodeId node;
  std::array<std::uint8_t, 16> uuid{};  // new with every format
  std::uint64_t region_size = 0;
  bool operator==(const RegionHeader&) const = default;
};
// Requires: region_size is one that RegionLayout accepts.
std::array<std::byte, region_header_size> encode(const RegionHeader& header);
// Errors: invalid, unsupported_version.
Result<RegionHeader> decode_region_header(Bytes bytes);

// Clears the region (all of it: nothing old may ever look like a record), writes empty control
// blocks and the header. Error: invalid (size).
Status format_region(ports::Nvram& nvram, ClusterId cluster, NodeId node,
                     const std::array<std::uint8_t, 16>& uuid);

struct OpenedRegion {
  RegionHeader header;
  RegionLayout layout;
  bool repaired = false;  // one copy of the header was damaged and has been rewritten
};
// Errors: not_found (blank: format it), invalid (no valid header, or of another size),
// unsupported_version, refused (another cluster's or node's region).
Result<OpenedRegion> open_region(ports::Nvram& nvram, ClusterId cluster, NodeId node);

}  // namespace duet::nvlog
