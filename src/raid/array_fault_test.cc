// Faults of disks: damage, slowness, absence, replacement; and the end of an array in its middle.
#include <set>

#include "raid/array_fixture.h"

namespace duet::raid {
namespace {

constexpr std::uint32_t data = 3;

std::vector<BlockAddress> some_rows(const Pool& pool, std::uint64_t from, std::uint64_t to) {
  std::vector<BlockAddress> addresses;
  for (std::uint32_t member = 0; member < data; ++member) {
    for (std::uint64_t row = from; row < to; ++row) addresses.push_back(pool.at(member, row));
  }
  return addresses;
}

void fill(Pool& pool, std::uint64_t row_count = 8) {
  pool.create();
  ASSERT(pool.write(some_rows(pool, 0, row_count)).has_value());
  ASSERT(pool.commit().has_value());
}

std::uint64_t repaired(const Pool& pool) {
  std::uint64_t sum = 0;
  for (const MemberReport& report : pool.array->report()) sum += report.repaired_blocks;
  return sum;
}

TEST(ArrayFault, DamageOfAnyOneBlockIsNeverReturnedAndRepaired) {
  for (const Protection protection : {Protection::single, Protection::dual}) {
    Pool pool(data, protection);
    fill(pool);
    for (std::uint32_t member = 0; member < data + parity_count(protection); ++member) {
      const auto before = pool.peek(member, 3);
      pool.damage(member, 3);
      ASSERT_NE(pool.peek(member, 3), before);
      ASSERT_TRUE(pool.check_all());
      if (member >= data) {
        // Parity is not read when nothing else is wrong: scrub finds it.
        std::uint64_t mismatches = 0;
        ASSERT_TRUE(pool.wait([&](ports::Done<void> done) {
          pool.array->scrub(
              0, [&mismatches, done = std::move(done)](Result<std::uint64_t> result) mutable {
                mismatches = result.value_or(0);
                done({});
              });
        }));
        EXPECT_EQ(mismatches, 1u);
      }
      pool.scheduler.run_for(seconds(1));
      EXPECT_EQ(pool.peek(member, 3), before) << member;
    }
    EXPECT_EQ(repaired(pool), data + parity_count(protection));
  }
}

TEST(ArrayFault, DualParityBearsDamageOfAnyTwoBlocks) {
  for (std::uint32_t first = 0; first < data + 2; ++first) {
    for (std::uint32_t second = first + 1; second < data + 2; ++second) {
      Pool pool(data, Protection::dual);
      fill(pool, 2);
      pool.damage(first, 1);
      pool.damage(second, 1);
      ASSERT_TRUE(pool.check_all()) << first << " " << second;
    }
  }
}

TEST(ArrayFault, DamageBeyondTheRedundancyIsAnErrorAndNoData) {
  Pool pool(data, Protection::single);
  fill(pool);
  pool.damage(0, 3);
  pool.damage(1, 3);
  auto status = pool.check_all();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::io_error);
  EXPECT_NE(status.error().message.find("block 259 of member"), std::string::npos);
  ASSERT_TRUE(pool.check({pool.at(2, 3), pool.at(0, 4)}));
}

TEST(ArrayFault, DamageWithAMemberMissing) {
  Pool pool(data, Protection::dual);
  fill(pool);
  ASSERT_TRUE(pool.array->fail_member(1));
  pool.damage(0, 2);
  ASSERT_TRUE(pool.check_all());
  pool.scheduler.run_for(seconds(1));
  EXPECT_EQ(repaired(pool), 1u);
}

TEST(ArrayFault, SectorsThatCannotBeReadAreWrittenAgain) {
  Pool pool(data, Protection::single);
  fill(pool);
  std::set<std::uint64_t> bad{Pool::data_offset + (reserved_blocks + 4) * block_size};
  pool.media[1]->fault = [&](simulation::DiskOperation operation, std::uint64_t offset,
                             std::uint64_t size) -> std::optional<ErrorCode> {
    for (auto it = bad.begin(); it != bad.end(); ++it) {
      if (*it < offset || *it >= offset + size) continue;
      if (operation == simulation::DiskOperation::read) return ErrorCode::io_error;
      bad.erase(it);
      break;
    }
    return {};
  };
  ASSERT_TRUE(pool.check_all());
  pool.scheduler.run_for(seconds(1));
  EXPECT_TRUE(bad.empty());
  EXPECT_EQ(pool.array->report()[1].read_errors, 1u);
  EXPECT_EQ(pool.array->report()[1].repaired_blocks, 1u);
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::in_sync);
}

