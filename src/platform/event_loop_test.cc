#include "platform/event_loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace duet::platform {
namespace {

constexpr Duration limit = seconds(10);

TEST(EventLoop, RunsPostedTasksInOrderAfterTheCurrentOne) {
  EventLoop loop;
  std::string order;
  loop.post([&] {
    loop.post([&] { order += 'c'; });
    order += 'a';
  });
  loop.post([&] { order += 'b'; });
  EXPECT_TRUE(loop.run_until([&] { return order.size() == 3; }, limit));
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, RunsTimersByInstantAndEqualOnesInTheOrderOfTheCalls) {
  EventLoop loop;
  std::string order;
  Instant soon = loop.now() + milliseconds(5);
  loop.at(soon + milliseconds(1), [&] { order += 'd'; });
  loop.at(soon, [&] { order += 'b'; });
  loop.at(soon, [&] { order += 'c'; });
  loop.at(Instant(), [&] { order += 'a'; });
  EXPECT_TRUE(loop.run_until([&] { return order.size() == 4; }, limit));
  EXPECT_EQ(order, "abcd");
  EXPECT_GE(loop.now(), soon + milliseconds(1));
}

TEST(EventLoop, ATimerCancelledByAnotherOfTheSameInstantDoesNotRun) {
  EventLoop loop;
  bool second = false;
  bool end = false;
  Instant soon = loop.now();
  ports::TimerId victim;
  loop.at(soon, [&] { loop.cancel(victim); });
  victim = loop.at(soon, [&] { second = true; });
  loop.at(soon, [&] { end = true; });
  EXPECT_TRUE(loop.run_until([&] { return end; }, limit));
  EXPECT_FALSE(second);
  loop.cancel(victim);  // has no effect any more
  loop.cancel(ports::TimerId());
}

TEST(EventLoop, AnEarlierTimerSetLaterComesFirst) {
  EventLoop loop;
  std::string order;
  loop.at(loop.now() + milliseconds(20), [&] { order += 'b'; });
  loop.post([&] { loop.at(loop.now() + milliseconds(1), [&] { order += 'a'; }); });
  EXPECT_TRUE(loop.run_until([&] { return order.size() == 2; }, limit));
  EXPECT_EQ(order, "ab");
}

TEST(EventLoop, TurnEndComesAfterTasksPostedInTheTurn) {
  EventLoop loop;
  std::string order;
  loop.post([&] {
    loop.at_turn_end([&] { order += 'c'; });
    loop.post([&] { order += 'b'; });
    order += 'a';
  });
  EXPECT_TRUE(loop.run_until([&] { return order.size() == 3; }, limit));
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, TasksThatPostForEverDoNotStarveTimersAndTurnEnds) {
  EventLoop loop;
  int ends = 0;
  bool timer = false;
  std::function<void()> again = [&] { loop.post([&] { again(); }); };
  again();
  loop.at_turn_end([&] { ++ends; });
  loop.at(loop.now() + milliseconds(1), [&] { timer = true; });
  EXPECT_TRUE(loop.run_until([&] { return timer && ends == 1; }, limit));
}

TEST(EventLoop, TakesTasksFromOtherThreads) {
  EventLoop loop;
  int sum = 0;
  std::thread other([&] {
    for (int i = 1; i <= 100; ++i) loop.post_from_any_thread([&sum, i] { sum += i; });
    loop.stop();
  });
  loop.run();
  other.join();
  EXPECT_EQ(sum, 5050);
}

TEST(EventLoop, ReportsSignalsAgainAndAgain) {
  EventLoop loop;
  int count = 0;
  loop.on_signals({SIGUSR1}, [&](int signal) { count += signal == SIGUSR1; });
  ::raise(SIGUSR1);
  EXPECT_TRUE(loop.run_until([&] { return count == 1; }, limit));
  ::raise(SIGUSR1);
  EXPECT_TRUE(loop.run_until([&] { return count == 2; }, limit));
}

TEST(EventLoop, DestructionDropsWhatHasNotRun) {
  auto token = std::make_shared<int>();
  {
    EventLoop loop;
    auto timer = loop.at(loop.now() + seconds(100), [token] {});
    struct Canceller {
      EventLoop& loop;
      ports::TimerId timer;
      ~Canceller() { loop.cancel(timer); }
    };
    loop.post([c = std::make_shared<Canceller>(loop, timer), token] {});
    loop.at_turn_end([token] {});
    EXPECT_EQ(token.use_count(), 4);
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(FdWatcher, IsLevelTriggeredAndStopsWhenNotWanted) {
  EventLoop loop;
  int fd = ::eventfd(1, EFD_NONBLOCK);
  int calls = 0;
  FdWatcher watcher(loop, fd, [&](bool readable, bool writable) {
    EXPECT_TRUE(readable);
    EXPECT_FALSE(writable);
    if (++calls == 3) watcher.want(false, false);
  });
  watcher.want(true, false);
  EXPECT_TRUE(loop.run_until([&] { return calls == 3; }, limit));
  bool later = false;
  loop.at(loop.now() + milliseconds(5), [&] { later = true; });
  EXPECT_TRUE(loop.run_until([&] { return later; }, limit));
  EXPECT_EQ(calls, 3);
  ::close(fd);
}

TEST(FdWatcher, MayBeDestroyedByItsCallback) {
  EventLoop loop;
  int fd = ::eventfd(1, EFD_NONBLOCK);
  std::unique_ptr<FdWatcher> watcher;
  bool called = false;
  watcher = std::make_unique<FdWatcher>(loop, fd, [&](bool, bool) {
    watcher.reset();
    called = true;
  });
  watcher->want(true, true);
  EXPECT_TRUE(loop.run_until([&] { return called; }, limit));
  ::close(fd);
}

}  // namespace
}  // namespace duet::platform
