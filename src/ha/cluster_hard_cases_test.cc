// Cases of docs/protocols/hard_cases.md that need a pair: double failures, damaged and foreign
// mailboxes, a node that asks to be taken over (cluster.h).
#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "base/crc32c.h"
#include "disk/areas.h"
#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

using Outcome = OperatorAnswer::Outcome;

class HardCase : public PairTest {
 protected:
  static void damage(Cluster& c, DiskRef disk) {
    for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
      c.disk(disk).write(disk::mailbox_copy(copy).offset, std::vector<std::byte>(4096));
    }
  }
  // As a newer Duet would write it.
  static void make_newer(Cluster& c, NodeId identity) {
    for (std::uint8_t i = 0; i < mailbox_disks; ++i) {
      for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
        auto block = c.disk({identity, i}).read(disk::mailbox_copy(copy).offset);
        store_le(block.data() + 8, std::uint32_t{2});
        store_le(block.data() + 12, std::uint32_t{0});
        store_le(block.data() + 12, crc32c(block));
        c.disk({identity, i}).write(disk::mailbox_copy(copy).offset, block);
      }
    }
  }
  static HealthRecord report(Module module, Health health) {
    HealthRecord r;
    r.health = health;
    r.modules = {{module, health, Finding::none, ""}};
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, HardCase, ::testing::Range<std::uint64_t>(1, 6));

TEST_P(HardCase, the_survivor_of_a_takeover_reboots_and_serves_both_again) {
  Cluster c(options());
  start(c);
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  c.run_for(seconds(1));
  EXPECT_MARK(takeover_resumed);
  c.power_off(blue);
  c.run_for(milliseconds(500));
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, the_survivor_panics_while_the_repaired_node_waits) {
  Cluster c(options());
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  c.run_for(seconds(1));
  c.panic_engine(blue);
  ASSERT_TRUE(c.run_until([&] { return c.boots(blue) == 2; }, seconds(5)));
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(10)))
      << "red may not serve: what blue acknowledged for it is in blue's NVRAM" << c.describe()
      << c.history();
  c.run_for(seconds(1));
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.history();
  EXPECT_CLEAN(c);
}

// B8, I6. Red was only held up: it serves on, and its hold does not mind another's registration.
TEST_P(HardCase, a_fencing_that_had_just_begun_leaves_no_registration_behind) {
  Cluster c(options(true));
  start(c);
  c.pause(red);
  ASSERT_TRUE(c.run_until([&] { return c.disk({red, 0}).registered({blue}); }, seconds(5)));
  c.power_off(blue);
  c.resume(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_EQ(c.boots(red), 1U);
  EXPECT_FALSE(c.left_registered(red)) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, a_fencing_that_fails_leaves_no_registration_behind) {
  Cluster c(options(true));
  start(c);
  c.pause(red);
  ASSERT_TRUE(c.run_until([&] { return c.disk({red, 0}).registered({blue}); }, seconds(5)));
  c.cut_path(blue, {red, 0});
  c.resume(red);
  c.run_for(seconds(2));
  EXPECT_TRUE(c.left_registered(red));  // nobody can take it away
  c.restore_path(blue, {red, 0});
  EXPECT_TRUE(c.run_until([&] { return !c.left_registered(red); }, seconds(5))) << c.history();
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_EQ(c.boots(red), 1U);
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, both_lose_power_and_come_back_together) {
  for (int skew : {0, 50, 400, 2000}) {
    Cluster c(options(true));
    start(c);
    c.power_off(red);
    c.power_off(blue);
    c.run_for(seconds(5));
    auto first = GetParam() % 2 == 0 ? red : blue;
    c.power_on(first);
    c.run_for(milliseconds(skew));
    c.power_on(partner_of(first));
    ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
        << skew << c.describe() << c.history();
    EXPECT_CLEAN(c);
  }
}

TEST_P(HardCase, one_returns_alone_with_the_mirror_of_the_other) {
  Cluster c(options(true));
  start(c);
  c.power_off(red);
  c.power_off(blue);
  c.run_for(seconds(5));
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(20)))
      << c.describe() << c.history();
  c.power_on(red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, a_mailbox_disk_that_holds_nothing_valid_is_repaired) {
  for (std::uint8_t disks : {2, 3, 4}) {
    for (std::uint8_t damaged = 0; damaged < std::min<int>(disks, mailbox_disks); ++damaged) {
      auto o = options(true);
      o.disks = disks;
      Cluster c(o);
      start(c);
      c.power_off(red);
      c.power_off(blue);
      damage(c, {red, damaged});
      c.power_on(red);
      c.power_on(blue);
      ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
          << int{disks} << c.describe() << c.history();
      c.run_for(milliseconds(500));  // the last write reaches every disk
      auto block = c.disk({red, damaged}).read(disk::mailbox_copy(0).offset);
      ASSERT_TRUE(decode_mailbox(block));
      EXPECT_EQ(decode_mailbox(block)->generation, c.mailbox(red)->generation);
      EXPECT_CLEAN(c);
    }
  }
}

