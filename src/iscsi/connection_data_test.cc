// Commands and their data: immediate, unsolicited and solicited data-out, data-in, residuals,
// bounds.
#include <gtest/gtest.h>

#include "iscsi/connection.h"
#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

using namespace testing;

std::string pattern(std::size_t size, std::size_t start = 0) {
  std::string s(size, 0);
  for (std::size_t i = 0; i < size; ++i) s[i] = static_cast<char>('a' + (start + i) % 26);
  return s;
}

scsi::Response good_write(std::uint32_t wanted) {
  scsi::Response r;
  r.data_out_wanted = wanted;
  return r;
}

scsi::Response good_read(std::string_view data) {
  scsi::Response r;
  r.data_in.push_back(copy_to_slice(std::as_bytes(std::span(data))));
  return r;
}

TEST(ConnectionData, ACommandWithoutDataReachesTheUnitAndIsAnswered) {
  Wire w;
  w.receive(w.command(final_flag, 5, 0).lun(1).u8(32, 0x1a).u8(47, 0x77));
  auto s = w.submitted();
  EXPECT_EQ(s.lun, LunNumber(1));
  EXPECT_EQ(s.command.cdb[0], 0x1a);
  EXPECT_EQ(s.command.cdb[15], 0x77);
  EXPECT_EQ(s.command.nexus.initiator_name, initiator_name);
  EXPECT_EQ(s.command.tag.value() >> 32, 3u);
  EXPECT_EQ(w.connection.commands_at_unit(), 1u);
  w.respond(s);
  auto a = w.answers().at(0);
  EXPECT_EQ(a.opcode(), 0x21);
  EXPECT_EQ(a.itt(), 5u);
  EXPECT_EQ(a.u8(1), 0x80);
  EXPECT_EQ(a.u8(3), 0);
  EXPECT_EQ(w.connection.commands_at_unit(), 0u);
  w.respond(s);  // a second answer finds nothing
  EXPECT_TRUE(w.answers().empty());
}

TEST(ConnectionData, ALunNobodyCanHave) {
  Wire w;
  w.receive(w.command(final_flag, 5, 0).u8(8, 0xc1));
  EXPECT_FALSE(w.submitted().lun.has_value());
}

TEST(ConnectionData, AttributesAreHandedOn) {
  using enum scsi::TaskAttribute;
  const std::pair<std::uint8_t, scsi::TaskAttribute> rows[] = {
      {0, simple}, {1, simple}, {2, ordered}, {3, head_of_queue}};
  Wire w;
  std::uint32_t itt = 1;
  for (auto [code, attribute] : rows) {
    w.receive(w.command(final_flag | code, itt++, 0));
    EXPECT_EQ(w.submitted().command.attribute, attribute);
  }
}

TEST(ConnectionData, CheckConditionCarriesSense) {
  Wire w;
  w.receive(w.command(final_flag | read_flag, 5, 512));
  auto s = w.submitted();
  EXPECT_EQ(s.command.data_in_expected, 512u);
  scsi::Response r;
  r.status = scsi::StatusCode::check_condition;
  r.sense = {std::byte{0x70}, std::byte{0}, std::byte{5}};
  w.respond(s, r);
  auto a = w.answers().at(0);
  EXPECT_EQ(a.u8(3), 2);
  EXPECT_EQ(a.data, std::string("\0\3\x70\0\5", 5));
  EXPECT_EQ(a.u8(1), 0x82);  // underflow
  EXPECT_EQ(a.u32(44), 512u);
}

// ---- data-out ----

TEST(ConnectionData, ImmediateData) {
  Wire w;
  auto data = pattern(4096);
  w.receive(w.command(final_flag | write_flag, 5, 4096).data(data));
  auto s = w.submitted();
  EXPECT_EQ(joined(s.command.data_out), data);
  EXPECT_EQ(s.command.data_out.size(), 1u);
  w.respond(s, good_write(4096));
  EXPECT_EQ(w.answers().at(0).u8(1), 0x80);
}

