// Service of the array: whole and partial stripes, repair, degraded members, faults of disks.
#include "raid/array.h"

#include "raid/array_fixture.h"

namespace duet::raid {
namespace {

std::vector<BlockAddress> rows(const Pool& pool, std::uint32_t data, std::uint64_t from,
                               std::uint64_t to) {
  std::vector<BlockAddress> addresses;
  for (std::uint32_t member = 0; member < data; ++member) {
    for (std::uint64_t row = from; row < to; ++row) addresses.push_back(pool.at(member, row));
  }
  return addresses;
}

struct Shape {
  std::uint32_t data;
  Protection protection;
};

class ArrayTest : public testing::TestWithParam<Shape> {};

TEST_P(ArrayTest, WhatIsWrittenIsRead) {
  const auto [data, protection] = GetParam();
  Pool pool(data, protection);
  pool.create();
  ASSERT_TRUE(pool.write(rows(pool, data, 0, 10)));
  ASSERT_TRUE(pool.write({pool.at(0, 12)}));
  ASSERT_TRUE(pool.check({pool.at(0, 12), pool.at(0, 3)}));
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.check_all());
  ASSERT_TRUE(pool.write({pool.at(data - 1, 13), pool.at(0, 14)}));
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.reopen());
  ASSERT_TRUE(pool.check_all());
}

TEST_P(ArrayTest, MembersThatFailAreGoneAround) {
  const auto [data, protection] = GetParam();
  if (protection == Protection::none) return;
  for (std::uint32_t first = 0; first < data + parity_count(protection); ++first) {
    Pool pool(data, protection);
    pool.create();
    ASSERT_TRUE(pool.write(rows(pool, data, 0, 4)));
    ASSERT_TRUE(pool.write({pool.at(0, 5)}));
    ASSERT_TRUE(pool.commit());
    ASSERT_TRUE(pool.array->fail_member(first));
    ASSERT_TRUE(pool.check_all());
    // Partial stripes beside live blocks, with the member missing.
    if (data > 1) {
      ASSERT_TRUE(pool.write({pool.at(1, 5)}));
    }
    ASSERT_TRUE(pool.write(rows(pool, data, 8, 9)));
    ASSERT_TRUE(pool.commit());
    ASSERT_TRUE(pool.check_all());
    if (protection == Protection::dual) {
      const std::uint32_t second = (first + 1) % (data + 2);
      ASSERT_TRUE(pool.array->fail_member(second));
      ASSERT_TRUE(pool.check_all());
      if (data > 2) {
        ASSERT_TRUE(pool.write({pool.at(2, 5)}));
      }
      ASSERT_TRUE(pool.commit());
    }
    ASSERT_TRUE(pool.reopen());
    ASSERT_TRUE(pool.check_all());
    const std::uint32_t third = (first + 2) % (data + parity_count(protection));
    if (third != first) {
      EXPECT_EQ(pool.array->fail_member(third).error().code, ErrorCode::refused);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ArrayTest,
                         testing::Values(Shape{1, Protection::none}, Shape{3, Protection::none},
                                         Shape{1, Protection::single}, Shape{2, Protection::single},
                                         Shape{5, Protection::single}, Shape{1, Protection::dual},
                                         Shape{3, Protection::dual}, Shape{6, Protection::dual}));

}  // namespace
}  // namespace duet::raid