TEST(ArrayFault, AMemberThatTakesNoWriteIsFailedAfterPatience) {
  Pool pool(data, Protection::single);
  fill(pool);
  pool.media[0]->fault = [](simulation::DiskOperation operation, std::uint64_t, std::uint64_t) {
    return operation == simulation::DiskOperation::write ? std::optional(ErrorCode::io_error)
                                                         : std::nullopt;
  };
  const Instant begin = pool.scheduler.now();
  ASSERT_TRUE(pool.write(some_rows(pool, 10, 12)));
  EXPECT_GE(pool.scheduler.now() - begin, pool.patience);
  EXPECT_EQ(pool.array->layout().members[0].state, MemberState::failed);
  EXPECT_EQ(pool.layout_changes, 1);
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.check_all());
  pool.media[0]->fault = {};
  ASSERT_TRUE(pool.reopen());
  EXPECT_EQ(pool.array->layout().members[0].state, MemberState::failed);
  ASSERT_TRUE(pool.check_all());
}

TEST(ArrayFault, AMemberThatIsAwayForAMomentStays) {
  Pool pool(data, Protection::single);
  fill(pool);
  pool.paths[0]->disconnect();
  pool.scheduler.at(pool.scheduler.now() + milliseconds(500), [&] { pool.paths[0]->reconnect(); });
  ASSERT_TRUE(pool.write(some_rows(pool, 10, 12)));
  EXPECT_EQ(pool.array->layout().members[0].state, MemberState::in_sync);
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.check_all());
}

TEST(ArrayFault, WhenAllAreAwayNobodyIsFailedAndTheSameWriteSucceedsLater) {
  Pool pool(data, Protection::single);
  fill(pool);
  const std::vector<BlockAddress> blocks{pool.at(0, 10), pool.at(1, 11), pool.at(0, 12)};
  ASSERT_TRUE(pool.write({pool.at(1, 10), pool.at(2, 12)}));
  for (auto& path : pool.paths) path->disconnect();
  EXPECT_EQ(pool.write(blocks).error().code, ErrorCode::disconnected);
  EXPECT_EQ(pool.check_all().error().code, ErrorCode::disconnected);
  for (auto& path : pool.paths) path->reconnect();
  ASSERT_TRUE(pool.write_again(blocks));
  ASSERT_TRUE(pool.commit());
  for (const Member& member : pool.array->layout().members) {
    EXPECT_EQ(member.state, MemberState::in_sync);
  }
  // The parity is right, too.
  ASSERT_TRUE(pool.array->fail_member(1));
  ASSERT_TRUE(pool.check_all());
}

// A write that fails half-way leaves parity wrong; whatever comes next must not trust it.
TEST(ArrayFault, ATornStripeIsMendedByARetryOrByTheFlush) {
  for (const bool retry : {true, false}) {
    for (std::uint32_t lost = 0; lost < data; ++lost) {
      Pool pool(data, Protection::single);
      fill(pool, 1);
      ASSERT_TRUE(pool.write({pool.at(0, 10), pool.at(1, 10)}));
      ASSERT_TRUE(pool.commit());
      // The new block gets there, its parity does not, and member 0 cannot be spared.
      const auto refuse = [](simulation::DiskOperation operation, std::uint64_t offset,
                             std::uint64_t) {
        const bool hit = operation == simulation::DiskOperation::write &&
                         offset >= Pool::data_offset + reserved_blocks * block_size;
        return hit ? std::optional(ErrorCode::io_error) : std::nullopt;
      };
      pool.media[data]->fault = refuse;
      pool.paths[0]->disconnect();
      const std::vector<BlockAddress> blocks{pool.at(2, 10)};
      auto status = pool.write(blocks);
      ASSERT_FALSE(status);
      pool.paths[0]->reconnect();
      pool.media[data]->fault = {};
      if (retry) {
        ASSERT_TRUE(pool.write_again(blocks));
      } else {
        pool.pending.clear();
      }
      ASSERT_TRUE(pool.commit());
      ASSERT_TRUE(pool.array->fail_member(lost));
      ASSERT_TRUE(pool.check_all()) << lost;
    }
  }
}

