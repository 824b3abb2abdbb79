#include "ha/mailbox_keeper.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "disk/areas.h"
#include "ha/heartbeat_watch.h"
#include "ha/lease_keeper.h"

namespace duet::ha {
namespace {

using Kind = MailboxKeeper::Outcome::Kind;
using Purpose = MailboxKeeper::Purpose;
const ClusterId cluster{5};

Mailbox generation(std::uint64_t g, std::uint64_t epoch = 1) {
  auto m = first_mailbox(cluster, NodeId(1), {});
  m.generation = g;
  m.epoch = Epoch(epoch);
  m.server = NodeId(1);
  return m;
}

class Keeper : public ::testing::Test {
 protected:
  using Place = std::pair<int, int>;  // disk, copy
  Keeper() {
    for (int d = 0; d < 3; ++d) {
      for (int c = 0; c < 2; ++c) blocks[{d, c}] = encode(generation(1));
    }
  }
  // Performs everything asked for until nothing is.
  std::optional<MailboxKeeper::Outcome> run() {
    while (true) {
      auto pending = std::exchange(actions, {});
      if (pending.empty()) break;
      for (auto& action : pending) {
        auto& command = std::get<DiskCommand>(action);
        Output out(now, actions, last);
        EXPECT_TRUE(keeper.on_completed({command.command, perform(command)}, out));
      }
    }
    return keeper.take_outcome();
  }
  Result<DiskReply> perform(const DiskCommand& command) {
    bool write = std::holds_alternative<WriteBlock>(command.operation);
    auto offset = write ? std::get<WriteBlock>(command.operation).offset
                        : std::get<ReadBlock>(command.operation).offset;
    Place place{command.disk.index, offset == disk::mailbox_copy(1).offset ? 1 : 0};
    order.push_back(place);
    if (auto it = errors.find(command.disk.index); it != errors.end())
      return fail(it->second, "no");
    if (!write) return DiskReply{blocks[place]};
    blocks[place] = std::get<WriteBlock>(command.operation).bytes;
    return DiskReply{};
  }
  std::optional<MailboxKeeper::Outcome> read() {
    Output out(now, actions, last);
    keeper.read(Purpose::boot, out);
    return run();
  }
  std::optional<MailboxKeeper::Outcome> write(const Mailbox& m) {
    Output out(now, actions, last);
    keeper.write(Purpose::boot, m, out);
    return run();
  }

