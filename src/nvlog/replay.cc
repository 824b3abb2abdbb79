#include "nvlog/replay.h"

#include <algorithm>
#include <optional>

#include "base/coverage.h"

namespace duet::nvlog {
namespace {

class Reader {
 public:
  Reader(Bytes ring, NodeId identity, const LogPosition& from)
      : ring_(ring),
        identity_(identity),
        tail_(from.lap * ring.size() + from.offset),
        address_(tail_),
        epoch_(from.epoch),
        sequence_(from.sequence) {}

  // The next record of the log, by the rules of docs/formats/nvlog.md, "Reading".
  std::optional<RecordView> next() {
    auto record = read_record(ring_, address_);
    if (!record || record->header.identity != identity_ ||
        record->header.sequence != sequence_.next() || record->end - tail_ > ring_.size())
      return std::nullopt;
    const RecordHeader& header = record->header;
    if (header.epoch < epoch_) return std::nullopt;
    if (header.epoch > epoch_ &&
        (header.kind != RecordKind::epoch_start || header.words[0] != header.epoch.value()))
      return std::nullopt;
    epoch_ = header.epoch;
    sequence_ = header.sequence;
    address_ = record->end;
    return record;
  }

  struct Later {
    LogSequence highest;  // of any valid later record; 0: none
    LogSequence proven;   // the highest sequence one of them proves acknowledged
  };
  // Looks beyond the end for records that only make sense if more came before them.
  Later search_beyond() const {
    Later later;
    std::uint64_t checked = 0;  // CRC bytes, so that hostile headers cannot make this quadratic
    std::uint64_t stop = std::min(tail_ + ring_.size(), address_ + gap_search_max);
    for (std::uint64_t at = address_ + record_alignment; at < stop; at += record_alignment) {
      auto header = peek_header(ring_, at);
      if (!header || header->identity != identity_ || header->epoch < epoch_) continue;
      std::uint64_t ahead = header->sequence.value() - sequence_.value();
      if (header->sequence <= sequence_.next() || ahead > (at - address_) / record_alignment + 1)
        continue;
      checked += stored_size(header->length);
      if (checked > 4 * ring_.size()) break;
      if (!read_record(ring_, at)) continue;
      later.highest = std::max(later.highest, header->sequence);
      later.proven = std::max(later.proven, header->proves_acknowledged());
    }
    return later;
  }

  LogPosition position() const {
    return {epoch_, sequence_, address_ % ring_.size(), address_ / ring_.size()};
  }

 private:
  Bytes ring_;
  NodeId identity_;
  std::uint64_t tail_;
  std::uint64_t address_;
  Epoch epoch_;
  LogSequence sequence_;
};

}  // namespace

ReplayDecision decide_replay(const ReplayInput& input) {
  bool current = input.ring_epoch >= std::max(input.mark.epoch, input.position_epoch);
  // Never marked, or not since the epoch of the consistency point began: that epoch began by
  // replaying all that older ones had acknowledged, and has acknowledged nothing but consistency
  // points.
  if (input.mark.epoch == Epoch(0) || input.mark.epoch < input.position_epoch)
    return current ? ReplayDecision::replay : ReplayDecision::start_fresh;
  switch (input.mark.mode) {
    case Durability::write_through:
      return current ? ReplayDecision::replay : ReplayDecision::start_fresh;
    case Durability::mirrored:
      return current ? ReplayDecision::replay : ReplayDecision::elsewhere;
    case Durability::local:
      if (!input.mark_is_ours) return ReplayDecision::elsewhere;
      return current ? ReplayDecision::replay : ReplayDecision::lost;
  }
  UNREACHABLE();
}

LogSequence required_sequence(const Mark& mark, const ControlBlock& control) {
  LogSequence required = control.acknowledged;
  if (mark.epoch != Epoch(0) && mark.mode != Durability::write_through)
    required = std::max(required, mark.sequence);
  return required;
}

std::string_view name(ReplayEnd end) {
  switch (end) {
    case ReplayEnd::clean:
      return "clean";
    case ReplayEnd::unfinished:
      return "unfinished";
    case ReplayEnd::lost:
      return "lost";
  }
  return "?";
}

RecordView ReplayPlan::record(Bytes ring, std::size_t index) const {
  ASSERT(index < ends.size());
  std::uint64_t address = index == 0 ? from.lap * ring.size() + from.offset : ends[index - 1];
  auto view = read_record(ring, address);
  ASSERT(view && view->end == ends[index]);  // planned: only a change of the ring can break it
  return *view;
}

ReplayPlan empty_plan(const LogPosition& from) {
  ReplayPlan plan;
  plan.from = plan.end = from;
  return plan;
}

Result<ReplayPlan> plan_replay(Bytes ring, NodeId identity, const LogPosition& from,
                               LogSequence required) {
  if (ring.empty() || ring.size() % record_alignment != 0 || from.offset >= ring.size() ||
      from.offset % record_alignment != 0 || from.lap >= lap_limit ||
      from.lap > (~std::uint64_t{0} / ring.size()) - 4 || from.sequence.value() >= sequence_limit)
    return fail(ErrorCode::invalid, "log position does not fit the ring");
  ReplayPlan plan = empty_plan(from);
  Reader reader(ring, identity, from);
  Epoch epoch = from.epoch;
  while (auto record = reader.next()) {
    if (record->header.epoch > epoch) {
      epoch = record->header.epoch;
      plan.epochs.push_back({record->header.sequence, epoch});
    }
    plan.ends.push_back(record->end);
  }
  plan.end = reader.position();
  auto later = reader.search_beyond();
  LogSequence missing = plan.end.sequence.next();
  std::string after = "the log ends after record " + std::to_string(plan.end.sequence.value());
  plan.gap_first = missing;
  plan.gap_last = std::max({later.proven, required, missing});
  if (required >= missing || later.proven >= missing) {
    MARK(replay_log_lost);
    plan.reason = ReplayEnd::lost;
    plan.why = after + ", but records " + std::to_string(missing.value()) + " to " +
               std::to_string(plan.gap_last.value()) +
               " were acknowledged: they are damaged or missing";
  } else if (later.highest >= missing) {
    MARK(replay_log_unfinished);
    plan.reason = ReplayEnd::unfinished;
    plan.gap_last = LogSequence(later.highest.value() - 1);
    plan.why = after + "; record " + std::to_string(later.highest.value()) +
               " was written later, and nothing proves that what is missing was acknowledged";
  } else {
    plan.reason = ReplayEnd::clean;
    plan.gap_first = plan.gap_last = LogSequence(0);
    plan.why = after;
  }
  return plan;
}

}  // namespace duet::nvlog
