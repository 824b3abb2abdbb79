// The worked example of docs/formats/interconnect_messages.md, byte for byte, computed
// independently.
#pragma once

#include <string_view>

#include "interconnect/handshake.h"

namespace duet::interconnect::golden {

inline constexpr std::string_view hello_bytes =
    "5a143d4d4449010001000100010101002a4d665544332211a8a7a6a5a4a3a2a1"
    "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
    "6475657420302e312e3000000000000000000000000000000000000000000000";
inline constexpr std::string_view answer_bytes =
    "b4c479f24449020001000100020101002a4d665544332211b8b7b6b5b4b3b2b1"
    "505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f"
    "6475657420302e312e3000000000000000000000000000000000000000000000";
inline constexpr std::string_view proof_bytes =
    "5534ae70444903009ec420f8f79b67e1dafb8ec275db6c67b9e9b8480a9f248e"
    "a2fe3d68574e14f1";
inline constexpr std::string_view welcome_bytes =
    "882dc89044490400c69e865f020a0b444a96d542536a4221a7e19bdb4a116f96"
    "879b7e4c3ee70ddb010000000000000000000000000000000100000000000000"
    "0000000000000000800000000000000000000000000000000200000000000000"
    "00000000000000003000000000000000";
inline constexpr std::string_view client_information_bytes =
    "06c35cf34449100001000000000000006d6972726f7200000000000000000000"
    "0000000000000000000000000000000001005a1b000000000000000400000000";
inline constexpr std::string_view ready_bytes = "276f5863444911001011121314151617";
inline constexpr std::string_view payload_bytes = "cceb5cb744491200706c6561736520646965";
inline constexpr std::string_view greeting_bytes =
    "1e056096010002012a4d665544332211a8a7a6a5a4a3a2a1b8b7b6b5b4b3b2b1"
    "10111213141516170000000000000000";

inline Challenge counting_from(int first) {
  Challenge c{};
  for (std::size_t i = 0; i < c.size(); ++i)
    c[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return c;
}
inline const Challenge dialer_challenge = counting_from(0x10);
inline const Challenge acceptor_challenge = counting_from(0x50);

// Node 1 dials node 2.
inline Self node(int number) {
  Self self;
  self.cluster = ClusterId(0x1122334455664d2a);
  self.node = NodeId(static_cast<std::uint8_t>(number));
  self.nonce = BootNonce(number == 1 ? 0xa1a2a3a4a5a6a7a8 : 0xb1b2b3b4b5b6b7b8);
  self.software = "duet 0.1.0";
  for (int i = 0; i < 32; ++i) self.secret.push_back(static_cast<std::byte>(0x80 + i));
  return self;
}
// Grants of the provider `tcp`: our keys, offsets from 0.
inline const std::array<Grant, 2> grants = {Grant{0, 1, 0, 128}, Grant{0, 2, 0, 48}};

}  // namespace duet::interconnect::golden
