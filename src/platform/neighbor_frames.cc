#include "platform/neighbor_frames.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/assert.h"

namespace duet::platform {
namespace {

constexpr HardwareAddress broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr HardwareAddress nobody{};
constexpr std::uint16_t arp_type = 0x0806, ipv6_type = 0x86dd;
constexpr std::uint8_t icmpv6 = 58, tcp = 6;
constexpr std::uint8_t solicitation_type = 135, advertisement = 136;
constexpr std::uint8_t source_link_layer_option = 1, target_link_layer_option = 2;
constexpr std::size_t smallest_frame = 60;  // Ethernet, without checksum
constexpr std::size_t ethernet_size = 14, arp_size = 28, advertisement_size = 24;

class Writer {
 public:
  void u8(std::uint8_t v) { out_.push_back(std::byte{v}); }
  void u16(std::uint16_t v) {
    u8(static_cast<std::uint8_t>(v >> 8)), u8(static_cast<std::uint8_t>(v));
  }
  void u32(std::uint32_t v) {
    u16(static_cast<std::uint16_t>(v >> 16)), u16(static_cast<std::uint16_t>(v));
  }
  void bytes(std::span<const std::uint8_t> b) {
    for (auto each : b) u8(each);
  }
  void address(const IpAddress& a) { bytes(std::span(a.bytes()).first(a.size())); }
  Frame take() { return std::move(out_); }

 private:
  Frame out_;
};

// RFC 1071, over any number of parts of even length (the last one may be odd).
class Checksum {
 public:
  void add(Bytes part) {
    for (std::size_t i = 0; i + 1 < part.size(); i += 2) {
      sum_ += load_be<std::uint16_t>(part.data() + i);
    }
    if (part.size() % 2 != 0) sum_ += static_cast<std::uint32_t>(part.back()) << 8;
  }
  std::uint16_t value() const {
    auto sum = sum_;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
  }

