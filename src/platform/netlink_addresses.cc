#include "platform/netlink_addresses.h"

#include <errno.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "base/assert.h"
#include "platform/network_interfaces.h"

namespace duet::platform {
namespace {

using ports::ServiceAddress;

std::string error_text(int error) {
  return std::generic_category().message(error);
}

std::string text(const ServiceAddress& a) {
  return fmt::format("{}/{} on {}", to_string(a.address), a.prefix, a.interface);
}

// ---- netlink messages ----

class Message {
 public:
  Message(std::uint16_t type, std::uint16_t flags) : bytes_(NLMSG_HDRLEN) {
    header().nlmsg_type = type;
    header().nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST | NLM_F_ACK);
  }
  template <class T>
  void put(const T& body) {
    append(&body, sizeof body);
  }
  void attribute(std::uint16_t type, const void* value, std::size_t size) {
    rtattr header{static_cast<std::uint16_t>(RTA_LENGTH(size)), type};
    append(&header, sizeof header);
    append(value, size);
  }
  std::vector<std::byte> take() {
    header().nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    return std::move(bytes_);
  }

 private:
  nlmsghdr& header() { return *reinterpret_cast<nlmsghdr*>(bytes_.data()); }
  void append(const void* value, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(value);
    bytes_.insert(bytes_.end(), from, from + size);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  }
  std::vector<std::byte> bytes_;
};

ifaddrmsg address_message(const IpAddress& address, std::uint8_t prefix, unsigned index) {
  ifaddrmsg m{};
  m.ifa_family = address.is_v6() ? AF_INET6 : AF_INET;
  m.ifa_prefixlen = prefix;
  m.ifa_scope = RT_SCOPE_UNIVERSE;
  m.ifa_index = index;
  return m;
}

std::vector<std::byte> new_address(const ServiceAddress& a, unsigned index, Duration lifetime) {
  Message m(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  m.put(address_message(a.address, a.prefix, index));
  m.attribute(IFA_LOCAL, a.address.bytes().data(), a.address.size());
  m.attribute(IFA_ADDRESS, a.address.bytes().data(), a.address.size());
  // A route that both an own address and ours need must not end with the lifetime of ours.
  bool has_route = std::ranges::any_of(held_addresses(), [&](const HeldAddress& h) {
    return h.interface == a.interface && h.address != a.address &&
           h.address.same_network(a.address, a.prefix);
  });
  std::uint32_t flags = IFA_F_NODAD | (has_route ? IFA_F_NOPREFIXROUTE : 0u);
  m.attribute(IFA_FLAGS, &flags, sizeof flags);
  ifa_cacheinfo life{};
  life.ifa_prefered = 0;  // deprecated: no source for connections that this node opens
  life.ifa_valid = static_cast<std::uint32_t>(lifetime / seconds(1));
  m.attribute(IFA_CACHEINFO, &life, sizeof life);
  return m.take();
}

std::vector<std::byte> delete_address(const IpAddress& address, std::uint8_t prefix,
                                      unsigned index) {
  Message m(RTM_DELADDR, 0);
  m.put(address_message(address, prefix, index));
  m.attribute(IFA_LOCAL, address.bytes().data(), address.size());
  m.attribute(IFA_ADDRESS, address.bytes().data(), address.size());
  return m.take();
}

bool passes(int error) {
  return error == EBUSY || error == EAGAIN || error == ENOBUFS || error == ENOMEM ||
         error == EINTR || error == ETIMEDOUT;
}

Error explain(const char* what, const ServiceAddress& a, int error) {
  auto say = [&](ErrorCode code, const std::string& why) {
    return Error{code, fmt::format("cannot {} {}: {}", what, text(a), why)};
  };
  switch (error) {
    case EPERM:
      return say(ErrorCode::refused,
                 "no permission; run duetd as root, or give it CAP_NET_ADMIN and CAP_NET_RAW");
    case ENODEV:
      return say(ErrorCode::not_found,
                 "there is no such interface; create it, or correct service.interface");
    case EACCES:
      return say(ErrorCode::io_error, "IPv6 is switched off there; set sysctl net.ipv6.conf." +
                                          a.interface + ".disable_ipv6=0");
    case ECANCELED:
      return say(ErrorCode::cancelled, "it is taken down");
    case ETIMEDOUT:
      return say(ErrorCode::io_error, "the kernel does not answer");
    default:
      return say(ErrorCode::io_error, error_text(error));
  }
}

}  // namespace

struct NetlinkAddresses::Request {
  ServiceAddress address;
  bool up = false;
  bool cancelled = false;  // the address was taken down meanwhile
  std::vector<std::byte> message;
  int attempts = 0;
  ports::TimerId timer{};
  std::move_only_function<void(int error)> done;
};

// Hears who else claims an address that is up here.
class NetlinkAddresses::Watch {
 public:
  Watch(NetlinkAddresses& owner, ServiceAddress which) : address(std::move(which)), owner_(owner) {
    int fd = address.address.is_v6() ? listen_v6() : listen_v4();
    if (fd < 0) return;
    socket_ = std::make_unique<Descriptor>(fd);
    watcher_ = std::make_unique<FdWatcher>(owner_.loop_, fd, [this](bool, bool) { receive(); });
    watcher_->want(true, false);
  }

