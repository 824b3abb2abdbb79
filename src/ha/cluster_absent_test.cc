// An identity is served without a disk that its RAID group can do without, and what happens when
// that disk comes back (cluster.h). docs/protocols/absent_disks.md.
#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

class Absent : public PairTest {
 protected:
  static Options redundant(bool auto_giveback = false) {
    auto o = options(auto_giveback);
    o.disks = 6;
    o.redundancy = 1;
    return o;
  }
  static void cut(Cluster& c, std::uint8_t disk) {  // of red, for both nodes
    for (auto node : {red, blue}) c.cut_path(node, {red, disk});
  }
  static void restore(Cluster& c, std::uint8_t disk) {
    for (auto node : {red, blue}) c.restore_path(node, {red, disk});
  }
  static std::vector<std::uint8_t> absent(const Cluster& c, NodeId node) {
    return c.snapshot(node).identities[0].absent_disks;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Absent, ::testing::Range<std::uint64_t>(1, 6));

TEST_P(Absent, a_dead_disk_stops_neither_takeover_nor_giveback) {
  for (std::uint8_t dead = 0; dead < 5; ++dead) {
    SCOPED_TRACE(int{dead});
    Cluster c(redundant(true));
    start(c);
    cut(c, dead);
    c.run_for(milliseconds(500));
    ASSERT_TRUE(c.serves(red, red));
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
        << c.describe() << c.history();
    EXPECT_EQ(absent(c, blue), std::vector<std::uint8_t>{dead});
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
        << c.describe() << c.history();
    EXPECT_EQ(absent(c, red), std::vector<std::uint8_t>{dead});
    EXPECT_TRUE(absent(c, blue).empty());
    EXPECT_MARK(absent_disk_returned);
    restore(c, dead);
    ASSERT_TRUE(c.run_until([&] { return absent(c, red).empty(); }, seconds(5))) << c.history();
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.log_count(blue, "giveback.done") == 2; }, seconds(10)))
        << c.describe() << c.history();
    EXPECT_TRUE(absent(c, red).empty());
    EXPECT_CLEAN(c);
  }
}

TEST_P(Absent, a_disk_that_comes_back_to_the_survivor_is_fenced_first) {
  Cluster c(redundant());
  start(c);
  c.cut_path(blue, {red, 4});
  c.run_for(milliseconds(100));
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_EQ(absent(c, blue), std::vector<std::uint8_t>{4});
  c.restore_path(blue, {red, 4});
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "disk.returned"); }, seconds(3)));
  EXPECT_EQ(c.disk({red, 4}).holder_key(), c.disk({red, 3}).holder_key());
  EXPECT_TRUE(absent(c, blue).empty());
  EXPECT_CLEAN(c);
}

// It is fenced while the survivor cannot reach it any more; the owner comes home without it, and
// gets it when the survivor can let go.
TEST_P(Absent, a_disk_that_the_survivor_cannot_give_back) {
  Cluster c(redundant());
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.serving"); }, seconds(5)));
  c.cut_path(blue, {red, 4});
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)))
      << c.describe() << c.history();
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_EQ(absent(c, red), std::vector<std::uint8_t>{4});
  c.run_for(seconds(5));
  EXPECT_EQ(absent(c, red), std::vector<std::uint8_t>{4}) << "it is still the survivor's";
  c.restore_path(blue, {red, 4});
  ASSERT_TRUE(c.run_until([&] { return absent(c, red).empty(); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_TRUE(both_mirrored(c));
  EXPECT_CLEAN(c);
}

TEST_P(Absent, two_are_too_many_for_one_parity_disk) {
  Cluster c(redundant());
  start(c);
  c.cut_path(blue, {red, 3});
  c.cut_path(blue, {red, 4});
  c.run_for(milliseconds(100));
  c.power_off(red);
  c.run_for(seconds(5));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_EQ(c.snapshot(blue).last_refusal, Reason::partner_disks_unreachable);
  EXPECT_FALSE(c.logged(blue, "takeover.fenced"));
  c.restore_path(blue, {red, 3});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(3)));
  EXPECT_CLEAN(c);
}

TEST_P(Absent, two_mailbox_disks_are_too_many_for_any) {
  auto o = redundant();
  o.redundancy = 2;
  Cluster c(o);
  start(c);
  c.cut_path(blue, {red, 0});
  c.cut_path(blue, {red, 1});
  c.run_for(milliseconds(100));
  c.power_off(red);
  c.run_for(seconds(5));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_CLEAN(c);
}

TEST_P(Absent, an_absent_spare_stops_nothing) {
  auto o = redundant(true);
  o.redundancy = 0;
  o.spares = 2;
  Cluster c(o);
  start(c);
  cut(c, 3);
  cut(c, 4);
  c.run_for(milliseconds(100));
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_EQ(absent(c, red), (std::vector<std::uint8_t>{3, 4}));
  EXPECT_CLEAN(c);
}

// The engine knows better: what it needs is not fenced.
TEST_P(Absent, an_engine_that_needs_the_disk_says_so) {
  Cluster c(redundant());
  start(c);
  c.cut_path(blue, {red, 5});
  c.run_for(milliseconds(100));
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.assume_failed"); }, seconds(5)));
  EXPECT_FALSE(c.serves(blue, red));
  c.restore_path(blue, {red, 5});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

// The other mailbox disks hold the truth; the one that comes back holds the past.
TEST_P(Absent, a_mailbox_disk_that_was_away_does_not_turn_anything_back) {
  Cluster c(redundant(true));
  start(c);
  c.power_off(red);
  c.power_off(blue);
  cut(c, 0);
  c.power_on(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
      << c.describe() << c.history();
  auto epoch = c.mailbox(red)->epoch;
  c.power_off(red);
  c.power_off(blue);
  restore(c, 0);
  cut(c, 1);
  c.power_on(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
      << c.describe() << c.history();
  EXPECT_GT(c.mailbox(red)->epoch, epoch);
  EXPECT_CLEAN(c);
}

}  // namespace
}  // namespace duet::ha::testing
