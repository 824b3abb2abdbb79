// Golden bytes: RFC 7143 section 11, written down by hand.
#include "iscsi/pdu.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

using testing::Pdu;

std::array<std::byte, header_size> from_hex(std::string_view hex) {
  std::array<std::byte, header_size> bytes{};
  std::size_t digits = 0;
  for (char c : hex) {
    if (c == ' ') continue;
    int v = c <= '9' ? c - '0' : c - 'a' + 10;
    bytes[digits / 2] |= static_cast<std::byte>(digits % 2 ? v : v << 4);
    ++digits;
  }
  EXPECT_EQ(digits, 2 * header_size);
  return bytes;
}

template <class T>
T decode_as(std::string_view hex) {
  auto bytes = from_hex(hex);
  auto request = decode_request(bytes);
  EXPECT_TRUE(request.has_value()) << request.error().message;
  return std::get<T>(*request);
}

template <class T>
std::string encoded(const T& pdu, std::size_t data_size = 0) {
  std::array<std::byte, header_size> bytes;
  bytes.fill(std::byte{0xee});
  encode(pdu, data_size, bytes);
  return to_hex(bytes);
}

std::string compact(std::string_view hex) {
  std::string s(hex);
  std::erase(s, ' ');
  return s;
}

constexpr AnswerNumbers numbers{
    .stat_sn = 0x01020304, .exp_cmd_sn = 0x11121314, .max_cmd_sn = 0x21222324};

TEST(PduDecode, ScsiCommand) {
  // WRITE(10) of one block at 100, immediate data of 512 bytes
  auto c = decode_as<ScsiCommand>(
      "01 a1 0000 00 000200 0001000000000000 0000002a 00000200 00000064 000001f4"
      "2a000000006400000100000000000000");
  EXPECT_TRUE(c.final && c.write && !c.read);
  EXPECT_FALSE(c.numbers.immediate);
  EXPECT_EQ(c.attribute, scsi::TaskAttribute::simple);
  EXPECT_EQ(c.lun_field, 0x0001000000000000u);
  EXPECT_EQ(c.numbers.initiator_task_tag, 0x2au);
  EXPECT_EQ(c.expected_length, 512u);
  EXPECT_EQ(c.numbers.cmd_sn, 100u);
  EXPECT_EQ(c.numbers.exp_stat_sn, 500u);
  EXPECT_EQ(c.cdb[0], 0x2a);
  EXPECT_EQ(c.cdb[8], 1);
}

TEST(PduDecode, LoginRequest) {
  auto l = decode_as<LoginRequest>(
      "43 87 00 00 00 00002c 80123456789a 0000 00000007 0001 0000 00000064 000001f4"
      "00000000000000000000000000000000");
  EXPECT_TRUE(l.transit && !l.more);
  EXPECT_EQ(l.current_stage, Stage::operational);
  EXPECT_EQ(l.next_stage, Stage::full_feature);
  EXPECT_EQ(l.isid, (Isid{0x80, 0x12, 0x34, 0x56, 0x78, 0x9a}));
  EXPECT_EQ(l.tsih, 0);
  EXPECT_EQ(l.connection_id, 1);
  EXPECT_TRUE(l.numbers.immediate);
}

TEST(PduDecode, DataOut) {
  auto d = decode_as<DataOut>(
      "05 80 0000 00 001000 0000000000000000 0000002a 00000005 00000000 000001f4"
      "00000000 00000003 00003000 00000000");
  EXPECT_TRUE(d.final);
  EXPECT_EQ(d.initiator_task_tag, 0x2au);
  EXPECT_EQ(d.target_transfer_tag, 5u);
  EXPECT_EQ(d.data_sn, 3u);
  EXPECT_EQ(d.buffer_offset, 0x3000u);
}