TEST(ConnectionData, UnsolicitedDataFollowsTheCommand) {
  Wire w;
  auto data = pattern(10000);
  w.receive(w.command(write_flag, 5, 10000).data(data.substr(0, 4000)));
  w.receive(Wire::data_out(0, 5, reserved_tag, 0, 4000, data.substr(4000, 4000)));
  EXPECT_TRUE(w.orders().empty());
  w.receive(Wire::data_out(final_flag, 5, reserved_tag, 1, 8000, data.substr(8000)));
  EXPECT_EQ(joined(w.submitted().command.data_out), data);
  EXPECT_TRUE(w.answers().empty());  // no R2T
}

TEST(ConnectionData, SolicitedDataComesInBurstsSeveralAtATime) {
  Wire w(true,
         {"InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=4096", "MaxOutstandingR2T=2"});
  const std::uint32_t size = 4096 * 3 + 100;
  auto data = pattern(size);
  w.receive(w.command(final_flag | write_flag, 5, size).lun(1));
  auto r2ts = w.answers();
  ASSERT_EQ(r2ts.size(), 2u);
  std::uint32_t offset = 0;
  std::uint32_t count = 0;
  while (!r2ts.empty()) {
    auto r2t = r2ts.front();
    r2ts.erase(r2ts.begin());
    EXPECT_EQ(r2t.opcode(), 0x31);
    EXPECT_EQ(r2t.u8(9), 1);  // LUN
    EXPECT_EQ(r2t.u32(36), count++);
    EXPECT_EQ(r2t.u32(40), offset);
    std::uint32_t length = r2t.u32(44);
    EXPECT_EQ(length, std::min(4096u, size - offset));
    // two units per burst
    w.receive(Wire::data_out(0, 5, r2t.u32(20), 0, offset, data.substr(offset, 50)));
    w.receive(Wire::data_out(final_flag, 5, r2t.u32(20), 1, offset + 50,
                             data.substr(offset + 50, length - 50)));
    offset += length;
    for (auto& more : w.answers()) r2ts.push_back(more);
    EXPECT_LE(r2ts.size(), 2u);
  }
  EXPECT_EQ(offset, size);
  auto s = w.submitted();
  EXPECT_EQ(joined(s.command.data_out), data);
  w.respond(s, good_write(size));
  EXPECT_EQ(w.answers().at(0).u32(36), 4u);  // ExpDataSN: number of R2Ts
}

TEST(ConnectionData, ImmediateThenSolicited) {
  Wire w;
  const std::uint32_t size = first_burst + 5000;
  auto data = pattern(size);
  w.receive(w.command(write_flag, 5, size).data(data.substr(0, 8000)));
  w.receive(Wire::data_out(final_flag, 5, reserved_tag, 0, 8000, data.substr(8000, 1000)));
  auto r2t = w.answers().at(0);
  EXPECT_EQ(r2t.u32(40), 9000u);
  std::uint32_t at = 9000;
  std::uint32_t data_sn = 0;
  while (at < size) {
    std::uint32_t end = std::min(at + 100000, r2t.u32(40) + r2t.u32(44));
    bool last = end == r2t.u32(40) + r2t.u32(44);
    w.receive(Wire::data_out(last ? final_flag : 0, 5, r2t.u32(20), data_sn++, at,
                             data.substr(at, end - at)));
    at = end;
    auto more = w.answers();
    if (!more.empty()) {
      r2t = more[0];
      data_sn = 0;
    }
  }
  EXPECT_EQ(joined(w.submitted().command.data_out), data);
}

