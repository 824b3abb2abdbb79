// Scenarios of a pair over simulated disks, link and engines (cluster.h). Every one also checks the
// invariants that the cluster watches all the while.
#include "ha/cluster.h"

#include <gtest/gtest.h>

namespace duet::ha::testing {
namespace {

#define EXPECT_CLEAN(cluster)                                                           \
  EXPECT_TRUE((cluster).violations().empty()) << (cluster).violations().front() << "\n" \
                                              << (cluster).history()

bool both_up(const Cluster& c) {
  return c.state(red) == NodeState::up && c.state(blue) == NodeState::up && c.serves(red, red) &&
         c.serves(blue, blue);
}
bool both_mirrored(const Cluster& c) {
  return both_up(c) && c.mode_in_mailbox(red) == Durability::mirrored &&
         c.mode_in_mailbox(blue) == Durability::mirrored;
}
bool survivor_serves_both(const Cluster& c, NodeId survivor) {
  return c.serves(survivor, red) && c.serves(survivor, blue) &&
         c.state(survivor) == NodeState::taken_over_partner;
}

void start(Cluster& c) {
  c.power_on(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  c.run_for(seconds(1));
  c.longest_pause(red);
  c.longest_pause(blue);
}

class Scenario : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  Options options(bool auto_giveback = false) const {
    Options o;
    o.seed = GetParam();
    o.auto_giveback = auto_giveback;
    return o;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Scenario, ::testing::Range<std::uint64_t>(1, 9));

TEST_P(Scenario, both_boot_and_mirror) {
  Cluster c(options());
  start(c);
  EXPECT_GT(c.acknowledged(red), 20U);
  EXPECT_GT(c.acknowledged(blue), 20U);
  EXPECT_EQ(c.boots(red), 1U);
  EXPECT_EQ(c.boots(blue), 1U);
  c.run_for(seconds(20));
  EXPECT_TRUE(both_mirrored(c)) << c.describe();
  EXPECT_FALSE(c.logged(red, "takeover.checking"));
  EXPECT_FALSE(c.logged(blue, "takeover.checking"));
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, panic_is_taken_over_at_once_and_given_back_by_order) {
  Cluster c(options());
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(milliseconds(300));
  EXPECT_LT(c.longest_pause(red), milliseconds(300)) << c.history();
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(seconds(2));
  EXPECT_TRUE(survivor_serves_both(c, blue)) << "no giveback without an order";
  c.longest_pause(red);
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(seconds(1));
  EXPECT_LT(c.longest_pause(red), milliseconds(300)) << c.history();
  ASSERT_EQ(c.answers.size(), 2U);
  EXPECT_EQ(c.answers[0].outcome, OperatorAnswer::Outcome::accepted);
  EXPECT_EQ(c.answers[1].outcome, OperatorAnswer::Outcome::done);
  c.run_for(seconds(10));
  EXPECT_FALSE(c.logged(blue, "giveback.retake")) << c.history();
  EXPECT_CLEAN(c);
}

// The partner may claim between the two copies of the survivor's mailbox write; its claim then
// aborts the rest of that write. Rare, hence many seeds.
TEST(Giveback, a_claim_between_the_copies_is_no_failure) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    Options o;
    o.seed = seed;
    o.auto_giveback = true;
    o.slow_per_100 = 30;
    o.timers.wait_poll = milliseconds(1);
    Cluster c(o);
    start(c);
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.stopped"); }, seconds(10)));
    c.run_for(seconds(4));
    ASSERT_FALSE(c.logged(blue, "giveback.retake")) << c.history();
    ASSERT_TRUE(both_up(c)) << c.history();
  }
}

TEST_P(Scenario, dead_node_is_taken_over_and_comes_home) {
  Cluster c(options(true));
  start(c);
  c.power_off(blue);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, red); }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(milliseconds(500));
  EXPECT_LT(c.longest_pause(blue), milliseconds(1500)) << c.history();
  c.run_for(seconds(3));
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  c.run_for(seconds(10));
  EXPECT_TRUE(both_mirrored(c));
  EXPECT_FALSE(c.logged(red, "giveback.retake")) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, paused_node_fences_itself_when_resumed) {
  Cluster c(options(true));
  start(c);
  c.pause(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(seconds(10));
  c.resume(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(red, "node.fenced"); }, seconds(1))) << c.history();
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, takeover_by_order) {
  Cluster c(options());
  start(c);
  c.order(blue, OperatorVerb::takeover, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  ASSERT_EQ(c.answers.size(), 2U);
  EXPECT_EQ(c.answers[0].outcome, OperatorAnswer::Outcome::accepted);
  EXPECT_EQ(c.answers[1].outcome, OperatorAnswer::Outcome::done);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, takeover_by_order_waits_for_the_lease_of_a_partner_that_cannot_hear) {
  auto o = options();
  o.client_interval = milliseconds(4);
  Cluster c(o);
  start(c);
  c.cut_link();
  for (std::uint8_t i = 0; i < c.options().disks; ++i) c.cut_path(red, {red, i});
  c.order(blue, OperatorVerb::takeover, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_FALSE(c.serves(red, red));
  c.run_for(seconds(3));
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, both_ordered_to_take_over_each_other) {
  Cluster c(options(true));
  start(c);
  c.cut_link();
  c.order(red, OperatorVerb::takeover, blue);
  c.order(blue, OperatorVerb::takeover, red);
  c.run_for(seconds(2));
  c.restore_link();
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, link_cut_alone_is_no_takeover_and_goes_write_through) {
  Cluster c(options());
  start(c);
  c.cut_link();
  c.run_for(seconds(5));
  EXPECT_TRUE(both_up(c)) << c.describe();
  EXPECT_EQ(c.mode_in_mailbox(red), Durability::write_through);
  EXPECT_EQ(c.mode_in_mailbox(blue), Durability::write_through);
  EXPECT_FALSE(c.logged(red, "takeover.checking"));
  EXPECT_FALSE(c.logged(blue, "takeover.checking"));
  c.restore_link();
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, both_paused_and_resumed_go_on) {
  Cluster c(options());
  start(c);
  c.pause(red);
  c.pause(blue);
  c.run_for(seconds(10));
  c.resume(red);
  c.resume(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_EQ(c.boots(red), 1U) << c.history();
  EXPECT_EQ(c.boots(blue), 1U);
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, halt_is_taken_over) {
  Cluster c(options());
  start(c);
  c.order(red, OperatorVerb::halt, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_LT(c.longest_pause(red), milliseconds(500));
  EXPECT_CLEAN(c);
}

}  // namespace
}  // namespace duet::ha::testing