  const ServiceAddress address;

 private:
  int listen_v4() {
    // ARP whose sender address is ours; the rest would only wake us.
    std::uint32_t ours =
        load_be<std::uint32_t>(reinterpret_cast<const std::byte*>(address.address.bytes().data()));
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
    where.sll_ifindex = static_cast<int>(::if_nametoindex(address.interface.c_str()));
    if (where.sll_ifindex == 0 ||
        ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
        ::bind(fd, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0) {
      ::close(fd);
      return -1;
    }
    return fd;
  }
  int listen_v6() {
    int fd = ::socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    if (fd < 0) return -1;
    icmp6_filter filter;
    ICMP6_FILTER_SETBLOCKALL(&filter);
    ICMP6_FILTER_SETPASS(ND_NEIGHBOR_ADVERT, &filter);
    const auto& interface = address.interface;
    if (::setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter) != 0 ||
        ::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(),
                     static_cast<socklen_t>(interface.size())) != 0) {
      ::close(fd);
      return -1;
    }
    return fd;
  }
  void receive() {
    std::array<std::byte, 2048> buffer;
    auto alive = owner_.alive_;
    for (int i = 0; i < max_reads_per_turn; ++i) {
      auto n = ::recv(socket_->get(), buffer.data(), buffer.size(), 0);
      if (n < 0) return;
      Bytes bytes(buffer.data(), static_cast<std::size_t>(n));
      auto claim = address.address.is_v6() ? parse_advertisement(bytes) : parse_arp(bytes);
      if (!claim || claim->address != address.address) continue;
      auto self = hardware_of(address.interface);
      if (self && claim->hardware == *self) continue;
      if (!owner_.on_duplicate_) continue;
      // From the loop, as the callback may take the address down, and us with it.
      owner_.loop_.post([&owner = owner_, alive, which = address, who = claim->hardware] {
        if (*alive) owner.on_duplicate_(which, to_string(who));
      });
      return;
    }
  }

  NetlinkAddresses& owner_;
  std::unique_ptr<Descriptor> socket_;
  std::unique_ptr<FdWatcher> watcher_;
};

NetlinkAddresses::NetlinkAddresses(EventLoop& loop) : loop_(loop) {}

NetlinkAddresses::~NetlinkAddresses() {
  *alive_ = false;
  for (auto& [_, request] : requests_) loop_.cancel(request.timer);
  for (auto& left : left_) loop_.cancel(left.timer);
  route_watcher_.reset();
  monitor_watcher_.reset();
}

Result<std::unique_ptr<NetlinkAddresses>> NetlinkAddresses::open(EventLoop& loop) {
  std::unique_ptr<NetlinkAddresses> self(new NetlinkAddresses(loop));
  auto netlink = [](std::uint32_t groups) -> std::unique_ptr<Descriptor> {
    int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0) return nullptr;
    auto descriptor = std::make_unique<Descriptor>(fd);
    sockaddr_nl where{};
    where.nl_family = AF_NETLINK;
    where.nl_groups = groups;
    if (::bind(fd, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0) return nullptr;
    int on = 1;  // answers do not repeat the request
    ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    return descriptor;
  };
  self->route_ = netlink(0);
  if (self->route_) self->monitor_ = netlink(RTMGRP_LINK);
  if (!self->route_ || !self->monitor_) {
    return fail(ErrorCode::io_error,
                "no netlink socket for the service addresses: " + error_text(errno));
  }
  // For sending only: protocol 0 hears nothing.
  int packet = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (packet >= 0) {
    self->packet_ = std::make_unique<Descriptor>(packet);
  } else {
    self->packet_error_ = errno;
  }
  auto* raw = self.get();
  self->route_watcher_ = std::make_unique<FdWatcher>(loop, self->route_->get(),
                                                     [raw](bool, bool) { raw->read_answers(); });
  self->route_watcher_->want(true, false);
  self->monitor_watcher_ = std::make_unique<FdWatcher>(loop, self->monitor_->get(),
                                                       [raw](bool, bool) { raw->drain_monitor(); });
  self->monitor_watcher_->want(true, false);
  return self;
}

