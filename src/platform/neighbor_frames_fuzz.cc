// What any machine on the client network may send.
#include <cstddef>
#include <cstdint>

#include "base/assert.h"
#include "platform/neighbor_frames.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  duet::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (auto claim = duet::platform::parse_arp(bytes)) ASSERT(!claim->address.is_v6());
  if (auto claim = duet::platform::parse_advertisement(bytes)) ASSERT(claim->address.is_v6());
  return 0;
}
