#include "ha/returned_disks.h"

#include <algorithm>

#include "base/coverage.h"

namespace duet::ha {

void ReturnedDisks::advance(World& world, const std::array<std::optional<FenceMode>, 3>& modes,
                            const std::array<ports::ReservationType, 3>& types, Output& out) {
  std::erase_if(rest_, [&](const auto& entry) { return entry.second <= out.now(); });
  std::erase_if(running_, [&](const auto& entry) { return !modes[entry.first.identity.value()]; });
  for (auto& [ref, fencer] : running_) fencer.on_time(out);
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto n = identity.value();
    if (!modes[n]) continue;
    auto absent = world.absent(identity);
    for (auto index : world.absent(identity)) {
      DiskRef ref{identity, index};
      auto found = running_.find(ref);
      if (found == running_.end()) {
        if (!world.connected[n][index] || rest_.contains(ref)) continue;
        auto fencer = DiskFencer(world.rules(*modes[n], types[n]), ref);
        running_.emplace(ref, std::move(fencer)).first->second.start(out);
        continue;
      }
      auto outcome = found->second.outcome();
      if (outcome == DiskFencer::Outcome::running) continue;
      if (outcome == DiskFencer::Outcome::done) {
        MARK(absent_disk_returned);
        std::erase(absent, index);
        out.log(Severity::notice, "disk.returned",
                "disk " + std::to_string(index) + " of identity " + std::to_string(n) +
                    " is ours alone again");
        out.act(DiskReturned{ref});
      } else {
        MARK(absent_disk_not_fenced);
        rest_[ref] = out.now() + return_retry;
      }
      running_.erase(found);
    }
    world.serve_without(identity, std::move(absent));
  }
}

bool ReturnedDisks::on_completed(const DiskCompleted& event, Output& out) {
  return std::ranges::any_of(running_,
                             [&](auto& entry) { return entry.second.on_completed(event, out); });
}

Instant ReturnedDisks::next_time() const {
  Instant next = never;
  for (const auto& [ref, fencer] : running_) next = std::min(next, fencer.next_time());
  for (const auto& [ref, at] : rest_) next = std::min(next, at);
  return next;
}

}  // namespace duet::ha
