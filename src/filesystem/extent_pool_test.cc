#include "filesystem/extent_pool.h"

#include "filesystem/pool_test_bench.h"

namespace duet::filesystem {
namespace {

class ExtentPoolTest : public testing::Test {
 protected:
  PoolTestBench bench{{}};
  LunNumber lun{0};
  void create(std::uint64_t size = 1 << 20) {
    bench.start();
    auto made = bench.create("db", size);
    ASSERT_TRUE(made) << made.error().message;
    lun = *made;
  }
};

TEST_F(ExtentPoolTest, FreshPoolHasNoLunsAndAllItsSpace) {
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.pool->state(), StorageState::read_only);
  EXPECT_TRUE(bench.pool->luns().empty());
  EXPECT_EQ(bench.pool->capacity().free, bench.pool->capacity().size);
  EXPECT_EQ(bench.pool->capacity().unit, 512u << 10);
  EXPECT_EQ(bench.pool->position(), LogPosition());
  EXPECT_EQ(bench.submit(encode(LunDeleteRecord{lun})).error().code, ErrorCode::refused);
}

TEST_F(ExtentPoolTest, ReadsSeeWritesAtOnceAndAfterAConsistencyPointAndAReopen) {
  create();
  ASSERT_TRUE(bench.write(lun, 4096, 8192));
  ASSERT_TRUE(bench.write(lun, 4096 + 512, 1024));  // part of a block
  ASSERT_TRUE(bench.write(lun, 600 << 10, 512));    // second extent
  bench.verify();
  ASSERT_TRUE(bench.flush());
  EXPECT_EQ(bench.contained, bench.log.back().first.sequence);
  bench.verify();
  bench.crash();
  ASSERT_TRUE(bench.open());
  bench.verify();
}

TEST_F(ExtentPoolTest, NewLunReadsAsZerosWhereAnotherHadData) {
  create(3 << 20);
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(bench.write(lun, static_cast<std::uint64_t>(i) << 20, 1 << 20));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.remove(lun));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.create("fresh", 3 << 20));
  ASSERT_TRUE(bench.write(lun, 5 << 10, 512));
  bench.verify();
  ASSERT_TRUE(bench.flush());
  bench.verify();
}

TEST_F(ExtentPoolTest, ZeroingWorksAcrossGenerations) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 256 << 10));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.write(lun, 64 << 10, 8192));
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.zero(lun, 1024, 200 << 10));  // while the former is under way
  ASSERT_TRUE(bench.write(lun, 72 << 10, 512));
  bench.verify();
  ASSERT_TRUE(bench.flush());
  bench.verify();
  bench.crash();
  bench.start(Epoch(2));
  bench.verify();
}

TEST_F(ExtentPoolTest, IdentityOfALunIsStable) {
  create();
  LunInfo before = *bench.pool->find(lun);
  EXPECT_EQ(before.serial, "0001020304050607000001");
  EXPECT_EQ(before.naa, 0x3000102030000001u);
  ASSERT_TRUE(bench.submit(encode(ReservationsRecord{lun, {std::byte{7}, std::byte{8}}})));
  ASSERT_TRUE(bench.flush());
  bench.crash();
  ASSERT_TRUE(bench.open());
  LunInfo after = *bench.pool->find(lun);
  EXPECT_EQ(after.serial, before.serial);
  EXPECT_EQ(after.naa, before.naa);
  EXPECT_EQ(after.reservations.size(), 2u);
  bench.crash();
  bench.start();
  ASSERT_TRUE(bench.remove(lun));
  ASSERT_TRUE(bench.create("db", 4096));
  EXPECT_NE(bench.pool->find(lun)->serial, before.serial);
}

