// Scenarios of a pair over simulated disks, link and engines (cluster.h). Every one also checks the
// invariants that the cluster watches all the while.
#include "ha/cluster_fixture.h"

#include <gtest/gtest.h>

#include "disk/areas.h"

namespace duet::ha::testing {
namespace {

class Scenario : public PairTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, Scenario, ::testing::Range<std::uint64_t>(1, 6));

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

TEST_P(Scenario, a_torn_mailbox_copy_costs_nothing) {
  for (int copy : {0, 1}) {
    Cluster c(options(true));
    c.tear_next_mailbox_write({red, 1}, copy);
    start(c);
    c.tear_next_mailbox_write({red, 0}, copy);
    c.panic_engine(red);
    ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.done"); }, seconds(10)))
        << c.describe() << c.history();
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.describe();
    EXPECT_CLEAN(c);
  }
}

TEST_P(Scenario, an_unknown_mailbox_is_never_served) {
  Cluster c(options());
  for (int i = 0; i < mailbox_disks; ++i) {
    for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
      c.disk({red, static_cast<std::uint8_t>(i)})
          .write(disk::mailbox_copy(copy).offset, std::vector<std::byte>(4096));
    }
  }
  c.power_on(red);
  c.power_on(blue);
  c.run_for(seconds(30));
  EXPECT_FALSE(c.serves(red, red));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_TRUE(c.serves(blue, blue));
  EXPECT_EQ(c.snapshot(red).why, Reason::mailbox_unknown);
  EXPECT_EQ(c.snapshot(blue).takeover_obstacle, Reason::mailbox_unknown);
  c.order(blue, OperatorVerb::takeover, red, true);
  c.run_for(seconds(3));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_EQ(c.answers.back().outcome, OperatorAnswer::Outcome::refused);
}

