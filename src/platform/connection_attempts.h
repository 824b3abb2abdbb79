// Clients that try to connect while the address is on its way: their caches still lead here, nobody
// answers, and their kernels would try again only after a second. What arrives for an address that
// left this node is kept, and passed on when its new owner announces itself. Nothing is ever
// answered for an address that is not ours.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "platform/descriptor.h"
#include "platform/event_loop.h"
#include "platform/fd_watcher.h"
#include "platform/neighbor_frames.h"
#include "ports/addresses.h"

namespace duet::platform {

class ConnectionAttempts {
 public:
  static constexpr std::size_t max_kept = 256;  // more are lost, and tried again by the client
  static constexpr std::size_t max_frame =
      256;  // bytes; the first segment of a connection is short
  static constexpr std::size_t max_passed_on = 4096;  // in a life
  static constexpr int max_reads_per_turn = 64;

  // Keeps them for `address` until destroyed. Does nothing where there is no Ethernet, or no
  // permission.
  ConnectionAttempts(EventLoop& loop, ports::ServiceAddress address);
  ConnectionAttempts(const ConnectionAttempts&) = delete;
  ConnectionAttempts& operator=(const ConnectionAttempts&) = delete;

  const ports::ServiceAddress& address() const { return address_; }

 private:
  void receive();
  void take(Bytes frame);
  void pass_on(Frame frame);

  const ports::ServiceAddress address_;
  HardwareAddress self_{};
  std::optional<HardwareAddress> owner_;  // who announced it
  std::vector<Frame> kept_;
  std::size_t passed_on_ = 0;
  std::unique_ptr<Descriptor> socket_;
  std::unique_ptr<FdWatcher> watcher_;
};

}  // namespace duet::platform
