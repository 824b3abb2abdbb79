#include "node/event_log.h"

#include <gtest/gtest.h>

namespace duet::node {
namespace {

admin::EventItem event(std::string text) {
  admin::EventItem item;
  item.text = std::move(text);
  return item;
}

TEST(EventLog, NumbersEventsAndKeepsTheLast) {
  EventLog log;
  for (std::size_t i = 0; i < EventLog::max_kept + 5; ++i) log.add(event(std::to_string(i)));
  ASSERT_EQ(log.kept().size(), EventLog::max_kept);
  EXPECT_EQ(log.kept().front().number, 6u);
  EXPECT_EQ(log.kept().front().text, "5");
  EXPECT_EQ(log.kept().back().number, EventLog::max_kept + 5);
}

TEST(EventLog, FollowersHearNewEventsInOrderUntilTheyLeave) {
  EventLog log;
  log.add(event("before"));
  std::string heard;
  auto id =
      log.follow([&](const admin::EventItem& e) { heard += e.text + std::to_string(e.number); });
  ASSERT_NE(id, 0u);
  log.add(event("a"));
  log.add(event("b"));
  log.unfollow(id);
  log.add(event("c"));
  EXPECT_EQ(heard, "a2b3");
  log.unfollow(id);
  log.unfollow(0);
}

TEST(EventLog, FollowersAreBoundedAndPlacesAreUsedAgain) {
  EventLog log;
  std::vector<std::uint64_t> ids;
  for (std::size_t i = 0; i < EventLog::max_followers; ++i) ids.push_back(log.follow([](auto&) {}));
  EXPECT_EQ(log.follow([](auto&) {}), 0u);
  log.unfollow(ids[3]);
  auto again = log.follow([](auto&) {});
  EXPECT_NE(again, 0u);
  EXPECT_EQ(std::ranges::count(ids, again), 0) << "a number is never used again";
}

}  // namespace
}  // namespace duet::node
