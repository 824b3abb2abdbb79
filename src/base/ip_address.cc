#include "base/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/assert.h"

namespace duet {

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.empty() || text.size() >= INET6_ADDRSTRLEN) return std::nullopt;
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  std::string terminated(text);
  IpAddress address;
  if (::inet_pton(AF_INET, terminated.c_str(), address.bytes_.data()) == 1) return address;
  address.v6_ = true;
  if (::inet_pton(AF_INET6, terminated.c_str(), address.bytes_.data()) == 1) return address;
  return std::nullopt;
}

IpAddress IpAddress::v4(std::array<std::uint8_t, 4> bytes) {
  IpAddress address;
  std::ranges::copy(bytes, address.bytes_.begin());
  return address;
}

IpAddress IpAddress::v6(const std::array<std::uint8_t, 16>& bytes) {
  IpAddress address;
  address.bytes_ = bytes;
  address.v6_ = true;
  return address;
}

bool IpAddress::same_network(const IpAddress& other, std::uint8_t prefix) const {
  if (v6_ != other.v6_) return false;
  ASSERT(prefix <= bits());
  std::size_t whole = prefix / 8;
  if (!std::equal(bytes_.begin(), bytes_.begin() + whole, other.bytes_.begin())) return false;
  unsigned rest = prefix % 8;
  return rest == 0 || (bytes_[whole] ^ other.bytes_[whole]) >> (8 - rest) == 0;
}

bool IpAddress::unicast() const {
  if (!v6_) {
    return bytes_[0] != 0 && bytes_[0] < 224;  // 224/4 multicast, 240/4 reserved, broadcast
  }
  bool unspecified = std::ranges::all_of(bytes_, [](auto b) { return b == 0; });
  bool multicast = bytes_[0] == 0xff;
  return !unspecified && !multicast && !link_local();
}

bool IpAddress::link_local() const {
  return v6_ && bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

std::string to_string(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ASSERT(::inet_ntop(address.is_v6() ? AF_INET6 : AF_INET, address.bytes().data(), text.data(),
                     text.size()) != nullptr);
  return text.data();
}

std::optional<Endpoint> Endpoint::parse(std::string_view text) {
  auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto host = text.substr(0, colon);
  bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  auto address = IpAddress::parse(host);
  if (!address || address->is_v6() != brackets) return std::nullopt;
  Endpoint endpoint{*address, 0};
  auto digits = text.substr(colon + 1);
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), endpoint.port);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return endpoint;
}

std::string to_string(const Endpoint& endpoint) {
  return host_and_port(to_string(endpoint.address), endpoint.port);
}

std::string host_and_port(std::string_view host, std::uint16_t port) {
  bool brackets = host.find(':') != std::string_view::npos && host.front() != '[';
  return (brackets ? "[" + std::string(host) + "]" : std::string(host)) + ":" +
         std::to_string(port);
}

}  // namespace duet
