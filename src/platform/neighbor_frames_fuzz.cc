// What any machine on the client network may send.
#include <cstddef>
#include <cstdint>

#include "base/assert.h"
#include "platform/neighbor_frames.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  duet::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (auto claim = duet::platform::parse_arp(bytes)) ASSERT(!claim->address.is_v6());
  if (auto claim = duet::platform::parse_advertisement(bytes)) ASSERT(claim->address.is_v6());
  if (auto claim = duet::platform::parse_advertisement_frame(bytes)) {
    ASSERT(claim->address.is_v6());
  }
  for (auto text : {"192.0.2.11", "2001:db8::11"}) {
    auto address = duet::IpAddress::parse(text).value();
    if (!duet::platform::is_connection_attempt(bytes, address)) continue;
    duet::platform::Frame frame(bytes.begin(), bytes.end());
    duet::platform::readdress(frame, {2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2});
    ASSERT(duet::platform::is_connection_attempt(frame, address));
  }
  return 0;
}
