// One LUN that goes back to a snapshot of its volume, in place.
#include "base/coverage_expect.h"
#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

constexpr VolumeId vol0 = Pool::first_volume;

VolumeId make_snapshot(PoolTestBench& bench, const std::string& name) {
  std::optional<Result<VolumeId>> made;
  bench.pool->create_snapshot(vol0, name, 0, [&](auto r) { made = std::move(r); });
  EXPECT_TRUE(bench.scheduler.run_until([&] { return made.has_value(); }));
  EXPECT_TRUE(made && *made);
  return made ? made->value_or(VolumeId()) : VolumeId();
}

class RestoreLunTest : public testing::Test {
 public:
  void start(const PoolTestBench::Options& options = {}) {
    bench = std::make_unique<PoolTestBench>(options);
    bench->start();
    auto made = bench->create("data", 2 << 20);
    auto more = bench->create("other", 64 << 10);
    ASSERT_TRUE(made && more);
    lun = *made;
    other = *more;
    ASSERT_TRUE(bench->write(lun, 0, 1 << 20));
    ASSERT_TRUE(bench->write(other, 0, 64 << 10));
  }
  VolumeId snapshot(const std::string& name) {
    shown[name] = bench->model.at(lun);
    return make_snapshot(*bench, name);
  }
  Status restore(VolumeId to) {
    return bench->wait([&](auto done) { bench->pool->restore_lun(lun, to, std::move(done)); });
  }
  void expect(const std::string& name) {
    bench->model[lun] = shown.at(name);
    bench->verify();
    EXPECT_EQ(bench->check(), "");
  }

  std::unique_ptr<PoolTestBench> bench;
  LunNumber lun, other;
  std::map<std::string, ModelLun> shown;
};

TEST_F(RestoreLunTest, AnySnapshotAndNothingButTheLun) {
  start();
  const VolumeId first = snapshot("first");
  ASSERT_TRUE(bench->write(lun, 4096, 600 << 10));
  ASSERT_TRUE(bench->zero(lun, 900 << 10, 300 << 10));
  const VolumeId second = snapshot("second");
  ASSERT_TRUE(bench->write(lun, 1536 << 10, 100 << 10));  // where both have holes
  ASSERT_TRUE(bench->write(other, 0, 8192));
  ASSERT_TRUE(bench->flush());
  ASSERT_TRUE(bench->write(lun, 0, 512));  // not on the disks yet
  ASSERT_TRUE(restore(first));
  expect("first");
  ASSERT_TRUE(restore(second));
  expect("second");
  ASSERT_TRUE(bench->write(lun, 0, 65536));  // it goes on
  ASSERT_TRUE(bench->flush());
  bench->crash();
  bench->start(Epoch(2));
  bench->verify();
  // What the snapshots hold is theirs, whatever has been copied.
  for (VolumeId id : {first, second}) {
    ASSERT_TRUE(bench->wait([&](auto done) { bench->pool->delete_snapshot(id, std::move(done)); }));
  }
  ASSERT_TRUE(bench->flush());
  bench->verify();
  EXPECT_EQ(bench->check(), "");
}

TEST_F(RestoreLunTest, OnlyWhatDiffersIsCopied) {
  start();
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench->write(lun, 512 << 10, 12 << 10));
  ASSERT_TRUE(bench->flush());
  const auto before = bench->pool->figures().data_blocks;
  ASSERT_TRUE(restore(then));
  EXPECT_LE(bench->pool->figures().data_blocks - before, 4u);
  expect("then");
}

TEST_F(RestoreLunTest, OfflineUntilItIsDone) {
  start();
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench->write(lun, 0, 256 << 10));
  ASSERT_TRUE(bench->flush());
  std::optional<Status> done, again;
  bench->pool->restore_lun(lun, then, [&](Status s) { done = std::move(s); });
  bench->pool->restore_lun(lun, then, [&](Status s) { again = std::move(s); });
  ASSERT_TRUE(bench->scheduler.run_until([&] { return !bench->pool->find(lun)->offline.empty(); }));
  EXPECT_FALSE(done);
  EXPECT_EQ(bench->read(lun, 0, 4096).error().code, ErrorCode::refused);
  EXPECT_EQ(bench->write(lun, 0, 4096).error().code, ErrorCode::refused);
  EXPECT_TRUE(bench->write(other, 0, 4096));
  EXPECT_NE(bench->pool->health().find("restore from snapshot then"), std::string::npos);
  ASSERT_TRUE(bench->scheduler.run_until([&] { return done && again; }));
  EXPECT_TRUE(*done) << done->error().message;
  EXPECT_EQ(again->error().code, ErrorCode::refused);
  EXPECT_EQ(bench->pool->health(), "");
  expect("then");
}

