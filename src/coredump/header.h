// The coredump header of a disk: the attribute that tells the partner whether a panicking node
// writes its memory there (docs/formats/coredump.md). Decoding takes foreign bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "disk/areas.h"

namespace duet::coredump {

inline constexpr std::uint32_t header_version = 1;
inline constexpr int header_copies = 2;
inline constexpr milliseconds max_limit{3'600'000};
inline constexpr std::uint64_t min_room = 1024 * 1024;  // bytes; least a header may name

enum class Attribute : std::uint8_t { active = 1, completed = 2, aborted = 3, inactive = 4 };
std::string_view name(Attribute attribute);

enum class AbortReason : std::uint8_t {
  none = 0,
  time_limit = 1,
  disk_failed = 2,
  disk_full = 3,
  process_gone = 4,
  stalled = 5,      // found so by the partner
  disk_needed = 6,  // by RAID
  cancelled = 7,
};
std::string_view name(AbortReason reason);

struct Header {
  std::uint64_t sequence = 1;  // one more with every write
  ClusterId cluster;
  DiskId disk;
  Attribute attribute = Attribute::inactive;
  NodeId node;  // whose memory: 1 or 2
  AbortReason abort_reason = AbortReason::none;
  milliseconds limit{0};     // 1 ms..max_limit
  Epoch epoch;               // >= 1
  BootNonce boot_nonce;      // >= 1
  std::uint64_t room = 0;    // bytes for the raw dump from disk::data_offset on
  std::uint64_t stored = 0;  // bytes of it that the disk has taken
  std::uint64_t core_done = 0;
  std::uint64_t core_total = 0;  // 0: not known yet
  milliseconds elapsed{0};       // since the attribute became active, by the writer's clock

  bool operator==(const Header&) const = default;
};

constexpr disk::Area header_copy(int copy) {
  return {
      disk::coredump_header_area.offset + static_cast<std::uint64_t>(copy) * disk::area_block_size,
      disk::area_block_size};
}

// One block. Error: invalid (a field breaks its rule; the message names it).
Result<std::vector<std::byte>> encode_header(const Header& header);

// Errors: not_found (no magic), invalid, unsupported_version.
Result<Header> decode_header(Bytes block);

// Of the two copies on one disk, the one that counts. Errors as above.
Result<Header> choose_header(Bytes copy0, Bytes copy1);

}  // namespace duet::coredump
