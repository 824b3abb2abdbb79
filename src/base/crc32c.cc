#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace duet {

std::uint32_t crc32c_extend(std::uint32_t crc, Bytes bytes) {
  // ISA-L takes int lengths and a non-const pointer; it neither writes nor wants more than 2 GiB.
  auto* p = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
  std::size_t left = bytes.size();
  crc = ~crc;
  while (left > 0) {
    std::size_t n = left < (1u << 30) ? left : (1u << 30);
    crc = crc32_iscsi(p, static_cast<int>(n), crc);
    p += n;
    left -= n;
  }
  return ~crc;
}

std::uint32_t crc32c(Bytes bytes) {
  return crc32c_extend(0, bytes);
}

}  // namespace duet
