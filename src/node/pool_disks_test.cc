#include "node/pool_disks.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "node/test_shelf.h"

namespace duet::node {
namespace {

constexpr NodeId red{1}, blue{2};

struct Bench {
  simulation::SimulatedScheduler scheduler;
  TestShelf shelf{scheduler, red, 3};

  Result<LabelledPool> read(std::vector<ports::Disk*> disks) {
    std::optional<Result<LabelledPool>> result;
    read_pool_disks(disks, TestShelf::cluster, red,
                    [&](Result<LabelledPool> r) { result = std::move(r); });
    EXPECT_FALSE(result) << "answered from inside the call";
    EXPECT_TRUE(scheduler.run_until([&] { return result.has_value(); }));
    return *result;
  }
  // The change makes the label of disk `i` wrong: the message names the disk and says `what`.
  template <class Change>
  void expect_bad(std::size_t i, Change change, const std::string& what) {
    auto before = shelf.labels[i];
    change(shelf.labels[i]);
    shelf.write_label(i);
    auto pool = read(shelf.disks());
    ASSERT_FALSE(pool) << what;
    EXPECT_EQ(pool.error().code, ErrorCode::invalid);
    const auto& message = pool.error().message;
    EXPECT_NE(message.find("disk shelf1/" + std::to_string(i)), std::string::npos) << message;
    EXPECT_NE(message.find(what), std::string::npos) << message;
    shelf.labels[i] = before;
    shelf.write_label(i);
  }
};

TEST(PoolDisks, AreInTheOrderOfTheirPositions) {
  Bench b;
  auto disks = b.shelf.disks();
  std::ranges::reverse(disks);
  auto pool = b.read(disks);
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_EQ(pool->pool, b.shelf.labels[0].pool);
  ASSERT_EQ(pool->disks.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pool->disks[i].disk, b.shelf.engine[i].get());
    EXPECT_EQ(pool->disks[i].id, b.shelf.labels[i].id);
    EXPECT_EQ(pool->disks[i].data.offset, disk::data_offset);
    EXPECT_EQ(pool->disks[i].data.end(), TestShelf::disk_size);
  }
}

TEST(PoolDisks, LabelsThatDoNotFitAreNamed) {
  Bench b;
  b.expect_bad(0, [](disk::Label& l) { l.cluster = ClusterId(9); }, "another cluster");
  b.expect_bad(1, [](disk::Label& l) { l.owner = blue; }, "belongs to node 2");
  b.expect_bad(2, [](disk::Label& l) { l.pool[5] = 1; }, "another pool");
  b.expect_bad(1, [](disk::Label& l) { l.position = 0; }, "is number 1 of 3");
  b.expect_bad(2, [](disk::Label& l) { l.disks_in_pool = 4; }, "is number 3 of 4");
  b.expect_bad(0, [](disk::Label& l) { l.size *= 2; }, "smaller than its label says");
  EXPECT_TRUE(b.read(b.shelf.disks()));
}

TEST(PoolDisks, AMissingDiskIsNoticed) {
  Bench b;
  auto disks = b.shelf.disks();
  disks.erase(disks.begin());
  auto pool = b.read(disks);
  ASSERT_FALSE(pool);
  EXPECT_NE(pool.error().message.find("2 data disks are configured"), std::string::npos);
  disks = b.shelf.disks();
  disks.pop_back();
  EXPECT_FALSE(b.read(disks));
}

TEST(PoolDisks, SparesAreNotPartOfThePool) {
  Bench b;
  simulation::FakeMedium::Options options;
  options.name = "shelf1/spare";
  simulation::FakeMedium medium(b.scheduler, options);
  auto spare = b.shelf.labels[0];
  spare.role = disk::Role::spare;
  spare.position = spare.disks_in_pool = 0;
  auto block = disk::encode_label(spare);
  ASSERT_TRUE(block) << block.error().message;
  for (int copy : {0, 1}) medium.poke(disk::label_copy(copy).offset, *block);
  auto path = medium.connect();
  auto disks = b.shelf.disks();
  disks.insert(disks.begin(), path.get());
  auto pool = b.read(disks);
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_EQ(pool->disks.size(), 3u);
  auto none = b.read({path.get()});
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("no data disks"), std::string::npos);
}

TEST(PoolDisks, OneGoodCopyOfALabelIsEnough) {
  Bench b;
  std::vector<std::byte> rubbish(4096, std::byte{0x5a});
  b.shelf.media[0]->poke(disk::label_copy(0).offset, rubbish);
  EXPECT_TRUE(b.read(b.shelf.disks()));
  b.shelf.media[0]->poke(disk::label_copy(1).offset, rubbish);
  auto pool = b.read(b.shelf.disks());
  ASSERT_FALSE(pool);
  EXPECT_NE(pool.error().message.find("shelf1/0"), std::string::npos);
  EXPECT_NE(pool.error().message.find("duet init"), std::string::npos) << "the cure";
}

TEST(PoolDisks, ADiskThatCannotBeReadIsNamed) {
  Bench b;
  b.shelf.media[1]->fault = [](auto, auto, auto) {
    return std::optional<ErrorCode>(ErrorCode::io_error);
  };
  auto pool = b.read(b.shelf.disks());
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code, ErrorCode::io_error);
  EXPECT_NE(pool.error().message.find("disk shelf1/1"), std::string::npos);
}

}  // namespace
}  // namespace duet::node
