// What `duet status` shows of the core: a plain value.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ha/auto_giveback.h"
#include "ha/health.h"
#include "ha/mailbox.h"
#include "ha/partner_monitor.h"
#include "ha/reason.h"
#include "ha/veto.h"

namespace duet::ha {

struct DumpSnapshot {
  std::uint8_t disk = 0;              // index
  Instant since{}, until{};           // until: at most; Instant::max(): not bounded from here
  std::uint64_t done = 0, total = 0;  // bytes; total 0: not known
};

struct IdentitySnapshot {
  NodeId identity;
  NodeId server;  // by the mailbox; 0: unknown
  bool served_here = false;
  std::vector<std::uint8_t> missing_disks;  // without a path from here, by index
  std::vector<std::uint8_t> absent_disks;   // that it is served without here, by index
  std::vector<DumpSnapshot> left_to_dump;   // of those: not fenced, its node may dump to them
  std::vector<DumpSnapshot> collected;      // dumps that become core files now
  bool mailbox_known = false;
  Epoch epoch;
  Durability durability = Durability::write_through;
  std::uint64_t replayed = 0;  // records, when we assumed it
  Instant lease_until{};       // ours
};

struct Snapshot {
  NodeId self;
  BootNonce nonce;
  Epoch boot_epoch;
  NodeState state{};
  Reason why = Reason::none;
  std::string next;  // what it waits for, in words; empty: nothing
  std::string_view takeover_step, giveback_step;
  Verdict partner_verdict{};
  bool partner_known = false;  // its structure has been read twice
  NodeState partner_state{};
  BootNonce partner_nonce;
  Channel interconnect{}, disk_heartbeat{};
  ports::LinkState link{};
  bool mirror_window_open = false;
  bool suspended = false;
  std::string_view departure_step;
  std::optional<Duration> countdown_left;   // ours, or the partner's that runs at us
  bool asked_by_partner = false;            // the takeover under way; otherwise ordered here
  bool may_cancel = false;                  // a takeover under way, at this node
  Vetoes takeover_vetoes, giveback_vetoes;  // of an order now
  AutoGivebackPlan auto_giveback;           // of the partner's identity: when, or why not
  bool uncoordinated = false;               // given back to a partner that has yet to boot
  std::vector<Instant> takeovers;  // of the partner, not by order; for Config::past_takeovers
  // The first of the vetoes.
  Reason takeover_obstacle = Reason::none;  // none: a takeover by order is possible
  Reason giveback_obstacle = Reason::none;
  std::optional<HealthRecord> own_health, partner_health;  // partner: as last received
  Duration partner_health_age{};
  Reason last_refusal = Reason::none;  // of the last takeover that ended without serving
  std::array<IdentitySnapshot, 2> identities;
  std::uint64_t progress = 0;
  std::uint64_t stale_messages = 0, invalid_messages = 0, unknown_messages = 0;
  std::uint64_t invalid_states = 0, illegal_states = 0;
  std::uint64_t partner_dump_disks = 0;  // that would be left to the partner's dump now
};

}  // namespace duet::ha
