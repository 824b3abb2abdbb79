#include "simulation/scheduler.h"

#include <gtest/gtest.h>

#include <string>

namespace duet::simulation {
namespace {

TEST(SimulatedScheduler, RunsPostedBeforeTimersAndEqualInstantsInOrder) {
  SimulatedScheduler s;
  std::string order;
  s.at(s.now() + milliseconds(1), [&] { order += 'c'; });
  s.at(s.now() + milliseconds(1), [&] { order += 'd'; });
  s.at(s.now(), [&] { order += 'b'; });
  s.post([&] {
    order += 'a';
    s.post([&] { order += 'A'; });
  });
  s.run_all();
  EXPECT_EQ(order, "aAbcd");
  EXPECT_EQ(s.now(), Instant(milliseconds(1)));
}

TEST(SimulatedScheduler, CancelledTimersDoNotRun) {
  SimulatedScheduler s;
  bool ran = false;
  auto timer = s.at(s.now() + seconds(1), [&] { ran = true; });
  s.cancel(timer);
  s.cancel(timer);
  s.cancel(ports::TimerId(77));
  s.run_all();
  EXPECT_FALSE(ran);
  EXPECT_EQ(s.pending(), 0u);
}

TEST(SimulatedScheduler, RunForLetsTimePassAndLeavesLaterTimers) {
  SimulatedScheduler s;
  int ran = 0;
  s.at(s.now() + seconds(1), [&] { ++ran; });
  s.at(s.now() + seconds(3), [&] { ++ran; });
  s.run_for(seconds(2));
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(s.now(), Instant(seconds(2)));
  EXPECT_FALSE(s.run_until([&] { return ran == 2; }, milliseconds(900)));
  EXPECT_TRUE(s.run_until([&] { return ran == 2; }, milliseconds(1100)));
}

}  // namespace
}  // namespace duet::simulation