// ---- addresses ----

void NetlinkAddresses::bring_up(const ServiceAddress& address, Duration lifetime,
                                ports::Done<void> done) {
  ASSERT(lifetime >= seconds(1));
  auto index = ::if_nametoindex(address.interface.c_str());
  int error = index == 0 ? ENODEV : packet_error_;
  if (error != 0) {
    loop_.post([address, error, done = std::move(done)]() mutable {
      done(std::unexpected(explain("bring up", address, error)));
    });
    return;
  }
  if (!address.address.is_v6()) promote_secondaries(address.interface);
  Request request;
  request.address = address;
  request.up = true;
  request.message = new_address(address, index, lifetime);
  request.done = [this, address, done = std::move(done)](int failure) mutable {
    if (failure != 0) return done(std::unexpected(explain("bring up", address, failure)));
    forget_left(address.address);
    watch(address);
    done({});
  };
  submit(std::move(request));
}

void NetlinkAddresses::take_down(const ServiceAddress& address, ports::Done<void> done) {
  for (auto& [sequence, request] : requests_) {
    if (!request.up || request.address.address != address.address) continue;
    // No late attempt brings it back.
    request.cancelled = true;
    loop_.cancel(request.timer);
    loop_.post([this, alive = alive_, number = sequence] {
      if (*alive) finish(number, ECANCELED);
    });
  }
  auto gone =
      std::erase_if(watches_, [&](const auto& w) { return w->address.address == address.address; });
  if (gone > 0) keep(address);

  // Whatever interface and prefix it has: those of an older configuration, too.
  auto held = held_addresses();
  std::erase_if(held, [&](const HeldAddress& h) { return h.address != address.address; });
  struct Join {
    std::size_t left = 0;
    int error = 0;
    ports::Done<void> done;
  };
  auto join = std::make_shared<Join>();
  join->left = held.size();
  join->done = std::move(done);
  if (held.empty()) {
    loop_.post([join] { join->done({}); });
    return;
  }
  for (const auto& each : held) {
    Request request;
    request.address = {each.interface, each.address, each.prefix};
    request.message =
        delete_address(each.address, each.prefix, ::if_nametoindex(each.interface.c_str()));
    request.done = [join, which = request.address](int error) {
      if (error == EADDRNOTAVAIL || error == ENODEV) error = 0;
      if (error != 0) join->error = error;
      if (--join->left > 0) return;
      if (join->error == 0) return join->done({});
      join->done(std::unexpected(explain("take down", which, join->error)));
    };
    submit(std::move(request));
  }
}

void NetlinkAddresses::submit(Request request) {
  auto sequence = ++last_sequence_;
  requests_.emplace(sequence, std::move(request));
  send(sequence);
}

