// Durability modes of the identities we serve: into the mailbox first, then granted to the log
// (I4). Requests of one identity are coalesced: while one is being written the newest waits.
//
// A mode is marked only because the log asked for it: the log alone knows that its promise holds
// (docs/protocols/log.md, L7). Requires of the log: until the grant an acknowledgement satisfies
// the mode granted last *and* every mode wanted since: a mark that was being written when something
// failed may be what the partner finds.
#pragma once

#include <array>
#include <optional>

#include "ha/world.h"

namespace duet::ha {

enum class MarkDecision : std::uint8_t {
  mark,     // write it, then grant it
  wait,     // mirrored, but whose NVRAM holds the copy is not known yet
  decline,  // local in volatile NVRAM: write-through is granted, which is safe under every mark
};
// `local` is marked even when the partner is not fenced (any more): it costs a takeover, never a
// write.
MarkDecision decide_mark(Durability wanted, bool persistent, bool mirror_known);

class DurabilityMarks {
 public:
  void on_wanted(const DurabilityWanted& wanted);
  // Writes what is pending for each identity in `served`.
  bool advance(World& world, std::array<bool, 3> served, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, NodeId identity, World& world,
                  Output& out);
  void forget(NodeId identity);
  Instant next_time() const;
  bool pending(NodeId identity) const { return marks_[identity.value()].pending.has_value(); }

 private:
  struct Mark {
    std::optional<DurabilityWanted> pending;
    std::optional<DurabilityWanted> writing;
    Instant retry{};
  };
  std::array<Mark, 3> marks_;  // by identity
};

}  // namespace duet::ha
