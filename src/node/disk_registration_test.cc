#include "node/disk_registration.h"

#include <gtest/gtest.h>

#include "node/test_shelf.h"

namespace duet::node {
namespace {

constexpr NodeId red{1}, blue{2};

struct Bench {
  simulation::SimulatedScheduler scheduler;
  TestShelf shelf{scheduler, red, 3};
  ReservationKey holder = shelf.reserve(red, Epoch(5));
  ReservationKey key = disk::make_key(TestShelf::cluster, red, disk::KeyRole::engine, Epoch(5));

  Status enroll(ReservationKey expected_holder) {
    return shelf.wait([&](auto done) {
      register_engine(
          shelf.disks(), key, expected_holder, [this] { may_read = true; }, std::move(done));
    });
  }
  std::vector<std::size_t> registrations() {
    return {shelf.registrations(0), shelf.registrations(1), shelf.registrations(2)};
  }
  using Counts = std::vector<std::size_t>;
  bool may_read = false;
};

TEST(DiskRegistration, RegistersOnEveryDiskAndTakesItBack) {
  Bench b;
  EXPECT_EQ(b.registrations(), (Bench::Counts{1, 1, 1}));
  EXPECT_TRUE(b.enroll(b.holder));
  EXPECT_TRUE(b.may_read);
  EXPECT_EQ(b.registrations(), (Bench::Counts{2, 2, 2}));
  EXPECT_TRUE(b.enroll(b.holder)) << "again, as after a failed attempt";
  EXPECT_EQ(b.registrations(), (Bench::Counts{2, 2, 2}));
  // Registered, it may write.
  EXPECT_TRUE(b.shelf.wait([&](auto done) {
    b.shelf.engine[0]->write(0, {make_buffer(512).slice()}, true, std::move(done));
  }));
  EXPECT_TRUE(
      b.shelf.wait([&](auto done) { unregister_engine(b.shelf.disks(), std::move(done)); }));
  EXPECT_EQ(b.registrations(), (Bench::Counts{1, 1, 1}));
  EXPECT_FALSE(b.shelf.wait([&](auto done) {
    b.shelf.engine[0]->write(0, {make_buffer(512).slice()}, true, std::move(done));
  }));
}

TEST(DiskRegistration, AnotherHolderOnOneDiskLeavesNothingOnAny) {
  Bench b;
  auto partner = disk::make_key(TestShelf::cluster, blue, disk::KeyRole::supervisor, Epoch(6));
  auto path = b.shelf.media[1]->connect();
  using enum ports::ReservationType;
  EXPECT_TRUE(b.shelf.wait([&](auto done) { path->register_key(partner, std::move(done)); }));
  EXPECT_TRUE(b.shelf.wait([&](auto done) {
    path->preempt(partner, b.holder, exclusive_access_registrants_only, true, std::move(done));
  }));
  auto enrolled = b.enroll(b.holder);
  ASSERT_FALSE(enrolled);
  EXPECT_EQ(enrolled.error().code, ErrorCode::reservation_conflict);
  EXPECT_NE(enrolled.error().message.find("disk shelf1/1"), std::string::npos);
  EXPECT_NE(enrolled.error().message.find("node 2 supervisor, epoch 6"), std::string::npos)
      << enrolled.error().message;
  EXPECT_EQ(b.registrations(), (Bench::Counts{1, 1, 1}));
}

TEST(DiskRegistration, ADiskThatNobodyReservedIsNotOurs) {
  Bench b;
  EXPECT_TRUE(b.shelf.wait([&](auto done) {
    b.shelf.supervisor[2]->release(
        b.holder, ports::ReservationType::exclusive_access_registrants_only, std::move(done));
  }));
  auto enrolled = b.enroll(b.holder);
  ASSERT_FALSE(enrolled);
  EXPECT_NE(enrolled.error().message.find("shelf1/2: not reserved"), std::string::npos);
  EXPECT_EQ(b.registrations(), (Bench::Counts{1, 1, 1}));
}

TEST(DiskRegistration, ADiskWithoutPathIsNamed) {
  Bench b;
  b.shelf.engine[0]->disconnect();
  auto enrolled = b.enroll(b.holder);
  ASSERT_FALSE(enrolled);
  EXPECT_EQ(enrolled.error().code, ErrorCode::disconnected);
  EXPECT_NE(enrolled.error().message.find("disk shelf1/0"), std::string::npos);
  EXPECT_EQ(b.registrations(), (Bench::Counts{1, 1, 1}));
  // Taking back does not mind either.
  EXPECT_TRUE(
      b.shelf.wait([&](auto done) { unregister_engine(b.shelf.disks(), std::move(done)); }));
}

}  // namespace
}  // namespace duet::node