TEST_P(Scenario, a_shelf_without_power_for_a_moment) {
  Cluster c(options(true));
  start(c);
  c.blip(red, false);
  c.run_for(seconds(2));
  EXPECT_TRUE(both_mirrored(c));
  EXPECT_EQ(c.boots(red), 1U);
  EXPECT_EQ(c.log_count(red, "node.fenced"), 0U);
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, a_disk_that_lost_its_path_forbids_the_takeover_until_it_is_back) {
  Cluster c(options(true));
  start(c);
  c.cut_path(blue, {red, 3});
  c.run_for(milliseconds(200));
  EXPECT_EQ(c.snapshot(blue).takeover_obstacle, Reason::partner_disks_unreachable);
  c.power_off(red);
  c.run_for(seconds(5));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_TRUE(c.logged(blue, "takeover.refused"));
  EXPECT_FALSE(c.logged(blue, "takeover.window_closed")) << "T7: nothing was changed";
  c.restore_path(blue, {red, 3});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, one_lost_mailbox_disk_does_not_stop_the_heartbeat) {
  Cluster c(options());
  start(c);
  c.cut_path(red, {red, 1});
  c.run_for(seconds(5));
  EXPECT_TRUE(c.serves(red, red));
  EXPECT_EQ(c.boots(red), 1U);
  c.cut_path(red, {red, 2});
  c.run_for(seconds(2));
  EXPECT_FALSE(c.serves(red, red)) << "no majority, no lease";
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, unmirrored_writes_stay_with_the_node_that_has_them) {
  Cluster c(options(true));
  start(c);
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  ASSERT_TRUE(
      c.run_until([&] { return c.mode_in_mailbox(blue) == Durability::local; }, seconds(5)));
  c.run_for(seconds(1));
  c.power_off(blue);
  c.power_on(red);
  c.run_for(seconds(30));  // only blue has the acknowledged writes of both
  EXPECT_FALSE(c.serves(red, red));
  EXPECT_FALSE(c.serves(red, blue));
  EXPECT_EQ(c.state(red), NodeState::givewait);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, the_operator_may_accept_the_loss_of_a_survivor_that_is_gone_for_good) {
  Cluster c(options());
  start(c);
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  c.power_off(blue);
  c.power_on(red);
  c.run_for(seconds(2));
  c.order(red, OperatorVerb::giveback, red);
  EXPECT_EQ(c.answers.back().outcome, OperatorAnswer::Outcome::refused);
  EXPECT_FALSE(c.serves(red, red));
  c.order(red, OperatorVerb::giveback, red, true);
  ASSERT_TRUE(c.run_until([&] { return c.serves(red, red); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_TRUE(c.logged(red, "boot.forced"));
}

TEST_P(Scenario, a_lost_nvram_is_noticed_and_the_mirror_is_taken) {
  Cluster c(options(true));
  start(c);
  c.power_off(red);
  c.lose_nvram(red);
  c.power_on(red);  // before blue has noticed
  ASSERT_TRUE(
      c.run_until([&] { return both_mirrored(c) && c.logged(blue, "giveback.done"); }, seconds(20)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, cold_start_of_one_node_takes_over_what_is_safe) {
  Cluster c(options(true));
  start(c);
  c.cut_link();
  ASSERT_TRUE(
      c.run_until([&] { return c.mode_in_mailbox(red) == Durability::write_through; }, seconds(5)));
  c.power_off(red);
  c.power_off(blue);
  c.run_for(seconds(1));
  c.power_on(blue);
  c.run_for(seconds(8));
  EXPECT_FALSE(c.serves(blue, red)) << "not before cold_start_wait";
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(8)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Scenario, refusals_change_nothing_and_say_why) {
  Cluster c(options());
  start(c);
  struct Row {
    NodeId at;
    OperatorVerb verb;
    NodeId about;
    Reason why;
  };
  for (const auto& row : {Row{red, OperatorVerb::giveback, blue, Reason::not_taken_over},
                          Row{red, OperatorVerb::giveback, red, Reason::ask_the_partner},
                          Row{red, OperatorVerb::halt, blue, Reason::ask_the_node},
                          Row{red, OperatorVerb::takeover, NodeId(3), Reason::no_such_node}}) {
    c.order(row.at, row.verb, row.about);
    ASSERT_FALSE(c.answers.empty());
    EXPECT_EQ(c.answers.back().outcome, OperatorAnswer::Outcome::refused);
    ASSERT_EQ(c.answers.back().reasons.size(), 1U);
    EXPECT_EQ(c.answers.back().reasons[0], sentence(row.why));
  }
  c.order(blue, OperatorVerb::takeover, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  c.order(blue, OperatorVerb::takeover, red);
  EXPECT_EQ(c.answers.back().reasons[0], sentence(Reason::already_taken_over));
  c.order(blue, OperatorVerb::halt, blue);
  EXPECT_EQ(c.answers.back().reasons[0], sentence(Reason::serves_partner));
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  c.order(red, OperatorVerb::takeover, blue);
  EXPECT_EQ(c.answers.back().reasons[0], sentence(Reason::not_up));
  c.power_off(red);
  c.run_for(seconds(1));
  c.order(blue, OperatorVerb::giveback, red);
  EXPECT_EQ(c.answers.back().outcome, OperatorAnswer::Outcome::refused);
  EXPECT_CLEAN(c);
}

// B6, seen from outside: after a pause a core reads its reservations before it writes anything.
TEST(Core, a_resumed_node_looks_at_its_disks_first) {
  Options o;
  Cluster c(o);
  start(c);
  std::vector<std::string> first;
  c.pause(red);
  c.pause(blue);
  c.run_for(seconds(5));
  c.resume(red);
  c.resume(blue);
  ASSERT_TRUE(c.run_until([&] { return c.logged(red, "node.paused"); }, seconds(1)));
  EXPECT_TRUE(c.snapshot(red).suspended);
  EXPECT_FALSE(c.serves(red, red));
  ASSERT_TRUE(
      c.run_until([&] { return c.serves(red, red) && !c.snapshot(red).suspended; }, seconds(1)));
  EXPECT_CLEAN(c);
}

// Events that nobody asked for, in every state a node goes through: no crash, nothing lost.
TEST(Core, stray_events_in_every_state) {
  const std::vector<Event> strays{
      Started{},
      TimerExpired{1},
      TimerExpired{99},
      DiskCompleted{CommandId(1u << 30), DiskReply{}},
      DiskCompleted{CommandId(1u << 30), fail(ErrorCode::reservation_conflict, "")},
      DiskConnection{{NodeId(7), 3}, true},
      DiskConnection{{red, 200}, false},
      DiskAttention{{red, 0}, ports::Attention::registrations_preempted},
      DiskAttention{{blue, 1}, ports::Attention::power_on_or_reset},
      DiskAttention{{NodeId(0), 77}, ports::Attention::other},
      PartnerStateRead{fail(ErrorCode::timed_out, "")},
      PartnerStateRead{std::vector<std::byte>(128)},
      PartnerStateRead{std::vector<std::byte>(5000)},
      MessageArrived{{}},
      MessageArrived{std::vector<std::byte>(64)},
      MirrorWindowClosed{},
      IdentityPrepared{blue, false, "stray"},
      IdentityPrepared{red, true, {}},
      IdentityHandedOver{blue, 3},
      HandOverFailed{red, "stray"},
      IdentityReleased{red},
      ReleaseFailed{blue, "stray"},
      EngineFenced{NodeId(9)},
      DumpChanged{false},
      DumpChanged{true},
      DiskNeeded{NodeId(9), {}},
      DiskNeeded{red, {}},
      DiskNeeded{blue, {}},
      FreeSpares{~std::uint64_t{0}},
      DumpCollection{{NodeId(0), 0}, 1, 2, false},
      DumpCollection{{blue, 255}, 1, 2, true},
      DurabilityWanted{NodeId(0), Durability::local, LogSequence(1)},
      OperatorRequest{
          .request = 1, .verb = OperatorVerb::giveback, .node = NodeId(200), .force = true},
      LinkChanged{ports::LinkState::wrong_cluster}};
  for (std::size_t i = 0; i < strays.size(); ++i) {
    bool lies = std::holds_alternative<IdentityReleased>(strays[i]) ||
                std::holds_alternative<ReleaseFailed>(strays[i]) ||
                std::holds_alternative<MirrorWindowClosed>(strays[i]);
    Options o;
    o.seed = i + 1;
    o.auto_giveback = true;
    Cluster c(o);
    std::uint64_t n = 0;
    bool giving = false;
    c.on_handled = [&](NodeId node, const Event&) {
      if (giving || ++n % 7 != 0) return;
      // Those would be lies of the shell about its engine while an answer is awaited.
      // for.
      if (lies && c.boots(red) > 1) return;
      giving = true;
      c.send(node, strays[i]);
      giving = false;
    };
    c.power_on(red);
    c.power_on(blue);
    c.run_for(seconds(2));
    c.panic_engine(red);
    c.run_for(seconds(4));
    c.power_off(blue);
    c.run_for(seconds(3));
    c.power_on(blue);
    c.run_for(seconds(3));
    c.on_handled = nullptr;
    c.send(red, LinkChanged{ports::LinkState::ready});
    c.send(blue, LinkChanged{ports::LinkState::ready});
    EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(30)))
        << "stray " << i << "\n"
        << c.describe() << c.history();
    if (!lies) {
      EXPECT_TRUE(c.violations().empty()) << "stray " << i << ": " << c.violations().front();
    }
  }
}

}  // namespace
}  // namespace duet::ha::testing
