// Whether the survivor may take a disk that its panicking partner may be dumping to, now or later
// (table in docs/protocols/coredump.md). Bounded by the survivor's own clock: time is handed in.
#pragma once

#include <optional>
#include <string_view>

#include "base/time.h"
#include "coredump/header.h"

namespace duet::coredump {

struct ReleaseLimits {
  Duration own_limit = seconds(60);   // the header's counts if it is shorter
  Duration stall_limit = seconds(5);  // for a change of the sequence
  Duration mark_grace = seconds(8);   // from the panic notice until active must show
};

// Which header can be of the dump that is meant.
struct FailedNode {
  ClusterId cluster;
  NodeId node;
  Epoch epoch;                          // of its identity when it failed, as its mailbox says
  std::optional<BootNonce> boot_nonce;  // if known
};

enum class Writer {
  panicking,  // it said panic or dumping, and nothing since
  silent,     // nothing is known of it
  gone,       // rebooted or halted: it dumps no more
};

enum class Take {
  leave,
  needed,
  finished,
  limit_over,
  stalled,
  writer_gone,
  no_dump,
};
std::string_view name(Take take);

struct Decision {
  Take take = Take::leave;
  Instant until{};  // leave: ask again at the latest then
  bool operator==(const Decision&) const = default;
};

// One disk of the failed node that could carry its dump.
class DiskRelease {
 public:
  DiskRelease(DiskId disk, const FailedNode& node, const ReleaseLimits& limits, Instant panicked);

  // A look at the header of the disk; an error of any kind is "not active" (C5), and so is a
  // header of anything but this dump.
  void on_header(const Result<Header>& header, Instant now);

  // Requires: `now` never decreases. Invariants C3, C4: `until` is bounded whatever was read.
  Decision may_take(Writer writer, bool redundancy_needs_it, Instant now) const;

  // Of this dump, as last seen.
  const std::optional<Header>& header() const { return seen_; }

 private:
  bool of_this_dump(const Header& header) const;
  DiskId disk_;
  FailedNode node_;
  ReleaseLimits limits_;
  Instant panicked_;
  std::optional<Header> seen_;           // of this dump
  std::optional<Instant> first_active_;  // never forgotten: a header that flickers gains no time
  Instant changed_{};                    // when the sequence was last seen to grow
};

}  // namespace duet::coredump
