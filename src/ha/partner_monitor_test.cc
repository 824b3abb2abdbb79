#include "ha/partner_monitor.h"

#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "base/crc32c.h"
#include "disk/areas.h"

namespace duet::ha {
namespace {

constexpr std::array all_states{NodeState::booting,
                                NodeState::givewait,
                                NodeState::mbwait,
                                NodeState::up,
                                NodeState::taken_over_partner,
                                NodeState::giving_back,
                                NodeState::shutting_down,
                                NodeState::panic,
                                NodeState::dumping,
                                NodeState::halted};

TEST(judge, every_combination) {
  for (auto says : {Says::nothing, Says::not_serving, Says::serving, Says::ended}) {
    for (auto link : {Channel::fresh, Channel::silent, Channel::unknown}) {
      for (auto disk : {Channel::fresh, Channel::silent, Channel::unknown}) {
        for (bool served : {false, true}) {
          auto verdict = judge(says, link, disk, served);
          bool both_silent = link != Channel::fresh && disk == Channel::silent;
          // T1: nothing but an own word of the partner or the silence of both channels.
          EXPECT_EQ(verdict == Verdict::gone, says == Says::ended);
          EXPECT_EQ(verdict == Verdict::dead, says != Says::ended && both_silent && served);
          EXPECT_EQ(verdict == Verdict::absent, says != Says::ended && both_silent && !served);
          bool alive =
              says != Says::ended && link == Channel::fresh &&
              (says == Says::not_serving || (says == Says::serving && disk == Channel::fresh));
          EXPECT_EQ(verdict == Verdict::alive, alive);
        }
      }
    }
  }
}

TEST(legal_transition, a_serving_node_never_goes_back_to_waiting_in_one_boot) {
  for (auto from : all_states) {
    EXPECT_TRUE(legal_transition(from, from));
    for (auto to : all_states) {
      bool waiting = !serving_state(to) && !ended_state(to);
      if (serving_state(from)) EXPECT_EQ(legal_transition(from, to), !waiting);
      if (ended_state(from))
        EXPECT_FALSE(legal_transition(from, to) && (waiting || serving_state(to)));
      if (!serving_state(from) && !ended_state(from)) EXPECT_TRUE(legal_transition(from, to));
    }
  }
  EXPECT_FALSE(legal_transition(NodeState::halted, NodeState::panic));
  EXPECT_TRUE(legal_transition(NodeState::panic, NodeState::dumping));
}

class Monitor : public ::testing::Test {
 protected:
  Monitor() {
    config.self = NodeId(1);
    config.cluster = ClusterId(5);
    config.shelves[1].disks = config.shelves[2].disks = 3;
    monitor.emplace(config);
    watch.emplace(config);
    monitor->start(now);
    watch->restart(now);
    s = {.cluster = config.cluster,
         .node = NodeId(2),
         .state = NodeState::up,
         .nonce = BootNonce(77),
         .boot_epoch = Epoch(3),
         .progress = 10,
         .heartbeat = 100,
         .own_epoch = Epoch(3),
         .partner_epoch = Epoch(0),
         .seen_partner = BootNonce(1)};
  }
  void read(bool beats = true) {
    if (beats) ++s.heartbeat;
    auto bytes = interconnect::encode(s);
    monitor->on_state_read(std::vector<std::byte>(bytes.begin(), bytes.end()), now);
  }
  void read_version_2() {
    ++s.heartbeat;
    auto bytes = interconnect::encode(s);
    store_le(bytes.data() + 4, std::uint16_t{2});
    store_le(bytes.data(), crc32c(Bytes(bytes).subspan(4)));
    monitor->on_state_read(std::vector<std::byte>(bytes.begin(), bytes.end()), now);
  }
  void fail_read() { monitor->on_state_read(fail(ErrorCode::disconnected, ""), now); }
  // One round of heartbeat reads; `counter` is what the partner has written.
  void beat(std::uint64_t count, std::uint64_t nonce = 77, bool readable = true,
            std::uint32_t version = 1) {
    Actions actions;
    Output out(now, actions, last);
    watch->on_time(out);
    Heartbeat h{.cluster = config.cluster,
                .identity = NodeId(2),
                .server = NodeId(2),
                .nonce = BootNonce(nonce),
                .epoch = Epoch(3),
                .counter = count};
    for (auto& action : actions) {
      auto& command = std::get<DiskCommand>(action);
      EXPECT_EQ(std::get<ReadBlock>(command.operation).offset, disk::heartbeat_block.offset);
      Result<DiskReply> reply = fail(ErrorCode::disconnected, "");
      auto block = encode(h);
      store_le(block.data() + 8, version);
      store_le(block.data() + 12, std::uint32_t{0});
      store_le(block.data() + 12, crc32c(block));
      if (readable) reply = DiskReply{block};
      watch->on_completed({command.command, reply}, out);
      monitor->on_heartbeat(*watch);
    }
  }
  Verdict verdict() { return monitor->verdict(*watch, now); }
  void healthy(int ms) {
    for (int t = 0; t < ms; t += 50) {
      now += milliseconds(50);
      read();
      if (t % 100 == 50) beat(++counter);
    }
  }