  MailboxKeeper keeper{cluster, NodeId(1), 3};
  std::map<Place, std::vector<std::byte>> blocks;
  std::map<int, ErrorCode> errors;
  std::vector<Place> order;
  Actions actions;
  std::uint64_t last = 0;
  Instant now = Instant{} + seconds(1);
};

TEST_F(Keeper, highest_generation_wins_even_alone) {
  blocks[{2, 0}] = encode(generation(9, 4));
  auto outcome = read();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->kind, Kind::known);
  EXPECT_EQ(outcome->mailbox.generation, 9U);
  EXPECT_TRUE(outcome->all_answered);
  EXPECT_EQ(keeper.next_generation(), 10U);
}

TEST_F(Keeper, torn_copies_cost_nothing_while_a_majority_has_one_valid_each) {
  for (int d = 0; d < 3; ++d) blocks[{d, 0}][100] ^= std::byte{1};
  EXPECT_EQ(read()->kind, Kind::known);
  blocks[{1, 1}][100] ^= std::byte{1};
  auto outcome = read();
  EXPECT_EQ(outcome->kind, Kind::known);
  EXPECT_TRUE(outcome->all_answered) << "disk 1 was read, and has nothing more to say";
  errors[1] = ErrorCode::io_error;
  EXPECT_FALSE(read()->all_answered);
  errors.clear();
  blocks[{2, 1}][100] ^= std::byte{1};
  EXPECT_EQ(read()->kind, Kind::unknown) << "I7";
}

TEST_F(Keeper, unreadable_disks) {
  errors[0] = ErrorCode::disconnected;
  EXPECT_EQ(read()->kind, Kind::known);
  errors[1] = ErrorCode::io_error;
  EXPECT_EQ(read()->kind, Kind::unknown);
  errors[1] = ErrorCode::reservation_conflict;
  EXPECT_TRUE(read()->kept_out);
}

TEST_F(Keeper, contradictions_and_strangers_are_unknown_or_ignored) {
  auto other = generation(1);
  other.reason = 4;
  blocks[{0, 0}] = encode(other);
  EXPECT_EQ(read()->kind, Kind::unknown) << "two contents of one generation";
  blocks[{0, 0}] = encode(generation(1));
  auto foreign = generation(50);
  foreign.cluster = ClusterId(6);
  blocks[{0, 0}] = encode(foreign);
  EXPECT_EQ(read()->mailbox.generation, 1U);
  auto newer = encode(generation(60));
  newer[8] = std::byte{2};
  store_le<std::uint32_t>(newer.data() + 12, 0);
  store_le(newer.data() + 12, crc32c(newer));
  blocks[{0, 0}] = newer;
  EXPECT_EQ(read()->kind, Kind::unknown) << "another version";
}

TEST_F(Keeper, careful_write_does_copy_0_everywhere_before_copy_1) {
  EXPECT_EQ(write(generation(2))->kind, Kind::written);
  ASSERT_EQ(order.size(), 6U);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(order[i].second, i < 3 ? 0 : 1);
}

TEST_F(Keeper, a_write_needs_a_majority) {
  errors[1] = ErrorCode::io_error;
  EXPECT_EQ(write(generation(2))->kind, Kind::written);
  errors[2] = ErrorCode::disconnected;
  EXPECT_EQ(write(generation(3))->kind, Kind::write_failed);
  EXPECT_EQ(keeper.next_generation(), 4U) << "what may have been written is not written again";
  errors.clear();
  EXPECT_EQ(write(generation(3))->kind, Kind::written) << "re-drivable";
  EXPECT_EQ(read()->mailbox.generation, 3U);
}

TEST_F(Keeper, any_conflict_means_fenced) {
  errors[2] = ErrorCode::reservation_conflict;
  EXPECT_EQ(write(generation(2))->kind, Kind::fenced);
}

TEST_F(Keeper, a_read_does_not_wait_for_a_write_that_hangs) {
  Output out(now, actions, last);
  keeper.write(Purpose::giveback, generation(2), out);
  auto hanging = std::exchange(actions, {});
  keeper.read(Purpose::takeover, out);
  auto outcome = run();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->purpose, Purpose::takeover);
  EXPECT_EQ(outcome->kind, Kind::known);
  EXPECT_TRUE(keeper.writing());
  EXPECT_EQ(keeper.next_generation(), 3U);
  for (auto& action : hanging) {
    keeper.on_completed({std::get<DiskCommand>(action).command, fail(ErrorCode::timed_out, "")},
                        out);
  }
  EXPECT_EQ(keeper.take_outcome()->kind, Kind::write_failed);
}

TEST_F(Keeper, an_abandoned_write_begins_nothing_more) {
  Output out(now, actions, last);
  keeper.write(Purpose::giveback, generation(2), out);
  auto first = std::exchange(actions, {});
  keeper.abandon_write();
  for (auto& action : first) {
    EXPECT_TRUE(keeper.writing());
    keeper.on_completed({std::get<DiskCommand>(action).command, DiskReply{}}, out);
  }
  EXPECT_TRUE(actions.empty()) << "no copy 1";
  EXPECT_FALSE(keeper.writing());
  EXPECT_FALSE(keeper.take_outcome());
}

TEST(keeper, one_disk_is_its_own_majority) {
  MailboxKeeper keeper(cluster, NodeId(1), 1);
  Actions actions;
  std::uint64_t last = 0;
  Output out(Instant{} + seconds(1), actions, last);
  keeper.read(Purpose::boot, out);
  auto commands = std::exchange(actions, {});
  ASSERT_EQ(commands.size(), 2U);
  keeper.on_completed({std::get<DiskCommand>(commands[0]).command, fail(ErrorCode::io_error, "")},
                      out);
  keeper.on_completed(
      {std::get<DiskCommand>(commands[1]).command, DiskReply{encode(generation(3))}}, out);
  EXPECT_EQ(keeper.take_outcome()->kind, Kind::known);
}

