#include "pool/log_replay.h"

#include <utility>

#include "base/coverage.h"
#include "files/apply.h"

namespace duet::pool {

LogReplay::LogReplay(ports::Scheduler& scheduler, Pool& pool, Source source, OnPoison on_poison)
    : scheduler_(scheduler),
      pool_(pool),
      source_(std::move(source)),
      on_poison_(std::move(on_poison)) {}

LogReplay::~LogReplay() {
  *alive_ = false;
  scheduler_.cancel(timer_);
}

void LogReplay::start(ports::Done<std::uint64_t> done) {
  done_ = std::move(done);
  scheduler_.post([this, alive = alive_] {
    if (*alive) go_on();
  });
}

void LogReplay::finish(Result<std::uint64_t> result) {
  std::exchange(done_, nullptr)(std::move(result));
}

void LogReplay::go_on() {
  for (int i = 0; i < records_per_turn; ++i) {
    auto item = source_();
    if (!item) return finish(applied_);
    if (!take(*item)) return;
    if (pool_.state() != StorageState::active) {
      return finish(fail(ErrorCode::refused, "the pool is not active: " + pool_.health()));
    }
  }
  scheduler_.post([this, alive = alive_] {
    if (*alive) go_on();
  });
}

bool LogReplay::take(const Item& item) {
  if (!item.record) {
    pool_.skip(item.position);
    return true;
  }
  if (files::is_file_record(item.record->kind)) {
    if (item.position.sequence <= pool_.applied_.sequence) return true;  // I8, I9
    item_ = item;
    points_ = retries_ = 0;
    apply_file();
    return false;
  }
  if (auto status = pool_.apply(item.position, *item.record); !status) {
    on_poison_(status.error().message);
  }
  ++applied_;
  return true;
}

void LogReplay::apply_file() {
  pool_.run(
      [this, alive = alive_](filesystem::View& view) -> Status {
        if (!*alive) return fail(ErrorCode::cancelled, "the replay was given up");
        auto applied = files::apply(view, *item_.record);
        lacked_ = pool_.lacks_something();
        if (!applied) return std::unexpected(applied.error());
        pool_.skip(item_.position);
        return {};
      },
      [this, alive = alive_](const Status& status) {
        if (*alive) applied_file(status);
      });
}

void LogReplay::applied_file(const Status& status) {
  if (status) {
    ++applied_;
    return go_on();
  }
  const Error& error = status.error();
  if (pool_.state() != StorageState::active) {
    return finish(fail(ErrorCode::refused, "the pool is not active: " + pool_.health()));
  }
  if (lacked_) {  // and it could not be read
    const bool passes = error.code == ErrorCode::disconnected ||
                        error.code == ErrorCode::timed_out || error.code == ErrorCode::busy;
    if (!passes || ++retries_ > retries_max) return finish(std::unexpected(error));
    MARK(replay_waits_for_disks);
    timer_ = scheduler_.at(scheduler_.now() + retry_delay, [this] { apply_file(); });
    return;
  }
  if (error.code == ErrorCode::busy || error.code == ErrorCode::no_space) return make_room(error);
  const std::string why =
      "log record " + std::to_string(item_.position.sequence.value()) + ": " + error.message;
  MARK(replay_file_poison);
  pool_.give_up_on(why);
  on_poison_(why);
  finish(fail(ErrorCode::refused, "the pool is not active: " + pool_.health()));
}

void LogReplay::make_room(const Error& why) {
  if (++points_ > points_for_room) return finish(std::unexpected(why));
  MARK(replay_takes_consistency_point);
  pool_.order([](Flush&) -> Status { return {}; },
              [this, alive = alive_](const Status& status) {
                if (!*alive) return;
                if (!status) return finish(std::unexpected(status.error()));
                apply_file();
              });
}

}  // namespace duet::pool