  Config config;
  std::optional<PartnerMonitor> monitor;
  std::optional<HeartbeatWatch> watch;
  Instant now = Instant{} + seconds(100);
  StateStructure s;
  std::uint64_t last = 0, counter = 1;
};

TEST_F(Monitor, two_equal_reads_count) {
  now += milliseconds(50);
  read();
  EXPECT_FALSE(monitor->stable());
  read();
  EXPECT_TRUE(monitor->in(NodeState::up));
  EXPECT_EQ(monitor->served(), BootNonce(77));
}

TEST_F(Monitor, waiting_is_over_with_the_first_read_that_says_so) {
  s.state = NodeState::mbwait;
  healthy(200);
  ASSERT_TRUE(monitor->in(NodeState::mbwait));
  s.state = NodeState::givewait;  // late, or back: it still waits
  read();
  EXPECT_TRUE(monitor->in(NodeState::mbwait));
  // Nobody could read for long, and it has served and been taken over since.
  now += seconds(40);
  s.state = NodeState::up;
  s.progress += 6;
  read();
  EXPECT_FALSE(monitor->in(NodeState::mbwait));
  EXPECT_FALSE(monitor->in(NodeState::up));
  read();
  EXPECT_TRUE(monitor->in(NodeState::up));
}

TEST_F(Monitor, another_boot_does_not_wait_before_it_says_so_twice) {
  s.state = NodeState::givewait;
  healthy(200);
  s.nonce = BootNonce(78);
  read();
  EXPECT_FALSE(monitor->in(NodeState::givewait));
  read();
  EXPECT_TRUE(monitor->in(NodeState::givewait));
}

// Every start of the two silences against each other, in steps of 50 ms.
TEST_F(Monitor, only_both_silences_together_are_death_whatever_their_skew) {
  for (int skew = -1500; skew <= 1500; skew += 50) {
    monitor.emplace(config);
    watch.emplace(config);
    monitor->start(now);
    watch->restart(now);
    healthy(2000);
    ASSERT_EQ(verdict(), Verdict::alive);
    auto begin = now;
    auto link_stops = begin + milliseconds(std::max(0, skew));
    auto disk_stops = begin + milliseconds(std::max(0, -skew));
    while (now < begin + seconds(4)) {
      now += milliseconds(50);
      now < link_stops ? read() : fail_read();
      if ((now - begin) % milliseconds(100) == Duration(0))
        beat(now < disk_stops ? ++counter : counter);
      bool link_silent = now >= link_stops + config.timers.interconnect_silence;
      bool disk_silent = now >= disk_stops + config.timers.mailbox_silence;
      if (verdict() == Verdict::dead) {
        EXPECT_TRUE(link_silent || now >= link_stops + milliseconds(450)) << skew;
        EXPECT_TRUE(disk_silent || now >= disk_stops + milliseconds(650)) << skew;
        EXPECT_GE(now - std::max(link_stops, disk_stops), milliseconds(350)) << skew;
        break;
      }
      EXPECT_FALSE(link_silent &&
                   now >= disk_stops + config.timers.mailbox_silence + milliseconds(100))
          << "skew " << skew;
    }
    EXPECT_EQ(verdict(), Verdict::dead) << skew;
    EXPECT_EQ(monitor->reason(*watch, now), Reason::partner_silent);
  }
}

TEST_F(Monitor, one_silent_channel_is_only_suspect) {
  healthy(1000);
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(50);
    fail_read();
    if (i % 2 == 0) beat(++counter);
    EXPECT_NE(verdict(), Verdict::dead);
  }
  EXPECT_EQ(verdict(), Verdict::suspect);
  healthy(1000);
  EXPECT_EQ(verdict(), Verdict::alive);
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(50);
    read();
    if (i % 2 == 0) beat(counter);
  }
  EXPECT_EQ(verdict(), Verdict::suspect);
}

