// Why an order would be refused now: a list, each with a name that `--override` takes. Hard vetoes
// protect data or name what cannot be done; soft ones are the operator's to override.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "ha/reason.h"

namespace duet::ha {

struct Veto {
  Reason reason{};
  bool hard = true;
  std::string detail{};  // which disk, how long, ...; may be empty
  bool operator==(const Veto&) const = default;
};
using Vetoes = std::vector<Veto>;
std::string describe(const Veto& veto);  // for people, with the name if it can be overridden

// What the core knows without asking anybody. Defaults: nothing stands in the way.
struct TakeoverView {
  bool up = true;
  bool serves_partner = false;
  bool busy = false;  // another move, leftovers of an earlier boot, or paused lately
  bool departing = false;
  bool engine = true;
  bool disks_connected = true;
  bool version_known = true;  // of the partner
  bool lease = true;
  bool mailbox_known = true;
  bool log_here = true;
  bool halted_for_maintenance = false;
};
Vetoes takeover_vetoes(const TakeoverView& view);

struct GivebackView {
  bool serves_partner = true;
  bool giving = false;
  bool partner_waits = true;  // it says so
  bool partner_advances = true;
  bool version_known = true;
};
Vetoes giveback_vetoes(const GivebackView& view);

// Decided on a fresh read of the mailbox, when the takeover checks: no reason to refuse earlier.
bool decided_when_checking(Reason reason);

// The names that an order may override. Error: refused, the message names those that exist.
Result<std::vector<Reason>> parse_overrides(const std::vector<std::string>& names);
// What is left of `vetoes` for an order with these overrides.
Vetoes standing(const Vetoes& vetoes, bool force, const std::vector<Reason>& overrides);

}  // namespace duet::ha