// Everything an initiator may get wrong: the command fails with ABORTED COMMAND, the session lives
// on.
TEST(ConnectionData, WrongDataOutFailsTheCommand) {
  struct Row {
    const char* what;
    std::uint32_t ttt_change, data_sn, offset;
    std::size_t size;
    std::uint8_t flags;
  };
  const Row rows[] = {
      {"wrong DataSN", 0, 27, 0, 4096, final_flag},
      {"DataSN -1", 0, 0xffffffff, 0, 4096, final_flag},
      {"wrong offset", 0, 0, 512, 4096, final_flag},
      {"too much", 0, 0, 0, 4097, final_flag},
      {"too little with F", 0, 0, 0, 4095, final_flag},
      {"a tag nobody gave", 1, 0, 0, 4096, final_flag},
      {"all, but without F", 0, 0, 0, 4096, 0},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Wire w(true, {"InitialR2T=Yes", "ImmediateData=No"});
    w.receive(w.command(final_flag | write_flag, 5, 4096));
    std::uint32_t ttt = w.answers().at(0).u32(20) + row.ttt_change;
    w.receive(Wire::data_out(row.flags, 5, ttt, row.data_sn, row.offset, pattern(row.size)));
    if (row.flags == 0) {  // answered when the sequence has come to its end
      EXPECT_TRUE(w.answers().empty());
      w.receive(Wire::data_out(final_flag, 5, ttt, 1, 4096, ""));
    }
    auto a = w.answers().at(0);
    EXPECT_EQ(a.opcode(), 0x21);
    EXPECT_EQ(a.u8(3), 2);
    EXPECT_EQ(a.data.substr(2, 3), std::string("\x70\0\x0b", 3));
    EXPECT_EQ(a.data.substr(14, 2), "\x0c\x0d");
    EXPECT_TRUE(w.orders().empty());
    EXPECT_TRUE(w.connection.at_boundary());
  }
}

TEST(ConnectionData, WrongUnsolicitedDataFailsTheCommand) {
  struct Row {
    const char* what;
    std::uint32_t first_data_sn, second_data_sn, offset;
    std::size_t size;
  };
  const Row rows[] = {
      {"DataSN twice the same", 0, 0, 512, 512},
      {"DataSN in reverse", 1, 0, 512, 512},
      {"wrong offset", 0, 1, 513, 512},
      {"more than expected", 0, 1, 512, 513},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Wire w;
    w.receive(w.command(write_flag, 5, 1024));
    w.receive(Wire::data_out(0, 5, reserved_tag, row.first_data_sn, 0, pattern(512)));
    EXPECT_TRUE(w.answers().empty());
    w.receive(Wire::data_out(final_flag, 5, reserved_tag, row.second_data_sn, row.offset,
                             pattern(row.size)));
    EXPECT_EQ(w.answers().at(0).u8(3), 2);
    EXPECT_TRUE(w.orders().empty());
  }
}

TEST(ConnectionData, DataThatWasNotAgreedOnFailsTheCommand) {
  {  // unsolicited data although InitialR2T=Yes
    Wire w(true, {"InitialR2T=Yes"});
    w.receive(w.command(write_flag, 5, 1024));
    auto a = w.answers().at(0);
    EXPECT_EQ(a.data.substr(14, 2), "\x0c\x0c");
  }
  {  // immediate data although ImmediateData=No
    Wire w(true, {"ImmediateData=No"});
    w.receive(w.command(final_flag | write_flag, 5, 512).data(pattern(512)));
    EXPECT_EQ(w.answers().at(0).data.substr(14, 2), "\x0c\x0c");
  }
  {  // more immediate data than the first burst
    Wire w(true, {"FirstBurstLength=512", "InitialR2T=No"});
    w.receive(w.command(final_flag | write_flag, 5, 1024).data(pattern(1024)));
    EXPECT_EQ(w.answers().at(0).data.substr(14, 2), "\x0c\x0d");
  }
  {  // data with a command that does not write
    Wire w;
    w.receive(w.command(final_flag, 5, 0).data("data"));
    EXPECT_EQ(w.answers().at(0).data.substr(14, 2), "\x0c\x0d");
  }
}

TEST(ConnectionData, ACommandWithTooMuchDataIsRefusedBeforeItSendsIt) {
  Wire w;
  w.receive(w.command(final_flag | write_flag, 5, max_command_data_out + 1));
  auto a = w.answers().at(0);
  EXPECT_EQ(a.data.substr(2, 3), std::string("\x70\0\x05", 3));  // ILLEGAL REQUEST
  EXPECT_EQ(a.data.substr(14, 1), "\x24");
}

