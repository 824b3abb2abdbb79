// SCSI commands and their data-out on the way to a logical unit.
#include <algorithm>
#include <utility>

#include "iscsi/connection.h"
#include "iscsi/connection_detail.h"
#include "scsi/sense.h"
#include "scsi/target_device.h"

namespace duet::iscsi {
namespace {

// RFC 7143 11.4.7.2.
constexpr scsi::Sense unexpected_unsolicited_data{scsi::SenseKey::aborted_command, 0x0c, 0x0c};
constexpr scsi::Sense incorrect_amount_of_data{scsi::SenseKey::aborted_command, 0x0c, 0x0d};

bool older(const Task& a, const Task& b) {
  return static_cast<std::int32_t>(a.serial - b.serial) < 0;
}

void fail_task(Task& task, const scsi::Sense& sense) {
  task.state = Task::State::failing;
  task.failure = scsi::check_condition(sense);
  task.failure.data_out_wanted = task.out_expected;
  task.data.clear();
}

}  // namespace

void Connection::on_request(const ScsiCommand& request, ReceivedPdu& pdu, Actions& actions) {
  const auto& n = request.numbers;
  if (!in_window(n, pdu.header, actions)) return;
  if (session_.discovery) {
    reject(RejectReason::protocol_error, pdu.header, actions);
    close(true, actions);
    return;
  }
  if (n.immediate && immediate_used_ >= max_immediate_commands) {
    reject(RejectReason::too_many_immediate_commands, pdu.header, actions);
    return;
  }
  if (n.initiator_task_tag == reserved_tag ||
      tasks_.find_by_initiator_tag(n.initiator_task_tag) != nullptr) {
    reject(RejectReason::task_in_progress, pdu.header, actions);
    return;
  }
  Task* task = tasks_.add(n.initiator_task_tag);
  ASSERT(task != nullptr);  // the window and the immediate bound hold it
  task->immediate = n.immediate;
  ++(n.immediate ? immediate_used_ : window_used_);
  task->lun = scsi::decode_lun(request.lun_field);
  task->lun_field = request.lun_field;
  task->attribute = request.attribute;
  task->cdb = request.cdb;
  task->read = request.read;
  task->write = request.write;
  if (request.write) {
    task->out_expected = request.expected_length;
    if (request.read) task->in_expected = bidirectional_read_length(pdu.additional_header);
  } else if (request.read) {
    task->in_expected = request.expected_length;
  }
  take_immediate_data(*task, request, pdu);
  go_on(*task, actions);
}

void Connection::take_immediate_data(Task& task, const ScsiCommand& request, ReceivedPdu& pdu) {
  const auto& p = session_.parameters;
  task.unsolicited_open = !request.final && !p.initial_r2t;
  std::uint32_t unsolicited_most = std::min(task.out_expected, p.first_burst_length);
  if (task.out_expected > max_command_data_out) {
    fail_task(task, scsi::sense::invalid_field_in_cdb);
  } else if ((!request.final && p.initial_r2t) || (pdu.data_size > 0 && !p.immediate_data)) {
    fail_task(task, unexpected_unsolicited_data);
  } else if (pdu.data_size > unsolicited_most) {
    fail_task(task, incorrect_amount_of_data);
  } else if (pdu.data_size > 0) {
    append_data(task, pdu);
  }
}

void Connection::append_data(Task& task, ReceivedPdu& pdu) {
  task.collected += static_cast<std::uint32_t>(pdu.data_size);
  if (task.data.empty()) {
    task.data = std::move(pdu.data);
  } else {
    std::ranges::move(pdu.data, std::back_inserter(task.data));
  }
}

void Connection::on_request(const DataOut& request, ReceivedPdu& pdu, Actions& actions) {
  Task* task = tasks_.find_by_initiator_tag(request.initiator_task_tag);
  // Data of a command that was aborted or answered in the meantime is not wanted any more.
  if (task == nullptr) return;
  if (task->state != Task::State::collecting && task->state != Task::State::failing) return;
  if (!take_data_out(*task, request, pdu) && task->state == Task::State::collecting) {
    fail_task(*task, incorrect_amount_of_data);
  }
  go_on(*task, actions);
}

// False when the data is not what was asked for, in tag, number, place or size. The end of a
// sequence is noted even so: a failing task is answered after it.
bool Connection::take_data_out(Task& task, const DataOut& request, ReceivedPdu& pdu) {
  bool collecting = task.state == Task::State::collecting;
  auto size = static_cast<std::uint32_t>(pdu.data_size);
  if (request.target_transfer_tag == reserved_tag) {
    if (!task.unsolicited_open) return false;
    std::uint32_t most = std::min(task.out_expected, session_.parameters.first_burst_length);
    bool right = request.data_sn == task.unsolicited_data_sn &&
                 request.buffer_offset == task.collected && size <= most - task.collected;
    ++task.unsolicited_data_sn;
    if (request.final) task.unsolicited_open = false;
    if (collecting && right) append_data(task, pdu);
    return right;
  }
  // Sequences come in the order of their R2Ts (DataSequenceInOrder=Yes).
  if (std::ranges::find(task.stretches, request.target_transfer_tag,
                        &ReadyStretch::target_transfer_tag) == task.stretches.end()) {
    task.stretches.clear();  // an initiator that makes tags up: do not wait for the right ones
    return false;
  }
  auto& stretch = task.stretches.front();
  bool right = request.target_transfer_tag == stretch.target_transfer_tag &&
               request.data_sn == stretch.data_sn && request.buffer_offset == stretch.next_offset &&
               size <= stretch.end - stretch.next_offset;
  if (right) {
    ++stretch.data_sn;
    stretch.next_offset += size;
    right = request.final == (stretch.next_offset == stretch.end);
  }
  if (request.final) {
    std::erase_if(task.stretches, [&](const ReadyStretch& each) {
      return each.target_transfer_tag == request.target_transfer_tag;
    });
  }
  if (collecting && right) append_data(task, pdu);
  return right;
}

// What comes next for a task whose data-out has changed.
void Connection::go_on(Task& task, Actions& actions) {
  if (task.unsolicited_open) return;
  if (task.state == Task::State::failing) {
    // The initiator still sends what it was asked for; an answer before that would confuse it.
    if (!task.stretches.empty()) return;
    scsi::Response failure = std::move(task.failure);  // the task ends before it is encoded
    answer(task, std::move(failure), actions);
    return;
  }
  if (task.collected == task.out_expected) {
    offer(task, actions);
  } else {
    request_data(task, actions);
  }
}

// ---- ready to transfer ----

void Connection::request_data(Task& task, Actions& actions) {
  if (held_ || task.awaits_budget || !grant_budget(task)) return;
  const auto& p = session_.parameters;
  task.requested = std::max(task.requested, task.collected);
  while (task.requested < task.out_expected && task.stretches.size() < p.max_outstanding_r2t) {
    std::uint32_t length = std::min(task.out_expected - task.requested, p.max_burst_length);
    ReadyToTransfer r2t{.lun_field = task.lun_field,
                        .initiator_task_tag = task.initiator_task_tag,
                        .target_transfer_tag = next_transfer_tag(session_),
                        .r2t_sn = task.r2t_sn++,
                        .buffer_offset = task.requested,
                        .desired_length = length,
                        .numbers = numbers(false)};
    sender_.put(r2t, actions.send);
    task.stretches.push_back({.target_transfer_tag = r2t.target_transfer_tag,
                              .next_offset = task.requested,
                              .end = task.requested + length});
    task.requested += length;
  }
}

// A command gets room for all its solicited data at once, in order of arrival: two that each hold a
// part could wait for each other for ever.
bool Connection::grant_budget(Task& task) {
  if (task.budget > 0) return true;
  std::uint64_t wanted = task.out_expected - task.collected;
  if (!awaiting_budget_.empty() || wanted > budget_left_) {
    task.awaits_budget = true;
    awaiting_budget_.push_back(tasks_.tag_of(task));
    return false;
  }
  task.budget = wanted;
  budget_left_ -= wanted;
  return true;
}

// ---- to the unit ----

// An ORDERED command may not overtake older ones that still collect data, and nothing but HEAD OF
// QUEUE may overtake it (SAM-5 8.6): they wait here, the first of them ORDERED. Without ORDERED
// commands nobody waits.
void Connection::offer(Task& task, Actions& actions) {
  bool behind_ordered = !waiting_.empty() && older(*tasks_.find_by_tag(waiting_.front()), task);
  bool ordered_too_soon =
      task.attribute == scsi::TaskAttribute::ordered && older_collecting(task.serial);
  task.state = Task::State::ready;
  bool in_turn = task.attribute == scsi::TaskAttribute::head_of_queue ||
                 (!behind_ordered && !ordered_too_soon);
  if (held_ || !in_turn) {
    auto place = std::ranges::find_if(
        waiting_, [&](std::uint32_t tag) { return older(task, *tasks_.find_by_tag(tag)); });
    waiting_.insert(place, tasks_.tag_of(task));
  } else {
    submit(task, actions);
  }
  submit_waiting(actions);
}

void Connection::submit_waiting(Actions& actions) {
  while (!held_ && !waiting_.empty()) {
    Task& task = *tasks_.find_by_tag(waiting_.front());
    if (task.attribute == scsi::TaskAttribute::ordered && older_collecting(task.serial)) return;
    waiting_.erase(waiting_.begin());
    submit(task, actions);
  }
}

void Connection::resume(Actions& actions) {
  held_ = false;
  logout_deadline_.reset();
  if (phase_ != Phase::full_feature) return;
  auto urgent = waiting_;
  std::erase_if(urgent, [&](std::uint32_t tag) {
    return tasks_.find_by_tag(tag)->attribute != scsi::TaskAttribute::head_of_queue;
  });
  for (std::uint32_t tag : urgent) {
    std::erase(waiting_, tag);
    submit(*tasks_.find_by_tag(tag), actions);
  }
  tasks_.for_each([&](Task& task) {
    if (task.state == Task::State::collecting) go_on(task, actions);
  });
  submit_waiting(actions);
}

std::vector<StoredRequest> Connection::waiting_requests() {
  std::vector<const Task*> tasks;
  tasks_.for_each([&](const Task& task) {
    if (task.state == Task::State::collecting || task.state == Task::State::ready) {
      tasks.push_back(&task);
    }
  });
  std::ranges::sort(tasks, [](const Task* a, const Task* b) { return older(*a, *b); });
  std::vector<StoredRequest> requests;
  for (const Task* task : tasks) {
    requests.push_back({.initiator_name = session_.initiator_name,
                        .isid = session_.isid,
                        .relative_target_port = session_.relative_target_port,
                        .initiator_task_tag = task->initiator_task_tag,
                        .lun_field = task->lun_field,
                        .cdb = task->cdb});
  }
  return requests;
}

bool Connection::older_collecting(std::uint32_t serial) {
  bool found = false;
  tasks_.for_each([&](const Task& task) {
    found = found || (task.state == Task::State::collecting &&
                      static_cast<std::int32_t>(task.serial - serial) < 0);
  });
  return found;
}

void Connection::submit(Task& task, Actions& actions) {
  task.state = Task::State::at_unit;
  ++at_unit_;
  actions.orders.emplace_back(SubmitCommand{.lun = task.lun,
                                            .command = {.tag = tag_of(task),
                                                        .nexus = session_.nexus(),
                                                        .attribute = task.attribute,
                                                        .cdb = task.cdb,
                                                        .data_out = std::move(task.data),
                                                        .data_in_expected = task.in_expected}});
}

// The task is over, answered or not. Room it held goes to those who wait.
void Connection::finish(Task& task, Actions& actions) {
  if (task.state == Task::State::at_unit) --at_unit_;
  if (task.state == Task::State::ready) std::erase(waiting_, tasks_.tag_of(task));
  if (task.awaits_budget) std::erase(awaiting_budget_, tasks_.tag_of(task));
  --(task.immediate ? immediate_used_ : window_used_);
  budget_left_ += task.budget;
  tasks_.remove(task);
  if (phase_ == Phase::closed) return;
  while (!awaiting_budget_.empty()) {
    Task& next = *tasks_.find_by_tag(awaiting_budget_.front());
    std::uint64_t wanted = next.out_expected - next.collected;
    if (wanted > budget_left_) break;
    awaiting_budget_.pop_front();
    next.awaits_budget = false;
    next.budget = wanted;
    budget_left_ -= wanted;
    request_data(next, actions);
  }
  submit_waiting(actions);
}

}  // namespace duet::iscsi
