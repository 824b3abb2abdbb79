#include "node/snapshot_schedule.h"

#include <gtest/gtest.h>

namespace duet::node {
namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t hour = 3600 * second;
constexpr std::int64_t at_one = 1'795'222'800 * second;  // 2026-11-21 01:00:00 UTC

const SnapshotSchedule hourly{NodeId(1), "vol0", std::chrono::minutes(60), 3};

TEST(SnapshotSchedule, NamesAreInTheOrderOfTime) {
  EXPECT_EQ(automatic_name(at_one), "auto.2026-11-21T0100Z");
  EXPECT_LT(automatic_name(at_one), automatic_name(at_one + 24 * hour));
  EXPECT_TRUE(is_automatic("auto.2026-11-21T0100Z"));
  for (const char* other : {"", "auto.", "auto.2026-11-21T0100", "auto.2026-11-21T01x0Z", "monday",
                            "Auto.2026-11-21T0100Z", "auto.2026-11-21T0100Z2"}) {
    EXPECT_FALSE(is_automatic(other)) << other;
  }
}

TEST(SnapshotSchedule, OneInEachInterval) {
  auto plan = plan_snapshots(hourly, {}, at_one + 59 * second);
  EXPECT_EQ(plan.create, "auto.2026-11-21T0100Z");
  EXPECT_EQ(plan.next_ns, at_one + hour);
  EXPECT_TRUE(plan.remove.empty());
  plan = plan_snapshots(hourly, {{"auto.2026-11-21T0100Z"}}, at_one + hour - 1);
  EXPECT_EQ(plan.create, "");
  plan = plan_snapshots(hourly, {{"auto.2026-11-21T0100Z"}}, at_one + hour);
  EXPECT_EQ(plan.create, "auto.2026-11-21T0200Z");
}

TEST(SnapshotSchedule, OnlyTheOldestAutomaticOnesGo) {
  const std::vector<KeptSnapshot> there{{"monday"},
                                        {"auto.2026-11-20T2300Z"},
                                        {"auto.2026-11-21T0000Z"},
                                        {"auto.2026-11-20T2200Z"},
                                        {"auto.2026-11-20T2100Z", true}};
  EXPECT_EQ(plan_snapshots(hourly, there, at_one).remove,
            (std::vector<std::string>{"auto.2026-11-20T2200Z"}));
  EXPECT_TRUE(plan_snapshots(hourly, there, at_one - 1).remove.empty()) << "none comes";
}

TEST(SnapshotSchedule, AClockThatWasSetBackMakesNone) {
  const std::vector<KeptSnapshot> there{{"auto.2026-11-21T0500Z"}};
  EXPECT_EQ(plan_snapshots(hourly, there, at_one).create, "");
  EXPECT_EQ(plan_snapshots(hourly, there, at_one + 5 * hour).create, "auto.2026-11-21T0600Z");
}

}  // namespace
}  // namespace duet::node
