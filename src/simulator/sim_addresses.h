// Service addresses as the kernels of the two machines and the clients' neighbour caches have them:
// an address is held for a bounded time, found by whoever announced it last, and answered for by
// the kernel whatever its processes do.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ports/addresses.h"
#include "simulator/sim_network.h"

namespace duet::simulator {

class SimAddresses final : public ports::Addresses {
 public:
  // `process`: the supervisor of `node`.
  SimAddresses(ClientNetwork& network, Process& process, Random& random, NodeId node)
      : network_(network), process_(process), random_(random), node_(node) {}
  ~SimAddresses() override = default;

  void bring_up(const ports::ServiceAddress& address, Duration lifetime,
                ports::Done<void> done) override;
  void take_down(const ports::ServiceAddress& address, ports::Done<void> done) override;
  void announce(const ports::ServiceAddress& address) override;
  void probe(const ports::ServiceAddress& address) override;
  void tickle(const ports::ServiceAddress& address, std::uint16_t port,
              const std::vector<Endpoint>& clients) override;
  ports::AddressReport look(const ports::ServiceAddress& address) override;
  void on_link(std::function<void()>) override {}  // the simulated network has no carrier to lose
  void on_duplicate(std::function<void(const ports::ServiceAddress&, const std::string& hardware)>
                        callback) override {
    on_duplicate_ = std::move(callback);
  }

 private:
  ClientNetwork& network_;
  Process& process_;
  Random& random_;
  NodeId node_;
  std::function<void(const ports::ServiceAddress&, const std::string&)> on_duplicate_;
};

}  // namespace duet::simulator
