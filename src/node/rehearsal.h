// A takeover of the partner, rehearsed as far as reading goes: every disk of its shelf over our
// path: label, reservation, mailbox. Changes nothing. What the takeover would do without stands in
// nobody's way: `disk_done_without` (docs/protocols/absent_disks.md).
#pragma once

#include <functional>
#include <vector>

#include "base/bytes.h"
#include "ha/veto.h"
#include "node/config.h"
#include "ports/disk.h"

namespace duet::node {

// `done` gets what would stand in the way, once, when every disk has answered or timed out; from
// the scheduler. `disks`: of the partner's shelf, in the order of the configuration; they outlive
// the call.
void rehearse_takeover(const Config& config, const std::vector<ports::Disk*>& disks,
                       std::function<void(ha::Vetoes)> done);

// ---- the judgement, for tests ----

struct RehearsedDisk {
  std::string name;
  Result<std::vector<std::byte>> labels = fail(ErrorCode::disconnected, "not read");
  Result<ports::ReservationState> reservation = fail(ErrorCode::disconnected, "not read");
  bool mailbox_disk = false;
  Result<std::vector<std::byte>> mailbox = fail(ErrorCode::disconnected, "not read");
};
ha::Vetoes judge_rehearsal(const Config& config, const std::vector<RehearsedDisk>& disks);

}  // namespace duet::node