TEST_F(ExtentPoolTest, RefusesWhatDoesNotFitBeforeItIsLogged) {
  create();
  auto size = bench.pool->capacity().size;
  EXPECT_EQ(bench.create("big", size).error().code, ErrorCode::no_space);
  EXPECT_EQ(bench.create("db", 4096).error().code, ErrorCode::already_exists);
  EXPECT_EQ(bench.create("a b", 4096).error().code, ErrorCode::invalid);
  EXPECT_EQ(bench.create("none", 0).error().code, ErrorCode::invalid);
  EXPECT_EQ(bench.write(lun, 1 << 20, 512).error().code, ErrorCode::invalid);
  EXPECT_EQ(bench.write(LunNumber(9), 0, 512).error().code, ErrorCode::not_found);
  EXPECT_EQ(bench.remove(LunNumber(9)).error().code, ErrorCode::not_found);
  EXPECT_EQ(bench.zero(lun, 512, 1 << 20).error().code, ErrorCode::invalid);
  // All that is left can be had, and what a deletion gives up only after a consistency point.
  ASSERT_TRUE(bench.create("rest", bench.pool->capacity().free));
  EXPECT_EQ(bench.create("more", 512).error().code, ErrorCode::no_space);
  ASSERT_TRUE(bench.remove(lun));
  EXPECT_EQ(bench.create("more", 512).error().code, ErrorCode::no_space);
  ASSERT_TRUE(bench.flush());
  EXPECT_TRUE(bench.create("more", 512));
}

TEST_F(ExtentPoolTest, LunTableIsBounded) {
  create(4096);
  auto second = bench.create("second", 4096);
  ASSERT_TRUE(second);
  std::vector<std::byte> state(max_reservation_state);
  ASSERT_TRUE(bench.submit(encode(ReservationsRecord{lun, state})));
  // The bench reserves 16 KiB for the whole table.
  EXPECT_EQ(bench.submit(encode(ReservationsRecord{*second, state})).error().code,
            ErrorCode::no_space);
  state.resize(max_reservation_state + 1);
  EXPECT_EQ(bench.submit(encode(ReservationsRecord{lun, state})).error().code, ErrorCode::invalid);
  ASSERT_TRUE(bench.flush());
  bench.crash();
  bench.start();
  bench.verify();
}

TEST_F(ExtentPoolTest, AdmitsNoMoreThanTheDirtyLimitUntilAConsistencyPoint) {
  create(4 << 20);
  int admitted = 0;
  Status status;
  while ((status = bench.write(lun, (static_cast<std::uint64_t>(admitted) % 64) << 16, 64 << 10))) {
    ++admitted;
    ASSERT_LT(admitted, 100);
  }
  EXPECT_EQ(status.error().code, ErrorCode::busy);
  EXPECT_LE(bench.pool->dirty_bytes(), bench.pool->dirty_limit());
  EXPECT_GT(admitted, 50);
  EXPECT_TRUE(bench.pool->needs_consistency_point());
  ASSERT_TRUE(bench.flush());
  EXPECT_EQ(bench.pool->dirty_bytes(), 0u);
  EXPECT_TRUE(bench.write(lun, 0, 64 << 10));
  EXPECT_FALSE(bench.pool->needs_consistency_point());
}

TEST_F(ExtentPoolTest, ASmallConsistencyPointIsTwoRoundsAndWritesLittle) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 64 << 10));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.write(lun, 4096, 4096));
  auto before = bench.power.operations();
  ASSERT_TRUE(bench.flush());
  EXPECT_EQ(bench.power.operations() - before, 1u + 3u);  // the block, three superblocks, no flush
  before = bench.power.operations();
  bench.pool->start_consistency_point();  // nothing to do: no I/O
  LogSequence old = std::exchange(bench.contained, LogSequence(0));
  ASSERT_TRUE(bench.scheduler.run_until([&] { return bench.contained == old; }));
  EXPECT_EQ(bench.power.operations(), before);
  bench.pool->skip(bench.next_position());
  bench.log.emplace_back(bench.next_position(), LogRecord{});
  ASSERT_TRUE(bench.flush());
  EXPECT_EQ(bench.power.operations() - before, 3u);
}

TEST_F(ExtentPoolTest, WritesToADiskAreBounded) {
  create(4 << 20);
  for (std::uint64_t at = 0; at < 3u << 20; at += 8192) ASSERT_TRUE(bench.write(lun, at, 512));
  ASSERT_TRUE(bench.flush());
  for (std::uint64_t at = 0; at < 3u << 20; at += 8192) ASSERT_TRUE(bench.write(lun, at, 512));
  ASSERT_TRUE(bench.flush());
  for (auto& medium : bench.media) {
    EXPECT_LE(medium->writes_in_flight_max(), ConsistencyPoint::writes_in_flight_per_disk);
    EXPECT_GE(medium->writes_in_flight_max(), ConsistencyPoint::writes_in_flight_per_disk / 2);
  }
  bench.verify();
}

