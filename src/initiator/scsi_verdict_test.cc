#include "initiator/scsi_verdict.h"

#include <gtest/gtest.h>

namespace duet::initiator {
namespace {

using Action = Verdict::Action;
using ports::Attention;
constexpr auto transfer = CommandKind::transfer;
constexpr auto inquire = CommandKind::inquire;
constexpr auto register_key = CommandKind::register_key;
constexpr auto reserve = CommandKind::reserve;
constexpr CommandKind all_kinds[] = {transfer, inquire, register_key, reserve};

ScsiStatus sense(std::uint8_t key, std::uint16_t code = 0, std::uint8_t response = 0x70) {
  return {.status = 0x02, .response = response, .key = key, .code = code};
}

TEST(Verdict, StatusAloneForEveryKindOfCommand) {
  for (auto kind : all_kinds) {
    EXPECT_EQ(judge({}, kind), (Verdict{}));
    EXPECT_EQ(judge({.status = 0x18}, kind),
              (Verdict{Action::fail, ErrorCode::reservation_conflict, {}}));
    EXPECT_EQ(judge({.status = 0x08}, kind), (Verdict{Action::repeat_later, ErrorCode::busy, {}}));
    EXPECT_EQ(judge({.status = 0x28}, kind), (Verdict{Action::repeat_later, ErrorCode::busy, {}}));
  }
}

// Every status byte has a verdict, and an unknown one is a failure.
TEST(Verdict, UnknownStatusFails) {
  for (int status = 0; status < 256; ++status) {
    auto verdict = judge({.status = static_cast<std::uint8_t>(status)}, transfer);
    switch (status) {
      case 0x00:
      case 0x02:
      case 0x08:
      case 0x18:
      case 0x28:
      case 0x40:
        break;
      default:
        EXPECT_EQ(verdict, (Verdict{Action::fail, ErrorCode::io_error, {}})) << status;
    }
  }
}

TEST(Verdict, SenseKeys) {
  struct Case {
    std::uint8_t key;
    std::uint16_t code;
    Action action;
    ErrorCode error;
  };
  const Case cases[] = {
      {0x0, 0, Action::succeed, ErrorCode::io_error},
      {0x1, 0x1701, Action::succeed, ErrorCode::io_error},   // recovered with retries
      {0x2, 0x0401, Action::repeat_later, ErrorCode::busy},  // becoming ready
      {0x2, 0x3a00, Action::repeat_later, ErrorCode::busy},  // no medium
      {0x3, 0x1100, Action::fail, ErrorCode::io_error},      // unrecovered read error
      {0x4, 0x4400, Action::fail, ErrorCode::io_error},
      {0x5, 0x2100, Action::fail, ErrorCode::invalid},   // LBA out of range
      {0x5, 0x2500, Action::fail, ErrorCode::io_error},  // no such unit
      {0x7, 0x2700, Action::fail, ErrorCode::io_error},  // write protected
      {0x8, 0, Action::fail, ErrorCode::io_error},
      {0xb, 0x4700, Action::repeat_now, ErrorCode::io_error},
      {0xe, 0x1d00, Action::fail, ErrorCode::io_error},
      {0xf, 0, Action::fail, ErrorCode::io_error},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(judge(sense(c.key, c.code), transfer), (Verdict{c.action, c.error, {}}))
        << int{c.key};
  }
}

TEST(Verdict, ADeferredErrorIsAnError) {
  for (std::uint8_t response : {0x71, 0x73}) {
    EXPECT_EQ(judge(sense(0x1, 0, response), transfer).action, Action::fail);
    EXPECT_EQ(judge(sense(0x6, 0x2900, response), transfer).action, Action::fail);
  }
}

TEST(Verdict, AttentionsAreReportedAndTheCommandRepeated) {
  struct Case {
    std::uint16_t code;
    Attention attention;
  };
  const Case cases[] = {{0x2900, Attention::power_on_or_reset},
                        {0x2901, Attention::power_on_or_reset},
                        {0x2907, Attention::power_on_or_reset},
                        {0x2a03, Attention::reservations_preempted},
                        {0x2a04, Attention::reservations_released},
                        {0x2a05, Attention::registrations_preempted},
                        {0x2a09, Attention::capacity_changed},
                        {0x2a01, Attention::other},
                        {0x2f00, Attention::other},
                        {0x3f0e, Attention::other}};
  for (const auto& c : cases) {
    for (auto kind : all_kinds) {
      auto verdict = judge(sense(0x6, c.code), kind);
      EXPECT_EQ(verdict.attention, c.attention) << c.code;
      bool fenced = c.code == 0x2a03 || c.code == 0x2a05;
      if (kind == reserve && fenced) {
        EXPECT_EQ(verdict.action, Action::fail) << c.code;
        EXPECT_EQ(verdict.error, ErrorCode::reservation_conflict) << c.code;
      } else {
        EXPECT_EQ(verdict.action, Action::repeat_now) << c.code;
      }
    }
  }
}

// RESERVE and PREEMPT are repeated only when the disk says it did not begin with them.
TEST(Verdict, AnAbortedReservationIsTheCallersToRepeat) {
  EXPECT_EQ(judge({.status = 0x40}, reserve), (Verdict{Action::fail, ErrorCode::busy, {}}));
  EXPECT_EQ(judge(sense(0xb), reserve), (Verdict{Action::fail, ErrorCode::busy, {}}));
  EXPECT_EQ(judge({.status = 0x40}, transfer).action, Action::repeat_now);
}

}  // namespace
}  // namespace duet::initiator
