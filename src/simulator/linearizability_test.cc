#include "simulator/linearizability.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "simulation/random.h"

namespace duet::simulator {
namespace {

using Kind = Operation::Kind;

Operation read(Tick begun, Tick ended, Stamp value) {
  return {.kind = Kind::read, .value = value, .begun = begun, .ended = ended};
}
Operation write(Tick begun, Tick ended, Stamp value) {
  return {.kind = Kind::write, .value = value, .begun = begun, .ended = ended};
}
Operation swap(Tick begun, Tick ended, Stamp expected, Stamp value) {
  return {.kind = Kind::compare_and_write,
          .expected = expected,
          .value = value,
          .begun = begun,
          .ended = ended};
}
Operation mismatch(Tick begun, Tick ended, Stamp expected) {
  return {.kind = Kind::mismatch, .expected = expected, .begun = begun, .ended = ended};
}
Operation perhaps(Operation o) {
  o.perhaps = true;
  return o;
}

bool explained(const std::vector<Operation>& operations) {
  BlockStates states;
  bool ok = !states.check(operations).has_value();
  EXPECT_FALSE(states.undecided());
  return ok;
}

struct Case {
  const char* name;
  bool explained;
  std::vector<Operation> operations;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class Histories : public testing::TestWithParam<Case> {};
TEST_P(Histories, AreJudged) {
  EXPECT_EQ(GetParam().explained, explained(GetParam().operations));
}
INSTANTIATE_TEST_SUITE_P(
    All, Histories,
    testing::Values(
        Case{"Nothing", true, {}},  //
        Case{"NeverWritten", true, {read(1, 2, 0)}},
        Case{"OneAfterTheOther",
             true,
             {write(1, 2, 7), read(3, 4, 7), write(5, 6, 8), read(7, 8, 8)}},
        Case{"AReadDuringAWriteSeesEither",
             true,
             {write(1, 2, 7), write(3, 8, 9), read(4, 5, 7), read(6, 7, 9)}},
        Case{
            "ConcurrentWritesInEitherOrder", true, {write(1, 4, 7), write(2, 3, 8), read(5, 6, 7)}},
        Case{"ConcurrentWritesInTheOther", true, {write(1, 4, 7), write(2, 3, 8), read(5, 6, 8)}},
        Case{"StaleRead", false, {write(1, 2, 7), write(3, 4, 8), read(5, 6, 7)}},
        Case{"LostWrite", false, {write(1, 2, 7), read(3, 4, 0)}},
        Case{"OldWriteComesBack",
             false,
             {write(1, 2, 7), write(3, 4, 8), read(5, 6, 8), read(7, 8, 7)}},
        Case{"ReadFromTheFuture", false, {read(1, 2, 7), write(3, 4, 7)}},
        Case{"NobodyWroteIt", false, {write(1, 2, 7), read(3, 4, 9)}},
        Case{"TwoReadersDisagreeAboutTheOrder",
             false,
             {write(1, 4, 7), write(2, 3, 8), read(5, 6, 7), read(7, 8, 8)}},
        Case{"SeenAndGoneAgain", false, {write(1, 10, 7), read(2, 3, 7), read(4, 5, 0)}},
        // ---- without answer ----
        Case{"NoAnswerButDone", true, {perhaps(write(1, 4, 7)), read(5, 6, 7)}},
        Case{"NoAnswerNotDone", true, {perhaps(write(1, 4, 7)), read(5, 6, 0)}},
        Case{"NoAnswerDoneTwice",
             true,
             {perhaps(write(1, 10, 7)), read(2, 3, 7), write(4, 5, 8), read(6, 7, 8),
              read(8, 9, 7)}},
        Case{"NoAnswerAndNoEnd",
             true,
             {perhaps(write(1, never, 7)), write(2, 3, 8), read(4, 5, 8), read(6, 7, 7)}},
        Case{"DoneAfterTheNewSession",
             false,
             {perhaps(write(1, 4, 7)), read(5, 6, 0), read(7, 8, 7)}},
        Case{"OldWriteOfALostSessionComesBack",
             false,
             {perhaps(write(1, 4, 7)), write(5, 6, 8), read(7, 8, 8), read(9, 10, 7)}},
        // ---- COMPARE AND WRITE ----
        Case{"Swap", true, {write(1, 2, 7), swap(3, 4, 7, 8), read(5, 6, 8)}},
        Case{"SwapOfWhatIsNotThere", false, {write(1, 2, 7), swap(3, 4, 6, 8)}},
        Case{"BothSwapsWin", false, {write(1, 2, 7), swap(3, 6, 7, 8), swap(4, 5, 7, 9)}},
        Case{"OneSwapWins",
             true,
             {write(1, 2, 7), swap(3, 6, 7, 8), mismatch(4, 5, 7), read(7, 8, 8)}},
        Case{"SwapsInAChain",
             true,
             {swap(1, 10, 9, 10), swap(2, 11, 8, 9), swap(3, 12, 7, 8), write(4, 5, 7),
              read(13, 14, 10)}},
        Case{"MismatchThoughItMatched", false, {write(1, 2, 7), mismatch(3, 4, 7), read(5, 6, 7)}},
        Case{"MismatchChangesNothing", true, {write(1, 2, 7), mismatch(3, 4, 6), read(5, 6, 7)}},
        Case{"RetryOfADoneSwapMiscompares",
             true,
             {perhaps(swap(1, 3, 0, 7)), mismatch(4, 5, 0), read(6, 7, 7)}},
        Case{"SwapExecutedTwice", false, {swap(1, 2, 0, 7), swap(3, 4, 7, 0), read(5, 6, 7)}},
        Case{"HalfASwap", false, {write(1, 2, 7), swap(3, 4, 7, 8), read(5, 6, 7)}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(BlockStates, GoesOnFromWindowToWindow) {
  BlockStates states;
  EXPECT_FALSE(states.check(std::vector{write(1, 4, 7), write(2, 3, 8)}));
  EXPECT_EQ((std::vector<Stamp>{7, 8}), states.values());
  EXPECT_FALSE(states.check(std::vector{read(5, 6, 8)}));
  EXPECT_EQ((std::vector<Stamp>{8}), states.values());
  auto contradiction = states.check(std::vector{read(7, 8, 7)});
  ASSERT_TRUE(contradiction);
  EXPECT_EQ(0u, contradiction->operation);
  EXPECT_EQ((std::vector<Stamp>{8}), contradiction->candidates);
  EXPECT_FALSE(states.check(std::vector{read(9, 10, 99)})) << "one fault is reported once";
}

TEST(BlockStates, TooManyAtOnceAreUndecided) {
  std::vector<Operation> operations;
  for (Stamp i = 0; i <= BlockStates::max_open; ++i) {
    operations.push_back(write(1 + i, 1000 + i, 100 + i));
  }
  BlockStates states;
  EXPECT_FALSE(states.check(operations));
  EXPECT_TRUE(states.undecided());
}

TEST(BlockStates, TooManyStatesAreUndecided) {
  std::vector<Operation> operations;
  for (Stamp i = 0; i < 24; ++i) operations.push_back(write(1 + i, 1000 + i, 100 + i));
  BlockStates states;
  EXPECT_FALSE(states.check(operations));
  EXPECT_TRUE(states.undecided());
}

// A model that executes each operation at a random instant of its interval never contradicts; one
// changed answer nearly always does.
TEST(BlockStates, RandomHistories) {
  simulation::Random random(20261120);
  int noticed = 0, changed = 0;
  for (int round = 0; round < 400; ++round) {
    struct Planned {
      Operation operation;
      Tick effect;
    };
    std::vector<Planned> plan;
    Tick last = 1;
    for (Stamp i = 0; i < 40; ++i) {
      last += random.below(300);
      Tick begun = last * 1000 + i, ended = begun + 1000 * (1 + random.below(800)) + 500;
      Operation o{.begun = begun, .ended = ended};
      switch (random.below(4)) {
        case 0:
          o.kind = Kind::write;
          o.value = 100 + i;
          break;
        case 1:
          o.kind = Kind::compare_and_write;
          o.expected = i == 0 ? 0 : 100 + random.below(i);
          o.value = 100 + i;
          break;
        default:
          o.kind = Kind::read;
      }
      plan.push_back({o, begun + 1 + random.below(ended - begun - 1)});
    }
    std::ranges::sort(plan, {}, &Planned::effect);
    Stamp value = 0;
    std::vector<Operation> operations;
    for (Planned& p : plan) {
      Operation& o = p.operation;
      if (o.kind == Kind::read) o.value = value;
      if (o.kind == Kind::compare_and_write && o.expected != value) o.kind = Kind::mismatch;
      if (o.kind == Kind::write || o.kind == Kind::compare_and_write) {
        bool lost = random.chance(1, 8);
        if (lost) o.perhaps = true;
        if (!lost || random.chance(1, 2)) value = o.value;
      }
      operations.push_back(o);
    }
    EXPECT_TRUE(explained(operations)) << "round " << round;

    // The last read that saw something sees nothing instead.
    auto seen = std::find_if(operations.rbegin(), operations.rend(), [](const Operation& o) {
      return o.kind == Kind::read && o.value != 0;
    });
    if (seen == operations.rend()) continue;
    seen->value = 0;
    ++changed;
    if (!explained(operations)) ++noticed;
  }
  EXPECT_GT(changed, 300);
  EXPECT_GT(noticed, changed * 9 / 10);
}

}  // namespace
}  // namespace duet::simulator
