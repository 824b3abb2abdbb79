// Bytes of stripe journal records (docs/formats/stripe_journal.md).
#include "raid/stripe_journal.h"

#include <gtest/gtest.h>

namespace duet::raid {
namespace {

Slice block(std::uint8_t value) {
  auto buffer = make_buffer(block_size);
  for (std::byte& byte : buffer.bytes) byte = std::byte(value);
  return buffer.slice();
}

// The worked example: a member has failed, a stripe of a single and one of a dual group.
JournalRecord example() {
  JournalRecord record;
  record.generation = 7;
  record.sequence = 0x1122;
  DiskId disk;
  disk.bytes.fill(0xa3);
  record.failures.push_back({3, disk});
  record.stripes.push_back({1, 0x1234, 0b101, block(0x11), {}});
  record.stripes.push_back({2, 0x100, 0b10, block(0x22), block(0x33)});
  return record;
}

TEST(StripeJournal, GoldenBytes) {
  const auto bytes = encode(example());
  ASSERT_EQ(bytes.size(), 40u + 24 + 2 * 16 + 3 * 4096);
  EXPECT_EQ(to_hex(Bytes(bytes).first(96)),
            "44534a310100000060300000"
            "e61709a5"
            "07000000000000002211000000000000"
            "0200010000000000"
            "0300000000000000a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3"
            "01000100050000003412000000000000"
            "02000200020000000001000000000000");
  EXPECT_EQ(bytes[96], std::byte{0x11});
  EXPECT_EQ(bytes[96 + 4096], std::byte{0x22});
  EXPECT_EQ(bytes[96 + 2 * 4096], std::byte{0x33});
  EXPECT_EQ(journal_blocks(bytes), 4u);
}

TEST(StripeJournal, ComesBackFromABlockOfTheRing) {
  auto bytes = encode(example());
  bytes.resize(journal_blocks(bytes) * block_size);
  const auto record = decode_journal(copy_to_slice(bytes));
  ASSERT_TRUE(record);
  EXPECT_EQ(record->generation, 7u);
  EXPECT_EQ(record->sequence, 0x1122u);
  ASSERT_EQ(record->failures.size(), 1u);
  EXPECT_EQ(record->failures[0].member, 3u);
  EXPECT_EQ(record->failures[0].disk, example().failures[0].disk);
  ASSERT_EQ(record->stripes.size(), 2u);
  EXPECT_EQ(record->stripes[0].group, 1u);
  EXPECT_EQ(record->stripes[0].stripe, 0x1234u);
  EXPECT_EQ(record->stripes[0].written, 5u);
  EXPECT_TRUE(record->stripes[0].q.bytes.empty());
  EXPECT_EQ(record->stripes[1].p.bytes[9], std::byte{0x22});
  EXPECT_EQ(record->stripes[1].q.bytes[9], std::byte{0x33});
}

TEST(StripeJournal, EveryPrefixAndEveryChangedByteOfTheHeaderIsRefused) {
  const auto bytes = encode(example());
  for (std::size_t size = 0; size < bytes.size(); size += size < 100 ? 1 : 1000) {
    EXPECT_FALSE(decode_journal(copy_to_slice(Bytes(bytes).first(size))));
  }
  for (std::size_t at = 0; at < bytes.size(); at += at < 100 ? 1 : 1000) {
    auto changed = bytes;
    changed[at] ^= std::byte{1};
    EXPECT_FALSE(decode_journal(copy_to_slice(changed))) << at;
  }
}

TEST(StripeJournal, TheLargestRecordFits) {
  JournalRecord record;
  record.failures.resize(max_record_failures);
  record.stripes.resize(max_record_stripes, {0, 256, 1, block(1), block(2)});
  const auto bytes = encode(record);
  EXPECT_LE(bytes.size(), max_record_bytes);
  EXPECT_TRUE(decode_journal(copy_to_slice(bytes)));
}

}  // namespace
}  // namespace duet::raid
