// The iSCSI disk against a real duet-shelf: data, power, reservations. What a real disk does rarely
// is in src/platform/iscsi_disk_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "disk/reservation_key.h"
#include "platform/iscsi_disk.h"
#include "shelf_process.h"

namespace duet {
namespace {

using disk::KeyRole;
using platform::EventLoop;
using platform::IscsiDisk;
using platform::IscsiDiskOptions;
using ports::Attention;
using ports::ReservationType;
using testing::ShelfProcess;

constexpr ClusterId cluster{0x4d2a};
constexpr auto wero = ReservationType::write_exclusive_registrants_only;
constexpr auto earo = ReservationType::exclusive_access_registrants_only;

ReservationKey key(int node, KeyRole role, std::uint64_t epoch = 1) {
  return disk::make_key(cluster, NodeId(static_cast<std::uint8_t>(node)), role, Epoch(epoch));
}

// One process of one node, with its path to a disk.
struct Path {
  Path(EventLoop& loop, const ShelfProcess& shelf, int node, KeyRole role, std::uint8_t lun,
       std::function<void(IscsiDiskOptions&)> adjust = {})
      : key(duet::key(node, role)) {
    IscsiDiskOptions options;
    options.session.portal = shelf.portal();
    options.session.target = shelf.iqn();
    options.session.initiator = "iqn.2026-11.org.duet:node" + std::to_string(node);
    options.session.isid = {.node = static_cast<std::uint8_t>(node),
                            .role = static_cast<std::uint8_t>(role)};
    options.lun = lun;
    if (adjust) adjust(options);
    disk = std::make_unique<IscsiDisk>(loop, options);
    disk->on_attention([this](Attention attention) { attentions.push_back(attention); });
    EXPECT_TRUE(disk->start().has_value());
  }
  bool saw(Attention attention) const {
    return std::ranges::find(attentions, attention) != attentions.end();
  }

  ReservationKey key;
  std::vector<Attention> attentions;
  std::unique_ptr<IscsiDisk> disk;
};

class DiskShelfTest : public ::testing::Test {
 protected:
  bool run(const std::function<bool()>& condition) {
    return loop.run_until(condition, seconds(30));
  }
  template <class T = void>
  Result<T> wait(std::function<void(ports::Done<T>)> start) {
    std::optional<Result<T>> result;
    start([&](Result<T> r) { result = std::move(r); });
    if (!run([&] { return result.has_value(); })) return fail(ErrorCode::timed_out, "never ended");
    return std::move(*result);
  }
  // The error's code, or nothing.
  std::optional<ErrorCode> code(std::function<void(ports::Done<void>)> start) {
    auto result = wait<void>(std::move(start));
    return result ? std::nullopt : std::optional(result.error().code);
  }

  std::unique_ptr<Path> connect(int node, KeyRole role, std::uint8_t lun = 0,
                                std::function<void(IscsiDiskOptions&)> adjust = {}) {
    auto path = std::make_unique<Path>(loop, shelf, node, role, lun, std::move(adjust));
    EXPECT_TRUE(run([&] { return path->disk->connected(); })) << path->disk->last_error();
    path->attentions.clear();
    return path;
  }
  static Slice filled(std::size_t size, int value) {
    auto buffer = make_buffer(size);
    for (std::size_t i = 0; i < size; ++i) {
      buffer.bytes[i] = static_cast<std::byte>(static_cast<std::size_t>(value) + i / 512);
    }
    return buffer.slice();
  }
  std::optional<ErrorCode> write(Path& path, std::uint64_t offset, std::size_t size, int value,
                                 bool durable = true) {
    return code([&](auto done) {
      path.disk->write(offset, {filled(size, value)}, durable, std::move(done));
    });
  }
  std::optional<ErrorCode> read(Path& path, std::uint64_t offset, MutableBytes into) {
    return code([&](auto done) { path.disk->read(offset, into, std::move(done)); });
  }
  bool holds(Path& path, std::uint64_t offset, std::size_t size, int value) {
    std::vector<std::byte> into(size);
    EXPECT_EQ(read(path, offset, into), std::nullopt);
    return std::ranges::equal(into, filled(size, value).bytes);
  }
  std::optional<ErrorCode> register_key(Path& path) {
    return code([&](auto done) { path.disk->register_key(path.key, std::move(done)); });
  }
  std::optional<ErrorCode> reserve(Path& path, ReservationType type) {
    return code([&](auto done) { path.disk->reserve(path.key, type, std::move(done)); });
  }
  std::optional<ErrorCode> preempt(Path& path, ReservationKey victim, ReservationType type) {
    return code(
        [&](auto done) { path.disk->preempt(path.key, victim, type, true, std::move(done)); });
  }
  std::vector<ReservationKey> keys(Path& path) {
    auto result =
        wait<ports::RegisteredKeys>([&](auto done) { path.disk->read_keys(std::move(done)); });
    EXPECT_TRUE(result.has_value());
    auto sorted = result ? result->keys : std::vector<ReservationKey>();
    std::ranges::sort(sorted);
    return sorted;
  }
  ports::ReservationState reservation(Path& path) {
    auto result = wait<ports::ReservationState>(
        [&](auto done) { path.disk->read_reservation(std::move(done)); });
    EXPECT_TRUE(result.has_value());
    return result ? *result : ports::ReservationState();
  }