TEST(ArrayFault, ASlowDiskIsAnsweredForByTheOthers) {
  Pool pool(data, Protection::single);
  fill(pool);
  pool.media[1]->latency = [](simulation::DiskOperation operation, std::uint64_t, std::uint64_t) {
    return operation == simulation::DiskOperation::read ? std::optional<Duration>(seconds(10))
                                                        : std::nullopt;
  };
  const Instant begin = pool.scheduler.now();
  ASSERT_TRUE(pool.check_all());
  EXPECT_LT(pool.scheduler.now() - begin, milliseconds(200));
  EXPECT_TRUE(pool.array->report()[1].slow);
  EXPECT_EQ(pool.array->report()[1].read_errors, 0u);
  pool.media[1]->latency = {};
  pool.scheduler.run_for(seconds(20));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pool.check_all());
  EXPECT_FALSE(pool.array->report()[1].slow);
}

TEST(ArrayFault, AReservationEndsEverything) {
  Pool pool(data, Protection::single);
  fill(pool);
  auto other = pool.media[0]->connect();
  other->register_key(ReservationKey(1), [](Result<void>) {});
  other->reserve(ReservationKey(1), ports::ReservationType::exclusive_access, [](Result<void>) {});
  EXPECT_EQ(pool.write(some_rows(pool, 10, 12)).error().code, ErrorCode::reservation_conflict);
  EXPECT_TRUE(pool.fenced);
  const auto written = pool.power.operations();
  EXPECT_EQ(pool.write(some_rows(pool, 13, 14)).error().code, ErrorCode::reservation_conflict);
  EXPECT_EQ(pool.flush().error().code, ErrorCode::reservation_conflict);
  EXPECT_EQ(pool.check_all().error().code, ErrorCode::reservation_conflict);
  EXPECT_EQ(pool.power.operations(), written);
  EXPECT_EQ(pool.array->layout().members[0].state, MemberState::in_sync);
}

TEST(ArrayFault, AbsentDisksAreGoneAroundAndFailedByTheFirstWriteTheyMiss) {
  Pool pool(data, Protection::single);
  fill(pool);
  pool.absent = {1};
  pool.skips_generation = false;
  ASSERT_TRUE(pool.reopen());
  ASSERT_TRUE(pool.check_all());
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::in_sync);
  ASSERT_TRUE(pool.write(some_rows(pool, 10, 11)));
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::failed);
  ASSERT_TRUE(pool.commit());
  // It comes back: not trusted, until it has taken its place again from the beginning.
  pool.absent = {};
  ASSERT_TRUE(pool.reopen());
  pool.array->disk_returned(pool.disk(1));
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::failed);
  ASSERT_TRUE(pool.check_all());
  ASSERT_TRUE(pool.array->replace_member(1, disk_id(2)));
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::rebuilding);
  pool.scheduler.run_all();
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::in_sync);
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.array->fail_member(0));
  ASSERT_TRUE(pool.check_all());
}

// The superblock does not yet say that a member has failed when power fails: its journal does.
TEST(ArrayFault, AStaleDiskIsNotTrustedThoughTheSuperblockStillNamesIt) {
  for (const Nvram nvram : {Nvram::absent, Nvram::takes}) {
    Pool pool(data, Protection::single);
    pool.nvram = nvram;
    fill(pool);
    ASSERT_TRUE(pool.write({pool.at(0, 10), pool.at(1, 10)}));
    ASSERT_TRUE(pool.commit());
    pool.paths[0]->disconnect();
    ASSERT_TRUE(pool.write({pool.at(2, 10), pool.at(2, 11), pool.at(0, 11)}));
    EXPECT_EQ(pool.array->layout().members[0].state, MemberState::failed);
    pool.paths[0]->reconnect();
    pool.power.cut();
    pool.power.restore();
    ASSERT_TRUE(pool.reopen());
    EXPECT_EQ(pool.array->layout().members[0].state, MemberState::failed);
    ASSERT_TRUE(pool.check_all());
  }
}

TEST(ArrayFault, ASpareTakesThePlaceUnderWrites) {
  for (const Protection protection : {Protection::single, Protection::dual}) {
    for (std::uint32_t lost = 0; lost < data + parity_count(protection); ++lost) {
      Pool pool(data, protection, 300, 1);
      pool.automatic_spares = true;
      fill(pool, 200);
      ASSERT_TRUE(pool.array->fail_member(lost));
      EXPECT_EQ(pool.array->layout().members[lost].state, MemberState::rebuilding);
      EXPECT_TRUE(pool.array->layout().spares.empty());
      std::uint64_t row = 200;
      while (pool.array->rebuild_progress().running && row < 290) {
        ASSERT_TRUE(pool.write({pool.at(row % data, row), pool.at((row + 1) % data, row)}));
        ASSERT_TRUE(pool.write({pool.at((row + 2) % data, row)}));
        ++row;
      }
      pool.scheduler.run_all();
      EXPECT_FALSE(pool.array->rebuild_progress().running);
      ASSERT_TRUE(pool.commit());
      EXPECT_EQ(pool.array->layout().members[lost].disk,
                disk_id(static_cast<std::uint8_t>(data + parity_count(protection) + 1)));
      for (std::uint32_t other = 0; other < data; ++other) {
        if (other == lost) continue;
        ASSERT_TRUE(pool.array->fail_member(other));
        break;
      }
      ASSERT_TRUE(pool.check_all()) << lost;
    }
  }
}

