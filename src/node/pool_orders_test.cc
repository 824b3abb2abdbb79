// Orders to a pool through the identity that is served.
#include "node/pool_orders.h"

#include "node/identity_bench.h"

namespace duet::node {
namespace {

using admin::PoolVerb;

class PoolOrdersTest : public testing::Test {
 protected:
  void SetUp() override {
    b.config->shelves[1].luns = {5, 7};
    b.serve();
  }
  admin::PoolReply order(const admin::PoolOrder& order, Duration time = seconds(1)) {
    admin::PoolReply reply;
    reply.why = "no answer";
    b.service->pool_order(order, [&reply](admin::PoolReply r) { reply = std::move(r); });
    b.run(time);
    return reply;
  }
  // Empty: done; else why not.
  std::string change(const admin::PoolOrder& what) {
    auto reply = order(what);
    EXPECT_EQ(reply.ok, reply.why.empty());
    return reply.why;
  }
  admin::PoolReport status() {
    auto reply = order({PoolVerb::status, IdentityBench::red});
    EXPECT_EQ(reply.report.size(), 1u) << reply.why;
    return reply.report.empty() ? admin::PoolReport() : reply.report[0];
  }
  static admin::PoolOrder with(PoolVerb verb, std::string volume, std::string snapshot = "",
                               std::string name = "") {
    admin::PoolOrder o{verb, IdentityBench::red};
    o.volume = std::move(volume);
    o.snapshot = std::move(snapshot);
    o.name = std::move(name);
    return o;
  }
  static admin::PoolOrder of_disk(PoolVerb verb, std::string disk, std::string spare = "") {
    admin::PoolOrder o{verb, IdentityBench::red};
    o.disk = std::move(disk);
    o.spare = std::move(spare);
    return o;
  }
  static bool says(const std::string& why, const std::string& what) {
    return why.find(what) != std::string::npos;
  }

  IdentityBench b;
};

TEST_F(PoolOrdersTest, StatusShowsDisksAndSpace) {
  auto report = status();
  EXPECT_EQ(report.name, "red");
  EXPECT_EQ(report.health, "");
  EXPECT_GT(report.size, 0u);
  EXPECT_EQ(report.used + report.free, report.size);
  ASSERT_EQ(report.groups.size(), 1u);
  EXPECT_EQ(report.groups[0].protection, "RAID 4");
  ASSERT_EQ(report.disks.size(), 2u);
  EXPECT_EQ(report.disks[1].member, "m1");
  EXPECT_EQ(report.disks[1].role, "parity");
  EXPECT_EQ(report.disks[1].lun, "7");
  EXPECT_EQ(report.disks[1].state, "in_sync");
  EXPECT_TRUE(report.disks[1].present);
  EXPECT_EQ(report.disks[1].path, b.shelf.disks()[1]->name());
}

TEST_F(PoolOrdersTest, VolumesAndSnapshotsByName) {
  EXPECT_EQ(change(with(PoolVerb::volume_create, "", "", "work")), "");
  EXPECT_EQ(change(with(PoolVerb::snapshot_create, "work", "", "one")), "");
  EXPECT_EQ(change(with(PoolVerb::snapshot_create, "", "", "one")), "") << "of another volume";
  EXPECT_EQ(change(with(PoolVerb::snapshot_clone, "work", "one", "copy")), "");
  EXPECT_EQ(change(with(PoolVerb::snapshot_restore, "work", "one")), "");
  auto limit = with(PoolVerb::volume_limit, "work");
  limit.quota = 1 << 20;
  EXPECT_EQ(change(limit), "");
  auto volumes = order({PoolVerb::volume_list, IdentityBench::red}).volumes;
  ASSERT_EQ(volumes.size(), 3u);
  EXPECT_EQ(volumes[0].name, "vol0");
  EXPECT_EQ(volumes[1].name, "work");
  EXPECT_EQ(volumes[1].quota, 1u << 20);
  EXPECT_EQ(volumes[2].origin, "work/one");
  EXPECT_EQ(order({PoolVerb::snapshot_list, IdentityBench::red}).volumes.size(), 2u);
  EXPECT_EQ(order(with(PoolVerb::snapshot_list, "work")).volumes.size(), 1u);
  EXPECT_TRUE(says(change(with(PoolVerb::snapshot_delete, "work", "one")), "clones"));
  EXPECT_EQ(change(with(PoolVerb::volume_delete, "copy")), "");
  EXPECT_EQ(change(with(PoolVerb::snapshot_delete, "work", "one")), "");
  EXPECT_TRUE(says(change(with(PoolVerb::snapshot_delete, "", "none")), "none"));
  EXPECT_TRUE(says(change(with(PoolVerb::volume_delete, "none")), "volume list"));
  EXPECT_TRUE(says(change(with(PoolVerb::volume_create, "", "", "no/name")), "1 to 63"));
}

TEST_F(PoolOrdersTest, ACloneOfALunIsServedAtOnceAndTakesItsVolumeAlong) {
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'a')->good());
  ASSERT_EQ(change(with(PoolVerb::snapshot_create, "", "", "monday")), "");
  ASSERT_TRUE(client.write(0, 'b')->good());
  auto clone = with(PoolVerb::lun_clone, "", "monday", "old");
  clone.lun = "data";
  ASSERT_EQ(change(clone), "");
  EXPECT_TRUE(says(change(clone), "old")) << "the name is taken";
  auto luns = b.service->luns();
  ASSERT_EQ(luns.size(), 2u);
  EXPECT_EQ(luns[1].name, "old");
  std::optional<Result<std::vector<Slice>>> content;
  b.storage->read(luns[1].number, 0, 512, [&](auto r) { content = std::move(r); });
  b.run();
  ASSERT_TRUE(content && *content);
  EXPECT_EQ((*content)->front().bytes[0], std::byte{'a'});
  EXPECT_EQ(order({PoolVerb::volume_list, IdentityBench::red}).volumes.size(), 2u);
  ASSERT_EQ(b.remove("old"), "");
  EXPECT_EQ(order({PoolVerb::volume_list, IdentityBench::red}).volumes.size(), 1u);
  EXPECT_EQ(change(with(PoolVerb::snapshot_delete, "", "monday")), "");
  clone.lun = "nothing";
  EXPECT_TRUE(says(change(clone), "lun list"));
}

