// A volume that goes back to its newest snapshot, with its LUNs.
#include "base/coverage_expect.h"
#include "pool/pool_test_bench.h"
#include "pool/tables.h"

namespace duet::pool {
namespace {

constexpr VolumeId vol0 = Pool::first_volume;

class RestoreTest : public testing::Test {
 public:
  void SetUp() override { bench.start(); }
  template <class Start>
  Result<VolumeId> made(Start start) {
    std::optional<Result<VolumeId>> result;
    start([&](Result<VolumeId> r) { result = std::move(r); });
    bench.scheduler.run_until([&] { return result.has_value(); });
    return result ? *result : fail(ErrorCode::timed_out, "no answer");
  }
  VolumeId snapshot(const std::string& name, VolumeId of = vol0) {
    auto id = made([&](auto done) { bench.pool->create_snapshot(of, name, 0, std::move(done)); });
    EXPECT_TRUE(id) << id.error().message;
    before = bench.model;
    return id.value_or(VolumeId());
  }
  Status restore(VolumeId to, VolumeId volume = vol0) {
    auto status = bench.wait([&](auto done) { bench.pool->restore(volume, to, std::move(done)); });
    if (status) bench.model = before;
    return status;
  }
  const LunInfo* named(const std::string& name) {
    for (const LunInfo& lun : bench.pool->luns()) {
      if (lun.name == name) return bench.pool->find(lun.number);
    }
    return nullptr;
  }
  void verify() {
    bench.verify();
    EXPECT_EQ(bench.check(), "");
  }
  void restart() {
    bench.crash();
    bench.start(epoch = epoch.next());
  }

  PoolTestBench bench{{}};
  Model before;
  Epoch epoch{1};
};

TEST_F(RestoreTest, LunsShowWhatTheyShowedThen) {
  auto lun = bench.create("data", 1 << 20);
  ASSERT_TRUE(lun);
  ASSERT_TRUE(bench.write(*lun, 0, 512 << 10));
  const LunInfo was = *bench.pool->find(*lun);
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench.write(*lun, 256 << 10, 512 << 10));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(bench.write(*lun, 0, 4096));  // not on the disks yet
  ASSERT_TRUE(bench.zero(*lun, 8192, 65536));
  ASSERT_TRUE(restore(then));
  EXPECT_EQ(bench.pool->find(*lun)->naa, was.naa);
  EXPECT_EQ(bench.pool->find(*lun)->serial, was.serial);
  verify();
  ASSERT_TRUE(bench.write(*lun, 0, 16384));  // it goes on
  ASSERT_TRUE(bench.flush());
  verify();
  restart();
  verify();
}

TEST_F(RestoreTest, ALunMadeSinceGoesAndItsNumberIsFree) {
  EXPECT_MARK(restore_without_a_lun);
  auto data = bench.create("data", 64 << 10);
  const VolumeId then = snapshot("then");
  auto since = bench.create("since", 64 << 10);
  ASSERT_TRUE(data && since);
  ASSERT_TRUE(bench.write(*since, 0, 64 << 10));
  ASSERT_TRUE(restore(then));
  EXPECT_EQ(named("since"), nullptr);
  verify();
  auto again = bench.create("since", 32 << 10);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, *since);
  restart();
  verify();
}

TEST_F(RestoreTest, ALunDeletedSinceComesBackAsItWas) {
  EXPECT_MARK(restore_brings_a_lun_back);
  auto data = bench.create("data", 256 << 10);
  ASSERT_TRUE(data);
  ASSERT_TRUE(bench.write(*data, 4096, 128 << 10));
  const LunInfo was = *bench.pool->find(*data);
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench.remove(*data));
  ASSERT_TRUE(bench.flush());
  ASSERT_TRUE(restore(then));
  const LunInfo* back = named("data");
  ASSERT_NE(back, nullptr);
  EXPECT_EQ(back->naa, was.naa);
  EXPECT_EQ(back->serial, was.serial);
  EXPECT_EQ(back->size, was.size);
  EXPECT_EQ(back->number, was.number);
  verify();
  ASSERT_TRUE(bench.write(back->number, 0, 8192));
  restart();
  verify();
}

