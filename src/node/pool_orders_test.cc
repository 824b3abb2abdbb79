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
