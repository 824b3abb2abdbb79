#include "ha/health.h"

namespace duet::ha {

std::string_view name(Finding finding) {
  switch (finding) {
    case Finding::none:
      return "none";
    case Finding::not_known_yet:
      return "not_known_yet";
    case Finding::not_managed:
      return "not_managed";
    case Finding::disk_unreachable:
      return "disk_unreachable";
    case Finding::disk_errors:
      return "disk_errors";
    case Finding::disk_slow:
      return "disk_slow";
    case Finding::path_lost:
      return "path_lost";
    case Finding::inventory_differs:
      return "inventory_differs";
    case Finding::link_down:
      return "link_down";
    case Finding::link_refused:
      return "link_refused";
    case Finding::mirror_off:
      return "mirror_off";
    case Finding::mirror_one_way:
      return "mirror_one_way";
    case Finding::nvram_volatile:
      return "nvram_volatile";
    case Finding::nvram_size_differs:
      return "nvram_size_differs";
    case Finding::memory_not_locked:
      return "memory_not_locked";
    case Finding::memory_low:
      return "memory_low";
    case Finding::engine_down:
      return "engine_down";
    case Finding::engine_stalls:
      return "engine_stalls";
    case Finding::network_down:
      return "network_down";
    case Finding::address_missing:
      return "address_missing";
    case Finding::pool_not_served:
      return "pool_not_served";
    case Finding::address_contested:
      return "address_contested";
    case Finding::version_differs:
      return "version_differs";
    case Finding::version_refused:
      return "version_refused";
    case Finding::alone:
      return "alone";
  }
  return "unknown";
}

std::string_view cure(Finding finding) {
  switch (finding) {
    case Finding::none:
    case Finding::not_managed:
      return "";
    case Finding::not_known_yet:
      return "wait for the first report";
    case Finding::disk_unreachable:
      return "check power and cables of this node's own shelf, and its portal in the configuration";
    case Finding::disk_errors:
      return "look at the disk's log, replace the disk; clears a minute after the last error";
    case Finding::disk_slow:
      return "look for load or a failing disk; clears a minute after the last slow command";
    case Finding::path_lost:
      return "check the cables from this node to the partner's shelf, and its portal in the "
             "configuration";
    case Finding::inventory_differs:
      return "make both nodes see the same disks in the same order: cables, and [[shelf]] portal, "
             "iqn and luns of both configurations";
    case Finding::link_down:
      return "check the interconnect's cable and addresses, and that the partner's duetd runs";
    case Finding::link_refused:
      return "make cluster name, secret, node numbers and addresses of both configurations match";
    case Finding::mirror_off:
      return "comes back with the interconnect and a partner that is up";
    case Finding::mirror_one_way:
      return "comes back by itself; see 'duet events' of both nodes";
    case Finding::nvram_volatile:
      return "use persistent memory for nvram.path";
    case Finding::nvram_size_differs:
      return "make nvram.size the same on both nodes";
    case Finding::memory_not_locked:
      return "raise the limit of locked memory (LimitMEMLOCK=infinity)";
    case Finding::memory_low:
      return "end what else uses memory on this node, or lower engine.cache";
    case Finding::engine_down:
      return "starts by itself; see 'duet events'";
    case Finding::engine_stalls:
      return "is restarted by itself after engine.progress_limit_ms; see 'duet events'";
    case Finding::network_down:
      return "check the cable and the switch of the clients' network";
    case Finding::address_missing:
      return "see 'duet events'; configure the service's interface, or give the address to it";
    case Finding::pool_not_served:
      return "comes when the node is up; see 'duet status'";
    case Finding::address_contested:
      return "find the other machine that uses the address, and take it away there";
    case Finding::version_differs:
      return "bring both nodes to the same version";
    case Finding::version_refused:
      return "bring the older node to a version that the other one speaks";
    case Finding::alone:
      return "comes when the partner runs and the interconnect is up";
  }
  return "see 'duet health' at the node itself: it is of a newer version";
}

}  // namespace duet::ha
