// What tests of a pair (cluster.h) have in common: its settled states, how it gets there, and its
// options by seed.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>

#include "ha/cluster.h"

namespace duet::ha::testing {

#define EXPECT_CLEAN(cluster)                                                           \
  EXPECT_TRUE((cluster).violations().empty()) << (cluster).violations().front() << "\n" \
                                              << (cluster).history()

inline bool both_up(const Cluster& c) {
  return c.state(red) == NodeState::up && c.state(blue) == NodeState::up && c.serves(red, red) &&
         c.serves(blue, blue);
}
inline bool both_mirrored(const Cluster& c) {
  return both_up(c) && c.mode_in_mailbox(red) == Durability::mirrored &&
         c.mode_in_mailbox(blue) == Durability::mirrored;
}
inline bool survivor_serves_both(const Cluster& c, NodeId survivor) {
  return c.serves(survivor, red) && c.serves(survivor, blue) &&
         c.state(survivor) == NodeState::taken_over_partner;
}

// How a node may fail; all of them end with power_on, resume and restore_link.
enum class How { off, panic, pause, cut };
inline constexpr std::array all_ways{How::off, How::panic, How::pause, How::cut};

inline void hit(Cluster& c, NodeId victim, How how) {
  switch (how) {
    case How::off:
      c.power_off(victim);
      break;
    case How::panic:
      c.panic_engine(victim);
      break;
    case How::pause:
      c.pause(victim);
      break;
    case How::cut:
      c.cut_link();
      break;
  }
}

// Every how many moments a test fails a node: DUET_KILL_STRIDE=1 for each of them.
inline std::uint64_t kill_stride(std::uint64_t otherwise) {
  const char* text = std::getenv("DUET_KILL_STRIDE");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Both serve, mirrored, for a second; pauses are counted from here on.
inline void start(Cluster& c) {
  c.power_on(red);
  c.power_on(blue);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  c.run_for(seconds(1));
  c.longest_pause(red);
  c.longest_pause(blue);
}

class PairTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  static Options options(bool auto_giveback = false) {
    Options o;
    o.seed = GetParam();
    o.auto_giveback = auto_giveback;
    o.rules.after_order = true;  // or nobody would give back
    return o;
  }
};

}  // namespace duet::ha::testing
