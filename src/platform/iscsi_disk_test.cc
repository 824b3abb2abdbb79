// The adapter against a target whose every answer the test decides. Against the real shelf:
// tests/disk_shelf_test.cc.
#include "platform/iscsi_disk.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>

#include "platform/scripted_target.h"

namespace duet::platform {
namespace {

using ports::Attention;
using ports::ReservationType;
using Answer = ScriptedTarget::Answer;
using Request = ScriptedTarget::Request;

constexpr std::uint8_t op_test_unit_ready = 0x00;
constexpr std::uint8_t op_mode_sense = 0x1a;
constexpr std::uint8_t op_reserve_in = 0x5e;
constexpr std::uint8_t op_reserve_out = 0x5f;
constexpr std::uint8_t op_read = 0x88;
constexpr std::uint8_t op_write = 0x8a;
constexpr std::uint8_t op_synchronize = 0x91;
constexpr std::uint8_t op_report_luns = 0xa0;

constexpr Answer conflict{.status = 0x18, .data_in = {}};
constexpr Answer busy{.status = 0x08, .data_in = {}};
Answer sense(std::uint8_t key, std::uint16_t code) {
  return {2, key, code, {}};
}

class IscsiDiskTest : public testing::Test {
 protected:
  IscsiDiskTest() {
    options.session.portal = target.portal();
    options.session.target = "iqn.2026-11.org.duet:test";
    options.session.initiator = "iqn.2026-11.org.duet:node1";
    options.session.isid = {.node = 1, .role = 2};
    options.lun = 3;
  }

  IscsiDisk& make() {
    disk = std::make_unique<IscsiDisk>(loop, options);
    disk->on_connection([this](bool connected) { connections.push_back(connected); });
    disk->on_attention([this](Attention attention) { attentions.push_back(attention); });
    EXPECT_TRUE(disk->start().has_value());
    return *disk;
  }
  IscsiDisk& make_connected() {
    make();
    EXPECT_TRUE(run([&] { return disk->connected(); })) << disk->last_error();
    target.requests.clear();
    attentions.clear();
    return *disk;
  }
  bool run(const std::function<bool()>& condition) {
    return loop.run_until(condition, seconds(20));
  }

  // Starts an operation; its result appears in `results`, in the order of the ends.
  template <class T = void>
  ports::Done<T> done(std::string what = "") {
    return [this, what](Result<T> result) {
      results.push_back({what, result ? std::nullopt : std::optional(result.error().code)});
    };
  }
  std::optional<ErrorCode> only_result() {
    EXPECT_TRUE(run([&] { return !results.empty(); }));
    EXPECT_EQ(results.size(), 1u);
    if (results.empty()) return std::nullopt;
    auto code = results.front().error;
    results.clear();
    return code;
  }
  std::size_t count(std::uint8_t operation) const {
    return static_cast<std::size_t>(std::ranges::count_if(
        target.requests, [&](const Request& r) { return r.cdb[0] == operation; }));
  }
  static Slice filled(std::size_t size, int value) {
    auto buffer = make_buffer(size);
    std::ranges::fill(buffer.bytes, static_cast<std::byte>(value));
    return buffer.slice();
  }
  // So that little of what the initiator sends is on its way at any time.
  void shrink_send_buffer() {
    for (int fd = 0; fd < 1024; ++fd) {
      sockaddr_in peer{};
      socklen_t size = sizeof peer;
      if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
      if (!target.portal().ends_with(":" + std::to_string(ntohs(peer.sin_port)))) continue;
      int bytes = 4096;
      ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    }
  }
  // `answer` for one operation code, otherwise the usual.
  ScriptedTarget::Script answering(std::uint8_t operation,
                                   std::function<std::optional<Answer>(const Request&)> answer) {
    return [this, operation, answer = std::move(answer)](const Request& r) {
      return r.cdb[0] == operation ? answer(r) : target.usual(r);
    };
  }

