#include "simulator/sim_scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace duet::simulator {
namespace {

struct SchedulerTest : testing::Test {
  Clock clock;
  Random random{1};
  Process one{clock, random, "one"}, other{clock, random, "other"};
  std::vector<int> order;

  void run(Duration time) {
    auto limit = clock.now() + time;
    while (clock.step(limit)) {
    }
  }
};

TEST_F(SchedulerTest, EqualInstantsRunInTheOrderOfTheCalls) {
  auto when = clock.now() + milliseconds(1);
  one.at(when, [&] { order.push_back(1); });
  other.at(when, [&] { order.push_back(2); });
  one.post([&] { order.push_back(0); });
  run(milliseconds(2));
  EXPECT_EQ(order, (std::vector{0, 1, 2}));
}

TEST_F(SchedulerTest, AStoppedProcessDoesLaterWhatFellDueInOrder) {
  one.pause(clock.now() + milliseconds(10));
  auto late = one.at(clock.now() + milliseconds(3), [&] { order.push_back(99); });
  one.at(clock.now() + milliseconds(2), [&] { order.push_back(2); });
  one.at(clock.now() + milliseconds(1), [&] {
    order.push_back(1);
    one.cancel(late);
  });
  other.at(clock.now() + milliseconds(5), [&] { order.push_back(0); });
  run(milliseconds(9));
  EXPECT_EQ(order, (std::vector{0}));
  run(milliseconds(9));
  EXPECT_EQ(order, (std::vector{0, 1, 2}));
}

TEST_F(SchedulerTest, AKilledProcessRunsNothingAndLetsGoOfEverything) {
  auto held = std::make_shared<int>(1);
  one.at(clock.now() + milliseconds(1), [held] { FAIL(); });
  one.kill();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(one.at(clock.now(), [held] { FAIL(); }), ports::TimerId{});
  run(milliseconds(5));
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(SchedulerTest, AStarvedProcessIsLateButLosesNothing) {
  one.starve(clock.now() + seconds(1), milliseconds(5));
  for (int i = 0; i < 100; ++i) {
    one.at(clock.now() + milliseconds(i), [&, i] { order.push_back(i); });
  }
  run(seconds(2));
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST_F(SchedulerTest, TheHashTellsRunsApart) {
  auto before = clock.hash();
  one.post([] {});
  run(milliseconds(1));
  EXPECT_NE(clock.hash(), before);
}

}  // namespace
}  // namespace duet::simulator
