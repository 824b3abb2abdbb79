// When consistency points begin by themselves.
#include "base/coverage_expect.h"
#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

LogSequence last(const PoolTestBench& bench) {
  return bench.log.back().first.sequence;
}

TEST(PoolPoints, ChangesGoToTheDisksWhenTheyGrowOld) {
  EXPECT_MARK(consistency_point_by_age);
  PoolTestBench bench({});
  bench.start();
  auto lun = bench.create("data", 1 << 20);
  ASSERT_TRUE(lun);
  bench.scheduler.run_for(seconds(6));
  ASSERT_TRUE(bench.write(*lun, 0, 4096));  // later ones do not put it off
  bench.scheduler.run_for(milliseconds(3900));
  EXPECT_LT(bench.pool->position().sequence, last(bench));
  bench.scheduler.run_for(milliseconds(500));
  EXPECT_EQ(bench.pool->position().sequence, last(bench));
  EXPECT_EQ(bench.pool->dirty_bytes(), 0u);
  // And again, from the next change on.
  bench.scheduler.run_for(seconds(5));
  ASSERT_TRUE(bench.write(*lun, 4096, 4096));
  bench.scheduler.run_for(milliseconds(9900));
  EXPECT_LT(bench.pool->position().sequence, last(bench));
  bench.scheduler.run_for(milliseconds(500));
  EXPECT_EQ(bench.pool->position().sequence, last(bench));
}

TEST(PoolPoints, APoolAtRestMakesNone) {
  PoolTestBench bench({});
  bench.start();
  ASSERT_TRUE(bench.create("data", 1 << 20));
  ASSERT_TRUE(bench.flush());
  const auto before = bench.pool->figures().consistency_points;
  bench.pool->skip(bench.next_position());  // a record that is not for us changes nothing
  bench.scheduler.run_for(std::chrono::minutes(5));
  EXPECT_EQ(bench.pool->figures().consistency_points, before);
}

TEST(PoolPoints, AnotherAgeOrNone) {
  PoolTestBench::Options options;
  options.point_age = milliseconds(100);
  PoolTestBench quick(options);
  quick.start();
  ASSERT_TRUE(quick.create("data", 1 << 20));
  quick.scheduler.run_for(milliseconds(300));
  EXPECT_EQ(quick.pool->position().sequence, last(quick));
  options.point_age = Duration(0);
  PoolTestBench never(options);
  never.start();
  ASSERT_TRUE(never.create("data", 1 << 20));
  never.scheduler.run_for(std::chrono::minutes(5));
  EXPECT_LT(never.pool->position().sequence, last(never));
}

// Long before the bound makes anybody wait.
TEST(PoolPoints, MuchThatWaitsIsReasonEnough) {
  PoolTestBench bench({});
  bench.start();
  auto lun = bench.create("data", 4 << 20);
  ASSERT_TRUE(lun);
  ASSERT_TRUE(bench.write(*lun, 0, 1 << 20));
  bench.scheduler.run_for(seconds(1));
  EXPECT_LT(bench.pool->position().sequence, last(bench));
  ASSERT_TRUE(bench.write(*lun, 1 << 20, 1 << 20));  // half of 4 MiB
  bench.scheduler.run_for(seconds(1));
  EXPECT_EQ(bench.pool->position().sequence, last(bench));
}

// The age of what comes while a point is under way counts from then on.
TEST(PoolPoints, ChangesDuringAPointHaveAnAgeOfTheirOwn) {
  PoolTestBench bench({});
  bench.start();
  auto lun = bench.create("data", 1 << 20);
  ASSERT_TRUE(lun);
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.write(*lun, 0, 4096));
  bench.scheduler.run_for(seconds(9));
  EXPECT_LT(bench.pool->position().sequence, last(bench));
  bench.scheduler.run_for(seconds(2));
  EXPECT_EQ(bench.pool->position().sequence, last(bench));
}

}  // namespace
}  // namespace duet::pool