TEST_F(PoolOrdersTest, ADiskGoesAndComesBack) {
  auto client = b.client();
  EXPECT_TRUE(says(change(of_disk(PoolVerb::disk_replace, "m1")), "disk fail"));
  EXPECT_EQ(change(of_disk(PoolVerb::disk_fail, "7")), "");
  EXPECT_EQ(status().disks[1].state, "failed");
  EXPECT_NE(status().health, "");
  EXPECT_NE(change(of_disk(PoolVerb::disk_fail, "m0")), "") << "the group would be lost";
  ASSERT_TRUE(client.write(0, 'c')->good());
  b.run(5 * pool::Pool::rejoin_wait);
  EXPECT_EQ(status().disks[1].state, "failed") << "by order: it does not come back by itself";
  EXPECT_EQ(change(of_disk(PoolVerb::disk_replace, "7")), "");
  b.run(seconds(20));
  EXPECT_EQ(status().disks[1].state, "in_sync");
  EXPECT_EQ(status().health, "");
  EXPECT_TRUE(says(change(of_disk(PoolVerb::disk_spare, "7")), "member"));
  for (const char* wrong : {"", "m", "m2", "6", "x", "-1"}) {
    EXPECT_TRUE(says(change(of_disk(PoolVerb::disk_fail, wrong)), "no disk")) << wrong;
  }
}

// Whoever serves the pool next keeps it out, too.
TEST_F(PoolOrdersTest, AnOrderToFailADiskOutlivesWhoTookIt) {
  ASSERT_EQ(change(of_disk(PoolVerb::disk_fail, "7")), "");
  b.start_engine(IdentityBench::red);
  b.config->shelves[1].luns = {5, 7};
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  b.run(5 * pool::Pool::rejoin_wait);
  EXPECT_EQ(status().disks[1].state, "failed");
  EXPECT_EQ(change(of_disk(PoolVerb::disk_replace, "7")), "");
  b.run(seconds(20));
  EXPECT_EQ(status().disks[1].state, "in_sync");
}

class GrowingPool : public PoolOrdersTest {
 protected:
  void SetUp() override {
    PoolOrdersTest::SetUp();
    for (int i = 0; i < 3; ++i) b.shelf.add_blank();
    restart();
  }
  // Another engine, that knows only what is on the disks.
  void restart() {
    b.start_engine(IdentityBench::red);
    b.config->shelves[1].luns = {5, 7, 9, 10, 11};
    b.assume(true);
    ASSERT_TRUE(b.last<AssumedFact>());
  }
  void slow_writes() {
    b.shelf.media[2]->latency = [](simulation::DiskOperation operation, std::uint64_t,
                                   std::uint64_t) -> std::optional<Duration> {
      if (operation != simulation::DiskOperation::write) return {};
      return seconds(2);
    };
  }
  std::string label(const std::string& disk) {
    auto o = of_disk(PoolVerb::disk_spare, disk);
    o.label = true;
    return change(o);
  }
  std::string grow(std::vector<std::string> disks, const std::string& protection = "") {
    admin::PoolOrder o{PoolVerb::pool_grow, IdentityBench::red};
    o.disks = std::move(disks);
    o.protection = protection;
    return change(o);
  }
  std::string member(const std::string& lun) {
    for (const auto& disk : status().disks) {
      if (disk.lun == lun) return disk.member;
    }
    return "";
  }
  std::string checked() {
    EXPECT_EQ(change(with(PoolVerb::check, "")), "");
    b.run(seconds(10));
    return status().check.last;
  }
};

