#include "platform/address_watch.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "platform/network_interfaces.h"

namespace duet::platform {

AddressWatch::AddressWatch(EventLoop& loop, ports::ServiceAddress address, OnClaim on_claim)
    : address_(std::move(address)), on_claim_(std::move(on_claim)) {
  int fd = address_.address.is_v6() ? listen_v6() : listen_v4();
  if (fd < 0) return;
  socket_ = std::make_unique<Descriptor>(fd);
  watcher_ = std::make_unique<FdWatcher>(loop, fd, [this](bool, bool) { receive(); });
  watcher_->want(true, false);
}

int AddressWatch::listen_v4() const {
  // ARP whose sender address is ours; the rest would only wake us.
  std::uint32_t ours =
      load_be<std::uint32_t>(reinterpret_cast<const std::byte*>(address_.address.bytes().data()));
  std::array<sock_filter, 4> code{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 28),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ours, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 64),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  sock_fprog filter{static_cast<unsigned short>(code.size()), code.data()};
  // Protocol 0 hears nothing: the filter is there before the first frame.
  int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_protocol = htons(ETH_P_ARP);
  where.sll_ifindex = static_cast<int>(::if_nametoindex(address_.interface.c_str()));
  if (where.sll_ifindex == 0 ||
      ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
      ::bind(fd, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

int AddressWatch::listen_v6() const {
  int fd = ::socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMPV6);
  if (fd < 0) return -1;
  icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ND_NEIGHBOR_ADVERT, &filter);
  const auto& interface = address_.interface;
  if (::setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter) != 0 ||
      ::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(),
                   static_cast<socklen_t>(interface.size())) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

void AddressWatch::receive() {
  std::array<std::byte, 2048> buffer;
  for (int i = 0; i < max_reads_per_turn; ++i) {
    auto n = ::recv(socket_->get(), buffer.data(), buffer.size(), 0);
    if (n < 0) return;
    Bytes bytes(buffer.data(), static_cast<std::size_t>(n));
    auto claim = address_.address.is_v6() ? parse_advertisement(bytes) : parse_arp(bytes);
    if (!claim || claim->address != address_.address) continue;
    auto self = hardware_of(address_.interface);
    if (self && claim->hardware == *self) continue;
    return on_claim_(claim->hardware);
  }
}

}  // namespace duet::platform
