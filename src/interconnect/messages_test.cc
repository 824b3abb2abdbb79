#include "interconnect/messages.h"

#include <gtest/gtest.h>

#include <set>

#include "base/crc32c.h"
#include "interconnect/messages_golden.h"

namespace duet::interconnect {
namespace {

Hello example_hello(bool from_acceptor) {
  auto self = golden::node(from_acceptor ? 2 : 1);
  Hello h;
  h.from_acceptor = from_acceptor;
  h.node = self.node;
  h.cluster = self.cluster;
  h.nonce = self.nonce;
  h.challenge = from_acceptor ? golden::acceptor_challenge : golden::dialer_challenge;
  h.software = self.software;
  return h;
}
ClientInformation example_clients() {
  ports::ConnectionClient mirror;
  mirror.name = "mirror";
  mirror.ports = 1;
  mirror.tcp_port = 7002;
  mirror.memory = 64 << 20;
  return {{mirror}};
}
Greeting example_greeting() {
  Greeting g;
  g.step = 2;
  g.node = NodeId(1);
  g.cluster = golden::node(1).cluster;
  g.nonce = golden::node(1).nonce;
  g.seen = golden::node(2).nonce;
  g.session = session_of(golden::dialer_challenge);
  return g;
}
std::vector<std::byte> text(std::string_view s) {
  auto b = std::as_bytes(std::span(s));
  return {b.begin(), b.end()};
}
std::vector<Frame> examples() {
  Welcome welcome;
  welcome.proof.fill(std::byte{7});
  welcome.verdict = Verdict::not_now;
  welcome.grants = golden::grants;
  return {example_hello(false), example_hello(true), DialerProof{},     welcome,
          example_clients(),    Ready{Session(5)},   Payload{text("x")}};
}
void fix_checksum(std::vector<std::byte>& bytes) {
  store_le(bytes.data(), crc32c(Bytes(bytes).subspan(4)));
}

TEST(Messages, AreTheWorkedExampleByteForByte) {
  EXPECT_EQ(to_hex(encode(example_hello(false))), golden::hello_bytes);
  EXPECT_EQ(to_hex(encode(example_hello(true))), golden::answer_bytes);
  EXPECT_EQ(to_hex(encode(example_clients())), golden::client_information_bytes);
  EXPECT_EQ(to_hex(encode(Ready{session_of(golden::dialer_challenge)})), golden::ready_bytes);
  EXPECT_EQ(to_hex(encode(Payload{text("please die")})), golden::payload_bytes);
  EXPECT_EQ(to_hex(encode(example_greeting())), golden::greeting_bytes);
}

TEST(Messages, DecodeUndoesEncode) {
  for (const auto& frame : examples()) {
    auto decoded = decode_frame(encode(frame));
    ASSERT_TRUE(decoded.has_value()) << frame.index() << decoded.error().message;
    EXPECT_EQ(*decoded, frame) << frame.index();
  }
  EXPECT_EQ(*decode_greeting(encode(example_greeting())), example_greeting());
}

TEST(Messages, EveryFlippedBitAndEveryOtherLengthIsNoticed) {
  for (const auto& frame : examples()) {
    auto good = encode(frame);
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
      auto bad = good;
      bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      EXPECT_FALSE(decode_frame(bad).has_value()) << frame.index() << " bit " << bit;
    }
    if (std::holds_alternative<Payload>(frame)) continue;
    for (std::size_t size = 0; size <= good.size() + 1; ++size) {
      if (size == good.size()) continue;
      auto bad = good;
      bad.resize(size);
      if (size >= 4) fix_checksum(bad);
      EXPECT_FALSE(decode_frame(bad).has_value()) << frame.index() << " size " << size;
    }
  }
  auto good = encode(example_greeting());
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(decode_greeting(bad).has_value()) << bit;
  }
  EXPECT_FALSE(decode_greeting(Bytes(good).first(47)).has_value());
}