 private:
  std::uint32_t sum_ = 0;
};

// Over the pseudo header (RFC 9293 3.1, RFC 8200 8.1) and the message.
std::uint16_t checksum(const IpAddress& from, const IpAddress& to, std::uint8_t protocol,
                       Bytes message) {
  Writer pseudo;
  pseudo.address(from);
  pseudo.address(to);
  pseudo.u32(static_cast<std::uint32_t>(message.size()));
  pseudo.u32(protocol);
  Checksum sum;
  sum.add(pseudo.take());
  sum.add(message);
  return sum.value();
}

Frame arp(std::uint16_t operation, const HardwareAddress& self, const IpAddress& sender,
          const HardwareAddress& target_hardware, const IpAddress& target) {
  ASSERT(!target.is_v6());
  Writer w;
  w.bytes(broadcast);
  w.bytes(self);
  w.u16(arp_type);
  w.u16(1);       // Ethernet
  w.u16(0x0800);  // IPv4
  w.u8(6);
  w.u8(4);
  w.u16(operation);
  w.bytes(self);
  w.address(sender);
  w.bytes(target_hardware);
  w.address(target);
  auto frame = w.take();
  frame.resize(smallest_frame);
  return frame;
}

Frame ipv6_frame(const HardwareAddress& self, const HardwareAddress& to_hardware,
                 const IpAddress& from, const IpAddress& to, Frame message) {
  store_be<std::uint16_t>(message.data() + 2, checksum(from, to, icmpv6, message));
  Writer w;
  w.bytes(to_hardware);
  w.bytes(self);
  w.u16(ipv6_type);
  w.u32(6u << 28);
  w.u16(static_cast<std::uint16_t>(message.size()));
  w.u8(icmpv6);
  w.u8(255);  // hop limit: proves to receivers that it was not routed
  w.address(from);
  w.address(to);
  auto frame = w.take();
  frame.insert(frame.end(), message.begin(), message.end());
  return frame;
}

template <std::size_t N>
std::array<std::uint8_t, N> octets(Bytes bytes) {
  std::array<std::uint8_t, N> result;
  std::ranges::transform(bytes.first(N), result.begin(),
                         [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  return result;
}

// An IP packet in an Ethernet frame: whole, not a fragment, IPv6 without extension headers.
struct Packet {
  IpAddress from, to;
  std::uint8_t protocol = 0;
  std::size_t payload = 0, payload_size = 0;  // place in the frame
};
std::optional<Packet> ip_packet(Bytes frame) {
  constexpr std::uint16_t ipv4_type = 0x0800;
  constexpr std::size_t ipv4_header = 20, ipv6_header = 40;
  if (frame.size() < ethernet_size + ipv4_header) return std::nullopt;
  auto type = load_be<std::uint16_t>(frame.data() + 12);
  Bytes ip = frame.subspan(ethernet_size);
  auto version = std::to_integer<unsigned>(ip[0]) >> 4;
  Packet p;
  if (type == ipv4_type && version == 4) {
    auto header = std::to_integer<std::size_t>(ip[0] & std::byte{0x0f}) * 4;
    auto total = load_be<std::uint16_t>(ip.data() + 2);
    bool fragment = (load_be<std::uint16_t>(ip.data() + 6) & 0x3fff) != 0;
    if (header < ipv4_header || total < header || total > ip.size() || fragment)
      return std::nullopt;
    p.from = IpAddress::v4(octets<4>(ip.subspan(12)));
    p.to = IpAddress::v4(octets<4>(ip.subspan(16)));
    p.protocol = std::to_integer<std::uint8_t>(ip[9]);
    p.payload = ethernet_size + header;
    p.payload_size = total - header;
    return p;
  }
  if (type == ipv6_type && version == 6 && ip.size() >= ipv6_header) {
    p.payload_size = load_be<std::uint16_t>(ip.data() + 4);
    if (p.payload_size > ip.size() - ipv6_header) return std::nullopt;
    p.from = IpAddress::v6(octets<16>(ip.subspan(8)));
    p.to = IpAddress::v6(octets<16>(ip.subspan(24)));
    p.protocol = std::to_integer<std::uint8_t>(ip[6]);
    p.payload = ethernet_size + ipv6_header;
    return p;
  }
  return std::nullopt;
}

}  // namespace

std::string to_string(const HardwareAddress& hardware) {
  return fmt::format("{:02x}", fmt::join(hardware, ":"));
}

Frame gratuitous_arp_request(const HardwareAddress& self, const IpAddress& address) {
  return arp(1, self, address, nobody, address);
}

Frame gratuitous_arp_reply(const HardwareAddress& self, const IpAddress& address) {
  return arp(2, self, address, self, address);
}

Frame arp_probe(const HardwareAddress& self, const IpAddress& address) {
  return arp(1, self, IpAddress(), nobody, address);
}

Frame unsolicited_advertisement(const HardwareAddress& self, const IpAddress& address) {
  ASSERT(address.is_v6());
  constexpr std::uint32_t override_flag = 1u << 29;
  Writer w;
  w.u8(advertisement);
  w.u8(0);
  w.u16(0);
  w.u32(override_flag);
  w.address(address);
  w.u8(target_link_layer_option);
  w.u8(1);  // of 8 bytes
  w.bytes(self);
  auto all_nodes = IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  return ipv6_frame(self, {0x33, 0x33, 0, 0, 0, 1}, address, all_nodes, w.take());
}

Frame solicitation(const HardwareAddress& self, const IpAddress& own, const IpAddress& address) {
  ASSERT(own.is_v6() && address.is_v6());
  const auto& a = address.bytes();
  Writer w;
  w.u8(solicitation_type);
  w.u8(0);
  w.u16(0);
  w.u32(0);
  w.address(address);
  w.u8(source_link_layer_option);
  w.u8(1);  // of 8 bytes
  w.bytes(self);
  auto solicited_node =
      IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a[13], a[14], a[15]});
  return ipv6_frame(self, {0x33, 0x33, 0xff, a[13], a[14], a[15]}, own, solicited_node, w.take());
}

std::array<std::byte, 20> tickle_segment(const Endpoint& from, const Endpoint& to) {
  ASSERT(from.address.is_v6() == to.address.is_v6());
  Writer w;
  w.u16(from.port);
  w.u16(to.port);
  w.u32(0);  // sequence
  w.u32(0);  // acknowledgement
  w.u8(5 << 4);
  w.u8(0x10);   // ACK
  w.u16(1024);  // window
  w.u32(0);     // checksum, urgent
  auto bytes = w.take();
  std::array<std::byte, 20> segment;
  std::ranges::copy(bytes, segment.begin());
  store_be<std::uint16_t>(segment.data() + 16, checksum(from.address, to.address, tcp, segment));
  return segment;
}

std::optional<Claim> parse_arp(Bytes frame) {
  if (frame.size() < ethernet_size + arp_size) return std::nullopt;
  if (load_be<std::uint16_t>(frame.data() + 12) != arp_type) return std::nullopt;
  Bytes body = frame.subspan(ethernet_size);
  constexpr std::uint64_t ethernet_ipv4 = 0x0001'0800'0604;
  if (load_be<std::uint64_t>(body.data()) >> 16 != ethernet_ipv4) return std::nullopt;
  auto sender = octets<4>(body.subspan(14));
  if (sender == std::array<std::uint8_t, 4>{}) return std::nullopt;
  return Claim{IpAddress::v4(sender), octets<6>(body.subspan(8))};
}

std::optional<Claim> parse_advertisement(Bytes message) {
  if (message.size() < advertisement_size || message[0] != std::byte{advertisement}) {
    return std::nullopt;
  }
  auto target = octets<16>(message.subspan(8));
  Bytes options = message.subspan(advertisement_size);
  while (options.size() >= 8) {
    auto size = std::to_integer<std::size_t>(options[1]) * 8;
    if (size == 0 || size > options.size()) return std::nullopt;
    if (options[0] == std::byte{target_link_layer_option}) {
      return Claim{IpAddress::v6(target), octets<6>(options.subspan(2))};
    }
    options = options.subspan(size);
  }
  return std::nullopt;
}

std::optional<Claim> parse_advertisement_frame(Bytes frame) {
  auto packet = ip_packet(frame);
  if (!packet || !packet->to.is_v6() || packet->protocol != icmpv6) return std::nullopt;
  return parse_advertisement(frame.subspan(packet->payload, packet->payload_size));
}

bool is_connection_attempt(Bytes frame, const IpAddress& address) {
  auto packet = ip_packet(frame);
  if (!packet || packet->to != address || packet->protocol != tcp) return false;
  constexpr std::size_t tcp_header = 20;
  constexpr std::byte syn{0x02}, other_than_syn{0x15};  // ACK, RST, FIN
  if (packet->payload_size < tcp_header) return false;
  auto flags = frame[packet->payload + 13];
  return (flags & syn) == syn && (flags & other_than_syn) == std::byte{0};
}

void readdress(Frame& frame, const HardwareAddress& from, const HardwareAddress& to) {
  auto packet = ip_packet(frame);
  ASSERT(packet && packet->protocol == tcp);
  for (std::size_t i = 0; i < to.size(); ++i) {
    frame[i] = std::byte{to[i]};
    frame[to.size() + i] = std::byte{from[i]};
  }
  auto* sum = frame.data() + packet->payload + 16;
  store_be<std::uint16_t>(sum, 0);
  Bytes segment = Bytes(frame).subspan(packet->payload, packet->payload_size);
  store_be<std::uint16_t>(sum, checksum(packet->from, packet->to, tcp, segment));
}

}  // namespace duet::platform
