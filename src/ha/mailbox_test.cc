#include "ha/mailbox.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"

namespace duet::ha {
namespace {

Mailbox example() {
  Mailbox m = first_mailbox(ClusterId(0x1122334455664d2a), NodeId(1), {});
  for (int first : {0xa0, 0xb0}) {
    auto& id = m.disks.emplace_back();
    for (int i = 0; i < 16; ++i) id.bytes[i] = static_cast<std::uint8_t>(first + i);
  }
  m.generation = 9;
  m.epoch = Epoch(7);
  m.server = NodeId(2);
  m.taken_over_by = NodeId(2);
  m.durability = Durability::mirrored;
  m.reason = 3;
  m.durability_since = LogSequence(4096);
  m.log_epoch = Epoch(6);
  m.nvram_server = 0xd1;
  m.nvram_mirror = 0xd2;
  m.writer = BootNonce(0xa1a2a3a4a5a6a7a8);
  return m;
}

void fix_crc(std::vector<std::byte>& block) {
  store_le<std::uint32_t>(block.data() + 12, 0);
  store_le(block.data() + 12, crc32c(block));
}

TEST(mailbox, golden_bytes) {
  auto block = encode(example());
  ASSERT_EQ(block.size(), mailbox_block_size);
  EXPECT_EQ(to_hex(Bytes(block).first(128 + 32)),
            "445545544d424f58010000007d76c9d5"
            "09000000000000002a4d665544332211"
            "01020201000302000700000000000000"
            "00100000000000000600000000000000"
            "d100000000000000d200000000000000"
            "a8a7a6a5a4a3a2a10000000000000000"
            "00000000000000000000000000000000"
            "00000000000000000000000000000000"
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
            "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf");
  auto read = decode_mailbox(block);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, example());
}

TEST(mailbox, every_damaged_byte_is_noticed) {
  auto block = encode(example());
  for (std::size_t i = 0; i < block.size(); ++i) {
    block[i] ^= std::byte{0x40};
    EXPECT_FALSE(decode_mailbox(block)) << i;
    block[i] ^= std::byte{0x40};
  }
  EXPECT_FALSE(decode_mailbox(Bytes(block).first(4095)));
  EXPECT_FALSE(decode_mailbox({}));
}

TEST(mailbox, other_version_has_a_name) {
  auto block = encode(example());
  block[8] = std::byte{2};
  fix_crc(block);
  EXPECT_EQ(decode_mailbox(block).error().code, ErrorCode::unsupported_version);
}

TEST(mailbox, broken_rules_are_refused) {
  struct Row {
    std::size_t offset;
    std::uint8_t value;
  };
  for (auto row : {Row{16, 0}, {32, 0}, {32, 3}, {33, 0}, {33, 3},  {33, 1},  {34, 1},  {34, 3},
                   {35, 0},    {35, 4}, {35, 2}, {36, 3}, {38, 65}, {38, 3},  {38, 1},  {39, 1},
                   {56, 8},    {64, 0}, {72, 0}, {88, 1}, {127, 1}, {200, 1}, {4095, 1}}) {
    auto block = encode(example());
    block[row.offset] = std::byte{row.value};
    fix_crc(block);
    auto read = decode_mailbox(block);
    if (row.offset == 38 && row.value == 3) {
      EXPECT_TRUE(read);  // a third disk id of zeros is an id like another
      continue;
    }
    EXPECT_FALSE(read) << row.offset << " " << int{row.value};
  }
}

TEST(mailbox, first_one_is_valid) {
  auto first = first_mailbox(ClusterId(1), NodeId(2), std::vector<DiskId>(max_mailbox_disk_ids));
  auto read = decode_mailbox(encode(first));
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, first);
}

TEST(heartbeat, golden_bytes) {
  Heartbeat h{.cluster = ClusterId(0x1122334455664d2a),
              .identity = NodeId(1),
              .server = NodeId(2),
              .nonce = BootNonce(0xa1a2a3a4a5a6a7a8),
              .epoch = Epoch(7),
              .counter = 1000};
  auto block = encode(h);
  EXPECT_EQ(to_hex(Bytes(block).first(64)),
            "44554554424541540100000077f9a509"
            "2a4d6655443322110102000000000000"
            "a8a7a6a5a4a3a2a10700000000000000"
            "e8030000000000000000000000000000");
  EXPECT_EQ(decode_heartbeat(block).value(), h);
  for (std::size_t i = 0; i < block.size(); ++i) {
    block[i] ^= std::byte{0x01};
    EXPECT_FALSE(decode_heartbeat(block)) << i;
    block[i] ^= std::byte{0x01};
  }
  for (std::size_t offset : {24, 25, 26, 56}) {
    auto broken = block;
    broken[offset] = std::byte{9};
    fix_crc(broken);
    EXPECT_FALSE(decode_heartbeat(broken)) << offset;
  }
}

}  // namespace
}  // namespace duet::ha
