// Virtual time: ports::Scheduler whose clock moves only when nothing is left to do at the present
// instant.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

#include "ports/scheduler.h"

namespace duet::simulation {

class SimulatedScheduler : public ports::Scheduler {
 public:
  Instant now() const override { return now_; }
  ports::TimerId at(Instant when, ports::Task task) override;
  void cancel(ports::TimerId timer) override;
  void post(ports::Task task) override;

  // Runs one task: a posted one, else the earliest timer, whose time it then is. False: nothing to
  // run.
  bool step();
  // Steps until `condition` holds. False: it did not within `limit` of virtual time, or nothing is
  // left.
  bool run_until(const std::function<bool()>& condition, Duration limit = seconds(60));
  // Runs everything that is due up to now() + `time`, and lets that time pass.
  void run_for(Duration time);
  // Runs until nothing is left. Requires: no timer re-arms itself for ever (at most `max_steps`
  // steps).
  void run_all(std::size_t max_steps = 10'000'000);
  std::size_t pending() const { return posted_.size() + timers_.size(); }

 private:
  using Key = std::pair<Instant, std::uint64_t>;  // equal instants in the order of the calls
  Instant now_{};
  std::uint64_t last_timer_ = 0;
  std::deque<ports::Task> posted_;
  std::map<Key, ports::Task> timers_;
  std::unordered_map<std::uint64_t, Instant> when_;
};

}  // namespace duet::simulation
