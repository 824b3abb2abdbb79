// Any bytes as a log position: refused, or encoded back to the same bytes.
#include <algorithm>

#include "nvlog/position.h"

using namespace duet;
using namespace duet::nvlog;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input = std::as_bytes(std::span(data, size));
  if (auto position = decode_position(input)) ASSERT(std::ranges::equal(encode(*position), input));
  return 0;
}
