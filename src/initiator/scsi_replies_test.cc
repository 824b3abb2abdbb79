#include "initiator/scsi_replies.h"

#include <gtest/gtest.h>

namespace duet::initiator {
namespace {

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> bytes;
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t i = 0; i < hex.size(); ++i) {
    if (hex[i] == ' ') continue;
    bytes.push_back(static_cast<std::byte>(digit(hex[i]) << 4 | digit(hex[i + 1])));
    ++i;
  }
  return bytes;
}

// A reply cut off anywhere is refused, never read beyond its end (the sanitizer looks).
template <class Parse>
void expect_cuts_refused(Parse parse, std::string_view hex, std::size_t needed) {
  auto whole = from_hex(hex);
  for (std::size_t n = 0; n < needed; ++n) {
    std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    auto result = parse(cut);
    ASSERT_FALSE(result.has_value()) << n;
    EXPECT_EQ(result.error().code, ErrorCode::invalid);
  }
}

TEST(ScsiReplies, ReadCapacity) {
  constexpr auto reply = "000000000001ffff 00000200 0000000000000000";
  auto capacity = parse_read_capacity16(from_hex(reply));
  ASSERT_TRUE(capacity.has_value());
  EXPECT_EQ(capacity->size, 64u << 20);
  EXPECT_EQ(capacity->block_size, 512u);
  EXPECT_EQ(parse_read_capacity16(from_hex("0000000000003fff 00001000"))->size, 64u << 20);
  expect_cuts_refused(parse_read_capacity16, reply, 12);
  EXPECT_FALSE(parse_read_capacity16(from_hex("000000000001ffff 00000208")).has_value());
  EXPECT_FALSE(parse_read_capacity16(from_hex("000000000001ffff 00000000")).has_value());
  EXPECT_FALSE(parse_read_capacity16(from_hex("ffffffffffffffff 00000200")).has_value());
  EXPECT_FALSE(parse_read_capacity16(from_hex("00 80 00 00 00 00 00 00 00 00 02 00")).has_value());
}

TEST(ScsiReplies, SerialNumberWithoutPadding) {
  constexpr auto reply = "00 80 0006 20 61 62 63 20 20";
  EXPECT_EQ(*parse_unit_serial_number(from_hex(reply)), "abc");
  expect_cuts_refused(parse_unit_serial_number, reply, 10);
  EXPECT_FALSE(parse_unit_serial_number(from_hex("00 80 0000")).has_value());
  EXPECT_FALSE(parse_unit_serial_number(from_hex("00 80 0002 20 20")).has_value());
  EXPECT_FALSE(parse_unit_serial_number(from_hex("00 80 0002 61 0a")).has_value());
  EXPECT_FALSE(parse_unit_serial_number(from_hex("00 83 0001 61")).has_value());
}

TEST(ScsiReplies, MaxTransferLength) {
  constexpr auto reply = "00 b0 003c 00 00 0000 00000800";
  EXPECT_EQ(*parse_max_transfer_length(from_hex(reply)), 2048u);
  expect_cuts_refused(parse_max_transfer_length, reply, 12);
}

TEST(ScsiReplies, WriteCacheEnabled) {
  EXPECT_TRUE(*parse_write_cache_enabled(from_hex("17 00 00 00 08 12 04")));
  EXPECT_FALSE(*parse_write_cache_enabled(from_hex("17 00 00 00 88 12 00")));
  // Behind a block descriptor.
  constexpr auto reply = "1f 00 00 08 0000000000000200 08 12 04";
  EXPECT_TRUE(*parse_write_cache_enabled(from_hex(reply)));
  expect_cuts_refused(parse_write_cache_enabled, reply, 15);
  EXPECT_FALSE(parse_write_cache_enabled(from_hex("17 00 00 00 0a 12 04")).has_value());
  EXPECT_FALSE(parse_write_cache_enabled(from_hex("17 00 00 ff 08 12 04")).has_value());
}

TEST(ScsiReplies, ReportLuns) {
  constexpr auto reply = "00000018 00000000 0000000000000000 0007000000000000 4102000000000000";
  auto luns = parse_report_luns(from_hex(reply));
  ASSERT_TRUE(luns.has_value());
  EXPECT_EQ(*luns, (std::vector{LunNumber(0), LunNumber(7), LunNumber(0x102)}));
  expect_cuts_refused(parse_report_luns, reply, 32);
  // Well-known units and deeper levels are not ours.
  EXPECT_TRUE(
      parse_report_luns(from_hex("00000010 00000000 c101000000000000 0001000200000000"))->empty());
  EXPECT_FALSE(parse_report_luns(from_hex("00000004 00000000 00000000")).has_value());
  std::vector<std::byte> many(8 + 8 * 257);
  store_be<std::uint32_t>(many.data(), 8 * 257);
  EXPECT_FALSE(parse_report_luns(many).has_value());
}

TEST(ScsiReplies, ReadKeys) {
  constexpr auto reply = "00000005 00000010 4d2a010200000007 4d2a010100000007";
  auto keys = parse_read_keys(from_hex(reply));
  ASSERT_TRUE(keys.has_value());
  EXPECT_EQ(keys->generation, 5u);
  EXPECT_EQ(keys->keys,
            (std::vector{ReservationKey(0x4d2a010200000007), ReservationKey(0x4d2a010100000007)}));
  expect_cuts_refused(parse_read_keys, reply, 24);
  EXPECT_TRUE(parse_read_keys(from_hex("00000000 00000000"))->keys.empty());
  EXPECT_FALSE(parse_read_keys(from_hex("00000000 ffffffff 0000000000000000")).has_value());
  EXPECT_FALSE(parse_read_keys(from_hex("00000000 00000004 00000000")).has_value());
}

TEST(ScsiReplies, ReadReservation) {
  constexpr auto reply = "00000005 00000010 4d2a010200000007 00000000 00 05 0000";
  auto state = parse_read_reservation(from_hex(reply));
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->generation, 5u);
  EXPECT_TRUE(state->reserved);
  EXPECT_EQ(state->holder, ReservationKey(0x4d2a010200000007));
  EXPECT_EQ(state->type, ports::ReservationType::write_exclusive_registrants_only);
  expect_cuts_refused(parse_read_reservation, reply, 24);
  EXPECT_FALSE(parse_read_reservation(from_hex("00000009 00000000"))->reserved);
  EXPECT_EQ(parse_read_reservation(from_hex("00000009 00000000"))->generation, 9u);
  for (int type = 0; type < 16; ++type) {
    auto bytes = from_hex(reply);
    bytes[21] = static_cast<std::byte>(type);
    bool known = type == 1 || type == 3 || (type >= 5 && type <= 8);
    EXPECT_EQ(parse_read_reservation(bytes).has_value(), known) << type;
  }
}

}  // namespace
}  // namespace duet::initiator
