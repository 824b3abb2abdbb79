// Which disk a panicking node may dump to: one that holds no file data, by what stands on the disk
// itself (docs/protocols/coredump.md, invariant I11). A pure decision; the caller has read label
// and header again after the engine was stopped.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "coredump/header.h"
#include "disk/label.h"

namespace duet::coredump {

inline constexpr std::uint64_t min_dump_room = 16 * 1024 * 1024;  // bytes

// What is known of one disk that a path leads to.
struct DumpCandidate {
  DiskId expected;                                 // the disk that should be there
  std::uint64_t medium_size = 0;                   // bytes, as the disk says
  std::optional<Result<disk::ChosenLabel>> label;  // absent: could not be read
  std::optional<Result<Header>> header;            // absent: could not be read
  bool raid_left_it = false;  // RAID said that it does not use the disk; no word is a no
  bool reserved = false;      // by our supervisor, under our epoch
};

enum class Refusal {
  none,
  unreadable,
  no_label,
  other_disk,
  other_owner,
  holds_data,
  mailbox_disk,
  drafted,
  not_reserved,
  too_small,
};
std::string_view name(Refusal refusal);

// Why the node `self` of `cluster` must not dump to this disk; none: it may.
Refusal refusal(const DumpCandidate& candidate, ClusterId cluster, NodeId self);

struct DumpDisk {
  std::size_t candidate = 0;   // index
  std::uint64_t room = 0;      // bytes from disk::data_offset on
  std::uint64_t sequence = 1;  // for the first header
};
// The best of those that may be used, if any. Label copies that need repair are no obstacle: both
// say the same of what matters here, or the disk is refused by the newer.
std::optional<DumpDisk> choose_dump_disk(std::span<const DumpCandidate> candidates,
                                         ClusterId cluster, NodeId self);

}  // namespace duet::coredump
