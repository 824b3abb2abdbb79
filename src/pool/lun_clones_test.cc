// LUNs of snapshots, and LUNs with space of their own.
#include <set>

#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

class LunClones : public testing::Test {
 protected:
  void SetUp() override {
    bench.emplace(PoolTestBench::Options{});
    bench->start();
    auto made = bench->create("data", 1 << 20);
    ASSERT_TRUE(made);
    lun = *made;
    ASSERT_TRUE(bench->write(lun, 0, 1 << 20));
    before = bench->model.at(lun).bytes;
  }
  Result<VolumeId> snapshot(const std::string& name) {
    std::optional<Result<VolumeId>> result;
    bench->pool->create_snapshot(Pool::first_volume, name, 7, [&](auto r) { result = r; });
    bench->scheduler.run_until([&] { return result.has_value(); });
    return *result;
  }
  Result<LunNumber> clone(VolumeId of, const std::string& name) {
    std::optional<Result<LunNumber>> result;
    bench->pool->clone_lun(lun, of, name, [&](auto r) { result = r; });
    EXPECT_FALSE(result) << "completed from inside the call";
    bench->scheduler.run_until([&] { return result.has_value(); });
    return *result;
  }
  Status delete_volume(VolumeId id) {
    return bench->wait([&](auto done) { bench->pool->delete_volume(id, std::move(done)); });
  }
  Status delete_snapshot(VolumeId id) {
    return bench->wait([&](auto done) { bench->pool->delete_snapshot(id, std::move(done)); });
  }

  std::optional<PoolTestBench> bench;
  LunNumber lun;
  std::vector<std::byte> before;
};

TEST_F(LunClones, AreWhatTheSnapshotShowsAndGoTheirOwnWay) {
  auto monday = snapshot("monday");
  ASSERT_TRUE(monday) << monday.error().message;
  ASSERT_TRUE(bench->write(lun, 0, 512 << 10));
  auto made = clone(*monday, "old");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_NE(*made, lun);
  bench->model[*made] = {"old", before, {}};
  bench->verify();
  const auto* original = bench->pool->find(lun);
  const auto* copy = bench->pool->find(*made);
  EXPECT_NE(copy->serial, original->serial);
  EXPECT_NE(copy->naa, original->naa);
  EXPECT_NE(bench->pool->volume_of(*made), bench->pool->volume_of(lun));
  ASSERT_TRUE(bench->write(*made, 4096, 64 << 10));
  ASSERT_TRUE(bench->write(lun, 8192, 64 << 10));
  ASSERT_TRUE(bench->flush());
  bench->verify();
  EXPECT_EQ(bench->check(), "");
  // Another boot sees the same.
  bench->crash();
  bench->start(Epoch(2));
  bench->verify();
  // The volume of the clone goes after its LUN, the snapshot after that.
  const auto volume = *bench->pool->volume_of(*made);
  EXPECT_FALSE(delete_volume(volume));
  EXPECT_FALSE(delete_snapshot(*monday));
  ASSERT_TRUE(bench->remove(*made));
  ASSERT_TRUE(delete_volume(volume));
  ASSERT_TRUE(delete_snapshot(*monday));
  ASSERT_TRUE(bench->flush());
  bench->verify();
  EXPECT_EQ(bench->check(), "");
}

TEST_F(LunClones, AreRefusedWithTheReason) {
  auto monday = snapshot("monday");
  ASSERT_TRUE(monday);
  EXPECT_EQ(clone(*monday, "data").error().code, ErrorCode::already_exists);
  EXPECT_EQ(clone(*monday, "vol0").error().code, ErrorCode::already_exists);
  EXPECT_EQ(clone(*monday, "no/name").error().code, ErrorCode::invalid);
  EXPECT_EQ(clone(VolumeId(99), "x").error().code, ErrorCode::not_found);
  auto young = bench->create("young", 4096);
  ASSERT_TRUE(young);
  ASSERT_TRUE(bench->flush());
  const LunNumber old = std::exchange(lun, *young);
  EXPECT_EQ(clone(*monday, "x").error().code, ErrorCode::not_found) << "younger than the snapshot";
  lun = LunNumber(77);
  EXPECT_EQ(clone(*monday, "x").error().code, ErrorCode::not_found);
  lun = old;
  bench->verify();
  EXPECT_EQ(bench->check(), "");
}

