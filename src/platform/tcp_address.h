// A numeric TCP address as the kernel wants it.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "base/result.h"

namespace duet::platform {

class TcpAddress {
 public:
  int family() const { return storage_.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const {
    return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  }

 private:
  friend Result<TcpAddress> tcp_address(const std::string& address, std::uint16_t port);
  sockaddr_storage storage_{};
};

// Error: invalid (not a numeric IPv4 or IPv6 address).
inline Result<TcpAddress> tcp_address(const std::string& address, std::uint16_t port) {
  TcpAddress a;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&a.storage_);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&a.storage_);
  if (::inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
  } else if (::inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
  } else {
    return fail(ErrorCode::invalid, "'" + address + "' is not a numeric address");
  }
  return a;
}

}  // namespace duet::platform