  struct Ended {
    std::string what;
    std::optional<ErrorCode> error;
  };
  EventLoop loop;
  ScriptedTarget target{loop};
  IscsiDiskOptions options;
  std::vector<bool> connections;
  std::vector<Attention> attentions;
  std::vector<Ended> results;
  std::unique_ptr<IscsiDisk> disk;
};

TEST_F(IscsiDiskTest, ConnectsAndKnowsItsGeometry) {
  auto& d = make();
  EXPECT_FALSE(d.connected());
  ASSERT_TRUE(run([&] { return d.connected(); }));
  EXPECT_EQ(connections, std::vector<bool>{true});
  EXPECT_EQ(d.geometry().size, 16u << 20);
  EXPECT_EQ(d.geometry().block_size, 512u);
  EXPECT_TRUE(d.geometry().volatile_cache);
  EXPECT_EQ(d.geometry().serial, "SCRIPT01");
  EXPECT_EQ(d.name(), "iqn.2026-11.org.duet:test/3");
  EXPECT_EQ(target.isid, (std::array<std::uint8_t, 6>{0x80, 1, 2, 0, 0, 3}));
}

TEST_F(IscsiDiskTest, ANamePortalIsRefusedBecauseLookingItUpWouldBlock) {
  for (auto portal : {"localhost:3260", "127.0.0.1", "127.0.0.1:", ""}) {
    options.session.portal = portal;
    IscsiDisk d(loop, options);
    auto started = d.start();
    ASSERT_FALSE(started.has_value()) << portal;
    EXPECT_EQ(started.error().code, ErrorCode::invalid);
  }
}

TEST_F(IscsiDiskTest, DrainsAttentionsBeforeItIsConnected) {
  int left = 3;
  target.script = answering(op_test_unit_ready, [&](const Request& r) {
    return left-- > 0 ? sense(6, left == 1 ? 0x2a05 : 0x2900) : target.usual(r);
  });
  make();
  ASSERT_TRUE(run([&] { return disk->connected(); }));
  EXPECT_EQ(attentions,
            (std::vector{Attention::power_on_or_reset, Attention::registrations_preempted,
                         Attention::power_on_or_reset}));
}

TEST_F(IscsiDiskTest, WaitsForADiskThatGetsReady) {
  int left = 2;
  target.script = answering(op_test_unit_ready, [&](const Request& r) {
    return left-- > 0 ? sense(2, 0x0401) : target.usual(r);
  });
  make();
  ASSERT_TRUE(run([&] { return disk->connected(); }));
  EXPECT_EQ(target.logins, 1);
}

TEST_F(IscsiDiskTest, ReadsStraightIntoTheCallersBuffer) {
  auto& d = make_connected();
  std::vector<std::byte> into(8192);
  d.read(65536, into, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_TRUE(std::ranges::all_of(into, [](std::byte b) { return b == std::byte{0x5a}; }));
  ASSERT_EQ(count(op_read), 1u);
  const auto& cdb = target.requests.back().cdb;
  std::array<std::byte, 16> bytes;
  std::memcpy(bytes.data(), cdb.data(), 16);
  EXPECT_EQ(load_be<std::uint64_t>(&bytes[2]), 128u);
  EXPECT_EQ(load_be<std::uint32_t>(&bytes[10]), 16u);
}

TEST_F(IscsiDiskTest, GathersAWriteAndSetsFuaOnlyIfItMatters) {
  auto& d = make_connected();
  d.write(0, {filled(512, 1), filled(1024, 2), {nullptr, {}}, filled(512, 3)}, true, done());
  EXPECT_EQ(only_result(), std::nullopt);
  ASSERT_EQ(count(op_write), 1u);
  const auto& request = target.requests.back();
  EXPECT_EQ(request.cdb[1], 0x08);  // FUA
  ASSERT_EQ(request.data.size(), 2048u);
  EXPECT_EQ(request.data[511], std::byte{1});
  EXPECT_EQ(request.data[512], std::byte{2});
  EXPECT_EQ(request.data[2047], std::byte{3});
  d.write(0, {filled(512, 1)}, false, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(target.requests.back().cdb[1], 0);
}

TEST_F(IscsiDiskTest, ADiskWithoutVolatileCacheNeedsNeitherFuaNorFlush) {
  target.write_cache = false;
  auto& d = make_connected();
  EXPECT_FALSE(d.geometry().volatile_cache);
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(target.requests.back().cdb[1], 0);
  d.flush(done());
  EXPECT_TRUE(results.empty());  // never from inside the call
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(count(op_synchronize), 0u);
}

TEST_F(IscsiDiskTest, FlushSynchronizesTheWholeCache) {
  auto& d = make_connected();
  d.flush(done());
  EXPECT_EQ(only_result(), std::nullopt);
  ASSERT_EQ(count(op_synchronize), 1u);
  EXPECT_EQ(target.requests.back().cdb[13], 0);
}

TEST_F(IscsiDiskTest, SplitsAtWhatTheDiskTakesAtOnce) {
  target.max_transfer_blocks = 16;
  auto& d = make_connected();
  std::vector<std::byte> into(20480);
  d.read(0, into, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(count(op_read), 3u);
  EXPECT_EQ(target.requests.back().expected, 4096u);
  d.write(4096, {filled(5120, 1), filled(5120, 2)}, true, done());
  EXPECT_EQ(only_result(), std::nullopt);
  ASSERT_EQ(count(op_write), 2u);
  EXPECT_EQ(target.requests.back().data.size(), 2048u);
}

TEST_F(IscsiDiskTest, OnePartThatFailsFailsTheOperationOnce) {
  target.max_transfer_blocks = 8;
  auto& d = make_connected();
  int n = 0;
  target.script = answering(
      op_read, [&](const Request& r) { return ++n == 2 ? sense(3, 0x1100) : target.usual(r); });
  std::vector<std::byte> into(16384);
  d.read(0, into, done());
  EXPECT_EQ(only_result(), ErrorCode::io_error);
  EXPECT_EQ(count(op_read), 4u);
}

TEST_F(IscsiDiskTest, VeryManySlicesAreCopiedTogether) {
  auto& d = make_connected();
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < 2 * IscsiDisk::max_slices; ++i) {
    slices.push_back(filled(8, static_cast<int>(i)));
  }
  d.write(0, std::move(slices), true, done());
  EXPECT_EQ(only_result(), std::nullopt);
  const auto& data = target.requests.back().data;
  ASSERT_EQ(data.size(), 16 * IscsiDisk::max_slices);
  for (std::size_t i = 0; i < data.size(); ++i) {
    ASSERT_EQ(data[i], static_cast<std::byte>(i / 8)) << i;
  }
}

TEST_F(IscsiDiskTest, OnlyWholeBlocksOfTheDisk) {
  auto& d = make_connected();
  std::vector<std::byte> into(512);
  std::uint64_t size = d.geometry().size;
  d.read(1, into, done());
  EXPECT_TRUE(results.empty());
  EXPECT_EQ(only_result(), ErrorCode::invalid);
  d.read(0, MutableBytes(into).first(511), done());
  EXPECT_EQ(only_result(), ErrorCode::invalid);
  d.read(size, into, done());
  EXPECT_EQ(only_result(), ErrorCode::invalid);
  d.read(~std::uint64_t{511}, into, done());
  EXPECT_EQ(only_result(), ErrorCode::invalid);
  d.write(size, {filled(512, 0)}, true, done());
  EXPECT_EQ(only_result(), ErrorCode::invalid);
  d.read(size - 512, into, done());
  EXPECT_EQ(only_result(), std::nullopt);
  d.read(size, {}, done());
  EXPECT_EQ(only_result(), std::nullopt);
}

TEST_F(IscsiDiskTest, MoreThanAnOperationMayCarryIsInvalid) {
  target.blocks = 1 << 20;
  auto& d = make_connected();
  auto slice = filled(1 << 20, 0);
  d.write(0, std::vector<Slice>(IscsiDisk::max_operation / (1 << 20) + 1, slice), true, done());
  EXPECT_EQ(only_result(), ErrorCode::invalid);
}

TEST_F(IscsiDiskTest, AFullQueueIsBusy) {
  options.queue_depth = 2;
  options.max_waiting = 3;
  auto& d = make_connected();
  target.script = [](const Request&) { return std::nullopt; };
  for (int i = 0; i < 5; ++i) d.write(0, {filled(512, i)}, true, done("accepted"));
  d.write(0, {filled(512, 9)}, true, done("refused"));
  d.read_keys(done<ports::RegisteredKeys>("refused"));
  ASSERT_TRUE(run([&] { return results.size() == 2 && count(op_write) == 2; }));
  for (const auto& result : results) {
    EXPECT_EQ(result.what, "refused");
    EXPECT_EQ(result.error, ErrorCode::busy);
  }
  EXPECT_EQ(count(op_write), 2u);  // no more than the queue depth at the disk
}

TEST_F(IscsiDiskTest, TheQueueMovesOnAsCommandsEnd) {
  options.queue_depth = 2;
  auto& d = make_connected();
  for (int i = 0; i < 100; ++i) d.write(0, {filled(512, i)}, true, done());
  ASSERT_TRUE(run([&] { return results.size() == 100; }));
  for (const auto& result : results) EXPECT_EQ(result.error, std::nullopt);
}

TEST_F(IscsiDiskTest, ASilentDiskTimesOutAndIsLoggedInAgainAsTheSameNexus) {
  options.command_timeout = milliseconds(200);
  auto& d = make_connected();
  bool silent = true;
  target.script = answering(
      op_write, [&](const Request& r) { return silent ? std::nullopt : target.usual(r); });
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), ErrorCode::timed_out);
  EXPECT_FALSE(d.connected());
  silent = false;
  ASSERT_TRUE(run([&] { return d.connected(); }));
  EXPECT_EQ(target.logins, 2);
  EXPECT_EQ(target.isid, (std::array<std::uint8_t, 6>{0x80, 1, 2, 0, 0, 3}));
  EXPECT_EQ(connections, (std::vector{true, false, true}));
  EXPECT_EQ(count(op_write), 1u);  // not repeated by us
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), std::nullopt);
}

