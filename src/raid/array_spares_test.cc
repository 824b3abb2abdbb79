// Spares, and the claims without which no new disk is used.
#include "base/coverage_expect.h"
#include "raid/array_fixture.h"

namespace duet::raid {
namespace {

constexpr std::uint32_t data = 3;
constexpr std::uint32_t members = data + 1;

// The test is the owner that is asked.
struct ClaimingPool : Pool {
  explicit ClaimingPool(std::uint32_t spares) : Pool(data, Protection::single, 40, spares) {
    automatic_spares = true;
    claim = [this](const Array::Disk& disk, ports::Done<void> done) {
      asked.push_back({disk.id, std::move(done)});
    };
    spare_missed = [this](DiskId id) { missed.push_back(id); };
    create();
    ASSERT(write({at(0, 1), at(1, 1), at(2, 1), at(0, 2)}).has_value());
    ASSERT(commit().has_value());
  }
  DiskId spare(std::uint32_t n) const {
    return disk_id(static_cast<std::uint8_t>(members + n + 1));
  }
  MemberState state(std::uint32_t member) const { return array->layout().members[member].state; }
  DiskId disk_of(std::uint32_t member) const { return array->layout().members[member].disk; }
  void answer(std::size_t n, Status status = {}) {
    asked.at(n).done(std::move(status));
    scheduler.run_for(milliseconds(1));
  }
  std::vector<DiskId> free() const {
    std::vector<DiskId> ids;
    for (const auto& disk : array->free_spares()) ids.push_back(disk.id);
    return ids;
  }
  void rebuilt() {
    scheduler.run_for(seconds(1));
    EXPECT_FALSE(array->rebuild_progress().running);
    ASSERT_TRUE(commit());
    ASSERT_TRUE(check_all());
  }
  struct Asked {
    DiskId id;
    ports::Done<void> done;
  };
  std::vector<Asked> asked;
  std::vector<DiskId> missed;
};

TEST(ArraySpares, NoneIsTouchedBeforeItIsClaimed) {
  ClaimingPool pool(1);
  EXPECT_EQ(pool.free(), std::vector{pool.spare(0)});
  const auto before = pool.media[members]->peek(0, 1 << 20);
  ASSERT_TRUE(pool.array->fail_member(1));
  ASSERT_EQ(pool.asked.size(), 1u);
  EXPECT_EQ(pool.asked[0].id, pool.spare(0));
  EXPECT_TRUE(pool.free().empty());
  // Degraded service goes on.
  ASSERT_TRUE(pool.write({pool.at(0, 5), pool.at(1, 5)}));
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.check_all());
  EXPECT_EQ(pool.state(1), MemberState::failed);
  EXPECT_EQ(pool.media[members]->peek(0, 1 << 20), before);
  pool.answer(0);
  EXPECT_EQ(pool.disk_of(1), pool.spare(0));
  pool.rebuilt();
  EXPECT_EQ(pool.state(1), MemberState::in_sync);
  EXPECT_EQ(pool.asked.size(), 1u);
}

TEST(ArraySpares, OneThatIsRefusedRestsWhileAnotherIsAsked) {
  EXPECT_MARK(spare_claim_refused);
  ClaimingPool pool(2);
  ASSERT_TRUE(pool.array->fail_member(0));
  pool.answer(0, fail(ErrorCode::refused, "not now"));
  ASSERT_EQ(pool.asked.size(), 2u);
  EXPECT_EQ(pool.asked[1].id, pool.spare(1));
  EXPECT_EQ(pool.free(), std::vector{pool.spare(0)});
  pool.answer(1, fail(ErrorCode::refused, "not now"));
  EXPECT_EQ(pool.asked.size(), 2u);
  pool.scheduler.run_for(2 * Array::spare_retry_delay);
  ASSERT_EQ(pool.asked.size(), 3u);
  pool.answer(2);
  EXPECT_EQ(pool.disk_of(0), pool.spare(0));
  pool.rebuilt();
}

TEST(ArraySpares, AClaimThatIsNotAnsweredIsGivenUp) {
  EXPECT_MARK(claim_answered_late);
  ClaimingPool pool(1);
  ASSERT_TRUE(pool.array->fail_member(0));
  pool.scheduler.run_for(Array::claim_patience);
  EXPECT_EQ(pool.free(), std::vector{pool.spare(0)});
  pool.answer(0);
  EXPECT_EQ(pool.state(0), MemberState::failed) << "the owner may have forgotten it";
  pool.scheduler.run_for(2 * Array::spare_retry_delay);
  ASSERT_EQ(pool.asked.size(), 2u);
  pool.answer(1);
  EXPECT_EQ(pool.disk_of(0), pool.spare(0));
}

TEST(ArraySpares, OneForEachMember) {
  ClaimingPool pool(2);
  ASSERT_TRUE(pool.array->fail_member(0));
  EXPECT_FALSE(pool.array->fail_member(1)) << "the group would be lost";
  ASSERT_EQ(pool.asked.size(), 1u);
  EXPECT_EQ(pool.free(), std::vector{pool.spare(1)});
  pool.answer(0);
  pool.rebuilt();
  ASSERT_TRUE(pool.array->fail_member(1));
  ASSERT_EQ(pool.asked.size(), 2u);
  EXPECT_EQ(pool.asked[1].id, pool.spare(1));
}

TEST(ArraySpares, OneThatIsNotWantedAnyMoreIsFreeAgain) {
  EXPECT_MARK(spare_claimed_in_vain);
  ClaimingPool pool(1);
  const DiskId own = pool.disk_of(0);
  ASSERT_TRUE(pool.array->fail_member(0));
  ASSERT_TRUE(pool.array->replace_member(0, own)) << "its own disk needs no claim";
  pool.answer(0);
  EXPECT_EQ(pool.disk_of(0), own);
  EXPECT_EQ(pool.free(), std::vector{pool.spare(0)});
  pool.rebuilt();
}

TEST(ArraySpares, OneThatIsNotAtHandIsNamedUntilItIs) {
  EXPECT_MARK(spare_is_missed);
  ClaimingPool pool(2);
  pool.absent = {members, members + 1};
  ASSERT_TRUE(pool.reopen());
  EXPECT_TRUE(pool.missed.empty());
  EXPECT_TRUE(pool.free().empty());
  ASSERT_TRUE(pool.array->fail_member(2));
  EXPECT_EQ(pool.missed, std::vector{pool.spare(0)});
  pool.scheduler.run_for(Array::spare_retry_delay + milliseconds(1));
  EXPECT_EQ(pool.missed, (std::vector{pool.spare(0), pool.spare(1)})) << "in turn";
  EXPECT_TRUE(pool.asked.empty());
  pool.array->disk_returned(pool.disk(members));
  ASSERT_EQ(pool.asked.size(), 1u);
  pool.answer(0);
  EXPECT_EQ(pool.disk_of(2), pool.spare(0));
  pool.rebuilt();
  const auto named = pool.missed.size();
  pool.scheduler.run_for(seconds(10));
  EXPECT_EQ(pool.missed.size(), named);
}

// The node died, or gave the pool away, between the failure and the answer.
TEST(ArraySpares, WhoeverServesNextTakesIt) {
  ClaimingPool pool(1);
  ASSERT_TRUE(pool.array->fail_member(1));
  ASSERT_TRUE(pool.commit());
  auto pending = std::move(pool.asked);
  pool.asked.clear();
  ASSERT_TRUE(pool.reopen());
  ASSERT_EQ(pool.asked.size(), 1u);
  pending[0].done({});
  EXPECT_EQ(pool.state(1), MemberState::failed) << "that was another array";
  pool.answer(0);
  EXPECT_EQ(pool.disk_of(1), pool.spare(0));
  pool.rebuilt();
}

TEST(ArraySpares, NotAskedForWhereTheyMayNotBeTaken) {
  ClaimingPool pool(1);
  pool.array->set_automatic_spares(false);
  ASSERT_TRUE(pool.array->fail_member(1));
  pool.scheduler.run_for(seconds(5));
  EXPECT_TRUE(pool.asked.empty());
  pool.array->set_automatic_spares(true);
  EXPECT_EQ(pool.asked.size(), 1u);
}

// ---- orders ----

Status claim(ClaimingPool& pool, std::size_t disk) {
  return pool.wait([&](ports::Done<void> done) {
    pool.array->claim(pool.disk(disk), std::move(done));
    if (!pool.asked.empty() && pool.asked.back().done) {
      pool.scheduler.post([&pool] { pool.asked.back().done({}); });
    }
  });
}

TEST(ArraySpares, OrdersClaimFirst) {
  ClaimingPool pool(1);
  const auto fresh = pool.add_medium();
  EXPECT_EQ(
      pool.array->add_group(Protection::none, {pool.disk(fresh)}, reserved_blocks + 8).error().code,
      ErrorCode::busy);
  const auto join = [&](std::size_t disk) {
    return pool.wait([&](ports::Done<void> done) {
      pool.array->add_member(0, pool.disk(disk),
                             [done = std::move(done)](Result<std::uint32_t> r) mutable {
                               done(r ? Result<void>() : std::unexpected(r.error()));
                             });
    });
  };
  EXPECT_EQ(join(members).error().code, ErrorCode::busy);
  ASSERT_TRUE(claim(pool, members));
  EXPECT_TRUE(pool.free().empty());
  EXPECT_EQ(claim(pool, members).error().code, ErrorCode::busy);
  // A member that fails meanwhile gets it only when the order is done with it.
  pool.asked.clear();
  ASSERT_TRUE(pool.array->fail_member(0));
  EXPECT_TRUE(pool.asked.empty());
  pool.array->drop_claim(pool.spare(0));
  ASSERT_EQ(pool.asked.size(), 1u);
  pool.answer(0);
  pool.rebuilt();
  ASSERT_TRUE(claim(pool, fresh));
  ASSERT_TRUE(join(fresh));
  EXPECT_EQ(pool.array->layout().members.size(), members + 1);
}

TEST(ArraySpares, AnOrderMayNameTheSpare) {
  ClaimingPool pool(2);
  pool.array->set_automatic_spares(false);
  ASSERT_TRUE(pool.array->fail_member(0));
  EXPECT_EQ(pool.array->replace_member(0, pool.spare(1)).error().code, ErrorCode::busy);
  ASSERT_TRUE(claim(pool, members + 1));
  ASSERT_TRUE(pool.array->replace_member(0, pool.spare(1)));
  EXPECT_EQ(pool.free(), std::vector{pool.spare(0)});
  pool.rebuilt();
}

TEST(ArraySpares, CloseEndsAClaim) {
  ClaimingPool pool(1);
  std::optional<Status> ended;
  pool.array->claim(pool.disk(members), [&](Result<void> r) { ended = std::move(r); });
  pool.array->close();
  pool.scheduler.run_for(milliseconds(1));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->error().code, ErrorCode::cancelled);
  pool.answer(0);
}

}  // namespace
}  // namespace duet::raid
