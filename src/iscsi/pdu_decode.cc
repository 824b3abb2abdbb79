#include <algorithm>
#include <string>

#include "iscsi/pdu.h"

namespace duet::iscsi {
namespace {

std::uint8_t byte_at(Header h, std::size_t i) {
  return std::to_integer<std::uint8_t>(h[i]);
}
std::uint16_t u16_at(Header h, std::size_t i) {
  return load_be<std::uint16_t>(h.data() + i);
}
std::uint32_t u32_at(Header h, std::size_t i) {
  return load_be<std::uint32_t>(h.data() + i);
}
std::uint64_t lun_at(Header h) {
  return load_be<std::uint64_t>(h.data() + 8);
}

CommandNumbers numbers_at(Header h) {
  return {.immediate = immediate(h),
          .initiator_task_tag = u32_at(h, 16),
          .cmd_sn = u32_at(h, 24),
          .exp_stat_sn = u32_at(h, 28)};
}

Result<Request> decode_command(Header h) {
  std::uint8_t flags = byte_at(h, 1);
  ScsiCommand c{.numbers = numbers_at(h),
                .final = (flags & 0x80) != 0,
                .read = (flags & 0x40) != 0,
                .write = (flags & 0x20) != 0,
                .lun_field = lun_at(h),
                .expected_length = u32_at(h, 20)};
  switch (flags & 0x07) {
    case 2:
      c.attribute = scsi::TaskAttribute::ordered;
      break;
    case 3:
      c.attribute = scsi::TaskAttribute::head_of_queue;
      break;
    case 4:
      return fail(ErrorCode::invalid, "ACA task attribute");  // NORMACA is never set
    default:
      c.attribute = scsi::TaskAttribute::simple;
      break;
  }
  // A command that announces unsolicited data must have data to send (RFC 7143 11.3.1).
  if (!c.final && !c.write) return fail(ErrorCode::invalid, "read command without F bit");
  std::transform(h.begin() + 32, h.end(), c.cdb.begin(),
                 [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  return c;
}

Result<Request> decode_login(Header h) {
  std::uint8_t flags = byte_at(h, 1);
  LoginRequest r{.numbers = numbers_at(h),
                 .transit = (flags & 0x80) != 0,
                 .more = (flags & 0x40) != 0,
                 .version_max = byte_at(h, 2),
                 .version_min = byte_at(h, 3),
                 .tsih = u16_at(h, 14),
                 .connection_id = u16_at(h, 20)};
  int current = flags >> 2 & 3;
  int next = flags & 3;
  if (current != 0 && current != 1) return fail(ErrorCode::invalid, "login stage");
  r.current_stage = static_cast<Stage>(current);
  if (r.transit) {
    if (next == 2 || next <= current) return fail(ErrorCode::invalid, "next login stage");
    if (r.more) return fail(ErrorCode::invalid, "login with C and T bit");
    r.next_stage = static_cast<Stage>(next);
  }
  std::transform(h.begin() + 8, h.begin() + 14, r.isid.begin(),
                 [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  return r;
}

Result<Request> decode_text(Header h) {
  std::uint8_t flags = byte_at(h, 1);
  TextRequest r{.numbers = numbers_at(h),
                .final = (flags & 0x80) != 0,
                .more = (flags & 0x40) != 0,
                .target_transfer_tag = u32_at(h, 20)};
  if (r.final && r.more) return fail(ErrorCode::invalid, "text request with F and C bit");
  return r;
}

}  // namespace

Lengths lengths_of(Header header) {
  std::uint32_t word = load_be<std::uint32_t>(header.data() + 4);
  return {.additional_header = std::size_t{word >> 24} * 4, .data = word & 0xffffff};
}

std::uint8_t opcode_of(Header header) {
  return byte_at(header, 0) & 0x3f;
}

bool immediate(Header header) {
  return (byte_at(header, 0) & 0x40) != 0;
}

Result<Request> decode_request(Header h) {
  switch (static_cast<Opcode>(opcode_of(h))) {
    case Opcode::nop_out:
      return NopOut{
          .numbers = numbers_at(h), .lun_field = lun_at(h), .target_transfer_tag = u32_at(h, 20)};
    case Opcode::scsi_command:
      return decode_command(h);
    case Opcode::task_management:
      return TaskManagementRequest{.numbers = numbers_at(h),
                                   .function = static_cast<std::uint8_t>(byte_at(h, 1) & 0x7f),
                                   .lun_field = lun_at(h),
                                   .referenced_task_tag = u32_at(h, 20)};
    case Opcode::login:
      return decode_login(h);
    case Opcode::text:
      return decode_text(h);
    case Opcode::data_out:
      return DataOut{.final = (byte_at(h, 1) & 0x80) != 0,
                     .initiator_task_tag = u32_at(h, 16),
                     .target_transfer_tag = u32_at(h, 20),
                     .data_sn = u32_at(h, 36),
                     .buffer_offset = u32_at(h, 40)};
    case Opcode::logout:
      return LogoutRequest{.numbers = numbers_at(h),
                           .reason = static_cast<std::uint8_t>(byte_at(h, 1) & 0x7f),
                           .connection_id = u16_at(h, 20)};
    case Opcode::snack:
      return Snack{};
  }
  return fail(ErrorCode::refused, "opcode " + std::to_string(opcode_of(h)));
}

std::uint32_t bidirectional_read_length(Bytes rest) {
  // Each segment: 2 bytes length of what follows the type, type, then contents, padded to 4 bytes.
  while (rest.size() >= 8) {
    std::size_t length = load_be<std::uint16_t>(rest.data());
    if (rest[2] == std::byte{2} && length == 5) return load_be<std::uint32_t>(rest.data() + 4);
    std::size_t size = padded(length + 3);
    if (size > rest.size()) return 0;
    rest = rest.subspan(size);
  }
  return 0;
}

}  // namespace duet::iscsi
