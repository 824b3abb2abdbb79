// Login to logout: phases, numbering, NOP, text, task management. Commands:
// connection_data_test.cc.
#include "iscsi/connection.h"

#include <gtest/gtest.h>

#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

using namespace testing;
using Phase = Connection::Phase;

template <class T>
bool holds(const std::vector<Order>& orders) {
  return orders.size() == 1 && std::holds_alternative<T>(orders[0]);
}

std::optional<bool> closed(const std::vector<Order>& orders) {
  for (const auto& order : orders) {
    if (const auto* c = std::get_if<Close>(&order)) return c->flush;
  }
  return {};
}

Pdu logout(std::uint8_t reason = 0, std::uint16_t connection = 0) {
  return Pdu(0x46, 0x80 | reason).itt(50).u16(20, connection).cmd_sn(100);
}
Pdu nop(std::uint32_t itt, std::string_view data = "") {
  return Pdu(0x40).itt(itt).u32(20, reserved_tag).cmd_sn(100).data(data);
}
Pdu text_request(std::string_view keys, std::uint32_t ttt = reserved_tag,
                 std::uint8_t flags = 0x80) {
  return Pdu(0x44, flags).itt(60).u32(20, ttt).cmd_sn(100).data(keys);
}
Pdu task_management(std::uint8_t function, std::uint32_t referenced = reserved_tag) {
  return Pdu(0x42, 0x80 | function).itt(70).u32(20, referenced).cmd_sn(100);
}

TEST(Connection, LogsIn) {
  Wire w(false);
  w.receive(Wire::login(0x87, text({"InitiatorName=iqn.2026-11.com.example:host",
                                    "TargetName=iqn.2026-11.org.duet:red"})));
  EXPECT_TRUE(holds<AdmitSession>(w.orders()));
  EXPECT_TRUE(w.answers().empty());  // not before the admission
  EXPECT_EQ(w.connection.phase(), Phase::admission);
  EXPECT_EQ(w.connection.session().nexus().initiator_name, initiator_name);
  w.admit();
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].opcode(), 0x23);
  EXPECT_EQ(answers[0].u8(1), 0x87);
  EXPECT_EQ(answers[0].u16(14), 9);  // TSIH
  EXPECT_EQ(answers[0].u16(36), 0);  // status
  EXPECT_EQ(answers[0].stat_sn(), 500u);
  EXPECT_EQ(answers[0].exp_cmd_sn(), 100u);
  EXPECT_EQ(answers[0].max_cmd_sn(), 100u + command_window - 1);
  EXPECT_EQ(w.connection.phase(), Phase::full_feature);
  EXPECT_TRUE(w.connection.at_boundary());
}

TEST(Connection, WhatFollowsTheLoginWaitsForTheAdmission) {
  Wire w(false);
  auto bytes =
      Wire::login(0x87, text({"InitiatorName=iqn.2026-11.com.example:host",
                              "TargetName=iqn.2026-11.org.duet:red", "HeaderDigest=CRC32C"}))
          .bytes();
  auto more = nop(51, "ping").bytes(true, false);
  bytes.insert(bytes.end(), more.begin(), more.end());
  w.receive(bytes);
  EXPECT_TRUE(w.answers().empty());
  w.admit();
  auto sent = std::exchange(w.actions.send, {});
  // The login response is without digests, what follows has them.
  std::string all = joined(sent);
  EXPECT_EQ(all.substr(all.size() - 4), "ping");
  EXPECT_EQ(static_cast<std::uint8_t>(all[all.size() - 4 - 4 - header_size]), 0x20);
}

TEST(Connection, RefusedAdmissionSaysWhyAndCloses) {
  Wire w(false);
  w.receive(Wire::login(0x87, text({"InitiatorName=iqn.2026-11.com.example:host",
                                    "TargetName=iqn.2026-11.org.duet:red"})));
  w.connection.on_refused(LoginStatus::service_unavailable, w.actions);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].u16(36), 0x0301);
  EXPECT_EQ(answers[0].u8(1) & 0x80, 0);
  EXPECT_EQ(closed(w.orders()), true);
}

