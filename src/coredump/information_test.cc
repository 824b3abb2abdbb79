#include "coredump/information.h"

#include <gtest/gtest.h>

namespace duet::coredump {
namespace {

Information example() {
  return {.node = NodeId(1),
          .signal = 11,
          .thread = 4242,
          .epoch = Epoch(7),
          .boot_nonce = BootNonce(0xb1),
          .log_written = LogSequence(100),
          .log_freed = LogSequence(90),
          .wall_time = 1700000000,
          .version = "0.1",
          .build_id = "abcdef",
          .reason = "signal 11",
          .thread_name = "engine",
          .stack = {"duet-engine+0x10", "libc.so.6+0x20"}};
}

TEST(Information, IsTheLayoutByteForByte) {
  EXPECT_EQ(to_hex(encode_information(example())),
            "01000000"
            "01"
            "0b000000"
            "92100000"
            "0700000000000000"
            "b100000000000000"
            "6400000000000000"
            "5a00000000000000"
            "00f1536500000000"
            "03000000302e31"
            "06000000616263646566"
            "090000007369676e616c203131"
            "06000000656e67696e65"
            "02000000"
            "10000000647565742d656e67696e652b30783130"
            "0e0000006c6962632e736f2e362b30783230");
}

TEST(Information, DecodeUndoesEncode) {
  EXPECT_EQ(*decode_information(encode_information(example())), example());
}

TEST(Information, TooLongIsCutWhenWriting) {
  auto i = example();
  i.reason = std::string(max_reason + 1, 'r');
  i.version = i.build_id = i.thread_name = std::string(max_short_text + 1, 's');
  i.stack.assign(max_frames + 1, std::string(max_frame + 1, 'f'));
  auto read = decode_information(encode_information(i));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->reason.size(), max_reason);
  EXPECT_EQ(read->version.size(), max_short_text);
  ASSERT_EQ(read->stack.size(), max_frames);
  EXPECT_EQ(read->stack[0].size(), max_frame);
}

TEST(Information, ForeignBytesAreChecked) {
  auto good = encode_information(example());
  for (std::size_t n = 0; n < good.size(); ++n) {
    EXPECT_FALSE(decode_information(Bytes(good).first(n))) << n;
  }
  auto longer = good;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_information(longer));
  for (auto [offset, value] : {std::pair<std::size_t, int>{0, 2}, {4, 3}, {4, 0}, {53, 65}}) {
    auto bad = good;
    bad[offset] = static_cast<std::byte>(value);
    EXPECT_FALSE(decode_information(bad)) << offset;
  }
  auto i = example();
  i.stack.clear();
  auto many = encode_information(i);
  store_le<std::uint32_t>(many.data() + many.size() - 4, max_frames + 1);
  EXPECT_FALSE(decode_information(many));
}

TEST(Information, Json) {
  Outcome outcome{.complete = true, .core_bytes = 123, .raw_bytes = 45, .end = "end"};
  EXPECT_EQ(to_json(example(), outcome),
            R"({"node":1,"signal":11,"thread":4242,"epoch":"7","boot_nonce":"00000000000000b1",)"
            R"("log_written":"100","log_freed":"90","time":1700000000,"version":"0.1",)"
            R"("build_id":"abcdef","reason":"signal 11","thread_name":"engine",)"
            R"("stack":["duet-engine+0x10","libc.so.6+0x20"],"complete":true,)"
            R"("core_bytes":"123","raw_bytes":"45","end":"end"})"
            "\n");
}

TEST(Information, JsonIsUtf8WhateverTheTextsHold) {
  auto shown = [](std::string reason) {
    auto i = example();
    i.reason = std::move(reason);
    auto json = to_json(i, {});
    auto from = json.find("\"reason\":") + 9;
    return json.substr(from, json.find(",\"thread_name\"") - from);
  };
  EXPECT_EQ(shown("a\"b\\c\n\x1f"), R"("a\"b\\c\u000a\u001f")");
  EXPECT_EQ(shown("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
            "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(shown("\xff"
                  "x"),
            "\"" + bad + "x\"");
  EXPECT_EQ(shown("\xc0\x80"), "\"" + bad + bad + "\"");            // overlong
  EXPECT_EQ(shown("\xe0\x80\x80"), "\"" + bad + bad + bad + "\"");  // overlong
  EXPECT_EQ(shown("\xed\xa0\x80"), "\"" + bad + bad + bad + "\"");  // surrogate
  EXPECT_EQ(shown("\xf0\x80\x80\x80"), "\"" + bad + bad + bad + bad + "\"");
  EXPECT_EQ(shown("\xf4\x90\x80\x80"), "\"" + bad + bad + bad + bad + "\"");
  EXPECT_EQ(shown("\xc3"), "\"" + bad + "\"");  // cut off
  EXPECT_EQ(shown("\xc3x"), "\"" + bad + "x\"");
}

}  // namespace
}  // namespace duet::coredump
