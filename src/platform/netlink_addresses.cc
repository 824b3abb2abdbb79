#include "platform/netlink_addresses.h"

#include <errno.h>
#include <fmt/format.h>
#include <linux/if_addr.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
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
  // A route that both an own address and ours need must not end with the
  // lifetime of ours.
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
                 "no permission; run duetd as root, or give "
                 "it CAP_NET_ADMIN and CAP_NET_RAW");
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

NetlinkAddresses::NetlinkAddresses(EventLoop& loop) : loop_(loop) {}

NetlinkAddresses::~NetlinkAddresses() {
  *alive_ = false;
  for (auto& [_, request] : requests_) loop_.cancel(request.timer);
  for (auto& left : left_) loop_.cancel(left.timer);
  for (auto& [_, each] : rising_) loop_.cancel(each.timer);
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
  cancel_requests(address.address, false);
  Request request;
  request.address = address;
  request.up = true;
  request.message = new_address(address, index, lifetime);
  request.done = [this, address, done = std::move(done)](int failure) mutable {
    if (failure != 0) return done(std::unexpected(explain("bring up", address, failure)));
    auto rising = ++last_rising_;
    rising_.emplace(rising, Rising{address, std::move(done)});
    settle(rising);
  };
  submit(std::move(request));
}

// No late attempt undoes what is ordered now.
void NetlinkAddresses::cancel_requests(const IpAddress& address, bool up) {
  for (auto& [sequence, request] : requests_) {
    if (request.up != up || request.address.address != address) continue;
    request.cancelled = true;
    loop_.cancel(request.timer);
    loop_.post([this, alive = alive_, number = sequence] {
      if (*alive) finish(number, ECANCELED);
    });
  }
}

void NetlinkAddresses::take_down(const ServiceAddress& address, ports::Done<void> done) {
  cancel_requests(address.address, true);
  for (auto it = rising_.begin(); it != rising_.end();) {
    if (it->second.address.address != address.address) {
      ++it;
      continue;
    }
    auto node = rising_.extract(it++);
    loop_.cancel(node.mapped().timer);
    loop_.post([which = address, cancelled = std::move(node.mapped().done)]() mutable {
      cancelled(std::unexpected(explain("bring up", which, ECANCELED)));
    });
  }
  auto gone = std::erase_if(watches_,
                            [&](const auto& w) { return w->address().address == address.address; });
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
      if (error == EADDRNOTAVAIL || error == ENODEV || error == ECANCELED) error = 0;
      if (error != 0) join->error = error;
      if (--join->left > 0) return;
      if (join->error == 0) return join->done({});
      join->done(std::unexpected(explain("take down", which, join->error)));
    };
    submit(std::move(request));
  }
}

void NetlinkAddresses::settle(std::uint64_t rising) {
  auto it = rising_.find(rising);
  if (it == rising_.end()) return;
  auto& r = it->second;
  if (!delivered_here(r.address.address) && ++r.looks < max_settle_looks) {
    r.timer = loop_.at(loop_.now() + settle_interval, [this, rising] { settle(rising); });
    return;
  }
  auto node = rising_.extract(it);
  forget_left(node.mapped().address.address);
  watch(node.mapped().address);
  node.mapped().done({});
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

// What changed does not matter, nor whether some of it was lost: who is told
// looks.
void NetlinkAddresses::drain_monitor() {
  std::array<char, 8192> buffer;
  for (int i = 0; i < max_reads_per_turn; ++i) {
    if (::recv(monitor_->get(), buffer.data(), buffer.size(), 0) < 0 && errno != ENOBUFS) break;
  }
  if (on_link_) on_link_();
}

void NetlinkAddresses::watch(const ServiceAddress& address) {
  auto same = [&](const auto& w) { return w->address() == address; };
  if (std::ranges::any_of(watches_, same) || !hardware_of(address.interface)) return;
  watches_.push_back(
      std::make_unique<AddressWatch>(loop_, address, [this, address](const HardwareAddress& who) {
        // From the loop, as the callback may take the address down, and the
        // watch with it.
        loop_.post([this, alive = alive_, address, who] {
          if (*alive && on_duplicate_) on_duplicate_(address, to_string(who));
        });
      }));
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
    // At most once; a link that is down refuses, and announces again when it is
    // up.
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
