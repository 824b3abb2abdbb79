#include "iscsi/receiver.h"

#include <gtest/gtest.h>

#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

using testing::joined;
using testing::Pdu;

void feed(Receiver& receiver, Bytes bytes, std::size_t step,
          const std::function<void(Receiver::Outcome, ReceivedPdu&)>& on_unit) {
  ReceivedPdu pdu;
  while (!bytes.empty()) {
    auto room = receiver.buffer();
    std::size_t n = std::min({step, room.size(), bytes.size()});
    std::memcpy(room.data(), bytes.data(), n);
    receiver.received(n);
    bytes = bytes.subspan(n);
    while (true) {
      auto outcome = receiver.next(pdu);
      if (outcome == Receiver::Outcome::need_more) break;
      on_unit(outcome, pdu);
      if (outcome != Receiver::Outcome::pdu) return;
    }
  }
}

// However the bytes are cut, with and without digests.
TEST(Receiver, ReassemblesUnitsFromAnyPieces) {
  for (bool header_digest : {false, true}) {
    for (bool data_digest : {false, true}) {
      std::vector<std::byte> stream;
      for (std::string_view data : {"", "a", "abcd", "hello"}) {
        auto one = Pdu(0x01).data(data).bytes(header_digest, data_digest);
        stream.insert(stream.end(), one.begin(), one.end());
      }
      for (std::size_t step = 1; step <= stream.size(); ++step) {
        Receiver receiver;
        receiver.set_digests(header_digest, data_digest);
        std::vector<std::string> got;
        feed(receiver, stream, step, [&](Receiver::Outcome outcome, ReceivedPdu& pdu) {
          EXPECT_EQ(outcome, Receiver::Outcome::pdu);
          EXPECT_EQ(joined(pdu.data).size(), pdu.data_size);
          got.push_back(joined(pdu.data));
        });
        EXPECT_EQ(got, (std::vector<std::string>{"", "a", "abcd", "hello"}));
        EXPECT_TRUE(receiver.idle());
      }
    }
  }
}

TEST(Receiver, NoticesEveryFlippedBitUnderDigests) {
  auto good = Pdu(0x01).data("hello").bytes(true, true);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    if (bit >= 32 && bit < 64) continue;  // the length: what follows is cut elsewhere
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    Receiver receiver;
    receiver.set_digests(true, true);
    auto last = Receiver::Outcome::need_more;
    feed(receiver, bad, bad.size(),
         [&](Receiver::Outcome outcome, ReceivedPdu&) { last = outcome; });
    EXPECT_EQ(last, Receiver::Outcome::digest_error) << bit;
  }
}

TEST(Receiver, SkipsAdditionalHeaders) {
  auto bytes = Pdu(0x01).u8(4, 2).data("data").bytes();
  std::vector<std::byte> extra(8, std::byte{0x5a});
  bytes.insert(bytes.begin() + header_size, extra.begin(), extra.end());
  Receiver receiver;
  int units = 0;
  feed(receiver, bytes, 5, [&](Receiver::Outcome outcome, ReceivedPdu& pdu) {
    EXPECT_EQ(outcome, Receiver::Outcome::pdu);
    EXPECT_EQ(pdu.additional_header, extra);
    EXPECT_EQ(joined(pdu.data), "data");
    ++units;
  });
  EXPECT_EQ(units, 1);
}

TEST(Receiver, RefusesDataBeyondTheLimitBeforeItComes) {
  Receiver receiver;
  receiver.set_max_data_segment(1000);
  auto header = Pdu(0x01).data(std::string(1001, 'x')).bytes();
  header.resize(header_size);
  auto last = Receiver::Outcome::need_more;
  feed(receiver, header, header_size,
       [&](Receiver::Outcome outcome, ReceivedPdu&) { last = outcome; });
  EXPECT_EQ(last, Receiver::Outcome::too_long);
}

// Data is not copied: it lies where it was received, and stays there as long as someone needs it.
TEST(Receiver, DataStaysInItsChunk) {
  Receiver receiver;
  auto bytes = Pdu(0x01).data("first").bytes();
  auto room = receiver.buffer();
  std::memcpy(room.data(), bytes.data(), bytes.size());
  receiver.received(bytes.size());
  ReceivedPdu pdu;
  ASSERT_EQ(receiver.next(pdu), Receiver::Outcome::pdu);
  ASSERT_EQ(pdu.data.size(), 1u);
  EXPECT_EQ(pdu.data[0].bytes.data(), room.data() + header_size);
  EXPECT_EQ(receiver.buffer().data(), room.data() + bytes.size());  // chunk in use: goes on behind
  pdu.data.clear();
  EXPECT_EQ(receiver.buffer().data(), room.data());  // free again: from the start
}

TEST(Receiver, DataAcrossChunksComesInPiecesAndChunksAreReused) {
  Receiver receiver;
  receiver.set_max_data_segment(max_receive_data_segment);
  std::string big(200000, 'x');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>('a' + i % 23);
  auto one = Pdu(0x05).data(big).bytes();
  std::vector<std::byte> stream;
  for (int i = 0; i < 20; ++i) stream.insert(stream.end(), one.begin(), one.end());
  int units = 0;
  std::size_t most_pieces = 0;
  feed(receiver, stream, 60000, [&](Receiver::Outcome outcome, ReceivedPdu& pdu) {
    ASSERT_EQ(outcome, Receiver::Outcome::pdu);
    EXPECT_EQ(joined(pdu.data), big);
    most_pieces = std::max(most_pieces, pdu.data.size());
    ++units;
  });
  EXPECT_EQ(units, 20);
  EXPECT_EQ(most_pieces, 2u);
}

}  // namespace
}  // namespace duet::iscsi
