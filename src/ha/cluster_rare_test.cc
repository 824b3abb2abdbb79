// Branches that the pair's faults hardly ever reach: what somebody else does to the disks between
// two steps of a move, and marks that cannot be written (cluster.h).
#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "disk/areas.h"
#include "disk/reservation_key.h"
#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

using Outcome = OperatorAnswer::Outcome;

constexpr auto exclusive = ports::ReservationType::exclusive_access_registrants_only;
constexpr auto write_exclusive = ports::ReservationType::write_exclusive_registrants_only;

class RareCase : public PairTest {
 protected:
  // As the supervisor of `node` would, under a new epoch: nobody else is registered then.
  static void take(Cluster& c, NodeId node, DiskRef disk, ports::ReservationType type) {
    auto& d = c.disk(disk);
    const auto held = d.holder_key();
    auto parts = disk::parse_key(held);
    ASSERT_TRUE(parts);
    auto key =
        disk::make_key(cluster_of(c), node, disk::KeyRole::supervisor, Epoch(parts->epoch + 1));
    ClusterDisk::Effects effects;
    auto keys = d.execute({node}, ReadKeys{}, effects);
    ASSERT_TRUE(keys);
    ASSERT_TRUE(d.execute({node}, RegisterKey{key}, effects));
    ASSERT_TRUE(d.execute({node}, Preempt{key, d.holder_key(), type, true}, effects));
    for (auto other : std::get<ports::RegisteredKeys>(*keys).keys) {
      if (other == held || other == key) continue;
      ASSERT_TRUE(d.execute({node}, Preempt{key, other, type, true}, effects));
    }
  }
  static ClusterId cluster_of(const Cluster& c) { return c.mailbox(red)->cluster; }
  static bool step(const Cluster& c, NodeId node, std::string_view takeover) {
    return c.powered(node) && c.snapshot(node).takeover_step == takeover;
  }
  static bool giving(const Cluster& c, NodeId node, std::string_view giveback) {
    return c.powered(node) && c.snapshot(node).giveback_step == giveback;
  }
  static void cut_all_paths(Cluster& c, NodeId node, NodeId identity) {
    for (std::uint8_t i = 0; i < c.options().disks; ++i) c.cut_path(node, {identity, i});
  }
  static void restore_all_paths(Cluster& c, NodeId node, NodeId identity) {
    for (std::uint8_t i = 0; i < c.options().disks; ++i) c.restore_path(node, {identity, i});
  }
  // Once, when blue is in this step of its takeover, and `also` holds.
  static void when(
      Cluster& c, std::string_view in_step, std::function<void()> act,
      std::function<bool()> also = [] { return true; }) {
    c.on_handled = [&c, in_step, act = std::move(act), also = std::move(also), done = false](
                       NodeId node, const Event&) mutable {
      if (done || node != blue || !step(c, blue, in_step) || !also()) return;
      done = true;
      act();
    };
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, RareCase, ::testing::Range<std::uint64_t>(1, 4));

TEST_P(RareCase, the_partner_takes_its_disks_back_while_it_is_fenced) {
  EXPECT_MARK(takeover_arbitration_lost);
  Cluster c(options(true));
  start(c);
  const DiskRef arbiter{red, 0};
  when(
      c, "fencing", [&] { take(c, red, arbiter, write_exclusive); },
      [&] { return c.disk(arbiter).registered({blue}); });
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.lost"); }, seconds(10)))
      << c.history();
  EXPECT_FALSE(c.serves(blue, red));
  c.power_on(red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(30)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

// T6. Both fence each other at the same time: whoever sees it gives up. (The pool is on another
// disk: or the engine would see it first.)
TEST_P(RareCase, both_fence_each_other) {
  EXPECT_MARK(takeover_mutual);
  Cluster c(options(true));
  start(c);
  when(
      c, "fencing",
      [&] {
        for (std::uint8_t i = 0; i < mailbox_disks; ++i) take(c, red, {blue, i}, exclusive);
      },
      [&] {
        auto held = c.disk({red, static_cast<std::uint8_t>(c.options().disks - 1)}).holder_key();
        return disk::belongs_to(held, blue, cluster_of(c));
      });
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "node.fenced"); }, seconds(10)))
      << c.history();
  EXPECT_FALSE(c.serves(blue, red));
}

