// Safeguards that can be left out, one at a time, at the simulated ports: how we know that the
// checkers see. Each must be caught (docs/simulator.md).
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

namespace duet::simulator {

enum class Safeguard {
  none,
  abort_on_preempt,      // PREEMPT AND ABORT does not abort
  reservation_conflict,  // writes that the reservation forbids happen all the same
  every_disk_fenced,     // one disk is not preempted, though it seems so
  window_closed,         // close_window returns, and the partner can still write
  mirror_landed,         // mirror writes complete although nobody has them
  resync_complete,       // the mark is cleared while the copy is still incomplete
  commit_persists,       // mirror writes complete before they are persistent
  mark_before_ack,       // a durability mark is answered but not written
  stale_mark_honoured,   // the partner's mailbox always says "mirrored"
  mailbox_durable,       // mailbox writes are answered before they are done
  taken_over_honoured,   // a node that was taken over reads that it was not
  lease,                 // replies leave without a valid lease
  replay_restarted,      // a second replay of a log does nothing
  log_freed_after_cp,    // consistency points are answered before their data is on disk
  giveback_progress,     // a partner that is gone seems to wait for its giveback, and to go on
  flush,                 // a flush is answered, nothing is flushed
  force_unit_access,     // durable writes stay in the disk's cache
  dump_disk_checked,     // a dump lands on a disk of data
  fence_before_dump,     // no disk of a node can be fenced while its engine stands still
  left_disk_taken,       // a disk that was left to a dump is not preempted, though it seems so
};

struct Sabotage {
  Safeguard left_out = Safeguard::none;
  std::array<bool, 3> standing_still{};  // fence_before_dump: the engines of these nodes
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