TEST_F(RestoreTest, ANameThatIsTakenMeanwhileIsNotTakenAway) {
  auto data = bench.create("data", 64 << 10);
  auto other = bench.create("other", 64 << 10);
  ASSERT_TRUE(data && other);
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench.remove(*data));
  std::optional<Result<LunNumber>> clone;
  bench.pool->clone_lun(*other, then, "data", [&](auto r) { clone = std::move(r); });
  ASSERT_TRUE(bench.scheduler.run_until([&] { return clone.has_value(); }));
  ASSERT_TRUE(*clone);
  bench.model[**clone] = {"data", bench.model.at(*other).bytes, {}};
  auto status = restore(then);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::refused);
  EXPECT_NE(status.error().message.find("LUN data"), std::string::npos) << status.error().message;
  verify();
}

// A LUN of the same name and number that was made since goes, and makes room.
TEST_F(RestoreTest, OneGoesAndOneComesUnderTheSameName) {
  auto data = bench.create("data", 64 << 10);
  ASSERT_TRUE(data && bench.write(*data, 0, 64 << 10));
  const VolumeId then = snapshot("then");
  ASSERT_TRUE(bench.remove(*data));
  ASSERT_TRUE(bench.create("data", 128 << 10));
  ASSERT_TRUE(restore(then));
  verify();
  restart();
  verify();
}

TEST_F(RestoreTest, OnlyToTheNewestSnapshot) {
  const VolumeId first = snapshot("first");
  ASSERT_TRUE(bench.create("data", 64 << 10));
  const VolumeId second = snapshot("second");
  EXPECT_EQ(restore(first).error().code, ErrorCode::refused);
  EXPECT_EQ(restore(vol0).error().code, ErrorCode::not_found);
  EXPECT_TRUE(restore(second));
  verify();
}

// What a copy of a volume shows of its LUNs' data are no LUNs.
TEST_F(RestoreTest, ACopyOfTheVolumeGetsNoLuns) {
  auto data = bench.create("data", 64 << 10);
  ASSERT_TRUE(data && bench.write(*data, 0, 64 << 10));
  const VolumeId then = snapshot("then");
  auto copy = made([&](auto done) { bench.pool->create_clone(then, "copy", std::move(done)); });
  ASSERT_TRUE(copy);
  const VolumeId of_copy = snapshot("of-copy", *copy);
  ASSERT_TRUE(restore(of_copy, *copy));
  EXPECT_EQ(bench.pool->luns().size(), 1u);
  ASSERT_TRUE(bench.remove(*data));
  before = bench.model;
  ASSERT_TRUE(restore(of_copy, *copy));
  EXPECT_EQ(bench.pool->luns().size(), 0u);
  verify();
}

TEST_F(RestoreTest, ALunCloneGoesBackInItsOwnVolume) {
  auto data = bench.create("data", 64 << 10);
  ASSERT_TRUE(data && bench.write(*data, 0, 64 << 10));
  const VolumeId then = snapshot("then");
  std::optional<Result<LunNumber>> made_clone;
  bench.pool->clone_lun(*data, then, "clone", [&](auto r) { made_clone = std::move(r); });
  ASSERT_TRUE(bench.scheduler.run_until([&] { return made_clone.has_value(); }));
  ASSERT_TRUE(*made_clone);
  const LunNumber clone = **made_clone;
  bench.model[clone] = {"clone", bench.model.at(*data).bytes, {}};
  const VolumeId home = *bench.pool->volume_of(clone);
  const VolumeId own = snapshot("own", home);
  ASSERT_TRUE(bench.write(clone, 0, 32 << 10));
  ASSERT_TRUE(restore(own, home));
  verify();
  const LunInfo was = *named("clone");
  ASSERT_TRUE(bench.remove(clone));
  ASSERT_TRUE(restore(own, home));
  ASSERT_NE(named("clone"), nullptr);
  EXPECT_EQ(named("clone")->naa, was.naa);
  EXPECT_NE(named("clone")->naa, named("data")->naa);
  verify();
}

