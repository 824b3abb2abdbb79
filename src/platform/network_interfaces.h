// What the kernel says about the network interfaces of this machine, that is, of its network
// namespace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ip_address.h"
#include "platform/neighbor_frames.h"

namespace duet::platform {

struct HeldAddress {
  std::string interface;
  IpAddress address;
  std::uint8_t prefix = 0;
};
// Empty also when the kernel does not say.
std::vector<HeldAddress> held_addresses();

// Nothing: no such interface, or none with Ethernet's ARP and neighbour discovery.
std::optional<HardwareAddress> hardware_of(const std::string& interface);

// Up, and with a carrier. Nothing: no such interface.
std::optional<bool> link_of(const std::string& interface);

// Whether packets to `address` are delivered to this machine. The kernel makes that route for an
// IPv6 address a little later than the address.
bool delivered_here(const IpAddress& address);

// When the first address of a network goes, the kernel shall not take the others along.
void promote_secondaries(const std::string& interface);

}  // namespace duet::platform