TEST_F(IscsiDiskTest, ALostConnectionEndsEverythingUnderWayAndNothingIsRepeated) {
  options.queue_depth = 2;
  auto& d = make_connected();
  target.script = answering(op_write, [](const Request&) { return std::nullopt; });
  for (int i = 0; i < 5; ++i) d.write(0, {filled(512, i)}, true, done());
  ASSERT_TRUE(run([&] { return count(op_write) == 2; }));
  target.drop_connections();
  ASSERT_TRUE(run([&] { return results.size() == 5; }));
  for (const auto& result : results) EXPECT_EQ(result.error, ErrorCode::disconnected);
  EXPECT_FALSE(d.connected());
  d.write(0, {filled(512, 1)}, true, done("while away"));
  ASSERT_TRUE(run([&] { return results.size() == 6; }));
  EXPECT_EQ(results.back().error, ErrorCode::disconnected);
  ASSERT_TRUE(run([&] { return d.connected(); }));
  EXPECT_EQ(count(op_write), 2u);
  EXPECT_EQ(connections, (std::vector{true, false, true}));
}

TEST_F(IscsiDiskTest, AnIdleConnectionThatIsLostIsNoticed) {
  auto& d = make_connected();
  target.drop_connections();
  ASSERT_TRUE(run([&] { return !d.connected(); }));
  ASSERT_TRUE(run([&] { return d.connected(); }));
  EXPECT_EQ(target.logins, 2);
}

