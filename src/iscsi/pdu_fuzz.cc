// Any bytes as a connection's stream: cut into units, each decoded. With and without digests.
#include <algorithm>

#include "iscsi/receiver.h"

using namespace duet;
using namespace duet::iscsi;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Receiver receiver;
  receiver.set_digests((data[0] & 1) != 0, (data[0] & 2) != 0);
  receiver.set_max_data_segment(std::size_t{data[1]} * 1024);
  std::size_t step = data[0] / 4 + 1;
  Bytes rest = std::as_bytes(std::span(data, size)).subspan(2);
  ReceivedPdu pdu;
  while (!rest.empty()) {
    auto room = receiver.buffer();
    std::size_t n = std::min({step, room.size(), rest.size()});
    std::memcpy(room.data(), rest.data(), n);
    receiver.received(n);
    rest = rest.subspan(n);
    while (true) {
      auto outcome = receiver.next(pdu);
      if (outcome == Receiver::Outcome::need_more) break;
      if (outcome != Receiver::Outcome::pdu) return 0;
      std::size_t got = 0;
      for (const auto& slice : pdu.data) got += slice.bytes.size();
      ASSERT(got == pdu.data_size);
      static_cast<void>(decode_request(pdu.header).has_value());
      static_cast<void>(bidirectional_read_length(pdu.additional_header));
    }
  }
  return 0;
}
