// Applies what a log holds to an active pool, in order: block records at once, file records through
// the code of live requests (files::apply), which may have to wait for the disks. A record that the
// pool already has is left out, so a replay may be repeated, or begun again, at any point.
//
// A record that does not fit takes the pool offline, or its LUN (Pool::apply), and is named.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "filesystem/log_record.h"
#include "pool/pool.h"

namespace duet::pool {

class LogReplay {
 public:
  struct Item {
    LogPosition position;                         // right after the record
    std::optional<filesystem::LogRecord> record;  // nothing: it is not for the storage
  };
  // The next record; nothing: the end. What the payload refers to outlives the consistency point
  // that contains it.
  using Source = std::function<std::optional<Item>()>;
  using OnPoison = std::function<void(const std::string& why)>;

  static constexpr int records_per_turn = 256;  // others are served in between
  // A request was granted its space once: what consistency points are still to make room for it.
  static constexpr int points_for_room = 8;
  static constexpr Duration retry_delay = milliseconds(200);  // while disks are away
  static constexpr int retries_max = 100;                     // of one record

  // `pool` outlives us, or is closed before it goes.
  LogReplay(ports::Scheduler& scheduler, Pool& pool, Source source, OnPoison on_poison);
  ~LogReplay();
  LogReplay(const LogReplay&) = delete;
  LogReplay& operator=(const LogReplay&) = delete;

  // Once. `done` with the number of records applied. Errors: refused (the pool went offline: its
  // health says why), no_space, cancelled, those of the disks.
  void start(ports::Done<std::uint64_t> done);

 private:
  void go_on();
  bool take(const Item& item);  // false: the record ends later
  void apply_file();
  void applied_file(const Status& status);
  void make_room(const Error& why);
  void finish(Result<std::uint64_t> result);

  ports::Scheduler& scheduler_;
  Pool& pool_;
  Source source_;
  OnPoison on_poison_;
  ports::Done<std::uint64_t> done_;
  Item item_;            // the file record at hand
  bool lacked_ = false;  // something not in memory, when it ran last
  int points_ = 0;
  int retries_ = 0;
  std::uint64_t applied_ = 0;
  ports::TimerId timer_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::pool
