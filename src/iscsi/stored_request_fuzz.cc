// What decodes must encode to the same bytes.
#include <algorithm>

#include "base/assert.h"
#include "iscsi/stored_request.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes = std::as_bytes(std::span(data, size));
  auto request = iscsi::decode_stored_request(bytes);
  if (request) ASSERT(std::ranges::equal(iscsi::encode(*request), bytes));
  return 0;
}
