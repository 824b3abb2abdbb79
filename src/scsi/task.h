// One command inside a logical unit (SAM-5 8: the task set). Internal to logical_unit.
#pragma once

#include <expected>
#include <list>
#include <vector>

#include "scsi/cdb.h"
#include "scsi/reservations.h"

namespace duet::scsi {

// Blocks a command touches, and whether it must have them alone.
struct Footprint {
  std::uint64_t first = 0, end = 0;  // blocks [first, end)
  bool alone = false;                // COMPARE AND WRITE, ORWRITE
  bool overlaps(const Footprint& other) const { return first < other.end && other.first < end; }
  bool conflicts(const Footprint& other) const { return (alone || other.alone) && overlaps(other); }
};
Footprint footprint(const Operation& operation);

// Somebody waits for aborted tasks to end: PREEMPT AND ABORT or a task management function.
using WaitId = Strong<struct WaitIdTag, std::uint64_t>;

struct Task {
  CommandTag tag;
  Nexus nexus;
  TaskAttribute attribute = TaskAttribute::simple;
  std::expected<Operation, Sense> operation;
  std::vector<Slice> data_out;
  std::uint32_t data_out_wanted = 0;
  Footprint blocks;

  bool started = false;
  bool aborted = false;
  bool ended = false;
  std::optional<StoreTag> work;  // at most one piece of store work at a time
  bool work_is_reservations = false;
  std::vector<WaitId> waited_for_by;

  unsigned step = 0;           // where a command of several pieces of work stands
  std::uint64_t progress = 0;  // bytes, or unmap descriptors, already done
  std::vector<Slice> pattern;  // WRITE SAME: what each piece writes
  std::optional<Reservations> next_reservations;
  Reservations::Effects effects;
};

}  // namespace duet::scsi
