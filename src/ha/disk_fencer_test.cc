#include "ha/disk_fencer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/coverage_expect.h"
#include "disk/reservation_key.h"
#include "ha/fence_set.h"

namespace duet::ha {
namespace {

using ports::RegisteredKeys;
using ports::ReservationState;
using ports::ReservationType;

const ClusterId cluster{0x1122334455664d2a};
ReservationKey key(int node, disk::KeyRole role, std::uint64_t epoch) {
  return disk::make_key(cluster, NodeId(static_cast<std::uint8_t>(node)), role, Epoch(epoch));
}
const auto mine = key(1, disk::KeyRole::supervisor, 7);
const auto my_engine = key(1, disk::KeyRole::engine, 7);
const auto my_old = key(1, disk::KeyRole::supervisor, 6);
const auto my_old_engine = key(1, disk::KeyRole::engine, 6);
const auto theirs = key(2, disk::KeyRole::supervisor, 3);
const auto their_engine = key(2, disk::KeyRole::engine, 3);
const ReservationKey stranger{0x1234};

constexpr auto we = ReservationType::write_exclusive_registrants_only;
constexpr auto ea = ReservationType::exclusive_access_registrants_only;

FenceRules rules(FenceMode mode) {
  return {.mode = mode,
          .cluster = cluster,
          .self = NodeId(1),
          .key = mine,
          .engine_key = my_engine,
          .type = mode == FenceMode::fence ? ea : we};
}
ReservationState held(ReservationKey holder, ReservationType type) {
  return {1, true, holder, type};
}
const ReservationState free_disk{1, false, {}, {}};

// What follows, in words: done, lost, leave (unregister and lost), or the operations.
std::string words(const FenceDecision& decision) {
  if (std::holds_alternative<FenceDone>(decision)) return "done";
  if (auto* lost = std::get_if<FenceLost>(&decision)) return lost->unregister ? "leave" : "lost";
  std::string s;
  for (const auto& operation : std::get<std::vector<DiskOperation>>(decision)) {
    if (!s.empty()) s += " ";
    if (std::holds_alternative<RegisterKey>(operation)) s += "register";
    if (auto* r = std::get_if<Reserve>(&operation))
      s += r->type == ea ? "reserve-ea" : "reserve-we";
    if (auto* p = std::get_if<Preempt>(&operation)) {
      s += std::string(p->victim == mine ? "retype"
                       : p->abort        ? "abort"
                                         : "preempt") +
           (p->type == ea ? "-ea" : "-we");
    }
  }
  return s;
}

TEST(decide_fence, table) {
  struct Row {
    FenceMode mode;
    std::vector<ReservationKey> keys;
    ReservationState reservation;
    bool registered;
    std::string expected;
    bool alone = false;
  };
  const std::vector<Row> rows = {
      // claim
      {FenceMode::claim, {}, free_disk, false, "register"},
      {FenceMode::claim, {}, free_disk, true, "lost"},
      {FenceMode::claim, {mine}, free_disk, true, "reserve-we"},
      {FenceMode::claim, {mine}, held(mine, we), true, "done"},
      {FenceMode::claim, {mine}, held(mine, ea), true, "retype-we"},
      {FenceMode::claim, {mine, my_engine}, held(mine, we), true, "done"},
      {FenceMode::claim, {mine, my_old_engine}, held(mine, we), true, "abort-we"},
      {FenceMode::claim, {my_old}, held(my_old, we), false, "register"},
      {FenceMode::claim, {theirs}, held(theirs, we), false, "register"},
      {FenceMode::claim, {mine, theirs}, held(theirs, we), true, "abort-we"},
      {FenceMode::claim, {mine, theirs, their_engine}, held(theirs, we), true, "abort-we abort-we"},
      {FenceMode::claim, {theirs}, held(theirs, ea), false, "lost"},
      {FenceMode::claim, {mine, theirs}, held(theirs, ea), true, "leave"},
      {FenceMode::claim, {mine, theirs}, held(mine, we), true, "abort-we"},
      {FenceMode::claim, {my_old}, held(my_old, ea), false, "register"},
      {FenceMode::claim, {stranger}, held(stranger, ea), false, "lost"},
      // fence
      {FenceMode::fence, {theirs, their_engine}, held(theirs, we), false, "register"},
      {FenceMode::fence, {theirs, their_engine, mine}, held(theirs, we), true, "abort-ea abort-ea"},
      {FenceMode::fence, {mine}, held(mine, ea), true, "done"},
      {FenceMode::fence, {mine}, held(mine, we), true, "retype-ea"},
      {FenceMode::fence, {mine, theirs}, held(mine, we), true, "retype-ea abort-ea"},
      {FenceMode::fence, {mine}, free_disk, true, "reserve-ea"},
      {FenceMode::fence, {theirs}, held(theirs, we), true, "lost"},
      {FenceMode::fence, {mine, theirs}, held(theirs, ea), true, "abort-ea"},
      {FenceMode::fence, {mine, stranger, stranger}, held(mine, ea), true, "abort-ea"},
      // release
      {FenceMode::release, {mine}, held(mine, ea), false, "retype-we"},
      {FenceMode::release, {mine}, held(mine, we), false, "done"},
      {FenceMode::release, {my_old}, held(my_old, ea), false, "preempt-we"},
      {FenceMode::release, {theirs}, held(theirs, we), false, "lost"},
      {FenceMode::release, {theirs}, held(theirs, ea), false, "lost"},
      {FenceMode::release, {}, free_disk, false, "lost"},
      {FenceMode::release, {mine, theirs}, held(theirs, we), false, "leave"},
      {FenceMode::release, {my_old, theirs}, held(theirs, ea), false, "leave"},
      {FenceMode::release, {my_old}, free_disk, false, "leave"},
      {FenceMode::release, {my_old_engine, theirs}, held(theirs, we), false, "lost"},
      {FenceMode::release, {stranger, theirs}, held(theirs, we), false, "lost"},
      // hold
      {FenceMode::hold, {mine}, held(mine, we), false, "done"},
      {FenceMode::hold, {mine, theirs}, held(mine, ea), false, "done"},
      {FenceMode::hold, {}, free_disk, false, "register reserve-we"},
      {FenceMode::hold, {mine}, free_disk, false, "reserve-we"},
      {FenceMode::hold, {theirs}, free_disk, false, "lost"},
      {FenceMode::hold, {theirs}, held(theirs, ea), false, "lost"},
      {FenceMode::hold, {mine, theirs}, held(theirs, ea), false, "lost"},
      // hold, and nobody else
      {FenceMode::hold, {mine, my_engine}, held(mine, ea), false, "done", true},
      {FenceMode::hold,
       {mine, their_engine, their_engine},
       held(mine, ea),
       false,
       "abort-ea",
       true},
      {FenceMode::hold, {mine, theirs, stranger}, held(mine, we), false, "abort-we abort-we", true},
      {FenceMode::hold, {mine, theirs}, held(theirs, ea), false, "lost", true},
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    auto asked = rules(row.mode);
    asked.alone = row.alone;
    EXPECT_EQ(words(decide_fence(asked, {1, row.keys}, row.reservation, row.registered)),
              row.expected)
        << "row " << i;
  }
}

// Invariants over every combination of a few keys and holders.
TEST(decide_fence, all_combinations_keep_the_rules) {
  const std::vector<ReservationKey> all{mine, my_engine, my_old, theirs, their_engine, stranger};
  for (auto mode : {FenceMode::claim, FenceMode::fence, FenceMode::release, FenceMode::hold}) {
    for (unsigned set = 0; set < 64; ++set) {
      std::vector<ReservationKey> keys;
      for (std::size_t i = 0; i < all.size(); ++i) {
        if ((set >> i & 1) != 0) keys.push_back(all[i]);
      }
      for (int holder = -1; holder < static_cast<int>(keys.size()); ++holder) {
        for (auto type : {we, ea}) {
          auto state = holder < 0 ? free_disk : held(keys[static_cast<std::size_t>(holder)], type);
          for (bool registered : {false, true}) {
            auto decision = decide_fence(rules(mode), {1, keys}, state, registered);
            bool partner_exclusive = state.reserved && type == ea && state.holder == theirs;
            if (mode == FenceMode::claim && partner_exclusive) {  // B3
              EXPECT_TRUE(std::holds_alternative<FenceLost>(decision));
            }
            bool ours = std::ranges::find(keys, mine) != keys.end();
            bool takes = mode == FenceMode::claim || mode == FenceMode::fence;
            if (takes && registered && !ours) {  // B4
              EXPECT_TRUE(std::holds_alternative<FenceLost>(decision));
            }
            if (takes && std::holds_alternative<FenceDone>(decision)) {  // I6
              EXPECT_EQ(state.holder, mine);
              for (auto k : keys) EXPECT_TRUE(k == mine || k == my_engine);
            }
            if (auto* operations = std::get_if<std::vector<DiskOperation>>(&decision)) {
              EXPECT_FALSE(operations->empty());
              for (const auto& operation : *operations) {
                if (auto* p = std::get_if<Preempt>(&operation)) {
                  EXPECT_NE(p->victim, my_engine == state.holder ? ReservationKey(1) : my_engine);
                  EXPECT_TRUE(p->abort || disk::belongs_to(p->victim, NodeId(1), cluster));
                }
              }
            }
          }
        }
      }
    }
  }
}

struct Harness {
  Actions actions;
  std::uint64_t last = 0;
  Instant now = Instant{} + seconds(1);
  Output out() { return {now, actions, last}; }
  std::vector<DiskCommand> take() {
    std::vector<DiskCommand> commands;
    for (auto& a : actions) {
      if (auto* c = std::get_if<DiskCommand>(&a)) commands.push_back(*c);
    }
    actions.clear();
    return commands;
  }
};

TEST(disk_fencer, errors_are_retried_and_then_given_up) {
  Harness h;
  DiskFencer fencer(rules(FenceMode::fence), {NodeId(2), 0});
  auto out = h.out();
  fencer.start(out);
  int rounds = 0;
  while (fencer.outcome() == DiskFencer::Outcome::running) {
    for (auto& command : h.take()) {
      auto o = h.out();
      EXPECT_TRUE(fencer.on_completed({command.command, fail(ErrorCode::io_error, "broken")}, o));
    }
    h.now += io_retry;
    auto o = h.out();
    fencer.on_time(o);
    ASSERT_LT(++rounds, 100);
  }
  EXPECT_EQ(fencer.outcome(), DiskFencer::Outcome::failed);
  EXPECT_EQ(rounds, DiskFencer::max_errors + 1);
  EXPECT_EQ(fencer.why(), "broken");
}

TEST(disk_fencer, a_reservation_that_keeps_changing_is_given_up) {
  Harness h;
  DiskFencer fencer(rules(FenceMode::fence), {NodeId(2), 0});
  auto out = h.out();
  fencer.start(out);
  int commands = 0;
  while (fencer.outcome() == DiskFencer::Outcome::running) {
    for (auto& command : h.take()) {
      ASSERT_LT(++commands, 1000);
      DiskReply reply;
      if (std::holds_alternative<ReadKeys>(command.operation)) {
        reply = RegisteredKeys{1, {mine, theirs}};
      } else if (std::holds_alternative<ReadReservation>(command.operation)) {
        reply = held(theirs, ea);
      }
      auto o = h.out();
      fencer.on_completed({command.command, reply}, o);
    }
  }
  EXPECT_EQ(fencer.outcome(), DiskFencer::Outcome::failed);
}

TEST(disk_fencer, replies_of_the_wrong_kind_are_errors) {
  Harness h;
  DiskFencer fencer(rules(FenceMode::hold), {NodeId(2), 0});
  auto out = h.out();
  fencer.start(out);
  for (auto& command : h.take()) {
    auto o = h.out();
    fencer.on_completed({command.command, DiskReply{std::vector<std::byte>(8)}}, o);
  }
  EXPECT_EQ(fencer.outcome(), DiskFencer::Outcome::running);
  EXPECT_EQ(fencer.next_time(), h.now + io_retry);
}

TEST(disk_fencer, a_key_that_has_no_business_there_is_taken_away_for_certain) {
  Harness h;
  DiskFencer fencer(rules(FenceMode::release), {NodeId(2), 0});
  auto out = h.out();
  EXPECT_MARK(fence_unregistering_repeated);
  fencer.start(out);
  int attempts = 0;
  while (fencer.outcome() == DiskFencer::Outcome::running) {
    for (auto& command : h.take()) {
      Result<DiskReply> reply = DiskReply{};
      if (std::holds_alternative<ReadKeys>(command.operation)) {
        reply = RegisteredKeys{1, {my_old, theirs}};
      } else if (std::holds_alternative<ReadReservation>(command.operation)) {
        reply = held(theirs, we);
      } else {
        ASSERT_EQ(std::get<RegisterKey>(command.operation).key, ReservationKey(0));
        if (++attempts < 3) reply = fail(ErrorCode::io_error, "broken");
      }
      auto o = h.out();
      fencer.on_completed({command.command, reply}, o);
    }
    h.now += io_retry;
    auto o = h.out();
    fencer.on_time(o);
    ASSERT_LT(attempts, 10);
  }
  EXPECT_EQ(fencer.outcome(), DiskFencer::Outcome::lost);
  EXPECT_EQ(attempts, 3);
}

TEST(fence_set, arbiter_first_then_the_others_then_the_arbiter_again) {
  Harness h;
  FenceSet set(rules(FenceMode::fence), NodeId(2), 4);
  auto out = h.out();
  set.start(out);
  std::vector<int> order;
  while (set.outcome() == FenceSet::Outcome::running) {
    auto commands = h.take();
    ASSERT_FALSE(commands.empty());
    for (auto& command : commands) {
      if (order.empty() || order.back() != command.disk.index) order.push_back(command.disk.index);
      DiskReply reply;
      if (std::holds_alternative<ReadKeys>(command.operation)) reply = RegisteredKeys{1, {mine}};
      if (std::holds_alternative<ReadReservation>(command.operation)) reply = held(mine, ea);
      auto o = h.out();
      EXPECT_TRUE(set.on_completed({command.command, reply}, o));
    }
  }
  EXPECT_EQ(set.outcome(), FenceSet::Outcome::done);
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 0}));
}

