// From batches to stripes and disk operations.
#include <gtest/gtest.h>

#include "raid/array_fixture.h"
#include "raid/read_plan.h"
#include "raid/write_plan.h"

namespace duet::raid {
namespace {

const Slice& block() {
  static const Slice one = make_buffer(block_size).slice();
  return one;
}
BlockAddress at(std::uint32_t member, std::uint64_t row) {
  return BlockAddress(member, reserved_blocks + row);
}

TEST(WritePlan, SortsBlocksIntoStripes) {
  const Layout layout = make_layout(3, Protection::single, 1000);
  const auto groups = map_groups(layout);
  auto plan =
      plan_writes(layout, groups, {{at(2, 5), block()}, {at(0, 4), block()}, {at(0, 5), block()}});
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->size(), 2u);
  EXPECT_EQ(stripe_of((*plan)[0].key), reserved_blocks + 4);
  EXPECT_EQ((*plan)[0].written, 0b001u);
  EXPECT_EQ((*plan)[1].written, 0b101u);
  EXPECT_TRUE((*plan)[1].columns[1].bytes.empty());
}

TEST(WritePlan, RefusesWhatIsNoDataBlock) {
  const Layout layout = make_layout(3, Protection::single, 1000);
  const auto groups = map_groups(layout);
  const std::vector<BlockWrite> wrong[] = {
      {{BlockAddress(0, reserved_blocks - 1), block()}},
      {{BlockAddress(0, 1000), block()}},
      {{BlockAddress(3, 500), block()}},  // parity
      {{BlockAddress(4, 500), block()}},
      {{BlockAddress(0, 500), {block().owner, block().bytes.first(512)}}},
      {{at(1, 1), block()}, {at(1, 1), block()}},
  };
  for (const auto& blocks : wrong) {
    EXPECT_EQ(plan_writes(layout, groups, blocks).error().code, ErrorCode::invalid);
  }
}

TEST(WritePlan, NeighboursOfADiskBecomeOneWriteOfAtMostOneMegabyte) {
  const Layout layout = make_layout(2, Protection::single, 1000);
  const auto groups = map_groups(layout);
  std::vector<BlockWrite> blocks;
  for (std::uint64_t row = 0; row < 300; ++row) blocks.push_back({at(0, row), block()});
  blocks.push_back({at(1, 7), block()});
  blocks.push_back({at(1, 9), block()});
  auto plan = plan_writes(layout, groups, std::move(blocks));
  ASSERT_TRUE(plan);
  const auto writes = merge_writes(*plan, 0);
  ASSERT_EQ(writes.size(), 4u);
  EXPECT_EQ(writes[0].data.size(), max_disk_write_blocks);
  EXPECT_EQ(writes[1].block, reserved_blocks + max_disk_write_blocks);
  EXPECT_EQ(writes[1].data.size(), 300 - max_disk_write_blocks);
  EXPECT_EQ(writes[2].column, 1u);
  EXPECT_EQ(writes[3].block, reserved_blocks + 9);
  // No copy on the way.
  EXPECT_EQ(writes[0].data[0].bytes.data(), block().bytes.data());
}

TEST(ReadPlan, NeighboursInTheListAndOnTheDiskBecomeOneRead) {
  std::vector<BlockRead> reads;
  for (std::uint64_t row = 0; row < 300; ++row) reads.push_back({at(0, row), 0, {}});
  reads.push_back({at(1, 300), 0, {}});
  reads.push_back({at(1, 302), 0, {}});
  const auto runs = plan_reads(reads);
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(runs[0].count, max_disk_read_blocks);
  EXPECT_EQ(runs[1].first, max_disk_read_blocks);
  EXPECT_EQ(runs[1].count, 300 - max_disk_read_blocks);
  EXPECT_EQ(runs[3].first, 301u);
}

}  // namespace
}  // namespace duet::raid