TEST_F(GrowingPool, ABlankDiskForDumps) {
  const auto dedicate = [this](const std::string& disk) {
    return change(of_disk(PoolVerb::disk_coredump, disk));
  };
  EXPECT_TRUE(says(dedicate("5"), "bears a label"));
  EXPECT_TRUE(says(dedicate("12"), "no disk"));
  EXPECT_EQ(dedicate("9"), "");
  EXPECT_TRUE(says(dedicate("9"), "label")) << "once";
  EXPECT_EQ(member("9"), "") << "no part of the pool";
  EXPECT_TRUE(says(change(of_disk(PoolVerb::disk_spare, "9")), "--label"));
  EXPECT_TRUE(says(label("9"), "label")) << "and never becomes one";
  auto& medium = *b.shelf.media[2];
  auto read = disk::decode_label(medium.peek(disk::label_copy(0).offset, disk::area_block_size));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->role, disk::Role::coredump);
  EXPECT_FALSE(read->mailbox);
}

TEST_F(GrowingPool, ABlankDiskIsLabelledAndJoins) {
  EXPECT_TRUE(says(change(of_disk(PoolVerb::disk_spare, "9")), "--label"));
  EXPECT_TRUE(says(label("12"), "no disk"));
  EXPECT_EQ(label("9"), "");
  EXPECT_EQ(member("9"), "spare");
  EXPECT_EQ(label("9"), "") << "it stands by already";
  EXPECT_TRUE(says(label("5"), "member"));
  EXPECT_TRUE(says(grow({"10"}), "--label"));
  EXPECT_TRUE(says(grow({"5"}), "member"));
  EXPECT_TRUE(says(grow({"9", "9"}), "twice"));
  EXPECT_TRUE(says(grow({}), "no disk"));
  const auto before = status().size;
  EXPECT_EQ(grow({"9"}), "");
  b.run(seconds(20));
  EXPECT_EQ(member("9"), "m2");
  EXPECT_GT(status().size, before * 19 / 10);
  ASSERT_TRUE(b.client().write(0, 'g')->good());
  EXPECT_TRUE(says(checked(), "0 problems"));
  restart();
  EXPECT_EQ(member("9"), "m2");
  EXPECT_TRUE(says(checked(), "0 problems"));
}

TEST_F(GrowingPool, GrowthGoesOnWithWhoServesNext) {
  ASSERT_EQ(label("9"), "");
  slow_writes();
  ASSERT_EQ(grow({"9"}), "");
  ASSERT_EQ(member("9"), "joining");
  EXPECT_TRUE(says(grow({"9"}), "joins"));
  restart();
  EXPECT_EQ(member("9"), "joining");
  b.shelf.media[2]->latency = nullptr;
  b.run(seconds(60));
  EXPECT_EQ(member("9"), "m2");
  EXPECT_TRUE(says(checked(), "0 problems"));
}

TEST_F(GrowingPool, GrowthIsCalledOff) {
  ASSERT_EQ(label("9"), "");
  slow_writes();
  ASSERT_EQ(grow({"9"}), "");
  EXPECT_EQ(change(of_disk(PoolVerb::disk_fail, "9")), "");
  EXPECT_EQ(member("9"), "unused");
}

TEST_F(GrowingPool, ANewGroup) {
  for (const char* disk : {"9", "10", "11"}) ASSERT_EQ(label(disk), "");
  EXPECT_TRUE(says(grow({"9"}, "raid4"), "at least 2"));
  EXPECT_TRUE(says(grow({"9"}, "raid7"), "dual"));
  const auto before = status().size;
  ASSERT_EQ(grow({"9", "10", "11"}, "raid4"), "");
  auto report = status();
  ASSERT_EQ(report.groups.size(), 2u);
  EXPECT_GT(report.size, before * 2);
  ASSERT_TRUE(b.client().write(0, 'g')->good());
  EXPECT_TRUE(says(checked(), "0 problems"));
  restart();
  EXPECT_EQ(status().groups.size(), 2u);
  EXPECT_TRUE(says(checked(), "0 problems"));
}

