// The write hole: power fails at every disk write of consistency points of whole and partial
// stripes, and disks are lost with it; recover() then, and every block that the superblock refers
// to must read right.
#include "raid/array_fixture.h"

namespace duet::raid {
namespace {

struct Case {
  std::uint32_t data;
  Protection protection;
  Nvram nvram;
  std::set<std::size_t> lost;    // with the power
  std::set<std::size_t> failed;  // before
};

// Stripes 0..9 partly or wholly live, then a consistency point beside them.
void prepare(Pool& pool, const Case& c) {
  pool.nvram = c.nvram;
  pool.create();
  std::vector<BlockAddress> first;
  for (std::uint64_t row = 0; row < 10; ++row) {
    for (std::uint32_t member = 0; member < c.data; ++member) {
      const bool hole = row % 2 == 0 && (member == row % c.data || member == (row / 2) % c.data);
      if (!hole) first.push_back(pool.at(member, row));
    }
  }
  ASSERT(pool.write(first).has_value());
  ASSERT(pool.commit().has_value());
  for (const std::size_t number : c.failed) {
    ASSERT(pool.array->fail_member(static_cast<std::uint32_t>(number)).has_value());
    ASSERT(pool.commit().has_value());
  }
}

// The holes, in two calls so that stripes are written twice; whole stripes beside them.
Status consistency_point(Pool& pool, const Case& c) {
  std::vector<BlockAddress> now;
  std::vector<BlockAddress> later;
  for (std::uint64_t row = 0; row < 10; row += 2) {
    for (const std::uint64_t member : {row % c.data, (row / 2) % c.data}) {
      const auto address = pool.at(static_cast<std::uint32_t>(member), row);
      auto& list = member == row % c.data ? now : later;
      if (list.empty() || list.back() != address) list.push_back(address);
    }
  }
  std::erase_if(later, [&](BlockAddress a) { return std::ranges::find(now, a) != now.end(); });
  for (std::uint32_t member = 0; member < c.data; ++member) {
    for (std::uint64_t row = 10; row < 12; ++row) now.push_back(pool.at(member, row));
  }
  if (auto status = pool.write(now); !status) return status;
  if (auto status = pool.write(later); !status) return status;
  return pool.commit();
}

// One run; `operation`: where the power fails. False: it did not, the point was complete.
bool run(const Case& c, std::uint64_t operation, int& wrong) {
  Pool pool(c.data, c.protection, 16, 0, operation);
  prepare(pool, c);
  pool.power.cut_at(operation);
  const Status status = consistency_point(pool, c);
  if (pool.power.on()) return false;
  EXPECT_FALSE(status);
  pool.power.restore();
  pool.absent = c.lost;
  // Recovery is interrupted, too, and begins again.
  pool.boot();
  pool.power.cut_at(1 + operation % 7);
  const Status interrupted = pool.recover();
  if (!pool.power.on()) {
    EXPECT_FALSE(interrupted);
    pool.power.restore();
    pool.boot();
  }
  EXPECT_TRUE(pool.power.on());
  pool.power.cut_at(0);
  if (!pool.recover() || !pool.check_all()) {
    ++wrong;
    return true;
  }
  // What was interrupted is done again, and the pool goes on.
  const bool complete = pool.committed.contains(pool.at(0, 10));
  if (!complete) EXPECT_TRUE(consistency_point(pool, c));
  EXPECT_TRUE(pool.check_all());
  EXPECT_TRUE(pool.reopen());
  EXPECT_TRUE(pool.check_all());
  return true;
}

int run_all_points(const Case& c) {
  int wrong = 0;
  std::uint64_t operation = 1;
  while (run(c, operation, wrong)) ++operation;
  EXPECT_GT(operation, 10u);
  return wrong;
}

TEST(ArrayCrash, WithoutAnyDiskLost) {
  for (const Nvram nvram : {Nvram::absent, Nvram::takes}) {
    EXPECT_EQ(run_all_points({3, Protection::single, nvram, {}, {}}), 0);
    EXPECT_EQ(run_all_points({3, Protection::dual, nvram, {}, {}}), 0);
  }
}

TEST(ArrayCrash, WithOneDiskOfSingleParityLost) {
  for (const Nvram nvram : {Nvram::absent, Nvram::takes, Nvram::refuses}) {
    for (std::size_t lost = 0; lost < 4; ++lost) {
      EXPECT_EQ(run_all_points({3, Protection::single, nvram, {lost}, {}}), 0) << lost;
    }
  }
}

TEST(ArrayCrash, WithOneMemberFailedBefore) {
  for (const Nvram nvram : {Nvram::absent, Nvram::takes}) {
    for (std::size_t failed = 0; failed < 4; ++failed) {
      EXPECT_EQ(run_all_points({3, Protection::single, nvram, {}, {failed}}), 0) << failed;
    }
  }
}

TEST(ArrayCrash, WithTwoDisksOfDualParityLost) {
  for (std::size_t first = 0; first < 5; ++first) {
    for (std::size_t second = first + 1; second < 5; ++second) {
      const Nvram nvram = (first + second) % 2 == 0 ? Nvram::absent : Nvram::takes;
      EXPECT_EQ(run_all_points({3, Protection::dual, nvram, {first, second}, {}}), 0)
          << first << " and " << second;
    }
  }
}

TEST(ArrayCrash, WithOneMemberOfDualParityFailedAndOneLost) {
  for (std::size_t failed = 0; failed < 5; ++failed) {
    const std::size_t lost = (failed + 2) % 5;
    EXPECT_EQ(run_all_points({3, Protection::dual, Nvram::absent, {lost}, {failed}}), 0)
        << failed << " and " << lost;
  }
}

// The proof that these tests see the hole: without the journal, blocks are lost.
TEST(ArrayCrash, WithoutTheJournalBlocksAreLost) {
  int wrong = 0;
  for (std::size_t lost = 0; lost < 3; ++lost) {
    wrong += run_all_points({3, Protection::single, Nvram::loses, {lost}, {}});
  }
  EXPECT_GT(wrong, 0);
}

}  // namespace
}  // namespace duet::raid
