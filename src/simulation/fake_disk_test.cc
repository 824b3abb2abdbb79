#include "simulation/fake_disk.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "simulation/scheduler.h"

namespace duet::simulation {
namespace {

using ports::ReservationType;

Slice filled(std::size_t size, int value) {
  auto buffer = make_buffer(size);
  std::ranges::fill(buffer.bytes, static_cast<std::byte>(value));
  return buffer.slice();
}

class FakeDiskTest : public testing::Test {
 public:
  Status wait(std::move_only_function<void(ports::Done<void>)> start) {
    std::optional<Status> result;
    start([&](Status status) { result = std::move(status); });
    EXPECT_FALSE(result) << "completed from inside the call";
    EXPECT_TRUE(scheduler.run_until([&] { return result.has_value(); }));
    return *result;
  }
  Status write(FakeDisk& disk, std::uint64_t offset, int value, bool durable = false) {
    return wait(
        [&](auto done) { disk.write(offset, {filled(512, value)}, durable, std::move(done)); });
  }
  int seen(std::uint64_t offset) { return std::to_integer<int>(medium.peek(offset, 1)[0]); }

  SimulatedScheduler scheduler;
  PowerSupply power;
  FakeMedium medium{scheduler, {}, &power};
  std::unique_ptr<FakeDisk> red = medium.connect(), blue = medium.connect();
};

TEST_F(FakeDiskTest, DurableAndFlushedWritesSurviveAPowerCutOthersPerhaps) {
  int lost = 0, kept = 0;
  for (int round = 0; round < 40; ++round) {
    ASSERT_TRUE(write(*red, 0, round, true));
    ASSERT_TRUE(write(*red, 512, round));
    ASSERT_TRUE(wait([&](auto done) { red->flush(std::move(done)); }));
    ASSERT_TRUE(write(*red, 512, 100 + round));
    EXPECT_EQ(seen(512), 100 + round);
    power.cut();
    EXPECT_EQ(write(*red, 0, 7).error().code, ErrorCode::disconnected);
    power.restore();
    EXPECT_EQ(seen(0), round);
    (seen(512) == round ? lost : kept) += 1;
  }
  EXPECT_GT(lost, 0);
  EXPECT_GT(kept, 0);
}

TEST_F(FakeDiskTest, PowerCutTearsTheWriteInFlightAtSectors) {
  int torn = 0;
  for (int round = 1; round <= 30; ++round) {
    ASSERT_TRUE(wait([&](auto done) { red->write(0, {filled(8192, 0)}, true, std::move(done)); }));
    power.cut_at(1);
    auto status =
        wait([&](auto done) { red->write(0, {filled(8192, round)}, true, std::move(done)); });
    EXPECT_EQ(status.error().code, ErrorCode::disconnected);
    EXPECT_FALSE(power.on());
    power.restore();
    auto bytes = medium.peek(0, 8192);
    auto changed = std::ranges::count(bytes, static_cast<std::byte>(round));
    EXPECT_EQ(changed % 512, 0);
    torn += changed != 0 && changed != 8192 ? 1 : 0;
  }
  EXPECT_GT(torn, 0);
}

TEST_F(FakeDiskTest, PreemptAndAbortKeepsTheVictimOut) {
  const ReservationKey red_key(1), blue_key(2);
  auto type = ReservationType::write_exclusive_registrants_only;
  ASSERT_TRUE(wait([&](auto done) { red->register_key(red_key, std::move(done)); }));
  ASSERT_TRUE(wait([&](auto done) { red->reserve(red_key, type, std::move(done)); }));
  EXPECT_EQ(write(*blue, 0, 1).error().code, ErrorCode::reservation_conflict);
  ASSERT_TRUE(wait([&](auto done) { blue->register_key(blue_key, std::move(done)); }));
  EXPECT_TRUE(write(*blue, 0, 1));

  std::optional<Status> slow;
  red->write(512, {filled(512, 9)}, true, [&](Status status) { slow = std::move(status); });
  ASSERT_TRUE(wait([&](auto done) {
    blue->preempt(blue_key, red_key, ReservationType::exclusive_access_registrants_only, true,
                  std::move(done));
  }));
  scheduler.run_all();
  EXPECT_EQ(slow->error().code, ErrorCode::cancelled);
  EXPECT_EQ(seen(512), 0);
  EXPECT_EQ(write(*red, 0, 1).error().code, ErrorCode::reservation_conflict);
  std::vector<std::byte> into(512);
  EXPECT_EQ(wait([&](auto done) { red->read(0, into, std::move(done)); }).error().code,
            ErrorCode::reservation_conflict);
  std::optional<ports::RegisteredKeys> keys;
  blue->read_keys([&](auto result) { keys = *result; });
  scheduler.run_all();
  EXPECT_EQ(keys->keys, std::vector{blue_key});
}

TEST_F(FakeDiskTest, FaultsAndBoundsAreReported) {
  medium.fault = [](DiskOperation operation, std::uint64_t, std::uint64_t) {
    return operation == DiskOperation::flush ? std::optional(ErrorCode::io_error) : std::nullopt;
  };
  EXPECT_EQ(wait([&](auto done) { red->flush(std::move(done)); }).error().code,
            ErrorCode::io_error);
  EXPECT_EQ(write(*red, medium.options().size, 1).error().code, ErrorCode::invalid);
  EXPECT_EQ(write(*red, 100, 1).error().code, ErrorCode::invalid);
  int busy = 0;
  for (int i = 0; i < 70; ++i) {
    red->write(0, {filled(512, 1)}, false,
               [&](Status s) { busy += !s && s.error().code == ErrorCode::busy; });
  }
  scheduler.run_all();
  EXPECT_EQ(busy, 6);
}

}  // namespace
}  // namespace duet::simulation
