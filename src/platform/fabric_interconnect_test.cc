#include "platform/fabric_interconnect.h"

#include "platform/fabric_test_node.h"

namespace duet::platform {
namespace {

using fabric_test::Node;
using fabric_test::patience;
using fabric_test::self_of;
using fabric_test::structure_of;
using fabric_test::text;
using ports::LinkState;

struct Pair {
  EventLoop loop;
  Node red{loop, self_of(1)};
  Node blue{loop, self_of(2)};

  void start() {
    red.start(blue.address());
    blue.start(red.address());
  }
  bool ready() {
    return loop.run_until(
        [&] {
          return red.link->state() == LinkState::ready && blue.link->state() == LinkState::ready;
        },
        patience);
  }
};

TEST(FabricInterconnect, ComesUpAndCarriesClientsStatesAndMessages) {
  Pair pair;
  const ports::ConnectionClient mirror{"mirror", 1, 1 << 20, 7002};
  pair.red.link->announce_clients({mirror});
  pair.start();
  ASSERT_TRUE(pair.ready()) << pair.red.why << " / " << pair.blue.why;
  EXPECT_EQ(pair.blue.partner.clients, std::vector{mirror});
  EXPECT_EQ(pair.blue.partner.nonce, pair.red.self.nonce);
  EXPECT_EQ(pair.blue.partner.software, "duet test");
  EXPECT_EQ(pair.red.partner.clients.size(), 0u);

  // Clients may change later.
  pair.blue.link->announce_clients({mirror});
  EXPECT_TRUE(pair.loop.run_until([&] { return pair.red.partner.clients.size() == 1; }, patience));

  // The partner's state, as it is now.
  for (std::uint64_t progress : {1, 2}) {
    pair.blue.link->publish_state(structure_of(pair.blue.self, progress));
    std::vector<std::byte> read;
    pair.red.link->read_partner_state([&](auto bytes) { read = bytes.value(); });
    EXPECT_TRUE(read.empty());  // never from inside the call
    EXPECT_TRUE(pair.loop.run_until([&] { return !read.empty(); }, patience));
    EXPECT_EQ(interconnect::decode_state_structure(read)->progress, progress);
  }

  // Messages in order, up to the largest one.
  int done = 0;
  for (int i = 0; i < 20; ++i) {
    pair.red.link->send(text("message " + std::to_string(i)), [&](Status s) {
      EXPECT_TRUE(s.has_value());
      ++done;
    });
  }
  pair.red.link->send(std::vector<std::byte>(ports::Interconnect::max_message),
                      [&](Status s) { done += s.has_value() ? 1 : 0; });
  pair.blue.link->send({}, [&](Status s) { done += s.has_value() ? 1 : 0; });
  EXPECT_TRUE(pair.loop.run_until(
      [&] {
        return done == 22 && pair.blue.messages.size() == 21 && pair.red.messages.size() == 1;
      },
      patience));
  EXPECT_EQ(pair.blue.messages[19], "message 19");
  EXPECT_EQ(pair.blue.messages[20].size(), ports::Interconnect::max_message);
}

TEST(FabricInterconnect, TooManyMessagesAtOnceAreBusy) {
  Pair pair;
  pair.start();
  ASSERT_TRUE(pair.ready());
  int ok = 0;
  int busy = 0;
  for (int i = 0; i < 1000; ++i) {
    pair.red.link->send(text("x"), [&](Status s) {
      if (s) ++ok;
      if (!s && s.error().code == ErrorCode::busy) ++busy;
    });
  }
  EXPECT_TRUE(pair.loop.run_until([&] { return ok + busy == 1000; }, patience));
  EXPECT_GT(ok, 0);
  EXPECT_GT(busy, 0);
  EXPECT_TRUE(pair.loop.run_until(
      [&] { return pair.blue.messages.size() == static_cast<std::size_t>(ok); }, patience));
}

TEST(FabricInterconnect, NobodyThereIsDownAndItTriesUntilSomebodyComes) {
  EventLoop loop;
  Node red(loop, self_of(1));
  std::uint16_t port = 0;
  {
    Node gone(loop, self_of(2));
    port = gone.link->port();
  }
  red.start({"127.0.0.2", port});
  ASSERT_TRUE(loop.run_until([&] { return red.seen[LinkState::down] > 0; }, patience));
  bool answered = false;
  red.link->read_partner_state([&](auto r) {
    answered = true;
    EXPECT_EQ(r.error().code, ErrorCode::disconnected);
  });
  red.link->send(text("x"), [&](Status s) { EXPECT_EQ(s.error().code, ErrorCode::disconnected); });
  EXPECT_TRUE(loop.run_until([&] { return answered; }, patience));

  FabricInterconnectOptions there;
  there.listen = {"127.0.0.2", port};
  Node blue(loop, self_of(2), there);
  blue.start(red.address());
  EXPECT_TRUE(red.becomes(LinkState::ready)) << red.why;
}

TEST(FabricInterconnect, MismatchesAreNamedStates) {
  struct Case {
    LinkState state;
    void (*change)(interconnect::Self&);
  };
  const Case cases[] = {
      {LinkState::wrong_cluster, [](interconnect::Self& s) { s.cluster = ClusterId(9); }},
      {LinkState::wrong_node, [](interconnect::Self& s) { s.node = NodeId(1); }},
      {LinkState::incompatible_version, [](interconnect::Self& s) { s.versions = {2, 3}; }},
      {LinkState::authentication_failed,
       [](interconnect::Self& s) { s.secret.assign(32, std::byte{1}); }},
  };
  for (const auto& c : cases) {
    EventLoop loop;
    auto other = self_of(2);
    c.change(other);
    FabricInterconnectOptions at_two;
    at_two.listen.host = "127.0.0.2";
    Node red(loop, self_of(1));
    Node blue(loop, other, at_two);
    red.start({"127.0.0.2", blue.link->port()});
    blue.start(red.address());
    EXPECT_TRUE(red.becomes(c.state)) << ports::name(c.state) << ": " << red.why;
    EXPECT_TRUE(blue.becomes(c.state)) << ports::name(c.state) << ": " << blue.why;
    EXPECT_EQ(red.seen[LinkState::ready], 0);
    EXPECT_EQ(red.seen[LinkState::connecting], 0) << ports::name(c.state);
  }
}

TEST(FabricInterconnect, OwnAddressIsPartnerIsSelf) {
  EventLoop loop;
  Node red(loop, self_of(1));
  red.start(red.address());
  EXPECT_TRUE(red.becomes(LinkState::partner_is_self)) << red.why;
}

TEST(FabricInterconnect, HalfBootedPartnersAreNotReady) {
  EventLoop loop;
  Node red(loop, self_of(1));
  // Listens and authenticates, but has published nothing and does not connect.
  Node blue(loop, self_of(2));
  blue.link->publish_state(std::vector<std::byte>(interconnect::state_structure_size));
  red.start(blue.address());
  EXPECT_TRUE(red.becomes(LinkState::partner_not_ready));
  EXPECT_NE(red.why.find("not published yet"), std::string::npos) << red.why;
  // Publishes, but still does not connect.
  blue.link->publish_state(structure_of(blue.self));
  EXPECT_TRUE(red.becomes(LinkState::connecting)) << red.why;
  EXPECT_TRUE(red.becomes(LinkState::partner_not_ready)) << red.why;
  EXPECT_EQ(red.why, "the partner does not connect to us");
  // Messages can be sent all the same, "please die" among them, but nobody who has not introduced
  // himself is listened to: here red has.
  red.link->send(text("please die"), [](Status) {});
  EXPECT_TRUE(loop.run_until([&] { return blue.messages.size() == 1; }, patience));
  blue.start(red.address());
  EXPECT_TRUE(red.becomes(LinkState::ready)) << red.why;
}

TEST(FabricInterconnect, PartnerThatEndsIsNoticedAndComesBack) {
  EventLoop loop;
  Node red(loop, self_of(1));
  auto blue = std::make_unique<Node>(loop, self_of(2));
  auto address = blue->address();
  red.start(address);
  blue->start(red.address());
  ASSERT_TRUE(red.becomes(LinkState::ready));
  blue.reset();
  auto before = loop.now();
  EXPECT_TRUE(red.becomes(LinkState::down));
  EXPECT_LT(loop.now() - before, milliseconds(400));  // told, not timed out

  auto reborn = self_of(2);
  reborn.nonce = BootNonce(77);
  FabricInterconnectOptions same_place;
  same_place.listen = address;
  Node again(loop, reborn, same_place);
  again.start(red.address());
  EXPECT_TRUE(red.becomes(LinkState::ready)) << red.why;
  EXPECT_EQ(red.partner.nonce, BootNonce(77));
}

TEST(FabricInterconnect, RestartGoesThroughTheBringUpUnderTheNewNonce) {
  Pair pair;
  pair.start();
  ASSERT_TRUE(pair.ready());
  pair.blue.self.nonce = BootNonce(4711);
  pair.blue.link->restart(BootNonce(4711));
  EXPECT_NE(pair.blue.link->state(), LinkState::ready);
  // Not published under the new nonce yet: half-booted.
  EXPECT_TRUE(pair.red.becomes(LinkState::partner_not_ready)) << pair.red.why;
  pair.blue.link->publish_state(structure_of(pair.blue.self));
  EXPECT_TRUE(pair.ready()) << pair.red.why << " / " << pair.blue.why;
  EXPECT_EQ(pair.red.partner.nonce, BootNonce(4711));
}

TEST(FabricInterconnect, RefusesAShortSecret) {
  EventLoop loop;
  FabricInterconnectOptions options;
  options.listen.host = "127.0.0.1";
  options.self = self_of(1);
  options.self.secret.resize(31);
  auto opened = FabricInterconnect::open(loop, std::move(options));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::invalid);
}

TEST(FabricInterconnect, AddressInUseIsAnError) {
  EventLoop loop;
  Node red(loop, self_of(1));
  FabricInterconnectOptions options;
  options.listen = red.address();
  options.self = self_of(2);
  auto opened = FabricInterconnect::open(loop, std::move(options));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::io_error);
}

}  // namespace
}  // namespace duet::platform
