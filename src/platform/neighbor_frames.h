// The frames by which an address is made known to its neighbours, and those that show who else uses
// it: ARP (RFC 826, RFC 5227), neighbour discovery (RFC 4861), and the TCP segment of a tickle.
// Pure functions; what is parsed is foreign.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ip_address.h"

namespace duet::platform {

using HardwareAddress = std::array<std::uint8_t, 6>;
std::string to_string(const HardwareAddress& hardware);  // "02:00:00:00:00:01"

using Frame = std::vector<std::byte>;  // from the Ethernet header on, without checksum

// IPv4. Broadcast; sender and target address are the announced one. The reply names the sender as
// its target, too: only so does Linux take it for gratuitous.
Frame gratuitous_arp_request(const HardwareAddress& self, const IpAddress& address);
Frame gratuitous_arp_reply(const HardwareAddress& self, const IpAddress& address);
Frame arp_probe(const HardwareAddress& self, const IpAddress& address);  // RFC 5227 2.1.1

// IPv6. To all nodes, override flag set (RFC 4861 7.2.6).
Frame unsolicited_advertisement(const HardwareAddress& self, const IpAddress& address);
// From an own address, so that the answer comes to us alone: to a solicitation from the unspecified
// address (RFC 4862 5.4.2) it would go to all nodes, with the override flag, and lead them astray.
Frame solicitation(const HardwareAddress& self, const IpAddress& own, const IpAddress& address);

// A bare ACK, sequence and acknowledgement 0. Both of one family.
std::array<std::byte, 20> tickle_segment(const Endpoint& from, const Endpoint& to);

// Who says that the address is his.
struct Claim {
  IpAddress address;
  HardwareAddress hardware{};
};
// Of an Ethernet frame. Nothing: no ARP for IPv4 over Ethernet, or a probe, which claims nothing.
std::optional<Claim> parse_arp(Bytes frame);
// Of an ICMPv6 message. Nothing: no advertisement with a hardware address.
std::optional<Claim> parse_advertisement(Bytes message);
// Of an Ethernet frame with one.
std::optional<Claim> parse_advertisement_frame(Bytes frame);

// Whether an Ethernet frame holds the first segment of a TCP connection to `address`, whole.
bool is_connection_attempt(Bytes frame, const IpAddress& address);
// Another sender and receiver on Ethernet. The checksum of TCP is made anew: on its way inside of
// this machine it may not have been made yet. Requires: is_connection_attempt().
void readdress(Frame& frame, const HardwareAddress& from, const HardwareAddress& to);

}  // namespace duet::platform