TEST_F(IscsiDiskTest, TriesForEverWithBoundedPauses) {
  target.set_listening(false);
  options.session.backoff_min = milliseconds(1);
  options.session.backoff_max = milliseconds(4);
  auto& d = make();
  EXPECT_FALSE(loop.run_until([&] { return d.connected(); }, milliseconds(100)));
  EXPECT_FALSE(d.last_error().empty());
  target.set_listening(true);
  ASSERT_TRUE(run([&] { return d.connected(); }));
}

TEST_F(IscsiDiskTest, AnUnansweredLoginIsTriedAgain) {
  target.answer_login = false;
  options.session.login_timeout = milliseconds(50);
  auto& d = make();
  EXPECT_FALSE(loop.run_until([&] { return d.connected(); }, milliseconds(120)));
  EXPECT_NE(d.last_error().find("login"), std::string::npos) << d.last_error();
  target.answer_login = true;
  ASSERT_TRUE(run([&] { return d.connected(); }));
}

TEST_F(IscsiDiskTest, ABusyDiskIsAskedAgainForAWhile) {
  auto& d = make_connected();
  int left = 2;
  target.script =
      answering(op_write, [&](const Request& r) { return left-- > 0 ? busy : target.usual(r); });
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(count(op_write), 3u);
  left = 1000;
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), ErrorCode::busy);
  EXPECT_EQ(count(op_write), 3u + 1 + IscsiDisk::max_pauses);
  EXPECT_EQ(target.logins, 1);
}