// Each phase, each kind of unit: is it answered, with what, and what becomes of the connection.
TEST(Connection, TableOfPhasesAndUnits) {
  struct Row {
    Phase phase;
    const char* what;
    Pdu pdu;
    int answer;  // opcode, -1 none
    Phase next;
  };
  auto name = text({"InitiatorName=iqn.2026-11.com.example:host"});
  const Row rows[] = {
      {Phase::login, "login", Wire::login(0x04, name + text({"SessionType=Discovery"})), 0x23,
       Phase::login},
      {Phase::login, "broken login", Wire::login(0x08, name), 0x23, Phase::closed},
      {Phase::login, "unknown target", Wire::login(0x04, name + text({"TargetName=iqn.x:y"})), 0x23,
       Phase::closed},
      {Phase::login, "nop", nop(1), -1, Phase::closed},
      {Phase::login, "command", Pdu(0x01), -1, Phase::closed},
      {Phase::login, "task management", task_management(5), -1, Phase::closed},
      {Phase::login, "text", text_request(""), -1, Phase::closed},
      {Phase::login, "data-out", Pdu(0x05), -1, Phase::closed},
      {Phase::login, "logout", logout(), -1, Phase::closed},
      {Phase::login, "snack", Pdu(0x10), -1, Phase::closed},
      {Phase::login, "unknown", Pdu(0x07), -1, Phase::closed},

      {Phase::full_feature, "login", Wire::login(0x87, ""), 0x3f, Phase::closed},
      {Phase::full_feature, "nop", nop(1), 0x20, Phase::full_feature},
      {Phase::full_feature, "answer to our ping", nop(reserved_tag), -1, Phase::full_feature},
      {Phase::full_feature, "command", Pdu(0x01, 0x81).cmd_sn(100), -1, Phase::full_feature},
      {Phase::full_feature, "broken command", Pdu(0x01, 0x01).cmd_sn(100), 0x3f, Phase::closed},
      {Phase::full_feature, "old command", Pdu(0x01, 0x81).cmd_sn(99), -1, Phase::full_feature},
      {Phase::full_feature, "command beyond the window",
       Pdu(0x01, 0x81).cmd_sn(100 + command_window), -1, Phase::full_feature},
      {Phase::full_feature, "command after a gap", Pdu(0x01, 0x81).cmd_sn(101), 0x3f,
       Phase::closed},
      {Phase::full_feature, "reserved tag", Pdu(0x01, 0x81).itt(reserved_tag).cmd_sn(100), 0x3f,
       Phase::full_feature},
      {Phase::full_feature, "abort of nothing", task_management(1, 5), 0x22, Phase::full_feature},
      {Phase::full_feature, "reassign", task_management(8), 0x22, Phase::full_feature},
      {Phase::full_feature, "no such function", task_management(99), 0x22, Phase::full_feature},
      {Phase::full_feature, "text", text_request(text({"SendTargets="})), 0x24,
       Phase::full_feature},
      {Phase::full_feature, "text with a wrong tag", text_request("", 77), 0x3f,
       Phase::full_feature},
      {Phase::full_feature, "text that is none", text_request("garbage"), 0x3f,
       Phase::full_feature},
      {Phase::full_feature, "stray data-out", Pdu(0x05), -1, Phase::full_feature},
      {Phase::full_feature, "logout", logout(), 0x26, Phase::closed},
      {Phase::full_feature, "logout of a connection", logout(1), 0x26, Phase::closed},
      {Phase::full_feature, "logout of another connection", logout(1, 5), 0x26,
       Phase::full_feature},
      {Phase::full_feature, "logout for recovery", logout(2), 0x26, Phase::full_feature},
      {Phase::full_feature, "logout for fun", logout(3), 0x3f, Phase::full_feature},
      {Phase::full_feature, "snack", Pdu(0x10), 0x3f, Phase::full_feature},
      {Phase::full_feature, "unknown", Pdu(0x07), 0x3f, Phase::full_feature},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Wire w(row.phase == Phase::full_feature);
    w.receive(row.pdu);
    auto answers = w.answers();
    EXPECT_EQ(answers.empty() ? -1 : answers[0].opcode(), row.answer);
    EXPECT_EQ(w.connection.phase(), row.next);
    EXPECT_EQ(closed(w.orders()).has_value(), row.next == Phase::closed);
  }
  for (const auto& row : rows) {  // closed: deaf and dumb
    Wire w;
    w.receive(logout());
    w.answers();
    w.orders();
    w.receive(row.pdu);
    EXPECT_TRUE(w.connection.receive_buffer().empty());
    EXPECT_TRUE(w.answers().empty() && w.orders().empty()) << row.what;
  }
}