TEST(ConnectionData, SolicitedDataWaitsForTheBudgetInOrder) {
  Wire w(true, {"InitialR2T=Yes", "ImmediateData=No", "MaxOutstandingR2T=1"});
  static_assert(solicited_data_budget == 2 * max_command_data_out);
  w.receive(w.command(final_flag | write_flag, 1, max_command_data_out));
  w.receive(w.command(final_flag | write_flag, 2, max_command_data_out));
  EXPECT_EQ(w.answers().size(), 2u);
  w.receive(w.command(final_flag | write_flag, 3, 4096));
  w.receive(w.command(final_flag | write_flag, 4, 4096));
  EXPECT_TRUE(w.answers().empty());                         // they wait
  w.receive(Pdu(0x42, 0x81).itt(70).u32(20, 1).cmd_sn(0));  // abort the first
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].opcode(), 0x31);
  EXPECT_EQ(answers[0].itt(), 3u);
  EXPECT_EQ(answers[1].itt(), 4u);
  EXPECT_EQ(answers[2].opcode(), 0x22);
}

// ---- order ----

TEST(ConnectionData, OrderedCommandsNeitherOvertakeNorAreOvertaken) {
  Wire w;
  w.receive(w.command(final_flag | write_flag, 1, 4096));  // collects
  std::uint32_t ttt = w.answers().at(0).u32(20);
  w.receive(w.command(final_flag | 1, 2, 0));  // simple: free to go
  EXPECT_EQ(w.orders().size(), 1u);
  w.receive(w.command(final_flag | 2, 3, 0));  // ordered: waits
  w.receive(w.command(final_flag | 1, 4, 0));  // behind it
  EXPECT_TRUE(w.orders().empty());
  w.receive(w.command(final_flag | 3, 5, 0));  // head of queue: first of all
  EXPECT_EQ(w.orders().size(), 1u);
  w.receive(Wire::data_out(final_flag, 1, ttt, 0, 0, pattern(4096)));
  auto orders = w.orders();
  ASSERT_EQ(orders.size(), 3u);
  EXPECT_EQ(std::get<SubmitCommand>(orders[0]).command.data_out.size(), 1u);
  EXPECT_EQ(std::get<SubmitCommand>(orders[1]).command.attribute, scsi::TaskAttribute::ordered);
  EXPECT_EQ(std::get<SubmitCommand>(orders[2]).command.attribute, scsi::TaskAttribute::simple);
}

TEST(ConnectionData, AnOrderedCommandGoesWhenTheOneBeforeItIsAborted) {
  Wire w;
  w.receive(w.command(final_flag | write_flag, 1, 4096));
  w.receive(w.command(final_flag | 2, 2, 0));
  EXPECT_TRUE(w.orders().empty());
  w.receive(Pdu(0x42, 0x81).itt(70).u32(20, 1).cmd_sn(0));
  EXPECT_EQ(w.orders().size(), 1u);
}

// ---- data-in ----

TEST(ConnectionData, ReadDataCarriesItsStatus) {
  Wire w;
  w.receive(w.command(final_flag | read_flag, 5, 4096));
  auto data = pattern(4096);
  w.respond(w.submitted(), good_read(data));
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].opcode(), 0x25);
  EXPECT_EQ(answers[0].u8(1), 0x81);  // F, S
  EXPECT_EQ(answers[0].data, data);
  EXPECT_EQ(answers[0].stat_sn(), 501u);
  EXPECT_EQ(answers[0].max_cmd_sn(), 101u + command_window - 1);
}

