// Giveback by itself and without coordination, of a pair over simulated disks, link and engines
// (cluster.h). docs/protocols/giveback.md.
#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

using Outcome = OperatorAnswer::Outcome;
using Why = AutoGivebackPlan::Why;

// Red is powered off and taken over.
void start_without_red(Cluster& c) {
  start(c);
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  c.run_for(seconds(1));
}

class GivebackOf : public PairTest {
 protected:
  static std::uint64_t uncoordinated(Cluster& c) {
    return c.order(blue, {.verb = OperatorVerb::giveback, .node = red, .uncoordinated = true});
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, GivebackOf, ::testing::Range<std::uint64_t>(1, 6));

TEST_P(GivebackOf, without_coordination_the_outage_is_the_whole_boot) {
  Cluster c(options());
  start_without_red(c);
  auto request = c.order(blue, OperatorRequest{.verb = OperatorVerb::giveback, .node = red});
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::refused) << "it does not wait";
  request = uncoordinated(c);
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::accepted);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.mailbox_written"); }, seconds(5)))
      << c.history();
  EXPECT_TRUE(c.logged(blue, "giveback.uncoordinated"));
  EXPECT_TRUE(c.snapshot(blue).uncoordinated);
  EXPECT_EQ(c.mailbox(red)->taken_over_by, no_node);
  c.run_for(seconds(60));
  EXPECT_FALSE(c.serves(blue, red)) << "it does not take back";
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::accepted);
  c.power_on(red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::done);
  EXPECT_FALSE(c.logged(red, "boot.mbwait"));
  EXPECT_FALSE(c.logged(blue, "giveback.retake"));
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << "detection is armed again";
  EXPECT_CLEAN(c);
}

TEST_P(GivebackOf, uncoordinated_to_a_node_in_any_state_of_its_boot) {
  for (int ms = 0; ms < 1500; ms += 50) {
    auto o = options();
    o.boot_time = milliseconds(100);
    Cluster c(o);
    start(c);
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
    c.run_for(milliseconds(ms));
    auto request = uncoordinated(c);
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
        << ms << c.describe() << c.history();
    EXPECT_EQ(c.answer_to(request)->outcome, Outcome::done);
    EXPECT_CLEAN(c);
  }
}

TEST_P(GivebackOf, uncoordinated_and_never_booted_is_taken_back) {
  Cluster c(options());
  start_without_red(c);
  auto request = uncoordinated(c);
  c.run_for(seconds(100));
  EXPECT_FALSE(c.serves(blue, red));
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(30)))
      << c.history();
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::failed);
  // Or at once, by order.
  c.run_for(seconds(2));
  uncoordinated(c);
  c.run_for(seconds(5));
  EXPECT_FALSE(c.serves(blue, red));
  c.order(blue, OperatorVerb::takeover, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(2)))
      << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(GivebackOf, the_survivor_dies_after_an_uncoordinated_giveback) {
  Cluster c(options(true));
  start_without_red(c);
  uncoordinated(c);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.mailbox_written"); }, seconds(5)));
  c.power_off(blue);
  c.power_on(red);
  ASSERT_TRUE(c.run_until([&] { return c.serves(red, red); }, seconds(10))) << c.history();
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(GivebackOf, the_mailbox_is_read_at_once_or_a_poll_later) {
  for (bool lost : {false, true}) {
    auto o = options();
    o.timers.wait_poll = milliseconds(400);
    Cluster c(o);
    start(c);
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
    c.run_for(seconds(1));
    c.order(blue, OperatorVerb::giveback, red);
    ASSERT_TRUE(
        c.run_until([&] { return c.logged(blue, "giveback.mailbox_written"); }, seconds(5)));
    auto written = c.now();
    if (lost) {
      c.cut_link();
      c.run_for(milliseconds(5));
      c.restore_link();
    }
    ASSERT_TRUE(c.run_until([&] { return c.logged(red, "boot.claimed"); }, seconds(2)));
    if (!lost) EXPECT_LT(c.now() - written, milliseconds(150)) << c.history();
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(5))) << c.history();
    EXPECT_CLEAN(c);
  }
}

