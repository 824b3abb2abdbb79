#include "node/logged_storage.h"

#include <algorithm>
#include <utility>

#include "base/coverage.h"

namespace duet::node {

namespace {

std::unexpected<Error> not_served() {
  return fail(ErrorCode::cancelled, "the identity is not served any more");
}

}  // namespace

LoggedStorage::LoggedStorage(ports::Scheduler& scheduler, ports::Nvram& nvram,
                             const nvlog::RegionLayout& layout, NodeId identity,
                             filesystem::Storage& storage, ports::MirrorLink* mirror, Hooks hooks)
    : scheduler_(scheduler),
      nvram_(nvram),
      layout_(layout),
      identity_(identity),
      storage_(storage),
      mirror_(mirror),
      hooks_(std::move(hooks)) {}

LoggedStorage::~LoggedStorage() {
  stop();
  *alive_ = false;
}

Status LoggedStorage::start(Epoch epoch, NodeId self, bool partner_down) {
  epoch_ = epoch;
  nvlog::Log::Options options;
  options.persistent = nvram_.persistent();
  log_.emplace(nvram_, layout_, identity_, nvlog::empty_plan(storage_.position()), options);
  nvlog::Actions actions;
  if (auto started = log_->start(epoch, self, partner_down, actions); !started) {
    log_.reset();
    return started;
  }
  // The log's own first record: without it the storage would stay behind the log until the first
  // change, and nobody who waits for "all of the log is on disk" would see that.
  storage_.skip(log_->position(log_->last()));
  show_positions();
  for (const auto& action : actions) std::visit([this](const auto& a) { perform(a); }, action);
  if (mirror_ && mirror_->outgoing_up()) log_event(nvlog::MirrorUp{});
  return {};
}

// ---- changes ----

LoggedStorage::Touched LoggedStorage::touched_by(const filesystem::Record& record) {
  if (const auto* write = std::get_if<filesystem::WriteRecord>(&record)) {
    Touched touched{write->lun, write->offset, 0};
    for (const auto& slice : write->data) touched.length += slice.bytes.size();
    return touched;
  }
  if (const auto* zero = std::get_if<filesystem::ZeroRecord>(&record)) {
    return {zero->lun, zero->offset, zero->length};
  }
  return {};
}

void LoggedStorage::submit(const filesystem::Record& record, ports::Done<void> done) {
  enqueue({filesystem::encode(record), touched_by(record), std::move(done)});
}

void LoggedStorage::submit(filesystem::LogRecord prepared, ports::Done<void> done) {
  enqueue({std::move(prepared), {}, std::move(done)});
}

void LoggedStorage::enqueue(Waiting change) {
  auto refuse = [&](ErrorCode code, const char* why) {
    scheduler_.post(
        [done = std::move(change.done), code, why]() mutable { done(fail(code, why)); });
  };
  if (stopped_ || !log_) return refuse(ErrorCode::cancelled, "the identity is not served");
  if (waiting_.size() >= max_waiting) {
    return refuse(ErrorCode::busy, "too many changes wait for the log");
  }
  waiting_.push_back(std::move(change));
  if (waiting_.size() == 1) resume_waiting();
}

// In order: a change that must wait holds back those behind it.
void LoggedStorage::resume_waiting() {
  while (!waiting_.empty() && !stopped_ && try_submit(waiting_.front())) waiting_.pop_front();
}

bool LoggedStorage::try_submit(Waiting& change) {
  auto finish = [&](Error error) {
    scheduler_.post([done = std::move(change.done), error = std::move(error)]() mutable {
      done(std::unexpected(std::move(error)));
    });
    return true;
  };
  if (change.turn) {
    if (std::exchange(turn_under_way_, true)) return false;
    change.turn([this, alive = alive_, turn = ++turns_](bool done) {
      if (*alive && turn == turns_) end_turn(done);
    });
    return false;
  }
  if (!change.record) {
    flush_submitted(std::move(change.done));
    return true;
  }
  const auto& record = *change.record;
  if (auto admitted = storage_.admit(record); !admitted) {
    if (admitted.error().code != ErrorCode::busy) return finish(admitted.error());
    MARK(log_waits_for_memory);
    storage_.start_consistency_point();
    return false;
  }
  auto sequence = log_->append(record.kind, record.words, record.payload);
  schedule_commit();
  if (!sequence) {
    if (sequence.error().code != ErrorCode::no_space) return finish(sequence.error());
    MARK(log_waits_for_space);
    return false;  // the commit demands a consistency point, which resumes us
  }
  unacknowledged_.push_back({*sequence, scheduler_.now(), change.touched, std::move(change.done)});
  auto applied = storage_.apply(log_->position(*sequence), record);
  if (!applied) {
    // admit() said yes: this is our own mistake, and going on could make it the clients'.
    hooks_.failed(applied.error().message);
  }
  watch_mirror();
  return true;
}

Result<LogSequence> LoggedStorage::append(const filesystem::LogRecord& record,
                                          const std::function<void()>& commit,
                                          ports::Done<void> done) {
  if (stopped_ || !log_) return not_served();
  auto sequence = log_->append(record.kind, record.words, record.payload);
  schedule_commit();
  if (!sequence) {
    if (sequence.error().code != ErrorCode::no_space) return sequence;
    MARK(log_waits_for_space);
    return fail(ErrorCode::busy, "the log is full");
  }
  unacknowledged_.push_back({*sequence, scheduler_.now(), {}, std::move(done)});
  commit();
  storage_.skip(log_->position(*sequence));
  watch_mirror();
  return sequence;
}

Status LoggedStorage::take_turn(Turn turn) {
  if (stopped_ || !log_) return not_served();
  if (waiting_.size() >= max_waiting) {
    return fail(ErrorCode::busy, "too many changes wait for the log");
  }
  waiting_.push_back({{}, {}, {}, std::move(turn)});
  // Whoever finds the storage full asks for what makes room.
  storage_.start_consistency_point();
  return {};
}

void LoggedStorage::end_turn(bool done) {
  if (stopped_) return;
  turn_under_way_ = false;
  if (!done) {
    MARK(turn_without_room);
    if (!std::exchange(turn_refused_, true)) return storage_.start_consistency_point();
    // A consistency point has not helped: transfers to the partner hold the log. A point of a pool
    // that is clean takes no time, so ask again after some, unless a transfer ends before.
    if (turn_retry_ != ports::TimerId()) return;
    turn_retry_ = scheduler_.at(scheduler_.now() + turn_pause, [this] {
      turn_retry_ = {};
      storage_.start_consistency_point();
    });
    return;
  }
  turn_refused_ = false;
  waiting_.pop_front();
  resume_waiting();
}

void LoggedStorage::watch_mirror() {
  if (!mirror_ || stopped_) return;
  if (mirror_late_) storage_.start_consistency_point();
  if (patience_ != ports::TimerId()) return;
  patience_ = scheduler_.at(scheduler_.now() + mirror_patience, [this] { look_at_mirror(); });
}

void LoggedStorage::look_at_mirror() {
  patience_ = {};
  if (unacknowledged_.empty()) return;
  auto due = unacknowledged_.front().since + mirror_patience;
  if (due > scheduler_.now()) {
    patience_ = scheduler_.at(due, [this] { look_at_mirror(); });
    return;
  }
  if (durability() == Durability::mirrored && !mirror_late_) {
    MARK(mirror_late);
    mirror_late_ = true;
    storage_.start_consistency_point();
  }
  patience_ = scheduler_.at(scheduler_.now() + mirror_patience, [this] { look_at_mirror(); });
}

void LoggedStorage::store(nvlog::RecordKind kind, const std::vector<Slice>& payloads,
                          ports::Done<std::size_t> done) {
  auto finish = [&](Result<std::size_t> result) {
    scheduler_.post([done = std::move(done), result = std::move(result)]() mutable {
      done(std::move(result));
    });
  };
  if (stopped_ || !log_) return finish(fail(ErrorCode::cancelled, "the identity is not served"));
  if (durability() != Durability::mirrored || mirror_state() != nvlog::MirrorState::complete) {
    return finish(fail(ErrorCode::refused, "the log is not mirrored"));
  }
  std::size_t stored = 0;
  LogSequence last;
  for (const auto& payload : payloads) {
    auto sequence = log_->append(kind, {}, std::span(&payload, 1));
    if (!sequence) break;
    last = *sequence;
    storage_.skip(log_->position(last));
    ++stored;
  }
  if (stored == 0) return finish(std::size_t{0});
  schedule_commit();
  hold(last, [this, alive = alive_, stored, done = std::move(done)](bool ok) mutable {
    if (!ok || !*alive) return done(std::unexpected(not_served().error()));
    // Acknowledged for another reason than the mirror: not promised to be there.
    done(durability() == Durability::mirrored ? stored : 0);
  });
}

// ---- reads ----

LogSequence LoggedStorage::last_conflict(LunNumber lun, std::uint64_t offset,
                                         std::uint64_t length) const {
  for (auto it = unacknowledged_.rbegin(); it != unacknowledged_.rend(); ++it) {
    const auto& t = it->touched;
    if (t.lun == lun && t.offset < offset + length && offset < t.offset + t.length) {
      return it->sequence;
    }
  }
  return {};
}

void LoggedStorage::read(LunNumber lun, std::uint64_t offset, std::uint64_t length,
                         ports::Done<std::vector<Slice>> done) {
  LogSequence until = last_conflict(lun, offset, length);
  if (until == LogSequence{}) {
    storage_.read(lun, offset, length, std::move(done));
    return;
  }
  storage_.read(lun, offset, length,
                [this, until, alive = alive_,
                 done = std::move(done)](Result<std::vector<Slice>> data) mutable {
                  if (!*alive) return done(not_served());
                  hold(until, [done = std::move(done), data = std::move(data)](bool ok) mutable {
                    // Not acknowledged: the change may be lost, so its data is not shown.
                    done(ok ? std::move(data) : not_served());
                  });
                });
}

void LoggedStorage::hold(LogSequence until, Held go_on) {
  if (log_ && log_->acknowledged() >= until) {
    go_on(true);
  } else if (stopped_) {
    go_on(false);
  } else {
    held_.emplace(until, std::move(go_on));
  }
}

// Behind the changes that wait: they have been submitted, too.
void LoggedStorage::flush(ports::Done<void> done) {
  enqueue({{}, {}, std::move(done)});
}

void LoggedStorage::flush_submitted(ports::Done<void> done) {
  if (unacknowledged_.empty()) {
    scheduler_.post([done = std::move(done)]() mutable { done({}); });
    return;
  }
  hold(unacknowledged_.back().sequence,
       [done = std::move(done)](bool ok) mutable { done(ok ? Result<void>() : not_served()); });
}

// ---- log ----

// One commit for everything that arrived in this turn.
void LoggedStorage::show_positions() const {
  if (hooks_.log_moved) hooks_.log_moved(log_->last(), log_->freed());
}

void LoggedStorage::schedule_commit() {
  show_positions();
  if (std::exchange(commit_scheduled_, true)) return;
  scheduler_.post([this, alive = alive_] {
    if (!*alive) return;
    commit_scheduled_ = false;
    log_event(nvlog::Commit{});
  });
}

void LoggedStorage::log_event(const nvlog::Event& event) {
  if (!log_) return;
  nvlog::Actions actions;
  const auto used = log_->live_bytes();
  log_->on_event(event, actions);
  const bool freed = log_->live_bytes() < used;
  if (freed) show_positions();
  for (const auto& action : actions) std::visit([this](const auto& a) { perform(a); }, action);
  // What a consistency point contains is free only when no transfer to the partner reads it any
  // more, which may be long after the consistency point.
  if (freed) resume_waiting();
}

void LoggedStorage::perform(const nvlog::MirrorWrite& action) {
  ASSERT(mirror_);
  mirror_->write(action.offset, action.length,
                 [this, id = action.id, alive = alive_](Result<void> r) {
                   if (!*alive) return;
                   if (r) mirror_late_ = false;
                   log_event(r ? nvlog::Event(nvlog::MirrorWritten{id})
                               : nvlog::Event(nvlog::MirrorFailed{id}));
                 });
}

void LoggedStorage::perform(const nvlog::RequestMark& action) {
  hooks_.want_durability(action.mark.mode, action.mark.sequence);
}

void LoggedStorage::perform(const nvlog::Acknowledge& action) {
  while (!unacknowledged_.empty() && unacknowledged_.front().sequence <= action.through) {
    auto done = std::move(unacknowledged_.front().done);
    unacknowledged_.pop_front();
    done({});
  }
  while (!held_.empty() && held_.begin()->first <= action.through) {
    auto go_on = std::move(held_.begin()->second);
    held_.erase(held_.begin());
    go_on(true);
  }
}

void LoggedStorage::perform(const nvlog::StartConsistencyPoint&) {
  storage_.start_consistency_point();
}

void LoggedStorage::on_mirror(bool up) {
  if (!mirror_) return;
  mirror_late_ = false;
  log_event(up ? nvlog::Event(nvlog::MirrorUp{}) : nvlog::Event(nvlog::MirrorDown{}));
}

void LoggedStorage::on_grant(Durability mode, LogSequence since) {
  log_event(nvlog::DurabilityMarked{{mode, epoch_, since}});
}

void LoggedStorage::on_partner_down(bool down) {
  log_event(nvlog::PartnerDown{down});
}

void LoggedStorage::on_consistency_point(const nvlog::LogPosition& position) {
  if (stopped_) return;
  log_event(nvlog::ConsistencyPointDone{position.sequence});
  resume_waiting();
}

void LoggedStorage::stop() {
  if (std::exchange(stopped_, true)) return;
  scheduler_.cancel(std::exchange(patience_, {}));
  scheduler_.cancel(std::exchange(turn_retry_, {}));
  log_event(nvlog::Stop{});
  for (auto& entry : std::exchange(unacknowledged_, {})) entry.done(not_served());
  for (auto& entry : std::exchange(waiting_, {})) {
    if (entry.done) entry.done(not_served());
  }
  for (auto& [until, go_on] : std::exchange(held_, {})) go_on(false);
}

std::optional<Durability> LoggedStorage::durability() const {
  return log_ ? log_->marked() : std::nullopt;
}

}  // namespace duet::node
