// A real duet-shelf over real iSCSI: what the conformance suite does not look at.
#include <gtest/gtest.h>

#include <algorithm>

#include "initiator.h"
#include "shelf_process.h"

namespace duet::testing {
namespace {

constexpr std::uint8_t register_key = 0, reserve = 1, preempt = 4, preempt_and_abort = 5,
                       register_and_ignore = 6, register_and_move = 7;
constexpr std::uint8_t aptpl = 1, all_target_ports = 4;
constexpr std::uint8_t write_exclusive_registrants = 5, exclusive_registrants = 6;
constexpr std::uint32_t power_on = 0x062900, registrations_preempted = 0x062a05,
                        reservations_released = 0x062a04;
using Keys = std::vector<std::uint64_t>;

std::uint64_t be(const std::vector<std::uint8_t>& data, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value = value << 8 | data.at(at + i);
  return value;
}

class ShelfProcessTest : public ::testing::Test {
 protected:
  ShelfProcessTest() : shelf(DUET_SHELF, options()) {}

  static ShelfProcess::Options options() {
    ShelfProcess::Options o;
    o.disks = 2;
    o.paths = 2;
    return o;
  }
  // Without their unit attentions.
  std::unique_ptr<Initiator> login(const std::string& name, unsigned path = 0, unsigned isid = 1) {
    auto initiator = std::make_unique<Initiator>(shelf.portal(path), shelf.iqn(),
                                                 "iqn.2026-11.test:" + name, isid);
    initiator->clear_attentions();
    return initiator;
  }

  ShelfProcess shelf;
};

TEST_F(ShelfProcessTest, PreemptAndAbortEndsASlowWrite) {
  auto red = login("red"), blue = login("blue", 1);
  ASSERT_TRUE(red->write(1).good());
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa).good());
  ASSERT_TRUE(red->reserve_out(reserve, write_exclusive_registrants, 0xa).good());
  ASSERT_TRUE(blue->reserve_out(register_key, 0, 0, 0xb).good());
  shelf.control("slow 0 600000");
  auto* slow = red->start({0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::uint8_t>(512, 0xbb));
  // Red's next command on the same connection is answered, so the write is at the unit.
  ASSERT_TRUE(red->test_unit_ready().good());
  EXPECT_TRUE(blue->reserve_out(preempt_and_abort, exclusive_registrants, 0xb, 0xa).good());
  shelf.control("heal 0");
  EXPECT_EQ(blue->read(), 1);
  EXPECT_EQ(blue->keys(), Keys{0xb});
  EXPECT_TRUE(red->write(2).conflict());
  EXPECT_EQ(red->test_unit_ready().sense, registrations_preempted);
  EXPECT_FALSE(slow->done);  // never answered
  EXPECT_EQ(red->read(), -1);
}

TEST_F(ShelfProcessTest, SlowDiskIsFencedAtOncePersistently) {
  auto red = login("red"), blue = login("blue", 1);
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa, aptpl).good());
  ASSERT_TRUE(red->reserve_out(reserve, write_exclusive_registrants, 0xa).good());
  shelf.control("slow 0 600000");
  auto* slow = red->start({0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::uint8_t>(512, 0xbb));
  ASSERT_TRUE(red->test_unit_ready().good());
  ASSERT_TRUE(blue->reserve_out(register_and_ignore, 0, 0, 0xb, aptpl).good());
  EXPECT_TRUE(blue->reserve_out(preempt_and_abort, exclusive_registrants, 0xb, 0xa).good());
  EXPECT_FALSE(slow->done);
  shelf.kill();
  shelf.start();
  auto again = login("blue", 1);
  EXPECT_EQ(again->keys(), Keys{0xb});
  EXPECT_EQ(again->read(), 0);
}

TEST_F(ShelfProcessTest, PlainPreemptLetsTheSlowWriteLand) {
  auto red = login("red"), blue = login("blue", 1);
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa).good());
  ASSERT_TRUE(blue->reserve_out(register_key, 0, 0, 0xb).good());
  shelf.control("slow 0 300");
  auto* slow = red->start({0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::uint8_t>(512, 0xbb));
  ASSERT_TRUE(red->test_unit_ready().good());
  EXPECT_TRUE(blue->reserve_out(preempt, exclusive_registrants, 0xb, 0xa).good());
  EXPECT_TRUE(red->finish(slow).good());
  EXPECT_EQ(blue->read(), 0xbb);
}