// The partner claims its disks while we fence them: what it took back is fought for again, as long
// as the arbiter is ours, and not for ever. The arbiter lost is all lost.
TEST(fence_set, a_disk_taken_back_is_fought_for_again_within_bounds) {
  struct Row {
    std::uint8_t disk;
    int times;  // that our key is taken away there
    FenceSet::Outcome expected;
  };
  EXPECT_MARK(fence_set_repeated);
  for (const auto& row :
       {Row{1, 1, FenceSet::Outcome::done}, Row{1, FenceSet::max_repeats, FenceSet::Outcome::done},
        Row{1, FenceSet::max_repeats + 1, FenceSet::Outcome::lost},
        Row{0, 1, FenceSet::Outcome::lost}}) {
    Harness h;
    FenceSet set(rules(FenceMode::fence), NodeId(2), 2);
    auto out = h.out();
    set.start(out);
    std::array<bool, 2> ours{};
    int taken = 0;
    while (set.outcome() == FenceSet::Outcome::running) {
      auto commands = h.take();
      ASSERT_FALSE(commands.empty());
      for (auto& command : commands) {
        auto disk = command.disk.index;
        DiskReply reply;
        if (std::holds_alternative<ReadKeys>(command.operation)) {
          reply = RegisteredKeys{1, {ours[disk] ? mine : theirs}};
        } else if (std::holds_alternative<ReadReservation>(command.operation)) {
          reply = ours[disk] ? held(mine, ea) : held(theirs, we);
        } else if (std::holds_alternative<RegisterKey>(command.operation)) {
          ours[disk] = disk != row.disk || ++taken > row.times;
        }
        auto o = h.out();
        EXPECT_TRUE(set.on_completed({command.command, reply}, o));
      }
    }
    EXPECT_EQ(set.outcome(), row.expected) << int{row.disk} << " " << row.times;
  }
}

}  // namespace
}  // namespace duet::ha
