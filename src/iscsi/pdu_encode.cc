#include <algorithm>

#include "iscsi/pdu.h"

namespace duet::iscsi {
namespace {

constexpr std::uint8_t final_bit = 0x80;

void put8(MutableHeader h, std::size_t i, unsigned v) {
  h[i] = static_cast<std::byte>(v);
}
void put16(MutableHeader h, std::size_t i, std::uint16_t v) {
  store_be(h.data() + i, v);
}
void put32(MutableHeader h, std::size_t i, std::uint32_t v) {
  store_be(h.data() + i, v);
}
void put64(MutableHeader h, std::size_t i, std::uint64_t v) {
  store_be(h.data() + i, v);
}

void start(MutableHeader h, std::uint8_t opcode, std::uint8_t flags, std::size_t data_size) {
  std::ranges::fill(h, std::byte{0});
  put8(h, 0, opcode);
  put8(h, 1, flags);
  put32(h, 4, static_cast<std::uint32_t>(data_size));  // no additional header: high byte 0
}

void put_numbers(MutableHeader h, const AnswerNumbers& n) {
  put32(h, 24, n.stat_sn);
  put32(h, 28, n.exp_cmd_sn);
  put32(h, 32, n.max_cmd_sn);
}

std::uint8_t residual_flags(const Residual& r) {
  return static_cast<std::uint8_t>((r.overflow ? 0x04 : 0) | (r.underflow ? 0x02 : 0));
}

}  // namespace

void encode(const NopIn& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x20, final_bit, data_size);
  put64(out, 8, pdu.lun_field);
  put32(out, 16, pdu.initiator_task_tag);
  put32(out, 20, pdu.target_transfer_tag);
  put_numbers(out, pdu.numbers);
}

void encode(const ScsiResponse& pdu, std::size_t data_size, MutableHeader out) {
  auto read_flags = static_cast<std::uint8_t>((pdu.read_residual.overflow ? 0x10 : 0) |
                                              (pdu.read_residual.underflow ? 0x08 : 0));
  start(out, 0x21, final_bit | read_flags | residual_flags(pdu.residual), data_size);
  put8(out, 3, static_cast<std::uint8_t>(pdu.status));  // byte 2: completed at target
  put32(out, 16, pdu.initiator_task_tag);
  put_numbers(out, pdu.numbers);
  put32(out, 36, pdu.exp_data_sn);
  put32(out, 40, pdu.read_residual.count);
  put32(out, 44, pdu.residual.count);
}

void encode(const DataIn& pdu, std::size_t data_size, MutableHeader out) {
  std::uint8_t flags = pdu.final ? final_bit : 0;
  if (pdu.has_status) flags |= 0x01 | residual_flags(pdu.residual);
  start(out, 0x25, flags, data_size);
  put32(out, 16, pdu.initiator_task_tag);
  put32(out, 20, reserved_tag);
  put_numbers(out, pdu.numbers);
  if (pdu.has_status) {
    put8(out, 3, static_cast<std::uint8_t>(pdu.status));
    put32(out, 44, pdu.residual.count);
  } else {
    put32(out, 24, 0);
  }
  put32(out, 36, pdu.data_sn);
  put32(out, 40, pdu.buffer_offset);
}

void encode(const ReadyToTransfer& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x31, final_bit, data_size);
  put64(out, 8, pdu.lun_field);
  put32(out, 16, pdu.initiator_task_tag);
  put32(out, 20, pdu.target_transfer_tag);
  put_numbers(out, pdu.numbers);
  put32(out, 36, pdu.r2t_sn);
  put32(out, 40, pdu.buffer_offset);
  put32(out, 44, pdu.desired_length);
}

void encode(const TaskManagementResponse& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x22, final_bit, data_size);
  put8(out, 2, static_cast<std::uint8_t>(pdu.result));
  put32(out, 16, pdu.initiator_task_tag);
  put_numbers(out, pdu.numbers);
}

void encode(const LoginResponse& pdu, std::size_t data_size, MutableHeader out) {
  auto flags = static_cast<std::uint8_t>((pdu.transit ? 0x80 : 0) | (pdu.more ? 0x40 : 0) |
                                         static_cast<int>(pdu.current_stage) << 2 |
                                         (pdu.transit ? static_cast<int>(pdu.next_stage) : 0));
  start(out, 0x23, flags, data_size);  // versions: 0 is the only one
  for (std::size_t i = 0; i < pdu.isid.size(); ++i) put8(out, 8 + i, pdu.isid[i]);
  put16(out, 14, pdu.tsih);
  put32(out, 16, pdu.initiator_task_tag);
  put_numbers(out, pdu.numbers);
  put16(out, 36, static_cast<std::uint16_t>(pdu.status));
}

void encode(const TextResponse& pdu, std::size_t data_size, MutableHeader out) {
  auto flags = static_cast<std::uint8_t>((pdu.final ? 0x80 : 0) | (pdu.more ? 0x40 : 0));
  start(out, 0x24, flags, data_size);
  put32(out, 16, pdu.initiator_task_tag);
  put32(out, 20, pdu.target_transfer_tag);
  put_numbers(out, pdu.numbers);
}

void encode(const LogoutResponse& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x26, final_bit, data_size);
  put8(out, 2, static_cast<std::uint8_t>(pdu.result));
  put32(out, 16, pdu.initiator_task_tag);
  put_numbers(out, pdu.numbers);
  // Time2Wait and Time2Retain 0: come back at once, nothing is retained.
}

void encode(const Reject& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x3f, final_bit, data_size);
  put8(out, 2, static_cast<std::uint8_t>(pdu.reason));
  put32(out, 16, reserved_tag);
  put_numbers(out, pdu.numbers);
}

void encode(const AsyncLogoutRequest& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x32, final_bit, data_size);
  put32(out, 16, reserved_tag);
  put_numbers(out, pdu.numbers);
  put8(out, 36, 1);  // event: request logout
  put16(out, 42, pdu.seconds);
}

void encode(const AsyncSessionDrop& pdu, std::size_t data_size, MutableHeader out) {
  start(out, 0x32, final_bit, data_size);
  put32(out, 16, reserved_tag);
  put_numbers(out, pdu.numbers);
  put8(out, 36, 3);  // event: all connections of the session are dropped
  put16(out, 40, pdu.time_to_wait);
  put16(out, 42, pdu.time_to_retain);
}

}  // namespace duet::iscsi