TEST_F(ShelfProcessTest, PersistedReservationsSurviveBeingKilled) {
  {
    auto red = login("red"), blue = login("blue", 1);
    ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa, aptpl).good());
    ASSERT_TRUE(blue->reserve_out(register_key, 0, 0, 0xb, aptpl).good());
    ASSERT_TRUE(red->reserve_out(reserve, write_exclusive_registrants, 0xa).good());
    ASSERT_TRUE(red->write(7).good());
  }
  shelf.kill();
  shelf.start();
  Initiator fresh(shelf.portal(0), shelf.iqn(), "iqn.2026-11.test:red");
  EXPECT_EQ(fresh.test_unit_ready().sense, power_on);
  auto red = login("red"), blue = login("blue", 1), green = login("green");
  EXPECT_EQ(red->keys(), (Keys{0xa, 0xb}));
  EXPECT_EQ(be(red->reserve_in(1).data, 8, 8), 0xau);
  EXPECT_TRUE(green->write(1).conflict());
  EXPECT_EQ(green->read(), 7);
  EXPECT_TRUE(blue->write(2).good());
}

TEST_F(ShelfProcessTest, OthersAreDroppedWithPower) {
  auto red = login("red"), blue = login("blue", 1);
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa, aptpl).good());
  ASSERT_TRUE(blue->reserve_out(register_key, 0, 0, 0xb, 0).good());  // the last one decides
  shelf.kill();
  shelf.start();
  EXPECT_EQ(login("red")->keys(), Keys{});
  auto again = login("red");
  ASSERT_TRUE(again->reserve_out(register_key, 0, 0, 0xa).good());
  shelf.control("power-blip 0");
  EXPECT_EQ(again->test_unit_ready().sense, power_on);
  EXPECT_EQ(again->keys(), Keys{});
}

TEST_F(ShelfProcessTest, PowerBlipOfTheShelfBreaksSessionsAndKeepsAptpl) {
  auto red = login("red");
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa, aptpl).good());
  shelf.control("power-blip all");
  EXPECT_EQ(red->test_unit_ready().status, -1);
  Initiator again(shelf.portal(0), shelf.iqn(), "iqn.2026-11.test:red");
  EXPECT_EQ(again.test_unit_ready().sense, power_on);
  EXPECT_EQ(again.keys(), Keys{0xa});
}

TEST_F(ShelfProcessTest, UnflushedWritesAreLostWithPower) {
  auto red = login("red"), blue = login("blue", 1);
  std::vector<std::uint8_t> caching(24);  // MODE SELECT(6), caching page
  caching[4] = 8;
  caching[5] = 18;
  caching[6] = 4;
  ASSERT_TRUE(red->run({0x15, 0x10, 0, 0, 24}, caching).good());
  EXPECT_EQ(blue->test_unit_ready().sense, 0x062a01u);
  ASSERT_TRUE(red->write(1, 0x08).good());  // FUA
  ASSERT_TRUE(red->write(2).good());
  EXPECT_EQ(blue->read(), 2);
  shelf.control("power-blip 0");
  red->clear_attentions();
  EXPECT_EQ(red->read(), 1);
  ASSERT_TRUE(red->run({0x15, 0x10, 0, 0, 24}, caching).good());
  ASSERT_TRUE(red->write(3).good());
  ASSERT_TRUE(red->run({0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}).good());  // SYNCHRONIZE CACHE
  shelf.control("power-blip 0");
  red->clear_attentions();
  EXPECT_EQ(red->read(), 3);
}

TEST_F(ShelfProcessTest, RegisterAndMoveAndFullStatus) {
  auto red = login("red"), blue = login("blue", 1, 7);
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa).good());
  ASSERT_TRUE(red->reserve_out(reserve, exclusive_registrants, 0xa).good());
  std::string name("iqn.2026-11.test:blue,i,0x800000070001");
  // libiscsi's random format: type 80h, 24 bits of it ours, 16 bits qualifier. Ask the shelf
  // instead.
  ASSERT_TRUE(blue->reserve_out(register_key, 0, 0, 0xb).good());
  auto status = red->reserve_in(3).data;
  ASSERT_GT(status.size(), 8u + 24);
  const std::size_t first = 24 + be(status, 8 + 20, 4);
  const std::size_t second = 8 + first;
  EXPECT_EQ(be(status, 8, 8), 0xau);
  EXPECT_EQ(status.at(8 + 12) & 1, 1);  // holder
  EXPECT_EQ(status.at(8 + 13), exclusive_registrants);
  EXPECT_EQ(be(status, 8 + 18, 2), 1u);
  EXPECT_EQ(be(status, second, 8), 0xbu);
  EXPECT_EQ(status.at(second + 12) & 1, 0);
  EXPECT_EQ(be(status, second + 18, 2), 2u);  // came through the second port
  const std::size_t id_size = be(status, second + 20, 4);
  const std::vector<std::uint8_t> id(
      status.begin() + static_cast<std::ptrdiff_t>(second + 24),
      status.begin() + static_cast<std::ptrdiff_t>(second + 24 + id_size));
  const std::string text(id.begin() + 4, id.end());
  EXPECT_TRUE(text.starts_with("iqn.2026-11.test:blue,i,0x80"));

  // Red hands the reservation to blue's nexus with a new key, and leaves.
  std::vector<std::uint8_t> list(24);
  list[7] = 0xa;
  list[15] = 0xc;
  list[17] = 2;  // UNREG
  list[19] = 2;  // relative target port
  list[23] = static_cast<std::uint8_t>(id_size);
  list.insert(list.end(), id.begin(), id.end());
  EXPECT_TRUE(
      red->run({0x5f, register_and_move, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(list.size())},
               list)
          .good());
  EXPECT_EQ(blue->keys(), Keys{0xc});
  EXPECT_EQ(be(blue->reserve_in(1).data, 8, 8), 0xcu);
  EXPECT_TRUE(blue->write(5).good());
  EXPECT_TRUE(red->write(6).conflict());
}

