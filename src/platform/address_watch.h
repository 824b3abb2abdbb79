// Hears who else claims an address that is up here.
#pragma once

#include <functional>
#include <memory>

#include "platform/descriptor.h"
#include "platform/event_loop.h"
#include "platform/fd_watcher.h"
#include "platform/neighbor_frames.h"
#include "ports/addresses.h"

namespace duet::platform {

class AddressWatch {
 public:
  static constexpr int max_reads_per_turn = 64;
  using OnClaim = std::function<void(const HardwareAddress& who)>;

  // Deaf without CAP_NET_RAW. `on_claim` may destroy the watch.
  AddressWatch(EventLoop& loop, ports::ServiceAddress address, OnClaim on_claim);
  AddressWatch(const AddressWatch&) = delete;
  AddressWatch& operator=(const AddressWatch&) = delete;

  const ports::ServiceAddress& address() const { return address_; }

 private:
  int listen_v4() const;
  int listen_v6() const;
  void receive();

  const ports::ServiceAddress address_;
  OnClaim on_claim_;
  std::unique_ptr<Descriptor> socket_;
  std::unique_ptr<FdWatcher> watcher_;
};

}  // namespace duet::platform
