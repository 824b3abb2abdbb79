#include "ha/messages.h"

#include <gtest/gtest.h>

namespace duet::ha {
namespace {

Message with(decltype(Message::body) body) {
  return {.cluster = ClusterId(0x1122334455664d2a),
          .sender = NodeId(2),
          .sender_nonce = BootNonce(0xb1b2b3b4b5b6b7b8),
          .sender_epoch = Epoch(7),
          .addressee = BootNonce(0xa1a2a3a4a5a6a7a8),
          .body = body};
}

TEST(messages, golden_bytes) {
  EXPECT_EQ(to_hex(encode(with(PleaseDie{Epoch(9)}))),
            "01000302400000002a4d665544332211"
            "b8b7b6b5b4b3b2b10700000000000000"
            "a8a7a6a5a4a3a2a10900000000000000"
            "00000000000000000000000000000000");
  EXPECT_EQ(to_hex(encode(with(
                       MirrorOffer{.port = 7002, .persistent = true, .nvram = 0xd1, .number = 3})))
                .substr(64),
            "a8a7a6a5a4a3a2a15a1b010000000000"
            "d1000000000000000300000000000000");
}

TEST(messages, golden_bytes_of_graceful_takeover) {
  auto body = [](const Message& m) { return to_hex(encode(m)).substr(80); };
  EXPECT_EQ(body(with(PleaseShutdown{.left_ms = 30000, .attempt = 2})),
            "30750000000000000200000000000000"
            "0000000000000000");
  EXPECT_EQ(body(with(PleaseTakeover{30000, true, false, 3, {49, 50}})),
            "30750000010000000300000000000000"
            "3132000000000000");
  EXPECT_EQ(body(with(TakeoverRefused{3, {48, 51}})),
            "30330000000000000300000000000000"
            "0000000000000000");
  EXPECT_EQ(body(with(CancelShutdown{2})),
            "00000000000000000200000000000000"
            "0000000000000000");
  EXPECT_EQ(body(with(ShutdownDeclined{63, 2})),
            "3f000000000000000200000000000000"
            "0000000000000000");
  EXPECT_EQ(body(with(ForcedTakeover{2})),
            "00000000000000000200000000000000"
            "0000000000000000");
}

// Of a newer partner.
TEST(messages, an_unknown_kind_has_a_name_of_its_own) {
  auto m = encode(with(Departed{}));
  m[2] = std::byte{12};
  EXPECT_EQ(decode_message(m).error().code, ErrorCode::unsupported_version);
}

TEST(messages, round_trip) {
  for (const auto& m :
       {with(MirrorOffer{.port = 1, .persistent = false, .nvram = 2, .number = 3}),
        with(PanicNotice{}), with(PleaseDie{Epoch(9)}), with(PleaseShutdown{30000, 2}),
        with(PleaseTakeover{30000, true, false, 3, {49, 50}}),
        with(PleaseTakeover{30000, false, true, 3, {}}),
        with(TakeoverRefused{3, {40, 41, 42, 43, 44, 45, 46, 47}}), with(CancelShutdown{2}),
        with(ShutdownDeclined{63, 2}), with(ForcedTakeover{2}), with(Departed{}),
        with(GivenBack{})}) {
    EXPECT_EQ(decode_message(encode(m)).value(), m);
  }
}

TEST(messages, broken_ones_are_refused) {
  auto good = encode(with(PleaseShutdown{}));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_message(Bytes(good).first(size)));
  }
  good.push_back(std::byte{0});
  EXPECT_FALSE(decode_message(good));
  good.pop_back();
  for (auto [offset, value] :
       {std::pair{2, 0}, {2, 12}, {3, 0}, {3, 3}, {4, 65}, {44, 1}, {63, 1}}) {
    auto broken = good;
    broken[static_cast<std::size_t>(offset)] = static_cast<std::byte>(value);
    EXPECT_FALSE(decode_message(broken)) << offset;
  }
  for (std::size_t nonce : {16, 32}) {
    auto broken = good;
    std::fill_n(broken.begin() + static_cast<std::ptrdiff_t>(nonce), 8, std::byte{0});
    EXPECT_FALSE(decode_message(broken));
  }
  good[0] = std::byte{2};
  EXPECT_EQ(decode_message(good).error().code, ErrorCode::unsupported_version);
}

TEST(messages, golden_bytes_of_a_giveback) {
  EXPECT_EQ(to_hex(encode(with(GivenBack{}))),
            "01000b02400000002a4d665544332211"
            "b8b7b6b5b4b3b2b10700000000000000"
            "a8a7a6a5a4a3a2a10000000000000000"
            "00000000000000000000000000000000");
}

TEST(messages, an_empty_mirror_offer_is_refused) {
  EXPECT_FALSE(decode_message(
      encode(with(MirrorOffer{.port = 0, .persistent = true, .nvram = 1, .number = 1}))));
  EXPECT_FALSE(decode_message(
      encode(with(MirrorOffer{.port = 1, .persistent = true, .nvram = 0, .number = 1}))));
}

}  // namespace
}  // namespace duet::ha