TEST_F(IscsiDiskTest, ADiskThatStaysNotReadyIsBusy) {
  auto& d = make_connected();
  target.script = answering(op_read, [](const Request&) { return sense(2, 0x0402); });
  std::vector<std::byte> into(512);
  d.read(0, into, done());
  EXPECT_EQ(only_result(), ErrorCode::busy);
  EXPECT_EQ(count(op_read), 1u + IscsiDisk::max_pauses);
}

TEST_F(IscsiDiskTest, AnAttentionIsReportedAndTheCommandRepeated) {
  auto& d = make_connected();
  int left = 1;
  target.script = answering(
      op_write, [&](const Request& r) { return left-- > 0 ? sense(6, 0x2a05) : target.usual(r); });
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(attentions, std::vector{Attention::registrations_preempted});
  EXPECT_EQ(count(op_write), 2u);
}

TEST_F(IscsiDiskTest, AttentionsWithoutEndAreNotFollowedForEver) {
  auto& d = make_connected();
  target.script = answering(op_write, [](const Request&) { return sense(6, 0x2900); });
  d.write(0, {filled(512, 1)}, true, done());
  EXPECT_EQ(only_result(), ErrorCode::busy);
  EXPECT_EQ(count(op_write), 1u + IscsiDisk::max_repeats);
}

TEST_F(IscsiDiskTest, APreemptIsNotRepeatedOverAnAttentionThatSaysWeWerePreempted) {
  auto& d = make_connected();
  target.script = answering(op_reserve_out, [](const Request&) { return sense(6, 0x2a05); });
  d.preempt(ReservationKey(1), ReservationKey(2),
            ReservationType::exclusive_access_registrants_only, true, done());
  EXPECT_EQ(only_result(), ErrorCode::reservation_conflict);
  EXPECT_EQ(count(op_reserve_out), 1u);
  EXPECT_EQ(attentions, std::vector{Attention::registrations_preempted});
}

TEST_F(IscsiDiskTest, ReservationConflictIsDistinct) {
  auto& d = make_connected();
  target.script = [](const Request&) { return conflict; };
  std::vector<std::byte> into(512);
  d.read(0, into, done());
  EXPECT_EQ(only_result(), ErrorCode::reservation_conflict);
  d.write(0, {filled(512, 0)}, true, done());
  EXPECT_EQ(only_result(), ErrorCode::reservation_conflict);
  d.register_key(ReservationKey(1), done());
  EXPECT_EQ(only_result(), ErrorCode::reservation_conflict);
}

TEST_F(IscsiDiskTest, MediumErrorsAndShortReadsAreErrors) {
  auto& d = make_connected();
  std::vector<std::byte> into(4096);
  target.script = answering(op_read, [](const Request&) { return sense(3, 0x1100); });
  d.read(0, into, done());
  EXPECT_EQ(only_result(), ErrorCode::io_error);
  target.script = answering(
      op_read, [](const Request&) { return Answer{.data_in = std::vector<std::byte>(512)}; });
  d.read(0, into, done());
  EXPECT_EQ(only_result(), ErrorCode::io_error);
}