TEST(ArrayFault, ARebuildGoesOnAfterReopening) {
  Pool pool(data, Protection::single, 400, 1);
  fill(pool, 400);
  ASSERT_TRUE(pool.array->fail_member(1));
  ASSERT_TRUE(pool.commit());
  // Slow enough that progress is made known on the way.
  pool.media[data + 1]->latency = [](simulation::DiskOperation, std::uint64_t, std::uint64_t) {
    return std::optional<Duration>(milliseconds(200));
  };
  ASSERT_TRUE(pool.array->replace_member(1, disk_id(data + 2)));
  ASSERT_TRUE(pool.scheduler.run_until(
      [&] { return pool.array->layout().members[1].rebuilt > reserved_blocks; }));
  ASSERT_TRUE(pool.commit());
  const std::uint64_t rebuilt = pool.layout.members[1].rebuilt;
  EXPECT_LT(rebuilt, reserved_blocks + 400);
  pool.power.cut();
  pool.power.restore();
  ASSERT_TRUE(pool.reopen());
  ASSERT_TRUE(pool.check_all());
  EXPECT_TRUE(pool.array->rebuild_progress().running);
  EXPECT_GE(pool.array->rebuild_progress().done, rebuilt);
  pool.scheduler.run_all();
  EXPECT_EQ(pool.array->layout().members[1].state, MemberState::in_sync);
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.array->fail_member(2));
  ASSERT_TRUE(pool.check_all());
}

TEST(ArrayFault, TheRateOfARebuildIsLimited) {
  Pool pool(data, Protection::single, 400, 1);
  fill(pool, 400);
  Array::Options options;
  options.layout = pool.layout;
  for (std::size_t i = 0; i < pool.media.size(); ++i) options.disks.push_back(pool.disk(i));
  options.rebuild_rate = 1 << 20;
  Array::Owner owner;
  owner.live = [](BlockAddress) { return true; };
  pool.array = std::make_unique<Array>(pool.scheduler, options, owner);
  ASSERT_TRUE(pool.recover());
  const Instant begin = pool.scheduler.now();
  ASSERT_TRUE(pool.array->fail_member(0));
  pool.scheduler.run_all();
  EXPECT_EQ(pool.array->layout().members[0].state, MemberState::in_sync);
  EXPECT_GT(pool.scheduler.now() - begin, milliseconds(1400));
}

TEST(ArrayFault, ANewMemberAndANewGroup) {
  Pool pool(data, Protection::single);
  fill(pool);
  const std::size_t grown = pool.add_medium();
  std::optional<std::uint32_t> number;
  ASSERT_TRUE(pool.wait([&](ports::Done<void> done) {
    pool.array->add_member(0, pool.disk(grown),
                           [&number, done = std::move(done)](Result<std::uint32_t> r) mutable {
                             if (r) number = *r;
                             done({});
                           });
  }));
  ASSERT_EQ(number, data + 1);
  ASSERT_TRUE(pool.write({pool.at(*number, 2), pool.at(*number, 20)}));
  ASSERT_TRUE(pool.commit());
  std::vector<Array::Disk> disks;
  for (int i = 0; i < 3; ++i) disks.push_back(pool.disk(pool.add_medium()));
  ASSERT_TRUE(pool.array->add_group(Protection::single, disks, reserved_blocks + 40));
  ASSERT_TRUE(pool.write({pool.at(*number + 1, 2), pool.at(*number + 2, 2)}));
  ASSERT_TRUE(pool.write({pool.at(*number + 1, 3)}));
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.reopen());
  ASSERT_TRUE(pool.check_all());
  ASSERT_TRUE(pool.array->fail_member(0));
  ASSERT_TRUE(pool.array->fail_member(*number + 1));
  ASSERT_TRUE(pool.check_all());
}

