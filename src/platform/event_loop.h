// The event loop of a thread: ports::Scheduler on Boost.Asio. Open this header first.
//
// A turn of the loop: ready I/O handlers, timers that are due, posted tasks, and at last the
// at_turn_end tasks, which hand everything sent in the turn to the kernel at once.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "platform/fd_watcher.h"
#include "ports/scheduler.h"

namespace duet::platform {

// All calls from the loop's thread, except where said otherwise. Adapters with watchers or timers
// on a loop are destroyed before it.
class EventLoop final : public ports::Scheduler {
 public:
  EventLoop();
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  static Instant boot_time();  // CLOCK_BOOTTIME
  Instant now() const override { return boot_time(); }
  ports::TimerId at(Instant when, ports::Task task) override;
  void cancel(ports::TimerId timer) override;
  void post(ports::Task task) override;

  // Runs `task` when the current turn's handlers, timers and posted tasks have all run.
  void at_turn_end(ports::Task task);
  // From any thread: runs `task` on the loop's thread.
  void post_from_any_thread(ports::Task task);
  // Calls `handler` for every such signal from now on.
  void on_signals(const std::vector<int>& signals, std::function<void(int)> handler);

  // Runs turns until stop().
  void run();
  // Runs turns until `condition` holds, which is looked at after every turn; false if `limit` is
  // over before.
  bool run_until(const std::function<bool()>& condition, Duration limit);
  // From any thread.
  void stop();

  boost::asio::io_context& io() { return io_; }

  // Bounds of one turn, so that neither busy sockets nor tasks that post tasks starve the rest.
  static constexpr int max_handlers_per_turn = 128;
  static constexpr int max_post_rounds_per_turn = 16;

 private:
  using TimerKey = std::pair<Instant, std::uint64_t>;

  void turn();
  void run_due_timers();
  void run_posted();
  void run_turn_end();
  void arm();
  void wait_for_signal(std::shared_ptr<boost::asio::signal_set> set,
                       std::shared_ptr<std::function<void(int)>> handler);

  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  int timer_fd_;
  std::unique_ptr<FdWatcher> timer_watcher_;
  std::map<TimerKey, ports::Task> timers_;
  std::unordered_map<std::uint64_t, Instant> timer_instants_;
  std::uint64_t last_timer_ = 0;
  Instant armed_ = Instant::max();  // what timer_fd_ waits for
  std::vector<ports::Task> posted_;
  std::vector<ports::Task> turn_end_;
  std::vector<ports::Task> running_;  // reused to save allocations
  bool stopped_ = false;
};

}  // namespace duet::platform
