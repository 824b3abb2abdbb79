// NOP, text, logout and task management of the full feature phase.
#include <algorithm>
#include <utility>

#include "iscsi/connection.h"
#include "iscsi/connection_detail.h"
#include "scsi/target_device.h"

namespace duet::iscsi {

void Connection::on_request(const NopOut& request, ReceivedPdu& pdu, Actions& actions) {
  if (!in_window(request.numbers, pdu.header, actions)) return;
  if (request.numbers.initiator_task_tag == reserved_tag) return;  // answers our ping
  std::vector<std::byte> echo;
  if (pdu.data_size > 0) {
    echo = flatten(pdu.data);
    echo.resize(std::min<std::size_t>(echo.size(), session_.parameters.initiator_max_receive));
  }
  NopIn answer{.lun_field = request.lun_field,
               .initiator_task_tag = request.numbers.initiator_task_tag,
               .numbers = numbers(true)};
  sender_.put_copy(answer, echo, actions.send);
}

void Connection::on_request(const LoginRequest&, ReceivedPdu& pdu, Actions& actions) {
  reject(RejectReason::protocol_error, pdu.header, actions);
  close(true, actions);
}

// Error recovery level 0: nothing is kept that could be sent again.
void Connection::on_request(const Snack&, ReceivedPdu& pdu, Actions& actions) {
  reject(RejectReason::snack, pdu.header, actions);
}

void Connection::on_request(const LogoutRequest& request, ReceivedPdu& pdu, Actions& actions) {
  if (!in_window(request.numbers, pdu.header, actions)) return;
  LogoutResponse answer{.initiator_task_tag = request.numbers.initiator_task_tag};
  if (request.reason == 2) {
    answer.result = LogoutResult::recovery_not_supported;
  } else if (request.reason > 2) {
    reject(RejectReason::invalid_field, pdu.header, actions);
    return;
  } else if (request.reason == 1 && request.connection_id != session_.connection_id) {
    answer.result = LogoutResult::connection_not_found;
  }
  answer.numbers = numbers(true);
  sender_.put(answer, actions.send);
  if (answer.result == LogoutResult::success) close(true, actions);
}

// ---- text: SendTargets ----

void Connection::on_request(const TextRequest& request, ReceivedPdu& pdu, Actions& actions) {
  if (!in_window(request.numbers, pdu.header, actions)) return;
  bool continues = request.target_transfer_tag != reserved_tag;
  if (continues && request.target_transfer_tag != text_tag_) {
    reject(RejectReason::invalid_field, pdu.header, actions);
    return;
  }
  if (!continues) {  // a new exchange ends the one before
    text_in_.clear();
    text_out_.clear();
    text_tag_ = reserved_tag;
  }
  if (pdu.data_size > max_text_size - text_in_.size()) {
    reject(RejectReason::invalid_field, pdu.header, actions);
    close(true, actions);
    return;
  }
  auto bytes = flatten(pdu.data);
  text_in_.insert(text_in_.end(), bytes.begin(), bytes.end());
  if (!request.more && text_out_.empty()) {
    auto pairs = parse_text(text_in_);
    text_in_.clear();
    if (!pairs) {
      reject(RejectReason::protocol_error, pdu.header, actions);
      return;
    }
    text_out_ = answer_text(*pairs);
  }
  send_text(request, actions);
}

void Connection::send_text(const TextRequest& request, Actions& actions) {
  std::size_t size =
      std::min<std::size_t>(text_out_.size(), session_.parameters.initiator_max_receive);
  bool rest = size < text_out_.size();
  TextResponse answer{.final = request.final && !rest,
                      .more = rest,
                      .initiator_task_tag = request.numbers.initiator_task_tag};
  if (!answer.final) {
    if (text_tag_ == reserved_tag) text_tag_ = next_transfer_tag(session_);
    answer.target_transfer_tag = text_tag_;
  } else {
    text_tag_ = reserved_tag;
  }
  answer.numbers = numbers(true);
  auto bytes = std::as_bytes(std::span(text_out_));
  sender_.put_copy(answer, bytes.first(size), actions.send);
  text_out_.erase(0, size);
}

std::string Connection::answer_text(const std::vector<KeyValue>& pairs) {
  std::string text;
  for (const auto& pair : pairs) {
    if (pair.key == "SendTargets") {
      text += send_targets(pair.value);
    } else if (pair.key == "MaxRecvDataSegmentLength") {  // may be declared anew at any time
      auto size = parse_number(pair.value);
      if (size && *size >= 512) session_.parameters.initiator_max_receive = *size;
    } else {
      text += format_text({{pair.key, "Reject"}});
    }
  }
  return text;
}

// RFC 7143 appendix C: All in discovery sessions only, a name, or nothing for the session's own.
std::string Connection::send_targets(const std::string& value) const {
  if (value == "All" && !session_.discovery) return format_text({{"SendTargets", "Reject"}});
  std::string text;
  std::string_view wanted = value.empty() ? std::string_view(session_.target_name) : value;
  for (const auto& target : directory_->discover()) {
    if (wanted != "All" && wanted != target.name) continue;
    text += format_text({{"TargetName", target.name}});
    for (const auto& address : target.addresses) {
      text += format_text({{"TargetAddress", address}});
    }
  }
  return text;
}

// ---- task management ----

void Connection::on_request(const TaskManagementRequest& request, ReceivedPdu& pdu,
                            Actions& actions) {
  if (!in_window(request.numbers, pdu.header, actions)) return;
  std::uint32_t tag = request.numbers.initiator_task_tag;
  if (session_.discovery) {
    reject(RejectReason::protocol_error, pdu.header, actions);
  } else if (request.function == 8) {  // TASK REASSIGN
    answer_management(tag, TaskManagementResult::reassignment_not_supported, actions);
  } else if (request.function == 0 || request.function > 8) {
    answer_management(tag, TaskManagementResult::not_supported, actions);
  } else if (management_.size() >= max_task_management) {
    reject(RejectReason::too_many_immediate_commands, pdu.header, actions);
  } else {
    manage(request, static_cast<scsi::TaskManagement>(request.function), actions);
  }
}

void Connection::manage(const TaskManagementRequest& request, scsi::TaskManagement function,
                        Actions& actions) {
  using enum scsi::TaskManagement;
  ManageTasks order{.function = function, .lun = scsi::decode_lun(request.lun_field), .task = {}};
  switch (function) {
    case abort_task: {
      // Commands arrive in order here, so a task that is not there was never sent or is answered.
      Task* task = tasks_.find_by_initiator_tag(request.referenced_task_tag);
      if (task == nullptr) {
        answer_management(request.numbers.initiator_task_tag,
                          TaskManagementResult::task_does_not_exist, actions);
        return;
      }
      if (task->state != Task::State::at_unit) {
        finish(*task, actions);
        answer_management(request.numbers.initiator_task_tag,
                          TaskManagementResult::function_complete, actions);
        return;
      }
      order.lun = task->lun;
      order.task = tag_of(*task);
      break;
    }
    case abort_task_set:
    case clear_task_set:
    case logical_unit_reset:
      drop_collecting(request.lun_field, actions);
      break;
    case target_warm_reset:
    case target_cold_reset:
      drop_collecting({}, actions);
      break;
    case clear_aca:
      break;
  }
  order.request = ++last_management_;
  management_.push_back({order.request, request.numbers.initiator_task_tag});
  actions.orders.emplace_back(order);
}

// Aborts what has not reached a unit yet.
void Connection::drop_collecting(std::optional<std::uint64_t> lun_field, Actions& actions) {
  tasks_.for_each([&](Task& task) {
    if (task.state == Task::State::at_unit) return;
    if (!lun_field || task.lun_field == *lun_field) finish(task, actions);
  });
}

void Connection::answer_management(std::uint32_t initiator_task_tag, TaskManagementResult result,
                                   Actions& actions) {
  TaskManagementResponse answer{
      .result = result, .initiator_task_tag = initiator_task_tag, .numbers = numbers(true)};
  sender_.put(answer, actions.send);
}

void Connection::on_task_management_done(std::uint32_t request, TaskManagementResult result,
                                         Actions& actions) {
  auto found = std::ranges::find(management_, request, &PendingManagement::request);
  if (found == management_.end()) return;
  std::uint32_t tag = found->initiator_task_tag;
  management_.erase(found);
  if (phase_ == Phase::full_feature) answer_management(tag, result, actions);
}

}  // namespace duet::iscsi
