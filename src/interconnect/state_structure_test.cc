#include "interconnect/state_structure.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "base/crc32c.h"

namespace duet::interconnect {
namespace {

// The worked example of docs/formats/state_structure.md.
StateStructure example() {
  StateStructure s;
  s.cluster = ClusterId(0x1122334455664d2a);
  s.node = NodeId(2);
  s.state = NodeState::givewait;
  s.reason = 3;
  s.mirror_window_open = true;
  s.nonce = BootNonce(0xa1a2a3a4a5a6a7a8);
  s.boot_epoch = Epoch(7);
  s.progress = 5;
  s.heartbeat = 1000;
  s.own_epoch = Epoch(6);
  s.partner_epoch = Epoch(0);
  s.seen_partner = BootNonce(0xb1b2b3b4b5b6b7b8);
  return s;
}

constexpr std::string_view golden =
    "6d77b7b2010080002a4d665544332211"
    "0202030100000000a8a7a6a5a4a3a2a1"
    "07000000000000000500000000000000"
    "e8030000000000000600000000000000"
    "0000000000000000b8b7b6b5b4b3b2b1"
    "00000000000000000000000000000000"
    "00000000000000000000000000000000"
    "00000000000000000000000000000000";

void fix_checksum(MutableBytes bytes) {
  store_le(bytes.data(), crc32c(bytes.subspan(4)));
}

TEST(StateStructure, IsTheWorkedExampleByteForByte) {
  EXPECT_EQ(to_hex(encode(example())), golden);
}

TEST(StateStructure, DecodeUndoesEncode) {
  EXPECT_EQ(*decode_state_structure(encode(example())), example());
  for (int state = 1; state <= 10; ++state) {
    auto s = example();
    s.state = static_cast<NodeState>(state);
    s.mirror_window_open = state % 2 == 0;
    EXPECT_EQ(*decode_state_structure(encode(s)), s);
  }
}

TEST(StateStructure, EveryStateHasAName) {
  std::set<std::string_view> names;
  for (int state = 1; state <= 10; ++state) names.insert(name(static_cast<NodeState>(state)));
  EXPECT_EQ(names.size(), 10u);
  EXPECT_FALSE(names.contains("?"));
}

TEST(StateStructure, EveryFlippedBitIsNoticed) {
  auto good = encode(example());
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(decode_state_structure(bad).has_value()) << bit;
  }
}

TEST(StateStructure, RefusesEachFieldOutOfItsRange) {
  struct Case {
    const char* what;
    std::size_t offset;
    std::uint8_t value;
    ErrorCode code;
  };
  const Case cases[] = {
      {"version", 4, 2, ErrorCode::unsupported_version},
      {"size", 6, 127, ErrorCode::invalid},
      {"node 0", 16, 0, ErrorCode::invalid},
      {"node 3", 16, 3, ErrorCode::invalid},
      {"state 0", 17, 0, ErrorCode::invalid},
      {"state 11", 17, 11, ErrorCode::invalid},
      {"unknown flag", 19, 2, ErrorCode::invalid},
      {"first reserved bytes", 20, 1, ErrorCode::invalid},
      {"last reserved byte", 127, 1, ErrorCode::invalid},
  };
  for (const auto& c : cases) {
    auto bytes = encode(example());
    bytes[c.offset] = static_cast<std::byte>(c.value);
    fix_checksum(bytes);
    auto decoded = decode_state_structure(bytes);
    ASSERT_FALSE(decoded.has_value()) << c.what;
    EXPECT_EQ(decoded.error().code, c.code) << c.what;
  }
  auto no_nonce = example();
  no_nonce.nonce = BootNonce(0);
  EXPECT_FALSE(decode_state_structure(encode(no_nonce)).has_value());
}

TEST(StateStructure, RefusesOtherSizesAndNothingPublished) {
  auto bytes = encode(example());
  EXPECT_FALSE(decode_state_structure(Bytes(bytes).first(127)).has_value());
  EXPECT_FALSE(decode_state_structure({}).has_value());
  std::vector<std::byte> zeros(state_structure_size);
  auto decoded = decode_state_structure(zeros);
  ASSERT_FALSE(decoded.has_value());
  EXPECT_EQ(decoded.error().code, ErrorCode::invalid);
}

TEST(StableReader, WantsTwoEqualValidReads) {
  StableReader reader;
  auto s = example();
  EXPECT_FALSE(reader.observe(s));
  EXPECT_EQ(reader.observe(s), s);
  s.heartbeat++;
  s.progress++;
  EXPECT_EQ(reader.observe(s), s);  // counters may grow
  s.state = NodeState::mbwait;
  EXPECT_FALSE(reader.observe(s));
  EXPECT_EQ(reader.observe(s), s);
}

TEST(StableReader, StartsOverAfterAnInvalidReadAndWhenCountersGoBack) {
  StableReader reader;
  auto s = example();
  EXPECT_FALSE(reader.observe(s));
  EXPECT_FALSE(reader.observe(fail(ErrorCode::invalid, "torn")));
  EXPECT_FALSE(reader.observe(s));
  EXPECT_TRUE(reader.observe(s));
  s.heartbeat--;
  EXPECT_FALSE(reader.observe(s));
  EXPECT_TRUE(reader.observe(s));
  s.progress--;
  EXPECT_FALSE(reader.observe(s));
  reader.reset();
  EXPECT_FALSE(reader.observe(s));
}

}  // namespace
}  // namespace duet::interconnect
