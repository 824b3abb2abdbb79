// Safeguards that can be left out, one at a time, at the simulated ports: how we know that the
// checkers see. Each must be caught (docs/simulator.md).
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace duet::simulator {

enum class Safeguard {
  none,
  abort_on_preempt,      // PREEMPT AND ABORT does not abort
  window_closed,         // close_window returns, and the partner can still write
  mark_before_ack,       // a mailbox write of a durability mark is answered but not done
  stale_mark_honoured,   // mailboxes read by the partner always say "mirrored"
  mark_cleared_late,     // "mirrored" is granted before the copy is complete
  every_disk_fenced,     // one disk is not preempted, though it is answered GOOD
  lease,                 // replies leave without a valid lease
  epoch_checked,         // the reservation keys of every epoch are taken for ours
  log_freed_after_cp,    // the superblock says more than what is on disk
  replay_restarted,      // replay begins behind what an earlier, unfinished one has applied
  giveback_progress,     // a stuck partner's state structure seems to make progress
  flush,                 // a flush is answered, nothing is flushed
  force_unit_access,     // durable writes stay in the disk's cache
  commit_persists,       // mirror writes complete before they are persistent
  state_validated,       // torn state structures get a right checksum
  nonces_checked,        // the partner's mirror window accepts engines of every boot
  reservation_conflict,  // writes that the reservation forbids happen all the same
};

struct Sabotage {
  Safeguard left_out = Safeguard::none;
  bool without(Safeguard safeguard) const { return left_out == safeguard; }
};

struct NamedSafeguard {
  Safeguard safeguard;
  std::string_view name;
  std::string_view what;  // what is left out, for people
};
std::span<const NamedSafeguard> all_safeguards();
std::optional<Safeguard> find_safeguard(std::string_view name);

}  // namespace duet::simulator