TEST_F(PoolOrdersTest, LunsInUseAreNotTakenBackUnlessByForce) {
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'a')->good());
  ASSERT_EQ(change(with(PoolVerb::snapshot_create, "", "", "then")), "");
  ASSERT_TRUE(client.write(0, 'b')->good());
  auto back = with(PoolVerb::snapshot_restore, "", "then");
  const std::string why = change(back);
  EXPECT_TRUE(says(why, "data")) << why;
  EXPECT_TRUE(says(why, "--force")) << why;
  back.force = true;
  EXPECT_EQ(change(back), "");
  ASSERT_EQ(b.service->luns().size(), 1u);
  std::optional<Result<std::vector<Slice>>> content;
  b.storage->read(LunNumber(0), 0, 512, [&](auto r) { content = std::move(r); });
  b.run(seconds(1));
  ASSERT_TRUE(content && *content);
  EXPECT_EQ((**content)[0].bytes[0], std::byte{'a'});
  auto again = b.client();
  EXPECT_TRUE(again.write(0, 'c')->good()) << "it is served again";
  EXPECT_EQ(b.remove("data"), "") << "and may be deleted";
}

TEST_F(PoolOrdersTest, OneLunGoesBackAlone) {
  ASSERT_TRUE(b.client().write(0, 'a')->good());
  ASSERT_EQ(change(with(PoolVerb::snapshot_create, "", "", "then")), "");
  ASSERT_EQ(change(with(PoolVerb::snapshot_create, "", "", "later")), "");
  ASSERT_TRUE(b.client().write(0, 'b')->good());
  auto back = with(PoolVerb::snapshot_restore, "", "then");
  back.lun = "nothing";
  EXPECT_TRUE(says(change(back), "no LUN 'nothing'"));
  back.lun = "data";
  back.force = true;
  EXPECT_EQ(change(back), "") << "not the newest snapshot";
  std::optional<Result<std::vector<Slice>>> content;
  b.storage->read(LunNumber(0), 0, 512, [&](auto r) { content = std::move(r); });
  b.run(seconds(1));
  ASSERT_TRUE(content && *content);
  EXPECT_EQ((**content)[0].bytes[0], std::byte{'a'});
  EXPECT_TRUE(b.client().write(0, 'c')->good()) << "it is served again";
}

TEST_F(PoolOrdersTest, OneFileGoesBackAlone) {
  ASSERT_EQ(change(with(PoolVerb::snapshot_create, "", "", "then")), "");
  auto back = with(PoolVerb::snapshot_restore, "", "then");
  back.file = "a/b";
  EXPECT_TRUE(says(change(back), "'a' in the snapshot"));
  back.lun = "data";
  EXPECT_TRUE(says(change(back), "not both"));
  back.lun.clear();
  std::string first, second;
  b.service->pool_order(back, [&](const admin::PoolReply& r) { first = r.why; });
  b.service->pool_order(back, [&](const admin::PoolReply& r) { second = r.why; });
  b.run(seconds(1));
  EXPECT_TRUE(says(first, "'a' in the snapshot")) << first;
  EXPECT_TRUE(says(second, "another file")) << second;
}

TEST_F(PoolOrdersTest, CheckAndScrubSayHowTheyEnded) {
  EXPECT_EQ(status().check.last, "");
  auto check = with(PoolVerb::check, "");
  check.data = true;
  EXPECT_EQ(change(check), "");
  b.run(seconds(10));
  EXPECT_FALSE(status().check.running);
  EXPECT_TRUE(says(status().check.last, "0 problems")) << status().check.last;
  EXPECT_EQ(change({PoolVerb::scrub, IdentityBench::red}), "");
  b.run(seconds(10));
  EXPECT_EQ(status().scrub.last, "all parity was right");
}

TEST_F(PoolOrdersTest, NobodyWaitsForAPoolThatIsGone) {
  b.refuse_writes(true);
  std::string why = "no answer";
  b.service->pool_order(with(PoolVerb::volume_create, "", "", "late"),
                        [&why](const admin::PoolReply& r) { why = r.why; });
  b.run(milliseconds(10));
  EXPECT_EQ(why, "no answer");
  b.refuse_writes(false);
  b.service->release();
  b.run(seconds(30));
  EXPECT_NE(why, "no answer");
  EXPECT_TRUE(says(change(with(PoolVerb::volume_create, "", "", "later")), "not served"));
}

TEST_F(PoolOrdersTest, SnapshotsByTheClock) {
  b.start_engine(IdentityBench::red);
  b.config->snapshots = {{IdentityBench::red, "vol0", std::chrono::minutes(1), 2},
                         {IdentityBench::blue, "vol0", std::chrono::minutes(1), 2}};
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  ASSERT_EQ(change(with(PoolVerb::snapshot_create, "", "", "mine")), "");
  b.run(seconds(250));
  std::vector<std::string> names;
  for (const auto& v : order({PoolVerb::snapshot_list, IdentityBench::red}).volumes) {
    names.push_back(v.name);
  }
  ASSERT_EQ(names.size(), 3u);
  EXPECT_EQ(names[0], "mine");
  EXPECT_TRUE(is_automatic(names[1]));
  EXPECT_LT(names[1], names[2]);
}

}  // namespace
}  // namespace duet::node
