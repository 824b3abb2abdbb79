// Planned moves of a pair over simulated disks, link and engines (cluster.h): handing over,
// cancelling, failing, and both at once. P1..P6: docs/protocols/graceful_takeover.md.
#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

using Outcome = OperatorAnswer::Outcome;

class Graceful : public PairTest {
 protected:
  static std::uint64_t take_over(Cluster& c, NodeId at, NodeId who,
                                 Duration countdown = seconds(30), bool force = false) {
    return c.order(
        at, OperatorRequest{
                .verb = OperatorVerb::takeover, .node = who, .force = force, .timeout = countdown});
  }
  static std::uint64_t cancel(Cluster& c, NodeId at, NodeId who) {
    return c.order(at, OperatorRequest{.verb = OperatorVerb::cancel, .node = who});
  }
  static Outcome outcome(const Cluster& c, std::uint64_t request) {
    auto answer = c.answer_to(request);
    EXPECT_TRUE(answer) << c.history();
    return answer ? answer->outcome : Outcome::failed;
  }
  static std::string reasons(const Cluster& c, std::uint64_t request) {
    std::string all;
    for (const auto& r : c.answer_to(request)->reasons) all += r + "|";
    return all;
  }
  static bool has(const Cluster& c, std::uint64_t request, Reason reason) {
    return reasons(c, request).find(sentence(reason)) != std::string::npos;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Graceful, ::testing::Range<std::uint64_t>(1, 9));

// Chaos with real processes: the partner that hands over has stopped, but its next boot serves by
// the time we notice (T8).
TEST_P(Graceful, the_survivor_is_paused_until_the_next_boot_of_the_other_serves) {
  EXPECT_MARK(takeover_of_a_boot_unheard_of);
  Cluster c(options());
  start(c);
  take_over(c, blue, red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(red, "departure.handed_over"); }, seconds(5)));
  c.pause(blue);
  auto boots = c.boots(red);
  ASSERT_TRUE(c.run_until([&] { return c.boots(red) > boots && c.serves(red, red); }, seconds(10)))
      << c.history();
  c.run_for(milliseconds(300));
  c.resume(blue);
  c.run_for(seconds(5));
  EXPECT_CLEAN(c);
  EXPECT_NE(c.serves(red, red), c.serves(blue, red)) << c.history();
}

