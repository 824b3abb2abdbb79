// Frames and greetings from the fuzzer's bytes, as they are and with the checksum made right.
#include <algorithm>

#include "base/crc32c.h"
#include "interconnect/messages.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes given(reinterpret_cast<const std::byte*>(data), size);
  std::vector<std::byte> bytes(given.begin(), given.end());
  for (bool fix : {false, true}) {
    if (fix && bytes.size() >= 4) store_le(bytes.data(), crc32c(Bytes(bytes).subspan(4)));
    // What is accepted can be written again, byte for byte.
    if (auto frame = interconnect::decode_frame(bytes)) {
      ASSERT(interconnect::encode(*frame) == bytes);
    }
    if (auto greeting = interconnect::decode_greeting(bytes)) {
      ASSERT(std::ranges::equal(interconnect::encode(*greeting), bytes));
    }
  }
  return 0;
}
