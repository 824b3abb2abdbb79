#include "simulator/sim_addresses.h"

namespace duet::simulator {

namespace {

constexpr std::uint64_t kernel_us = 500;         // for a netlink request
constexpr std::uint64_t lost_of_100 = 10;        // announcements
constexpr std::uint64_t neighbours_us = 20'000;  // until all have heard of one

}  // namespace

void SimAddresses::bring_up(const ports::ServiceAddress& address, Duration lifetime,
                            ports::Done<void> done) {
  network_.hold(to_string(address.address), node_, process_.now() + lifetime);
  process_.at(process_.now() + std::chrono::microseconds(random_.below(kernel_us)),
              [done = std::move(done)]() mutable { done({}); });
}

void SimAddresses::take_down(const ports::ServiceAddress& address, ports::Done<void> done) {
  network_.hold(to_string(address.address), node_, Instant{});
  process_.post([done = std::move(done)]() mutable { done({}); });
}

void SimAddresses::announce(const ports::ServiceAddress& address) {
  if (random_.chance(lost_of_100, 100)) return;
  network_.announce(to_string(address.address), node_,
                    std::chrono::microseconds(random_.below(neighbours_us)));
}

void SimAddresses::probe(const ports::ServiceAddress& address) {
  if (!network_.held(to_string(address.address), partner_of(node_))) return;
  process_.at(process_.now() + std::chrono::microseconds(random_.below(neighbours_us)),
              [this, address] {
                if (on_duplicate_) on_duplicate_(address, "the partner's");
              });
}

void SimAddresses::tickle(const ports::ServiceAddress& address, std::uint16_t,
                          const std::vector<Endpoint>&) {
  network_.reset_strangers(to_string(address.address), node_);
}

ports::AddressReport SimAddresses::look(const ports::ServiceAddress& address) {
  return {true, true, network_.held(to_string(address.address), node_)};
}

}  // namespace duet::simulator