TEST(Messages, RefusesFieldsOutOfTheirRange) {
  struct Case {
    const char* what;
    std::size_t frame;  // of examples()
    std::size_t offset;
    std::uint8_t value;
  };
  const Case cases[] = {
      {"unknown kind", 5, 6, 99},
      {"reserved of the header", 5, 7, 1},
      {"lowest version 0", 0, 8, 0},
      {"lowest above highest", 0, 8, 9},
      {"node 0", 0, 12, 0},
      {"node 3", 0, 12, 3},
      {"purpose 0", 0, 13, 0},
      {"purpose 3", 0, 13, 3},
      {"dialer with a verdict", 0, 14, 2},
      {"verdict 0", 1, 14, 0},
      {"verdict 8", 1, 14, 8},
      {"reserved of hello", 0, 15, 1},
      {"control character", 0, 64, 9},
      {"text after its end", 0, 95, 'x'},
      {"verdict 0", 3, 40, 0},
      {"verdict 8", 3, 40, 8},
      {"reserved of welcome", 3, 41, 1},
      {"too many clients", 4, 8, 17},
      {"fewer clients than told", 4, 8, 2},
      {"more clients than told", 4, 8, 0},
      {"reserved of clients", 4, 9, 1},
      {"empty name", 4, 16, 0},
      {"reserved of a client", 4, 52, 1},
  };
  for (const auto& c : cases) {
    auto bytes = encode(examples()[c.frame]);
    bytes[c.offset] = static_cast<std::byte>(c.value);
    fix_checksum(bytes);
    EXPECT_FALSE(decode_frame(bytes).has_value()) << c.what;
  }
  Welcome wraps;
  wraps.grants[1] = {UINT64_MAX - 1, 1, 0, 2};
  EXPECT_FALSE(decode_frame(encode(wraps)).has_value());
  wraps.grants[1] = {0, 1, UINT64_MAX - 1, 2};
  EXPECT_FALSE(decode_frame(encode(wraps)).has_value());

  for (auto [offset, value] : {std::pair{4, 2}, {6, 0}, {6, 3}, {7, 0}, {7, 3}, {40, 1}}) {
    auto bytes = encode(example_greeting());
    bytes[static_cast<std::size_t>(offset)] = static_cast<std::byte>(value);
    store_le(bytes.data(), crc32c(Bytes(bytes).subspan(4)));
    EXPECT_FALSE(decode_greeting(bytes).has_value()) << offset;
  }
}

TEST(Messages, BoundsAreReachedAndKept) {
  Payload most{std::vector<std::byte>(ports::Interconnect::max_message)};
  EXPECT_EQ(encode(most).size(), max_frame_size);
  EXPECT_EQ(*decode_frame(encode(most)), Frame(most));
  auto too_much = encode(most);
  too_much.push_back({});
  fix_checksum(too_much);
  EXPECT_FALSE(decode_frame(too_much).has_value());

  ClientInformation all;
  for (std::size_t i = 0; i < ports::max_connection_clients; ++i) {
    all.clients.push_back({std::string(31, 'n'), 65535, UINT64_MAX, 65535});
  }
  EXPECT_EQ(*decode_frame(encode(all)), Frame(all));

  auto hello = example_hello(false);
  hello.software = std::string(100, 's');
  auto decoded = decode_frame(encode(hello));
  EXPECT_EQ(std::get<Hello>(*decoded).software, std::string(max_software_name, 's'));
}

TEST(Messages, CommonVersionIsTheHighestOfBoth) {
  EXPECT_EQ(common_version({1, 1}, {1, 1}), 1);
  EXPECT_EQ(common_version({1, 3}, {2, 5}), 3);
  EXPECT_EQ(common_version({2, 5}, {1, 3}), 3);
  EXPECT_EQ(common_version({1, 2}, {3, 4}), std::nullopt);
  EXPECT_EQ(common_version({3, 4}, {1, 2}), std::nullopt);
}

TEST(Messages, EveryVerdictAndLinkStateHasAName) {
  std::set<std::string_view> names;
  for (int v = 1; v <= 7; ++v) names.insert(name(static_cast<Verdict>(v)));
  for (int s = 0; s <= 8; ++s) names.insert(ports::name(static_cast<ports::LinkState>(s)));
  EXPECT_FALSE(names.contains("?"));
}

}  // namespace
}  // namespace duet::interconnect
