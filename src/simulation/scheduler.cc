#include "simulation/scheduler.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::simulation {

ports::TimerId SimulatedScheduler::at(Instant when, ports::Task task) {
  ports::TimerId id(++last_timer_);
  timers_.emplace(Key(when, id.value()), std::move(task));
  when_.emplace(id.value(), when);
  return id;
}

void SimulatedScheduler::cancel(ports::TimerId timer) {
  auto found = when_.find(timer.value());
  if (found == when_.end()) return;
  timers_.erase(Key(found->second, timer.value()));
  when_.erase(found);
}

void SimulatedScheduler::post(ports::Task task) {
  posted_.push_back(std::move(task));
}

bool SimulatedScheduler::step() {
  ports::Task task;
  if (!posted_.empty()) {
    task = std::move(posted_.front());
    posted_.pop_front();
  } else if (!timers_.empty()) {
    auto first = timers_.begin();
    now_ = std::max(now_, first->first.first);
    task = std::move(first->second);
    when_.erase(first->first.second);
    timers_.erase(first);
  } else {
    return false;
  }
  task();
  return true;
}

bool SimulatedScheduler::run_until(const std::function<bool()>& condition, Duration limit) {
  Instant end = now_ + limit;
  while (!condition()) {
    if (posted_.empty() && (timers_.empty() || timers_.begin()->first.first > end)) return false;
    step();
  }
  return true;
}

void SimulatedScheduler::run_for(Duration time) {
  Instant end = now_ + time;
  while (!posted_.empty() || (!timers_.empty() && timers_.begin()->first.first <= end)) step();
  now_ = end;
}

void SimulatedScheduler::run_all(std::size_t max_steps) {
  for (std::size_t i = 0; step(); ++i) ASSERT(i < max_steps);
}

}  // namespace duet::simulation
