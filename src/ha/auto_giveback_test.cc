#include "ha/auto_giveback.h"

#include <gtest/gtest.h>

namespace duet::ha {
namespace {

using Why = AutoGivebackPlan::Why;

class Auto : public ::testing::Test {
 protected:
  void wait(Duration time) { now += time; }
  Why why(bool serving = true, bool vetoed = false) {
    return machine.plan(serving, vetoed, now).why;
  }
  Instant at() { return machine.plan(true, false, now).at; }

  AutoGivebackRules rules{
      .enabled = true, .delay = seconds(10), .attempts = 2, .takeovers = 2, .window = seconds(100)};
  AutoGiveback machine{rules};
  Instant now = Instant{} + seconds(1000);
};

TEST_F(Auto, waits_until_the_partner_has_been_ready_for_the_delay) {
  EXPECT_EQ(why(false), Why::not_taken_over);
  EXPECT_EQ(why(), Why::not_ready);
  machine.on_ready(true, now);
  EXPECT_EQ(why(), Why::delay);
  EXPECT_EQ(at(), now + seconds(10));
  wait(seconds(9));
  machine.on_ready(false, now);
  EXPECT_EQ(why(), Why::not_ready);
  machine.on_ready(true, now);
  wait(seconds(9));
  machine.on_ready(true, now);
  EXPECT_EQ(why(), Why::delay);
  wait(seconds(1));
  EXPECT_EQ(why(), Why::now);
  EXPECT_EQ(why(true, true), Why::vetoed);
}

TEST_F(Auto, off_unless_configured) {
  AutoGiveback off{AutoGivebackRules{}};
  off.on_ready(true, now);
  EXPECT_EQ(off.plan(true, false, now).why, Why::off);
  EXPECT_EQ(off.next_time(true, now), Instant::max());
}

TEST_F(Auto, rests_after_a_failure_and_gives_up_after_several) {
  machine.on_ready(true, now);
  wait(seconds(10));
  machine.on_failed(now);
  EXPECT_EQ(why(), Why::resting);
  wait(AutoGiveback::rest);
  EXPECT_EQ(why(), Why::now);
  machine.on_failed(now);
  EXPECT_EQ(why(), Why::failed_often);
  EXPECT_EQ(machine.next_time(true, now), now + seconds(100));
  wait(seconds(100));
  EXPECT_EQ(why(), Why::now) << "a quiet time";
  machine.on_failed(now);
  EXPECT_EQ(why(), Why::failed_often);
  machine.on_order();
  EXPECT_EQ(why(), Why::now);
  machine.on_failed(now);
  machine.on_done();
  wait(AutoGiveback::rest);
  machine.on_failed(now);
  EXPECT_EQ(why(), Why::resting);
}

TEST_F(Auto, the_breaker_stops_ping_pong) {
  machine.on_ready(true, now);
  wait(seconds(10));
  for (int i = 0; i < 2; ++i) {
    machine.on_takeover(Reason::partner_panicked, Reason::partner_panicked, now);
    wait(seconds(20));
    EXPECT_EQ(why(), Why::now);
  }
  machine.on_takeover(Reason::operator_order, Reason::operator_order, now);
  EXPECT_EQ(why(), Why::by_order);
  machine.on_takeover(Reason::resumed, Reason::partner_silent, now);
  machine.on_takeover(Reason::giveback_failed, Reason::giveback_failed, now);
  EXPECT_EQ(why(), Why::now) << "those were not the partner's failures";
  machine.on_takeover(Reason::partner_silent, Reason::partner_silent, now);
  EXPECT_EQ(why(), Why::ping_pong);
  EXPECT_EQ(at(), now + seconds(100));
  wait(seconds(99));
  EXPECT_EQ(why(), Why::ping_pong);
  wait(seconds(2));
  EXPECT_EQ(why(), Why::now) << "a quiet time";
  machine.on_takeover(Reason::partner_silent, Reason::partner_silent, now);
  EXPECT_EQ(machine.plan(true, false, now).takeovers, 1U);
  EXPECT_EQ(why(), Why::now);
}

TEST_F(Auto, what_the_operator_took_the_operator_gives_back) {
  machine.on_ready(true, now - seconds(50));
  for (auto trigger : {Reason::operator_order, Reason::resumed}) {
    machine.on_takeover(trigger, Reason::operator_order, now);
    EXPECT_EQ(why(), Why::by_order) << "also after a reboot of the survivor";
    EXPECT_EQ(machine.next_time(true, now), Instant::max());
    EXPECT_EQ(why(false), Why::not_taken_over);
  }
  machine.on_order();
  machine.on_takeover(Reason::giveback_failed, Reason::giveback_failed, now);
  EXPECT_EQ(why(), Why::now) << "the operator wanted it given back";
  machine.on_takeover(Reason::operator_order, Reason::operator_order, now);
  machine.on_takeover(Reason::partner_panicked, Reason::partner_panicked, now);
  EXPECT_EQ(why(), Why::now) << "another takeover";
  rules.after_order = true;
  AutoGiveback all{rules};
  all.on_ready(true, now - seconds(50));
  all.on_takeover(Reason::operator_order, Reason::operator_order, now);
  EXPECT_EQ(all.plan(true, false, now).why, Why::now);
}

TEST_F(Auto, takeovers_far_apart_are_no_ping_pong) {
  machine.on_ready(true, now);
  for (int i = 0; i < 20; ++i) {
    machine.on_takeover(Reason::partner_silent, Reason::partner_silent, now);
    wait(seconds(60));
    EXPECT_EQ(why(), Why::now) << i;
  }
}

TEST_F(Auto, the_history_is_bounded_and_may_be_handed_on) {
  for (int i = 0; i < 200; ++i)
    machine.on_takeover(Reason::partner_silent, Reason::partner_silent, now);
  EXPECT_EQ(machine.history().size(), AutoGiveback::max_history);
  AutoGiveback next(rules, machine.history());
  next.on_ready(true, now - seconds(50));
  EXPECT_EQ(next.plan(true, false, now).why, Why::ping_pong);
}

TEST_F(Auto, zero_means_no_limit) {
  rules.takeovers = 0;
  rules.attempts = 0;
  AutoGiveback free{rules};
  free.on_ready(true, now - seconds(50));
  for (int i = 0; i < 10; ++i)
    free.on_takeover(Reason::partner_silent, Reason::partner_silent, now);
  for (int i = 0; i < 10; ++i) free.on_failed(now - AutoGiveback::rest);
  EXPECT_EQ(free.plan(true, false, now).why, Why::now);
}

TEST(auto_giveback, every_answer_has_a_name) {
  for (int i = 0; i <= static_cast<int>(Why::now); ++i) EXPECT_NE(name(static_cast<Why>(i)), "?");
}

}  // namespace
}  // namespace duet::ha
