#include "platform/connection_attempts.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <utility>

#include "platform/network_interfaces.h"

namespace duet::platform {
namespace {

std::uint32_t word(const IpAddress& address, std::size_t at) {
  return load_be<std::uint32_t>(reinterpret_cast<const std::byte*>(address.bytes().data()) + at);
}

// Passes what is about the address at all; the rest would only wake us.
std::vector<sock_filter> filter_for(const IpAddress& address) {
  auto load = [](std::uint32_t at) { return sock_filter(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)); };
  auto half = [](std::uint32_t at) { return sock_filter(BPF_STMT(BPF_LD | BPF_H | BPF_ABS, at)); };
  // Falls through if equal, else jumps over `otherwise` instructions.
  auto equal = [](std::uint32_t value, std::uint8_t otherwise) {
    return sock_filter(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, otherwise));
  };
  sock_filter pass = BPF_STMT(BPF_RET | BPF_K, 2048);
  sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
  if (!address.is_v6()) {
    // The sender in ARP lies at 28, the destination of a packet at 30.
    auto a = word(address, 0);
    return {half(12),
            equal(ETH_P_ARP, 3),
            load(28),
            equal(a, 5),
            pass,  // else to 5, 9
            equal(ETH_P_IP, 3),
            load(30),
            equal(a, 1),
            pass,
            drop};
  }
  // The destination of a packet lies at 38, the target of an advertisement at 62.
  auto first = word(address, 0), last = word(address, 12);
  return {half(12),
          equal(ETH_P_IPV6, 10),
          load(38),
          equal(first, 3),
          load(50),
          equal(last, 1),
          pass,
          load(62),
          equal(first, 3),
          load(74),
          equal(last, 1),
          pass,
          drop};
}

}  // namespace

ConnectionAttempts::ConnectionAttempts(EventLoop& loop, ports::ServiceAddress address)
    : address_(std::move(address)) {
  auto self = hardware_of(address_.interface);
  auto index = static_cast<int>(::if_nametoindex(address_.interface.c_str()));
  if (!self || index == 0) return;
  self_ = *self;
  // Protocol 0 hears nothing: the filter is there before the first frame.
  auto socket =
      std::make_unique<Descriptor>(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  auto code = filter_for(address_.address);
  sock_fprog filter{static_cast<unsigned short>(code.size()), code.data()};
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_protocol = htons(ETH_P_ALL);
  where.sll_ifindex = index;
  if (!socket->valid() ||
      ::setsockopt(socket->get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
      ::bind(socket->get(), reinterpret_cast<sockaddr*>(&where), sizeof where) != 0) {
    return;
  }
  socket_ = std::move(socket);
  watcher_ = std::make_unique<FdWatcher>(loop, socket_->get(), [this](bool, bool) { receive(); });
  watcher_->want(true, false);
}

void ConnectionAttempts::receive() {
  std::array<std::byte, 2048> buffer;
  for (int i = 0; i < max_reads_per_turn; ++i) {
    sockaddr_ll from{};
    socklen_t from_size = sizeof from;
    auto n = ::recvfrom(socket_->get(), buffer.data(), buffer.size(), 0,
                        reinterpret_cast<sockaddr*>(&from), &from_size);
    if (n < 0) return;
    if (from.sll_pkttype != PACKET_OUTGOING) take(Bytes(buffer).first(static_cast<std::size_t>(n)));
  }
}

void ConnectionAttempts::take(Bytes frame) {
  auto claim = address_.address.is_v6() ? parse_advertisement_frame(frame) : parse_arp(frame);
  if (claim && claim->address == address_.address && claim->hardware != self_) {
    owner_ = claim->hardware;
    for (auto& each : std::exchange(kept_, {})) pass_on(std::move(each));
    return;
  }
  if (frame.size() > max_frame || !is_connection_attempt(frame, address_.address)) return;
  Frame copy(frame.begin(), frame.end());
  if (owner_) return pass_on(std::move(copy));
  if (kept_.size() < max_kept) kept_.push_back(std::move(copy));
}

void ConnectionAttempts::pass_on(Frame frame) {
  if (passed_on_ >= max_passed_on) return;
  ++passed_on_;
  readdress(frame, self_, *owner_);
  // At most once: the client tries again.
  [[maybe_unused]] auto sent = ::send(socket_->get(), frame.data(), frame.size(), MSG_DONTWAIT);
}

}  // namespace duet::platform
