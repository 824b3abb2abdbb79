// iSCSI protocol data units as a target sees them (RFC 7143 section 11): requests are decoded and
// validated into types, answers are encoded. A unit is a basic header segment of 48 bytes,
// additional header segments, an optional header digest, data padded to 4 bytes, an optional data
// digest.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <variant>

#include "base/bytes.h"
#include "base/result.h"
#include "scsi/logical_unit_io.h"

namespace duet::iscsi {

inline constexpr std::size_t header_size = 48;
inline constexpr std::size_t digest_size = 4;
// Also "no tag" in both directions (RFC 7143 11.1, 11.3.4, ...).
inline constexpr std::uint32_t reserved_tag = 0xffffffff;

using Header = std::span<const std::byte, header_size>;
using MutableHeader = std::span<std::byte, header_size>;
using Isid = std::array<std::uint8_t, 6>;

constexpr std::size_t padded(std::size_t size) {
  return (size + 3) & ~std::size_t{3};
}

// ---- any unit ----

struct Lengths {
  std::size_t additional_header = 0;  // bytes
  std::size_t data = 0;               // bytes without padding
};
Lengths lengths_of(Header header);
std::uint8_t opcode_of(Header header);
bool immediate(Header header);

// ---- requests ----

enum class Opcode : std::uint8_t {
  nop_out = 0x00,
  scsi_command = 0x01,
  task_management = 0x02,
  login = 0x03,
  text = 0x04,
  data_out = 0x05,
  logout = 0x06,
  snack = 0x10,
};

// Numbering common to all requests but Data-Out and SNACK.
struct CommandNumbers {
  bool immediate = false;
  std::uint32_t initiator_task_tag = 0;
  std::uint32_t cmd_sn = 0;
  std::uint32_t exp_stat_sn = 0;
};

struct NopOut {
  CommandNumbers numbers = {};
  std::uint64_t lun_field = 0;
  std::uint32_t target_transfer_tag = reserved_tag;
};

struct ScsiCommand {
  CommandNumbers numbers = {};
  bool final = false;
  bool read = false;
  bool write = false;
  scsi::TaskAttribute attribute = scsi::TaskAttribute::simple;
  std::uint64_t lun_field = 0;        // see scsi::decode_lun
  std::uint32_t expected_length = 0;  // of data-out when `write`, else of data-in
  std::array<std::uint8_t, 16> cdb{};
};

struct TaskManagementRequest {
  CommandNumbers numbers = {};
  std::uint8_t function = 0;  // 1 to 8 are defined; others are answered "not supported"
  std::uint64_t lun_field = 0;
  std::uint32_t referenced_task_tag = reserved_tag;
};

enum class Stage : std::uint8_t { security = 0, operational = 1, full_feature = 3 };

struct LoginRequest {
  CommandNumbers numbers = {};
  bool transit = false;
  bool more = false;  // C bit: the text goes on in the next request
  Stage current_stage = Stage::security;
  Stage next_stage = Stage::security;  // if transit
  std::uint8_t version_max = 0;
  std::uint8_t version_min = 0;
  Isid isid{};
  std::uint16_t tsih = 0;
  std::uint16_t connection_id = 0;
};

struct TextRequest {
  CommandNumbers numbers = {};
  bool final = false;
  bool more = false;
  std::uint32_t target_transfer_tag = reserved_tag;
};

struct DataOut {
  bool final = false;
  std::uint32_t initiator_task_tag = 0;
  std::uint32_t target_transfer_tag = reserved_tag;
  std::uint32_t data_sn = 0;
  std::uint32_t buffer_offset = 0;
};

struct LogoutRequest {
  CommandNumbers numbers = {};
  std::uint8_t reason = 0;  // 0 session, 1 connection, 2 for recovery
  std::uint16_t connection_id = 0;
};

struct Snack {};

using Request = std::variant<NopOut, ScsiCommand, TaskManagementRequest, LoginRequest, TextRequest,
                             DataOut, LogoutRequest, Snack>;

// Errors: refused for an opcode that a target does not take, invalid for fields out of their range.
Result<Request> decode_request(Header header);

// Read length of a bidirectional command from its additional header segments; 0 without. Malformed
// segments end the search: the command is judged without them.
std::uint32_t bidirectional_read_length(Bytes additional_header);

// ---- answers ----

// Where the session's numbering stands; part of every answer.
struct AnswerNumbers {
  std::uint32_t stat_sn = 0;
  std::uint32_t exp_cmd_sn = 0;
  std::uint32_t max_cmd_sn = 0;
};

struct NopIn {
  std::uint64_t lun_field = 0;
  std::uint32_t initiator_task_tag = reserved_tag;
  std::uint32_t target_transfer_tag = reserved_tag;
  AnswerNumbers numbers = {};
};

// RFC 7143 11.4.5: what the command asked for against what the initiator was ready for.
struct Residual {
  bool overflow = false;
  bool underflow = false;
  std::uint32_t count = 0;
};

struct ScsiResponse {
  scsi::StatusCode status = scsi::StatusCode::good;
  std::uint32_t initiator_task_tag = 0;
  std::uint32_t exp_data_sn = 0;
  Residual residual = {};
  Residual read_residual = {};  // of a bidirectional command
  AnswerNumbers numbers = {};
};

struct DataIn {
  bool final = false;
  bool has_status = false;  // then `status`, `residual` and stat_sn count
  scsi::StatusCode status = scsi::StatusCode::good;
  Residual residual = {};
  std::uint32_t initiator_task_tag = 0;
  std::uint32_t data_sn = 0;
  std::uint32_t buffer_offset = 0;
  AnswerNumbers numbers = {};
};

struct ReadyToTransfer {
  std::uint64_t lun_field = 0;
  std::uint32_t initiator_task_tag = 0;
  std::uint32_t target_transfer_tag = 0;
  std::uint32_t r2t_sn = 0;
  std::uint32_t buffer_offset = 0;
  std::uint32_t desired_length = 0;
  AnswerNumbers numbers = {};
};

enum class TaskManagementResult : std::uint8_t {  // RFC 7143 11.6.1
  function_complete = 0,
  task_does_not_exist = 1,
  lun_does_not_exist = 2,
  reassignment_not_supported = 4,
  not_supported = 5,
  rejected = 255,
};
struct TaskManagementResponse {
  TaskManagementResult result = TaskManagementResult::function_complete;
  std::uint32_t initiator_task_tag = 0;
  AnswerNumbers numbers = {};
};

// RFC 7143 11.13.5, class in the high byte.
enum class LoginStatus : std::uint16_t {
  success = 0x0000,
  initiator_error = 0x0200,
  authentication_failed = 0x0201,
  target_not_found = 0x0203,
  unsupported_version = 0x0205,
  missing_parameter = 0x0207,
  session_type_not_supported = 0x0209,
  session_does_not_exist = 0x020a,
  invalid_during_login = 0x020b,
  target_error = 0x0300,
  service_unavailable = 0x0301,
  out_of_resources = 0x0302,
};
struct LoginResponse {
  bool transit = false;
  bool more = false;
  Stage current_stage = Stage::security;
  Stage next_stage = Stage::security;
  Isid isid{};
  std::uint16_t tsih = 0;
  std::uint32_t initiator_task_tag = 0;
  LoginStatus status = LoginStatus::success;
  AnswerNumbers numbers = {};
};

struct TextResponse {
  bool final = true;
  bool more = false;
  std::uint32_t initiator_task_tag = 0;
  std::uint32_t target_transfer_tag = reserved_tag;
  AnswerNumbers numbers = {};
};

enum class LogoutResult : std::uint8_t {
  success = 0,
  connection_not_found = 1,
  recovery_not_supported = 2,
};
struct LogoutResponse {
  LogoutResult result = LogoutResult::success;
  std::uint32_t initiator_task_tag = 0;
  AnswerNumbers numbers = {};
};

enum class RejectReason : std::uint8_t {  // RFC 7143 11.17.1
  snack = 0x03,
  protocol_error = 0x04,
  command_not_supported = 0x05,
  too_many_immediate_commands = 0x06,
  task_in_progress = 0x07,
  invalid_field = 0x09,
};
// Its data segment is the header of the rejected unit.
struct Reject {
  RejectReason reason = RejectReason::protocol_error;
  AnswerNumbers numbers = {};
};

// The target asks the initiator to log out within `seconds` (RFC 7143 11.9.1, event 1).
struct AsyncLogoutRequest {
  std::uint16_t seconds = 0;
  AnswerNumbers numbers = {};
};

// The target ends the session; the initiator may come back with a new one after `time_to_wait`
// seconds (RFC 7143 11.9.1, event 3).
struct AsyncSessionDrop {
  std::uint16_t time_to_wait = 0;
  std::uint16_t time_to_retain = 0;
  AnswerNumbers numbers = {};
};

// Write all 48 bytes; `data_size` is that of the data segment that follows, without padding.
void encode(const NopIn& pdu, std::size_t data_size, MutableHeader out);
void encode(const ScsiResponse& pdu, std::size_t data_size, MutableHeader out);
void encode(const DataIn& pdu, std::size_t data_size, MutableHeader out);
void encode(const ReadyToTransfer& pdu, std::size_t data_size, MutableHeader out);
void encode(const TaskManagementResponse& pdu, std::size_t data_size, MutableHeader out);
void encode(const LoginResponse& pdu, std::size_t data_size, MutableHeader out);
void encode(const TextResponse& pdu, std::size_t data_size, MutableHeader out);
void encode(const LogoutResponse& pdu, std::size_t data_size, MutableHeader out);
void encode(const Reject& pdu, std::size_t data_size, MutableHeader out);
void encode(const AsyncLogoutRequest& pdu, std::size_t data_size, MutableHeader out);
void encode(const AsyncSessionDrop& pdu, std::size_t data_size, MutableHeader out);

}  // namespace duet::iscsi
