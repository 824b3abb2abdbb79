#include "node/control_status.h"

#include <gtest/gtest.h>

namespace duet::node {
namespace {

TEST(absent_disks, are_named_with_their_reason) {
  Config config;
  config.node_names = {"", "red", "blue"};
  config.shelves[2].luns = {0, 1, 2, 7};
  ha::IdentitySnapshot identity;
  identity.identity = NodeId(2);
  identity.missing_disks = {1, 3};  // 1 lost its path while it was served: it is ours
  EXPECT_TRUE(absent_disks(identity, config, Instant(seconds(10))).empty());
  identity.absent_disks = {2, 3};
  auto disks = absent_disks(identity, config, Instant(seconds(10)));
  ASSERT_EQ(disks.size(), 2u);
  EXPECT_EQ(disks[0].name, "blue/2");
  EXPECT_NE(disks[0].why.find("did not answer"), std::string::npos);
  EXPECT_EQ(disks[1].name, "blue/7");
  EXPECT_NE(disks[1].why.find("no path"), std::string::npos);
}

TEST(absent_disks, left_to_a_dump_say_since_when_and_for_how_long) {
  Config config;
  config.node_names = {"", "red", "blue"};
  config.shelves[1].luns = {0, 1, 2, 3};
  ha::IdentitySnapshot identity;
  identity.identity = NodeId(1);
  identity.absent_disks = {3};
  identity.left_to_dump = {{3, Instant(seconds(7)), Instant(seconds(67)), 500, 2000}};
  auto disks = absent_disks(identity, config, Instant(seconds(10)));
  ASSERT_EQ(disks.size(), 1u);
  EXPECT_EQ(disks[0].name, "red/3");
  EXPECT_EQ(disks[0].why,
            "left to the dump of its node since 3.0 s, 500 of 2000 bytes; taken in 57.0 s at the "
            "latest");
}

}  // namespace
}  // namespace duet::node
