#include "disk/areas.h"

#include <gtest/gtest.h>

#include <array>

namespace duet::disk {
namespace {

// docs/formats/disk_label.md, "Areas".
TEST(Areas, LieWhereTheFormatSays) {
  EXPECT_EQ(label_copy(0), (Area{0, 4096}));
  EXPECT_EQ(label_copy(1), (Area{4096, 4096}));
  EXPECT_EQ(mailbox_area, (Area{32768, 32768}));
  EXPECT_EQ(mailbox_copy(0), (Area{32768, 4096}));
  EXPECT_EQ(mailbox_copy(1), (Area{36864, 4096}));
  EXPECT_EQ(heartbeat_block, (Area{40960, 4096}));
  EXPECT_EQ(coredump_header_area, (Area{65536, 65536}));
  EXPECT_EQ(data_offset, 1048576u);
}

TEST(Areas, AreInOrderAndDisjoint) {
  std::array<Area, 6> in_order{label_copy(0),   label_copy(1),   mailbox_copy(0),
                               mailbox_copy(1), heartbeat_block, coredump_header_area};
  for (std::size_t i = 1; i < in_order.size(); ++i) {
    EXPECT_LE(in_order[i - 1].end(), in_order[i].offset);
  }
  EXPECT_LE(heartbeat_block.end(), mailbox_area.end());
  EXPECT_EQ(mailbox_area.end(), coredump_header_area.offset);
  EXPECT_LE(coredump_header_area.end(), data_offset);
}

TEST(Areas, DataReachesToTheLastWholeBlock) {
  auto area = data_area(64 * 1024 * 1024 + 512);
  ASSERT_TRUE(area.has_value());
  EXPECT_EQ(*area, (Area{1048576, 63 * 1024 * 1024}));
}

TEST(Areas, SizesOutOfBoundsAreRefused) {
  EXPECT_FALSE(data_area(0).has_value());
  EXPECT_FALSE(data_area(min_disk_size - 1).has_value());
  EXPECT_EQ(data_area(min_disk_size)->size, 4096u);
  EXPECT_TRUE(data_area(max_disk_size).has_value());
  EXPECT_EQ(data_area(max_disk_size + 1).error().code, ErrorCode::invalid);
  EXPECT_FALSE(data_area(~std::uint64_t{0}).has_value());
}

}  // namespace
}  // namespace duet::disk
