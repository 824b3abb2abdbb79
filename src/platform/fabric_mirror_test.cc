#include "platform/fabric_mirror.h"

#include <algorithm>

#include "platform/fabric_test_node.h"

namespace duet::platform {
namespace {

using fabric_test::host_of;
using fabric_test::patience;
using fabric_test::self_of;

constexpr std::size_t region_size = 16 << 20;

struct MirrorNode {
  MirrorNode(EventLoop& event_loop, int number, FabricMirrorOptions options = {})
      : self(self_of(number)), region(make_buffer(region_size)) {
    options.self = self;
    options.listen.host = host_of(number);
    options.region = region.bytes;
    link = std::move(FabricMirror::open(event_loop, std::move(options)).value());
    link->on_outgoing([this](bool up) { told.push_back(up); });
  }
  interconnect::Self self;
  OwnedBuffer region;
  std::unique_ptr<FabricMirror> link;
  std::vector<bool> told;
};

struct MirrorPair {
  EventLoop loop;
  MirrorNode red{loop, 1};
  MirrorNode blue{loop, 2};

  void dial() { red.link->dial(host_of(2), blue.link->port(), blue.self.nonce); }
  bool up(bool wanted = true) {
    return loop.run_until([&] { return red.link->outgoing_up() == wanted; }, patience);
  }
  // The outcome of one write.
  Status write(std::uint64_t offset, std::uint64_t length) {
    std::optional<Status> outcome;
    red.link->write(offset, length, [&](Status s) { outcome = std::move(s); });
    EXPECT_FALSE(outcome.has_value());
    EXPECT_TRUE(loop.run_until([&] { return outcome.has_value(); }, patience));
    return outcome.value_or(fail(ErrorCode::io_error, "no outcome"));
  }
};

TEST(FabricMirror, WritesArriveAtTheSamePlaceAndCompleteInOrder) {
  MirrorPair pair;
  pair.blue.link->open_window(4096, 8 << 20, pair.red.self.nonce);
  pair.dial();
  ASSERT_TRUE(pair.up()) << pair.red.link->why();
  EXPECT_TRUE(pair.blue.link->incoming_up());
  EXPECT_EQ(pair.red.told, std::vector{true});

  std::vector<int> completed;
  for (int i = 0; i < 300; ++i) {
    auto offset = 4096u + static_cast<std::size_t>(i) * 5000;
    std::ranges::fill(pair.red.region.bytes.subspan(offset, 5000), static_cast<std::byte>(i + 1));
    pair.red.link->write(offset, 5000, [&completed, i](Status s) {
      EXPECT_TRUE(s.has_value());
      completed.push_back(i);
    });
  }
  ASSERT_TRUE(pair.loop.run_until([&] { return completed.size() == 300; }, patience));
  EXPECT_TRUE(std::ranges::is_sorted(completed));
  EXPECT_TRUE(std::ranges::equal(pair.red.region.bytes, pair.blue.region.bytes));
  // A whole window in one write, and nothing.
  EXPECT_TRUE(pair.write(4096, 8 << 20).has_value());
  EXPECT_TRUE(pair.write(4096, 0).has_value());
}

TEST(FabricMirror, RefusesWritesOutsideOfTheWindow) {
  MirrorPair pair;
  pair.blue.link->open_window(4096, 4096, pair.red.self.nonce);
  pair.dial();
  ASSERT_TRUE(pair.up());
  for (auto [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{4095, 1},
                                {8192, 1},
                                {4096, 4097},
                                {0, region_size},
                                {UINT64_MAX, 2}}) {
    auto status = pair.write(offset, length);
    ASSERT_FALSE(status.has_value()) << offset;
    EXPECT_EQ(status.error().code, ErrorCode::invalid);
  }
  EXPECT_TRUE(pair.red.link->outgoing_up());
  EXPECT_TRUE(pair.write(8191, 1).has_value());
}

TEST(FabricMirror, NotConnectedIsDisconnected) {
  MirrorPair pair;
  EXPECT_EQ(pair.write(0, 1).error().code, ErrorCode::disconnected);
}

TEST(FabricMirror, TooManyWritesAreBusy) {
  MirrorPair pair;
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  pair.dial();
  ASSERT_TRUE(pair.up());
  std::size_t ok = 0;
  std::size_t busy = 0;
  constexpr std::size_t most = ports::MirrorLink::max_writes;
  for (std::size_t i = 0; i < most + 5; ++i) {
    pair.red.link->write(i, 1, [&](Status s) {
      if (s) ++ok;
      if (!s && s.error().code == ErrorCode::busy) ++busy;
    });
  }
  EXPECT_TRUE(pair.loop.run_until([&] { return ok + busy == most + 5; }, patience));
  EXPECT_EQ(ok, most);
  EXPECT_EQ(busy, 5u);
  EXPECT_TRUE(pair.write(0, 1).has_value());
}

TEST(FabricMirror, ClosedWindowAdmitsNobodyUntilItOpens) {
  MirrorPair pair;
  pair.dial();
  EXPECT_TRUE(pair.loop.run_until(
      [&] { return pair.red.link->why() == "nothing is open for us there"; }, patience))
      << pair.red.link->why();
  EXPECT_FALSE(pair.red.link->outgoing_up());
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  EXPECT_TRUE(pair.up());
}

TEST(FabricMirror, WindowAndDialAreForOneBootOfThePartner) {
  MirrorPair pair;
  pair.blue.link->open_window(0, region_size, BootNonce(5));
  pair.dial();
  EXPECT_TRUE(pair.loop.run_until(
      [&] { return pair.red.link->why() == "nothing is open for us there"; }, patience));
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  pair.red.link->dial(host_of(2), pair.blue.link->port(), BootNonce(6));
  EXPECT_TRUE(pair.loop.run_until(
      [&] { return pair.red.link->why() == "the partner's engine is of another boot"; }, patience));
  EXPECT_FALSE(pair.red.link->outgoing_up());
  EXPECT_EQ(pair.red.told, std::vector<bool>{});
}

TEST(FabricMirror, ClosedWindowFailsWritesUnderWayAndNoneLands) {
  MirrorPair pair;
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  pair.dial();
  ASSERT_TRUE(pair.up());
  std::ranges::fill(pair.red.region.bytes, std::byte{0xaa});
  std::optional<Status> outcome;
  pair.red.link->write(0, 4096, [&](Status s) { outcome = std::move(s); });
  // The bytes are on their way; the owner of the memory has not looked yet.
  pair.blue.link->close_window();
  EXPECT_FALSE(pair.blue.link->incoming_up());
  ASSERT_TRUE(pair.loop.run_until([&] { return outcome.has_value(); }, patience));
  ASSERT_FALSE(outcome->has_value());
  EXPECT_EQ(outcome->error().code, ErrorCode::disconnected);
  EXPECT_TRUE(pair.up(false));
  EXPECT_TRUE(
      std::ranges::all_of(pair.blue.region.bytes, [](auto b) { return b == std::byte{0}; }));
  EXPECT_EQ(pair.red.told, (std::vector{true, false}));

  // It tries again by itself, and is let in when the window opens.
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  EXPECT_TRUE(pair.up());
  EXPECT_TRUE(pair.write(0, 4096).has_value());
  EXPECT_EQ(pair.blue.region.bytes[4095], std::byte{0xaa});
}

TEST(FabricMirror, ClosingTheWindowCutsAStreamOfWrites) {
  MirrorPair pair;
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  pair.dial();
  ASSERT_TRUE(pair.up());
  std::ranges::fill(pair.red.region.bytes, std::byte{0xaa});
  std::size_t ok = 0;
  std::size_t failed = 0;
  constexpr std::size_t writes = 1000;  // 16 GB: far more than one turn of the loop moves
  for (std::size_t i = 0; i < writes; ++i) {
    pair.red.link->write(0, region_size, [&](Status s) { s ? ++ok : ++failed; });
  }
  ASSERT_TRUE(
      pair.loop.run_until([&] { return pair.blue.region.bytes[0] == std::byte{0xaa}; }, patience));
  pair.blue.link->close_window();
  std::ranges::fill(pair.blue.region.bytes, std::byte{0});
  ASSERT_TRUE(pair.loop.run_until([&] { return ok + failed == writes; }, patience));
  EXPECT_GT(failed, 0u);
  EXPECT_TRUE(
      std::ranges::all_of(pair.blue.region.bytes, [](auto b) { return b == std::byte{0}; }));
}

TEST(FabricMirror, HangUpFailsWritesAndStaysDown) {
  MirrorPair pair;
  pair.blue.link->open_window(0, region_size, pair.red.self.nonce);
  pair.dial();
  ASSERT_TRUE(pair.up());
  std::optional<Status> outcome;
  pair.red.link->write(0, 4096, [&](Status s) { outcome = std::move(s); });
  pair.red.link->hang_up();
  EXPECT_FALSE(pair.red.link->outgoing_up());
  EXPECT_TRUE(pair.loop.run_until([&] { return outcome.has_value(); }, patience));
  EXPECT_FALSE(outcome->has_value());
  EXPECT_TRUE(pair.loop.run_until([&] { return !pair.blue.link->incoming_up(); }, patience));
  EXPECT_EQ(pair.red.told, (std::vector{true, false}));
  pair.dial();
  EXPECT_TRUE(pair.up());
  EXPECT_TRUE(pair.write(0, 4096).has_value());
}

TEST(FabricMirror, BothDirectionsAtOnce) {
  MirrorPair pair;
  pair.blue.link->open_window(0, region_size / 2, pair.red.self.nonce);
  pair.red.link->open_window(region_size / 2, region_size / 2, pair.blue.self.nonce);
  pair.dial();
  pair.blue.link->dial(host_of(1), pair.red.link->port(), pair.red.self.nonce);
  ASSERT_TRUE(pair.up());
  ASSERT_TRUE(pair.loop.run_until([&] { return pair.blue.link->outgoing_up(); }, patience));
  pair.red.region.bytes[7] = std::byte{1};
  pair.blue.region.bytes[region_size - 7] = std::byte{2};
  int done = 0;
  pair.red.link->write(0, 4096, [&](Status s) { done += s ? 1 : 0; });
  pair.blue.link->write(region_size - 4096, 4096, [&](Status s) { done += s ? 1 : 0; });
  EXPECT_TRUE(pair.loop.run_until([&] { return done == 2; }, patience));
  EXPECT_EQ(pair.blue.region.bytes[7], std::byte{1});
  EXPECT_EQ(pair.red.region.bytes[region_size - 7], std::byte{2});
  pair.blue.link->close_window();
  EXPECT_TRUE(pair.up(false));
  EXPECT_TRUE(pair.blue.link->outgoing_up());  // the other direction is another connection
}

}  // namespace
}  // namespace duet::platform
