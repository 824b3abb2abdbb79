// Kills a node at its n-th event, for every n of a takeover or a giveback, and brings it back:
// whatever the step, nothing is lost and both nodes come home. DUET_KILL_STRIDE=1 tries every n.
#include <gtest/gtest.h>

#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

enum class Move { takeover, giveback, planned };

// Red panics, or goes by order; `victim` is hit at its n-th event after that. False: home before.
bool try_one(std::uint64_t n, NodeId victim, How how, Move move) {
  Options o;
  o.seed = n * 31 + static_cast<std::uint64_t>(how);
  o.auto_giveback = true;
  o.rules.after_order = true;
  Cluster c(o);
  c.power_on(red);
  c.power_on(blue);
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10))) << c.describe();
  if (move == Move::planned) {
    c.order(n % 2 == 0 ? red : blue, {.verb = OperatorVerb::takeover, .node = red});
  } else {
    c.panic_engine(red);
  }
  if (move == Move::giveback) {
    EXPECT_TRUE(c.run_until([&] { return c.state(red) == NodeState::givewait; }, seconds(5)));
  }
  auto first = c.handled(victim);
  bool reached = false;
  // Not from inside the core that is being hit: at the next task.
  auto due = [&] { return c.handled(victim) >= first + n; };
  c.run_until([&] { return (reached = due()) || (n > 40 && c.boots(red) > 1 && both_mirrored(c)); },
              seconds(10));
  if (reached) {
    hit(c, victim, how);
    c.run_for(milliseconds(static_cast<std::int64_t>(n * 37 % 3000)));
    c.resume(victim);
    c.power_on(victim);
    c.restore_link();
  }
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(30)))
      << "n " << n << " victim " << int{victim.value()} << " how " << static_cast<int>(how) << "\n"
      << c.describe() << c.history();
  EXPECT_TRUE(c.violations().empty())
      << "n " << n << " how " << static_cast<int>(how) << ": " << c.violations().front() << "\n"
      << c.history();
  return reached && !::testing::Test::HasFailure();
}

void try_all(NodeId victim, Move move) {
  for (auto how : all_ways) {
    std::uint64_t n = 0;
    while (try_one(n, victim, how, move)) n += kill_stride(37);
    EXPECT_GT(n, 60U) << "the move has more steps than that";
  }
}

// From power on to the mirror of both, every event of `victim`.
bool try_start(std::uint64_t n, NodeId victim, How how) {
  Options o;
  o.seed = n * 37 + static_cast<std::uint64_t>(how);
  o.auto_giveback = true;
  o.client_interval = milliseconds(4);
  o.rules.after_order = true;
  Cluster c(o);
  c.power_on(red);
  c.power_on(blue);
  bool reached = false;
  c.run_until([&] { return (reached = c.handled(victim) >= n) || both_mirrored(c); }, seconds(10));
  if (reached) {
    hit(c, victim, how);
    c.order(partner_of(victim), OperatorVerb::takeover, victim);
    c.run_for(milliseconds(static_cast<std::int64_t>(n * 37 % 2000)));
    c.resume(victim);
    c.power_on(victim);
    c.restore_link();
  }
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(30)))
      << "n " << n << " how " << static_cast<int>(how) << "\n"
      << c.describe() << c.history();
  EXPECT_TRUE(c.violations().empty())
      << "n " << n << " how " << static_cast<int>(how) << ": " << c.violations().front() << "\n"
      << c.history();
  return reached && !::testing::Test::HasFailure();
}

TEST(Kill, either_node_while_both_start) {
  for (auto victim : {red, blue}) {
    for (auto how : all_ways) {
      std::uint64_t n = 0;
      while (try_start(n, victim, how)) n += kill_stride(37);
      EXPECT_GT(n, 50U);
    }
  }
}

TEST(Kill, survivor_during_takeover) {
  try_all(blue, Move::takeover);
}
TEST(Kill, leaving_node_during_planned_takeover) {
  try_all(red, Move::planned);
}
TEST(Kill, survivor_during_planned_takeover) {
  try_all(blue, Move::planned);
}
TEST(Kill, returning_node_during_giveback) {
  try_all(red, Move::giveback);
}
TEST(Kill, survivor_during_giveback) {
  try_all(blue, Move::giveback);
}

}  // namespace
}  // namespace duet::ha::testing