TEST_F(ShelfProcessTest, SeveralPathsPerNode) {
  auto red1 = login("red", 0), red2 = login("red", 1), blue = login("blue", 0);
  auto r = red1->reserve_out(register_key, 0, 0, 0xa, all_target_ports);
  ASSERT_TRUE(r.good());
  EXPECT_EQ(red1->keys(), (Keys{0xa, 0xa}));
  ASSERT_TRUE(red1->reserve_out(reserve, write_exclusive_registrants, 0xa).good());
  EXPECT_TRUE(red2->write(1).good());
  EXPECT_TRUE(blue->write(2).conflict());
  ASSERT_TRUE(blue->reserve_out(register_and_ignore, 0, 0, 0xb).good());
  EXPECT_TRUE(blue->reserve_out(preempt_and_abort, exclusive_registrants, 0xb, 0xa).good());
  EXPECT_TRUE(red1->write(3).conflict());
  EXPECT_TRUE(red2->write(3).conflict());
  EXPECT_EQ(red1->test_unit_ready().sense, registrations_preempted);
  EXPECT_EQ(red2->test_unit_ready().sense, registrations_preempted);
  EXPECT_EQ(blue->keys(), Keys{0xb});
}

TEST_F(ShelfProcessTest, RegistrationsOutliveTheSession) {
  {
    auto red = login("red");
    ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa).good());
    ASSERT_TRUE(red->reserve_out(reserve, write_exclusive_registrants, 0xa).good());
  }
  auto red = login("red");
  EXPECT_EQ(red->keys(), Keys{0xa});
  EXPECT_TRUE(red->write(1).good());
  EXPECT_TRUE(login("blue")->write(1).conflict());
}

TEST_F(ShelfProcessTest, ChangingTheTypeTellsOnlyTheOthers) {
  auto red = login("red"), blue = login("blue", 1);
  ASSERT_TRUE(red->reserve_out(register_key, 0, 0, 0xa).good());
  ASSERT_TRUE(blue->reserve_out(register_key, 0, 0, 0xb).good());
  ASSERT_TRUE(red->reserve_out(reserve, exclusive_registrants, 0xa).good());
  EXPECT_TRUE(red->reserve_out(preempt, write_exclusive_registrants, 0xa, 0xa).good());
  EXPECT_TRUE(red->test_unit_ready().good());
  EXPECT_EQ(red->keys(), (Keys{0xa, 0xb}));
  EXPECT_EQ(blue->test_unit_ready().sense, reservations_released);
  EXPECT_TRUE(login("green")->read() == 0);
}

TEST_F(ShelfProcessTest, CutPathIsSilentAndComesBack) {
  auto red = login("red", 0), blue = login("blue", 1);
  shelf.control("cut-path " + shelf.portal(0));
  EXPECT_EQ(red->run({0x00}, {}, std::chrono::milliseconds(200)).status, -1);
  EXPECT_TRUE(blue->test_unit_ready().good());
  shelf.control("restore-path " + shelf.portal(0));
  EXPECT_TRUE(login("red", 0)->test_unit_ready().good());
  shelf.control("cut-path iqn.2026-11.test:blue");
  EXPECT_EQ(blue->run({0x00}, {}, std::chrono::milliseconds(200)).status, -1);
  EXPECT_TRUE(login("red", 1)->test_unit_ready().good());
  shelf.control("restore-path all");
  EXPECT_TRUE(login("blue", 1)->test_unit_ready().good());
}

TEST_F(ShelfProcessTest, FailHangHeal) {
  auto red = login("red");
  shelf.control("fail 0");
  EXPECT_EQ(red->write(1).sense, 0x030c00u);
  shelf.control("heal 0");
  shelf.control("hang 0");
  auto* hanging = red->start({0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, std::vector<std::uint8_t>(512, 4));
  EXPECT_EQ(red->finish(hanging, std::chrono::milliseconds(200)).status, -1);
  EXPECT_EQ(shelf.control("status"), "ok power=on disk0=hanging disk1=on");
  // The session may break and come back; the disk answers when it is healed.
  shelf.control("heal 0");
  EXPECT_TRUE(red->finish(hanging).good());
  EXPECT_EQ(red->read(), 4);
}

}  // namespace
}  // namespace duet::testing