// While it happens nothing that names the volume gets into the log.
TEST_F(RestoreTest, NothingIsAdmittedBetweenFreezeAndEnd) {
  auto data = bench.create("data", 1 << 20);
  ASSERT_TRUE(data && bench.write(*data, 0, 1 << 20));
  const VolumeId then = snapshot("then");
  auto since = bench.create("since", 64 << 10);
  ASSERT_TRUE(since);
  std::optional<Result<void>> result;
  bench.pool->restore(vol0, then, [&](auto r) { result = std::move(r); });
  bool held = false;
  ASSERT_TRUE(bench.scheduler.run_until([&] {
    const auto code = [&](const Status& s) { return s ? ErrorCode::invalid : s.error().code; };
    const bool busy = code(bench.pool->admit(encode(LunDeleteRecord{*since}))) == ErrorCode::busy;
    if (busy && !result) {
      held = true;
      auto create = bench.pool->prepare_create("other", 4096);
      EXPECT_TRUE(create && code(bench.pool->admit(*create)) == ErrorCode::busy);
      EXPECT_EQ(code(bench.pool->admit(encode(ZeroRecord{*data, 0, 4096}))), ErrorCode::busy);
    }
    return result.has_value();
  }));
  EXPECT_TRUE(held);
  EXPECT_TRUE(*result);
  bench.model = before;
  verify();
}

// As a whole or not at all, wherever the power goes away.
TEST(RestoreCrash, AtEveryWrite) {
  int restored = 0, not_yet = 0;
  for (std::uint64_t cut = 1; cut < 400; cut += sanitized ? 9 : 2) {
    PoolTestBench bench({});
    bench.start();
    auto data = bench.create("data", 256 << 10);
    auto gone = bench.create("gone", 64 << 10);
    ASSERT_TRUE(data && gone && bench.write(*data, 0, 256 << 10) &&
                bench.write(*gone, 0, 64 << 10));
    std::optional<Result<VolumeId>> then;
    bench.pool->create_snapshot(vol0, "then", 0, [&](auto r) { then = std::move(r); });
    ASSERT_TRUE(bench.scheduler.run_until([&] { return then.has_value(); }));
    const Model before = bench.model;
    ASSERT_TRUE(bench.write(*data, 64 << 10, 128 << 10));
    ASSERT_TRUE(bench.remove(*gone));
    ASSERT_TRUE(bench.create("since", 64 << 10));
    bench.power.cut_at(cut);
    bool done = false;
    bench.pool->restore(vol0, **then, [&](auto r) { done = r.has_value(); });
    bench.scheduler.run_for(seconds(2));
    const bool survived = bench.power.on();
    bench.power.cut_at(0);
    bench.crash();
    if (!bench.power.on()) bench.power.restore();
    bench.start(Epoch(2));
    const auto luns = bench.pool->luns();
    const bool back =
        std::ranges::any_of(luns, [](const LunInfo& lun) { return lun.name == "gone"; });
    if (done) EXPECT_TRUE(back) << cut;
    if (back) bench.model = before;
    ++(back ? restored : not_yet);
    bench.verify();
    EXPECT_EQ(bench.check(), "") << cut;
    if (testing::Test::HasFailure() || survived) break;
  }
  EXPECT_GT(restored, 0);
  EXPECT_GT(not_yet, 0);
}

TEST(RestoreFormat, AVdiskSaysWhichLunItIs) {
  LunInfo info;
  info.name = "db";
  info.serial = "S1";
  info.naa = 0x3000000100000000;
  info.size = 1 << 20;
  const Inode inode = inode_of(info, VolumeId(1));
  EXPECT_EQ(to_hex(std::as_bytes(std::span(inode.inlined))), "0000000001000030026462025331");
  EXPECT_EQ(inode.entries, 1u);
  auto read = lun_shown_by(inode);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->name, "db");
  EXPECT_EQ(read->serial, "S1");
  EXPECT_EQ(read->naa, info.naa);
  for (std::size_t size = 0; size < inode.inlined.size(); ++size) {
    Inode damaged = inode;
    damaged.inlined.resize(size);
    EXPECT_FALSE(lun_shown_by(damaged)) << size;
  }
  Inode plain = inode;
  plain.type = filesystem::FileType::regular;
  EXPECT_FALSE(lun_shown_by(plain));
}

}  // namespace
}  // namespace duet::pool
