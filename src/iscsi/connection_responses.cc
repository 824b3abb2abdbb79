// Answers of logical units on their way to the initiator.
#include <algorithm>
#include <utility>

#include "iscsi/connection.h"
#include "iscsi/connection_detail.h"

namespace duet::iscsi {
namespace {

// RFC 7143 11.4.5.
Residual residual(std::uint32_t expected, std::uint64_t actual) {
  if (actual > expected) {
    return {.overflow = true, .count = static_cast<std::uint32_t>(actual - expected)};
  }
  if (actual < expected) {
    return {.underflow = true, .count = static_cast<std::uint32_t>(expected - actual)};
  }
  return {};
}

// Cuts `size` bytes off the front of `rest` into `piece`.
void cut(std::span<Slice>& rest, std::size_t size, std::vector<Slice>& piece) {
  piece.clear();
  while (size > 0) {
    Slice& front = rest.front();
    std::size_t n = std::min(size, front.bytes.size());
    piece.push_back({front.owner, front.bytes.first(n)});
    front.bytes = front.bytes.subspan(n);
    if (front.bytes.empty()) rest = rest.subspan(1);
    size -= n;
  }
}

}  // namespace

void Connection::on_response(scsi::CommandTag tag, scsi::Response&& response, Actions& actions) {
  Task* task = find(tag);
  if (task == nullptr || task->state != Task::State::at_unit) return;
  if (phase_ == Phase::closed) {
    finish(*task, actions);
    return;
  }
  answer(*task, std::move(response), actions);
}

void Connection::on_aborted(scsi::CommandTag tag, Actions& actions) {
  Task* task = find(tag);
  if (task == nullptr || task->state != Task::State::at_unit) return;
  bool window_was_closed = window_used_ == command_window;
  finish(*task, actions);
  // Nobody answers for this command; tell an initiator that waits for the window all the same.
  if (window_was_closed && phase_ == Phase::full_feature) {
    sender_.put(NopIn{.numbers = numbers(false)}, actions.send);
  }
}

// Requires: full feature phase.
void Connection::answer(Task& task, scsi::Response&& response, Actions& actions) {
  std::uint64_t data_size = 0;
  for (const auto& slice : response.data_in) data_size += slice.bytes.size();
  auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(data_size, task.in_expected));
  Residual read_residual = residual(task.in_expected, data_size);
  Residual write_residual = residual(task.out_expected, response.data_out_wanted);
  bool bidirectional = task.read && task.write;
  bool write = task.write;
  std::uint32_t itt = task.initiator_task_tag;
  std::uint32_t data_sn = task.r2t_sn;

  // Status travels with the last data when there is nothing more to say (RFC 7143 11.7.3).
  bool with_data = size > 0 && response.sense.empty() && !bidirectional &&
                   (response.status == scsi::StatusCode::good ||
                    response.status == scsi::StatusCode::condition_met);
  // The task ends first, so that the answer opens the window for the next command.
  finish(task, actions);
  if (size > 0) {
    DataIn first{.status = response.status,
                 .residual = read_residual,
                 .initiator_task_tag = itt,
                 .data_sn = data_sn};
    data_sn += send_data_in(first, response, size, with_data, actions);
    if (with_data) return;
  }
  ScsiResponse answer{.status = response.status,
                      .initiator_task_tag = itt,
                      .exp_data_sn = data_sn,
                      .residual = write ? write_residual : read_residual,
                      .read_residual = bidirectional ? read_residual : Residual{},
                      .numbers = numbers(true)};
  if (response.sense.empty()) {
    sender_.put(answer, actions.send);
    return;
  }
  std::vector<std::byte> sense(2 + response.sense.size());
  store_be(sense.data(), static_cast<std::uint16_t>(response.sense.size()));
  std::ranges::copy(response.sense, sense.begin() + 2);
  sender_.put_copy(answer, sense, actions.send);
}

// Sends the first `size` bytes of data-in, `pdu` being the first unit; the number of units that
// took.
std::uint32_t Connection::send_data_in(DataIn pdu, scsi::Response& response, std::uint32_t size,
                                       bool with_status, Actions& actions) {
  const auto& p = session_.parameters;
  std::uint32_t first_data_sn = pdu.data_sn;
  std::span<Slice> rest(response.data_in);
  std::vector<Slice> piece;
  std::uint32_t burst_left = p.max_burst_length;
  while (pdu.buffer_offset < size) {
    std::uint32_t n = std::min({size - pdu.buffer_offset, p.initiator_max_receive, burst_left});
    bool last = pdu.buffer_offset + n == size;
    burst_left -= n;
    pdu.final = last || burst_left == 0;
    pdu.has_status = last && with_status;
    pdu.numbers = numbers(pdu.has_status);
    if (burst_left == 0) burst_left = p.max_burst_length;
    cut(rest, n, piece);
    sender_.put(pdu, piece, n, actions.send);
    pdu.buffer_offset += n;
    ++pdu.data_sn;
  }
  return pdu.data_sn - first_data_sn;
}

}  // namespace duet::iscsi
