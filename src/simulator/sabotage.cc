#include "simulator/sabotage.h"

#include <algorithm>
#include <array>

namespace duet::simulator {

namespace {

constexpr std::array named{
    NamedSafeguard{Safeguard::abort_on_preempt, "abort", "PREEMPT AND ABORT does not abort"},
    NamedSafeguard{Safeguard::reservation_conflict, "conflict",
                   "disks execute writes that the reservation forbids"},
    NamedSafeguard{Safeguard::every_disk_fenced, "fence_all",
                   "one disk is not preempted, though it seems so"},
    NamedSafeguard{Safeguard::window_closed, "revoke",
                   "close_window returns, and the partner can still write"},
    NamedSafeguard{Safeguard::mirror_landed, "mirror",
                   "mirror writes complete although nobody has them"},
    NamedSafeguard{Safeguard::resync_complete, "resync",
                   "the mark is cleared before the copy is complete"},
    NamedSafeguard{Safeguard::commit_persists, "commit",
                   "mirror writes complete before they are persistent"},
    NamedSafeguard{Safeguard::mark_before_ack, "mark",
                   "a durability mark is answered but not written"},
    NamedSafeguard{Safeguard::stale_mark_honoured, "stale_mark",
                   "the partner's mailbox always seems to say mirrored"},
    NamedSafeguard{Safeguard::mailbox_durable, "persist",
                   "mailbox writes are answered before they are done"},
    NamedSafeguard{Safeguard::taken_over_honoured, "epoch",
                   "a node that was taken over reads that it was not"},
    NamedSafeguard{Safeguard::lease, "lease", "replies leave without a valid lease"},
    NamedSafeguard{Safeguard::replay_restarted, "replay",
                   "a log whose replay was cut short is not replayed again"},
    NamedSafeguard{Safeguard::log_freed_after_cp, "log",
                   "the log is freed before the data of its consistency point is on disk"},
    NamedSafeguard{Safeguard::giveback_progress, "progress",
                   "a partner that is gone seems to wait for its giveback, and to go on"},
    NamedSafeguard{Safeguard::flush, "flush",
                   "a flush of a disk's cache is answered, nothing is flushed"},
    NamedSafeguard{Safeguard::force_unit_access, "fua", "durable writes stay in the disk's cache"},
    NamedSafeguard{Safeguard::dump_disk_checked, "dump_to_data_disk",
                   "a dump lands on a disk of data"},
    NamedSafeguard{Safeguard::fence_before_dump, "fence_waits_for_dump",
                   "no disk of a node can be fenced while its engine stands still"},
    NamedSafeguard{Safeguard::left_disk_taken, "dump_never_released",
                   "a disk that was left to a dump is not preempted, though it seems so"},
};

}  // namespace

std::span<const NamedSafeguard> all_safeguards() {
  return named;
}

std::optional<Safeguard> find_safeguard(std::string_view name) {
  auto it = std::ranges::find(named, name, &NamedSafeguard::name);
  if (it == named.end()) return std::nullopt;
  return it->safeguard;
}

}  // namespace duet::simulator
