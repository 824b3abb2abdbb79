// Snapshots that are made by the clock (docs/configuration.md, [[snapshots]]): which one is due,
// and which ones have had their time; and who carries it out while an identity is served.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "node/config.h"
#include "pool/pool.h"
#include "ports/scheduler.h"

namespace duet::node {

// `auto.2026-11-21T0100Z`: the names are in the order of time.
std::string automatic_name(std::int64_t wall_ns);
bool is_automatic(std::string_view name);

struct SnapshotPlan {
  std::string create;               // empty: the one of this interval is there
  std::vector<std::string> remove;  // oldest first
  std::int64_t next_ns = 0;         // since 1970: when the next interval begins
  bool operator==(const SnapshotPlan&) const = default;
};
struct KeptSnapshot {
  std::string name;
  bool held = false;  // by clones, or it is being deleted: it neither counts nor goes
};
// Of the snapshots of one volume. Only automatic ones are removed.
SnapshotPlan plan_snapshots(const SnapshotSchedule& schedule,
                            const std::vector<KeptSnapshot>& snapshots, std::int64_t wall_ns);

class SnapshotKeeper {
 public:
  // The clock of the wall may be set: it is looked at so often at least.
  static constexpr Duration longest_wait = seconds(30);

  SnapshotKeeper(ports::Scheduler& scheduler, pool::Pool& pool,
                 std::function<std::int64_t()> wall_clock_ns,
                 std::function<void(std::string phase, std::string text)> log,
                 std::vector<SnapshotSchedule> schedules);
  ~SnapshotKeeper();

 private:
  void look();
  void look(const SnapshotSchedule& schedule);
  void say(const std::string& phase, const std::string& text);

  ports::Scheduler& scheduler_;
  pool::Pool& pool_;
  std::function<std::int64_t()> wall_clock_ns_;
  std::function<void(std::string, std::string)> log_;
  std::vector<SnapshotSchedule> schedules_;
  ports::TimerId timer_{};
  std::string said_;  // the last trouble, said once
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