TEST_F(ExtentPoolTest, NeighboursBecomeOneWrite) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 256 << 10));
  ASSERT_TRUE(bench.flush());
  for (std::uint64_t at = 0; at < 256 << 10; at += 4096) ASSERT_TRUE(bench.write(lun, at, 4096));
  auto before = bench.power.operations();
  ASSERT_TRUE(bench.flush());
  EXPECT_EQ(bench.power.operations() - before, 1u + 1u + 3u);  // data, flush, superblocks
}

TEST_F(ExtentPoolTest, ADiskErrorIsRetriedAndFreesNothing) {
  create();
  ASSERT_TRUE(bench.flush());
  std::vector<std::string> health;
  bench.pool->on_health([&](const std::string& h) { health.push_back(h); });
  for (auto code :
       {ErrorCode::io_error, ErrorCode::disconnected, ErrorCode::timed_out, ErrorCode::busy}) {
    for (auto operation : {simulation::DiskOperation::write, simulation::DiskOperation::flush}) {
      for (std::uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(bench.write(lun, i * 24576, 4096));
      auto position = bench.pool->position();
      bench.media[1]->fault = [&](simulation::DiskOperation o, std::uint64_t, std::uint64_t) {
        return o == operation ? std::optional(code) : std::nullopt;
      };
      bench.pool->start_consistency_point();
      bench.scheduler.run_for(seconds(1));
      EXPECT_EQ(bench.pool->position(), position);
      EXPECT_NE(bench.pool->health(), "");
      ASSERT_TRUE(bench.write(lun, 512 << 10, 4096));  // goes on meanwhile
      bench.verify();
      bench.media[1]->fault = nullptr;
      ASSERT_TRUE(bench.flush());
      EXPECT_EQ(bench.pool->health(), "");
      bench.verify();
    }
  }
  EXPECT_EQ(health.size(), 16u);
}

TEST_F(ExtentPoolTest, AReservationConflictFences) {
  create();
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.write(lun, 0, 4096));
  auto blue = bench.media[2]->connect();
  ReservationKey key(5);
  ASSERT_TRUE(bench.wait([&](auto done) { blue->register_key(key, std::move(done)); }));
  ASSERT_TRUE(bench.wait([&](auto done) {
    blue->reserve(key, ports::ReservationType::exclusive_access_registrants_only, std::move(done));
  }));
  auto position = bench.pool->position();
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.scheduler.run_until([&] { return bench.fenced; }));
  bench.scheduler.run_all();
  EXPECT_EQ(bench.pool->state(), StorageState::fenced);
  EXPECT_EQ(bench.pool->position(), position);
  EXPECT_EQ(bench.write(lun, 0, 512).error().code, ErrorCode::refused);
  EXPECT_EQ(bench.read(lun, 0, 512).error().code, ErrorCode::reservation_conflict);
  bench.crash();
  EXPECT_EQ(bench.open().error().code, ErrorCode::reservation_conflict);
}

TEST_F(ExtentPoolTest, AConflictOfAReadFencesToo) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 1 << 20));
  ASSERT_TRUE(bench.flush());
  auto blue = bench.media[0]->connect();
  ReservationKey key(5);
  ASSERT_TRUE(bench.wait([&](auto done) { blue->register_key(key, std::move(done)); }));
  ASSERT_TRUE(bench.wait([&](auto done) {
    blue->reserve(key, ports::ReservationType::exclusive_access_registrants_only, std::move(done));
  }));
  EXPECT_EQ(bench.read(lun, 0, 1 << 20).error().code, ErrorCode::reservation_conflict);
  EXPECT_TRUE(bench.fenced);
}

TEST_F(ExtentPoolTest, AnOlderEpochIsRefused) {
  create();
  ASSERT_TRUE(bench.flush());
  bench.crash();
  bench.start(Epoch(7));
  ASSERT_TRUE(bench.write(lun, 0, 512));
  ASSERT_TRUE(bench.flush());
  bench.crash();
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.activate(Epoch(6)).error().code, ErrorCode::refused);
  EXPECT_EQ(bench.pool->state(), StorageState::read_only);
  EXPECT_TRUE(bench.activate(Epoch(7)));
}

