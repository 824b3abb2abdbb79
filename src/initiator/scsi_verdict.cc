#include "initiator/scsi_verdict.h"

namespace duet::initiator {
namespace {

using Action = Verdict::Action;
using ports::Attention;

Attention attention_of(std::uint16_t code) {
  if (code >> 8 == 0x29) return Attention::power_on_or_reset;
  switch (code) {
    case 0x2a03:
      return Attention::reservations_preempted;
    case 0x2a04:
      return Attention::reservations_released;
    case 0x2a05:
      return Attention::registrations_preempted;
    case 0x2a09:
      return Attention::capacity_changed;
    default:
      return Attention::other;
  }
}

// A command that met a unit attention was not executed (SAM-5 5.14).
Verdict on_attention(std::uint16_t code, CommandKind kind) {
  auto attention = attention_of(code);
  bool fenced = attention == Attention::reservations_preempted ||
                attention == Attention::registrations_preempted;
  if (kind == CommandKind::reserve && fenced) {
    // Somebody took the disk since the caller last looked: never take it back blindly.
    return {Action::fail, ErrorCode::reservation_conflict, attention};
  }
  return {Action::repeat_now, ErrorCode::busy, attention};
}

Verdict on_sense(const ScsiStatus& s, CommandKind kind) {
  // A deferred error is about an earlier write that was already acknowledged from the cache; this
  // command was not executed, but what it would rest on is broken.
  if (s.response == 0x71 || s.response == 0x73) return {Action::fail, ErrorCode::io_error, {}};
  switch (s.key) {
    case 0x0:  // NO SENSE
    case 0x1:  // RECOVERED ERROR
      return {};
    case 0x2:  // NOT READY: passes, as does the loss of a path; nothing is known to be damaged
      return {Action::repeat_later, ErrorCode::busy, {}};
    case 0x5:  // ILLEGAL REQUEST
      // LOGICAL UNIT NOT SUPPORTED is the disk that is gone, not our mistake.
      return {Action::fail, s.code == 0x2500 ? ErrorCode::io_error : ErrorCode::invalid, {}};
    case 0x6:
      return on_attention(s.code, kind);  // UNIT ATTENTION
    case 0xb:                             // ABORTED COMMAND
      if (kind == CommandKind::reserve) return {Action::fail, ErrorCode::busy, {}};
      return {Action::repeat_now, ErrorCode::io_error, {}};
    default:  // MEDIUM ERROR, HARDWARE ERROR, DATA PROTECT, ...
      return {Action::fail, ErrorCode::io_error, {}};
  }
}

}  // namespace

Verdict judge(const ScsiStatus& s, CommandKind kind) {
  switch (s.status) {
    case 0x00:
      return {};  // GOOD
    case 0x02:
      return on_sense(s, kind);  // CHECK CONDITION
    case 0x08:
      return {Action::repeat_later, ErrorCode::busy, {}};  // BUSY
    case 0x18:
      return {Action::fail, ErrorCode::reservation_conflict, {}};  // RESERVATION CONFLICT
    case 0x28:
      return {Action::repeat_later, ErrorCode::busy, {}};  // TASK SET FULL
    case 0x40:                                             // TASK ABORTED
      // By another nexus, perhaps fencing us: the repetition learns the truth.
      if (kind == CommandKind::reserve) return {Action::fail, ErrorCode::busy, {}};
      return {Action::repeat_now, ErrorCode::io_error, {}};
    default:
      return {Action::fail, ErrorCode::io_error, {}};
  }
}

}  // namespace duet::initiator