TEST_P(HardCase, a_disk_with_an_older_mailbox_does_not_turn_back_the_epoch) {
  Cluster c(options(true));
  start(c);
  auto old = c.disk({red, 1}).read(disk::mailbox_copy(0).offset);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.done"); }, seconds(10)));
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)));
  auto epoch = c.mailbox(red)->epoch;
  c.power_off(red);
  c.power_off(blue);
  for (std::uint8_t disk : {1, 2}) {
    for (int copy : {0, 1}) c.disk({red, disk}).write(disk::mailbox_copy(copy).offset, old);
  }
  c.power_on(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20))) << c.history();
  EXPECT_GT(c.mailbox(red)->epoch, epoch);
  for (std::uint8_t disk : {0, 1, 2}) {
    auto m = decode_mailbox(c.disk({red, disk}).read(disk::mailbox_copy(1).offset));
    ASSERT_TRUE(m);
    EXPECT_EQ(m->epoch, c.mailbox(red)->epoch) << "rewritten everywhere";
  }
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, a_mailbox_of_another_version_holds_everything) {
  Cluster c(options());
  start(c);
  c.power_off(red);
  make_newer(c, red);
  c.run_for(seconds(5));
  EXPECT_FALSE(c.serves(blue, red));
  EXPECT_EQ(c.snapshot(blue).last_refusal, Reason::version_mismatch);
  auto request =
      c.order(blue, OperatorRequest{.verb = OperatorVerb::takeover, .node = red, .force = true});
  c.run_for(seconds(1));
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::refused);
  c.power_on(red);
  c.run_for(seconds(10));
  EXPECT_FALSE(c.serves(red, red));
  EXPECT_EQ(c.snapshot(red).why, Reason::version_mismatch);
}

