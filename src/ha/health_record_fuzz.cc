#include <algorithm>

#include "base/crc32c.h"
#include "ha/health.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size != 0) std::memcpy(bytes.data(), data, size);
  if (auto record = ha::decode_health_record(bytes)) ASSERT(ha::encode(*record) == bytes);
  // Behind the checksum: what a damaged or malicious sender could still say.
  if (size == ha::health_record_size) {
    auto crc = [&] {
      std::fill_n(bytes.begin() + 12, 4, std::byte{0});
      return crc32c(bytes);
    }();
    store_le(bytes.data() + 12, crc);
    if (auto record = ha::decode_health_record(bytes)) ASSERT(ha::encode(*record) == bytes);
  }
  return 0;
}
