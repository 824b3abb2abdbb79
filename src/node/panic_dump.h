// A panicking node's side of a dump: chooses the disk, marks it, writes the raw dump to it, and
// says how it went (docs/protocols/coredump.md). Never writes to a disk that choose_dump_disk did
// not let pass (I11), nor anything after a reservation conflict (C7); ends in bounded time whatever
// disk and process do.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coredump/dump_disk.h"
#include "ports/core_source.h"
#include "ports/disk.h"

namespace duet::node {

class PanicDump {
 public:
  struct Disk {
    ports::Disk* disk = nullptr;
    DiskId expected;            // that its path led to before the panic
    bool raid_left_it = false;  // as in coredump::DumpCandidate
  };
  struct Order {
    ClusterId cluster;
    ReservationKey holder;         // our supervisor's, under this epoch
    Duration limit{};              // from the first header on
    ports::CoreSource::Dump dump;  // but for the room
    std::vector<Disk> disks;
  };
  enum class Phase : std::uint8_t { stopping, choosing, marking, streaming, closing, over };
  struct Progress {
    Phase phase = Phase::stopping;
    std::string disk;                   // name; empty: not chosen yet
    std::uint64_t done = 0, total = 0;  // bytes of core; total 0: not known
    milliseconds elapsed{};             // since the attribute became active
    Duration left{};                    // estimated, never beyond the limit
  };
  struct Outcome {
    bool complete = false;
    std::string text;  // for people
  };

  // Each may take so long; then the dump goes on without what it waits for, or ends.
  static constexpr Duration stop_limit = seconds(3);
  static constexpr Duration look_limit = seconds(2);
  static constexpr Duration mark_limit = seconds(2);
  static constexpr Duration close_limit = seconds(2);
  static constexpr Duration header_interval = milliseconds(500);
  static constexpr std::size_t writes_in_flight = 2;  // pieces

  // `on_change`: the attribute is active, or there is progress. `on_over`: once, from the
  // scheduler; may destroy us.
  PanicDump(ports::Scheduler& scheduler, ports::CoreSource& source, Order order,
            std::function<void()> on_change, std::function<void(Outcome)> on_over);
  ~PanicDump();
  PanicDump(const PanicDump&) = delete;
  PanicDump& operator=(const PanicDump&) = delete;

  void start();
  // The process has ended: there is nothing more to come.
  void process_gone();
  // Ends it early: what was written stays, as an aborted dump.
  void stop(const std::string& why);
  Progress progress() const;

 private:
  struct Look;  // what is read from one disk
  struct Write {
    std::uint64_t end = 0;  // of the room, with it
    std::uint64_t core_done = 0;
    bool done = false;
  };
  // A callback that is dropped when we are over.
  template <class F>
  auto guarded(F f) {
    return [this, alive = alive_, f = std::move(f)](auto&&... arguments) mutable {
      if (*alive && phase_ != Phase::over) f(std::forward<decltype(arguments)>(arguments)...);
    };
  }
  void limit(Duration time, std::function<void()> then);
  void look();
  void looked();
  void mark();
  void mark_failed(const Error& error, bool first_copy);
  void active();
  void pull();
  void write(ports::CoreSource::Piece piece);
  void written(std::uint64_t end, const Result<void>& result);
  void beat();
  void write_header(std::function<void(Result<void>)> done,
                    std::shared_ptr<bool> first_copy = nullptr);
  void note_progress();
  void disk_failed(const Error& error);
  void close(coredump::Attribute attribute, coredump::AbortReason reason, std::string why);
  void close_if_quiet();
  void closed();
  void over(bool complete, std::string text);
  milliseconds elapsed() const;

  ports::Scheduler& scheduler_;
  ports::CoreSource& source_;
  Order order_;
  std::function<void()> on_change_;
  std::function<void(Outcome)> on_over_;
  Phase phase_ = Phase::stopping;
  ports::TimerId timer_{};  // of the phase
  ports::TimerId beat_timer_{};
  std::vector<std::shared_ptr<Look>> looks_;
  ports::Disk* disk_ = nullptr;
  coredump::Header header_;
  Instant began_{};
  std::optional<std::string> stopped_;  // why; while it is being marked
  bool pulling_ = false, pulled_last_ = false;
  std::uint64_t laid_out_ = 0;   // bytes of the room, in writes that have begun
  std::uint64_t stored_ = 0;     // bytes of the room, in writes that have ended without a gap
  std::uint64_t core_done_ = 0;  // bytes of core in these
  std::uint64_t core_total_ = 0;
  std::deque<Write> writes_;
  bool write_failed_ = false;
  bool header_busy_ = false;
  struct Closing {
    coredump::Attribute attribute = coredump::Attribute::aborted;
    coredump::AbortReason reason = coredump::AbortReason::none;
  };
  Closing closing_;
  std::string closing_why_;
  std::shared_ptr<bool> last_word_ = std::make_shared<bool>(false);  // is durable in a copy
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
