// One holder per stripe; who waits is served in the order of asking. Who holds several takes them
// in ascending order, so nobody waits in a circle.
#pragma once

#include <deque>
#include <unordered_map>

#include "ports/scheduler.h"
#include "raid/group_map.h"

namespace duet::raid {

class StripeLocks {
 public:
  explicit StripeLocks(ports::Scheduler& scheduler) : scheduler_(scheduler) {}
  // True: held from now on, `granted` is dropped. False: it is called once it is held.
  bool lock(StripeKey key, ports::Task granted) {
    if (closed_) return false;
    auto [it, free] = held_.try_emplace(key);
    if (free) return true;
    it->second.push_back(std::move(granted));
    return false;
  }
  void unlock(StripeKey key) {
    if (closed_) return;
    auto it = held_.find(key);
    ASSERT(it != held_.end());
    if (it->second.empty()) {
      held_.erase(it);
      return;
    }
    scheduler_.post(std::move(it->second.front()));
    it->second.pop_front();
  }
  // Nobody gets a lock any more; who waits is forgotten.
  void close() {
    closed_ = true;
    auto held = std::move(held_);
    held_.clear();
  }

 private:
  ports::Scheduler& scheduler_;
  bool closed_ = false;
  std::unordered_map<StripeKey, std::deque<ports::Task>> held_;
};

}  // namespace duet::raid
