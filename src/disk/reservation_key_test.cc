#include "disk/reservation_key.h"

#include <gtest/gtest.h>

namespace duet::disk {
namespace {

constexpr ClusterId cluster{0x1122334455664d2a};

TEST(ReservationKey, IsTheWorkedExample) {
  EXPECT_EQ(make_key(cluster, NodeId(1), KeyRole::engine, Epoch(7)).value(), 0x4d2a010200000007u);
  EXPECT_EQ(make_key(cluster, NodeId(2), KeyRole::supervisor, Epoch(0x1'0000'0009)).value(),
            0x4d2a020100000009u);
}

TEST(ReservationKey, ParseUndoesMake) {
  for (int node : {1, 2}) {
    for (KeyRole role : {KeyRole::supervisor, KeyRole::engine}) {
      for (std::uint64_t epoch : {0ull, 1ull, 0xffffffffull}) {
        NodeId id(static_cast<std::uint8_t>(node));
        auto parts = parse_key(make_key(cluster, id, role, Epoch(epoch)));
        ASSERT_TRUE(parts.has_value());
        EXPECT_EQ(*parts, (KeyParts{0x4d2a, id, role, static_cast<std::uint32_t>(epoch)}));
      }
    }
  }
}

TEST(ReservationKey, IsNeverZeroEvenIfClusterAndEpochAre) {
  EXPECT_NE(make_key(ClusterId(0), NodeId(1), KeyRole::supervisor, Epoch(0)).value(), 0u);
}

TEST(ReservationKey, EveryForeignNodeAndRoleIsRefused) {
  for (std::uint64_t node = 0; node < 256; ++node) {
    for (std::uint64_t role = 0; role < 256; ++role) {
      bool known = (node == 1 || node == 2) && (role == 1 || role == 2);
      ReservationKey key(std::uint64_t{0x4d2a} << 48 | node << 40 | role << 32 | 5);
      EXPECT_EQ(parse_key(key).has_value(), known) << describe(key);
    }
  }
}

TEST(ReservationKey, SupervisorAndEngineOfOneNodeDiffer) {
  EXPECT_NE(make_key(cluster, NodeId(1), KeyRole::supervisor, Epoch(7)),
            make_key(cluster, NodeId(1), KeyRole::engine, Epoch(7)));
}

TEST(ReservationKey, KnowsItsClusterAndNode) {
  auto key = make_key(cluster, NodeId(2), KeyRole::engine, Epoch(3));
  EXPECT_TRUE(is_ours(key, cluster));
  EXPECT_FALSE(is_ours(key, ClusterId(0x4d2b)));
  EXPECT_FALSE(is_ours(ReservationKey(0x4d2a000000000001), cluster));
  EXPECT_TRUE(belongs_to(key, NodeId(2), cluster));
  EXPECT_FALSE(belongs_to(key, NodeId(1), cluster));
  EXPECT_FALSE(belongs_to(key, NodeId(2), ClusterId(0x4d2b)));
  EXPECT_FALSE(belongs_to(ReservationKey(0), no_node, ClusterId(0)));
}

TEST(ReservationKey, SpeaksToPeople) {
  EXPECT_EQ(describe(make_key(cluster, NodeId(1), KeyRole::engine, Epoch(7))),
            "node 1 engine, epoch 7 (0x4d2a010200000007)");
  EXPECT_EQ(describe(ReservationKey(0xabc)), "0x0000000000000abc");
}

}  // namespace
}  // namespace duet::disk