// Of either node: the one that waits for the other's giveback decides nothing.
TEST_P(GivebackOf, a_survivor_that_panics_meanwhile_serves_both_again_soon) {
  for (const auto* phase : {"giveback.stopping", "giveback.stopped"}) {
    Cluster c(options());
    start(c);
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
    c.run_for(seconds(1));
    c.order(blue, OperatorVerb::giveback, red);
    ASSERT_TRUE(c.run_until([&] { return c.logged(blue, phase); }, seconds(5)));
    c.panic_engine(blue);
    ASSERT_TRUE(c.run_until([&] { return !c.serves(blue, blue); }, seconds(1)));
    c.longest_pause(blue);
    ASSERT_TRUE(c.run_until(
        [&] { return c.serves(blue, blue) && (c.serves(blue, red) || c.serves(red, red)); },
        seconds(3)))
        << phase << c.describe() << c.history();
    c.run_for(milliseconds(300));
    EXPECT_LT(c.longest_pause(blue), milliseconds(1500)) << phase << c.history();
    EXPECT_CLEAN(c);
  }
}

// The claim has aborted the rest of the survivor's mailbox write, and nobody answers that.
TEST(Giveback, a_retake_does_not_wait_for_a_write_that_was_aborted) {
  EXPECT_MARK(mailbox_write_aborted);
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    Options o;
    o.seed = seed;
    o.auto_giveback = true;
    o.slow_per_100 = 80;
    o.timers.wait_poll = milliseconds(1);
    Cluster c(o);
    start(c);
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.log_count(red, "boot.claimed") == 2; }, seconds(20)));
    c.power_off(red);
    ASSERT_TRUE(c.run_until(
        [&] { return c.logged(blue, "giveback.retake") || c.logged(blue, "giveback.done"); },
        seconds(2)));
    bool retaken = !c.logged(blue, "giveback.done");
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); },
                            retaken ? milliseconds(1500) : seconds(5)))
        << c.history();
    c.run_for(seconds(3));
    EXPECT_CLEAN(c);
  }
}

TEST_P(GivebackOf, by_itself_after_the_delay) {
  auto o = options(true);
  o.rules.delay = seconds(5);
  Cluster c(o);
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  c.run_for(milliseconds(200));
  auto plan = c.snapshot(blue).auto_giveback;
  EXPECT_EQ(plan.why, Why::delay);
  EXPECT_GT(plan.at, c.now() + seconds(4));
  EXPECT_FALSE(c.run_until([&] { return c.logged(blue, "giveback.stopping"); },
                           plan.at - c.now() - milliseconds(20)));
  EXPECT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.stopping"); }, milliseconds(40)));
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(5)));
  EXPECT_CLEAN(c);
}

TEST_P(GivebackOf, what_was_taken_by_order_is_not_given_back_by_itself) {
  auto o = options(true);
  o.rules.after_order = false;
  Cluster c(o);
  start(c);
  c.order(blue, OperatorVerb::takeover, red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)));
  c.run_for(seconds(10));
  EXPECT_TRUE(survivor_serves_both(c, blue)) << c.history();
  EXPECT_EQ(c.snapshot(blue).auto_giveback.why, Why::by_order);
  EXPECT_EQ(c.snapshot(blue).next, "gives back when the operator says so");
  // Nor after a reboot of the survivor.
  c.power_off(blue);
  c.run_for(seconds(1));
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(10)))
      << c.describe();
  c.run_for(seconds(10));
  EXPECT_EQ(c.snapshot(blue).auto_giveback.why, Why::by_order);
  EXPECT_TRUE(survivor_serves_both(c, blue)) << c.history();
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
  // The next one is not ordered.
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.serving"); }, seconds(10)));
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(GivebackOf, a_partner_that_panics_again_and_again_has_to_wait) {
  auto o = options(true);
  o.rules.takeovers = 2;
  o.rules.window = seconds(30);
  Cluster c(o);
  start(c);
  for (int i = 0; i < 2; ++i) {
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.done"); }, seconds(5)));
    c.clear_log();
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(5)));
  }
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  auto plan = c.snapshot(blue).auto_giveback;
  EXPECT_EQ(plan.why, Why::ping_pong);
  EXPECT_EQ(plan.takeovers, 3U);
  EXPECT_FALSE(c.run_until([&] { return c.logged(blue, "giveback.done"); }, seconds(20)));
  // A reboot of the survivor's core does not make it forget.
  c.panic_engine(blue);
  ASSERT_TRUE(c.run_until([&] { return c.boots(blue) == 2; }, seconds(5)));
  c.run_for(seconds(3));
  if (c.snapshot(blue).takeover_step == "serving") {
    EXPECT_EQ(c.snapshot(blue).auto_giveback.why, Why::ping_pong);
    auto request = c.order(blue, OperatorRequest{.verb = OperatorVerb::giveback, .node = red});
    EXPECT_NE(c.answer_to(request)->outcome, Outcome::refused) << "the operator may";
  }
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(60))) << c.history();
  EXPECT_CLEAN(c);
}

}  // namespace
}  // namespace duet::ha::testing