void NetlinkAddresses::send(std::uint32_t sequence) {
  auto& request = requests_.at(sequence);
  ++request.attempts;
  request.timer =
      loop_.at(loop_.now() + retry_interval, [this, sequence] { again(sequence, ETIMEDOUT); });
  reinterpret_cast<nlmsghdr*>(request.message.data())->nlmsg_seq = sequence;
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  auto sent = ::sendto(route_->get(), request.message.data(), request.message.size(), 0,
                       reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  if (sent >= 0) return;
  int error = errno;
  if (passes(error)) return;  // the timer tries again
  loop_.cancel(request.timer);
  loop_.post([this, alive = alive_, sequence, error] {
    if (*alive) finish(sequence, error);
  });
}

void NetlinkAddresses::again(std::uint32_t sequence, int error) {
  auto it = requests_.find(sequence);
  if (it == requests_.end()) return;
  if (it->second.attempts >= max_attempts) return finish(sequence, error);
  send(sequence);
}

void NetlinkAddresses::finish(std::uint32_t sequence, int error) {
  auto node = requests_.extract(sequence);
  if (node.empty()) return;
  loop_.cancel(node.mapped().timer);
  node.mapped().done(node.mapped().cancelled ? ECANCELED : error);
}

void NetlinkAddresses::read_answers() {
  alignas(nlmsghdr) std::array<char, 8192> buffer;
  auto alive = alive_;
  for (int i = 0; i < max_reads_per_turn; ++i) {
    sockaddr_nl from{};
    socklen_t from_size = sizeof from;
    auto n = ::recvfrom(route_->get(), buffer.data(), buffer.size(), 0,
                        reinterpret_cast<sockaddr*>(&from), &from_size);
    if (n < 0) return;               // also when answers were lost: the timers ask again
    if (from.nl_pid != 0) continue;  // not the kernel
    auto size = static_cast<std::size_t>(n);
    const auto* m = reinterpret_cast<const nlmsghdr*>(buffer.data());
    if (size < sizeof(nlmsghdr) + sizeof(nlmsgerr) || m->nlmsg_type != NLMSG_ERROR) continue;
    int error = -static_cast<const nlmsgerr*>(NLMSG_DATA(m))->error;
    auto sequence = m->nlmsg_seq;
    auto it = requests_.find(sequence);
    if (it == requests_.end()) continue;
    if (passes(error)) {
      loop_.cancel(it->second.timer);
      it->second.timer = loop_.at(loop_.now() + retry_interval,
                                  [this, sequence, error] { again(sequence, error); });
      continue;
    }
    finish(sequence, error);
    if (!*alive) return;
  }
}

// What changed does not matter, nor whether some of it was lost: who is told looks.
void NetlinkAddresses::drain_monitor() {
  std::array<char, 8192> buffer;
  for (int i = 0; i < max_reads_per_turn; ++i) {
    if (::recv(monitor_->get(), buffer.data(), buffer.size(), 0) < 0 && errno != ENOBUFS) break;
  }
  if (on_link_) on_link_();
}

void NetlinkAddresses::watch(const ServiceAddress& address) {
  if (std::ranges::any_of(watches_, [&](const auto& w) { return w->address == address; })) return;
  if (!hardware_of(address.interface)) return;
  watches_.push_back(std::make_unique<Watch>(*this, address));
}

void NetlinkAddresses::keep(const ServiceAddress& address) {
  forget_left(address.address);
  Left left;
  left.attempts = std::make_unique<ConnectionAttempts>(loop_, address);
  left.timer = loop_.at(loop_.now() + keep_attempts,
                        [this, which = address.address] { forget_left(which); });
  left_.push_back(std::move(left));
}

void NetlinkAddresses::forget_left(const IpAddress& address) {
  std::erase_if(left_, [&](const Left& left) {
    bool match = left.attempts->address().address == address;
    if (match) loop_.cancel(left.timer);
    return match;
  });
}

// ---- neighbours ----

void NetlinkAddresses::transmit(const ServiceAddress& address, const std::vector<Frame>& frames) {
  if (!packet_) return;
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_ifindex = static_cast<int>(::if_nametoindex(address.interface.c_str()));
  where.sll_halen = 6;
  for (const auto& frame : frames) {
    std::memcpy(where.sll_addr, frame.data(), where.sll_halen);
    // At most once; a link that is down refuses, and announces again when it is up.
    [[maybe_unused]] auto sent = ::sendto(packet_->get(), frame.data(), frame.size(), MSG_DONTWAIT,
                                          reinterpret_cast<sockaddr*>(&where), sizeof where);
  }
}

void NetlinkAddresses::announce(const ServiceAddress& address) {
  auto self = hardware_of(address.interface);
  if (!self) return;
  if (address.address.is_v6()) {
    transmit(address, {unsolicited_advertisement(*self, address.address)});
  } else {
    transmit(address, {gratuitous_arp_request(*self, address.address),
                       gratuitous_arp_reply(*self, address.address)});
  }
}

void NetlinkAddresses::probe(const ServiceAddress& address) {
  auto self = hardware_of(address.interface);
  if (!self) return;
  if (!address.address.is_v6()) return transmit(address, {arp_probe(*self, address.address)});
  for (const auto& held : held_addresses()) {
    if (held.interface != address.interface || !held.address.link_local()) continue;
    return transmit(address, {solicitation(*self, held.address, address.address)});
  }
}

// ---- tickles ----

void NetlinkAddresses::tickle(const ServiceAddress& address, std::uint16_t port,
                              const std::vector<Endpoint>& clients) {
  bool v6 = address.address.is_v6();
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
  auto from = socket_address(address.address);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&from), size) != 0) return;  // not up any more
  std::size_t left = max_tickles;
  for (const auto& client : clients) {
    if (client.address.is_v6() != v6) continue;
    if (left-- == 0) break;
    auto segment = tickle_segment({address.address, port}, client);
    auto to = socket_address(client.address);
    [[maybe_unused]] auto sent = ::sendto(fd, segment.data(), segment.size(), MSG_DONTWAIT,
                                          reinterpret_cast<sockaddr*>(&to), size);
  }
}

// ---- for people ----

ports::AddressReport NetlinkAddresses::look(const ServiceAddress& address) {
  ports::AddressReport report;
  auto link = link_of(address.interface);
  report.interface_exists = link.has_value();
  report.link = link.value_or(false);
  report.present = std::ranges::any_of(held_addresses(), [&](const HeldAddress& h) {
    return h.interface == address.interface && h.address == address.address;
  });
  return report;
}

}  // namespace duet::platform
