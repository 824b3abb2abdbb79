#include "stamp.h"

#include <gtest/gtest.h>

#include <vector>

namespace duet::load {
namespace {

const Stamp stamp{.run = 7, .lun = 1, .block = 4, .sequence = 17};

std::vector<std::byte> stamped() {
  std::vector<std::byte> block(block_size);
  fill(block, stamp);
  return block;
}

TEST(Stamp, a_stamped_block_holds_its_stamp_and_no_other) {
  const auto block = stamped();
  EXPECT_TRUE(holds(block, stamp));
  for (Stamp other :
       {Stamp{8, 1, 4, 17}, Stamp{7, 2, 4, 17}, Stamp{7, 1, 5, 17}, Stamp{7, 1, 4, 18}}) {
    EXPECT_FALSE(holds(block, other));
  }
}

TEST(Stamp, every_single_byte_counts) {
  auto block = stamped();
  for (std::size_t i = 0; i < block_size; ++i) {
    block[i] ^= std::byte{1};
    EXPECT_FALSE(holds(block, stamp)) << i;
    block[i] ^= std::byte{1};
  }
}

TEST(Stamp, tells_what_a_block_holds) {
  auto block = stamped();
  EXPECT_EQ(describe(block), "sequence 17 of block 4 of LUN 1 of run 0000000000000007");
  block[2000] ^= std::byte{1};
  EXPECT_EQ(describe(block), "torn or foreign bytes");
  EXPECT_EQ(describe(std::vector<std::byte>(block_size)), "zeroes");
}

}  // namespace
}  // namespace duet::load
