#include "node/engine_watchdog.h"

#include <gtest/gtest.h>

namespace duet::node {
namespace {

constexpr Duration limit = seconds(5);

// Looks at an engine at the watchdog's own interval.
struct Observed {
  EngineWatchdog watchdog{limit};
  Instant now{seconds(1000)};
  std::uint64_t progress = 0;

  // How long until it is found stalled; nothing: it was not, in `time`.
  std::optional<Duration> watch(Duration time, bool progressing) {
    for (Duration passed{}; passed < time;) {
      now += watchdog.interval();
      passed += watchdog.interval();
      if (progressing) ++progress;
      if (watchdog.stalled(progress, now)) return passed;
    }
    return {};
  }
};

TEST(EngineWatchdog, AnEngineThatProgressesIsLeftAlone) {
  Observed o;
  o.watchdog.started(o.now);
  EXPECT_FALSE(o.watch(seconds(60), true));
}

TEST(EngineWatchdog, AnEngineThatStandsStillIsFoundAfterTheLimit) {
  Observed o;
  o.watchdog.started(o.now);
  EXPECT_FALSE(o.watch(seconds(10), true));
  auto stalled = o.watch(seconds(60), false);
  ASSERT_TRUE(stalled);
  EXPECT_GE(*stalled, limit);
  EXPECT_LE(*stalled, limit + o.watchdog.interval());
  // Any sign of life is enough.
  ++o.progress;
  EXPECT_FALSE(o.watch(limit - o.watchdog.interval(), false));
  ++o.progress;
  EXPECT_FALSE(o.watch(limit - o.watchdog.interval(), false));
}

TEST(EngineWatchdog, AnEngineThatNeverBeginsIsFoundToo) {
  Observed o;
  EXPECT_FALSE(o.watch(seconds(10), false)) << "none has been started";
  o.watchdog.started(o.now);
  auto stalled = o.watch(seconds(60), false);
  ASSERT_TRUE(stalled);
  EXPECT_LE(*stalled, limit + o.watchdog.interval());
}

TEST(EngineWatchdog, ANewEngineHasTheWholeLimit) {
  Observed o;
  o.watchdog.started(o.now);
  EXPECT_FALSE(o.watch(limit - o.watchdog.interval(), false));
  o.watchdog.started(o.now);
  EXPECT_FALSE(o.watch(limit - o.watchdog.interval(), false));
}

TEST(EngineWatchdog, AnEngineThatHasEndedIsNotWatched) {
  Observed o;
  o.watchdog.started(o.now);
  o.watchdog.ended();
  EXPECT_FALSE(o.watch(seconds(60), false));
}

// Both processes of a node may have been stopped: the engine gets its time after that.
TEST(EngineWatchdog, AnObserverThatPausedGivesAFreshLimit) {
  Observed o;
  o.watchdog.started(o.now);
  EXPECT_FALSE(o.watch(limit - seconds(1), false));
  o.now += seconds(30);
  EXPECT_FALSE(o.watchdog.stalled(o.progress, o.now));
  EXPECT_FALSE(o.watch(limit - seconds(1), false));
  EXPECT_TRUE(o.watch(seconds(2), false)) << "it is no pardon for ever";
}

TEST(EngineWatchdog, AnObserverThatIsOnlyLateDoesNotForgive) {
  Observed o;
  o.watchdog.started(o.now);
  EXPECT_FALSE(o.watch(o.watchdog.interval(), true));
  for (int i = 0; i < 2; ++i) {
    o.now += limit / 2;
    EXPECT_EQ(o.watchdog.stalled(o.progress, o.now), i == 1) << i;
  }
}

}  // namespace
}  // namespace duet::node