TEST_F(ExtentPoolTest, APartnersPoolOpenedWarmIsUpToDateOnceActive) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 128 << 10));
  ASSERT_TRUE(bench.flush());
  // Blue opens warm, reads (into no cache that lasts), red goes on.
  std::vector<std::unique_ptr<simulation::FakeDisk>> blue_paths;
  auto disks = bench.disks();
  for (std::size_t i = 0; i < disks.size(); ++i) {
    blue_paths.push_back(bench.media[i]->connect());
    disks[i].disk = blue_paths.back().get();
  }
  ExtentPool::Options options;
  options.pool = bench.pool_id;
  options.disks = disks;
  auto blue = std::make_unique<ExtentPool>(bench.scheduler, options);
  ASSERT_TRUE(bench.wait([&](auto done) { blue->open(std::move(done)); }));
  auto red = std::exchange(bench.pool, std::move(blue));
  bench.verify();
  std::swap(red, bench.pool);
  ASSERT_TRUE(bench.write(lun, 4096, 4096));
  ASSERT_TRUE(bench.create("second", 512 << 10));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.write(lun, 0, 512));  // only in the log
  bench.pool.reset();
  std::swap(red, bench.pool);
  ASSERT_TRUE(bench.activate(Epoch(2)));
  bench.replay();
  bench.verify();
  ASSERT_TRUE(bench.flush());
  bench.verify();
  bench.pool.reset();
}

TEST_F(ExtentPoolTest, DeactivationEndsWithEverythingOnTheDisks) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 64 << 10));
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.write(lun, 4096, 64 << 10));
  std::optional<Status> gone;
  bench.pool->deactivate([&](Status status) { gone = std::move(status); });
  EXPECT_EQ(bench.write(lun, 0, 512).error().code, ErrorCode::refused);
  ASSERT_TRUE(bench.scheduler.run_until([&] { return gone.has_value(); }));
  EXPECT_TRUE(*gone);
  EXPECT_EQ(bench.pool->state(), StorageState::read_only);
  EXPECT_EQ(bench.contained, bench.log.back().first.sequence);
  bench.crash();
  bench.log.clear();
  bench.start(Epoch(2));
  bench.verify();
  EXPECT_TRUE(bench.wait([&](auto done) { bench.pool->deactivate(std::move(done)); }));
}

TEST_F(ExtentPoolTest, CloseCancelsWhatIsUnderWay) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 64 << 10));
  ASSERT_TRUE(bench.flush());
  bench.crash();
  bench.start(Epoch(1));
  std::optional<ErrorCode> read, deactivated;
  bench.pool->read(lun, 0, 64 << 10, [&](auto result) { read = result.error().code; });
  ASSERT_TRUE(bench.write(lun, 0, 512));
  bench.pool->deactivate([&](Status status) { deactivated = status.error().code; });
  bench.pool.reset();
  bench.scheduler.run_all();
  EXPECT_EQ(read, ErrorCode::cancelled);
  EXPECT_EQ(deactivated, ErrorCode::cancelled);
  ASSERT_TRUE(bench.open());
  std::optional<ErrorCode> opened;
  auto pool = std::move(bench.pool);
  pool->close();
  pool->open([&](Status status) { opened = status ? ErrorCode{} : status.error().code; });
  pool->close();
  bench.scheduler.run_all();
  EXPECT_EQ(opened, ErrorCode::cancelled);
  EXPECT_TRUE(bench.wait([&](auto done) { pool->open(std::move(done)); }));
}

