#include "nvlog/region.h"

#include <gtest/gtest.h>

#include "nvlog/control_block.h"
#include "nvlog/sim_nvram.h"

namespace duet::nvlog {
namespace {

constexpr std::uint64_t min_region = 0x28000;
constexpr std::array<std::uint8_t, 16> uuid{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
const ClusterId cluster{0x1122334455667788};

TEST(RegionLayout, IsAsDocumented) {
  auto layout = RegionLayout::of_size(min_region);
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->ring_size(), min_ring_size);
  EXPECT_EQ(layout->section(NodeId(1)), (Extent{0x2000, 0x13000}));
  EXPECT_EQ(layout->section(NodeId(2)), (Extent{0x15000, 0x13000}));
  EXPECT_EQ(layout->both_sections(), (Extent{0x2000, 0x26000}));
  EXPECT_EQ(layout->health_record(NodeId(2)), (Extent{0x15000, 0x1000}));
  EXPECT_EQ(layout->control_block(NodeId(1), 1), (Extent{0x4000, 128}));
  EXPECT_EQ(layout->ring(NodeId(1)), (Extent{0x5000, 0x10000}));
}

TEST(RegionLayout, RefusesSizes) {
  EXPECT_FALSE(RegionLayout::of_size(min_region - page).has_value());
  EXPECT_FALSE(RegionLayout::of_size(min_region + 1).has_value());
  EXPECT_FALSE(RegionLayout::of_size(0).has_value());
}

TEST(RegionLayout, StaysInsideForEverySize) {
  for (std::uint64_t size = min_region; size < min_region + 64 * page; size += page) {
    auto layout = RegionLayout::of_size(size);
    Extent both = layout->both_sections();
    EXPECT_LE(both.offset + both.length, size);
    EXPECT_EQ(layout->ring_size() % page, 0u);
  }
}

TEST(Region, BlankThenFormattedThenOpened) {
  SimNvram nvram(min_region);
  EXPECT_EQ(open_region(nvram, cluster, NodeId(1)).error().code, ErrorCode::not_found);
  ASSERT_TRUE(format_region(nvram, cluster, NodeId(1), uuid).has_value());
  auto opened = open_region(nvram, cluster, NodeId(1));
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->header, (RegionHeader{cluster, NodeId(1), uuid, min_region}));
  EXPECT_FALSE(opened->repaired);
  auto block = read_control_block(nvram.region(), opened->layout, NodeId(2));
  EXPECT_EQ(block.epoch, Epoch(0));
  EXPECT_EQ(block.generation, 1u);
}

TEST(Region, RefusesForeignRegions) {
  SimNvram nvram(min_region);
  ASSERT_TRUE(format_region(nvram, cluster, NodeId(1), uuid).has_value());
  EXPECT_EQ(open_region(nvram, ClusterId(1), NodeId(1)).error().code, ErrorCode::refused);
  EXPECT_EQ(open_region(nvram, cluster, NodeId(2)).error().code, ErrorCode::refused);
  SimNvram larger(min_region + page);
  std::ranges::copy(nvram.region(), larger.region().begin());
  EXPECT_EQ(open_region(larger, cluster, NodeId(1)).error().code, ErrorCode::invalid);
}

TEST(Region, OneDamagedHeaderIsRepairedTwoAreNot) {
  for (std::size_t copy : {0, 1}) {
    SimNvram nvram(min_region);
    ASSERT_TRUE(format_region(nvram, cluster, NodeId(1), uuid).has_value());
    nvram.region()[copy * page + 20] ^= std::byte{1};
    auto opened = open_region(nvram, cluster, NodeId(1));
    ASSERT_TRUE(opened.has_value());
    EXPECT_TRUE(opened->repaired);
    EXPECT_FALSE(open_region(nvram, cluster, NodeId(1))->repaired);
    nvram.region()[20] ^= std::byte{1};
    nvram.region()[page + 20] ^= std::byte{1};
    EXPECT_EQ(open_region(nvram, cluster, NodeId(1)).error().code, ErrorCode::invalid);
  }
}

TEST(Region, EveryBitOfTheHeaderCounts) {
  auto bytes = encode(RegionHeader{cluster, NodeId(2), uuid, min_region});
  ASSERT_TRUE(decode_region_header(bytes).has_value());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto broken = bytes;
    broken[bit / 8] ^= std::byte(1 << (bit % 8));
    EXPECT_FALSE(decode_region_header(broken).has_value()) << bit;
  }
  EXPECT_FALSE(decode_region_header(Bytes(bytes).first(127)).has_value());
}

TEST(Region, AFormatThatDiesLeavesNoHeader) {
  for (std::size_t copies = 1; copies <= 6; ++copies) {
    SimNvram nvram(min_region);
    nvram.crash_in(copies, copies);
    (void)format_region(nvram, cluster, NodeId(1), uuid);
    nvram.restart();
    auto opened = open_region(nvram, cluster, NodeId(1));
    if (copies < 6) {
      EXPECT_FALSE(opened.has_value()) << copies;
    }
  }
}

TEST(ControlBlock, NewestValidCopyWins) {
  SimNvram nvram(min_region);
  ASSERT_TRUE(format_region(nvram, cluster, NodeId(1), uuid).has_value());
  auto layout = *RegionLayout::of_size(min_region);
  ControlBlock block{NodeId(1), 2, Epoch(7), {Epoch(6), LogSequence(9), 128, 3}, LogSequence(12)};
  auto at = layout.control_block(NodeId(1), 0);
  nvram.copy(nvram.region().subspan(at.offset, at.length), encode(block));
  EXPECT_EQ(read_control_block(nvram.region(), layout, NodeId(1)), block);
  nvram.region()[at.offset + 24] ^= std::byte{4};
  EXPECT_EQ(read_control_block(nvram.region(), layout, NodeId(1)).generation, 1u);
  auto other = layout.control_block(NodeId(1), 1);
  nvram.region()[other.offset] ^= std::byte{4};
  EXPECT_EQ(read_control_block(nvram.region(), layout, NodeId(1)).epoch, Epoch(0));
}

TEST(LogPosition, RoundTripAndLimits) {
  LogPosition position{Epoch(5), LogSequence(150), 0x80, 2};
  EXPECT_EQ(*decode_position(encode(position)), position);
  EXPECT_EQ(to_hex(encode(position)),
            "0500000000000000960000000000000080000000000000000200000000000000");
  auto broken = [&](LogPosition p) { return !decode_position(encode(p)).has_value(); };
  EXPECT_TRUE(broken({Epoch(5), LogSequence(150), 0x81, 2}));
  EXPECT_TRUE(broken({Epoch(5), LogSequence(sequence_limit), 0x80, 2}));
  EXPECT_TRUE(broken({Epoch(5), LogSequence(1), 0x80, lap_limit}));
  EXPECT_FALSE(decode_position(Bytes(encode(position)).first(31)).has_value());
}

}  // namespace
}  // namespace duet::nvlog
