#include "ha/messages.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (auto message = ha::decode_message(bytes)) {
    auto again = ha::encode(*message);
    ASSERT(again.size() == bytes.size() && std::memcmp(again.data(), data, size) == 0);
  }
  return 0;
}
