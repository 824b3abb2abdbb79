// The information chunk from the fuzzer's bytes: what is accepted is what encoding it gives, and
// its JSON has no control characters but the last line feed.
#include <algorithm>

#include "coredump/information.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  auto information = coredump::decode_information(bytes);
  if (!information) return 0;
  ASSERT(std::ranges::equal(coredump::encode_information(*information), bytes));
  auto json = coredump::to_json(*information, {});
  ASSERT(std::ranges::count_if(json, [](char c) { return c >= 0 && c < 0x20; }) == 1);
  return 0;
}
