#include "platform/tickle.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "platform/descriptor.h"
#include "platform/neighbor_frames.h"
#include "ports/addresses.h"

namespace duet::platform {

void send_tickles(const Endpoint& service, const std::vector<Endpoint>& clients) {
  bool v6 = service.address.is_v6();
  auto socket_address = [v6](const IpAddress& a) {
    sockaddr_storage storage{};
    if (v6) {
      auto& s = reinterpret_cast<sockaddr_in6&>(storage);
      s.sin6_family = AF_INET6;
      std::memcpy(&s.sin6_addr, a.bytes().data(), a.size());
    } else {
      auto& s = reinterpret_cast<sockaddr_in&>(storage);
      s.sin_family = AF_INET;
      std::memcpy(&s.sin_addr, a.bytes().data(), a.size());
    }
    return storage;
  };
  socklen_t size = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  int fd = ::socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
  if (fd < 0) return;
  Descriptor socket(fd);
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  sock_fprog filter{1, &nothing};
  ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
  auto from = socket_address(service.address);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&from), size) != 0) return;  // not up any more
  std::size_t left = ports::Addresses::max_tickles;
  for (const auto& client : clients) {
    if (client.address.is_v6() != v6) continue;
    if (left-- == 0) break;
    auto segment = tickle_segment(service, client);
    auto to = socket_address(client.address);
    [[maybe_unused]] auto sent = ::sendto(fd, segment.data(), segment.size(), MSG_DONTWAIT,
                                          reinterpret_cast<sockaddr*>(&to), size);
  }
}

}  // namespace duet::platform
