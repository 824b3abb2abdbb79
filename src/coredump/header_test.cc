#include "coredump/header.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/crc32c.h"

namespace duet::coredump {
namespace {

// The worked example of docs/formats/coredump.md.
Header example() {
  Header h;
  h.sequence = 9;
  h.cluster = ClusterId(0x1122334455664d2a);
  for (std::size_t i = 0; i < 16; ++i) h.disk.bytes[i] = static_cast<std::uint8_t>(0xa0 + i);
  h.attribute = Attribute::active;
  h.node = NodeId(1);
  h.limit = seconds(60);
  h.epoch = Epoch(7);
  h.boot_nonce = BootNonce(0xb1b2b3b4b5b6b7b8);
  h.room = 63 * 1024 * 1024;
  h.stored = 2 * 1024 * 1024;
  h.core_done = 8 * 1024 * 1024;
  h.core_total = 32 * 1024 * 1024;
  h.elapsed = milliseconds(1500);
  return h;
}

constexpr std::string_view golden =
    "44554554434f524501000000c77eed0209000000000000002a4d665544332211"
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0101000060ea00000700000000000000"
    "b8b7b6b5b4b3b2b100001000000000000000f003000000000000200000000000"
    "00008000000000000000000200000000dc050000000000000000000000000000";

std::vector<std::byte> encoded(const Header& header) {
  auto block = encode_header(header);
  EXPECT_TRUE(block.has_value()) << (block ? "" : block.error().message);
  return block ? *block : std::vector<std::byte>(disk::area_block_size);
}

void fix_crc(std::vector<std::byte>& block) {
  store_le<std::uint32_t>(block.data() + 12, 0);
  store_le(block.data() + 12, crc32c(block));
}

TEST(CoredumpHeader, IsTheWorkedExampleByteForByte) {
  auto block = encoded(example());
  ASSERT_EQ(block.size(), disk::area_block_size);
  EXPECT_EQ(to_hex(Bytes(block).first(128)), golden);
  for (std::size_t i = 128; i < block.size(); ++i) ASSERT_EQ(block[i], std::byte{0}) << i;
  EXPECT_EQ(*decode_header(block), example());
}

TEST(CoredumpHeader, CopiesLieInTheHeaderArea) {
  EXPECT_EQ(header_copy(0), disk::blocks(16, 1));
  EXPECT_EQ(header_copy(1), disk::blocks(17, 1));
  EXPECT_LE(header_copy(header_copies - 1).end(), disk::coredump_header_area.end());
}

TEST(CoredumpHeader, EveryAttributeAndReasonIsCarried) {
  for (int a = 1; a <= 4; ++a) {
    for (int r = 0; r <= 7; ++r) {
      Header h = example();
      h.attribute = static_cast<Attribute>(a);
      h.abort_reason = static_cast<AbortReason>(r);
      auto block = encode_header(h);
      ASSERT_EQ(block.has_value(), (h.attribute == Attribute::aborted) == (r != 0));
      if (block) EXPECT_EQ(*decode_header(*block), h);
      EXPECT_NE(name(h.attribute), "?");
      EXPECT_NE(name(h.abort_reason), "?");
    }
  }
  EXPECT_EQ(name(static_cast<Attribute>(9)), "?");
  EXPECT_EQ(name(static_cast<AbortReason>(99)), "?");
}

TEST(CoredumpHeader, EveryFlippedBitIsNoticed) {
  auto block = encoded(example());
  for (std::size_t i = 0; i < block.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      block[i] ^= static_cast<std::byte>(1 << bit);
      ASSERT_FALSE(decode_header(block)) << "byte " << i << " bit " << bit;
      block[i] ^= static_cast<std::byte>(1 << bit);
    }
  }
}

TEST(CoredumpHeader, RulesHoldWhenWriting) {
  const std::pair<const char*, std::function<void(Header&)>> cases[] = {
      {"sequence", [](Header& h) { h.sequence = 0; }},
      {"disk", [](Header& h) { h.disk = {}; }},
      {"attribute 0", [](Header& h) { h.attribute = static_cast<Attribute>(0); }},
      {"attribute 5", [](Header& h) { h.attribute = static_cast<Attribute>(5); }},
      {"node 0", [](Header& h) { h.node = no_node; }},
      {"node 3", [](Header& h) { h.node = NodeId(3); }},
      {"limit 0", [](Header& h) { h.limit = milliseconds(0); }},
      {"limit", [](Header& h) { h.limit = max_limit + milliseconds(1); }},
      {"epoch", [](Header& h) { h.epoch = Epoch(0); }},
      {"nonce", [](Header& h) { h.boot_nonce = BootNonce(0); }},
      {"room small", [](Header& h) { h.room = min_room - 4096; }},
      {"room large", [](Header& h) { h.room = disk::max_disk_size; }},
      {"room odd", [](Header& h) { h.room += 1; }},
      {"stored large", [](Header& h) { h.stored = h.room + 4096; }},
      {"stored odd", [](Header& h) { h.stored += 512; }},
      {"core", [](Header& h) { h.core_done = h.core_total + 1; }},
      {"elapsed below", [](Header& h) { h.elapsed = milliseconds(-1); }},
      {"elapsed above", [](Header& h) { h.elapsed = milliseconds(0x100000000); }},
  };
  for (const auto& [what, spoil] : cases) {
    Header h = example();
    spoil(h);
    auto block = encode_header(h);
    ASSERT_FALSE(block) << what;
    EXPECT_EQ(block.error().code, ErrorCode::invalid) << what;
  }
}

TEST(CoredumpHeader, RulesHoldWhenReading) {
  struct Case {
    std::size_t offset;
    std::uint8_t value;
    ErrorCode code;
  };
  for (const Case& c : {Case{0, 'X', ErrorCode::not_found},
                        {8, 2, ErrorCode::unsupported_version},
                        {16, 0, ErrorCode::invalid},
                        {48, 0, ErrorCode::invalid},
                        {49, 9, ErrorCode::invalid},
                        {50, 1, ErrorCode::invalid},
                        {51, 1, ErrorCode::invalid},
                        {72, 1, ErrorCode::invalid},
                        {116, 1, ErrorCode::invalid},
                        {4095, 1, ErrorCode::invalid}}) {
    auto block = encoded(example());
    block[c.offset] = std::byte{c.value};
    fix_crc(block);
    auto decoded = decode_header(block);
    ASSERT_FALSE(decoded) << c.offset;
    EXPECT_EQ(decoded.error().code, c.code) << c.offset;
  }
  EXPECT_EQ(decode_header({}).error().code, ErrorCode::invalid);
}

TEST(CoredumpHeader, WhichCopyCounts) {
  auto older = example();
  auto newer = example();
  newer.sequence = 10;
  newer.attribute = Attribute::completed;
  auto other = example();
  other.stored = 0;
  std::vector<std::byte> none(disk::area_block_size);
  auto damaged = encoded(older);
  damaged[200] = std::byte{1};
  auto strange = encoded(older);
  strange[8] = std::byte{2};
  fix_crc(strange);
  using Block = std::vector<std::byte>;
  auto both_ways = [](const Block& a, const Block& b, auto check) {
    check(choose_header(a, b));
    check(choose_header(b, a));
  };
  auto is = [](const Header& h) {
    return [h](auto r) {
      ASSERT_TRUE(r);
      EXPECT_EQ(*r, h);
    };
  };
  auto fails = [](ErrorCode c) {
    return [c](auto r) {
      ASSERT_FALSE(r);
      EXPECT_EQ(r.error().code, c);
    };
  };
  both_ways(encoded(older), encoded(older), is(older));
  both_ways(encoded(older), encoded(newer), is(newer));
  both_ways(encoded(older), none, is(older));
  both_ways(encoded(older), damaged, is(older));
  both_ways(encoded(older), encoded(other), fails(ErrorCode::invalid));
  both_ways(encoded(newer), strange, fails(ErrorCode::unsupported_version));
  both_ways(damaged, none, fails(ErrorCode::invalid));
  both_ways(none, none, fails(ErrorCode::not_found));
}

}  // namespace
}  // namespace duet::coredump