// The target refuses a large write at its first bytes while the rest is still on its way.
TEST_F(IscsiDiskTest, AWriteRefusedEarlyKeepsItsDataUntilItHasLeft) {
  target.unsolicited_data = true;
  auto& d = make_connected();
  shrink_send_buffer();
  target.script = answering(op_write, [](const Request&) { return conflict; });
  for (int i = 0; i < 64; ++i) d.write(0, {filled(1 << 18, i)}, true, done());
  ASSERT_TRUE(run([&] { return results.size() == 64; }));
  for (const auto& result : results) EXPECT_EQ(result.error, ErrorCode::reservation_conflict);
  std::vector<std::byte> into(512);
  results.clear();
  d.read(0, into, done());
  EXPECT_EQ(only_result(), std::nullopt);
  EXPECT_EQ(target.logins, 1);
}

TEST_F(IscsiDiskTest, AnotherDiskBehindTheLunIsNotOurs) {
  auto& d = make_connected();
  target.serial = "STRANGER";
  target.drop_connections();
  ASSERT_TRUE(run([&] { return target.logins >= 3; }));
  EXPECT_FALSE(d.connected());
  EXPECT_NE(d.last_error().find("STRANGER"), std::string::npos) << d.last_error();
  d.write(0, {filled(512, 0)}, true, done());
  EXPECT_EQ(only_result(), ErrorCode::disconnected);
  EXPECT_EQ(count(op_write), 0u);
  target.serial = "SCRIPT01";
  ASSERT_TRUE(run([&] { return d.connected(); }));
}

TEST_F(IscsiDiskTest, AForeignReservationHidesTheCachingPageUntilWeAreRegistered) {
  target.write_cache = false;
  bool registered = false;
  target.script = [&](const Request& r) -> std::optional<Answer> {
    if (r.cdb[0] == op_reserve_out) registered = true;
    if (r.cdb[0] == op_mode_sense && !registered) return conflict;
    return target.usual(r);
  };
  auto& d = make_connected();
  EXPECT_TRUE(d.geometry().volatile_cache);
  d.register_key(ReservationKey(7), done());
  EXPECT_EQ(only_result(), std::nullopt);
  ASSERT_TRUE(run([&] { return !d.geometry().volatile_cache; }));
}

TEST_F(IscsiDiskTest, ReservationCommandsAreThoseOfTheStandard) {
  auto& d = make_connected();
  constexpr ReservationKey key(0x4d2a010100000007);
  constexpr ReservationKey victim(0x4d2a020100000003);
  constexpr auto wero = ReservationType::write_exclusive_registrants_only;
  struct Case {
    std::function<void()> call;
    std::uint8_t action, type;
    std::string parameters;
  };
  const Case cases[] = {
      {[&] { d.register_key(key, done()); }, 6, 0,
       "00000000000000004d2a0101000000070000000001000000"},
      {[&] { d.reserve(key, wero, done()); }, 1, 5,
       "4d2a01010000000700000000000000000000000000000000"},
      {[&] { d.release(key, wero, done()); }, 2, 5,
       "4d2a01010000000700000000000000000000000000000000"},
      {[&] { d.preempt(key, victim, wero, false, done()); }, 4, 5,
       "4d2a0101000000074d2a0201000000030000000000000000"},
      {[&] { d.preempt(key, key, wero, true, done()); }, 5, 5,
       "4d2a0101000000074d2a0101000000070000000000000000"},
  };
  for (const auto& c : cases) {
    c.call();
    EXPECT_EQ(only_result(), std::nullopt);
    const auto& request = target.requests.back();
    EXPECT_EQ(request.cdb[0], op_reserve_out);
    EXPECT_EQ(request.cdb[1], c.action);
    EXPECT_EQ(request.cdb[2], c.type);
    EXPECT_EQ(to_hex(request.data), c.parameters);
  }
}

