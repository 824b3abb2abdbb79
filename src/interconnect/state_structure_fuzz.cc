// A state structure from the fuzzer's bytes, as they are and with the checksum made right.
#include <algorithm>

#include "base/crc32c.h"
#include "interconnect/state_structure.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes given(reinterpret_cast<const std::byte*>(data), size);
  std::vector<std::byte> bytes(given.begin(), given.end());
  for (bool fix : {false, true}) {
    if (fix && bytes.size() >= 4) store_le(bytes.data(), crc32c(Bytes(bytes).subspan(4)));
    auto decoded = interconnect::decode_state_structure(bytes);
    if (!decoded) continue;
    ASSERT(std::ranges::equal(interconnect::encode(*decoded), bytes));
  }
  return 0;
}
