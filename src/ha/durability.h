// Durability modes of the identities we serve: into the mailbox first, then granted to the log
// (I4). Requests of one identity are coalesced: while one is being written the newest waits.
//
// Requires of the log: from DurabilityWanted until a GrantDurability an acknowledgement satisfies
// the mode granted last *and* every mode wanted since. A mark that was being written when something
// failed may be what the partner finds.
#pragma once

#include <array>
#include <optional>

#include "ha/world.h"

namespace duet::ha {

// The mode that may be granted now. `persistent`: our NVRAM.
Durability allowed_mode(Durability wanted, bool partner_fenced, bool persistent, bool mirror_known);

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
    std::optional<DurabilityWanted> writing;  // with the mode to be granted
    Instant retry{};
  };
  std::array<Mark, 3> marks_;  // by identity
};

}  // namespace duet::ha
