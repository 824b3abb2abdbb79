// Any bytes as a region header and a control block, as they are and with a right CRC.
#include <algorithm>
#include <vector>

#include "base/crc32c.h"
#include "nvlog/control_block.h"
#include "nvlog/region.h"

using namespace duet;
using namespace duet::nvlog;

namespace {
void check(Bytes bytes) {
  if (auto header = decode_region_header(bytes))
    ASSERT(std::ranges::equal(encode(*header), bytes.first(region_header_size)));
  if (auto block = decode_control_block(bytes)) {
    auto again = decode_control_block(encode(*block));
    ASSERT(again && *again == *block);
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input = std::as_bytes(std::span(data, size));
  check(input);
  std::vector<std::byte> sealed(input.begin(), input.end());
  sealed.resize(region_header_size);
  store_le(&sealed[124], crc32c(Bytes(sealed).first(124)));
  check(sealed);
  return 0;
}
