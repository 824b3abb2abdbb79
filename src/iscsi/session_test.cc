#include "iscsi/session.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/crc32c.h"
#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

SessionState example() {
  SessionState s;
  s.initiator_name = "iqn.2026-11.com.example:host";
  s.target_name = "iqn.2026-11.org.duet:red";
  s.isid = {0x80, 0x12, 0x34, 0x56, 0, 0};
  s.tsih = 9;
  s.connection_id = 1;
  s.parameters = {.header_digest = true,
                  .initiator_max_receive = 262144,
                  .max_burst_length = 1048576,
                  .first_burst_length = 65536,
                  .max_outstanding_r2t = 4,
                  .initial_r2t = false,
                  .immediate_data = true,
                  .time_to_wait = 2,
                  .time_to_retain = 0};
  s.exp_cmd_sn = 100;
  s.stat_sn = 500;
  s.next_target_transfer_tag = 7;
  return s;
}

std::vector<std::byte> sealed(std::vector<std::byte> bytes) {
  store_le(bytes.data() + bytes.size() - 4, crc32c(Bytes(bytes).first(bytes.size() - 4)));
  return bytes;
}

TEST(SessionState, IsTheExampleOfTheDocument) {
  EXPECT_EQ(to_hex(encode(example())),
            "44495353"
            "0100"
            "7000"
            "12"
            "1c"
            "18"
            "00"
            "801234560000"
            "0900"
            "0100"
            "0100"
            "0100"
            "0400"
            "00000400"
            "00001000"
            "00000100"
            "0200"
            "0000"
            "64000000"
            "f4010000"
            "07000000"
            "69716e2e323032362d31312e636f6d2e6578616d706c653a686f7374"
            "69716e2e323032362d31312e6f72672e647565743a726564"
            "40a98a3f");
}

TEST(SessionState, ComesBackAsItWas) {
  auto s = example();
  EXPECT_EQ(decode_session_state(encode(s)).value(), s);
  s.target_name.clear();
  s.discovery = true;
  s.parameters.data_digest = true;
  s.parameters.initial_r2t = true;
  s.parameters.immediate_data = false;
  s.initiator_name = "iqn." + std::string(219, 'x');
  EXPECT_EQ(decode_session_state(encode(s)).value(), s);
}

// At any command boundary: another connection goes on with the bytes of this one.
TEST(SessionState, AnotherConnectionGoesOnWithIt) {
  using namespace testing;
  Wire w;
  w.receive(w.command(final_flag | read_flag, 1, 512));
  auto submitted = w.submitted();
  EXPECT_FALSE(w.connection.at_boundary());
  w.respond(submitted);
  w.answers();
  ASSERT_TRUE(w.connection.at_boundary());
  auto session = decode_session_state(encode(w.connection.session()));
  ASSERT_TRUE(session);
  Wire next(false);
  next.connection = Connection(4, next.directory, *session, next.now);
  next.cmd_sn = w.cmd_sn;
  next.receive(next.command(final_flag | read_flag, 2, 512));
  next.respond(next.submitted());
  auto answers = next.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].itt(), 2u);
  EXPECT_EQ(answers[0].stat_sn(), session->stat_sn);
  EXPECT_EQ(answers[0].exp_cmd_sn(), next.cmd_sn);
}

TEST(SessionState, EveryRuleIsChecked) {
  auto good = encode(example());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_session_state(Bytes(good).first(size))) << size;
  }
  auto flipped = good;
  flipped[60] ^= std::byte{1};
  EXPECT_FALSE(decode_session_state(flipped)) << "CRC";
  struct Row {
    std::size_t at;
    std::vector<int> bytes;
    const char* what;
  };
  const Row rows[] = {{0, {0}, "not one"},
                      {4, {2}, "version"},
                      {6, {0x71}, "length"},
                      {8, {0x32}, "unused bits"},
                      {9, {0x1d}, "name"},
                      {10, {0}, "name"},
                      {11, {1}, "unused bits"},
                      {18, {0, 0}, "session handle"},
                      {24, {0, 0}, "target port"},
                      {26, {0}, "MaxOutstandingR2T"},
                      {26, {5}, "MaxOutstandingR2T"},
                      {28, {0xff, 1, 0, 0}, "MaxRecvDataSegmentLength"},
                      {28, {0, 0, 0, 1}, "MaxRecvDataSegmentLength"},
                      {32, {1, 0, 16, 0}, "MaxBurstLength"},
                      {36, {1, 0, 16, 0}, "FirstBurstLength"},
                      {40, {0x11, 0x0e}, "Time2Wait"},
                      {42, {0x11, 0x0e}, "Time2Retain"},
                      {56, {'x'}, "initiator"},
                      {84, {'x'}, "target"}};
  for (const auto& row : rows) {
    auto bytes = good;
    for (std::size_t i = 0; i < row.bytes.size(); ++i) {
      bytes[row.at + i] = static_cast<std::byte>(row.bytes[i]);
    }
    auto result = decode_session_state(sealed(bytes));
    ASSERT_FALSE(result) << row.at;
    EXPECT_NE(result.error().message.find(row.what), std::string::npos) << result.error().message;
  }
}

}  // namespace
}  // namespace duet::iscsi