TEST_F(RestoreLunTest, WhatCannotBeRestored) {
  start();
  const VolumeId then = snapshot("then");
  auto later = bench->create("later", 64 << 10);
  ASSERT_TRUE(later);
  const auto try_it = [&](LunNumber which, VolumeId to) {
    return bench->wait([&](auto done) { bench->pool->restore_lun(which, to, std::move(done)); })
        .error()
        .code;
  };
  EXPECT_EQ(try_it(*later, then), ErrorCode::not_found);
  EXPECT_EQ(try_it(LunNumber(99), then), ErrorCode::not_found);
  EXPECT_EQ(try_it(lun, VolumeId(77)), ErrorCode::not_found);
  EXPECT_EQ(try_it(lun, vol0), ErrorCode::not_found);
  bench->verify();
}

TEST_F(RestoreLunTest, ChangesMeanwhileEndIt) {
  start();
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench->write(lun, 0, 1 << 20));
  ASSERT_TRUE(bench->flush());
  std::optional<Status> done;
  bench->pool->restore_lun(lun, then, [&](Status s) { done = std::move(s); });
  ASSERT_TRUE(bench->scheduler.run_until([&] { return !bench->pool->find(lun)->offline.empty(); }));
  ASSERT_TRUE(bench->remove(lun));
  ASSERT_TRUE(bench->scheduler.run_until([&] { return done.has_value(); }));
  EXPECT_EQ(done->error().code, ErrorCode::cancelled);
  bench->verify();
  EXPECT_EQ(bench->check(), "");
}

TEST_F(RestoreLunTest, MoreThanMemoryHolds) {
  EXPECT_MARK(lun_restore_waits_for_room);
  start({.dirty_limit = 1280 << 10, .images = {}, .absent = {}});
  const VolumeId then = snapshot("then");
  for (std::uint64_t at = 0; at < 2 << 20; at += 512 << 10) {
    ASSERT_TRUE(bench->write(lun, at, 512 << 10));
    ASSERT_TRUE(bench->flush());
  }
  ASSERT_TRUE(restore(then));
  expect("then");
}

TEST_F(RestoreLunTest, AFullPoolLeavesItOfflineUntilThereIsRoom) {
  start({.disk_size = 3 << 20, .dirty_limit = 8 << 20, .images = {}, .absent = {}});
  auto filler = bench->create("filler", 4 << 20);
  ASSERT_TRUE(filler);
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench->write(lun, 0, 1 << 20));
  ASSERT_TRUE(bench->flush());
  for (std::uint64_t at = 0; at < 4 << 20; at += 64 << 10) {
    if (!bench->write(*filler, at, 64 << 10)) break;
    ASSERT_TRUE(bench->flush());
  }
  EXPECT_EQ(restore(then).error().code, ErrorCode::no_space);
  EXPECT_NE(bench->pool->find(lun)->offline, "");
  bench->crash();
  bench->start(Epoch(2));
  EXPECT_NE(bench->pool->find(lun)->offline, "") << "half-way is never served";
  ASSERT_TRUE(bench->remove(*filler));
  ASSERT_TRUE(bench->flush());
  ASSERT_TRUE(bench->flush());
  ASSERT_TRUE(restore(then));
  expect("then");
}

// Cut at every write: afterwards it is what it was, what it shall be, or offline, and then restored
// again.
TEST(RestoreLun, AtEveryPowerCut) {
  int was = 0, offline = 0, restored = 0;
  for (std::uint64_t cut = 1;; ++cut) {
    PoolTestBench bench({});
    bench.start();
    auto lun = bench.create("data", 2 << 20);
    ASSERT_TRUE(lun && bench.write(*lun, 0, 1 << 20) && bench.write(*lun, 1 << 20, 1 << 20));
    const VolumeId then = make_snapshot(bench, "then");
    const ModelLun before = bench.model.at(*lun);
    ASSERT_TRUE(bench.write(*lun, 256 << 10, 1 << 20));
    bench.power.cut_at(cut);
    bool done = false;
    bench.pool->restore_lun(*lun, then, [&](Status s) { done = s.has_value(); });
    bench.scheduler.run_for(seconds(2));
    const bool survived = bench.power.on();
    bench.power.cut_at(0);
    bench.crash();
    if (!bench.power.on()) bench.power.restore();
    bench.start(Epoch(2));
    if (!bench.pool->find(*lun)->offline.empty()) {
      ++offline;
      EXPECT_FALSE(done) << cut;
      ASSERT_TRUE(
          bench.wait([&](auto answer) { bench.pool->restore_lun(*lun, then, std::move(answer)); }));
      bench.model[*lun] = before;
    } else {
      const auto start = bench.read(*lun, 0, 2 << 20);
      ASSERT_TRUE(start);
      const bool back = *start == before.bytes;
      if (done) EXPECT_TRUE(back) << cut;
      if (back) bench.model[*lun] = before;
      ++(back ? restored : was);
    }
    bench.verify();
    EXPECT_EQ(bench.check(), "") << cut;
    if (testing::Test::HasFailure() || survived) break;
  }
  EXPECT_GT(was, 0);
  EXPECT_GT(offline, 0);
  EXPECT_GT(restored, 0);
}

}  // namespace
}  // namespace duet::pool
