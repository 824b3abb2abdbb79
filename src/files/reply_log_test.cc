#include "files/reply_log.h"

#include <gtest/gtest.h>

#include "files/view_fixture.h"

namespace duet::files {
namespace {

RequestId id_of(std::uint8_t client, std::uint32_t xid) {
  RequestId id;
  id.client.fill(std::byte{client});
  id.xid = xid;
  return id;
}

Replies in_log(MemoryView& view) {
  const std::string bytes = view.content(reply_log, 0, reply_log_size);
  return decode_replies(std::as_bytes(std::span(bytes)));
}

// The example of docs/formats/reply_log.md.
TEST(ReplyLog, GoldenBytes) {
  LoggedReply reply;
  reply.number = 3;
  for (std::size_t i = 0; i < 16; ++i) reply.id.client[i] = static_cast<std::byte>(0xc0 + i);
  reply.id.xid = 0x01020304;
  reply.kind = RecordKind::create;
  reply.file = {{VolumeId(1), InodeNumber(7)}, 0x18e9bf0f8d4e8000};
  reply.created = true;
  reply.time = 0x18e9bf0f8d4e8000;
  reply.directories[0] = {InodeNumber(5), 8, 9};
  std::array<std::byte, reply_size> bytes;
  encode(reply, bytes);
  EXPECT_EQ(to_hex(bytes),
            "f04f412101200100c0c1c2c3c4c5c6c7c8c9cacbcccdcecf0403020101000000"
            "07000000000000000300000000000000"
            "00804e8d0fbfe91800804e8d0fbfe918"
            "050000000000000008000000000000000900000000000000"
            "000000000000000000000000000000000000000000000000"
            "00000000000000000000000000000000");
  auto decoded = decode_replies(bytes);
  ASSERT_EQ(decoded.replies.size(), 1u);
  EXPECT_EQ(decoded.replies[0], reply);
  EXPECT_EQ(decoded.damaged, 0u);
}

TEST(ReplyLog, WhatIsDamagedIsLeftOutAndCounted) {
  LoggedReply reply;
  reply.number = 1;
  reply.kind = RecordKind::remove;
  std::array<std::byte, 2 * reply_size> bytes{};
  for (std::size_t at = 0; at < reply_size; ++at) {
    encode(reply, MutableBytes(bytes).first(reply_size));
    bytes[at] ^= std::byte{0x40};
    auto decoded = decode_replies(bytes);
    EXPECT_TRUE(decoded.replies.empty()) << at;
    EXPECT_EQ(decoded.damaged, 1u) << at;
  }
  EXPECT_EQ(decode_replies(Bytes(bytes).first(reply_size - 1)).damaged, 0u);
}

TEST(ReplyLog, IsPartOfTheChangeAndOfItsReplay) {
  MemoryView view, replayed;
  Record record{Create{test_root, "a", {}, CreateMode::guarded, 0, {}}, 77, id_of(1, 2), {}};
  Reply reply = view.commit(record);
  ASSERT_EQ(reply.outcome, Outcome::ok);
  EXPECT_EQ(reply.number, 1u);
  record.created = reply.file.inode;
  Reply again = view.commit(Record{Remove{test_root, "b", RemoveWhat::any}, 78, id_of(1, 3), {}});
  EXPECT_EQ(again.outcome, Outcome::no_entry);
  EXPECT_EQ(again.number, 0u);
  auto kept = in_log(view);
  ASSERT_EQ(kept.replies.size(), 1u) << "what failed changed nothing and is not kept";
  EXPECT_EQ(kept.replies[0].id, id_of(1, 2));
  EXPECT_EQ(kept.replies[0].kind, RecordKind::create);
  EXPECT_EQ(kept.replies[0].file, (Handle{reply.file, 77}));
  EXPECT_TRUE(kept.replies[0].created);
  EXPECT_EQ(kept.replies[0].directories[0].directory, test_root.inode);
  EXPECT_LT(kept.replies[0].directories[0].before, kept.replies[0].directories[0].after);
  auto applied = replayed.run([&] { return apply(replayed, encode(record)); });
  ASSERT_TRUE(applied);
  EXPECT_TRUE(replayed.same(view));
}

TEST(ReplyLog, TheOldestGoesWhenItIsFull) {
  MemoryView view;
  const FileKey file = view.commit(Create{test_root, "a", {}, CreateMode::guarded, 0, {}}, 1).file;
  for (std::uint32_t i = 1; i <= max_replies + 2; ++i) {
    SetInode set{file, {}, i, {}, {}, {}, {}, {}};
    ASSERT_EQ(view.commit(Record{set, i, id_of(9, i), {}}).outcome, Outcome::ok);
  }
  auto kept = in_log(view);
  ASSERT_EQ(kept.replies.size(), max_replies);
  std::uint32_t first = ~0u;
  for (const auto& reply : kept.replies) first = std::min(first, reply.id.xid);
  EXPECT_EQ(first, 3u);
}

TEST(Handle, GoldenBytesAndWhatIsRefused) {
  const Handle handle{{VolumeId(1), InodeNumber(7)}, 0x18e9bf0f8d4e8000};
  auto bytes = encode(handle);
  EXPECT_EQ(to_hex(bytes),
            "01000000010000000700000000000000"
            "00804e8d0fbfe918");
  EXPECT_EQ(*decode_handle(bytes), handle);
  EXPECT_FALSE(decode_handle(Bytes(bytes).first(23)));
  for (std::size_t at : {0, 1, 2, 3}) {
    auto damaged = bytes;
    damaged[at] = std::byte{9};
    EXPECT_FALSE(decode_handle(damaged)) << at;
  }
  for (std::size_t at : {4, 8}) {
    auto damaged = bytes;
    damaged[at] = std::byte{0};
    EXPECT_EQ(decode_handle(damaged).error().code, ErrorCode::invalid) << at;
  }
}

}  // namespace
}  // namespace duet::files