// What was under way when the power went, or another node took over, begins again.
TEST(ArrayFault, GrowthGoesOnAfterAReopen) {
  Pool pool(data, Protection::single);
  fill(pool);
  const std::size_t grown = pool.add_medium();
  pool.media[grown]->latency = [](simulation::DiskOperation, std::uint64_t, std::uint64_t) {
    return std::optional<Duration>(seconds(5));
  };
  std::optional<ErrorCode> ended;
  pool.array->add_member(0, pool.disk(grown), [&ended](Result<std::uint32_t> r) {
    if (!r) ended = r.error().code;
  });
  EXPECT_EQ(pool.array->layout().joining.size(), 1u);
  EXPECT_EQ(pool.array->growing().size(), 1u);
  ASSERT_TRUE(pool.commit());
  ASSERT_EQ(pool.array->layout().joining.size(), 1u) << "or the test is too slow";
  ASSERT_TRUE(pool.reopen());
  EXPECT_EQ(ended, ErrorCode::cancelled);
  pool.scheduler.run_for(seconds(60));
  EXPECT_TRUE(pool.array->layout().joining.empty());
  ASSERT_EQ(pool.array->layout().members.size(), data + 2);
  ASSERT_TRUE(pool.write({pool.at(data + 1, 2)}));
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.check_all());
}

TEST(ArrayFault, GrowthIsCalledOffOrFails) {
  Pool pool(data, Protection::single);
  fill(pool);
  const std::size_t first = pool.add_medium();
  std::vector<ErrorCode> ended;
  const auto note = [&ended](Result<std::uint32_t> r) {
    if (!r) ended.push_back(r.error().code);
  };
  pool.array->add_member(0, pool.disk(first), note);
  pool.array->add_member(0, pool.disk(first), note);  // twice
  ASSERT_TRUE(pool.array->stop_joining(pool.disk(first).id));
  EXPECT_FALSE(pool.array->stop_joining(pool.disk(first).id));
  pool.array->add_member(7, pool.disk(first), note);
  pool.scheduler.run_for(seconds(10));
  EXPECT_EQ(ended, (std::vector{ErrorCode::invalid, ErrorCode::cancelled, ErrorCode::not_found}));
  EXPECT_EQ(pool.array->layout().members.size(), data + 1);
  EXPECT_TRUE(pool.array->layout().joining.empty());
}

TEST(ArrayFault, AnOrderToFailADiskIsInTheLayout) {
  Pool pool(data, Protection::single);
  fill(pool);
  ASSERT_TRUE(pool.array->fail_member(1));
  EXPECT_TRUE(pool.array->layout().members[1].kept_out);
  ASSERT_TRUE(pool.commit());
  ASSERT_TRUE(pool.reopen());
  EXPECT_TRUE(pool.array->layout().members[1].kept_out);
  ASSERT_TRUE(pool.array->replace_member(1, pool.disk(1).id));
  EXPECT_FALSE(pool.array->layout().members[1].kept_out);
  pool.scheduler.run_for(seconds(10));
  ASSERT_TRUE(pool.check_all());
}

TEST(ArrayFault, CloseEndsEverythingOnceAndWritesNothingMore) {
  for (int steps = 0; steps < 60; ++steps) {
    Pool pool(data, Protection::single);
    fill(pool);
    int ended = 0;
    int cancelled = 0;
    const auto count = [&](const Result<void>& status) {
      ++ended;
      if (!status && status.error().code == ErrorCode::cancelled) ++cancelled;
    };
    auto buffer = make_buffer(block_size);
    std::vector<BlockWrite> blocks{{pool.at(0, 20), block_of(1)}, {pool.at(1, 21), block_of(2)}};
    pool.pending[pool.at(2, 20)] = 1;  // so that the stripe is a partial one
    pool.array->write(pool.generation + 1, blocks, count);
    pool.array->read({{pool.at(0, 1), 0, buffer.bytes}}, count);
    pool.array->flush(count);
    pool.array->write_everywhere(0, block_of(9), count);
    pool.array->scrub(0, [&](const Result<std::uint64_t>& r) {
      count(r ? Result<void>() : std::unexpected(r.error()));
    });
    for (int i = 0; i < steps; ++i) pool.scheduler.step();
    pool.array->close();
    const auto written = pool.power.operations();
    buffer = {};
    if (steps % 2 == 0) pool.array.reset();
    pool.scheduler.run_all();
    EXPECT_EQ(ended, 5);
    EXPECT_EQ(pool.power.operations(), written);
    if (steps == 0) EXPECT_EQ(cancelled, 5);
    if (pool.array) {
      EXPECT_EQ(pool.flush().error().code, ErrorCode::cancelled);
    }
  }
}

}  // namespace
}  // namespace duet::raid
