// What the health of both nodes adds to the vetoes of a move (veto.h), and what clears each: pure
// functions over facts that are at hand. Unknown is no veto where the partner may be dead.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ha/health.h"
#include "ha/partner_monitor.h"
#include "ha/veto.h"
#include "ports/interconnect.h"

namespace duet::ha {

// Records that were not confirmed for so long are unknown (health_record.md R3).
inline constexpr Duration health_record_life = seconds(5);

struct ReadinessFacts {
  std::vector<std::uint8_t> unreachable;  // disks of the partner's shelf, by index
  ports::LinkState link{};
  Verdict partner{};
  std::optional<HealthRecord> own_health;      // none: nobody monitors
  std::optional<HealthRecord> partner_health;  // of its present boot; none: not, or too old
};

// Names the disks of partner_disks_unreachable, and adds what the health records say.
void complete_takeover(Vetoes& vetoes, const ReadinessFacts& facts);
void complete_giveback(Vetoes& vetoes, const ReadinessFacts& facts);

// For the health record: hard ones first, at most max_obstacles / 2.
std::vector<Obstacle> obstacles(Move move, const Vetoes& vetoes);

// Whether two nodes see the same shelf. Empty: yes, as far as both know; else what differs first.
std::string inventory_difference(const Inventory& ours, const Inventory& theirs);

// What clears a veto; for people. Empty: nothing that people could do.
std::string_view cure(Reason reason);

}  // namespace duet::ha
