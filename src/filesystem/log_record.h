// The records of an identity's log that change its storage: typed, and as the log carries them.
// Format: docs/formats/log_payloads.md. decode() takes foreign bytes (a log may be damaged) and
// never trusts them; a record that it refuses is a poison record: it names what it would have
// changed, and nothing crashes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "nvlog/record.h"

namespace duet::filesystem {

// What the log keeps for us: kind, words, and bytes that are never copied on their way from the
// socket to the disk.
struct LogRecord {
  nvlog::RecordKind kind{};
  nvlog::Words words{};
  std::vector<Slice> payload;
};

inline constexpr std::uint32_t sector_size = 512;              // bytes; unit of offset and length
inline constexpr std::uint64_t max_write_length = 1ull << 20;  // bytes in one record
inline constexpr std::uint64_t max_zero_length = 1ull << 30;   // bytes in one record
inline constexpr std::uint64_t max_lun_size = 1ull << 44;      // bytes
inline constexpr std::uint16_t max_lun_number = 1023;
inline constexpr std::size_t max_lun_name = 63;                  // a-z A-Z 0-9 . _ -
inline constexpr std::size_t max_lun_serial = 31;                // printable ASCII
inline constexpr std::size_t max_reservation_state = 16 * 1024;  // bytes, opaque to us

// Offsets and lengths in bytes, multiples of sector_size.
struct WriteRecord {
  LunNumber lun;
  std::uint64_t offset = 0;
  std::vector<Slice> data;
};
struct ZeroRecord {
  LunNumber lun;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};
struct LunCreateRecord {
  LunNumber lun;
  std::uint64_t size = 0;
  std::uint64_t naa = 0;  // SPC-4 7.8.6.6.4: NAA 3h, locally assigned
  std::string name;
  std::string serial;
  bool reserve = false;  // keeps space for all of it
};
struct LunDeleteRecord {
  LunNumber lun;
};
struct ReservationsRecord {
  LunNumber lun;
  std::vector<std::byte> state;
};
using Record =
    std::variant<WriteRecord, ZeroRecord, LunCreateRecord, LunDeleteRecord, ReservationsRecord>;

// Requires: the record keeps the bounds above (Storage::admit tells).
LogRecord encode(const Record& record);
// Errors: unsupported_version (unknown kind), invalid (the message names the field).
Result<Record> decode(const LogRecord& record);

bool valid_lun_name(std::string_view name);
bool valid_lun_serial(std::string_view serial);

}  // namespace duet::filesystem
