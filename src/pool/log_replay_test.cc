// What the log holds comes back in order: file records among block records, once, and however often
// the replay begins again.
#include "pool/log_replay.h"

#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "files/apply.h"
#include "files/look.h"
#include "files/read_directory.h"
#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

using files::Create;
using files::CreateMode;
using files::Outcome;
using files::RecordKind;

constexpr FileKey root{Pool::first_volume, filesystem::root_directory};

class Replaying : public testing::Test {
 protected:
  // A live request: its record goes into the log in the turn in which it is committed.
  files::Reply request(const files::Request& request) {
    files::Reply reply;
    auto status = bench.wait([&](auto done) {
      bench.pool->run(
          [&](filesystem::View& view) -> Status {
            files::Record record{request, ++now, {}, {}};
            auto prepared = files::prepare(view, record);
            reply = prepared.reply();
            if (reply.outcome == Outcome::busy) return fail(ErrorCode::busy, "");
            if (reply.outcome != Outcome::ok || reply.changes.empty()) return {};
            if (reply.created) record.created = reply.file.inode;
            bench.log.emplace_back(bench.next_position(), files::encode(record));
            prepared.commit();
            bench.pool->skip(bench.log.back().first);
            return {};
          },
          std::move(done));
    });
    EXPECT_TRUE(status) << status.error().message;
    return reply;
  }
  FileKey create(const std::string& name) {
    auto reply = request(Create{root, name, {0644, 0, 0}, CreateMode::guarded, 0, {}});
    EXPECT_EQ(reply.outcome, Outcome::ok) << reply.message;
    return reply.file;
  }
  Result<std::uint64_t> replay(std::size_t records = ~std::size_t{0}) {
    std::size_t at = 0;
    LogReplay replay(
        bench.scheduler, *bench.pool,
        [&]() -> std::optional<LogReplay::Item> {
          if (at == std::min(records, bench.log.size())) return {};
          const auto& [position, record] = bench.log[at++];
          return LogReplay::Item{position, record};
        },
        [&](const std::string& why) { poison = why; });
    std::optional<Result<std::uint64_t>> result;
    replay.start([&](auto r) { result = std::move(r); });
    EXPECT_FALSE(result) << "from inside the call";
    bench.scheduler.run_until([&] { return result.has_value(); });
    return *result;
  }
  void restart(Epoch epoch) {
    bench.crash();
    ASSERT_TRUE(bench.open());
    ASSERT_TRUE(bench.activate(epoch));
  }
  Outcome look(const std::string& name) {
    Outcome outcome{};
    EXPECT_TRUE(bench.wait([&](auto done) {
      bench.pool->run(
          [&](filesystem::View& view) -> Status {
            auto found = files::lookup(view, root, name);
            outcome = found ? Outcome::ok : found.error().outcome;
            if (outcome == Outcome::busy) return fail(ErrorCode::busy, "");
            return {};
          },
          std::move(done));
    }));
    return outcome;
  }

  PoolTestBench bench{{}};
  std::int64_t now = 100;
  std::string poison;
};

TEST_F(Replaying, FileRecordsAmongBlockRecordsInOrder) {
  bench.start();
  auto lun = bench.create("a", 64 << 10);
  ASSERT_TRUE(lun);
  const FileKey file = create("one");  // its number follows that of the LUN
  ASSERT_TRUE(bench.write(*lun, 0, 8192));
  ASSERT_TRUE(bench.create("b", 64 << 10));
  create("two");
  request(files::Write{file, 100, bench.random_data(4096)});
  request(files::Rename{root, "two", root, "three"});
  restart(Epoch(2));
  auto applied = replay();
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_EQ(*applied, bench.log.size());
  bench.verify();
  EXPECT_EQ(look("one"), Outcome::ok);
  EXPECT_EQ(look("two"), Outcome::no_entry);
  EXPECT_EQ(look("three"), Outcome::ok);
  EXPECT_EQ(poison, "");
  ASSERT_TRUE(bench.flush());
  EXPECT_EQ(bench.check(), "");
}

// Dies after every record, with a consistency point of what was replayed so far or without.
TEST_F(Replaying, BegunAgainAtAnyRecordItAppliesEachOnce) {
  bench.start();
  for (int i = 0; i < 12; ++i) {
    create("file" + std::to_string(i));
    if (i % 3 == 2) {
      request(files::Remove{root, "file" + std::to_string(i - 1), files::RemoveWhat::any});
    }
  }
  std::uint64_t epoch = 1;
  for (std::size_t k = 0; k < bench.log.size(); ++k) {
    restart(Epoch(++epoch));
    ASSERT_TRUE(replay(k));
    if (k % 2 == 0)
      ASSERT_TRUE(bench.scheduler.run_until([&, asked = false]() mutable {
        if (!std::exchange(asked, true)) bench.pool->start_consistency_point();
        return bench.pool->dirty_bytes() == 0;
      }));
  }
  restart(Epoch(++epoch));
  ASSERT_TRUE(replay());
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(look("file" + std::to_string(i)), i % 3 == 1 ? Outcome::no_entry : Outcome::ok) << i;
  }
  EXPECT_EQ(*replay(), 0u) << "twice is once";
}