TEST(ConnectionData, ReadDataIsCutToUnitsAndBursts) {
  Wire w(true, {"MaxRecvDataSegmentLength=1000", "MaxBurstLength=2500"});
  w.receive(w.command(final_flag | read_flag, 5, 6001));
  auto data = pattern(6001);
  scsi::Response r;
  for (std::size_t at : {0, 3000, 3001}) {  // in uneven slices
    std::size_t end = at == 0 ? 3000 : at == 3000 ? 3001 : 6001;
    r.data_in.push_back(copy_to_slice(std::as_bytes(std::span(data)).subspan(at, end - at)));
  }
  w.respond(w.submitted(), r);
  auto answers = w.answers();
  const std::uint32_t sizes[] = {1000, 1000, 500, 1000, 1000, 500, 1000, 1};
  ASSERT_EQ(answers.size(), std::size(sizes));
  std::uint32_t offset = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].data, data.substr(offset, sizes[i]));
    EXPECT_EQ(answers[i].u32(36), i);  // DataSN
    EXPECT_EQ(answers[i].u32(40), offset);
    bool last = i + 1 == answers.size();
    EXPECT_EQ(answers[i].final(), i == 2 || i == 5 || last);
    EXPECT_EQ(answers[i].u8(1) & 1, last);
    offset += sizes[i];
  }
}

TEST(ConnectionData, ReadDataBeforeAnErrorComesWithASeparateResponse) {
  Wire w;
  w.receive(w.command(final_flag | read_flag, 5, 1024));
  auto r = good_read(pattern(512));
  r.status = scsi::StatusCode::check_condition;
  r.sense = {std::byte{0x70}};
  w.respond(w.submitted(), r);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].u8(1), 0x80);
  EXPECT_EQ(answers[0].stat_sn(), 0u);
  EXPECT_EQ(answers[1].opcode(), 0x21);
  EXPECT_EQ(answers[1].u32(36), 1u);  // ExpDataSN
  EXPECT_EQ(answers[1].u32(44), 512u);
}

TEST(ConnectionData, Residuals) {
  struct Row {
    bool write;
    std::uint32_t expected, actual;
    std::uint8_t flags;
    std::uint32_t count;
  };
  const Row rows[] = {
      {false, 512, 512, 0, 0},   {false, 1024, 512, 2, 512}, {false, 200, 512, 4, 312},
      {false, 0, 512, 4, 512},   {false, 512, 0, 2, 512},    {true, 512, 512, 0, 0},
      {true, 1024, 512, 2, 512}, {true, 200, 512, 4, 312},   {true, 0, 512, 4, 512},
      {true, 512, 0, 2, 512},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(::testing::Message() << row.write << " " << row.expected << " " << row.actual);
    Wire w;
    auto flags = static_cast<std::uint8_t>(final_flag | (row.write ? write_flag : read_flag));
    w.receive(w.command(flags, 5, row.expected).data(row.write ? pattern(row.expected) : ""));
    auto s = w.submitted();
    w.respond(s, row.write ? good_write(row.actual)
                           : (row.actual ? good_read(pattern(row.actual)) : scsi::Response{}));
    auto a = w.answers().at(0);
    EXPECT_EQ(a.u8(1) & 6, row.flags);
    EXPECT_EQ(a.u32(44), row.count);
    if (!row.write) {
      EXPECT_EQ(a.data.size(), std::min(row.expected, row.actual));
    }
  }
}

TEST(ConnectionData, BidirectionalCommandsHaveTwoResiduals) {
  Wire w;
  auto pdu =
      w.command(final_flag | read_flag | write_flag, 5, 512).u8(4, 2).data(pattern(512)).bytes();
  std::array<std::byte, 8> segment{};
  segment[1] = std::byte{5};
  segment[2] = std::byte{2};
  segment[6] = std::byte{2};  // 512 bytes of data-in
  pdu.insert(pdu.begin() + header_size, segment.begin(), segment.end());
  w.receive(pdu);
  auto s = w.submitted();
  EXPECT_EQ(s.command.data_in_expected, 512u);
  auto r = good_read(pattern(100));
  r.data_out_wanted = 600;
  w.respond(s, r);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].u8(1), 0x80 | 0x08 | 0x04);
  EXPECT_EQ(answers[1].u32(40), 412u);
  EXPECT_EQ(answers[1].u32(44), 88u);
}

// ---- digests ----

TEST(ConnectionData, DigestsBothWays) {
  Wire w(true, {"HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=No"});
  w.header_digest = w.data_digest = true;
  w.receive(w.command(final_flag | write_flag, 5, 5).data("hello"));
  auto s = w.submitted();
  EXPECT_EQ(joined(s.command.data_out), "hello");
  w.respond(s, good_write(5));
  EXPECT_EQ(w.answers().size(), 1u);
  w.receive(w.command(final_flag | read_flag, 6, 5));
  w.respond(w.submitted(), good_read("world"));
  EXPECT_EQ(w.answers().at(0).data, "world");  // parse_answers checks the digests
}

