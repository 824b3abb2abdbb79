#include "scsi/logical_unit.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "scsi/logical_unit_fixture.h"

namespace duet::scsi {
namespace {

using Out = PersistentReserveOut::ServiceAction;
using Cdb6 = std::vector<std::uint8_t>;

const Nexus red = UnitFixture::nexus("red");
const Nexus blue = UnitFixture::nexus("blue");

std::vector<std::uint8_t> cdb10(std::uint8_t code, std::uint32_t lba, std::uint16_t blocks,
                                std::uint8_t flags = 0) {
  return {code,
          flags,
          std::uint8_t(lba >> 24),
          std::uint8_t(lba >> 16),
          std::uint8_t(lba >> 8),
          std::uint8_t(lba),
          0,
          std::uint8_t(blocks >> 8),
          std::uint8_t(blocks)};
}
std::vector<std::uint8_t> write10(std::uint32_t lba, std::uint16_t n, std::uint8_t flags = 0) {
  return cdb10(0x2a, lba, n, flags);
}
std::vector<std::uint8_t> read10(std::uint32_t lba, std::uint16_t n) {
  return cdb10(0x28, lba, n);
}
std::vector<std::uint8_t> compare_and_write(std::uint8_t lba, std::uint8_t blocks) {
  return {0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks};
}
std::vector<std::byte> filled(std::size_t size, int value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

class LogicalUnitTest : public testing::Test {
 protected:
  LogicalUnitTest() {
    for (const auto& n : {red, blue}) {
      f.unit.on_nexus_new(n);
      f.clear_attentions(n);
    }
  }
  void make_registrants() {
    for (const auto& [n, key] : {std::pair(red, 1), std::pair(blue, 2)})
      ASSERT_EQ(
          f.run(n, reserve_out(Out::register_key), reserve_list(0, std::uint64_t(key))).status,
          StatusCode::good);
  }
  UnitFixture f;
};

TEST_F(LogicalUnitTest, FirstCommandOfANexusMeetsPowerOn) {
  const auto green = UnitFixture::nexus("green");
  EXPECT_EQ(f.run(green, {0x12, 0, 0, 0, 36}).status, StatusCode::good);  // INQUIRY does not
  EXPECT_EQ(sense_code(f.run(green, {0x00})), 0x062900u);
  EXPECT_EQ(f.run(green, {0x00}).status, StatusCode::good);
}

TEST_F(LogicalUnitTest, PowerOnHidesOtherResets) {
  const auto green = UnitFixture::nexus("green");
  f.unit.on_nexus_new(green);
  Actions actions;
  f.unit.on_nexus_lost(green, actions);
  f.unit.on_task_management(1, TaskManagement::logical_unit_reset, red, {}, actions);
  EXPECT_EQ(sense_code(f.run(green, {0x00})), 0x062900u);
  EXPECT_EQ(f.run(green, {0x00}).status, StatusCode::good);
}

TEST_F(LogicalUnitTest, RequestSenseTakesTheAttention) {
  const auto green = UnitFixture::nexus("green");
  const auto data = joined(f.run(green, {0x03, 0, 0, 0, 18}).data_in);
  EXPECT_EQ(data[12], std::byte{0x29});
  EXPECT_EQ(f.run(green, {0x00}).status, StatusCode::good);
}

TEST_F(LogicalUnitTest, WritesAndReads) {
  EXPECT_EQ(f.run(red, write10(5, 2), filled(1024, 7)).status, StatusCode::good);
  EXPECT_EQ(joined(f.run(blue, read10(5, 2)).data_in), filled(1024, 7));
  EXPECT_EQ(joined(f.run(blue, read10(7, 1)).data_in), filled(512, 0));
}

TEST_F(LogicalUnitTest, RefusesWhatIsOutsideOrTooLong) {
  EXPECT_EQ(sense_code(f.run(red, read10(1023, 2))), 0x052100u);
  EXPECT_EQ(sense_code(f.run(red, read10(1025, 0))), 0x052100u);
  EXPECT_EQ(f.run(red, read10(1023, 1)).status, StatusCode::good);
  auto config = UnitFixture::default_config();
  config.blocks = 8192;
  UnitFixture big(config);
  big.clear_attentions(red);
  EXPECT_EQ(big.run(red, read10(0, 2048)).status, StatusCode::good);
  EXPECT_EQ(sense_code(big.run(red, read10(0, 2049))), 0x052400u);
}

TEST_F(LogicalUnitTest, LessDataThanTheCdbAsksFor) {
  // WRITE: the blocks that came whole; the transport reports the rest from data_out_wanted.
  const auto response = f.run(red, write10(0, 2), filled(700, 1));
  EXPECT_EQ(response.status, StatusCode::good);
  EXPECT_EQ(response.data_out_wanted, 1024u);
  EXPECT_EQ(f.medium[511], std::byte{1});
  EXPECT_EQ(f.medium[512], std::byte{0});
  EXPECT_EQ(f.run(red, write10(0, 2), {}).status, StatusCode::good);
  // Where that would change what the command means: refused.
  EXPECT_EQ(sense_code(f.run(red, cdb10(0x2f, 0, 2, 0x02), filled(512, 1))), 0x050e03u);
  EXPECT_EQ(sense_code(f.run(red, compare_and_write(0, 2), filled(1024, 1))), 0x052400u);
  EXPECT_EQ(sense_code(f.run(red, compare_and_write(0, 1), filled(2048, 1))), 0x052400u);
  EXPECT_EQ(sense_code(f.run(red, cdb10(0x41, 0, 2), filled(1024, 1))), 0x052400u);
}

TEST_F(LogicalUnitTest, StoreFailuresBecomeSense) {
  using O = StoreDone::Outcome;
  const std::pair<O, std::uint32_t> table[] = {{O::read_failed, 0x031100},
                                               {O::write_failed, 0x030c00},
                                               {O::not_ready, 0x02040a},
                                               {O::no_space, 0x072707},
                                               {O::busy, 0},
                                               {O::conflict, 0}};
  for (const auto& [outcome, code] : table) {
    const auto tag = f.send(red, write10(0, 1), filled(512, 1));
    f.perform(outcome);
    const auto response = f.answer(tag);
    ASSERT_TRUE(response);
    EXPECT_EQ(sense_code(*response), code);
    EXPECT_EQ(response->status, outcome == O::busy       ? StatusCode::busy
                                : outcome == O::conflict ? StatusCode::reservation_conflict
                                                         : StatusCode::check_condition);
  }
}

TEST_F(LogicalUnitTest, DurableWithoutCacheOrWithForceUnitAccess) {
  const auto durable = [&](std::vector<std::uint8_t> cdb) {
    Actions actions;
    Command command;
    command.tag = CommandTag(1u << 30);
    command.nexus = red;
    std::ranges::copy(cdb, command.cdb.begin());
    command.data_out.push_back(copy_to_slice(filled(512, 1)));
    f.unit.on_command(std::move(command), actions);
    const auto write = std::get<StoreWrite>(actions.at(0));
    f.handle(std::move(actions));
    f.perform_all();
    return write.durable;
  };
  EXPECT_TRUE(durable(write10(0, 1)));
  // MODE SELECT(6): caching page with WCE.
  std::vector<std::byte> list(24);
  list[4] = std::byte{8};
  list[5] = std::byte{18};
  list[6] = std::byte{4};
  EXPECT_EQ(f.run(red, {0x15, 0x10, 0, 0, 24}, list).status, StatusCode::good);
  EXPECT_EQ(sense_code(f.run(blue, {0x00})), 0x062a01u);
  EXPECT_TRUE(f.unit.write_cache());
  EXPECT_FALSE(durable(write10(0, 1)));
  EXPECT_TRUE(durable(write10(0, 1, 0x08)));
  EXPECT_EQ(joined(f.run(red, {0x1a, 8, 8, 0, 64}).data_in)[6] & std::byte{4}, std::byte{4});
  // Switching it off makes durable what was answered.
  list[6] = std::byte{0};
  const auto tag = f.send(red, {0x15, 0x10, 0, 0, 24}, list);
  EXPECT_FALSE(f.answer(tag));
  EXPECT_EQ(f.waiting(), 1u);  // the flush
  f.perform_all();
  EXPECT_EQ(f.answer(tag)->status, StatusCode::good);
}

TEST_F(LogicalUnitTest, SynchronizeCacheFlushesOnlyACache) {
  EXPECT_EQ(f.run(red, cdb10(0x35, 0, 0)).status, StatusCode::good);
  auto config = UnitFixture::default_config();
  config.write_cache = true;
  UnitFixture cached(config);
  cached.clear_attentions(red);
  const auto tag = cached.send(red, cdb10(0x35, 0, 0));
  EXPECT_FALSE(cached.answer(tag));
  EXPECT_EQ(cached.waiting(), 1u);
}

// ---- compare and write, verify, write same, unmap ----

TEST_F(LogicalUnitTest, CompareAndWrite) {
  auto data = filled(1024, 0);
  std::fill(data.begin() + 512, data.end(), std::byte{9});
  EXPECT_EQ(f.run(red, compare_and_write(3, 1), data).status, StatusCode::good);
  EXPECT_EQ(f.medium[3 * 512], std::byte{9});
  const auto again = f.run(red, compare_and_write(3, 1), data);
  EXPECT_EQ(sense_code(again), 0x0e1d00u);
  EXPECT_EQ(load_be<std::uint32_t>(&again.sense[3]), 0u);  // offset of the difference
}

TEST_F(LogicalUnitTest, CompareAndWriteHasItsBlocksAlone) {
  auto data = filled(1024, 0);
  std::fill(data.begin() + 512, data.end(), std::byte{9});
  const auto caw = f.send(red, compare_and_write(3, 1), data);
  const auto overlapping = f.send(blue, write10(2, 2), filled(1024, 5));
  const auto elsewhere = f.send(blue, write10(4, 1), filled(512, 6));
  EXPECT_EQ(f.waiting(), 2u);  // the read of the first, and the third
  f.perform();                 // read; its write follows
  f.perform();                 // elsewhere
  EXPECT_TRUE(f.answer(elsewhere));
  EXPECT_EQ(f.waiting(), 1u);
  f.perform();
  EXPECT_EQ(f.answer(caw)->status, StatusCode::good);
  EXPECT_EQ(f.waiting(), 1u);
  f.perform();
  EXPECT_EQ(f.answer(overlapping)->status, StatusCode::good);
  EXPECT_EQ(f.medium[3 * 512], std::byte{5});
}

TEST_F(LogicalUnitTest, VerifyCompares) {
  f.run(red, write10(0, 2), filled(1024, 3));
  EXPECT_EQ(f.run(red, cdb10(0x2f, 0, 2, 0x02), filled(1024, 3)).status, StatusCode::good);
  auto other = filled(1024, 3);
  other[700] = std::byte{4};
  const auto response = f.run(red, cdb10(0x2f, 0, 2, 0x02), other);
  EXPECT_EQ(sense_code(response), 0x0e1d00u);
  EXPECT_EQ(load_be<std::uint32_t>(&response.sense[3]), 700u);
  EXPECT_EQ(f.run(red, cdb10(0x2f, 0, 2, 0x06), filled(512, 3)).status, StatusCode::good);
  EXPECT_EQ(sense_code(f.run(red, cdb10(0x2f, 0, 2, 0x06), filled(512, 4))), 0x0e1d00u);
  EXPECT_EQ(sense_code(f.run(red, cdb10(0x2f, 0, 2, 0x04), filled(512, 4))), 0x052400u);
}

TEST_F(LogicalUnitTest, WriteSameAndUnmap) {
  EXPECT_EQ(f.run(red, cdb10(0x41, 10, 100), filled(512, 8)).status, StatusCode::good);
  EXPECT_EQ(f.medium[109 * 512 + 511], std::byte{8});
  EXPECT_EQ(f.medium[110 * 512], std::byte{0});
  std::vector<std::byte> list(24);
  store_be(&list[0], std::uint16_t{22});
  store_be(&list[2], std::uint16_t{16});
  store_be(&list[8], std::uint64_t{10});
  store_be(&list[16], std::uint32_t{50});
  EXPECT_EQ(f.run(red, {0x42, 0, 0, 0, 0, 0, 0, 0, 24}, list).status, StatusCode::good);
  EXPECT_EQ(f.medium[59 * 512], std::byte{0});
  EXPECT_EQ(f.medium[60 * 512], std::byte{8});
  store_be(&list[8], std::uint64_t{1000});
  EXPECT_EQ(sense_code(f.run(red, {0x42, 0, 0, 0, 0, 0, 0, 0, 24}, list)), 0x052100u);
  auto config = UnitFixture::default_config();
  config.thin = false;
  UnitFixture thick(config);
  thick.clear_attentions(red);
  EXPECT_EQ(sense_code(thick.run(red, {0x42, 0, 0, 0, 0, 0, 0, 0, 24}, list)), 0x052000u);
}

// ---- task set ----

TEST_F(LogicalUnitTest, OrderedWaitsForAllBeforeAndHoldsAllAfter) {
  const auto first = f.send(red, write10(0, 1), filled(512, 1));
  const auto ordered = f.send(red, write10(1, 1), filled(512, 2), TaskAttribute::ordered);
  const auto last = f.send(red, write10(2, 1), filled(512, 3));
  EXPECT_EQ(f.waiting(), 1u);
  const auto urgent = f.send(red, write10(3, 1), filled(512, 4), TaskAttribute::head_of_queue);
  EXPECT_EQ(f.waiting(), 2u);
  f.perform();
  EXPECT_TRUE(f.answer(first));
  EXPECT_EQ(f.waiting(), 1u);  // ordered still waits for the urgent one
  f.perform();
  EXPECT_TRUE(f.answer(urgent));
  EXPECT_EQ(f.waiting(), 1u);
  EXPECT_FALSE(f.answer(last));
  f.perform();
  EXPECT_TRUE(f.answer(ordered));
  f.perform();
  EXPECT_TRUE(f.answer(last));
}

TEST_F(LogicalUnitTest, TaskSetIsBounded) {
  for (std::size_t i = 0; i < max_tasks; ++i) f.send(red, read10(0, 1));
  const auto tag = f.send(red, read10(0, 1));
  EXPECT_EQ(f.answer(tag)->status, StatusCode::task_set_full);
  f.perform();
  EXPECT_FALSE(f.answer(f.send(red, read10(0, 1))));
}

TEST_F(LogicalUnitTest, NexusesAreBounded) {
  for (std::size_t i = 0; i < max_nexuses + 8; ++i)
    f.run(UnitFixture::nexus("n" + std::to_string(i)), {0x00});
  EXPECT_EQ(sense_code(f.run(UnitFixture::nexus("n0"), {0x00})),
            0x062900u);                                    // forgotten, comes again
  EXPECT_EQ(f.run(red, {0x00}).status, StatusCode::good);  // has a session: kept
}

TEST_F(LogicalUnitTest, AbortTaskEndsOnlyWhenTheStoreIsDone) {
  const auto tag = f.send(red, write10(0, 1), filled(512, 1));
  Actions actions;
  f.unit.on_task_management(77, TaskManagement::abort_task, red, tag, actions);
  f.handle(std::move(actions));
  EXPECT_TRUE(f.abort_asked());
  EXPECT_FALSE(f.managed(77));
  f.perform();
  EXPECT_TRUE(f.managed(77));
  EXPECT_TRUE(f.aborted(tag));
  EXPECT_FALSE(f.answer(tag));
  EXPECT_EQ(f.medium[0], std::byte{0});
}

TEST_F(LogicalUnitTest, AbortOfAForeignOrUnknownTaskDoesNothing) {
  const auto tag = f.send(red, write10(0, 1), filled(512, 1));
  const auto found = [&](const Nexus& nexus) {
    Actions actions;
    f.unit.on_task_management(1, TaskManagement::abort_task, nexus, tag, actions);
    const auto done = std::get<TaskManagementDone>(actions.at(0));
    EXPECT_TRUE(done.function_complete);
    return done.task_found;
  };
  EXPECT_FALSE(found(blue));
  f.perform();
  EXPECT_EQ(f.answer(tag)->status, StatusCode::good);
  EXPECT_FALSE(found(red));
}

TEST_F(LogicalUnitTest, ClearTaskSetTellsTheOthers) {
  const auto mine = f.send(red, write10(0, 1), filled(512, 1));
  const auto other = f.send(blue, write10(1, 1), filled(512, 1));
  Actions actions;
  f.unit.on_task_management(1, TaskManagement::clear_task_set, red, {}, actions);
  f.handle(std::move(actions));
  f.perform_all();
  EXPECT_TRUE(f.managed(1) && f.aborted(mine) && f.aborted(other));
  EXPECT_EQ(sense_code(f.run(blue, {0x00})), 0x062f00u);
  EXPECT_EQ(f.run(red, {0x00}).status, StatusCode::good);
}

TEST_F(LogicalUnitTest, UnitResetAbortsReleasesAndTellsEverybody) {
  EXPECT_EQ(f.run(red, {0x16}).status, StatusCode::good);  // RESERVE(6)
  EXPECT_EQ(f.run(blue, read10(0, 1)).status, StatusCode::reservation_conflict);
  const auto tag = f.send(red, read10(0, 1));
  Actions actions;
  f.unit.on_task_management(1, TaskManagement::logical_unit_reset, red, {}, actions);
  f.handle(std::move(actions));
  f.perform_all();
  EXPECT_TRUE(f.aborted(tag));
  EXPECT_EQ(sense_code(f.run(red, {0x00})), 0x062903u);
  EXPECT_EQ(sense_code(f.run(blue, {0x00})), 0x062903u);
  EXPECT_EQ(f.run(blue, read10(0, 1)).status, StatusCode::good);
}

TEST_F(LogicalUnitTest, NexusLossAbortsAndReleases) {
  EXPECT_EQ(f.run(red, {0x16}).status, StatusCode::good);
  const auto tag = f.send(red, write10(0, 1), filled(512, 1));
  Actions actions;
  f.unit.on_nexus_lost(red, actions);
  f.handle(std::move(actions));
  f.perform_all();
  EXPECT_TRUE(f.aborted(tag));
  EXPECT_EQ(f.medium[0], std::byte{0});
  EXPECT_EQ(f.run(blue, read10(0, 1)).status, StatusCode::good);
  f.unit.on_nexus_new(red);
  EXPECT_EQ(sense_code(f.run(red, {0x00})), 0x062907u);
}

// ---- reservations ----

TEST_F(LogicalUnitTest, OldReservationsAndPersistentOnesExcludeEachOther) {
  EXPECT_EQ(f.run(red, {0x16}).status, StatusCode::good);
  EXPECT_EQ(f.run(red, reserve_out(Out::register_key), reserve_list(0, 1)).status,
            StatusCode::reservation_conflict);
  EXPECT_EQ(f.run(blue, {0x1a, 0, 0x3f, 0, 64}).status, StatusCode::reservation_conflict);
  EXPECT_EQ(f.run(blue, {0x17}).status, StatusCode::good);  // RELEASE by another has no effect
  EXPECT_EQ(f.run(blue, {0x16}).status, StatusCode::reservation_conflict);
  EXPECT_EQ(f.run(red, {0x17}).status, StatusCode::good);
  make_registrants();
  EXPECT_EQ(f.run(red, {0x16}).status, StatusCode::reservation_conflict);
}

TEST_F(LogicalUnitTest, ReservationIsCheckedWhenTheCommandStarts) {
  make_registrants();
  const auto green = UnitFixture::nexus("green");
  f.clear_attentions(green);
  const auto before = f.send(green, write10(0, 1), filled(512, 1));
  const auto ordered = f.send(green, write10(1, 1), filled(512, 1), TaskAttribute::ordered);
  const auto reserve =
      f.send(red, reserve_out(Out::reserve, 5), reserve_list(1, 0), TaskAttribute::head_of_queue);
  EXPECT_EQ(f.answer(reserve)->status, StatusCode::good);
  f.perform_all();
  EXPECT_EQ(f.answer(before)->status, StatusCode::good);  // it had started
  EXPECT_EQ(f.answer(ordered)->status, StatusCode::reservation_conflict);
}

TEST_F(LogicalUnitTest, PreemptAndAbortWaitsForTheStore) {
  make_registrants();
  EXPECT_EQ(f.run(blue, reserve_out(Out::reserve, 5), reserve_list(2, 0)).status, StatusCode::good);
  const auto slow = f.send(blue, write10(0, 1), filled(512, 0xbb));
  const auto queued = f.send(blue, write10(1, 1), filled(512, 0xbb), TaskAttribute::ordered);
  const auto mine = f.send(red, write10(2, 1), filled(512, 0xaa), TaskAttribute::head_of_queue);
  const auto preempt = f.send(red, reserve_out(Out::preempt_and_abort, 6), reserve_list(1, 2),
                              TaskAttribute::head_of_queue);
  EXPECT_TRUE(f.aborted(queued));  // never started: gone at once
  EXPECT_FALSE(f.answer(preempt));
  EXPECT_TRUE(f.abort_asked());
  f.perform();  // the slow write: cancelled
  EXPECT_TRUE(f.aborted(slow));
  EXPECT_FALSE(f.answer(slow));
  EXPECT_EQ(f.answer(preempt)->status, StatusCode::good);
  EXPECT_EQ(f.medium[0], std::byte{0});
  f.perform_all();
  EXPECT_EQ(f.answer(mine)->status, StatusCode::good);  // nobody else's commands are touched
  // Before its attention the preempted node sees the conflict (SAM-5 5.3.3).
  EXPECT_EQ(f.run(blue, write10(0, 1), filled(512, 1)).status, StatusCode::reservation_conflict);
  EXPECT_EQ(sense_code(f.run(blue, {0x00})), 0x062a05u);
  EXPECT_EQ(f.run(blue, read10(0, 1)).status, StatusCode::reservation_conflict);
}

TEST_F(LogicalUnitTest, PreemptAndAbortIgnoresWorkThatWonTheRace) {
  make_registrants();
  const auto slow = f.send(blue, write10(0, 1), filled(512, 0xbb));
  const auto preempt = f.send(red, reserve_out(Out::preempt_and_abort, 6), reserve_list(1, 2));
  Actions actions;  // the store had already done it
  f.unit.on_store_done({.tag = StoreTag(1), .outcome = StoreDone::Outcome::ok, .data = {}},
                       actions);
  f.handle(std::move(actions));
  EXPECT_TRUE(f.aborted(slow));
  EXPECT_EQ(f.answer(preempt)->status, StatusCode::good);
}

TEST_F(LogicalUnitTest, PersistsBeforeItSpeaks) {
  const auto tag = f.send(red, reserve_out(Out::register_key), reserve_list(0, 1, 1));
  EXPECT_FALSE(f.answer(tag));
  EXPECT_TRUE(f.unit.reservations().registrations().empty());
  const auto other = f.send(blue, read10(0, 1));
  EXPECT_EQ(f.waiting(), 1u);  // nothing starts in between
  f.perform();
  EXPECT_EQ(f.answer(tag)->status, StatusCode::good);
  f.perform_all();
  EXPECT_EQ(f.answer(other)->status, StatusCode::good);
  f.power_cycle();
  ASSERT_EQ(f.unit.reservations().registrations().size(), 1u);
  EXPECT_EQ(f.unit.reservations().registrations()[0].nexus, red);
}

TEST_F(LogicalUnitTest, FailedPersistenceChangesNothing) {
  const auto tag = f.send(red, reserve_out(Out::register_key), reserve_list(0, 1, 1));
  f.perform(StoreDone::Outcome::write_failed);
  EXPECT_EQ(sense_code(*f.answer(tag)), 0x044400u);
  EXPECT_TRUE(f.unit.reservations().registrations().empty());
}

TEST_F(LogicalUnitTest, WithoutPersistenceAPowerLossDropsAll) {
  EXPECT_EQ(f.run(red, reserve_out(Out::register_key), reserve_list(0, 1, 1)).status,
            StatusCode::good);
  EXPECT_EQ(f.run(red, reserve_out(Out::reserve, 5), reserve_list(1, 0)).status, StatusCode::good);
  // The last registration decides, for all.
  EXPECT_EQ(f.run(blue, reserve_out(Out::register_key), reserve_list(0, 2, 0)).status,
            StatusCode::good);
  EXPECT_EQ(f.unit.reservations().registrations().size(), 2u);
  const auto generation = f.unit.reservations().generation();
  f.power_cycle();
  EXPECT_TRUE(f.unit.reservations().registrations().empty());
  EXPECT_EQ(f.unit.reservations().generation(), generation);
}

TEST_F(LogicalUnitTest, AbortedReservationChangeIsStillAppliedOnceDurable) {
  const auto tag = f.send(red, reserve_out(Out::register_key), reserve_list(0, 1, 1));
  Actions actions;
  f.unit.on_nexus_lost(red, actions);
  f.handle(std::move(actions));
  EXPECT_FALSE(f.abort_asked());
  f.perform();
  EXPECT_TRUE(f.aborted(tag));
  EXPECT_EQ(f.unit.reservations().registrations().size(), 1u);
}

TEST_F(LogicalUnitTest, TwoPreemptAndAbortOfEachOther) {
  make_registrants();
  const auto red_write = f.send(red, write10(0, 1), filled(512, 1));
  const auto blue_preempts =
      f.send(blue, reserve_out(Out::preempt_and_abort, 6), reserve_list(2, 1));
  EXPECT_FALSE(f.answer(blue_preempts));
  // Red registers again and preempts blue, whose own preemption is still waiting.
  const auto again = f.send(red, reserve_out(Out::register_and_ignore), reserve_list(0, 3));
  EXPECT_EQ(sense_code(*f.answer(again)), 0x062a05u);
  EXPECT_EQ(f.run(UnitFixture::nexus("red", 2), {0x12, 0, 0, 0, 36}).status, StatusCode::good);
  EXPECT_TRUE(f.aborted(red_write));
  EXPECT_EQ(f.answer(blue_preempts)->status, StatusCode::good);
}

}  // namespace
}  // namespace duet::scsi
