#include "platform/network_interfaces.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstring>

#include "platform/descriptor.h"

namespace duet::platform {
namespace {

std::optional<IpAddress> address_of(const sockaddr* a) {
  if (a == nullptr) return std::nullopt;
  if (a->sa_family == AF_INET) {
    std::array<std::uint8_t, 4> bytes;
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in*>(a)->sin_addr, bytes.size());
    return IpAddress::v4(bytes);
  }
  if (a->sa_family == AF_INET6) {
    std::array<std::uint8_t, 16> bytes;
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr, bytes.size());
    return IpAddress::v6(bytes);
  }
  return std::nullopt;
}

std::uint8_t prefix_of(const sockaddr* mask) {
  auto address = address_of(mask);
  if (!address) return 0;
  int ones = 0;
  for (auto byte : address->bytes()) ones += std::popcount(byte);
  return static_cast<std::uint8_t>(ones);
}

bool interface_request(unsigned long what, const std::string& interface, ifreq& request) {
  if (interface.empty() || interface.size() >= IFNAMSIZ) return false;
  request = {};
  std::memcpy(request.ifr_name, interface.data(), interface.size());
  int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  bool good = ::ioctl(fd, what, &request) == 0;
  ::close(fd);
  return good;
}

}  // namespace

std::vector<HeldAddress> held_addresses() {
  std::vector<HeldAddress> all;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return all;
  for (auto* each = list; each != nullptr; each = each->ifa_next) {
    if (auto address = address_of(each->ifa_addr)) {
      all.push_back({each->ifa_name, *address, prefix_of(each->ifa_netmask)});
    }
  }
  ::freeifaddrs(list);
  return all;
}

std::optional<HardwareAddress> hardware_of(const std::string& interface) {
  ifreq request;
  if (!interface_request(SIOCGIFHWADDR, interface, request)) return std::nullopt;
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) return std::nullopt;
  HardwareAddress hardware;
  std::memcpy(hardware.data(), request.ifr_hwaddr.sa_data, hardware.size());
  return hardware;
}

std::optional<bool> link_of(const std::string& interface) {
  ifreq request;
  if (!interface_request(SIOCGIFFLAGS, interface, request)) return std::nullopt;
  constexpr short up = IFF_UP | IFF_RUNNING;
  return (request.ifr_flags & up) == up;
}

bool delivered_here(const IpAddress& address) {
  struct Question {
    nlmsghdr header;
    rtmsg route;
    rtattr attribute;
    std::array<std::uint8_t, 16> destination;
  } question{};
  question.header.nlmsg_type = RTM_GETROUTE;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.route.rtm_family = address.is_v6() ? AF_INET6 : AF_INET;
  question.route.rtm_dst_len = address.bits();
  question.attribute.rta_type = RTA_DST;
  question.attribute.rta_len = static_cast<unsigned short>(RTA_LENGTH(address.size()));
  question.destination = address.bytes();
  question.header.nlmsg_len =
      static_cast<std::uint32_t>(NLMSG_LENGTH(sizeof(rtmsg)) + RTA_SPACE(address.size()));
  Descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (!socket.valid() || ::sendto(socket.get(), &question, question.header.nlmsg_len, 0,
                                  reinterpret_cast<sockaddr*>(&kernel), sizeof kernel) < 0) {
    return false;
  }
  alignas(nlmsghdr) std::array<char, 4096>
      answer;  // the kernel has answered before send() returned
  auto n = ::recv(socket.get(), answer.data(), answer.size(), 0);
  const auto* m = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(rtmsg))) || m->nlmsg_type != RTM_NEWROUTE) {
    return false;
  }
  return static_cast<const rtmsg*>(NLMSG_DATA(m))->rtm_type == RTN_LOCAL;
}

void promote_secondaries(const std::string& interface) {
  auto path = "/proc/sys/net/ipv4/conf/" + interface + "/promote_secondaries";
  int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;  // read-only in a container: renewing brings them back
  [[maybe_unused]] auto written = ::write(fd, "1", 1);
  ::close(fd);
}

}  // namespace duet::platform
