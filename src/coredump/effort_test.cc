#include "coredump/effort.h"

#include <gtest/gtest.h>

namespace duet::coredump {
namespace {

constexpr int quickest = ChunkWriter::efforts - 1;
constexpr Duration ms = milliseconds(1);
constexpr std::uint64_t MiB = 1024 * 1024;

// A disk that keeps us waiting, or has just so much to do as we give it, or waits for us.
constexpr Effort::Piece slow{
    .waited = 10 * ms, .made = 2 * ms, .hungry = false, .plain = 0, .stored = MiB};
constexpr Effort::Piece busy{.waited = ms, .made = ms, .hungry = false, .plain = 0, .stored = MiB};
constexpr Effort::Piece hungry{.waited = {}, .made = ms, .hungry = true, .plain = 0, .stored = MiB};

class EffortTest : public testing::Test {
 protected:
  // Pieces of memory that each effort makes so much smaller than the next easier one.
  void pieces(int n, Effort::Piece piece, double factor = 0.5) {
    for (; n > 0; --n) {
      double left = 1;
      for (int e = quickest; e > effort.value(); --e) left *= factor;
      piece.plain = static_cast<std::uint64_t>(static_cast<double>(piece.stored) / left);
      effort.on_piece(piece);
      hardest = std::min(hardest, effort.value());
    }
  }
  Effort effort;
  int hardest = quickest;
};

TEST_F(EffortTest, BeginsWithWhatIsQuickest) {
  EXPECT_EQ(effort.value(), quickest);
}

TEST_F(EffortTest, ADiskThatIsSlowerThanMemoryIsGivenLess) {
  pieces(1, hungry);  // the first: nothing can be ready
  pieces(Effort::span - 2, slow);
  EXPECT_EQ(effort.value(), quickest);
  pieces(1, slow);
  EXPECT_EQ(effort.value(), quickest - 1);
  pieces(10 * Effort::span, slow);
  EXPECT_EQ(effort.value(), 0);
}

TEST_F(EffortTest, WithoutTimeToLoseItStays) {
  pieces(10 * Effort::span, busy);
  EXPECT_EQ(effort.value(), quickest);
}

TEST_F(EffortTest, ADiskThatWaitedIsGivenMoreAtOnce) {
  pieces(2 * Effort::span, slow);
  ASSERT_EQ(effort.value(), quickest - 2);
  pieces(1, slow);
  pieces(1, hungry);
  EXPECT_EQ(effort.value(), quickest - 1);
  pieces(1, hungry);  // begun right after the change
  EXPECT_EQ(effort.value(), quickest - 1);
  pieces(1, hungry);
  EXPECT_EQ(effort.value(), quickest);
  pieces(10, hungry);
  EXPECT_EQ(effort.value(), quickest);
}

TEST_F(EffortTest, WaitingOfLongAgoDoesNotCount) {
  pieces(Effort::span, slow);
  ASSERT_EQ(effort.value(), quickest - 1);
  pieces(10 * Effort::span, busy);
  EXPECT_EQ(effort.value(), quickest - 1);
}

TEST_F(EffortTest, WhatDoesNotPayIsGivenUpAndTriedEverLessOften) {
  pieces(Effort::span, slow, 1);
  ASSERT_EQ(effort.value(), quickest - 1);
  pieces(Effort::span, slow, 1);
  EXPECT_EQ(effort.value(), quickest);
  int tries = 0;
  for (int i = 0; i < 1000; ++i) {
    const bool was = effort.value() < quickest;
    pieces(1, slow, 1);
    if (!was && effort.value() < quickest) ++tries;
  }
  EXPECT_GE(tries, 1000 / (Effort::max_pause + 3 * Effort::span));
  EXPECT_LE(tries, 7);
  EXPECT_EQ(hardest, quickest - 1);
  // Memory of another kind: it pays again, and is tried without much ado from then on.
  pieces(Effort::max_pause + 2 * Effort::span + quickest * Effort::span, slow);
  EXPECT_EQ(effort.value(), 0);
  pieces(Effort::span, slow, 1);
  EXPECT_EQ(effort.value(), 1);
  pieces(Effort::min_pause + Effort::span, slow);
  EXPECT_EQ(effort.value(), 0);
}

TEST_F(EffortTest, OnlyTheInformationIsNoMeasure) {
  for (int i = 0; i < 2 * Effort::span; ++i) effort.on_piece(slow);
  EXPECT_EQ(effort.value(), quickest);
}

}  // namespace
}  // namespace duet::coredump