// ---- lease ----

class Lease : public ::testing::Test {
 protected:
  Lease() {
    config.self = NodeId(1);
    config.cluster = cluster;
    config.shelves[1].disks = config.shelves[2].disks = 5;
    lease.emplace(config, NodeId(1));
  }
  std::vector<DiskCommand> tick() {
    Output out(now, actions, last);
    lease->on_time(out);
    std::vector<DiskCommand> commands;
    for (auto& action : std::exchange(actions, {})) {
      if (auto* c = std::get_if<DiskCommand>(&action)) commands.push_back(*c);
    }
    return commands;
  }
  std::optional<Instant> complete(const DiskCommand& command,
                                  Result<DiskReply> reply = DiskReply{}) {
    Output out(now, actions, last);
    EXPECT_TRUE(lease->on_completed({command.command, std::move(reply)}, out));
    std::optional<Instant> until;
    for (auto& action : std::exchange(actions, {})) {
      if (auto* r = std::get_if<RenewLease>(&action)) until = r->until;
    }
    return until;
  }
  void start() {
    Output out(now, actions, last);
    lease->start(BootNonce(9), Epoch(2), out);
    actions.clear();
  }

  Config config;
  std::optional<LeaseKeeper> lease;
  Actions actions;
  std::uint64_t last = 0;
  Instant now = Instant{} + seconds(1);
};

TEST_F(Lease, counts_from_the_issue_of_what_a_majority_took) {
  start();
  auto issued = now;
  auto writes = tick();
  ASSERT_EQ(writes.size(), 3U);
  now += milliseconds(90);
  EXPECT_FALSE(complete(writes[0]));
  EXPECT_EQ(complete(writes[2]), issued + config.timers.lease());
  EXPECT_FALSE(complete(writes[1]));
}

TEST_F(Lease, a_hanging_disk_gets_no_second_write_and_does_not_hold_up_the_others) {
  start();
  auto writes = tick();
  complete(writes[0]);
  complete(writes[1]);
  now += milliseconds(100);
  auto issued = now;
  auto again = tick();
  ASSERT_EQ(again.size(), 2U);
  complete(again[0]);
  EXPECT_EQ(complete(again[1]), issued + config.timers.lease());
}

TEST_F(Lease, old_writes_of_different_rounds_do_not_add_up) {
  start();
  auto first = tick();
  auto issued = now;
  complete(first[0]);
  now += milliseconds(100);
  auto second = tick();  // disk 0 only
  ASSERT_EQ(second.size(), 1U);
  complete(second[0]);
  EXPECT_EQ(complete(first[1]), issued + config.timers.lease());
}

TEST_F(Lease, errors_renew_nothing_and_conflicts_are_told) {
  start();
  auto writes = tick();
  for (auto& w : writes) EXPECT_FALSE(complete(w, fail(ErrorCode::io_error, "")));
  EXPECT_FALSE(lease->conflict());
  now += milliseconds(100);
  writes = tick();
  complete(writes[1], fail(ErrorCode::reservation_conflict, ""));
  EXPECT_TRUE(lease->conflict());
  EXPECT_FALSE(complete(writes[0]));
  EXPECT_FALSE(complete(writes[2])) << "fenced: no more lease";
}

TEST_F(Lease, pause_and_stop) {
  start();
  auto writes = tick();
  lease->pause();
  for (auto& w : writes) EXPECT_FALSE(complete(w));
  now += milliseconds(100);
  EXPECT_TRUE(tick().empty());
  EXPECT_EQ(lease->next_time(), never);
  lease->resume();
  writes = tick();
  EXPECT_EQ(writes.size(), 3U);
  Output out(now, actions, last);
  lease->stop(out);
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(std::get<RenewLease>(actions[0]).until, Instant{});
  EXPECT_FALSE(lease->on_completed({writes[0].command, DiskReply{}}, out));
}

}  // namespace
}  // namespace duet::ha
