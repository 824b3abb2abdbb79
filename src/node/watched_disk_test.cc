#include "node/watched_disk.h"

#include <gtest/gtest.h>

#include <optional>

#include "node/test_shelf.h"

namespace duet::node {
namespace {

TEST(WatchedDisk, CountsAndTimesWhatItPassesOn) {
  simulation::SimulatedScheduler scheduler;
  TestShelf shelf(scheduler, NodeId(1));
  WatchedDisk disk(scheduler, *shelf.disks()[0]);
  EXPECT_EQ(disk.name(), "shelf1/0");
  EXPECT_TRUE(disk.connected());
  shelf.media[0]->latency = [](auto...) { return std::optional<Duration>(milliseconds(3)); };
  std::array<std::byte, 4096> block{};
  ASSERT_TRUE(shelf.wait([&](auto done) { disk.read(0, block, std::move(done)); }));
  shelf.media[0]->latency = [](auto...) { return std::optional<Duration>(milliseconds(1)); };
  ASSERT_TRUE(shelf.wait([&](auto done) { disk.read(0, block, std::move(done)); }));
  EXPECT_EQ(disk.figures().operations, 2u);
  EXPECT_EQ(disk.figures().errors, 0u);
  EXPECT_EQ(disk.take_latency(), std::pair(Duration(milliseconds(3)), Duration(milliseconds(2))));
  EXPECT_EQ(disk.take_latency(), std::pair(Duration{}, Duration{}));
}

TEST(WatchedDisk, AFailureCountsButBeingFencedIsNoFaultOfThePath) {
  simulation::SimulatedScheduler scheduler;
  TestShelf shelf(scheduler, NodeId(1));
  WatchedDisk disk(scheduler, *shelf.disks()[0]);
  std::array<std::byte, 4096> block{};
  shelf.media[0]->fault = [](auto...) { return std::optional(ErrorCode::io_error); };
  EXPECT_FALSE(shelf.wait([&](auto done) { disk.read(0, block, std::move(done)); }));
  EXPECT_EQ(disk.figures().errors, 1u);
  EXPECT_NE(disk.figures().last_error, "");
  shelf.media[0]->fault = [](auto...) { return std::optional(ErrorCode::reservation_conflict); };
  EXPECT_FALSE(shelf.wait([&](auto done) { disk.read(0, block, std::move(done)); }));
  EXPECT_EQ(disk.figures().errors, 1u);
  EXPECT_EQ(disk.figures().operations, 2u);
}

}  // namespace
}  // namespace duet::node
