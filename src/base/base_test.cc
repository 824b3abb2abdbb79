#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/zero.h"

namespace duet {
namespace {

Bytes as_bytes(std::string_view s) {
  return std::as_bytes(std::span(s));
}

TEST(Crc32c, IsTheOneOfRfc3720) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c({}), 0u);
  std::array<std::byte, 32> zeros{};
  EXPECT_EQ(crc32c(zeros), 0x8a9136aau);  // RFC 3720 B.4
}

TEST(Crc32c, ExtendsInPieces) {
  EXPECT_EQ(crc32c_extend(crc32c(as_bytes("1234")), as_bytes("56789")), 0xe3069283u);
}

TEST(Bytes, ReaderReadsWhatTheWriterWrote) {
  ByteWriter w;
  w.put<std::uint8_t>(7);
  w.put<std::uint64_t>(0x0102030405060708);
  w.put_string("mailbox");
  auto bytes = w.take();
  EXPECT_EQ(to_hex(Bytes(bytes).first(9)), "070807060504030201");
  ByteReader r(bytes);
  EXPECT_EQ(r.get<std::uint8_t>(), 7);
  EXPECT_EQ(r.get<std::uint64_t>(), 0x0102030405060708u);
  EXPECT_EQ(r.get_string(), "mailbox");
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(r.remaining(), 0u);
}

TEST(Bytes, ReaderFailsForGoodPastTheEnd) {
  std::array<std::byte, 3> three{std::byte{1}, std::byte{2}, std::byte{3}};
  ByteReader r(three);
  EXPECT_EQ(r.get<std::uint32_t>(), 0u);
  EXPECT_EQ(r.get<std::uint8_t>(), 0u);
  EXPECT_FALSE(r.ok());
}

TEST(Bytes, ReaderRefusesAStringLongerThanItsBound) {
  ByteWriter w;
  w.put_string("too long");
  auto bytes = w.take();
  ByteReader r(bytes);
  EXPECT_EQ(r.get_string(4), "");
  EXPECT_FALSE(r.ok());
}

TEST(Bytes, BigEndian) {
  std::byte b[4];
  store_be<std::uint32_t>(b, 0x01020304);
  EXPECT_EQ(b[0], std::byte{1});
  EXPECT_EQ(load_be<std::uint16_t>(b + 2), 0x0304);
}

TEST(Bytes, AllZeroSeesEveryByte) {
  EXPECT_TRUE(all_zero({}));
  for (std::size_t size : {1, 2, 15, 16, 17, 4096}) {
    std::vector<std::byte> bytes(size);
    EXPECT_TRUE(all_zero(bytes));
    for (std::size_t at = 0; at < size; ++at) {
      bytes[at] = std::byte{1};
      EXPECT_FALSE(all_zero(bytes)) << at << " of " << size;
      bytes[at] = std::byte{0};
    }
  }
}

TEST(Ids, PartnerOfIsItsOwnInverse) {
  EXPECT_EQ(partner_of(NodeId(1)), NodeId(2));
  EXPECT_EQ(partner_of(NodeId(2)), NodeId(1));
}

TEST(AssertDeathTest, SaysWhatFailedAndAborts) {
  EXPECT_DEATH(ASSERT(1 + 1 == 3), "ASSERT failed: 1 \\+ 1 == 3");
}

TEST(Result, CarriesAnError) {
  Status s = fail(ErrorCode::no_space, "pool red is full");
  ASSERT_FALSE(s.has_value());
  EXPECT_EQ(s.error().code, ErrorCode::no_space);
  EXPECT_EQ(name(s.error().code), "no space");
}

}  // namespace
}  // namespace duet