TEST_P(Graceful, ordered_at_the_partner) {
  Cluster c(options());
  start(c);
  auto epoch = c.mailbox(red)->epoch;
  auto request = take_over(c, blue, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(milliseconds(200));
  EXPECT_LT(c.longest_pause(red), milliseconds(250)) << c.history();
  EXPECT_EQ(outcome(c, request), Outcome::done);
  EXPECT_EQ(c.mailbox(red)->epoch, epoch.next());
  EXPECT_FALSE(c.logged(blue, "takeover.forced_shutdown"));
  EXPECT_TRUE(c.logged(red, "departure.handed_over"));
  EXPECT_FALSE(c.prepared(blue));
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(5))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, ordered_at_the_node_that_goes) {
  Cluster c(options());
  start(c);
  auto request = take_over(c, red, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  c.run_for(milliseconds(500));
  EXPECT_EQ(outcome(c, request), Outcome::done);
  EXPECT_TRUE(c.logged(red, "departure.handed_over"));
  EXPECT_FALSE(c.logged(blue, "takeover.forced_shutdown"));
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, a_hung_drain_costs_the_countdown_and_nothing_else) {
  auto o = options(true);
  o.hand_over_hangs = true;
  Cluster c(o);
  start(c);
  EXPECT_MARK(takeover_countdown_over);
  auto begin = c.now();
  auto request = take_over(c, blue, red, seconds(2));
  c.run_for(milliseconds(1900));
  EXPECT_EQ(c.state(red), NodeState::shutting_down);
  EXPECT_EQ(c.snapshot(blue).partner_verdict, Verdict::alive);
  ASSERT_TRUE(c.snapshot(blue).countdown_left);
  EXPECT_LT(*c.snapshot(blue).countdown_left, milliseconds(300));
  EXPECT_LT(*c.snapshot(red).countdown_left, milliseconds(300));
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  EXPECT_LT(c.now() - begin, milliseconds(2600)) << c.history();
  EXPECT_TRUE(c.logged(red, "node.forced_down"));
  EXPECT_EQ(outcome(c, request), Outcome::done);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, cancelled_at_the_partner) {
  auto o = options();
  o.hand_over = seconds(2);
  Cluster c(o);
  start(c);
  auto epoch = c.mailbox(red)->epoch;
  auto request = take_over(c, blue, red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::shutting_down; }, seconds(2)));
  EXPECT_TRUE(c.snapshot(blue).may_cancel);
  EXPECT_TRUE(c.snapshot(red).may_cancel);
  auto cancelled = cancel(c, blue, red);
  ASSERT_TRUE(
      c.run_until([&] { return c.answer_to(cancelled)->outcome == Outcome::done; }, seconds(1)))
      << c.history();
  EXPECT_EQ(outcome(c, request), Outcome::failed);
  EXPECT_TRUE(has(c, request, Reason::cancelled));
  EXPECT_EQ(c.state(red), NodeState::up);
  EXPECT_FALSE(c.prepared(blue));
  c.run_for(seconds(5));
  EXPECT_TRUE(both_mirrored(c)) << c.history();
  EXPECT_EQ(c.boots(red), 1U);
  EXPECT_EQ(c.mailbox(red)->epoch, epoch) << "P5";
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, cancelled_at_the_node_that_goes) {
  for (bool asked_here : {false, true}) {
    auto o = options();
    o.hand_over = seconds(2);
    Cluster c(o);
    start(c);
    auto request = asked_here ? take_over(c, red, red) : take_over(c, blue, red);
    ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::shutting_down; }, seconds(2)));
    auto cancelled = cancel(c, red, red);
    ASSERT_TRUE(
        c.run_until([&] { return c.answer_to(cancelled)->outcome == Outcome::done; }, seconds(1)))
        << c.history();
    c.run_for(seconds(1));
    EXPECT_EQ(outcome(c, request), Outcome::failed);
    EXPECT_TRUE(has(c, request, Reason::cancelled));
    EXPECT_TRUE(c.answer_to(cancelled)->reasons.empty()) << "the partner was told";
    c.run_for(seconds(35));
    EXPECT_TRUE(both_mirrored(c)) << c.history();
    EXPECT_EQ(c.boots(red), 1U);
    EXPECT_FALSE(c.prepared(blue));
    EXPECT_EQ(c.snapshot(blue).takeover_step, "idle");
    EXPECT_CLEAN(c);
  }
}

TEST_P(Graceful, cancelled_while_warming_or_asking) {
  for (auto at : {red, blue}) {
    auto o = options();
    o.prepare = seconds(1);
    Cluster c(o);
    start(c);
    auto request = take_over(c, red, red);
    ASSERT_TRUE(
        c.run_until([&] { return c.snapshot(blue).takeover_step == "warming"; }, seconds(2)));
    EXPECT_TRUE(c.snapshot(blue).asked_by_partner);
    EXPECT_EQ(c.snapshot(red).departure_step, "asking");
    auto cancelled = cancel(c, at, red);
    EXPECT_EQ(outcome(c, cancelled), Outcome::done);
    c.run_for(seconds(16));
    EXPECT_NE(outcome(c, request), Outcome::done);
    EXPECT_TRUE(has(c, request, Reason::cancelled)) << reasons(c, request) << c.history();
    EXPECT_TRUE(both_mirrored(c)) << c.history();
    EXPECT_FALSE(c.prepared(blue));
    EXPECT_EQ(c.boots(red), 1U);
    EXPECT_CLEAN(c);
  }
}

// Either the cancellation is in time and nothing happened, or it is refused and the takeover goes
// on.
TEST_P(Graceful, cancelled_at_every_moment) {
  for (int ms = 0; ms < 130; ms += 3) {
    for (auto at : {red, blue}) {
      Cluster c(options(true));
      start(c);
      auto request = take_over(c, blue, red);
      c.run_for(milliseconds(ms));
      auto cancelled = cancel(c, at, red);
      c.run_until([&] { return c.answer_to(cancelled)->outcome != Outcome::accepted; }, seconds(6));
      c.run_for(seconds(1));
      auto end = outcome(c, cancelled);
      EXPECT_NE(end, Outcome::accepted);
      if (end == Outcome::done) {
        c.run_for(seconds(2));
        EXPECT_TRUE(both_mirrored(c)) << ms << c.history();
        EXPECT_EQ(outcome(c, request), Outcome::failed);
        EXPECT_EQ(c.boots(red), 1U) << ms << c.history();
      } else if (outcome(c, request) == Outcome::done) {
        EXPECT_GT(c.boots(red), 1U);
      }
      EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
      EXPECT_FALSE(c.prepared(blue));
      EXPECT_CLEAN(c);
      if (HasFailure()) return;
    }
  }
}

