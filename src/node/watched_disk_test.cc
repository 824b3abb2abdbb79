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

TEST(WatchedDisk, KnowsWhenNoWriteIsUnderWay) {
  simulation::SimulatedScheduler scheduler;
  TestShelf shelf(scheduler, NodeId(1));
  WatchedDisk disk(scheduler, *shelf.disks()[0]);
  shelf.media[0]->fault = [](auto...) { return std::optional(ErrorCode::io_error); };
  const Slice zeros = make_buffer(4096).slice();
  int ended = 0, settled = 0;
  for (int i = 0; i < 2; ++i) disk.write(0, {zeros}, false, [&](Result<void>) { ++ended; });
  for (int i = 0; i < 2; ++i) {
    disk.when_settled([&] {
      EXPECT_EQ(ended, 2);
      ++settled;
    });
  }
  EXPECT_TRUE(disk.writing());
  while (settled < 2) ASSERT_TRUE(scheduler.step());
  EXPECT_FALSE(disk.writing());
  disk.when_settled([&] { ++settled; });
  EXPECT_EQ(settled, 2);
  ASSERT_TRUE(scheduler.step());
  EXPECT_EQ(settled, 3);
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
