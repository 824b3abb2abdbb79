// CRC32C (Castagnoli), as of RFC 3720 appendix B.4: initial value and final xor all ones.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace duet {

// crc32c("123456789") == 0xe3069283.
std::uint32_t crc32c(Bytes bytes);
// Continues: crc32c_extend(crc32c(a), b) == crc32c(a + b).
std::uint32_t crc32c_extend(std::uint32_t crc, Bytes bytes);

}  // namespace duet