// Wherever the power goes away, the LUN is there with its content or not at all, no number or
// serial is given twice, and the log can be replayed.
TEST_F(LunClones, ComeWholeOrNotAtAll) {
  auto monday = snapshot("monday");
  ASSERT_TRUE(monday);
  int came = 0, absent = 0;
  for (int steps = 0; steps < 60; steps += 3) {
    const std::string name = "old" + std::to_string(steps);
    bool done = false;
    bench->pool->clone_lun(lun, *monday, name, [&](auto r) { done = r.has_value(); });
    for (int i = 0; i < steps; ++i) bench->scheduler.run_for(std::chrono::microseconds(200));
    auto next = bench->create("new" + std::to_string(steps), 4096);
    ASSERT_TRUE(next) << next.error().message;
    bench->crash();
    bench->start(Epoch(static_cast<std::uint64_t>(steps) + 2));
    ASSERT_EQ(bench->pool->state(), StorageState::active) << bench->pool->health();
    std::set<std::string> serials;
    const auto luns = bench->pool->luns();
    auto found = std::ranges::find(luns, name, &LunInfo::name);
    if (found != luns.end()) {
      ++came;
      bench->model[found->number] = {name, before, {}};
    } else {
      ++absent;
      EXPECT_FALSE(done);
    }
    for (const auto& info : luns) EXPECT_TRUE(serials.insert(info.serial).second) << info.serial;
    bench->verify();
  }
  ASSERT_TRUE(bench->flush());
  EXPECT_GT(came, 0);
  EXPECT_GT(absent, 0);
  EXPECT_EQ(bench->check(), "");
}

// ---- reserved LUNs ----

class ReservedLuns : public LunClones {
 protected:
  Result<LunNumber> reserve(const std::string& name, std::uint64_t size) {
    auto record = bench->pool->prepare_create(name, size, true);
    if (!record) return std::unexpected(record.error());
    for (;;) {
      auto status = bench->submit(*record);
      if (status) return LunNumber(static_cast<std::uint16_t>(record->words[0]));
      if (status.error().code != ErrorCode::busy) return std::unexpected(status.error());
      settle();
    }
  }
  void settle() {
    bench->pool->start_consistency_point();
    bench->scheduler.run_for(seconds(1));
  }
  // Waits like a service does; what else it says.
  Status write(LunNumber to, std::uint64_t offset, std::uint64_t size) {
    for (int i = 0; i < 50; ++i) {
      auto status = bench->write(to, offset, size);
      if (status || status.error().code != ErrorCode::busy) return status;
      settle();
    }
    return fail(ErrorCode::busy, "for ever");
  }
  // Thin LUNs take what they can get.
  void fill() {
    Status status;
    for (int number = 0; status && number < 8; ++number) {
      auto thin = bench->create("thin" + std::to_string(number), 8 << 20);
      ASSERT_TRUE(thin);
      for (std::uint64_t at = 0; status && at < 8 << 20; at += 256 << 10) {
        status = write(*thin, at, 256 << 10);
      }
    }
    ASSERT_FALSE(status) << "the pool is larger than the test thinks";
    EXPECT_EQ(status.error().code, ErrorCode::no_space) << status.error().message;
  }
};

TEST_F(ReservedLuns, AlwaysTakeTheirWrites) {
  auto mine = reserve("mine", 4 << 20);
  ASSERT_TRUE(mine) << mine.error().message;
  EXPECT_TRUE(bench->pool->find(*mine)->reserved);
  fill();
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t at = 0; at < 4 << 20; at += 1 << 20) {
      auto status = write(*mine, at, 1 << 20);
      ASSERT_TRUE(status) << "round " << round << " at " << at << ": " << status.error().message;
    }
  }
  settle();
  bench->verify();
  EXPECT_EQ(bench->check(), "");
  bench->crash();
  bench->start(Epoch(2));
  EXPECT_TRUE(bench->pool->find(*mine)->reserved);
  ASSERT_TRUE(write(*mine, 0, 1 << 20));
  bench->verify();
}

TEST_F(ReservedLuns, AreRefusedWithoutTheSpace) {
  auto mine = reserve("mine", 60 << 20);
  ASSERT_FALSE(mine);
  EXPECT_EQ(mine.error().code, ErrorCode::no_space) << mine.error().message;
  EXPECT_TRUE(bench->create("thin", 60 << 20));
}

// A snapshot would take what their next writes need.
TEST_F(ReservedLuns, KeepSnapshotsAwayThatTheyCannotAfford) {
  auto mine = reserve("mine", 4 << 20);
  ASSERT_TRUE(mine) << mine.error().message;
  auto first = snapshot("first");
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(write(*mine, 0, 1 << 20));
  fill();
  for (std::uint64_t at = 0; at < 4 << 20; at += 1 << 20) ASSERT_TRUE(write(*mine, at, 1 << 20));
  settle();
  auto second = snapshot("second");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::no_space) << second.error().message;
  for (std::uint64_t at = 0; at < 4 << 20; at += 1 << 20) ASSERT_TRUE(write(*mine, at, 1 << 20));
  settle();
  bench->verify();
  EXPECT_EQ(bench->check(), "");
}

}  // namespace
}  // namespace duet::pool
