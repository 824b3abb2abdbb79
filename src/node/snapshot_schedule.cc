#include "node/snapshot_schedule.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace duet::node {
namespace {

constexpr std::string_view pattern = "auto.dddd-dd-ddTddddZ";

std::int64_t interval_of(const SnapshotSchedule& schedule) {
  return std::max<std::int64_t>(schedule.interval / std::chrono::nanoseconds(1), 1);
}

}  // namespace

std::string automatic_name(std::int64_t wall_ns) {
  const std::chrono::sys_time<std::chrono::seconds> time{
      std::chrono::seconds(wall_ns / 1'000'000'000)};
  return fmt::format("auto.{:%Y-%m-%dT%H%M}Z", time);
}

bool is_automatic(std::string_view name) {
  return name.size() == pattern.size() &&
         std::ranges::equal(name, pattern, [](char c, char expected) {
           return expected == 'd' ? c >= '0' && c <= '9' : c == expected;
         });
}

SnapshotPlan plan_snapshots(const SnapshotSchedule& schedule,
                            const std::vector<KeptSnapshot>& snapshots, std::int64_t wall_ns) {
  const std::int64_t interval = interval_of(schedule);
  const std::int64_t begin = wall_ns / interval * interval;
  SnapshotPlan plan;
  plan.next_ns = begin + interval;
  std::vector<std::string> automatic;
  std::string newest;
  for (const auto& s : snapshots) {
    if (!is_automatic(s.name)) continue;
    newest = std::max(newest, s.name);
    if (!s.held) automatic.push_back(s.name);
  }
  // A clock that was set back makes none until it has caught up.
  if (const auto name = automatic_name(begin); newest < name) plan.create = name;
  std::ranges::sort(automatic);
  const std::size_t coming = plan.create.empty() ? 0 : 1;
  for (const auto& name : automatic) {
    if (automatic.size() + coming - plan.remove.size() <= schedule.keep) break;
    plan.remove.push_back(name);
  }
  return plan;
}

SnapshotKeeper::SnapshotKeeper(ports::Scheduler& scheduler, pool::Pool& pool,
                               std::function<std::int64_t()> wall_clock_ns,
                               std::function<void(std::string, std::string)> log,
                               std::vector<SnapshotSchedule> schedules)
    : scheduler_(scheduler),
      pool_(pool),
      wall_clock_ns_(std::move(wall_clock_ns)),
      log_(std::move(log)),
      schedules_(std::move(schedules)) {
  if (!schedules_.empty() && wall_clock_ns_)
    timer_ = scheduler_.at(scheduler_.now(), [this] { look(); });
}

SnapshotKeeper::~SnapshotKeeper() {
  *alive_ = false;
  scheduler_.cancel(timer_);
}

void SnapshotKeeper::say(const std::string& phase, const std::string& text) {
  if (std::exchange(said_, text) != text) log_(phase, text);
}

void SnapshotKeeper::look() {
  const std::int64_t now = wall_clock_ns_();
  Duration wait = longest_wait;
  for (const auto& schedule : schedules_) {
    look(schedule);
    const auto next = plan_snapshots(schedule, {}, now).next_ns;
    wait = std::min(wait, Duration(std::chrono::nanoseconds(next - now)));
  }
  timer_ = scheduler_.at(scheduler_.now() + wait, [this] { look(); });
}

void SnapshotKeeper::look(const SnapshotSchedule& schedule) {
  const auto all = pool_.volumes();
  auto volume = std::ranges::find_if(all, [&](const pool::VolumeReport& v) {
    return v.kind == pool::VolumeKind::volume && v.name == schedule.volume;
  });
  if (volume == all.end()) {
    return say("snapshot.failed", "no volume '" + schedule.volume +
                                      "' to make automatic snapshots of: create it, or correct "
                                      "[[snapshots]]");
  }
  std::vector<KeptSnapshot> snapshots;
  for (const auto& v : all) {
    if (v.kind != pool::VolumeKind::snapshot || v.parent != volume->id) continue;
    snapshots.push_back({v.name, v.clones > 0 || v.deleting});
  }
  const std::int64_t now = wall_clock_ns_();
  const auto plan = plan_snapshots(schedule, snapshots, now);
  const auto failed = [this, alive = alive_](const std::string& what, const Error& error) {
    if (*alive) say("snapshot.failed", what + ": " + error.message);
  };
  if (!plan.create.empty()) {
    pool_.create_snapshot(volume->id, plan.create, now,
                          [name = plan.create, failed](const Result<pool::VolumeId>& made) {
                            if (!made) failed("automatic snapshot " + name, made.error());
                          });
  }
  for (const auto& name : plan.remove) {
    auto old = std::ranges::find_if(all, [&](const pool::VolumeReport& v) {
      return v.kind == pool::VolumeKind::snapshot && v.parent == volume->id && v.name == name;
    });
    pool_.delete_snapshot(old->id, [name, failed](const Status& gone) {
      if (!gone) failed("removal of automatic snapshot " + name, gone.error());
    });
  }
}

}  // namespace duet::node
