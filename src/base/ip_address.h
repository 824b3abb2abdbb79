// A numeric IPv4 or IPv6 address, and an address with a TCP port: values, no name lookup ever.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace duet {

class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0
  // "192.0.2.11" or "2001:db8::11" (RFC 4291 2.2), without brackets or a zone. Nothing: neither.
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress v4(std::array<std::uint8_t, 4> bytes);
  static IpAddress v6(const std::array<std::uint8_t, 16>& bytes);

  bool is_v6() const { return v6_; }
  std::uint8_t bits() const { return v6_ ? 128 : 32; }
  std::size_t size() const { return v6_ ? 16 : 4; }  // bytes
  // In network order; an IPv4 address has its four bytes in front, then zeros.
  const std::array<std::uint8_t, 16>& bytes() const { return bytes_; }
  // Requires: prefix <= bits() of both.
  bool same_network(const IpAddress& other, std::uint8_t prefix) const;
  // Can be the address of one node that clients on a network reach: not unspecified, not multicast,
  // not broadcast, not IPv6 link-local.
  bool unicast() const;
  bool link_local() const;  // IPv6, fe80::/10

  auto operator<=>(const IpAddress&) const = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
  bool v6_ = false;
};
std::string to_string(const IpAddress& address);  // RFC 5952

struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;
  // "192.0.2.11:3260" or "[2001:db8::11]:3260".
  static std::optional<Endpoint> parse(std::string_view text);
  auto operator<=>(const Endpoint&) const = default;
};
std::string to_string(const Endpoint& endpoint);

// The same for a host in text that may be an IPv6 address: brackets where they belong.
std::string host_and_port(std::string_view host, std::uint16_t port);

}  // namespace duet