TEST_F(ExtentPoolTest, APoisonRecordTakesItsLunOfflineAndNobodyElse) {
  create();
  auto other = bench.create("other", 4096);
  ASSERT_TRUE(other);
  LogRecord beyond = encode(WriteRecord{lun, 1 << 20, bench.random_data(512)});
  EXPECT_EQ(bench.pool->admit(beyond).error().code, ErrorCode::invalid);
  EXPECT_EQ(bench.pool->apply(bench.next_position(), beyond).error().code, ErrorCode::invalid);
  bench.log.emplace_back(bench.next_position(), beyond);
  EXPECT_EQ(bench.read(lun, 0, 512).error().code, ErrorCode::refused);
  EXPECT_EQ(bench.write(lun, 0, 512).error().code, ErrorCode::refused);
  EXPECT_NE(bench.pool->find(lun)->offline, "");
  EXPECT_TRUE(bench.write(*other, 0, 512));
  ASSERT_TRUE(bench.flush());
  EXPECT_NE(bench.pool->health().find("db"), std::string::npos);
  bench.crash();
  bench.start(Epoch(2));
  EXPECT_NE(bench.pool->find(lun)->offline, "");
  EXPECT_NE(bench.pool->health(), "");
  EXPECT_TRUE(bench.read(*other, 0, 512));
  EXPECT_TRUE(bench.remove(lun));
}

TEST_F(ExtentPoolTest, APoisonRecordWithoutALunStopsThePoolAndKeepsTheLog) {
  for (LogRecord record : {encode(LunDeleteRecord{LunNumber(77)}),
                           LogRecord{static_cast<nvlog::RecordKind>(99), {}, {}},
                           LogRecord{nvlog::RecordKind::write, {~0ull, 0, 0, 0}, {}}}) {
    PoolTestBench b{{}};
    b.start();
    auto made = b.create("db", 4096);
    ASSERT_TRUE(made);
    ASSERT_TRUE(b.flush());
    ASSERT_TRUE(b.write(*made, 0, 512));
    EXPECT_FALSE(b.pool->apply(b.next_position(), record));
    EXPECT_EQ(b.pool->state(), StorageState::offline);
    b.pool->start_consistency_point();
    b.scheduler.run_all();
    EXPECT_LT(b.pool->position().sequence, b.log.back().first.sequence);
    EXPECT_EQ(b.read(*made, 0, 512).error().code, ErrorCode::refused);
    EXPECT_NE(b.pool->health(), "");
  }
}

TEST_F(ExtentPoolTest, ATornSuperblockFallsBackToTheOther) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 4096));
  ASSERT_TRUE(bench.flush());  // generation 2, slot 0
  LogSequence before = bench.contained;
  Model model = bench.model;
  ASSERT_TRUE(bench.write(lun, 512 << 10, 4096));
  ASSERT_TRUE(bench.flush());  // generation 3, slot 1
  bench.crash();
  std::vector<std::byte> junk(100, std::byte{1});
  for (auto& medium : bench.media) medium->poke(8192 + 4096 + 700, junk);
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.pool->position().sequence, before);
  bench.model = model;
  bench.verify();
  bench.crash();
  // One copy that is whole is enough; a torn LUN table is taken from another disk.
  for (auto& medium : bench.media) medium->poke(8192, junk);
  EXPECT_EQ(bench.open().error().code, ErrorCode::invalid);
}

TEST_F(ExtentPoolTest, OneGoodCopyOfTheMetadataIsEnough) {
  create();
  ASSERT_TRUE(bench.flush());
  bench.crash();
  std::vector<std::byte> junk(65536, std::byte{1});
  bench.media[0]->poke(8192, Bytes(junk).first(8192));
  bench.media[0]->poke(8192 + 65536, junk);
  bench.media[1]->poke(8192 + 65536, junk);
  ASSERT_TRUE(bench.open());
  bench.verify();
  bench.media[2]->fault = [](auto, auto, auto) { return std::optional(ErrorCode::io_error); };
  bench.crash();
  EXPECT_FALSE(bench.open());  // superblock on disk 1, but a table nowhere
  bench.media[2]->fault = [](auto, auto, auto) { return std::optional(ErrorCode::disconnected); };
  bench.crash();
  EXPECT_EQ(bench.open().error().code, ErrorCode::disconnected);
}

TEST_F(ExtentPoolTest, AnotherPoolOrOtherDisksAreRefused) {
  bench.pool_id[0] = 99;
  EXPECT_EQ(bench.open().error().code, ErrorCode::invalid);
  bench.pool_id[0] = 0;
  std::swap(bench.paths[0], bench.paths[1]);
  EXPECT_TRUE(bench.open());  // the paths moved with the ids: still the bench's disk 0 and 1
  bench.pool.reset();
  ExtentPool::Options options;
  options.pool = bench.pool_id;
  options.disks = bench.disks();
  std::swap(options.disks[0], options.disks[1]);
  ExtentPool swapped(bench.scheduler, options);
  EXPECT_EQ(bench.wait([&](auto done) { swapped.open(std::move(done)); }).error().code,
            ErrorCode::invalid);
  options.disks.pop_back();
  ExtentPool fewer(bench.scheduler, options);
  EXPECT_EQ(bench.wait([&](auto done) { fewer.open(std::move(done)); }).error().code,
            ErrorCode::invalid);
}

