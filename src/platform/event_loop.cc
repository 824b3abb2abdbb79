#include "platform/event_loop.h"

#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "base/assert.h"

namespace duet::platform {

EventLoop::EventLoop()
    : io_(1),
      work_(boost::asio::make_work_guard(io_)),
      // Counts suspended time like now() does; Asio's own timers would come late after a resume.
      timer_fd_(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)) {
  ASSERT(timer_fd_ >= 0);
  timer_watcher_ = std::make_unique<FdWatcher>(*this, timer_fd_, [this](bool, bool) {
    armed_ = Instant::max();
    std::uint64_t expirations;
    // Nothing to read is fine: run_due_timers() looks at the clock, not at the descriptor.
    if (::read(timer_fd_, &expirations, sizeof expirations) < 0) return;
  });
  timer_watcher_->want(true, false);
}

EventLoop::~EventLoop() {
  // Destroying a task may cancel timers: the containers must be whole while that happens.
  std::exchange(timers_, {});
  std::exchange(posted_, {});
  std::exchange(turn_end_, {});
  timer_watcher_.reset();
  ::close(timer_fd_);
}

Instant EventLoop::boot_time() {
  timespec t;
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return Instant(Duration(t.tv_sec * 1'000'000'000LL + t.tv_nsec));
}

ports::TimerId EventLoop::at(Instant when, ports::Task task) {
  std::uint64_t id = ++last_timer_;
  timers_.emplace(TimerKey(when, id), std::move(task));
  timer_instants_.emplace(id, when);
  return ports::TimerId(id);
}

void EventLoop::cancel(ports::TimerId timer) {
  auto found = timer_instants_.find(timer.value());
  if (found == timer_instants_.end()) return;
  auto node = timers_.extract(TimerKey(found->second, timer.value()));
  timer_instants_.erase(found);
  // `node` dies last: destroying the task may call us again.
}

void EventLoop::post(ports::Task task) {
  posted_.push_back(std::move(task));
}

void EventLoop::at_turn_end(ports::Task task) {
  turn_end_.push_back(std::move(task));
}

void EventLoop::post_from_any_thread(ports::Task task) {
  boost::asio::post(io_, std::move(task));
}

void EventLoop::on_signals(const std::vector<int>& signals, std::function<void(int)> handler) {
  auto set = std::make_shared<boost::asio::signal_set>(io_);
  for (int signal : signals) set->add(signal);
  wait_for_signal(std::move(set), std::make_shared<std::function<void(int)>>(std::move(handler)));
}

void EventLoop::wait_for_signal(std::shared_ptr<boost::asio::signal_set> set,
                                std::shared_ptr<std::function<void(int)>> handler) {
  auto* waiting = set.get();
  waiting->async_wait([this, set = std::move(set), handler = std::move(handler)](
                          const boost::system::error_code& error, int signal) {
    if (error) return;
    (*handler)(signal);
    wait_for_signal(set, handler);
  });
}

void EventLoop::run() {
  while (!stopped_) turn();
  stopped_ = false;
}

bool EventLoop::run_until(const std::function<bool()>& condition, Duration limit) {
  bool over = false;
  auto timer = at(now() + limit, [&over] { over = true; });
  while (!condition() && !over && !stopped_) turn();
  cancel(timer);
  return condition();
}

void EventLoop::stop() {
  post_from_any_thread([this] { stopped_ = true; });
}

void EventLoop::turn() {
  arm();
  int handled = 0;
  if (posted_.empty() && turn_end_.empty()) {
    handled = static_cast<int>(io_.run_one());
  }
  while (handled < max_handlers_per_turn && io_.poll_one() > 0) ++handled;
  run_due_timers();
  run_posted();
  run_turn_end();
}

void EventLoop::run_due_timers() {
  if (timers_.empty()) return;
  Instant due = now();
  // Timers set by these timers wait for the next turn, even when they are due at once.
  std::uint64_t last = last_timer_;
  auto next = timers_.begin();
  while (next != timers_.end() && next->first.first <= due) {
    if (next->first.second > last) {
      ++next;
      continue;
    }
    auto node = timers_.extract(next);
    timer_instants_.erase(node.key().second);
    node.mapped()();
    next = timers_.begin();
  }
}

void EventLoop::run_posted() {
  for (int round = 0; round < max_post_rounds_per_turn && !posted_.empty(); ++round) {
    std::swap(running_, posted_);
    for (auto& task : running_) {
      task();
      task = nullptr;
    }
    running_.clear();
  }
}

void EventLoop::run_turn_end() {
  if (turn_end_.empty()) return;
  std::swap(running_, turn_end_);
  for (auto& task : running_) {
    task();
    task = nullptr;
  }
  running_.clear();
}

void EventLoop::arm() {
  if (timers_.empty()) return;
  Instant earliest = timers_.begin()->first.first;
  // A timer that was cancelled leaves at most one early wake-up behind.
  if (earliest >= armed_) return;
  auto since_boot = std::max(earliest.time_since_epoch(), Duration(1));  // 0 would disarm
  itimerspec spec{};
  spec.it_value.tv_sec = since_boot.count() / 1'000'000'000;
  spec.it_value.tv_nsec = since_boot.count() % 1'000'000'000;
  ASSERT(::timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
  armed_ = earliest;
}

}  // namespace duet::platform
