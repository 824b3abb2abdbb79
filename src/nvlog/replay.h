// Reading a log that somebody else wrote: this node before it died, or the partner into our region.
//
//   decide_replay(...)  may this ring be replayed at all, given the mailbox mark?
//   plan_replay(...)    which records come after the consistency point, and why the log ends there
//   plan.record(...)    the records, in order
//
// Guarantees: nothing is skipped; a record is planned only if it is newer than the consistency
// point (I9); planning changes nothing, so it may be repeated (I8). Refuses nothing silently: a
// damaged log is named. Before planning the partner's access to the ring must have been revoked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "nvlog/control_block.h"
#include "nvlog/durability.h"
#include "nvlog/position.h"
#include "nvlog/record.h"

namespace duet::nvlog {

enum class ReplayDecision : std::uint8_t {
  replay,       // plan_replay on this ring
  start_fresh,  // everything acknowledged is in the consistency point; discard the ring
  elsewhere,    // acknowledged records are only in the other node's NVRAM: do not serve
  lost,         // acknowledged records were only here, and this ring does not hold them: operator
};

struct ReplayInput {
  Mark mark;             // mailbox of the identity; epoch 0: never marked
  bool mark_is_ours;     // this node served under the mark (else the partner did)
  Epoch position_epoch;  // of the superblock's log position
  Epoch ring_epoch;      // of the ring's control block
};
// A returning node whose ring is of an older epoch than the mailbox or the pool never replays it.
ReplayDecision decide_replay(const ReplayInput& input);

// The sequence that replay has to reach: what mark and control block know to have been
// acknowledged.
LogSequence required_sequence(const Mark& mark, const ControlBlock& control);

enum class ReplayEnd : std::uint8_t {
  clean,       // the end of the log
  unfinished,  // valid records follow, none proves that the missing one was acknowledged
  lost,        // an acknowledged record is damaged or missing: not to be served without an operator
};
std::string_view name(ReplayEnd end);

inline constexpr std::uint64_t gap_search_max = 64 * 1024 * 1024;  // bytes looked at after the end

struct EpochStart {
  LogSequence first;  // first record of the epoch
  Epoch epoch;
};

struct ReplayPlan {
  LogPosition from;                 // the consistency point
  LogPosition end;                  // after the last valid record
  std::vector<std::uint64_t> ends;  // address after each record
  std::vector<EpochStart> epochs;   // that start within the plan
  ReplayEnd reason = ReplayEnd::clean;
  LogSequence gap_first;  // unfinished and lost: the missing record ...
  LogSequence gap_last;   // ... through the last one known to be missing
  std::string why;        // for people

  std::size_t size() const { return ends.size(); }
  // Record `index`, marker records included. Requires: the ring as it was when planned.
  RecordView record(Bytes ring, std::size_t index) const;
};

// Error: invalid (the position does not fit the ring).
Result<ReplayPlan> plan_replay(Bytes ring, NodeId identity, const LogPosition& from,
                               LogSequence required);

// A plan without records: the log goes on after `from` (start_fresh).
ReplayPlan empty_plan(const LogPosition& from);

}  // namespace duet::nvlog
