#include "simulator/workload.h"

#include <gtest/gtest.h>

#include "simulator/checkers.h"
#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

struct WorkloadTest : testing::Test {
  std::unique_ptr<World> world;
  std::unique_ptr<Workload> load;
  std::unique_ptr<Checkers> checkers;

  void begin(std::uint64_t seed) {
    WorldOptions options;
    options.seed = seed;
    checkers.reset();
    load.reset();
    world = std::make_unique<World>(options);
    for (std::uint8_t n : {1, 2}) world->node(NodeId(n)).power_on();
    load = std::make_unique<Workload>(*world, WorkloadOptions{});
    checkers = std::make_unique<Checkers>(*world, *load);
    load->prepare();
    ASSERT_TRUE(until([&] { return load->prepared(); }, seconds(60)));
    load->start();
  }
  template <class Condition>
  bool until(Condition condition, Duration limit) {
    const Instant end = world->now() + limit;
    while (!condition() && !world->violation() && world->now() < end) world->step(end);
    return condition();
  }
  void finish() {
    load->stop();
    EXPECT_TRUE(until([&] { return load->quiet(); }, seconds(60)));
    load->sweep();
    EXPECT_TRUE(until([&] { return load->quiet(); }, seconds(60)));
    load->judge();
    expect_clean();
  }
  void expect_clean() {
    if (const Violation* v = world->violation()) {
      std::string lines;
      for (const auto& line : world->last_lines()) lines += line + "\n";
      FAIL() << v->invariant << ": " << v->what << "\n" << lines;
    }
  }
};

TEST_F(WorkloadTest, AQuietWorldIsLinearizable) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    begin(seed);
    world->run_for(seconds(60));
    expect_clean();
    finish();
    const Client::Counters totals = load->totals();
    EXPECT_GT(totals.good, 500u);
    EXPECT_GT(totals.mismatches, 0u);
    EXPECT_EQ(0u, totals.errors);
    EXPECT_EQ(4u, totals.sessions);
    EXPECT_EQ(0u, load->undecided_blocks());
  }
}

TEST_F(WorkloadTest, APowerLossIsATakeover) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    begin(seed);
    world->run_for(seconds(20));
    world->node(NodeId(1)).power_off();
    const Instant then = world->now();
    EXPECT_TRUE(
        until([&] { return world->node(NodeId(2)).served(NodeId(1)).serving; }, seconds(20)));
    EXPECT_TRUE(until([&] { return load->unserved_since(then + seconds(5)).empty(); }, seconds(60)))
        << load->unserved_since(then);
    finish();
  }
}

}  // namespace
}  // namespace duet::simulator