TEST(ConnectionData, ADigestErrorEndsTheConnection) {
  Wire w(true, {"HeaderDigest=CRC32C"});
  w.header_digest = true;
  auto bytes = w.command(final_flag, 5, 0).bytes(true, false);
  bytes[20] ^= std::byte{1};
  w.receive(bytes);
  EXPECT_EQ(w.connection.phase(), Connection::Phase::closed);
  EXPECT_TRUE(w.answers().empty());
}

// ---- windows ----

TEST(ConnectionData, TheWindowClosesAndOpensAgain) {
  Wire w;
  std::vector<SubmitCommand> commands;
  for (std::uint32_t i = 0; i < command_window; ++i) {
    w.receive(w.command(final_flag, i, 0));
    commands.push_back(w.submitted());
  }
  w.receive(w.command(final_flag, 1000, 0));  // ignored
  EXPECT_TRUE(w.orders().empty() && w.answers().empty());
  --w.cmd_sn;
  w.respond(commands[0]);
  auto a = w.answers().at(0);
  EXPECT_EQ(a.exp_cmd_sn(), 100 + command_window);
  EXPECT_EQ(a.max_cmd_sn(), a.exp_cmd_sn());
  w.receive(w.command(final_flag, 1000, 0));
  commands[0] = w.submitted();
  // Nobody answers an aborted command, so the window is announced by itself.
  w.connection.on_aborted(commands[1].command.tag, w.actions);
  a = w.answers().at(0);
  EXPECT_EQ(a.opcode(), 0x20);
  EXPECT_EQ(a.u32(20), reserved_tag);
  EXPECT_EQ(a.max_cmd_sn(), a.exp_cmd_sn());
  w.connection.on_aborted(commands[2].command.tag, w.actions);
  EXPECT_TRUE(w.answers().empty());  // it was open
}

TEST(ConnectionData, ImmediateCommandsAreBounded) {
  Wire w;
  for (std::uint32_t i = 0; i < max_immediate_commands; ++i) {
    w.receive(Pdu(0x41, final_flag).itt(i).cmd_sn(100));
  }
  EXPECT_EQ(w.orders().size(), max_immediate_commands);
  w.receive(Pdu(0x41, final_flag).itt(99).cmd_sn(100));
  auto a = w.answers().at(0);
  EXPECT_EQ(a.opcode(), 0x3f);
  EXPECT_EQ(a.u8(2), 6);
  EXPECT_EQ(a.data.size(), header_size);
  EXPECT_EQ(a.exp_cmd_sn(), 100u);
}

TEST(ConnectionData, ATagInUseIsRejected) {
  Wire w;
  w.receive(w.command(final_flag, 5, 0));
  w.orders();
  w.receive(w.command(final_flag, 5, 0));
  EXPECT_EQ(w.answers().at(0).u8(2), 7);
  EXPECT_TRUE(w.orders().empty());
  w.receive(w.command(final_flag, 6, 0));  // the number was used up
  EXPECT_EQ(w.orders().size(), 1u);
}

TEST(ConnectionData, AnswersAfterTheEndAreTakenSilently) {
  Wire w;
  w.receive(w.command(final_flag, 5, 0));
  auto a = w.submitted();
  w.receive(w.command(final_flag, 6, 0));
  auto b = w.submitted();
  w.receive(w.command(final_flag | write_flag, 7, 4096));
  w.answers();
  w.connection.on_transport_closed();
  EXPECT_EQ(w.connection.commands_at_unit(), 2u);
  w.respond(a);
  w.connection.on_aborted(b.command.tag, w.actions);
  EXPECT_EQ(w.connection.commands_at_unit(), 0u);
  EXPECT_TRUE(w.answers().empty() && w.orders().empty());
}

}  // namespace
}  // namespace duet::iscsi