TEST(Connection, EventsThatDoNotFitThePhaseAreIgnored) {
  Wire w;
  w.connection.on_admitted(1, w.actions);
  w.connection.on_refused(LoginStatus::target_error, w.actions);
  w.connection.on_response(scsi::CommandTag(1), {}, w.actions);
  w.connection.on_aborted(scsi::CommandTag(std::uint64_t{3} << 32), w.actions);
  w.connection.on_task_management_done(5, TaskManagementResult::rejected, w.actions);
  EXPECT_TRUE(w.answers().empty() && w.orders().empty());
  EXPECT_EQ(w.connection.session().tsih, 9);
}

TEST(Connection, EchoesPingsUpToWhatTheInitiatorTakes) {
  Wire w(true, {"MaxRecvDataSegmentLength=512"});
  w.receive(nop(51, std::string(600, 'p')));
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].itt(), 51u);
  EXPECT_EQ(answers[0].u32(20), reserved_tag);
  EXPECT_EQ(answers[0].data, std::string(512, 'p'));
}

TEST(Connection, StatusNumbersCountAnswersAndCommandNumbersRequests) {
  Wire w;
  w.receive(nop(51));
  w.receive(Pdu(0x00).itt(52).u32(20, reserved_tag).cmd_sn(100));  // not immediate
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].stat_sn(), 501u);
  EXPECT_EQ(answers[0].exp_cmd_sn(), 100u);
  EXPECT_EQ(answers[1].stat_sn(), 502u);
  EXPECT_EQ(answers[1].exp_cmd_sn(), 101u);
  EXPECT_EQ(answers[1].max_cmd_sn(), 101u + command_window - 1);
}

TEST(Connection, PingsASilentInitiatorAndDropsADeadOne) {
  Wire w;
  w.connection.on_tick(w.now + ping_after_silence - seconds(1), w.actions);
  EXPECT_TRUE(w.answers().empty());
  w.now += ping_after_silence;
  w.connection.on_tick(w.now, w.actions);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].opcode(), 0x20);
  EXPECT_EQ(answers[0].itt(), reserved_tag);
  EXPECT_NE(answers[0].u32(20), reserved_tag);
  EXPECT_EQ(answers[0].stat_sn(), 501u);  // not used up
  w.now += ping_timeout - seconds(1);
  w.connection.on_tick(w.now, w.actions);
  EXPECT_TRUE(w.orders().empty());
  w.receive(nop(reserved_tag));  // it lives
  w.now += ping_timeout - seconds(1);
  w.connection.on_tick(w.now, w.actions);
  EXPECT_TRUE(w.orders().empty());
  w.now += ping_after_silence;
  w.connection.on_tick(w.now, w.actions);
  w.now += ping_timeout;
  w.connection.on_tick(w.now, w.actions);
  EXPECT_EQ(closed(w.orders()), false);
}

TEST(Connection, ALoginThatDoesNotEndIsDropped) {
  Wire w(false);
  w.connection.on_tick(w.now + login_timeout - seconds(1), w.actions);
  EXPECT_TRUE(w.orders().empty());
  w.connection.on_tick(w.now + login_timeout, w.actions);
  EXPECT_EQ(closed(w.orders()), false);
}

TEST(Connection, AsksForALogoutAndInsists) {
  Wire w;
  w.connection.request_logout(w.now, w.actions);
  w.connection.request_logout(w.now, w.actions);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].opcode(), 0x32);
  EXPECT_EQ(answers[0].u8(36), 1);
  w.connection.on_tick(w.now + logout_request_timeout, w.actions);
  EXPECT_EQ(closed(w.orders()), false);
}

