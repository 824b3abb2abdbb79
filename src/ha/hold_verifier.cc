#include "ha/hold_verifier.h"

#include <algorithm>

#include "base/coverage.h"

namespace duet::ha {

void HoldVerifier::verify(DiskRef disk, Hold hold, const World& world, Output& out) {
  // What is being read may be older than the reason for asking.
  running_.erase(disk);
  auto rules = world.rules(FenceMode::hold, hold.type);
  rules.alone = hold.alone;
  auto [entry, added] = running_.emplace(disk, Check{DiskFencer(rules, disk), hold});
  entry->second.fencer.start(out);
}

bool HoldVerifier::on_completed(const DiskCompleted& event, Output& out) {
  return std::ranges::any_of(
      running_, [&](auto& entry) { return entry.second.fencer.on_completed(event, out); });
}

void HoldVerifier::advance(World& world, std::array<bool, 3> held, Output& out) {
  for (auto it = running_.begin(); it != running_.end();) {
    auto& fencer = it->second.fencer;
    auto hold = it->second.hold;
    fencer.on_time(out);
    auto outcome = fencer.outcome();
    if (outcome == DiskFencer::Outcome::running) {
      ++it;
      continue;
    }
    auto disk = it->first;
    if (outcome == DiskFencer::Outcome::lost && held[disk.identity.value()]) {
      MARK(hold_lost);
      world.fenced = "disk " + std::to_string(disk.index) + " of identity " +
                     std::to_string(disk.identity.value()) + ": " + fencer.why();
    }
    it = running_.erase(it);
    // An unreadable disk says nothing: it is asked again, now or when it has a path again, and the
    // lease does not depend on it alone.
    const auto& paths = world.connected[disk.identity.value()];
    if (!paths[disk.index] && world.enough_connected(disk.identity)) {
      MARK(hold_of_a_missing_disk);
      continue;
    }
    if (outcome == DiskFencer::Outcome::failed && held[disk.identity.value()]) {
      MARK(hold_unreadable);
      verify(disk, hold, world, out);
      return;
    }
  }
}

Instant HoldVerifier::next_time() const {
  Instant next = never;
  for (const auto& [disk, check] : running_) next = std::min(next, check.fencer.next_time());
  return next;
}

}  // namespace duet::ha
