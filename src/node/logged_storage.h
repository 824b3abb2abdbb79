// The log and the storage of one served identity, joined: a change goes into the log and into the
// storage in one turn, and is answered when the log says so; consistency points free the log.
//
// Guarantees: changes take effect in the order of submit(); a change is answered only when it is
// acknowledged (I4); a read never shows a change that is not acknowledged yet (I13: it could be
// lost by a failover, and a later read would go back in time).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "filesystem/storage.h"
#include "nvlog/log.h"
#include "nvlog/region.h"
#include "ports/mirror_link.h"
#include "ports/scheduler.h"

namespace duet::node {

class LoggedStorage {
 public:
  struct Hooks {
    std::function<void(Durability, LogSequence since)> want_durability;
    std::function<void(const std::string& why)> failed;  // poison record or worse: stop serving
    // Records were appended or freed: the last one of each.
    std::function<void(LogSequence written, LogSequence freed)> log_moved{};
  };
  static constexpr std::size_t max_waiting = 4096;  // changes held back; more are answered `busy`
  // A change that waits longer for the partner's NVRAM is brought to disk, which acknowledges it as
  // well: a partner that stands still costs our clients this, not the timeout of the mirror.
  static constexpr Duration mirror_patience = milliseconds(100);
  // A turn that found no room is tried again after this, unless something became free before.
  static constexpr Duration turn_pause = milliseconds(5);

  // `mirror`: null when this identity's log is not mirrored from here (the partner's, after a
  // takeover).
  LoggedStorage(ports::Scheduler& scheduler, ports::Nvram& nvram, const nvlog::RegionLayout& layout,
                NodeId identity, filesystem::Storage& storage, ports::MirrorLink* mirror,
                Hooks hooks);
  ~LoggedStorage();

  // Requires: the storage is active and a consistency point contains everything that was replayed.
  Status start(Epoch epoch, NodeId self, bool partner_down);
  bool started() const { return log_.has_value(); }

  // `done` ok: acknowledged. Errors: those of Storage::admit (without `busy`, which waits), `busy`
  // (too many wait), `cancelled` (stopped).
  void submit(const filesystem::Record& record, ports::Done<void> done);
  // A record that the storage prepared.
  void submit(filesystem::LogRecord prepared, ports::Done<void> done);
  void read(LunNumber lun, std::uint64_t offset, std::uint64_t length,
            ports::Done<std::vector<Slice>> done);

  // ---- changes that the caller works out over the storage (files) ----
  // Appends the record, and then lets `commit` change the storage: in one turn. `done` as of
  // submit(), not called after an error. Errors: busy (no room in the log: take_turn), cancelled,
  // invalid.
  Result<LogSequence> append(const filesystem::LogRecord& record,
                             const std::function<void()>& commit, ports::Done<void> done);
  // Others wait for room already: whoever comes now takes a turn.
  bool crowded() const { return !waiting_.empty(); }
  // `turn` is called when there may be room. Everything that came later waits until it calls
  // `over(true)`; `over(false)`: still no room, it will be called again. Never called again, and
  // forgotten, after stop(). Error: busy (too many wait), cancelled.
  using Over = std::function<void(bool done)>;
  using Turn = std::move_only_function<void(Over over)>;
  Status take_turn(Turn turn);
  // `go_on(true)` once everything through `until` is acknowledged; `go_on(false)` when the identity
  // is not served any more.
  using Held = std::move_only_function<void(bool acknowledged)>;
  void hold(LogSequence until, Held go_on);

  // Records of `kind` that change nothing here: they are for whoever replays the log. `done` with
  // how many of them are in both NVRAMs; there is no room for the others. Errors: refused (the log
  // is not mirrored), cancelled.
  void store(nvlog::RecordKind kind, const std::vector<Slice>& payloads,
             ports::Done<std::size_t> done);
  // Calls `done` when everything submitted so far is acknowledged. Errors: busy, cancelled.
  void flush(ports::Done<void> done);

  void on_mirror(bool up);
  void on_grant(Durability mode, LogSequence since);
  void on_partner_down(bool down);
  // From the storage's callback: forward every consistency point here.
  void on_consistency_point(const nvlog::LogPosition& position);
  // No acknowledgement after this; everything waiting ends with `cancelled`.
  void stop();

  bool idle() const { return unacknowledged_.empty() && waiting_.empty(); }
  LogSequence last() const { return log_ ? log_->last() : LogSequence{}; }
  std::optional<Durability> durability() const;
  // Nothing while this log has no mirror.
  std::optional<nvlog::MirrorState> mirror_state() const {
    return log_ && mirror_ ? std::optional(log_->mirror_state()) : std::nullopt;
  }
  std::uint64_t log_used() const { return log_ ? log_->live_bytes() : 0; }
  std::uint64_t log_size() const { return log_ ? log_->capacity() : 0; }

 private:
  struct Touched {  // by a change; no LUN: no data
    std::optional<LunNumber> lun;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  struct Waiting {
    std::optional<filesystem::LogRecord> record;  // nothing: a turn, or a flush
    Touched touched;
    ports::Done<void> done;  // not of a turn
    Turn turn{};
  };
  struct Unacknowledged {
    LogSequence sequence;
    Instant since;
    Touched touched;
    ports::Done<void> done;
  };
  static Touched touched_by(const filesystem::Record& record);
  void enqueue(Waiting change);
  void flush_submitted(ports::Done<void> done);
  bool try_submit(Waiting& change);
  void resume_waiting();
  void watch_mirror();
  void look_at_mirror();
  LogSequence last_conflict(LunNumber lun, std::uint64_t offset, std::uint64_t length) const;
  void end_turn(bool done);
  void schedule_commit();
  void show_positions() const;
  void log_event(const nvlog::Event& event);
  void perform(const nvlog::MirrorWrite& action);
  void perform(const nvlog::RequestMark& action);
  void perform(const nvlog::Acknowledge& action);
  void perform(const nvlog::StartConsistencyPoint& action);

  ports::Scheduler& scheduler_;
  ports::Nvram& nvram_;
  nvlog::RegionLayout layout_;
  NodeId identity_;
  filesystem::Storage& storage_;
  ports::MirrorLink* mirror_;
  Hooks hooks_;
  std::optional<nvlog::Log> log_;
  Epoch epoch_;
  bool stopped_ = false;
  bool commit_scheduled_ = false;
  bool turn_under_way_ = false;
  bool turn_refused_ = false;    // the one in front found no room
  ports::TimerId turn_retry_{};  // it asks again
  std::uint64_t turns_ = 0;      // begun
  ports::TimerId patience_{};    // while something may be unacknowledged
  bool mirror_late_ = false;     // until it takes something again
  std::deque<Waiting> waiting_;
  std::deque<Unacknowledged> unacknowledged_;
  std::multimap<LogSequence, Held> held_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
