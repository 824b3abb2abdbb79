// Decoders of what disks answer (SPC-4, SBC-3): foreign bytes in, validated values out. Big-endian.
// Every error is `invalid`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "ports/disk.h"

namespace duet::initiator {

struct Capacity {
  std::uint64_t size = 0;        // bytes
  std::uint32_t block_size = 0;  // bytes: 512 or 4096
};

Result<Capacity> parse_read_capacity16(Bytes reply);       // SBC-3 5.16.2
Result<std::string> parse_unit_serial_number(Bytes page);  // VPD page 80h, SPC-4 7.8.15; not empty
// MAXIMUM TRANSFER LENGTH of VPD page B0h (SBC-3 6.5.3), blocks; 0: the disk states none.
Result<std::uint32_t> parse_max_transfer_length(Bytes page);
// WCE of the caching mode page 08h in a MODE SENSE(6) reply (SBC-3 6.4.5).
Result<bool> parse_write_cache_enabled(Bytes reply);
// LUNs with peripheral or flat addressing (SAM-5 4.7); others are left out. At most 256.
Result<std::vector<LunNumber>> parse_report_luns(Bytes reply);        // SPC-4 6.33
Result<ports::RegisteredKeys> parse_read_keys(Bytes reply);           // SPC-4 6.15.2
Result<ports::ReservationState> parse_read_reservation(Bytes reply);  // SPC-4 6.15.3

}  // namespace duet::initiator
