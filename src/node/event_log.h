// The last events of a node, for `duet events`: numbered, with times, bounded; followers get new
// ones as they come.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>

#include "admin/control.h"

namespace duet::node {

class EventLog {
 public:
  static constexpr std::size_t max_kept = 4096;
  static constexpr std::size_t max_followers = 32;
  using Follower = std::function<void(const admin::EventItem&)>;

  // Fills in the number.
  void add(admin::EventItem event) {
    event.number = ++last_;
    kept_.push_back(event);
    if (kept_.size() > max_kept) kept_.pop_front();
    for (auto& [id, follower] : followers_) follower(event);
  }
  const std::deque<admin::EventItem>& kept() const { return kept_; }

  // 0: too many already.
  std::uint64_t follow(Follower follower) {
    if (followers_.size() >= max_followers) return 0;
    followers_.emplace(++last_follower_, std::move(follower));
    return last_follower_;
  }
  void unfollow(std::uint64_t id) { followers_.erase(id); }

 private:
  std::deque<admin::EventItem> kept_;
  std::map<std::uint64_t, Follower> followers_;
  std::uint64_t last_ = 0;
  std::uint64_t last_follower_ = 0;
};

}  // namespace duet::node
