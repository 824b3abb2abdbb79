#include "iscsi/connection.h"

#include <algorithm>
#include <utility>

#include "iscsi/connection_detail.h"

namespace duet::iscsi {

Connection::Connection(std::uint32_t number, const TargetDirectory& directory,
                       std::uint16_t portal_group_tag, std::uint16_t relative_target_port,
                       Instant now)
    : number_(number),
      directory_(&directory),
      login_(std::in_place, directory, portal_group_tag),
      started_(now),
      last_received_(now) {
  session_.portal_group_tag = portal_group_tag;
  session_.relative_target_port = relative_target_port;
}

Connection::Connection(std::uint32_t number, const TargetDirectory& directory, SessionState session,
                       Instant now)
    : number_(number),
      directory_(&directory),
      phase_(Phase::full_feature),
      numbered_(true),
      session_(std::move(session)),
      started_(now),
      last_received_(now) {
  receiver_.set_max_data_segment(max_receive_data_segment);
  receiver_.set_digests(session_.parameters.header_digest, session_.parameters.data_digest);
  sender_.set_digests(session_.parameters.header_digest, session_.parameters.data_digest);
}

MutableBytes Connection::receive_buffer() {
  return phase_ == Phase::closed ? MutableBytes() : receiver_.buffer();
}

void Connection::on_received(std::size_t size, Instant now, Actions& actions) {
  if (phase_ == Phase::closed) return;
  last_received_ = now;
  pinged_.reset();
  receiver_.received(size);
  process(actions);
}

void Connection::process(Actions& actions) {
  ReceivedPdu pdu;
  while (phase_ == Phase::login || phase_ == Phase::full_feature) {
    switch (receiver_.next(pdu)) {
      case Receiver::Outcome::need_more:
        return;
      case Receiver::Outcome::pdu:
        on_pdu(pdu, actions);
        break;
      // Level 0 knows no recovery within a session: the initiator starts a new one.
      case Receiver::Outcome::digest_error:
      case Receiver::Outcome::too_long:
        close(false, actions);
        break;
    }
  }
}

void Connection::on_pdu(ReceivedPdu& pdu, Actions& actions) {
  auto request = decode_request(pdu.header);
  if (phase_ == Phase::login) {
    const auto* login = request ? std::get_if<LoginRequest>(&*request) : nullptr;
    if (login != nullptr) {
      on_login(*login, pdu, actions);
    } else if (opcode_of(pdu.header) == static_cast<std::uint8_t>(Opcode::login)) {
      LoginRequest broken{
          .numbers = {.initiator_task_tag = load_be<std::uint32_t>(pdu.header.data() + 16)}};
      send_login(Login::failure(broken, LoginStatus::initiator_error), {}, actions);
      close(true, actions);
    } else {
      close(false, actions);  // RFC 7143 6.3: nothing but login requests before the login is done
    }
    return;
  }
  if (!request) {
    bool unknown = request.error().code == ErrorCode::refused;
    reject(unknown ? RejectReason::command_not_supported : RejectReason::invalid_field, pdu.header,
           actions);
    if (!unknown) close(true, actions);
    return;
  }
  std::visit([&](const auto& each) { on_request(each, pdu, actions); }, *request);
}

void Connection::on_login(const LoginRequest& request, const ReceivedPdu& pdu, Actions& actions) {
  if (!numbered_) {
    numbered_ = true;
    session_.exp_cmd_sn = request.numbers.cmd_sn;
    session_.stat_sn = request.numbers.exp_stat_sn;
  }
  auto text = flatten(pdu.data);
  auto step = login_->on_request(request, text);
  if (step.state == Login::State::admission) {
    const auto& login = login_->session();
    session_.initiator_name = login.initiator_name;
    session_.target_name = login.target_name;
    session_.discovery = login.discovery;
    session_.isid = login.isid;
    session_.connection_id = login.connection_id;
    session_.parameters = login.parameters;
    admission_ = std::move(step);
    phase_ = Phase::admission;
    actions.orders.emplace_back(AdmitSession{});
    return;
  }
  send_login(step.response, step.text, actions);
  if (step.state == Login::State::failed) close(true, actions);
}

void Connection::on_admitted(std::uint16_t tsih, Actions& actions) {
  if (phase_ != Phase::admission) return;
  ASSERT(tsih != 0);
  session_.tsih = tsih;
  admission_.response.tsih = tsih;
  send_login(admission_.response, admission_.text, actions);
  phase_ = Phase::full_feature;
  login_.reset();
  admission_ = {};
  receiver_.set_max_data_segment(max_receive_data_segment);
  receiver_.set_digests(session_.parameters.header_digest, session_.parameters.data_digest);
  sender_.set_digests(session_.parameters.header_digest, session_.parameters.data_digest);
  process(actions);  // what came in the meantime
}

void Connection::on_refused(LoginStatus status, Actions& actions) {
  if (phase_ != Phase::admission) return;
  auto response = admission_.response;
  response.status = status;
  response.transit = false;
  response.next_stage = Stage::security;
  send_login(response, {}, actions);
  close(true, actions);
}

void Connection::send_login(LoginResponse response, const std::string& text, Actions& actions) {
  response.numbers = numbers(true);
  sender_.put_copy(response, std::as_bytes(std::span(text)), actions.send);
}

void Connection::reject(RejectReason reason, Header header, Actions& actions) {
  sender_.put_copy(Reject{.reason = reason, .numbers = numbers(true)}, header, actions.send);
}

void Connection::close(bool flush, Actions& actions) {
  if (phase_ == Phase::closed) return;
  on_transport_closed();
  actions.orders.emplace_back(Close{flush});
}

void Connection::on_transport_closed() {
  phase_ = Phase::closed;
  awaiting_budget_.clear();
  waiting_.clear();
  // Commands at their units are still to be answered to us; the others end here.
  tasks_.for_each([&](Task& task) {
    if (task.state != Task::State::at_unit) tasks_.remove(task);
  });
}

bool Connection::at_boundary() const {
  return phase_ == Phase::full_feature && tasks_.size() == 0 && management_.empty() &&
         receiver_.idle() && text_in_.empty() && text_out_.empty();
}

// Every answer says where the session stands; one that carries status also uses a StatSN up.
AnswerNumbers Connection::numbers(bool with_status) {
  AnswerNumbers n{.stat_sn = session_.stat_sn,
                  .exp_cmd_sn = session_.exp_cmd_sn,
                  .max_cmd_sn = session_.exp_cmd_sn + (command_window - window_used_) - 1};
  if (with_status) ++session_.stat_sn;
  return n;
}

// RFC 7143 4.2.2.1. False: the request is not to be processed.
bool Connection::in_window(const CommandNumbers& n, Header header, Actions& actions) {
  if (n.immediate) return true;
  auto ahead = static_cast<std::int32_t>(n.cmd_sn - session_.exp_cmd_sn);
  if (ahead < 0 || ahead >= static_cast<std::int32_t>(command_window - window_used_)) {
    return false;  // outside of the window: silently ignored
  }
  if (ahead > 0) {
    // On one connection commands come in order; what is missing will never come.
    reject(RejectReason::protocol_error, header, actions);
    close(true, actions);
    return false;
  }
  ++session_.exp_cmd_sn;
  return true;
}

void Connection::on_tick(Instant now, Actions& actions) {
  switch (phase_) {
    case Phase::login:
    case Phase::admission:
      if (now - started_ >= login_timeout) close(false, actions);
      return;
    case Phase::full_feature:
      break;
    case Phase::closed:
      return;
  }
  if (logout_deadline_ && now >= *logout_deadline_) {
    close(false, actions);
  } else if (pinged_) {
    if (now - *pinged_ >= ping_timeout) close(false, actions);
  } else if (now - last_received_ >= ping_after_silence) {
    pinged_ = now;
    if (!session_.discovery) ping(actions);  // discovery knows no NOP: its end is near
  }
}

void Connection::ping(Actions& actions) {
  NopIn nop{.target_transfer_tag = next_transfer_tag(session_), .numbers = numbers(false)};
  sender_.put(nop, actions.send);
}

void Connection::request_logout(Instant now, Actions& actions) {
  if (phase_ != Phase::full_feature || logout_deadline_) return;
  logout_deadline_ = now + logout_request_timeout;
  auto allowed = std::chrono::duration_cast<seconds>(logout_request_timeout).count();
  AsyncLogoutRequest request{.seconds = static_cast<std::uint16_t>(allowed),
                             .numbers = numbers(true)};
  sender_.put(request, actions.send);
}

void Connection::announce_drop(Actions& actions) {
  if (phase_ != Phase::full_feature || session_.discovery) return;
  sender_.put(AsyncSessionDrop{.numbers = numbers(true)}, actions.send);
}

scsi::CommandTag Connection::tag_of(const Task& task) const {
  return scsi::CommandTag(std::uint64_t{number_} << 32 | tasks_.tag_of(task));
}

Task* Connection::find(scsi::CommandTag tag) {
  if (tag.value() >> 32 != number_) return nullptr;
  return tasks_.find_by_tag(static_cast<std::uint32_t>(tag.value()));
}

}  // namespace duet::iscsi
