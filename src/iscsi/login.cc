#include "iscsi/login.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace duet::iscsi {
namespace {

constexpr std::string_view identity_keys[] = {"InitiatorName", "TargetName", "SessionType"};

const std::string* find_value(const std::vector<KeyValue>& pairs, std::string_view key) {
  auto found = std::ranges::find(pairs, key, &KeyValue::key);
  return found == pairs.end() ? nullptr : &found->value;
}

Login::State stage_state(Stage stage) {
  switch (stage) {
    case Stage::security:
      return Login::State::security;
    case Stage::operational:
      return Login::State::operational;
    case Stage::full_feature:
      return Login::State::admission;
  }
  UNREACHABLE();
}

}  // namespace

LoginResponse Login::failure(const LoginRequest& request, LoginStatus status) {
  return {.current_stage = request.current_stage,
          .isid = request.isid,
          .tsih = request.tsih,
          .initiator_task_tag = request.numbers.initiator_task_tag,
          .status = status};
}

Login::Step Login::on_request(const LoginRequest& request, Bytes text) {
  ASSERT(state_ != State::admission && state_ != State::failed);
  auto failed = [&](LoginStatus status) {
    state_ = State::failed;
    return Step{.response = failure(request, status), .text = {}, .state = state_};
  };
  if (auto status = check_header(request); status != LoginStatus::success) return failed(status);
  if (text.size() > max_text_size - text_.size()) return failed(LoginStatus::initiator_error);
  text_.insert(text_.end(), text.begin(), text.end());

  Step step{.response = failure(request, LoginStatus::success), .text = {}, .state = state_};
  if (request.more) return step;  // an empty response asks for the rest

  auto pairs = parse_text(text_);
  text_.clear();
  if (!pairs) return failed(LoginStatus::initiator_error);
  std::vector<KeyValue> answers;
  if (auto status = take_pairs(*pairs, answers); status != LoginStatus::success) {
    return failed(status);
  }
  if (request.current_stage == Stage::operational) negotiation_.declare(answers);
  if (request.transit) {
    step.response.transit = true;
    step.response.next_stage = request.next_stage;
    state_ = stage_state(request.next_stage);
    if (state_ == State::admission) session_.parameters = negotiation_.result();
  }
  step.text = format_text(answers);
  step.state = state_;
  return step;
}

LoginStatus Login::check_header(const LoginRequest& request) {
  if (request.version_min > 0) return LoginStatus::unsupported_version;
  if (state_ == State::start) {
    // Error recovery level 0 and one connection per session: there is nothing to join.
    if (request.tsih != 0) return LoginStatus::session_does_not_exist;
    first_ = request;
    session_.isid = request.isid;
    session_.connection_id = request.connection_id;
    state_ = stage_state(request.current_stage);
    return LoginStatus::success;
  }
  bool same = request.isid == first_.isid && request.tsih == first_.tsih &&
              request.connection_id == first_.connection_id &&
              request.numbers.initiator_task_tag == first_.numbers.initiator_task_tag;
  if (!same || stage_state(request.current_stage) != state_) {
    return LoginStatus::invalid_during_login;
  }
  return LoginStatus::success;
}

LoginStatus Login::take_pairs(const std::vector<KeyValue>& pairs, std::vector<KeyValue>& answers) {
  bool first = !identified_;
  if (first) {
    if (auto status = take_identity(pairs); status != LoginStatus::success) return status;
    introduce(answers);
  }
  for (const auto& pair : pairs) {
    if (std::ranges::find(identity_keys, pair.key) != std::end(identity_keys)) {
      if (!first) return LoginStatus::initiator_error;  // said once, at the beginning
    } else if (pair.key == "AuthMethod") {
      if (auto status = authenticate(pair.value, answers); status != LoginStatus::success) {
        return status;
      }
    } else if (negotiation_.take(pair, answers) != NegotiationError::none) {
      return LoginStatus::initiator_error;
    }
  }
  return LoginStatus::success;
}

LoginStatus Login::take_identity(const std::vector<KeyValue>& pairs) {
  for (auto key : identity_keys) {
    if (std::ranges::count(pairs, key, &KeyValue::key) > 1) return LoginStatus::initiator_error;
  }
  const auto* initiator = find_value(pairs, "InitiatorName");
  if (initiator == nullptr) return LoginStatus::missing_parameter;
  if (!valid_iscsi_name(*initiator)) return LoginStatus::initiator_error;
  session_.initiator_name = *initiator;
  identified_ = true;

  const auto* type = find_value(pairs, "SessionType");
  if (type != nullptr && *type == "Discovery") {
    session_.discovery = true;
    return LoginStatus::success;
  }
  if (type != nullptr && *type != "Normal") return LoginStatus::session_type_not_supported;
  const auto* target = find_value(pairs, "TargetName");
  if (target == nullptr) return LoginStatus::missing_parameter;
  auto info = directory_->find(*target);
  if (!info) return LoginStatus::target_not_found;
  if (!info->ready) return LoginStatus::service_unavailable;
  session_.target_name = *target;
  return LoginStatus::success;
}

LoginStatus Login::authenticate(const std::string& methods, std::vector<KeyValue>& answers) {
  if (authenticated_) return LoginStatus::initiator_error;
  auto offered = split_list(methods);
  if (std::ranges::find(offered, "None") == offered.end()) {
    return LoginStatus::authentication_failed;
  }
  authenticated_ = true;
  answers.push_back({"AuthMethod", "None"});
  return LoginStatus::success;
}

// RFC 7143 13.9: the portal group tag is part of the first response to a named target.
void Login::introduce(std::vector<KeyValue>& answers) {
  if (session_.discovery) return;
  answers.push_back({"TargetPortalGroupTag", std::to_string(portal_group_tag_)});
  auto info = directory_->find(session_.target_name);
  if (info && !info->alias.empty()) answers.push_back({"TargetAlias", info->alias});
}

}  // namespace duet::iscsi