TEST_F(ExtentPoolTest, ReplayingTwiceIsReplayingOnce) {
  create();
  ASSERT_TRUE(bench.write(lun, 0, 4096));
  ASSERT_TRUE(bench.remove(lun));
  ASSERT_TRUE(bench.create("db", 8192));
  ASSERT_TRUE(bench.write(lun, 0, 4096));
  bench.crash();
  bench.start();
  bench.replay();
  bench.verify();
  ASSERT_TRUE(bench.flush());
  bench.contained = LogSequence(0);
  bench.replay();
  EXPECT_EQ(bench.pool->dirty_bytes(), 0u);
  bench.verify();
}

// A read that takes a second while writes go on; the disk took its data at the beginning or the
// end.
class SlowReadTest : public testing::TestWithParam<std::uint64_t> {
 protected:
  SlowReadTest() : bench({.disks = 1, .seed = GetParam()}) {}
  void start_slow_read() {
    bench.start();
    lun = *bench.create("db", 64 << 10);
    EXPECT_TRUE(bench.write(lun, 0, 64 << 10));
    EXPECT_TRUE(bench.flush());
    bench.crash();  // nothing is cached
    bench.start();
    bench.media[0]->latency = [](simulation::DiskOperation operation, std::uint64_t,
                                 std::uint64_t) {
      return operation == simulation::DiskOperation::read ? std::optional<Duration>(seconds(1))
                                                          : std::nullopt;
    };
    bench.pool->read(lun, 4096, 8192, [this](auto r) { result = std::move(r); });
    bench.media[0]->latency = nullptr;
  }
  PoolTestBench bench;
  LunNumber lun{0};
  std::optional<Result<std::vector<Slice>>> result;
};

TEST_P(SlowReadTest, LeavesNothingOldInTheCacheAfterAConsistencyPoint) {
  start_slow_read();
  ASSERT_TRUE(bench.write(lun, 4096, 4096));
  ASSERT_TRUE(bench.zero(lun, 8192, 8192));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.write(lun, 8192, 512));
  ASSERT_TRUE(bench.flush());
  ASSERT_FALSE(result);
  ASSERT_TRUE(bench.scheduler.run_until([&] { return result.has_value(); }));
  bench.verify();
}

TEST_P(SlowReadTest, LeavesNothingOldInTheCacheDuringAConsistencyPoint) {
  start_slow_read();
  ASSERT_TRUE(bench.write(lun, 4096, 4096));
  bench.media[0]->latency = [](auto, std::uint64_t offset, std::uint64_t) {
    bool superblock = offset < 8192 + 2 * block_size;
    return superblock ? std::optional<Duration>(seconds(2)) : std::nullopt;
  };
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.scheduler.run_until([&] { return result.has_value(); }));
  EXPECT_GT(bench.pool->dirty_bytes(), 0u);
  ASSERT_TRUE(bench.flush());
  bench.verify();
}

TEST_P(SlowReadTest, OfADeletedLunDoesNotShowItsSuccessor) {
  start_slow_read();
  ASSERT_TRUE(bench.remove(lun));
  ASSERT_TRUE(bench.flush());
  ASSERT_EQ(*bench.create("db", 64 << 10), lun);
  ASSERT_TRUE(bench.write(lun, 0, 64 << 10));
  ASSERT_TRUE(bench.flush());
  ASSERT_FALSE(result);
  ASSERT_TRUE(bench.scheduler.run_until([&] { return result.has_value(); }));
  EXPECT_EQ(result->error().code, ErrorCode::not_found);
  bench.verify();
}

INSTANTIATE_TEST_SUITE_P(Seeds, SlowReadTest, testing::Range<std::uint64_t>(1, 9));

}  // namespace
}  // namespace duet::filesystem