TEST_F(Monitor, unreadable_heartbeats_are_not_silence) {
  healthy(1000);
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(50);
    fail_read();
    if (i % 2 == 0) beat(counter, 77, false);
  }
  EXPECT_EQ(verdict(), Verdict::suspect);
}

TEST_F(Monitor, a_frozen_structure_is_silence) {
  healthy(1000);
  for (int i = 0; i < 30; ++i) {
    now += milliseconds(50);
    read(false);
    if (i % 2 == 0) beat(counter);
  }
  EXPECT_EQ(verdict(), Verdict::dead);
}

TEST_F(Monitor, our_own_pause_is_forgiven) {
  healthy(1000);
  now += seconds(30);
  monitor->forgive(seconds(30));
  watch->forgive(seconds(30));
  EXPECT_NE(verdict(), Verdict::dead);
}

TEST_F(Monitor, what_it_says_of_itself_counts_at_once) {
  for (auto state : {NodeState::panic, NodeState::dumping, NodeState::halted}) {
    monitor.emplace(config);
    monitor->start(now);
    s.state = NodeState::up;
    healthy(1000);
    s.state = state;
    read();
    EXPECT_EQ(verdict(), Verdict::alive) << "one read is not enough";
    read();
    EXPECT_EQ(verdict(), Verdict::gone);
  }
}

// It hands over: its word that it has stopped comes as `halted`, or as a message.
TEST_F(Monitor, a_node_that_shuts_down_is_alive_until_it_has_left) {
  healthy(1000);
  s.state = NodeState::shutting_down;
  healthy(1000);
  EXPECT_TRUE(monitor->in(NodeState::shutting_down));
  EXPECT_EQ(verdict(), Verdict::alive);
  EXPECT_FALSE(monitor->stopped(BootNonce(77)));
  monitor->on_departed(BootNonce(76));
  EXPECT_EQ(verdict(), Verdict::alive);
  monitor->on_departed(BootNonce(77));
  EXPECT_EQ(verdict(), Verdict::gone);
  EXPECT_TRUE(monitor->stopped(BootNonce(77)));
  EXPECT_EQ(monitor->reason(*watch, now), Reason::partner_shut_down);
}

TEST_F(Monitor, a_departure_may_be_cancelled) {
  healthy(1000);
  s.state = NodeState::shutting_down;
  healthy(200);
  s.state = NodeState::up;
  healthy(200);
  EXPECT_TRUE(monitor->in(NodeState::up));
  EXPECT_EQ(monitor->illegal_states(), 0U);
}

TEST_F(Monitor, a_panic_notice_needs_the_right_nonce) {
  healthy(1000);
  monitor->on_panic_notice(BootNonce(76));
  EXPECT_EQ(verdict(), Verdict::alive);
  monitor->on_panic_notice(BootNonce(77));
  EXPECT_EQ(verdict(), Verdict::gone);
  EXPECT_EQ(monitor->reason(*watch, now), Reason::partner_panicked);
  monitor->forget_served();
  EXPECT_NE(verdict(), Verdict::gone);
}