TEST_P(HardCase, a_damaged_mirror_is_found_before_anything_is_changed) {
  Cluster c(options(true));
  start(c);
  auto before = *c.mailbox(red);
  c.damage_log(blue, red);
  EXPECT_MARK(takeover_log_damaged);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.refused"); }, seconds(5)));
  EXPECT_EQ(c.snapshot(blue).last_refusal, Reason::log_damaged);
  EXPECT_FALSE(c.logged(blue, "takeover.fenced"));
  EXPECT_EQ(c.mailbox(red), before);
  // Its own log is whole: it serves again by itself, nothing is lost, and the mirror is made anew.
  ASSERT_TRUE(c.run_until([&] { return c.boots(red) == 2 && both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_LT(c.longest_pause(red), seconds(2)) << "nobody waits for a decision that has been made";
  c.run_for(seconds(2));  // the mailbox says what it said before until the new mirror is complete
  ASSERT_TRUE(both_mirrored(c)) << c.describe() << c.history();
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, the_operator_may_accept_the_loss_of_a_damaged_mirror) {
  Cluster c(options());
  start(c);
  c.damage_log(blue, red);
  c.power_off(red);
  c.run_for(seconds(5));
  EXPECT_FALSE(c.serves(blue, red));
  auto take = [&](std::vector<std::string> overrides) {
    return c.order(
        blue, {.verb = OperatorVerb::takeover, .node = red, .overrides = std::move(overrides)});
  };
  auto request = take({});
  c.run_for(seconds(1));
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::refused);
  request = take({"log_damaged"});
  ASSERT_TRUE(c.run_until([&] { return c.serves(blue, red); }, seconds(5))) << c.history();
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::done);
  EXPECT_TRUE(c.logged(blue, "takeover.forced"));
}

TEST_P(HardCase, a_refused_takeover_looks_again_when_the_reason_is_gone) {
  Cluster c(options());
  start(c);
  c.cut_path(blue, {red, 3});
  c.run_for(milliseconds(100));
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.refused"); }, seconds(5)));
  c.restore_path(blue, {red, 3});
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.fenced"); }, milliseconds(300)))
      << c.history();
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)));
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, missing_disks_are_named) {
  Cluster c(options());
  c.cut_path(red, {red, 3});
  c.power_on(red);
  c.power_on(blue);
  c.run_for(seconds(2));
  EXPECT_EQ(c.snapshot(red).why, Reason::disks_missing);
  EXPECT_EQ(c.snapshot(red).identities[0].missing_disks, std::vector<std::uint8_t>{3});
  c.restore_path(red, {red, 3});
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)));
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, a_node_without_its_clients_network_asks_to_be_taken_over) {
  Cluster c(options(true));
  start(c);
  EXPECT_MARK(core_asks_to_be_taken_over);
  c.send(blue, HealthChanged{report(Module::network, Health::good)});
  c.send(red, HealthChanged{report(Module::network, Health::failed)});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(8)))
      << c.describe() << c.history();
  EXPECT_TRUE(c.logged(red, "departure.handed_over"));
  EXPECT_EQ(c.snapshot(blue).auto_giveback.takeovers, 1U) << "the breaker counts it";
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(5)));
  c.send(red, HealthChanged{report(Module::network, Health::failed)});
  c.run_for(seconds(3));
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, nobody_asks_a_partner_that_is_no_better) {
  Cluster c(options());
  start(c);
  c.send(blue, HealthChanged{report(Module::network, Health::failed)});
  c.send(red, HealthChanged{report(Module::network, Health::failed)});
  c.run_for(seconds(20));
  EXPECT_FALSE(c.logged(red, "departure.asking"));
  EXPECT_FALSE(c.logged(blue, "departure.asking"));
  EXPECT_TRUE(both_mirrored(c));
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, a_registration_that_arrives_after_the_fence_is_taken_away) {
  EXPECT_MARK(hold_takes_a_late_key_away);
  Cluster c(options());
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)))
      << c.describe() << c.history();
  const Nexus engine{red, true};
  ClusterDisk::Effects effects;
  ASSERT_TRUE(c.disk({red, 3}).execute(engine, RegisterKey{ReservationKey(0x1234)}, effects));
  ASSERT_TRUE(c.run_until([&] { return !c.disk({red, 3}).registered(engine); }, seconds(4)))
      << c.describe() << c.history();
  EXPECT_TRUE(c.serves(blue, red));
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(HardCase, a_node_that_lost_its_disks_is_taken_over) {
  Cluster c(options());
  start(c);
  c.send(blue, HealthChanged{report(Module::disks, Health::good)});
  for (std::uint8_t i = 0; i < 4; ++i) c.cut_path(red, {red, i});
  c.run_for(seconds(1));
  EXPECT_FALSE(c.serves(red, red)) << "no lease without its disks";
  c.send(red, HealthChanged{report(Module::disks, Health::failed)});
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(20)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

}  // namespace
}  // namespace duet::ha::testing
