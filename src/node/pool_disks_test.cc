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

TEST(PoolDisks, AreThoseOfThePool) {
  Bench b;
  auto pool = b.read(b.shelf.disks());
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_EQ(pool->pool, b.shelf.labels[0].pool);
  EXPECT_TRUE(pool->missing.empty());
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
  b.expect_bad(0, [](disk::Label& l) { l.size *= 2; }, "smaller than its label says");
  EXPECT_TRUE(b.read(b.shelf.disks()));
}

TEST(PoolDisks, SparesComeAlongAndCoredumpDisksDoNot) {
  Bench b;
  simulation::FakeMedium::Options options;
  options.name = "shelf1/spare";
  simulation::FakeMedium medium(b.scheduler, options);
  auto path = medium.connect();
  for (auto role : {disk::Role::spare, disk::Role::coredump}) {
    auto label = b.shelf.labels[0];
    label.role = role;
    label.position = label.disks_in_pool = 0;
    auto block = disk::encode_label(label);
    ASSERT_TRUE(block) << block.error().message;
    for (int copy : {0, 1}) medium.poke(disk::label_copy(copy).offset, *block);
    auto disks = b.shelf.disks();
    disks.insert(disks.begin(), path.get());
    auto pool = b.read(disks);
    ASSERT_TRUE(pool) << pool.error().message;
    EXPECT_EQ(pool->disks.size(), role == disk::Role::spare ? 4u : 3u);
    auto none = b.read({path.get()});
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("no data disks"), std::string::npos);
  }
}

TEST(PoolDisks, ASpareMayReturnAlone) {
  Bench b;
  b.shelf.labels[1].role = disk::Role::spare;
  b.shelf.labels[1].mailbox = false;
  b.shelf.labels[1].position = b.shelf.labels[1].disks_in_pool = 0;
  b.shelf.write_label(1);
  EXPECT_FALSE(b.read({b.shelf.disks()[1]})) << "no pool";
  std::optional<Result<LabelledPool>> found;
  read_returned_disk(*b.shelf.disks()[1], TestShelf::cluster, red,
                     [&](Result<LabelledPool> r) { found = std::move(r); });
  ASSERT_TRUE(b.scheduler.run_until([&] { return found.has_value(); }));
  ASSERT_TRUE(*found);
  ASSERT_EQ((*found)->disks.size(), 1u);
  EXPECT_EQ((*found)->disks[0].id, b.shelf.labels[1].id);
}

TEST(PoolDisks, OneGoodCopyOfALabelIsEnoughAndWithoutTheDiskIsMissing) {
  Bench b;
  std::vector<std::byte> rubbish(4096, std::byte{0x5a});
  b.shelf.media[0]->poke(disk::label_copy(0).offset, rubbish);
  EXPECT_EQ(b.read(b.shelf.disks())->disks.size(), 3u);
  b.shelf.media[0]->poke(disk::label_copy(1).offset, rubbish);
  auto pool = b.read(b.shelf.disks());
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_EQ(pool->disks.size(), 2u);
  ASSERT_EQ(pool->missing.size(), 1u);
  EXPECT_NE(pool->missing[0].find("shelf1/0"), std::string::npos);
  EXPECT_NE(pool->missing[0].find("duet init"), std::string::npos) << "the cure";
}

TEST(PoolDisks, ADiskThatCannotBeReadIsMissingAndAConflictIsNot) {
  Bench b;
  ErrorCode error = ErrorCode::io_error;
  for (std::size_t i = 0; i < 3; ++i) {
    b.shelf.media[i]->fault = [&error](auto, auto, auto) { return std::optional(error); };
    auto pool = b.read(b.shelf.disks());
    if (i == 2) {  // the last one
      ASSERT_FALSE(pool);
      EXPECT_EQ(pool.error().code, ErrorCode::io_error);
      EXPECT_NE(pool.error().message.find("disk shelf1/0"), std::string::npos);
    } else {
      ASSERT_TRUE(pool) << pool.error().message;
      EXPECT_EQ(pool->missing.size(), i + 1);
    }
  }
  error = ErrorCode::reservation_conflict;
  b.shelf.media[1]->fault = b.shelf.media[2]->fault = nullptr;
  EXPECT_EQ(b.read(b.shelf.disks()).error().code, ErrorCode::reservation_conflict);
}

}  // namespace
}  // namespace duet::node
