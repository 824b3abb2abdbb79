// ports::Addresses for Linux: rtnetlink for addresses and links, a packet
// socket for ARP and neighbour discovery, raw TCP sockets for tickles. Needs
// CAP_NET_ADMIN and CAP_NET_RAW.
//
// The kernel carries a netlink request out before send() returns; its answer is
// read from the loop. Our addresses bring a route to their network only when
// the interface has none of its own there, and are never chosen as source of
// what this node sends by itself (deprecated).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "platform/address_watch.h"
#include "platform/connection_attempts.h"
#include "platform/descriptor.h"
#include "platform/event_loop.h"
#include "platform/fd_watcher.h"
#include "platform/neighbor_frames.h"
#include "platform/tickle.h"
#include "ports/addresses.h"

namespace duet::platform {

class NetlinkAddresses final : public ports::Addresses {
 public:
  static constexpr int max_attempts = 3;
  static constexpr Duration retry_interval = milliseconds(100);
  static constexpr int max_reads_per_turn = 64;
  // Until packets to a new address are delivered; after the last look it is
  // taken for granted.
  static constexpr Duration settle_interval = milliseconds(1);
  static constexpr int max_settle_looks = 200;
  // For so long after an address left, attempts to connect to it are kept for
  // its new owner.
  static constexpr Duration keep_attempts = seconds(5);

  // Error: io_error (no netlink sockets).
  static Result<std::unique_ptr<NetlinkAddresses>> open(EventLoop& loop);
  ~NetlinkAddresses() override;

  void bring_up(const ports::ServiceAddress& address, Duration lifetime,
                ports::Done<void> done) override;
  void take_down(const ports::ServiceAddress& address, ports::Done<void> done) override;
  void announce(const ports::ServiceAddress& address) override;
  void probe(const ports::ServiceAddress& address) override;
  void tickle(const ports::ServiceAddress& address, std::uint16_t port,
              const std::vector<Endpoint>& clients) override {
    send_tickles({address.address, port}, clients);
  }
  ports::AddressReport look(const ports::ServiceAddress& address) override;
  void on_link(std::function<void()> callback) override { on_link_ = std::move(callback); }
  void on_duplicate(
      std::function<void(const ports::ServiceAddress&, const std::string&)> callback) override {
    on_duplicate_ = std::move(callback);
  }

 private:
  struct Request;

  explicit NetlinkAddresses(EventLoop& loop);
  void cancel_requests(const IpAddress& address, bool up);
  void submit(Request request);
  void send(std::uint32_t sequence);
  void again(std::uint32_t sequence, int error);
  void finish(std::uint32_t sequence, int error);
  void read_answers();
  void drain_monitor();
  void settle(std::uint64_t rising);
  void watch(const ports::ServiceAddress& address);
  void keep(const ports::ServiceAddress& address);
  void forget_left(const IpAddress& address);
  void transmit(const ports::ServiceAddress& address, const std::vector<Frame>& frames);

  EventLoop& loop_;
  std::unique_ptr<Descriptor> route_, monitor_, packet_;
  int packet_error_ = 0;  // why there is no packet socket
  std::unique_ptr<FdWatcher> route_watcher_, monitor_watcher_;
  std::uint32_t last_sequence_ = 0;
  std::map<std::uint32_t, Request> requests_;  // under way, by sequence number
  struct Rising {                              // the kernel has it, but may not deliver to it yet
    ports::ServiceAddress address;
    ports::Done<void> done;
    int looks = 0;
    ports::TimerId timer{};
  };
  std::map<std::uint64_t, Rising> rising_;
  std::uint64_t last_rising_ = 0;
  std::vector<std::unique_ptr<AddressWatch>> watches_;
  struct Left {
    std::unique_ptr<ConnectionAttempts> attempts;
    ports::TimerId timer{};
  };
  std::vector<Left> left_;  // addresses that were up here until lately
  std::function<void()> on_link_;
  std::function<void(const ports::ServiceAddress&, const std::string&)> on_duplicate_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::platform
