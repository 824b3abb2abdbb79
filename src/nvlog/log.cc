#include "nvlog/log.h"

#include <algorithm>

#include "base/coverage.h"

namespace duet::nvlog {

std::string_view name(MirrorState state) {
  switch (state) {
    case MirrorState::down:
      return "down";
    case MirrorState::resync:
      return "resync";
    case MirrorState::complete:
      return "complete";
  }
  return "?";
}

Log::Log(ports::Nvram& nvram, const RegionLayout& layout, NodeId identity, const ReplayPlan& plan,
         Options options)
    : nvram_(nvram),
      layout_(layout),
      identity_(identity),
      options_(options),
      ring_(nvram, layout.ring(identity), identity, plan),
      control_(read_control_block(nvram.region(), layout, identity)),
      sent_(ring_.tail()),
      written_(ring_.tail()),
      at_partner_(plan.from.sequence),
      consistent_(plan.from.sequence),
      // Replayed records are acknowledged anew: the partner's copy may lack the last ones.
      acknowledged_(plan.from.sequence),
      replayed_(plan.end.sequence),
      last_request_(plan.end.sequence) {
  ASSERT(options.transfers_max > 0);
  ASSERT(options.transfer_bytes_max > 0 && options.transfer_bytes_max % record_alignment == 0);
}

Status Log::start(Epoch epoch, NodeId self, bool partner_down, Actions& actions) {
  ASSERT(phase_ == Phase::created);
  if (control_.epoch > epoch || ring_.epoch() >= epoch)
    return fail(ErrorCode::refused, "the NVRAM log is of a higher epoch than the mailbox");
  // The control block first: no record may be of a higher epoch than it says.
  control_.epoch = epoch;
  control_.acknowledged = std::min(control_.acknowledged, ring_.last());
  write_control();
  auto marker =
      ring_.append(RecordKind::epoch_start, {epoch.value(), self.value(), 0, 0}, {}, acknowledged_);
  if (!marker) return std::unexpected(marker.error());
  partner_down_ = partner_down;
  phase_ = Phase::running;
  advance(actions);
  return {};
}

Result<LogSequence> Log::append(RecordKind kind, const Words& words,
                                std::span<const Slice> payload) {
  ASSERT(static_cast<std::uint8_t>(kind) >= first_opaque_kind);
  ASSERT(phase_ != Phase::created);
  if (phase_ != Phase::running) return fail(ErrorCode::refused, "the log accepts no more requests");
  auto sequence = ring_.append(kind, words, payload, acknowledged_);
  if (sequence)
    last_request_ = *sequence;
  else if (sequence.error().code == ErrorCode::no_space)
    full_ = true;
  return sequence;
}

void Log::on_event(const Event& event, Actions& actions) {
  ASSERT(phase_ != Phase::created);
  if (phase_ == Phase::stopped) return;
  std::visit([this](const auto& e) { on(e); }, event);
  if (phase_ != Phase::stopped) advance(actions);
}

// What follows from the state after any event, in this order: free first, so that sending and
// acknowledging see the space and the mode as they are now.
void Log::advance(Actions& actions) {
  release();
  check_resync();
  send(actions);
  acknowledge(actions);
  request_mark(actions);
  demand_consistency_point(actions);
}

//             MirrorUp                 all written             (MirrorUp anywhere: resync again)
//    ┌──────┐ ───────► ┌────────┐ ────────────────► ┌──────────┐
//    │ down │          │ resync │                   │ complete │
//    └──────┘ ◄─────── └────────┘   ┌────────────── └──────────┘
//       ▲  MirrorDown, MirrorFailed │
//       └───────────────────────────┘
void Log::on(const MirrorUp&) {
  // Whatever was under way belongs to a connection that is gone.
  under_way_.clear();
  mirror_ = MirrorState::resync;
  release();
  sent_ = written_ = ring_.tail();
  at_partner_ = ring_.freed();
  resync_target_ = ring_.head();
  resync_rounds_ = 1;
  sealing_ = false;
}

void Log::on(const MirrorDown&) {
  mirror_ = MirrorState::down;
  under_way_.clear();
}

void Log::on(const MirrorFailed& event) {
  if (std::ranges::none_of(under_way_, [&](const Transfer& t) { return t.id == event.id; })) {
    MARK(log_stale_mirror_failure);
    ++ignored_;
    return;
  }
  on(MirrorDown{});
}

void Log::on(const MirrorWritten& event) {
  auto it = std::ranges::find(under_way_, event.id, &Transfer::id);
  if (it == under_way_.end()) {
    MARK(log_stale_mirror_completion);
    ++ignored_;
    return;
  }
  it->done = true;
  while (!under_way_.empty() && under_way_.front().done) {
    if (!under_way_.front().control) written_ = under_way_.front().end;
    under_way_.pop_front();
  }
  at_partner_ = std::max(ring_.freed(), ring_.sequence_through(std::max(written_, ring_.tail())));
}

// The control block goes over last: from then on the partner's copy counts as whole. Before that it
// counts as what it was, which may still be all that an older mark promised.
void Log::check_resync() {
  if (mirror_ != MirrorState::resync) return;
  if (!sealing_ && written_ >= resync_target_) {
    if (ring_.head() - written_ > resync_lag_max && resync_rounds_ < resync_rounds_max) {
      MARK(log_resync_another_round);
      ++resync_rounds_;
      resync_target_ = ring_.head();
      return;
    }
    sealing_ = true;
    control_unsent_ = {true, true};
  } else if (sealing_ && !control_unsent_[0] && !control_unsent_[1] && !control_under_way()) {
    mirror_ = MirrorState::complete;
  }
}

void Log::on(const DurabilityMarked& event) {
  if (!requested_ || event.mark != request_) {
    MARK(log_stale_mark);
    ++ignored_;
    return;
  }
  marked_ = requested_;
  requested_.reset();
}

void Log::on(const ConsistencyPointDone& event) {
  ASSERT(event.sequence <= ring_.last());
  if (event.sequence < consistent_) {
    MARK(log_stale_consistency_point);
    ++ignored_;
    return;
  }
  consistent_ = event.sequence;
  consistency_point_demanded_ = false;
  full_ = false;
}

void Log::on(const PartnerDown& event) {
  partner_down_ = event.down;
}

void Log::on(const Drain&) {
  phase_ = Phase::draining;
}

void Log::on(const Stop&) {
  phase_ = Phase::stopped;
  under_way_.clear();
}

// Frees what the consistency point contains, except what a transfer under way still reads.
void Log::release() {
  LogSequence through = consistent_;
  for (const Transfer& t : under_way_)
    if (!t.control) {
      through = std::min(through, ring_.sequence_through(t.start));
      break;
    }
  if (through > ring_.freed()) {
    ring_.free_through(through);
    // A resync need not copy what is on disk already.
    sent_ = std::max(sent_, ring_.tail());
    written_ = std::max(written_, ring_.tail());
    at_partner_ = std::max(at_partner_, ring_.freed());
    control_due_ = true;
  }
  if (control_due_ && !control_under_way()) write_control();
}

bool Log::control_under_way() const {
  return std::ranges::any_of(under_way_, &Transfer::control);
}

void Log::write_control() {
  ++control_.generation;
  control_.identity = identity_;
  control_.tail = ring_.position_after(ring_.freed());
  control_.acknowledged = std::max(control_.acknowledged, acknowledged_);
  unsigned copy = control_.generation % 2;
  Extent at = layout_.control_block(identity_, copy);
  nvram_.copy(nvram_.region().subspan(at.offset, at.length), encode(control_));
  control_unsent_[copy] = true;
  control_due_ = false;
}

void Log::send(Actions& actions) {
  while (mirror_ != MirrorState::down && under_way_.size() < options_.transfers_max) {
    bool whole = mirror_ == MirrorState::complete || sealing_;
    if (whole && (control_unsent_[0] || control_unsent_[1])) {
      // The older copy first: a torn write leaves a newer one.
      unsigned copy = control_unsent_[(control_.generation + 1) % 2] ? (control_.generation + 1) % 2
                                                                     : control_.generation % 2;
      control_unsent_[copy] = false;
      Extent at = layout_.control_block(identity_, copy);
      under_way_.push_back({next_id_, sent_, sent_, true});
      actions.push_back(MirrorWrite{next_id_++, at.offset, at.length, at_partner_});
      continue;
    }
    if (sent_ == ring_.head()) return;
    std::uint64_t to_end = ring_.capacity() - sent_ % ring_.capacity();
    std::uint64_t length = std::min({ring_.head() - sent_, to_end, options_.transfer_bytes_max});
    under_way_.push_back({next_id_, sent_, sent_ + length, false});
    actions.push_back(MirrorWrite{next_id_++, ring_.region_offset(sent_), length,
                                  ring_.sequence_through(sent_ + length)});
    sent_ += length;
  }
}

LogSequence Log::acknowledgeable(std::optional<Durability> mode) const {
  if (!mode) return consistent_;
  switch (*mode) {
    case Durability::mirrored:
      return mirror_ == MirrorState::complete ? std::max(consistent_, at_partner_) : consistent_;
    case Durability::local:
      return ring_.last();
    case Durability::write_through:
      return consistent_;
  }
  UNREACHABLE();
}

// While a mark is on its way the mailbox may say the old or the new: both have to be satisfied. So
// has the mode that we want next, or a busy `local` log could never reach `write_through`.
void Log::acknowledge(Actions& actions) {
  LogSequence through = std::min(acknowledgeable(marked_), acknowledgeable(desired()));
  if (requested_) through = std::min(through, acknowledgeable(requested_));
  if (through <= acknowledged_) return;
  // I4, said once more in full: on disk, or here under a persistent `local`, or in both.
  ASSERT(through <= consistent_ || (through <= at_partner_ && mirror_ == MirrorState::complete) ||
         (marked_ == Durability::local && !requested_ && options_.persistent));
  acknowledged_ = through;
  // Marker records at the end concern nobody, but the boundary may tell so.
  actions.push_back(Acknowledge{through});
}

Durability Log::desired() const {
  bool local_allowed = options_.persistent;
  if (phase_ == Phase::draining) return Durability::write_through;
  switch (mirror_) {
    case MirrorState::complete:
      return Durability::mirrored;
    case MirrorState::resync:
      // Soon mirrored: no detour through write-through if `local` was right until now.
      if (local_allowed && (partner_down_ || marked_ == Durability::local))
        return Durability::local;
      return Durability::write_through;
    case MirrorState::down:
      return local_allowed && partner_down_ ? Durability::local : Durability::write_through;
  }
  UNREACHABLE();
}

void Log::request_mark(Actions& actions) {
  Durability mode = desired();
  // One at a time: a second request would race with the first into the mailbox.
  if (requested_ || marked_ == mode) return;
  // `write_through` promises that no log is needed: all that was ever acknowledged must be on disk.
  // `mirrored` promises that all of it is at the partner, also what `local` acknowledged meanwhile.
  if (mode == Durability::write_through && consistent_ < promised()) return;
  if (mode == Durability::mirrored && std::max(consistent_, at_partner_) < promised()) return;
  requested_ = mode;
  request_ = Mark{mode, ring_.epoch(), std::max(consistent_, at_partner_)};
  actions.push_back(RequestMark{request_});
}

LogSequence Log::promised() const {
  return std::max(acknowledged_, replayed_);
}

void Log::demand_consistency_point(Actions& actions) {
  if (consistency_point_demanded_ || consistent_ == ring_.last()) return;
  bool filling =
      full_ || ring_.live_bytes() * 100 >= ring_.capacity() * options_.high_water_percent;
  bool waited_for =
      desired() == Durability::write_through &&
      (acknowledged_ < last_request_ || consistent_ < promised() || phase_ == Phase::draining);
  if (!filling && !waited_for) return;
  consistency_point_demanded_ = true;
  actions.push_back(StartConsistencyPoint{});
}

bool Log::drained() const {
  return phase_ == Phase::draining && consistent_ == ring_.last() && !requested_ &&
         marked_ == Durability::write_through;
}

}  // namespace duet::nvlog