  EventLoop loop;
  ShelfProcess shelf{DUET_SHELF, {.write_cache = true}};
};

TEST_F(DiskShelfTest, WritesReadsAndFlushes) {
  auto red = connect(1, KeyRole::engine);
  EXPECT_EQ(red->disk->geometry().size, 16u << 20);
  EXPECT_TRUE(red->disk->geometry().volatile_cache);
  EXPECT_FALSE(red->disk->geometry().serial.empty());
  EXPECT_EQ(write(*red, 4096, 4096, 1), std::nullopt);
  EXPECT_EQ(write(*red, 1 << 20, 3 << 20, 2, false), std::nullopt);
  EXPECT_EQ(code([&](auto done) { red->disk->flush(std::move(done)); }), std::nullopt);
  EXPECT_TRUE(holds(*red, 4096, 4096, 1));
  EXPECT_TRUE(holds(*red, 1 << 20, 3 << 20, 2));
}

TEST_F(DiskShelfTest, DiscoversTheDisks) {
  std::optional<Result<std::vector<LunNumber>>> luns;
  platform::IscsiSessionOptions options;
  options.portal = shelf.portal();
  options.target = shelf.iqn();
  options.initiator = "iqn.2026-11.org.duet:node1";
  options.isid = {.node = 1, .role = 1, .unit = platform::discovery_unit};
  platform::LunDiscovery discovery(loop, options, seconds(10), [&](auto result) { luns = result; });
  ASSERT_TRUE(run([&] { return luns.has_value(); }));
  ASSERT_TRUE(luns->has_value()) << luns->error().message;
  EXPECT_EQ(**luns, (std::vector{LunNumber(0), LunNumber(1), LunNumber(2), LunNumber(3)}));
}

TEST_F(DiskShelfTest, WhatWasFlushedOrDurableSurvivesAPowerBlip) {
  auto red = connect(1, KeyRole::engine);
  EXPECT_EQ(write(*red, 0, 4096, 1, true), std::nullopt);
  EXPECT_EQ(write(*red, 8192, 4096, 2, false), std::nullopt);
  EXPECT_EQ(code([&](auto done) { red->disk->flush(std::move(done)); }), std::nullopt);
  shelf.control("power-blip");
  ASSERT_TRUE(run([&] { return !red->disk->connected(); }));
  ASSERT_TRUE(run([&] { return red->disk->connected(); }));
  EXPECT_TRUE(red->saw(Attention::power_on_or_reset));
  EXPECT_TRUE(holds(*red, 0, 4096, 1));
  EXPECT_TRUE(holds(*red, 8192, 4096, 2));
}

TEST_F(DiskShelfTest, AHungDiskIsBusyThenTimesOutAndItsNeighbourGoesOn) {
  auto hung = connect(1, KeyRole::engine, 0, [](IscsiDiskOptions& options) {
    options.queue_depth = 2;
    options.max_waiting = 2;
    options.command_timeout = milliseconds(500);
  });
  auto neighbour = connect(1, KeyRole::engine, 1);
  shelf.control("hang 0");
  std::vector<ErrorCode> errors;
  for (int i = 0; i < 5; ++i) {
    hung->disk->write(0, {filled(512, i)}, true, [&](Status status) {
      ASSERT_FALSE(status.has_value());
      errors.push_back(status.error().code);
    });
  }
  EXPECT_EQ(write(*neighbour, 0, 4096, 1), std::nullopt);
  ASSERT_TRUE(run([&] { return errors.size() == 5; }));
  EXPECT_EQ(std::ranges::count(errors, ErrorCode::busy), 1);
  EXPECT_GE(std::ranges::count(errors, ErrorCode::timed_out), 1);
  EXPECT_TRUE(neighbour->disk->connected());
  shelf.control("heal 0");
  ASSERT_TRUE(run([&] { return hung->disk->connected(); }));
  EXPECT_EQ(write(*hung, 0, 4096, 7), std::nullopt);
  EXPECT_TRUE(holds(*hung, 0, 4096, 7));
}

TEST_F(DiskShelfTest, AFailedDiskIsAnIoError) {
  auto red = connect(1, KeyRole::engine);
  shelf.control("fail 0");
  EXPECT_EQ(write(*red, 0, 4096, 1), ErrorCode::io_error);
  shelf.control("heal 0");
  EXPECT_EQ(write(*red, 0, 4096, 1), std::nullopt);
}

TEST_F(DiskShelfTest, ARegistrationSurvivesTheShelfsDeathAndIsStillOurs) {
  auto supervisor = connect(1, KeyRole::supervisor);
  auto engine = connect(1, KeyRole::engine);
  auto stranger = connect(2, KeyRole::engine);
  ASSERT_EQ(register_key(*supervisor), std::nullopt);
  ASSERT_EQ(register_key(*engine), std::nullopt);
  ASSERT_EQ(reserve(*supervisor, wero), std::nullopt);
  std::optional<Status> lost;
  shelf.kill();
  engine->disk->write(0, {filled(512, 1)}, true, [&](Status status) { lost = status; });
  ASSERT_TRUE(run([&] {
    return lost.has_value() && !engine->disk->connected() && !supervisor->disk->connected();
  }));
  ASSERT_FALSE(lost->has_value());
  EXPECT_EQ(lost->error().code, ErrorCode::disconnected);
  EXPECT_EQ(write(*engine, 0, 512, 1), ErrorCode::disconnected);
  shelf.start();
  ASSERT_TRUE(run([&] {
    return engine->disk->connected() && supervisor->disk->connected() &&
           stranger->disk->connected();
  }));
  EXPECT_TRUE(engine->saw(Attention::power_on_or_reset));
  // The same nexus: no need to register again.
  EXPECT_EQ(write(*engine, 0, 512, 1), std::nullopt);
  EXPECT_EQ(write(*supervisor, 0, 512, 2), std::nullopt);
  EXPECT_EQ(write(*stranger, 0, 512, 3), ErrorCode::reservation_conflict);
  EXPECT_EQ(keys(*stranger), (std::vector{supervisor->key, engine->key}));
  EXPECT_EQ(reservation(*stranger).holder, supervisor->key);
}

TEST_F(DiskShelfTest, ATakeoverFencesBothProcessesOfTheOldOwner) {
  auto red_supervisor = connect(1, KeyRole::supervisor);
  auto red_engine = connect(1, KeyRole::engine);
  auto blue_supervisor = connect(2, KeyRole::supervisor);
  auto blue_engine = connect(2, KeyRole::engine);
  ASSERT_EQ(register_key(*red_supervisor), std::nullopt);
  ASSERT_EQ(register_key(*red_engine), std::nullopt);
  ASSERT_EQ(reserve(*red_supervisor, wero), std::nullopt);
  ASSERT_EQ(write(*red_engine, 0, 4096, 1), std::nullopt);

  // Write exclusive: others may read.
  EXPECT_TRUE(holds(*blue_engine, 0, 4096, 1));
  ASSERT_EQ(register_key(*blue_supervisor), std::nullopt);
  ASSERT_EQ(register_key(*blue_engine), std::nullopt);
  ASSERT_EQ(preempt(*blue_supervisor, red_supervisor->key, earo), std::nullopt);
  ASSERT_EQ(preempt(*blue_supervisor, red_engine->key, earo), std::nullopt);
  EXPECT_EQ(keys(*blue_supervisor), (std::vector{blue_supervisor->key, blue_engine->key}));
  auto state = reservation(*blue_supervisor);
  EXPECT_TRUE(state.reserved);
  EXPECT_EQ(state.holder, blue_supervisor->key);
  EXPECT_EQ(state.type, earo);

  std::vector<std::byte> into(512);
  EXPECT_EQ(write(*red_engine, 0, 4096, 9), ErrorCode::reservation_conflict);
  EXPECT_EQ(read(*red_engine, 0, into), ErrorCode::reservation_conflict);
  EXPECT_EQ(write(*red_supervisor, 0, 4096, 9), ErrorCode::reservation_conflict);
  // RESERVATION CONFLICT goes before a unit attention (SAM-5 5.3.3), but it is not forgotten.
  EXPECT_EQ(keys(*red_engine).size(), 2u);
  EXPECT_EQ(keys(*red_supervisor).size(), 2u);
  EXPECT_TRUE(red_engine->saw(Attention::registrations_preempted));
  EXPECT_TRUE(red_supervisor->saw(Attention::registrations_preempted));
  EXPECT_EQ(write(*blue_engine, 0, 4096, 2), std::nullopt);
  EXPECT_TRUE(holds(*blue_engine, 0, 4096, 2));
  // A rebooted red still connects and asks, but may not even read.
  red_engine.reset();
  auto rebooted = connect(1, KeyRole::engine);
  EXPECT_EQ(read(*rebooted, 0, into), ErrorCode::reservation_conflict);
  EXPECT_EQ(reservation(*rebooted).holder, blue_supervisor->key);
}

TEST_F(DiskShelfTest, TheHolderChangesTheTypeByPreemptingItselfAndTheEngineStaysRegistered) {
  auto supervisor = connect(2, KeyRole::supervisor);
  auto engine = connect(2, KeyRole::engine);
  auto red = connect(1, KeyRole::engine);
  ASSERT_EQ(register_key(*supervisor), std::nullopt);
  ASSERT_EQ(register_key(*engine), std::nullopt);
  ASSERT_EQ(reserve(*supervisor, earo), std::nullopt);
  std::vector<std::byte> into(512);
  EXPECT_EQ(read(*red, 0, into), ErrorCode::reservation_conflict);

  ASSERT_EQ(preempt(*supervisor, supervisor->key, wero), std::nullopt);
  auto state = reservation(*supervisor);
  EXPECT_TRUE(state.reserved);
  EXPECT_EQ(state.holder, supervisor->key);
  EXPECT_EQ(state.type, wero);
  EXPECT_EQ(keys(*supervisor), (std::vector{supervisor->key, engine->key}));
  EXPECT_EQ(write(*engine, 0, 512, 3), std::nullopt);
  EXPECT_EQ(read(*red, 0, into), std::nullopt);
  EXPECT_EQ(write(*red, 0, 512, 4), ErrorCode::reservation_conflict);
}

TEST_F(DiskShelfTest, ReleasingAndUnregistering) {
  auto red = connect(1, KeyRole::supervisor);
  auto blue = connect(2, KeyRole::supervisor);
  ASSERT_EQ(register_key(*red), std::nullopt);
  ASSERT_EQ(reserve(*red, wero), std::nullopt);
  EXPECT_EQ(reserve(*blue, wero), ErrorCode::reservation_conflict);
  ASSERT_EQ(code([&](auto done) { red->disk->release(red->key, wero, std::move(done)); }),
            std::nullopt);
  EXPECT_FALSE(reservation(*blue).reserved);
  EXPECT_EQ(write(*blue, 0, 512, 1), std::nullopt);
  auto before =
      wait<ports::RegisteredKeys>([&](auto done) { red->disk->read_keys(std::move(done)); });
  ASSERT_EQ(code([&](auto done) { red->disk->register_key(ReservationKey(0), std::move(done)); }),
            std::nullopt);
  auto after =
      wait<ports::RegisteredKeys>([&](auto done) { red->disk->read_keys(std::move(done)); });
  EXPECT_TRUE(after->keys.empty());
  EXPECT_GT(after->generation, before->generation);
}

// The write is at the disk, slowly, when its node is fenced: it may have landed by then, but not
// later.
TEST_F(DiskShelfTest, PreemptAndAbortKeepsASlowWriteOut) {
  auto red = connect(1, KeyRole::engine);
  auto blue = connect(2, KeyRole::supervisor);
  ASSERT_EQ(register_key(*red), std::nullopt);
  ASSERT_EQ(reserve(*red, wero), std::nullopt);
  ASSERT_EQ(register_key(*blue), std::nullopt);
  shelf.control("slow 0 500");
  bool ended = false;
  red->disk->write(0, {filled(4096, 9)}, true, [&](Status) { ended = true; });
  loop.run_until([&] { return ended; }, milliseconds(50));
  ASSERT_EQ(preempt(*blue, red->key, earo), std::nullopt);
  shelf.control("heal 0");
  red.reset();
  ASSERT_EQ(write(*blue, 0, 4096, 2), std::nullopt);
  loop.run_until([] { return false; }, milliseconds(700));  // longer than the old write would take
  EXPECT_TRUE(holds(*blue, 0, 4096, 2));
}

}  // namespace
}  // namespace duet