TEST_F(Replaying, MoreThanMemoryHoldsTakesConsistencyPointsInBetween) {
  bench.start();
  const FileKey file = create("big");
  for (int i = 0; i < 24; ++i) {  // 6 MiB; the limit is 4
    auto reply = request(
        files::Write{file, static_cast<std::uint64_t>(i) << 18, bench.random_data(256 << 10)});
    if (reply.outcome == Outcome::busy) break;
    if (i % 8 == 7)
      ASSERT_TRUE(bench.scheduler.run_until([&, asked = false]() mutable {
        if (!std::exchange(asked, true)) bench.pool->start_consistency_point();
        return bench.pool->dirty_bytes() == 0;
      }));
  }
  const auto& log = bench.log;
  PoolTestBench other{{}};
  other.start();  // an empty pool of the same shape
  EXPECT_MARK(replay_takes_consistency_point);
  std::size_t at = 0;
  LogReplay replay(
      other.scheduler, *other.pool,
      [&]() -> std::optional<LogReplay::Item> {
        if (at == log.size()) return {};
        const auto& [position, record] = log[at++];
        return LogReplay::Item{position, record};
      },
      [](const std::string& why) { ADD_FAILURE() << why; });
  std::optional<Result<std::uint64_t>> result;
  replay.start([&](auto r) { result = std::move(r); });
  other.scheduler.run_until([&] { return result.has_value(); });
  ASSERT_TRUE(*result) << result->error().message;
  EXPECT_EQ(**result, log.size());
}

TEST_F(Replaying, ARecordThatDoesNotFitIsNamedAndChangesNothing) {
  bench.start();
  create("there");
  EXPECT_MARK(replay_file_poison);
  files::Record record{files::Remove{root, "not there", files::RemoveWhat::any}, 7, {}, {}};
  bench.log.emplace_back(bench.next_position(), files::encode(record));
  restart(Epoch(2));
  auto applied = replay();
  ASSERT_FALSE(applied);
  EXPECT_NE(poison.find("log record 2: file record of kind 37 for volume 1, inode 2: "),
            std::string::npos)
      << poison;
  EXPECT_EQ(bench.pool->state(), StorageState::offline);
  EXPECT_NE(bench.pool->health().find(poison), std::string::npos);
}

TEST_F(Replaying, DamagedAndUnknownRecordsAreErrors) {
  for (const std::uint8_t kind : {std::uint8_t{37}, std::uint8_t{47}, std::uint8_t{200}}) {
    PoolTestBench fresh{{}};
    fresh.start();
    filesystem::LogRecord record{static_cast<nvlog::RecordKind>(kind), {1, 2, 3, 4}, {}};
    bool taken = false;
    std::string why;
    LogReplay replay(
        fresh.scheduler, *fresh.pool,
        [&]() -> std::optional<LogReplay::Item> {
          if (std::exchange(taken, true)) return {};
          return LogReplay::Item{fresh.next_position(), record};
        },
        [&](const std::string& text) { why = text; });
    std::optional<Result<std::uint64_t>> result;
    replay.start([&](auto r) { result = std::move(r); });
    fresh.scheduler.run_until([&] { return result.has_value(); });
    EXPECT_FALSE(*result);
    EXPECT_NE(why, "");
    EXPECT_EQ(fresh.pool->state(), StorageState::offline) << int{kind};
  }
}

// Directories that the replay needs are on disks that are away for a while.
TEST_F(Replaying, WaitsForDisksThatComeBack) {
  bench.start();
  create("old");
  ASSERT_TRUE(bench.flush());
  create("new");
  restart(Epoch(2));
  EXPECT_MARK(replay_waits_for_disks);
  const auto away = [&](bool is) {
    for (auto& medium : bench.media) {
      medium->fault = [is](simulation::DiskOperation operation, std::uint64_t,
                           std::uint64_t) -> std::optional<ErrorCode> {
        if (!is || operation != simulation::DiskOperation::read) return {};
        return ErrorCode::disconnected;
      };
    }
  };
  away(true);
  bench.scheduler.at(bench.scheduler.now() + seconds(20), [&] { away(false); });
  const Instant before = bench.scheduler.now();
  auto applied = replay();
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_EQ(*applied, 1u);
  EXPECT_GE(bench.scheduler.now() - before, seconds(20));
  EXPECT_EQ(look("new"), Outcome::ok);
}

}  // namespace
}  // namespace duet::pool