TEST_P(Graceful, a_node_that_cannot_hand_over_serves_on) {
  auto o = options();
  o.hand_over_fails_per_100 = 100;
  Cluster c(o);
  start(c);
  auto request = take_over(c, blue, red);
  ASSERT_TRUE(c.run_until(
      [&] { return c.answer_to(request) && outcome(c, request) == Outcome::failed; }, seconds(5)));
  EXPECT_TRUE(has(c, request, Reason::hand_over_failed));
  c.run_for(seconds(3));
  EXPECT_TRUE(both_mirrored(c));
  EXPECT_EQ(c.boots(red), 1U);
  EXPECT_FALSE(c.prepared(blue));
  request = take_over(c, blue, red, seconds(30), true);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.history();
  EXPECT_EQ(outcome(c, request), Outcome::done);
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, a_partner_that_cannot_prepare_refuses) {
  auto o = options();
  o.prepare_fails_per_100 = 100;
  Cluster c(o);
  start(c);
  auto request = take_over(c, red, red);
  c.run_for(seconds(1));
  EXPECT_EQ(outcome(c, request), Outcome::refused);
  EXPECT_TRUE(has(c, request, Reason::not_prepared));
  EXPECT_TRUE(both_mirrored(c)) << "P1";
  request = c.order(
      blue,
      OperatorRequest{.verb = OperatorVerb::takeover, .node = red, .overrides = {"not_prepared"}});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.history();
  EXPECT_EQ(outcome(c, request), Outcome::done);
  EXPECT_CLEAN(c);
}

// The takeover goes on without the preparation; its answer comes too late, and changes nothing.
TEST_P(Graceful, the_node_dies_before_the_survivor_is_prepared) {
  auto o = options(true);
  o.prepare = milliseconds(800);
  for (bool fails : {false, true}) {
    o.prepare_fails_per_100 = fails ? 100 : 0;
    Cluster c(o);
    start(c);
    c.order(blue, OperatorVerb::takeover, red);
    ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.warming"); }, seconds(5)));
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, milliseconds(350)))
        << c.history();
    c.run_for(seconds(2));  // IdentityPrepared
    EXPECT_TRUE(both_mirrored(c) || survivor_serves_both(c, blue)) << c.describe();
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
    EXPECT_FALSE(c.prepared(blue));
    EXPECT_CLEAN(c);
  }
}

TEST_P(Graceful, both_directions_at_once) {
  for (int ms = -60; ms <= 60; ms += 5) {
    Cluster c(options(true));
    start(c);
    auto one = take_over(c, ms < 0 ? blue : red, ms < 0 ? red : blue);
    c.run_for(milliseconds(std::abs(ms)));
    auto two = take_over(c, ms < 0 ? red : blue, ms < 0 ? blue : red);
    c.run_for(seconds(4));
    int done = 0;
    for (auto request : {one, two}) {
      done += outcome(c, request) == Outcome::done ? 1 : 0;
      EXPECT_NE(outcome(c, request), Outcome::accepted) << ms << c.history();
    }
    EXPECT_EQ(done, 1) << ms << c.history();
    EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
    EXPECT_FALSE(c.logged(blue, "takeover.forced_shutdown")) << c.history();
    EXPECT_FALSE(c.logged(red, "takeover.forced_shutdown")) << c.history();
    EXPECT_CLEAN(c);
    if (HasFailure()) return;
  }
}

TEST_P(Graceful, a_partner_that_dies_while_it_counts_down) {
  for (bool panic : {false, true}) {
    auto o = options(true);
    o.hand_over = seconds(3);
    Cluster c(o);
    start(c);
    take_over(c, blue, red);
    ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::shutting_down; }, seconds(2)));
    EXPECT_MARK(departure_deserted);
    panic ? c.panic_engine(blue) : c.power_off(blue);
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, red); }, seconds(5)))
        << c.describe() << c.history();
    EXPECT_EQ(c.boots(red), 1U);
    c.power_on(blue);
    EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(15))) << c.history();
    EXPECT_CLEAN(c);
  }
}