TEST(PduDecode, TaskManagementLogoutTextNopSnack) {
  auto t = decode_as<TaskManagementRequest>(
      "42 81 0000 00 000000 0000000000000000 00000030 0000002a 00000065 000001f4"
      "00000064 00000000 0000000000000000");
  EXPECT_EQ(t.function, 1);
  EXPECT_EQ(t.referenced_task_tag, 0x2au);
  auto o = decode_as<LogoutRequest>(
      "46 81 0000 00 000000 0000000000000000 00000031 0001 0000 00000065 000001f4"
      "00000000000000000000000000000000");
  EXPECT_EQ(o.reason, 1);
  EXPECT_EQ(o.connection_id, 1);
  auto x = decode_as<TextRequest>(
      "04 80 0000 00 000010 0000000000000000 00000032 ffffffff 00000065 000001f4"
      "00000000000000000000000000000000");
  EXPECT_TRUE(x.final && !x.more);
  EXPECT_EQ(x.target_transfer_tag, reserved_tag);
  auto n = decode_as<NopOut>(
      "40 80 0000 00 000000 0000000000000000 ffffffff 00000009 00000065 000001f4"
      "00000000000000000000000000000000");
  EXPECT_EQ(n.target_transfer_tag, 9u);
  EXPECT_EQ(n.numbers.initiator_task_tag, reserved_tag);
  decode_as<Snack>(
      "10 80 0000 00 000000 0000000000000000 ffffffff 00000009 00000065 000001f4"
      "00000000000000000000000000000000");
}

TEST(PduDecode, RefusesFieldsOutOfRange) {
  struct Row {
    const char* what;
    Pdu pdu;
    ErrorCode code;
  };
  const Row rows[] = {
      {"opcode 0x07", Pdu(0x07), ErrorCode::refused},
      {"opcode of an answer", Pdu(0x21), ErrorCode::refused},
      {"ACA attribute", Pdu(0x01, 0x84), ErrorCode::invalid},
      {"read command without F", Pdu(0x01, 0x40), ErrorCode::invalid},
      {"login stage 2", Pdu(0x43, 0x08), ErrorCode::invalid},
      {"login stage 3", Pdu(0x43, 0x0c), ErrorCode::invalid},
      {"login to stage 2", Pdu(0x43, 0x86), ErrorCode::invalid},
      {"login back", Pdu(0x43, 0x84), ErrorCode::invalid},
      {"login to the same stage", Pdu(0x43, 0x85), ErrorCode::invalid},
      {"login with C and T", Pdu(0x43, 0xc7), ErrorCode::invalid},
      {"text with F and C", Pdu(0x04, 0xc0), ErrorCode::invalid},
  };
  for (const auto& row : rows) {
    auto bytes = row.pdu.bytes();
    auto request = decode_request(Header(bytes.data(), header_size));
    ASSERT_FALSE(request.has_value()) << row.what;
    EXPECT_EQ(request.error().code, row.code) << row.what;
  }
}

TEST(PduDecode, BidirectionalReadLength) {
  std::array<std::byte, 16> segments{};
  segments[1] = std::byte{1};  // an empty segment of another type: 4 bytes
  segments[2] = std::byte{9};
  segments[5] = std::byte{5};
  segments[6] = std::byte{2};
  segments[10] = std::byte{0x10};
  EXPECT_EQ(bidirectional_read_length(segments), 0x1000u);
  segments[0] = std::byte{0xff};  // longer than what is there
  EXPECT_EQ(bidirectional_read_length(segments), 0u);
  EXPECT_EQ(bidirectional_read_length({}), 0u);
}