TEST_F(IscsiDiskTest, ReadsKeysAndReservation) {
  auto& d = make_connected();
  target.script = answering(op_reserve_in, [](const Request& r) {
    std::vector<std::byte> reply(24);
    reply[3] = std::byte{9};
    reply[7] = std::byte{16};
    reply[15] = std::byte{1};
    if (r.cdb[1] == 0) reply[23] = std::byte{2};
    if (r.cdb[1] == 1) reply[21] = std::byte{6};
    return Answer{.data_in = std::move(reply)};
  });
  std::optional<ports::RegisteredKeys> keys;
  d.read_keys([&](auto result) { keys = *result; });
  std::optional<ports::ReservationState> state;
  d.read_reservation([&](auto result) { state = *result; });
  ASSERT_TRUE(run([&] { return keys && state; }));
  EXPECT_EQ(keys->generation, 9u);
  EXPECT_EQ(keys->keys, (std::vector{ReservationKey(1), ReservationKey(2)}));
  EXPECT_TRUE(state->reserved);
  EXPECT_EQ(state->holder, ReservationKey(1));
  EXPECT_EQ(state->type, ReservationType::exclusive_access_registrants_only);
}

TEST_F(IscsiDiskTest, DestroyedWithOperationsUnderWayItCallsNobody) {
  auto& d = make_connected();
  target.script = answering(op_write, [](const Request&) { return std::nullopt; });
  for (int i = 0; i < 40; ++i) d.write(0, {filled(4096, i)}, true, done());
  d.flush(done());
  ASSERT_TRUE(run([&] { return count(op_write) > 0; }));
  d.read(1, {}, done());  // its error is already on its way
  disk.reset();
  EXPECT_FALSE(loop.run_until([&] { return !results.empty(); }, milliseconds(20)));
}

TEST_F(IscsiDiskTest, MayBeDestroyedFromItsCallbacks) {
  make_connected().write(0, {filled(512, 0)}, true, [&](Status) { disk.reset(); });
  ASSERT_TRUE(run([&] { return disk == nullptr; }));

  make();
  disk->on_connection([&](bool) { disk.reset(); });
  ASSERT_TRUE(run([&] { return disk == nullptr; }));

  auto& d = make_connected();
  target.script = answering(op_write, [](const Request&) { return sense(6, 0x2900); });
  d.on_attention([&](Attention) { disk.reset(); });
  d.write(0, {filled(512, 0)}, true, done());
  ASSERT_TRUE(run([&] { return disk == nullptr; }));

  target.script = nullptr;
  auto& e = make_connected();
  target.script = [](const Request&) { return std::nullopt; };
  e.write(0, {filled(512, 0)}, true, [&](Status) { disk.reset(); });
  e.write(0, {filled(512, 0)}, true, done());
  ASSERT_TRUE(run([&] { return count(op_write) >= 2; }));
  target.drop_connections();
  ASSERT_TRUE(run([&] { return disk == nullptr; }));
  EXPECT_TRUE(results.empty());
}

TEST_F(IscsiDiskTest, DiscoversTheLunsBehindAPortal) {
  target.script = answering(op_report_luns, [](const Request&) {
    std::vector<std::byte> reply(24);
    reply[3] = std::byte{16};
    reply[17] = std::byte{4};
    return Answer{.data_in = std::move(reply)};
  });
  std::optional<Result<std::vector<LunNumber>>> luns;
  options.session.isid.unit = discovery_unit;
  LunDiscovery discovery(loop, options.session, seconds(5), [&](auto result) { luns = result; });
  ASSERT_TRUE(run([&] { return luns.has_value(); }));
  ASSERT_TRUE(luns->has_value());
  EXPECT_EQ(**luns, (std::vector{LunNumber(0), LunNumber(4)}));
}

TEST_F(IscsiDiskTest, DiscoveryEndsWhenNobodyAnswers) {
  target.set_listening(false);
  std::optional<Result<std::vector<LunNumber>>> luns;
  LunDiscovery discovery(loop, options.session, milliseconds(100),
                         [&](auto result) { luns = result; });
  ASSERT_TRUE(run([&] { return luns.has_value(); }));
  EXPECT_EQ(luns->error().code, ErrorCode::timed_out);
  options.session.portal = "localhost:1";
  luns.reset();
  LunDiscovery named(loop, options.session, seconds(5), [&](auto result) { luns = result; });
  ASSERT_TRUE(run([&] { return luns.has_value(); }));
  EXPECT_EQ(luns->error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace duet::platform