TEST_P(Graceful, both_die_after_the_node_has_left) {
  Cluster c(options(true));
  start(c);
  take_over(c, blue, red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(red, "departure.handed_over"); }, seconds(2)));
  c.power_off(blue);
  // Nobody has fenced red yet: it boots again by itself.
  ASSERT_TRUE(c.run_until([&] { return c.serves(red, red) && c.boots(red) == 2; }, seconds(8)))
      << c.describe() << c.history();
  c.power_on(blue);
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, a_link_cut_during_the_countdown) {
  auto o = options(true);
  o.hand_over = seconds(30);
  Cluster c(o);
  start(c);
  auto request = take_over(c, blue, red, seconds(4));
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::shutting_down; }, seconds(2)));
  c.cut_link();
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::up; }, seconds(2)))
      << "it hears nothing and serves on" << c.history();
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(6)));
  EXPECT_EQ(outcome(c, request), Outcome::done);
  c.restore_link();
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, refusals_name_their_reasons) {
  Cluster c(options());
  start(c);
  auto request = cancel(c, blue, red);
  EXPECT_TRUE(has(c, request, Reason::no_takeover_under_way));
  request = cancel(c, red, red);
  EXPECT_TRUE(has(c, request, Reason::no_takeover_under_way));
  request = c.order(
      blue, OperatorRequest{.verb = OperatorVerb::takeover, .node = red, .overrides = {"weather"}});
  EXPECT_EQ(outcome(c, request), Outcome::refused);
  EXPECT_NE(reasons(c, request).find("not_prepared"), std::string::npos) << reasons(c, request);
  c.cut_path(blue, {red, 0});
  c.run_for(milliseconds(200));
  request = take_over(c, red, red);
  c.run_for(seconds(1));
  EXPECT_EQ(outcome(c, request), Outcome::refused);
  EXPECT_TRUE(has(c, request, Reason::partner_disks_unreachable));
  c.cut_link();
  c.run_for(seconds(1));
  request = take_over(c, red, red);
  EXPECT_TRUE(has(c, request, Reason::no_answer));
  EXPECT_TRUE(c.serves(red, red)) << "P1";
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, halted_for_maintenance) {
  Cluster c(options());
  start(c);
  auto request =
      c.order(red, OperatorRequest{.verb = OperatorVerb::halt, .node = red, .no_takeover = true});
  ASSERT_TRUE(c.run_until([&] { return c.halted(red); }, seconds(5))) << c.history();
  EXPECT_EQ(outcome(c, request), Outcome::done);
  EXPECT_EQ(c.mailbox(red)->intent, Intent::halt_no_takeover);
  c.run_for(seconds(30));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_EQ(c.log_count(blue, "takeover.refused"), 1U) << "said once, tried every second";
  EXPECT_EQ(c.snapshot(blue).takeover_obstacle, Reason::halt_without_takeover);
  // Nor after a reboot of the partner.
  c.power_off(blue);
  c.power_on(blue);
  c.run_for(seconds(30));
  EXPECT_TRUE(c.serves(blue, blue));
  EXPECT_FALSE(c.serves(blue, red));
  c.power_off(red);
  c.power_on(red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
  EXPECT_EQ(c.mailbox(red)->intent, Intent::none);
  EXPECT_CLEAN(c);
}

TEST_P(Graceful, maintenance_may_be_overridden) {
  Cluster c(options());
  start(c);
  c.order(red, OperatorRequest{.verb = OperatorVerb::halt, .node = red, .no_takeover = true});
  ASSERT_TRUE(c.run_until([&] { return c.halted(red); }, seconds(5))) << c.history();
  c.run_for(seconds(2));
  auto request = take_over(c, blue, red);
  c.run_for(seconds(1));
  EXPECT_TRUE(has(c, request, Reason::halt_without_takeover));
  request = c.order(blue, OperatorRequest{.verb = OperatorVerb::takeover,
                                          .node = red,
                                          .overrides = {"halt_without_takeover"}});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.history();
  EXPECT_EQ(outcome(c, request), Outcome::done);
  EXPECT_CLEAN(c);
}

}  // namespace
}  // namespace duet::ha::testing
