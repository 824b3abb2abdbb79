// Peers that do not keep to the protocol: without the secret, silent, or reaching too far.
#include <algorithm>

#include "platform/fabric_test_node.h"

namespace duet::platform {
namespace {

using fabric_test::host_of;
using fabric_test::Node;
using fabric_test::patience;
using fabric_test::self_of;
using ports::LinkState;

FabricConnection::Limits limits() {
  FabricConnection::Limits limits;
  limits.frame_size = interconnect::max_frame_size;
  return limits;
}

struct Stranger {
  Stranger(EventLoop& loop, const FabricAddress& address) {
    info = std::move(fabric_info("tcp", address, false).value());
    fabric = std::move(open_fabric(*info).value());
    connection = FabricConnection::dial(loop, *fabric, *info, limits()).value();
    connection->set_callbacks({
        .on_connected = [this] { connected = true; },
        .on_frame = [this](Bytes) { ++frames; },
        .on_closed = [this](const std::string&) { closed = true; },
    });
  }
  ~Stranger() { connection->close(); }
  FabricInfo info;
  Fid<fid_fabric> fabric;
  std::shared_ptr<FabricConnection> connection;
  bool connected = false;
  bool closed = false;
  int frames = 0;
};

TEST(FabricStranger, FindsNoRegionToReadOrWrite) {
  EventLoop loop;
  Node red(loop, self_of(1));
  auto region = make_buffer(1 << 16);
  FabricMirrorOptions options;
  options.self = self_of(1);
  options.listen.host = host_of(1);
  options.region = region.bytes;
  auto mirror = std::move(FabricMirror::open(loop, options).value());
  mirror->open_window(0, region.bytes.size(), BootNonce(5));

  for (auto port : {red.link->port(), mirror->port()}) {
    for (std::uint64_t key = 0; key < 6; ++key) {
      for (bool write : {false, true}) {
        Stranger stranger(loop, {host_of(1), port});
        ASSERT_TRUE(loop.run_until([&] { return stranger.connected; }, patience));
        std::optional<bool> done;
        if (write) {
          std::vector<std::byte> bytes(48, std::byte{0xff});
          stranger.connection->write_copy(bytes, 0, key, [&](Status s) { done = s.has_value(); });
        } else {
          stranger.connection->read(0, key, 48, [&](auto r) { done = r.has_value(); });
        }
        ASSERT_TRUE(loop.run_until([&] { return done.has_value(); }, patience));
        EXPECT_FALSE(*done) << "port " << port << " key " << key << (write ? " write" : " read");
      }
    }
  }
  EXPECT_TRUE(std::ranges::all_of(region.bytes, [](auto b) { return b == std::byte{0}; }));
}

TEST(FabricStranger, SilentOnesAreBoundedAndKeepNobodyOut) {
  EventLoop loop;
  auto self = self_of(1);
  auto listener = std::move(
      FabricListener::listen(loop, "tcp", {host_of(1), 0}, limits(), self, milliseconds(300))
          .value());
  int authenticated = 0;
  std::vector<FabricListener::Authenticated> kept;
  listener->on_authenticated([&](FabricListener::Authenticated a) {
    ++authenticated;
    kept.push_back(std::move(a));
  });
  std::vector<std::unique_ptr<Stranger>> strangers;
  std::size_t most = 0;
  for (int i = 0; i < 20; ++i) {
    strangers.push_back(
        std::make_unique<Stranger>(loop, FabricAddress{host_of(1), listener->port()}));
    // Up to the moment it is connected, or was pushed out by the ones after it.
    loop.run_until([&] { return strangers.back()->connected || strangers.back()->closed; },
                   patience);
    most = std::max(most, listener->half_open());
  }
  EXPECT_EQ(most, FabricListener::max_half_open);

  auto partner = self_of(2);
  auto info = std::move(fabric_info("tcp", {host_of(1), listener->port()}, false).value());
  FabricDialer dialer(loop, listener->fabric(), *info, limits(), partner, seconds(5),
                      [](const auto&) {});
  EXPECT_TRUE(loop.run_until([&] { return authenticated == 1; }, patience));
  // The silent ones are dropped after the limit.
  EXPECT_TRUE(loop.run_until([&] { return listener->half_open() == 0; }, patience));
  EXPECT_TRUE(loop.run_until(
      [&] { return std::ranges::all_of(strangers, [](const auto& s) { return s->closed; }); },
      patience));
  for (auto& a : kept) a.connection->close();
}

TEST(FabricStranger, GarbageIsAnsweredWithTheDoor) {
  EventLoop loop;
  Node red(loop, self_of(1));
  for (std::size_t size : {0u, 1u, 8u, 104u, 4104u}) {
    Stranger stranger(loop, red.address());
    ASSERT_TRUE(loop.run_until([&] { return stranger.connected; }, patience));
    stranger.connection->send(std::vector<std::byte>(size, std::byte{0x44}), [](Status) {});
    EXPECT_TRUE(loop.run_until([&] { return stranger.closed; }, patience)) << size;
    EXPECT_EQ(stranger.frames, 0);
  }
}

// Knows the secret, but reaches for what it was not given.
TEST(FabricStranger, PartnerCanDoNoMoreThanItWasGranted) {
  EventLoop loop;
  Node red(loop, self_of(1));
  auto info = std::move(fabric_info("tcp", red.address(), false).value());
  auto fabric = std::move(open_fabric(*info).value());
  struct Reach {
    const char* what;
    std::size_t grant;
    bool write;
    std::int64_t shift;
  };
  const Reach reaches[] = {
      {"write to the state structure", 0, true, 0},
      {"read of the greeting", 1, false, 0},
      {"read past the state structure", 0, false, 1},
      {"read before the state structure", 0, false, -1},
      {"write past the greeting", 1, true, 1},
  };
  for (const auto& reach : reaches) {
    std::optional<FabricDialer::Admitted> admitted;
    FabricDialer dialer(loop, *fabric, *info, limits(), self_of(2), seconds(5),
                        [&](auto outcome) { admitted = std::move(outcome.value()); });
    ASSERT_TRUE(loop.run_until([&] { return admitted.has_value(); }, patience));
    const auto& grant = admitted->grants[reach.grant];
    auto address = grant.address + static_cast<std::uint64_t>(reach.shift);
    std::optional<bool> done;
    if (reach.write) {
      std::vector<std::byte> bytes(grant.length);
      admitted->connection->write_copy(bytes, address, grant.key,
                                       [&](Status s) { done = s.has_value(); });
    } else {
      admitted->connection->read(address, grant.key, grant.length,
                                 [&](auto r) { done = r.has_value(); });
    }
    ASSERT_TRUE(loop.run_until([&] { return done.has_value(); }, patience)) << reach.what;
    EXPECT_FALSE(*done) << reach.what;
    admitted->connection->close();
  }
  // And still serves the honest partner.
  Node blue(loop, self_of(2));
  red.start(blue.address());
  blue.start(red.address());
  EXPECT_TRUE(red.becomes(LinkState::ready)) << red.why;
}

}  // namespace
}  // namespace duet::platform