TEST(Connection, DiscoversTargets) {
  auto discovery = text({"InitiatorName=iqn.2026-11.com.example:host", "SessionType=Discovery"});
  Wire w(false);
  w.receive(Wire::login(0x87, discovery));
  w.admit();
  w.answers();
  const std::string all =
      text({"TargetName=iqn.2026-11.org.duet:red", "TargetAddress=127.0.0.1:3260,1",
            "TargetAddress=127.0.0.2:3260,2"});
  w.receive(text_request(text({"SendTargets=All"})));
  EXPECT_EQ(w.answers().at(0).data, all);
  w.receive(text_request(text({"SendTargets=iqn.2026-11.org.duet:red"})));
  EXPECT_EQ(w.answers().at(0).data, all);
  w.receive(text_request(text({"SendTargets=iqn.2026-11.org.duet:green"})));
  EXPECT_EQ(w.answers().at(0).data, "");
  w.directory.ready = false;
  w.receive(text_request(text({"SendTargets=All"})));
  EXPECT_EQ(w.answers().at(0).data, "");
  w.receive(task_management(5));
  EXPECT_EQ(w.answers().at(0).opcode(), 0x3f);
  w.receive(Pdu(0x01, 0x81).cmd_sn(100));  // no commands in a discovery session
  EXPECT_EQ(w.answers().at(0).opcode(), 0x3f);
  EXPECT_EQ(w.connection.phase(), Phase::closed);
}

TEST(Connection, NormalSessionsMayAskForTheirOwnTarget) {
  Wire w;
  w.receive(text_request(text({"SendTargets="})));
  EXPECT_NE(w.answers().at(0).data.find("TargetName=iqn.2026-11.org.duet:red"), std::string::npos);
  w.receive(text_request(text({"SendTargets=All"})));
  EXPECT_EQ(w.answers().at(0).data, text({"SendTargets=Reject"}));
  w.receive(text_request(text({"MaxBurstLength=512", "MaxRecvDataSegmentLength=1024"})));
  EXPECT_EQ(w.answers().at(0).data, text({"MaxBurstLength=Reject"}));
  EXPECT_EQ(w.connection.session().parameters.initiator_max_receive, 1024u);
}

TEST(Connection, LongTextComesInPieces) {
  Wire w(false);
  w.directory.more_targets = 100;
  w.receive(Wire::login(0x87, text({"InitiatorName=iqn.2026-11.com.example:host",
                                    "SessionType=Discovery", "MaxRecvDataSegmentLength=512"})));
  w.admit();
  w.answers();
  w.receive(text_request(text({"SendTargets=All"})));
  std::string got;
  for (int rounds = 0; rounds < 100; ++rounds) {
    auto a = w.answers().at(0);
    EXPECT_LE(a.data.size(), 512u);
    got += a.data;
    if (a.final()) break;
    EXPECT_EQ(a.u8(1), 0x40);
    w.receive(text_request("", a.u32(20)));
  }
  std::string expected;
  for (const auto& target : w.directory.discover()) {
    expected += text({"TargetName=" + target.name});
    for (const auto& address : target.addresses) expected += text({"TargetAddress=" + address});
  }
  EXPECT_EQ(got, expected);
}

TEST(Connection, TextRequestsMayComeInPiecesUpToABound) {
  Wire w;
  w.receive(text_request("SendTar", reserved_tag, 0x40));
  auto a = w.answers().at(0);
  EXPECT_FALSE(a.final());
  w.receive(text_request(std::string("gets=\0", 6), a.u32(20)));
  a = w.answers().at(0);
  EXPECT_TRUE(a.final());
  EXPECT_NE(a.data.find("TargetName"), std::string::npos);

  w.receive(text_request(std::string(max_text_size, 'k'), reserved_tag, 0x40));
  a = w.answers().at(0);
  w.receive(text_request("k", a.u32(20), 0x40));
  EXPECT_EQ(w.answers().at(0).opcode(), 0x3f);
  EXPECT_EQ(w.connection.phase(), Phase::closed);
}

// ---- task management ----

