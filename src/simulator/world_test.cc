#include "simulator/world.h"

#include <gtest/gtest.h>

#include "simulator/sim_node.h"

namespace duet::simulator {
namespace {

TEST(World, TwoNodesComeUpAndServe) {
  World world({.seed = 1, .sabotage = {}, .print_trace = false});
  for (std::uint8_t n : {1, 2}) world.node(NodeId(n)).power_on();
  world.run_for(seconds(20));
  EXPECT_EQ(world.violation(), nullptr);
  for (std::uint8_t n : {1, 2}) {
    EXPECT_TRUE(world.node(NodeId(n)).served(NodeId(n)).serving);
    EXPECT_TRUE(world.node(NodeId(n)).lease_valid(NodeId(n)));
    EXPECT_FALSE(world.node(partner_of(NodeId(n))).served(NodeId(n)).serving);
  }
}

TEST(World, APowerLossIsATakeover) {
  World world({.seed = 2, .sabotage = {}, .print_trace = false});
  for (std::uint8_t n : {1, 2}) world.node(NodeId(n)).power_on();
  world.run_for(seconds(20));
  world.node(NodeId(1)).power_off();
  EXPECT_FALSE(world.node(NodeId(1)).engine_running());
  world.run_for(seconds(5));
  EXPECT_TRUE(world.node(NodeId(2)).served(NodeId(1)).serving);
  EXPECT_EQ(world.violation(), nullptr);
}

TEST(World, AStoppedNodeLosesItsLeaseAndRunsOnLater) {
  World world({.seed = 3, .sabotage = {}, .print_trace = false});
  for (std::uint8_t n : {1, 2}) world.node(NodeId(n)).power_on();
  world.run_for(seconds(20));
  world.node(NodeId(1)).pause(world.now() + seconds(10));
  world.run_for(seconds(5));
  EXPECT_FALSE(world.node(NodeId(1)).lease_valid(NodeId(1)));
  EXPECT_TRUE(world.node(NodeId(2)).served(NodeId(1)).serving);
  world.run_for(seconds(20));
  EXPECT_EQ(world.violation(), nullptr);
  EXPECT_NE(world.node(NodeId(1)).supervisor(), nullptr);
}

}  // namespace
}  // namespace duet::simulator
