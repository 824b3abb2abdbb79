#include "simulator/history.h"

#include <gtest/gtest.h>

namespace duet::simulator {
namespace {

struct HistoryTest : testing::Test {
  std::vector<std::string> invariants;
  std::vector<std::string> facts;
  History history{[this](const std::string& invariant, std::string what) {
    invariants.push_back(invariant);
    facts.push_back(std::move(what));
  }};
  Instant now{seconds(1)};
  BlockRange range{.identity = NodeId(1), .lun = 2, .first = 40, .count = 2};

  std::vector<std::byte> data(std::initializer_list<Stamp> stamps) const {
    std::vector<std::byte> bytes(stamps.size() * block_size);
    std::uint64_t i = 0;
    for (Stamp stamp : stamps) {
      auto block = MutableBytes(bytes).subspan(i * block_size, block_size);
      if (stamp != 0) fill_block(block, stamp, range, range.first + i);
      ++i;
    }
    return bytes;
  }
  void write(Stamp stamp) { history.good(history.begin_write(0, range, stamp, now), now); }
  void read(std::initializer_list<Stamp> stamps) {
    history.good_read(history.begin_read(1, range, now), data(stamps), now);
  }
  std::vector<std::string> one(const char* invariant) { return {invariant}; }
};

TEST_F(HistoryTest, CleanOnesStayQuiet) {
  read({0, 0});
  write(7);
  read({7, 7});
  auto first = history.begin_write(0, range, 8, now);
  auto second = history.begin_write(1, range, 9, now);
  history.good(second, now);
  history.good(first, now);
  read({9, 8});  // atomic per block, not per command
  history.finish();
  EXPECT_EQ((std::vector<std::string>{}), facts);
  EXPECT_EQ(0u, history.undecided_blocks());
}

TEST_F(HistoryTest, AStaleReadIsReportedWithItsBlock) {
  write(7);
  write(8);
  read({8, 7});
  EXPECT_EQ(one("I13"), invariants);
  EXPECT_NE(std::string::npos, facts[0].find("identity 1 LUN 2 block 41")) << facts[0];
}

TEST_F(HistoryTest, ALostWrite) {
  write(7);
  read({0, 7});
  EXPECT_EQ(one("I13"), invariants);
}

TEST_F(HistoryTest, AWriteWithoutAnswerMayHappenUntilTheNextLogin) {
  auto lost = history.begin_write(0, range, 7, now);
  read({0, 7});
  read({7, 7});
  history.given_up(lost, now);
  read({7, 7});
  EXPECT_EQ((std::vector<std::string>{}), facts);
}

TEST_F(HistoryTest, ButNotAfterIt) {
  auto lost = history.begin_write(0, range, 7, now);
  history.given_up(lost, now);
  write(8);
  read({8, 7});
  EXPECT_EQ(one("I13"), invariants);
}

TEST_F(HistoryTest, WhatWasRefusedHasNoEffect) {
  history.refused(history.begin_write(0, range, 7, now));
  read({0, 0});
  read({7, 0});
  EXPECT_EQ(one("I13"), invariants);
}

TEST_F(HistoryTest, WhatIsUnderWayAtTheEndIsNoContradiction) {
  history.begin_write(0, range, 7, now);
  history.begin_read(1, range, now);
  read({7, 0});
  history.finish();
  EXPECT_EQ((std::vector<std::string>{}), facts);
  EXPECT_EQ(0u, history.attempts_open());
}

TEST_F(HistoryTest, UnlessItWasSeenToComeAndGo) {
  history.begin_write(0, range, 7, now);
  write(8);
  read({9, 8});
  history.finish();
  EXPECT_EQ(one("I13"), invariants);
}

TEST_F(HistoryTest, CompareAndWrite) {
  write(7);
  auto swap = history.begin_compare_and_write(0, range, {7, 7}, 8, now);
  history.good(swap, now);
  read({8, 8});
  auto second = history.begin_compare_and_write(0, range, {8, 7}, 9, now);
  history.mismatch(second, 1, now);
  read({8, 8});
  EXPECT_EQ((std::vector<std::string>{}), facts);
}

TEST_F(HistoryTest, AMismatchThatFoundWhatWasAskedFor) {
  write(7);
  history.mismatch(history.begin_compare_and_write(0, range, {7, 7}, 8, now), 0, now);
  EXPECT_EQ(one("I13"), invariants);
}

TEST_F(HistoryTest, ACompareAndWriteExecutedTwiceIsNamed) {
  range.count = 1;
  auto lock = history.begin_compare_and_write(0, range, {0}, 7, now);
  auto other = history.begin_read(1, range, now);  // holds the window open
  history.good(lock, now);
  history.good(history.begin_compare_and_write(0, range, {7}, 0, now), now);
  read({7});
  history.good_read(other, data({0}), now);
  EXPECT_EQ(one("I14"), invariants);
}

TEST_F(HistoryTest, AMisplacedBlockIsSeen) {
  auto bytes = data({7, 7});
  auto id = history.begin_read(0, range, now);
  std::swap_ranges(bytes.begin(), bytes.begin() + block_size, bytes.begin() + block_size);
  history.good_read(id, bytes, now);
  EXPECT_EQ((std::vector<std::string>{"I13", "I13"}), invariants);
}

TEST_F(HistoryTest, ATornBlockIsSeen) {
  write(7);
  auto bytes = data({7, 7});
  std::fill_n(bytes.begin() + 300, 8, std::byte{0});
  history.good_read(history.begin_read(0, range, now), bytes, now);
  EXPECT_EQ(one("I13"), invariants);
}

TEST_F(HistoryTest, StampsAreNeverUsedTwice) {
  EXPECT_NE(history.fresh_stamp(0), history.fresh_stamp(0));
  EXPECT_NE(history.fresh_stamp(0), history.fresh_stamp(1));
}

}  // namespace
}  // namespace duet::simulator