TEST(Connection, TaskManagementGoesToTheUnitAndBack) {
  Wire w;
  w.receive(task_management(5).lun(1));
  auto orders = w.orders();
  ASSERT_TRUE(holds<ManageTasks>(orders));
  auto manage = std::get<ManageTasks>(orders[0]);
  EXPECT_EQ(manage.function, scsi::TaskManagement::logical_unit_reset);
  EXPECT_EQ(manage.lun, LunNumber(1));
  EXPECT_FALSE(manage.task.has_value());
  EXPECT_FALSE(w.connection.at_boundary());
  EXPECT_TRUE(w.answers().empty());
  w.connection.on_task_management_done(manage.request, TaskManagementResult::function_complete,
                                       w.actions);
  auto a = w.answers().at(0);
  EXPECT_EQ(a.opcode(), 0x22);
  EXPECT_EQ(a.u8(2), 0);
  EXPECT_EQ(a.itt(), 70u);
}

TEST(Connection, TaskManagementIsBounded) {
  Wire w;
  for (std::uint32_t i = 0; i < max_task_management; ++i) w.receive(task_management(5));
  EXPECT_EQ(w.orders().size(), max_task_management);
  w.receive(task_management(5));
  EXPECT_EQ(w.answers().at(0).opcode(), 0x3f);
  EXPECT_TRUE(w.orders().empty());
}

TEST(Connection, AbortTaskNamesTheCommandOfTheUnit) {
  Wire w;
  w.receive(w.command(final_flag, 5, 0).lun(2));
  auto command = w.submitted();
  w.receive(task_management(1, 5));
  auto orders = w.orders();
  ASSERT_TRUE(holds<ManageTasks>(orders));
  auto manage = std::get<ManageTasks>(orders[0]);
  EXPECT_EQ(manage.task, command.command.tag);
  EXPECT_EQ(manage.lun, LunNumber(2));
  w.connection.on_aborted(command.command.tag, w.actions);
  EXPECT_TRUE(w.answers().empty());  // an aborted command is not answered
  w.connection.on_task_management_done(manage.request, TaskManagementResult::function_complete,
                                       w.actions);
  EXPECT_EQ(w.answers().at(0).u8(2), 0);
  EXPECT_TRUE(w.orders().empty());
}

TEST(Connection, AbortTaskEndsACommandThatStillCollectsData) {
  Wire w;
  w.receive(w.command(final_flag | write_flag, 5, 4096));
  w.answers();
  w.receive(task_management(1, 5));
  EXPECT_EQ(w.answers().at(0).u8(2), 0);
  EXPECT_TRUE(w.orders().empty());
  w.receive(Wire::data_out(final_flag, 5, 1, 0, 0, std::string(4096, 'x')));  // too late
  EXPECT_TRUE(w.orders().empty());
  EXPECT_TRUE(w.connection.at_boundary());
}

TEST(Connection, ResetsEndCollectingCommandsOfTheirUnitOnly) {
  for (std::uint8_t function : {2, 4, 5, 6, 7}) {
    Wire w;
    w.receive(w.command(final_flag | write_flag, 5, 4096).lun(1));
    w.receive(w.command(final_flag | write_flag, 6, 4096).lun(2));
    auto r2ts = w.answers();
    ASSERT_EQ(r2ts.size(), 2u);
    w.receive(task_management(function).lun(1));
    w.orders();
    w.receive(Wire::data_out(final_flag, 5, r2ts[0].u32(20), 0, 0, std::string(4096, 'x')));
    w.receive(Wire::data_out(final_flag, 6, r2ts[1].u32(20), 0, 0, std::string(4096, 'x')));
    EXPECT_EQ(w.orders().size(), function < 6 ? 1u : 0u);
  }
}

// ---- the state of a session moves ----

TEST(Connection, ASessionGoesOnElsewhereFromItsState) {
  Wire w(true, {"HeaderDigest=CRC32C", "DataDigest=CRC32C"});
  w.header_digest = w.data_digest = true;
  w.receive(nop(51, "ping"));
  w.answers();
  ASSERT_TRUE(w.connection.at_boundary());
  SessionState state = w.connection.session();
  w.connection = Connection(4, w.directory, state, w.now);
  EXPECT_EQ(w.connection.session(), state);
  w.receive(w.command(final_flag, 5, 0));
  auto command = w.submitted();
  EXPECT_EQ(command.command.nexus, state.nexus());
  w.respond(command);
  auto a = w.answers().at(0);
  EXPECT_EQ(a.stat_sn(), state.stat_sn);
  EXPECT_EQ(a.exp_cmd_sn(), 101u);
}

}  // namespace
}  // namespace duet::iscsi
