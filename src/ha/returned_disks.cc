#include "ha/returned_disks.h"

#include <algorithm>

#include "base/coverage.h"

namespace duet::ha {

void ReturnedDisks::advance(World& world, const std::array<std::optional<FenceMode>, 3>& modes,
                            const std::array<ports::ReservationType, 3>& types, Output& out) {
  std::erase_if(rest_, [&](const auto& entry) { return entry.second <= out.now(); });
  std::erase_if(running_, [&](const auto& entry) { return !modes[entry.first.identity.value()]; });
  for (auto& [ref, running] : running_) running.fencer.on_time(out);
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto n = identity.value();
    if (!modes[n]) continue;
    auto absent = world.absent(identity);
    for (auto index : world.absent(identity)) {
      DiskRef ref{identity, index};
      auto found = running_.find(ref);
      if (found == running_.end()) {
        bool left = identity == world.partner() && world.dump_watch.leaves(index);
        if (!world.connected[n][index] || rest_.contains(ref) || left) continue;
        Running running{DiskFencer(world.rules(*modes[n], types[n]), ref), {}};
        running_.emplace(ref, std::move(running)).first->second.fencer.start(out);
        continue;
      }
      if (!settle(found->second, ref, world, out)) continue;
      if (found->second.fencer.outcome() == DiskFencer::Outcome::done && !rest_.contains(ref)) {
        MARK(absent_disk_returned);
        if (identity == world.partner()) world.dump_watch.returned(index);
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

DumpHeader::Rules ReturnedDisks::header_rules(const World& world, std::uint8_t disk) {
  using coredump::AbortReason, coredump::Take;
  const auto& place = world.places[world.partner().value()][disk];
  auto take = *world.dump_watch.taken(disk);
  return {.cluster = world.config.cluster,
          .disk = place ? place->id : DiskId{},
          .drop = take == Take::needed,
          .why = take == Take::limit_over ? AbortReason::time_limit
                 : take == Take::stalled  ? AbortReason::stalled
                                          : AbortReason::process_gone};
}

// What was written to a disk that was left is read behind the fence: only then nobody writes it any
// more. What RAID needs is inactive before RAID hears of it (C6).
bool ReturnedDisks::settle(Running& running, DiskRef ref, World& world, Output& out) {
  if (running.fencer.outcome() == DiskFencer::Outcome::running) return false;
  bool left = ref.identity == world.partner() && world.dump_watch.taken(ref.index);
  if (running.fencer.outcome() != DiskFencer::Outcome::done || !left) return true;
  auto rules = header_rules(world, ref.index);
  if (!running.header) {
    running.header.emplace(ref, rules);
    running.header->start(out);
  }
  if (running.header->outcome() == DumpHeader::Outcome::running) return false;
  bool failed = running.header->outcome() == DumpHeader::Outcome::failed;
  const auto& header = running.header->header();
  bool to_drop = rules.drop && header && header->attribute != coredump::Attribute::inactive;
  if (!failed && to_drop) {  // needed only since it was read
    MARK(dump_disk_needed_late);
    running.header.emplace(ref, rules);
    running.header->start(out);
    return false;
  }
  if (failed && rules.drop) rest_[ref] = out.now() + return_retry;
  return true;
}

bool ReturnedDisks::on_completed(const DiskCompleted& event, Output& out) {
  return std::ranges::any_of(running_, [&](auto& entry) {
    auto& [fencer, header] = entry.second;
    return fencer.on_completed(event, out) || (header && header->on_completed(event, out));
  });
}

Instant ReturnedDisks::next_time() const {
  Instant next = never;
  for (const auto& [ref, running] : running_) next = std::min(next, running.fencer.next_time());
  for (const auto& [ref, at] : rest_) next = std::min(next, at);
  return next;
}

}  // namespace duet::ha
