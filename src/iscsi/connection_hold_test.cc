// The planned end of a session's service: what waits, what does not, and how it goes on.
#include <gtest/gtest.h>

#include "iscsi/connection.h"
#include "iscsi/test_initiator.h"

namespace duet::iscsi {
namespace {

using namespace testing;

std::vector<scsi::CommandTag> tags_of(std::vector<Order> orders) {
  std::vector<scsi::CommandTag> tags;
  for (auto& order : orders) {
    if (auto* submit = std::get_if<SubmitCommand>(&order)) tags.push_back(submit->command.tag);
  }
  return tags;
}

TEST(ConnectionHold, WhatIsAtAUnitIsAnsweredAndWhatComesWaits) {
  Wire w;
  w.receive(w.command(final_flag | read_flag, 1, 512));
  auto begun = w.submitted();
  w.connection.hold();
  w.receive(w.command(final_flag | read_flag, 2, 512));
  w.receive(w.command(final_flag | write_flag, 3, 4).data("data"));
  EXPECT_TRUE(w.orders().empty());
  EXPECT_EQ(w.connection.commands_at_unit(), 1u);
  w.respond(begun);
  EXPECT_EQ(w.answers().size(), 1u);
  EXPECT_TRUE(w.orders().empty()) << "its end starts no other";
  auto waiting = w.connection.waiting_requests();
  ASSERT_EQ(waiting.size(), 2u);
  EXPECT_EQ(waiting[0].initiator_task_tag, 2u);
  EXPECT_EQ(waiting[1].initiator_task_tag, 3u);
  EXPECT_EQ(waiting[1].initiator_name, initiator_name);
  EXPECT_EQ(waiting[1].isid, w.connection.session().isid);
}

TEST(ConnectionHold, NoDataIsAskedForUntilItGoesOn) {
  Wire w(true, {"InitialR2T=Yes", "ImmediateData=No"});
  w.connection.hold();
  w.receive(w.command(final_flag | write_flag, 1, 4096));
  EXPECT_TRUE(w.answers().empty());
  EXPECT_EQ(w.connection.waiting_requests().size(), 1u);
  w.connection.resume(w.actions);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].opcode(), 0x31);
  w.receive(Wire::data_out(final_flag, 1, answers[0].u32(20), 0, 0, std::string(4096, 'x')));
  EXPECT_EQ(tags_of(w.orders()).size(), 1u);
}

TEST(ConnectionHold, DataThatWasAskedForBeforeIsTakenAndItsCommandWaits) {
  Wire w(true, {"InitialR2T=Yes", "ImmediateData=No"});
  w.receive(w.command(final_flag | write_flag, 1, 4096));
  auto r2t = w.answers().at(0);
  w.connection.hold();
  w.receive(Wire::data_out(final_flag, 1, r2t.u32(20), 0, 0, std::string(4096, 'x')));
  EXPECT_TRUE(w.orders().empty());
  EXPECT_EQ(w.connection.waiting_requests().size(), 1u);
  w.connection.resume(w.actions);
  EXPECT_EQ(tags_of(w.orders()).size(), 1u);
}

TEST(ConnectionHold, OrderOfCommandsIsKept) {
  constexpr std::uint8_t ordered_bits = 2, head_bits = 3;
  Wire w;
  w.connection.hold();
  w.receive(w.command(final_flag, 1, 0));
  w.receive(w.command(final_flag | ordered_bits, 2, 0));
  w.receive(w.command(final_flag, 3, 0));
  w.receive(w.command(final_flag | head_bits, 4, 0));
  EXPECT_EQ(w.connection.waiting_requests().size(), 4u);
  w.connection.resume(w.actions);
  auto orders = w.orders();
  ASSERT_EQ(orders.size(), 4u);
  std::vector<scsi::TaskAttribute> attributes;
  for (auto& order : orders) attributes.push_back(std::get<SubmitCommand>(order).command.attribute);
  using enum scsi::TaskAttribute;
  EXPECT_EQ(attributes, (std::vector{head_of_queue, simple, ordered, simple}));
}

TEST(ConnectionHold, AnOrderedCommandStillWaitsForOlderDataAfterwards) {
  Wire w(true, {"InitialR2T=Yes", "ImmediateData=No"});
  w.connection.hold();
  w.receive(w.command(final_flag | write_flag, 1, 4096));
  w.receive(w.command(final_flag | 2, 2, 0));
  w.connection.resume(w.actions);
  EXPECT_TRUE(w.orders().empty());
  auto r2t = w.answers().at(0);
  w.receive(Wire::data_out(final_flag, 1, r2t.u32(20), 0, 0, std::string(4096, 'x')));
  EXPECT_EQ(tags_of(w.orders()).size(), 2u);
}

TEST(ConnectionHold, AWaitingCommandMayBeAborted) {
  Wire w;
  w.connection.hold();
  w.receive(w.command(final_flag, 1, 0));
  w.receive(Pdu(0x42, 0x81).itt(70).u32(20, 1).cmd_sn(w.cmd_sn));
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].opcode(), 0x22);
  EXPECT_EQ(answers[0].u8(2), 0);
  EXPECT_TRUE(w.connection.waiting_requests().empty());
}

TEST(ConnectionHold, AtMostTheWindowWaits) {
  Wire w;
  w.connection.hold();
  for (std::uint32_t i = 0; i < command_window + 10; ++i) w.receive(w.command(final_flag, i, 0));
  EXPECT_EQ(w.connection.waiting_requests().size(), command_window);
}

TEST(ConnectionHold, TheInitiatorIsToldAndMayStillLogOut) {
  Wire w;
  w.receive(w.command(final_flag, 1, 0));
  auto begun = w.submitted();
  w.connection.hold();
  w.respond(begun);
  w.connection.request_logout(w.now, w.actions);
  w.connection.announce_drop(w.actions);
  auto answers = w.answers();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[1].u8(36), 1);
  EXPECT_EQ(answers[2].u8(36), 3);
  EXPECT_EQ(answers[2].u16(40), 0) << "come back at once";
  EXPECT_EQ(answers[2].stat_sn(), answers[1].stat_sn() + 1);
  w.receive(Pdu(0x46, 0x80).itt(50).u16(20, 0).cmd_sn(w.cmd_sn));
  EXPECT_EQ(w.answers().at(0).opcode(), 0x26);
  EXPECT_EQ(w.connection.phase(), Connection::Phase::closed);
}

// Asked to log out, and then not: it is not closed for having stayed.
TEST(ConnectionHold, WhoStaysIsNotClosedWhenItGoesOn) {
  Wire w;
  w.connection.hold();
  w.connection.request_logout(w.now, w.actions);
  w.connection.resume(w.actions);
  w.now += logout_request_timeout;
  w.connection.on_tick(w.now, w.actions);
  EXPECT_EQ(w.connection.phase(), Connection::Phase::full_feature);
}

TEST(ConnectionHold, AClosedConnectionHasNothingThatWaits) {
  Wire w;
  w.connection.hold();
  w.receive(w.command(final_flag, 1, 0));
  w.connection.on_transport_closed();
  EXPECT_TRUE(w.connection.waiting_requests().empty());
  w.connection.announce_drop(w.actions);
  w.connection.resume(w.actions);
  EXPECT_TRUE(w.answers().empty());
  EXPECT_TRUE(w.orders().empty());
}

}  // namespace
}  // namespace duet::iscsi