TEST_F(Monitor, another_boot_in_booting_means_that_the_serving_one_is_gone) {
  healthy(1000);
  s.nonce = BootNonce(78);
  s.state = NodeState::booting;
  s.progress = 1;
  s.heartbeat = 1;
  read();
  read();
  EXPECT_EQ(verdict(), Verdict::gone);
  EXPECT_EQ(monitor->reason(*watch, now), Reason::partner_rebooted);
  EXPECT_EQ(monitor->watched(), BootNonce(77));
  monitor->forget_served();
  EXPECT_EQ(verdict(), Verdict::alive);
  EXPECT_EQ(monitor->watched(), BootNonce(78));
}

TEST_F(Monitor, a_fenced_boot_that_shows_itself_again_says_nothing_about_the_next) {
  healthy(1000);
  monitor->forget_served();
  healthy(200);  // resumed, and has not noticed yet
  EXPECT_EQ(monitor->served(), BootNonce(0));
  s.nonce = BootNonce(78);
  s.state = NodeState::mbwait;
  s.progress = 1;
  s.heartbeat = 1;
  read();
  read();
  EXPECT_EQ(verdict(), Verdict::alive);
  EXPECT_EQ(monitor->watched(), BootNonce(78));
}

TEST_F(Monitor, heartbeats_of_a_newer_boot_void_an_old_structure) {
  healthy(1000);
  s.state = NodeState::panic;
  read();
  read();
  EXPECT_EQ(verdict(), Verdict::gone);
  now += milliseconds(100);
  beat(1, 78);
  EXPECT_NE(verdict(), Verdict::gone);
  EXPECT_EQ(monitor->served(), BootNonce(78));
}

TEST_F(Monitor, illegal_and_invalid_reads_are_unknown_and_counted) {
  healthy(1000);
  s.state = NodeState::givewait;  // same boot
  read();
  read();
  EXPECT_TRUE(monitor->in(NodeState::up));
  EXPECT_EQ(monitor->illegal_states(), 1U);
  auto invalid = monitor->invalid_states();
  s.state = NodeState::up;
  s.progress -= 5;
  read();
  EXPECT_EQ(monitor->invalid_states(), invalid + 1);
  s.cluster = ClusterId(6);
  read();
  s.cluster = config.cluster;
  s.node = NodeId(1);
  read();
  monitor->on_state_read(std::vector<std::byte>(128), now);
  monitor->on_state_read(std::vector<std::byte>(3), now);
  EXPECT_EQ(monitor->invalid_states(), invalid + 5);
  EXPECT_EQ(verdict(), Verdict::alive);
}

// Unknown is neither dead nor anything that it said before.
TEST_F(Monitor, a_partner_of_another_version_is_suspect_while_it_lives) {
  s.state = NodeState::givewait;
  healthy(1000);
  EXPECT_TRUE(monitor->in(NodeState::givewait));
  EXPECT_MARK(partner_of_another_version);
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(50);
    read_version_2();
    if (i % 2 == 0) beat(++counter, 78, true, 2);
    EXPECT_FALSE(monitor->in(NodeState::givewait));
    EXPECT_TRUE(monitor->other_version());
    if (i > 20) EXPECT_EQ(verdict(), Verdict::suspect);
  }
  s.nonce = BootNonce(79);
  s.state = NodeState::up;
  healthy(200);
  EXPECT_FALSE(monitor->other_version());
  EXPECT_TRUE(monitor->in(NodeState::up));
}

TEST_F(Monitor, heartbeats_of_another_version_are_a_sign_of_life) {
  healthy(1000);
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(50);
    fail_read();
    if (i % 2 == 0) beat(++counter, 77, true, 2);
    EXPECT_NE(verdict(), Verdict::dead) << i;
  }
}

TEST_F(Monitor, never_seen_is_absent) {
  for (int i = 0; i < 40; ++i) {
    now += milliseconds(50);
    fail_read();
    if (i % 2 == 0) beat(1);
  }
  EXPECT_EQ(verdict(), Verdict::absent);
  EXPECT_EQ(monitor->reason(*watch, now), Reason::cold_start);
}

}  // namespace
}  // namespace duet::ha
