#include "ha/absence.h"

#include <gtest/gtest.h>

namespace duet::ha {
namespace {

Place data(std::uint16_t group, std::uint16_t position, std::uint16_t in_pool,
           std::uint8_t redundancy) {
  return {.data = true,
          .group = group,
          .position = position,
          .disks_in_pool = in_pool,
          .redundancy = redundancy};
}

// One group of `n`, then `spares`.
Places one_group(std::uint16_t n, std::uint8_t redundancy, int spares = 0) {
  Places places;
  for (std::uint16_t i = 0; i < n; ++i) places.emplace_back(data(0, i, n, redundancy));
  for (int i = 0; i < spares; ++i) places.emplace_back(Place{.data = false, .disks_in_pool = n});
  return places;
}

TEST(bears, as_many_as_the_group_has_parity_disks) {
  for (std::uint8_t redundancy = 0; redundancy <= 2; ++redundancy) {
    auto places = one_group(6, redundancy);
    EXPECT_TRUE(bears(places, {}, 3));
    for (std::uint8_t a = 0; a < 6; ++a) {
      EXPECT_EQ(bears(places, {a}, 3), redundancy >= 1) << int{a};
      for (auto b = static_cast<std::uint8_t>(a + 1); b < 6; ++b) {
        bool mailboxes = a < 3 && b < 3;
        EXPECT_EQ(bears(places, {a, b}, 3), redundancy >= 2 && !mailboxes) << int{a} << int{b};
      }
    }
    EXPECT_FALSE(bears(places, {3, 4, 5}, 3));
  }
}

TEST(bears, most_mailbox_disks_have_to_be_there) {
  EXPECT_FALSE(bears(one_group(6, 2), {0, 1}, 3));
  EXPECT_FALSE(bears(one_group(3, 2), {0, 2}, 3));
  EXPECT_FALSE(bears(one_group(2, 1), {0}, 2));
  EXPECT_FALSE(bears(one_group(1, 2), {0}, 1));
  EXPECT_FALSE(bears(one_group(3, 0, 1), {0, 1}, 3));
}

TEST(bears, spares_and_coredump_disks_always) {
  auto places = one_group(4, 0, 2);
  EXPECT_TRUE(bears(places, {4}, 3));
  EXPECT_TRUE(bears(places, {4, 5}, 3));
  EXPECT_FALSE(bears(places, {3, 5}, 3));
  EXPECT_TRUE(bears(one_group(4, 1, 2), {3, 4, 5}, 3));
}

TEST(bears, every_group_for_itself) {
  Places places;
  for (std::uint16_t i = 0; i < 4; ++i) places.emplace_back(data(0, i, 8, 1));
  for (std::uint16_t i = 0; i < 4; ++i) places.emplace_back(data(1, i, 8, 1));
  EXPECT_TRUE(bears(places, {3}, 3));
  EXPECT_TRUE(bears(places, {2, 5}, 3)) << "one of each, known by the gaps";
  EXPECT_FALSE(bears(places, {4, 5}, 3));
  EXPECT_FALSE(bears(places, {3, 7}, 3)) << "the last of each: both could be of one group";
}

TEST(bears, what_is_not_known_is_not_borne) {
  auto unread = one_group(4, 2);
  unread[0].reset();
  EXPECT_FALSE(bears(unread, {3}, 3));
  EXPECT_TRUE(bears(unread, {0}, 3)) << "the label of an absent disk does not matter";
  auto twice = one_group(4, 2);
  twice[0]->position = 1;
  EXPECT_FALSE(bears(twice, {3}, 3));
  auto other_pool = one_group(4, 2);
  other_pool[0]->disks_in_pool = 5;
  EXPECT_FALSE(bears(other_pool, {3}, 3));
  auto larger = one_group(4, 2);
  for (auto& place : larger) place->disks_in_pool = 9;
  EXPECT_FALSE(bears(larger, {3}, 3)) << "more are missing than are absent";
  EXPECT_FALSE(bears(one_group(0, 0, 4), {3}, 3)) << "no pool";
}

TEST(disk_set, is_ordered_and_has_each_once) {
  DiskSet set;
  for (std::uint8_t disk : {3, 1, 2, 3, 1}) add(set, disk);
  EXPECT_EQ(set, (DiskSet{1, 2, 3}));
  EXPECT_TRUE(contains(set, 2));
  EXPECT_FALSE(contains(set, 0));
}

}  // namespace
}  // namespace duet::ha
