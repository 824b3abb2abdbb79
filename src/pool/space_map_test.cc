// Map blocks that go and come back.
#include "pool/space_map.h"

#include <gtest/gtest.h>

namespace duet::pool {
namespace {

constexpr std::uint64_t areas = 6;
constexpr std::uint32_t members = 3;

raid::Layout layout() {
  raid::Layout layout;
  layout.groups.push_back({raid::Protection::none, areas * blocks_per_map});
  for (std::uint32_t m = 0; m < members; ++m) {
    DiskId id;
    id.bytes[0] = static_cast<std::uint8_t>(m + 1);
    layout.members.push_back(
        {id, 0, false, static_cast<std::uint8_t>(m), raid::MemberState::in_sync, 0});
  }
  return layout;
}

// The map and its blocks on a disk, that of each when it was written last.
struct Space {
  SpaceMap map{layout()};
  std::map<std::uint64_t, std::vector<std::byte>> disk;

  void load(std::uint64_t number) {
    auto found = disk.find(number);
    ASSERT_TRUE(map.load(number, found == disk.end() ? Bytes{} : Bytes(found->second)));
  }
  raid::BlockAddress allocate() {
    while (map.available() == 0) {
      auto missing = map.line_up(1);
      if (missing.empty()) break;
      for (auto number : missing) load(number);
    }
    return map.allocate();
  }
  void release(raid::BlockAddress address) {
    if (!map.loaded(map.map_of(address))) load(map.map_of(address));
    map.release(address);
  }
  void point() {
    map.finish_rows();
    for (auto number : map.take_dirty()) {
      const Bytes bits = map.bits(number);
      disk[number].assign(bits.begin(), bits.end());
    }
  }
};

TEST(SpaceMap, WhatIsNotNeededIsDroppedAndReadAgain) {
  Space space;
  std::set<std::uint64_t> used;
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 40000; ++i) {
      ASSERT_TRUE(used.insert(space.allocate().value).second);
    }
    space.map.evict(2);
    EXPECT_GT(space.map.in_memory(), 2u) << "what was changed stays until it is written";
    space.point();
    space.map.evict(2);
    EXPECT_EQ(space.map.in_memory(), 2u);
    EXPECT_EQ(space.map.used(), used.size());
  }
  // Release every other one: the maps come back as they were.
  bool odd = false;
  for (const std::uint64_t value : std::set(used)) {
    if (odd = !odd; odd) continue;
    raid::BlockAddress address;
    address.value = value;
    space.release(address);
    used.erase(value);
  }
  space.point();
  const std::size_t all = space.map.in_memory();
  space.map.evict(0);
  EXPECT_EQ(space.map.in_memory(), all) << "released blocks wait in all of them";
  space.map.settle(space.map.take_released());
  space.map.evict(0);
  EXPECT_EQ(space.map.in_memory(), 0u);
  EXPECT_EQ(space.map.free(), space.map.usable() - used.size());
  for (std::uint64_t number = 0; number < space.map.maps(); ++number) space.load(number);
  for (const std::uint64_t value : used) {
    raid::BlockAddress address;
    address.value = value;
    ASSERT_TRUE(space.map.is_used(address));
  }
}

// One area, few clean rows and many others: all of it can be had in one go.
TEST(SpaceMap, WhatIsLeftBesideCleanRowsIsAvailableToo) {
  raid::Layout one = layout();
  one.groups[0].blocks = blocks_per_map;
  SpaceMap map(one);
  for (std::uint64_t number = 0; number < map.maps(); ++number) ASSERT_TRUE(map.load(number, {}));
  ASSERT_TRUE(map.line_up(map.free()).empty());
  std::vector<raid::BlockAddress> given;
  while (map.free() > 300) given.push_back(map.allocate());
  map.finish_rows();
  map.take_dirty();
  std::size_t released = 0;
  for (const raid::BlockAddress address : given) {  // one block of each row: none becomes clean
    if (address.member() != 0 || released == 1000) continue;
    map.release(address);
    ++released;
  }
  map.settle(map.take_released());
  const std::uint64_t free = map.free();
  EXPECT_EQ(free, 1300u);
  ASSERT_TRUE(map.line_up(1000).empty());
  EXPECT_GE(map.available(), 1000u);
  EXPECT_LE(map.available(), free);
  for (std::uint64_t i = 0; i < 50; ++i) map.allocate();
  ASSERT_TRUE(map.line_up(free).empty());
  EXPECT_EQ(map.available(), free - 50);
  while (map.available() > 0) map.allocate();
  EXPECT_EQ(map.free(), 0u);
}

TEST(SpaceMap, WhatWasUsedLatelyStaysLonger) {
  Space space;
  for (std::uint64_t number = 0; number < space.map.maps(); ++number) space.load(number);
  space.map.evict(space.map.maps() - 1);  // the first round finds all of them used
  const raid::BlockAddress address = space.allocate();
  space.point();
  space.map.evict(1);
  EXPECT_EQ(space.map.in_memory(), 1u);
  EXPECT_TRUE(space.map.loaded(space.map.map_of(address)));
}

}  // namespace
}  // namespace duet::pool