TEST_P(RareCase, the_log_is_mirrored_elsewhere_by_the_time_the_partner_is_fenced) {
  EXPECT_MARK(takeover_log_moved_while_fencing);
  Cluster c(options(true));
  start(c);
  when(c, "fencing", [&] {
    auto m = *c.mailbox(red);
    m.generation += 10;
    m.nvram_mirror += 1;
    for (std::uint8_t i = 0; i < mailbox_disks; ++i) {
      for (int copy : {0, 1}) {
        auto block = encode(m);
        c.disk({red, i}).write(disk::mailbox_copy(copy).offset, std::move(block));
      }
    }
  });
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.handing_back"); }, seconds(10)))
      << c.history();
  c.run_for(seconds(3));
  EXPECT_FALSE(c.serves(blue, red)) << "it would be without acknowledged writes";
}

TEST_P(RareCase, the_takeover_cannot_be_marked) {
  EXPECT_MARK(takeover_mark_failed);
  Cluster c(options(true));
  start(c);
  when(c, "marking", [&] { cut_all_paths(c, blue, red); });
  c.power_off(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "takeover.handing_back"); }, seconds(20)))
      << c.history();
  EXPECT_FALSE(c.serves(blue, red));
  restore_all_paths(c, blue, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(30)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(RareCase, the_giveback_cannot_be_marked) {
  EXPECT_MARK(giveback_mark_too_late);
  Cluster c(options());
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)));
  c.run_for(seconds(1));
  c.order(blue, OperatorVerb::giveback, red);
  ASSERT_TRUE(c.run_until([&] { return giving(c, blue, "marking"); }, seconds(10)));
  cut_all_paths(c, blue, red);
  c.run_for(seconds(3));
  EXPECT_TRUE(c.logged(blue, "giveback.retake")) << c.history();
  restore_all_paths(c, blue, red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue) || both_up(c); }, seconds(30)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(RareCase, the_engine_cannot_release) {
  EXPECT_MARK(giveback_vetoed);
  Cluster c(options());
  start(c);
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)));
  c.run_for(seconds(1));
  OperatorRequest please;
  please.verb = OperatorVerb::giveback;
  please.node = red;
  auto request = c.order(blue, please);
  ASSERT_TRUE(c.run_until([&] { return giving(c, blue, "stopping"); }, seconds(10)));
  const DiskRef pool{red, static_cast<std::uint8_t>(c.options().disks - 1)};
  c.cut_path(blue, pool);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "giveback.vetoed"); }, seconds(10)))
      << c.history();
  EXPECT_EQ(c.answer_to(request)->outcome, Outcome::failed);
  EXPECT_TRUE(c.serves(blue, red));
  c.restore_path(blue, pool);
  c.run_for(seconds(2));
  c.order(blue, please);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(20)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(RareCase, the_disks_are_taken_while_they_are_released) {
  EXPECT_MARK(giveback_disks_lost);
  Cluster c(options());
  start(c);
  c.on_handled = [&, done = false](NodeId node, const Event&) mutable {
    if (done || node != blue || !giving(c, blue, "releasing")) return;
    done = true;
    for (std::uint8_t i = 0; i < c.options().disks; ++i) take(c, red, {red, i}, write_exclusive);
  };
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "node.fenced"); }, seconds(10)))
      << c.history();
  EXPECT_FALSE(c.serves(blue, red));
}

// B2, G6. What was read before the claim may be old by then.
TEST_P(RareCase, the_partner_took_over_while_the_disks_were_claimed) {
  EXPECT_MARK(boot_mailbox_changed_while_claiming);
  Cluster c(options());
  c.power_on(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)));
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(10)));
  auto taken = *c.mailbox(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)));
  c.run_for(seconds(1));
  c.order(blue, OperatorVerb::giveback, red);
  // Red has read that it may take its identity back, and claims the disks.
  bool changed = false;
  c.on_handled = [&](NodeId node, const Event&) {
    if (changed || node != red || c.snapshot(red).why != Reason::claiming) return;
    changed = true;
    taken.generation = c.mailbox(red)->generation + 10;
    taken.epoch = c.mailbox(red)->epoch.next();
    for (std::uint8_t i = 0; i < mailbox_disks; ++i) {
      for (int copy : {0, 1}) {
        auto block = encode(taken);
        c.disk({red, i}).write(disk::mailbox_copy(copy).offset, std::move(block));
      }
    }
  };
  ASSERT_TRUE(c.run_until([&] { return changed; }, seconds(10))) << c.history();
  c.power_off(blue);
  c.run_for(seconds(2));
  EXPECT_FALSE(c.serves(red, red)) << "the partner's NVRAM may have what it acknowledged";
}

}  // namespace
}  // namespace duet::ha::testing
