// Login requests with any flags and any text. Each: flags, a byte of variations, 16 bits length,
// text.
#include <algorithm>

#include "iscsi/login.h"
#include "iscsi/test_initiator.h"

using namespace duet;
using namespace duet::iscsi;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  testing::OneTarget directory;
  Login login(directory, 1);
  Bytes rest = std::as_bytes(std::span(data, size));
  while (rest.size() >= 4) {
    auto pdu = testing::Pdu(0x43, std::to_integer<std::uint8_t>(rest[0])).itt(7);
    auto variation = std::to_integer<std::uint8_t>(rest[1]);
    if ((variation & 1) != 0) pdu.u8(13, 1);
    if ((variation & 2) != 0) pdu.u8(3, 1);
    if ((variation & 4) != 0) pdu.u16(14, 1);
    directory.ready = (variation & 8) == 0;
    std::size_t length =
        std::min<std::size_t>(load_le<std::uint16_t>(rest.data() + 2), rest.size() - 4);
    auto header = pdu.bytes();
    auto request = decode_request(Header(header.data(), header_size));
    Bytes text = rest.subspan(4, length);
    rest = rest.subspan(4 + length);
    if (!request) continue;
    auto step = login.on_request(std::get<LoginRequest>(*request), text);
    ASSERT(step.state == login.state());
    // What we say always parses, and fits what every initiator takes during login.
    ASSERT(parse_text(std::as_bytes(std::span(step.text))).has_value());
    ASSERT(step.text.size() <= 8192);
    if (step.state == Login::State::failed || step.state == Login::State::admission) return 0;
  }
  return 0;
}
