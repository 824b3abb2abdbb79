#include "simulator/world.h"

#include <gtest/gtest.h>

#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

TEST(World, TwoNodesComeUpAndServe) {
  World world({.seed = 1, .sabotage = {}, .print_trace = true});
  for (std::uint8_t n : {1, 2}) world.node(NodeId(n)).power_on();
  world.run_for(seconds(20));
  EXPECT_EQ(world.violation(), nullptr);
  for (std::uint8_t n : {1, 2}) EXPECT_TRUE(world.node(NodeId(n)).served(NodeId(n)).serving);
}

}  // namespace
}  // namespace duet::simulator
