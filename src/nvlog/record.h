// A log record: 64-byte header and payload (docs/formats/nvlog.md, "Record"). Addresses are log
// addresses: lap * ring size + offset, growing for ever.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ids.h"
#include "nvlog/position.h"

namespace duet::nvlog {

inline constexpr std::size_t record_header_size = 64;
inline constexpr std::size_t max_payload = 1024 * 1024 + 4096;

enum class RecordKind : std::uint8_t {
  wrap = 1,
  epoch_start = 2,
  // From here on words and payload are the volume layer's.
  write = 16,
  zero = 17,
  lun_create = 18,
  lun_delete = 19,
  reservations = 20,
  stored_request = 21,  // received but not begun when its node left; changes nothing
  stripe_journal = 22,  // of a consistency point, for the RAID group's recovery; changes nothing
};
inline constexpr std::uint8_t first_opaque_kind = 16;

using Words = std::array<std::uint64_t, 4>;

struct RecordHeader {
  RecordKind kind{};
  NodeId identity;
  std::uint16_t open_before = 0;  // records before this one not yet acknowledged; 65535: or more
  std::uint32_t length = 0;       // payload bytes
  Epoch epoch;
  LogSequence sequence;
  Words words{};
  bool operator==(const RecordHeader&) const = default;

  // The highest sequence this record proves to have been acknowledged; 0: proves nothing.
  LogSequence proves_acknowledged() const;
};

// Bytes a record takes in the ring.
inline constexpr std::uint64_t stored_size(std::uint64_t payload) {
  return (record_header_size + payload + record_alignment - 1) / record_alignment *
         record_alignment;
}

using HeaderBytes = std::array<std::byte, record_header_size>;
// The CRC field is zero until seal().
HeaderBytes encode(const RecordHeader& header);
// The CRC is computed in the order header, payload piece by piece, lap.
std::uint32_t start_crc(const HeaderBytes& header);
void seal(HeaderBytes& header, std::uint32_t crc_through_payload, std::uint64_t lap);

// A valid record in a ring; `payload` points into the ring.
struct RecordView {
  RecordHeader header;
  Bytes payload;
  std::uint64_t address = 0;
  std::uint64_t end = 0;  // address of the next record
};
// The record at `address`, if it is valid by itself (header, bounds, CRC, lap): whether it belongs
// to the log is for the reader to decide. Requires: ring size and address are multiples of 64.
std::optional<RecordView> read_record(Bytes ring, std::uint64_t address);
// Header only, without CRC: to sort out candidates cheaply.
std::optional<RecordHeader> peek_header(Bytes ring, std::uint64_t address);

}  // namespace duet::nvlog
