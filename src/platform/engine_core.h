// The memory of an engine that crashed, as a raw dump (ports::CoreSource): a thread of its own
// stops the engine's threads, reads, lays out and compresses, so that the supervisor's loop never
// waits. Bounded: a few pieces ahead of the disk.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "coredump/core_layout.h"
#include "coredump/dump_writer.h"
#include "coredump/effort.h"
#include "platform/crash_report.h"
#include "platform/event_loop.h"
#include "platform/traced_process.h"
#include "ports/core_source.h"

namespace duet::platform {

class EngineCore final : public ports::CoreSource {
 public:
  static constexpr Duration stop_limit = seconds(1);
  static constexpr Duration end_limit = seconds(1);
  static constexpr std::size_t max_ahead = 4;  // pieces

  // `pid`: a child of ours.
  EngineCore(EventLoop& loop, pid_t pid) : loop_(loop), pid_(pid) {}
  ~EngineCore() override;
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  // Before stop().
  void on_report(const CrashReport& report) { report_ = report; }

  void stop(ports::Done<void> done) override;
  void begin(Dump dump) override;
  void next(ports::Done<Piece> done) override;
  // The process is killed, or has ended: the thread takes leave of it. Returns at once.
  void leave();

 private:
  enum class State : std::uint8_t { stopping, stopped, streaming, leaving };

  void run();
  Result<void> stop_threads();
  // `waited`, `hungry` as in Effort::Piece.
  Result<Piece> produce(Duration waited, bool hungry);
  coredump::Information information() const;
  void deliver();
  std::vector<std::string> stack() const;

  EventLoop& loop_;
  const pid_t pid_;
  CrashReport report_;                                          // signal 0: none came
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // of the loop's thread
  std::thread thread_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  State state_ = State::stopping;
  std::optional<Dump> dump_;
  std::deque<Result<Piece>> ready_;
  bool finished_ = false;  // the last piece, or an error, is ready
  bool hungry_ = false;    // a piece was wanted, and none was ready

  ports::Done<void> stop_done_;   // of the loop's thread
  ports::Done<Piece> next_done_;  // of the loop's thread

  // Of the thread.
  std::unique_ptr<TracedProcess> process_;
  coredump::ProcessImage image_;
  std::string program_;  // path
  std::optional<coredump::CoreStream> stream_;
  std::unique_ptr<coredump::DumpWriter> writer_;
  coredump::Effort effort_;
  std::uint64_t core_done_ = 0;
};

}  // namespace duet::platform