TEST(PduEncode, EachAnswer) {
  EXPECT_EQ(
      encoded(NopIn{.initiator_task_tag = 7, .numbers = numbers}, 5),
      compact("20 80 0000 00000005 0000000000000000 00000007 ffffffff 01020304 11121314 21222324"
              "000000000000000000000000"));
  EXPECT_EQ(
      encoded(ScsiResponse{.status = scsi::StatusCode::check_condition,
                           .initiator_task_tag = 7,
                           .exp_data_sn = 2,
                           .residual = {.underflow = true, .count = 0x200},
                           .numbers = numbers},
              20),
      compact("21 82 00 02 00000014 0000000000000000 00000007 00000000 01020304 11121314 21222324"
              "00000002 00000000 00000200"));
  EXPECT_EQ(
      encoded(ScsiResponse{.initiator_task_tag = 7,
                           .residual = {.overflow = true, .count = 1},
                           .read_residual = {.underflow = true, .count = 2},
                           .numbers = numbers}),
      compact("21 8c 00 00 00000000 0000000000000000 00000007 00000000 01020304 11121314 21222324"
              "00000000 00000002 00000001"));
  EXPECT_EQ(
      encoded(DataIn{.final = true,
                     .has_status = true,
                     .residual = {.overflow = true, .count = 0x10},
                     .initiator_task_tag = 7,
                     .data_sn = 1,
                     .buffer_offset = 0x2000,
                     .numbers = numbers},
              0x2000),
      compact("25 85 00 00 00002000 0000000000000000 00000007 ffffffff 01020304 11121314 21222324"
              "00000001 00002000 00000010"));
  EXPECT_EQ(
      encoded(DataIn{.initiator_task_tag = 7, .numbers = numbers}, 0x2000),
      compact("25 00 00 00 00002000 0000000000000000 00000007 ffffffff 00000000 11121314 21222324"
              "00000000 00000000 00000000"));
  EXPECT_EQ(
      encoded(ReadyToTransfer{.lun_field = 0x0001000000000000,
                              .initiator_task_tag = 7,
                              .target_transfer_tag = 8,
                              .r2t_sn = 1,
                              .buffer_offset = 0x10000,
                              .desired_length = 0x20000,
                              .numbers = numbers}),
      compact("31 80 0000 00000000 0001000000000000 00000007 00000008 01020304 11121314 21222324"
              "00000001 00010000 00020000"));
  EXPECT_EQ(
      encoded(TaskManagementResponse{.result = TaskManagementResult::task_does_not_exist,
                                     .initiator_task_tag = 7,
                                     .numbers = numbers}),
      compact("22 80 01 00 00000000 0000000000000000 00000007 00000000 01020304 11121314 21222324"
              "000000000000000000000000"));
  EXPECT_EQ(
      encoded(LoginResponse{.transit = true,
                            .current_stage = Stage::operational,
                            .next_stage = Stage::full_feature,
                            .isid = {0x80, 1, 2, 3, 4, 5},
                            .tsih = 9,
                            .initiator_task_tag = 7,
                            .numbers = numbers},
              3),
      compact("23 87 00 00 00000003 800102030405 0009 00000007 00000000 01020304 11121314 21222324"
              "0000 0000 0000000000000000"));
  EXPECT_EQ(
      encoded(LoginResponse{
          .initiator_task_tag = 7, .status = LoginStatus::service_unavailable, .numbers = numbers}),
      compact("23 00 00 00 00000000 000000000000 0000 00000007 00000000 01020304 11121314 21222324"
              "0301 0000 0000000000000000"));
  EXPECT_EQ(
      encoded(TextResponse{.final = false,
                           .more = true,
                           .initiator_task_tag = 7,
                           .target_transfer_tag = 8,
                           .numbers = numbers},
              1),
      compact("24 40 00 00 00000001 0000000000000000 00000007 00000008 01020304 11121314 21222324"
              "000000000000000000000000"));
  EXPECT_EQ(
      encoded(LogoutResponse{.result = LogoutResult::connection_not_found,
                             .initiator_task_tag = 7,
                             .numbers = numbers}),
      compact("26 80 01 00 00000000 0000000000000000 00000007 00000000 01020304 11121314 21222324"
              "00000000 0000 0000 00000000"));
  EXPECT_EQ(
      encoded(Reject{.reason = RejectReason::task_in_progress, .numbers = numbers}, 48),
      compact("3f 80 07 00 00000030 0000000000000000 ffffffff 00000000 01020304 11121314 21222324"
              "000000000000000000000000"));
  EXPECT_EQ(
      encoded(AsyncLogoutRequest{.seconds = 5, .numbers = numbers}),
      compact("32 80 00 00 00000000 0000000000000000 ffffffff 00000000 01020304 11121314 21222324"
              "01 00 0000 0000 0005 00000000"));
  EXPECT_EQ(
      encoded(AsyncSessionDrop{.time_to_wait = 2, .time_to_retain = 20, .numbers = numbers}),
      compact("32 80 00 00 00000000 0000000000000000 ffffffff 00000000 01020304 11121314 21222324"
              "03 00 0000 0002 0014 00000000"));
}

}  // namespace
}  // namespace duet::iscsi
