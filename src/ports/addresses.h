// The service addresses of this node on its network interfaces: bring up, announce, take down
// (docs/protocols/addresses.md).
//
// An address is held for a bounded time only: who brings it up renews it, and when that process
// stands still or dies, the kernel takes the address away by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/ip_address.h"
#include "ports/scheduler.h"

namespace duet::ports {

struct ServiceAddress {
  std::string interface;
  IpAddress address;
  std::uint8_t prefix = 32;  // of the network that `address` lies in
  bool operator==(const ServiceAddress&) const = default;
};

// Where an address stands, for people and for health.
struct AddressReport {
  bool interface_exists = false;
  bool link = false;     // the interface is up and has a carrier
  bool present = false;  // this node has the address
};

class Addresses {
 public:
  virtual ~Addresses() = default;

  // The address is there, without waiting for duplicate address detection, until `lifetime` (whole
  // seconds, at least 1) after the last call; again: renewed. Errors: refused (no permission),
  // not_found (no such interface), io_error; each names interface, address and cure. Temporary
  // errors are tried again a few times.
  virtual void bring_up(const ServiceAddress& address, Duration lifetime, Done<void> done) = 0;
  // When the call returns the kernel has been told; `done` says how it went. Good also when the
  // address, or its interface, is not there.
  virtual void take_down(const ServiceAddress& address, Done<void> done) = 0;
  // Tells the neighbours that the address is here: a gratuitous ARP request and reply (RFC 5227
  // 2.3), or an unsolicited neighbour advertisement (RFC 4861 7.2.6). At most once, no error.
  virtual void announce(const ServiceAddress& address) = 0;
  // Asks whether somebody else has it (RFC 5227 2.1.1, RFC 4862 5.4.2); on_duplicate tells of
  // answers, while the address is up here.
  virtual void probe(const ServiceAddress& address) = 0;
  // Makes each client find out at once whether its connection to `address`:`port` still exists: a
  // bare ACK with a sequence number out of its window; to its answer our kernel sends RST if we do
  // not know the connection. Harmless to connections that live. At most max_tickles of them.
  static constexpr std::size_t max_tickles = 1024;
  virtual void tickle(const ServiceAddress& address, std::uint16_t port,
                      const std::vector<Endpoint>& clients) = 0;

  virtual AddressReport look(const ServiceAddress& address) = 0;
  // The link of some interface may have changed.
  virtual void on_link(std::function<void()> callback) = 0;
  // Another machine, with this hardware address, uses an address that is up here.
  virtual void on_duplicate(
      std::function<void(const ServiceAddress&, const std::string& hardware)> callback) = 0;
};

}  // namespace duet::ports
