// What a core must know before its first event. Defaults are those of docs/configuration.md.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "coredump/release.h"
#include "ha/auto_giveback.h"
#include "ha/events.h"

namespace duet::ha {

struct Timers {
  Duration state_read = milliseconds(50);
  Duration heartbeat = milliseconds(100);  // mailbox heartbeat, written and read
  Duration interconnect_silence = milliseconds(500);
  Duration mailbox_silence = milliseconds(800);
  Duration cold_start_wait = seconds(10);  // 0: never take over a partner that was never seen
  Duration boot_partner_wait = seconds(3);
  Duration boot_link_wait = milliseconds(300);
  Duration wait_poll = milliseconds(20);  // givewait, mbwait
  Duration kill_interval = milliseconds(200);
  Duration givewait_deadline = seconds(10);  // released to MBWAIT
  Duration giveback_deadline = seconds(5);   // mailbox free to partner up
  Duration tie_break_delay = milliseconds(100);
  // Shorter than the partner's patience, so that a silent node stops answering before it is
  // replaced.
  Duration lease() const { return mailbox_silence - milliseconds(200); }
};

struct Config {
  NodeId self;
  ClusterId cluster;
  struct Shelf {
    std::uint8_t disks = 0;   // 1..max_disks
    std::vector<DiskId> ids;  // when known; written into the mailbox
  };
  std::array<Shelf, 3> shelves;  // by identity; [0] unused
  Timers timers;
  coredump::ReleaseLimits dump_limits;
  bool auto_giveback = false;
  AutoGivebackRules auto_giveback_rules;  // `enabled` is auto_giveback
  // Takeovers of the partner in earlier boots of this daemon (Snapshot::takeovers): for the
  // ping-pong breaker.
  std::vector<Instant> past_takeovers;

  NodeId partner() const { return partner_of(self); }
  std::uint8_t disks(NodeId identity) const { return shelves[identity.value()].disks; }
  std::uint8_t mailbox_disks_of(NodeId identity) const {
    return disks(identity) < mailbox_disks ? disks(identity) : mailbox_disks;
  }
};

// Bounds and pauses that nobody needs to configure.
// For the partner to show that it has taken over from a node that dumps; then that ends its dump.
inline constexpr Duration dump_patience = seconds(8);
inline constexpr Duration farewell = milliseconds(200);  // a dying node's last state can be read
inline constexpr Duration stop_wait = seconds(2);        // for the engine to end when told to
inline constexpr Duration window_wait = seconds(1);      // for MirrorWindowClosed
inline constexpr Duration look_wait = seconds(3);        // for LogChecked
inline constexpr Duration backoff = seconds(1);          // between attempts of a takeover
inline constexpr Duration assume_retry = milliseconds(500);  // after AssumeFailed
inline constexpr Duration late_key_look = seconds(3);  // at the registrations of disks taken over
inline constexpr Duration io_retry = milliseconds(50);
inline constexpr Duration keeper_retry = milliseconds(2);     // another mailbox write is under way
inline constexpr Duration unknown_retry = milliseconds(500);  // reading an unknown mailbox
inline constexpr Duration status_interval = seconds(1);       // reading the partner's mailbox
// A node that cannot serve asks to be taken over when that lasts; and again after a pause, each
// twice as long as the one before.
inline constexpr Duration unwell_patience = seconds(3);
inline constexpr Duration go_pause_min = seconds(60), go_pause_max = seconds(600);
inline constexpr Duration offer_interval = seconds(1);
inline constexpr Duration scheduling_gap = milliseconds(200);  // we ourselves were not running
inline constexpr Instant never = Instant::max();

}  // namespace duet::ha
