#include "initiator.h"

#include <poll.h>

extern "C" {
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
}

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "boot_clock.h"

namespace duet::load {
namespace {

constexpr int not_ready_transition = 0x040a;  // SPC-4: asymmetric access state transition

std::string describe(int status, const scsi_task* task) {
  if (status == SCSI_STATUS_CHECK_CONDITION && task != nullptr) {
    return fmt::format("check condition {:02x}/{:02x}/{:02x}", static_cast<int>(task->sense.key),
                       task->sense.ascq >> 8, task->sense.ascq & 0xff);
  }
  if (status == SCSI_STATUS_RESERVATION_CONFLICT) return "reservation conflict";
  return fmt::format("status {:#x}", status);
}

Outcome classify(int status, const scsi_task* task) {
  switch (status) {
    case SCSI_STATUS_GOOD:
      // A short answer without an error is one all the same.
      return task != nullptr && task->residual_status == SCSI_RESIDUAL_NO_RESIDUAL
                 ? Outcome::good
                 : Outcome::failed;
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
    case SCSI_STATUS_TASK_ABORTED:
      return Outcome::busy;
    case SCSI_STATUS_CHECK_CONDITION:
      if (task->sense.key == SCSI_SENSE_UNIT_ATTENTION) return Outcome::unit_attention;
      if (task->sense.key == SCSI_SENSE_NOT_READY && task->sense.ascq == not_ready_transition) {
        return Outcome::busy;
      }
      return Outcome::failed;
    default:
      return Outcome::failed;
  }
}

}  // namespace

struct Session::Command {
  Session* session;
  Completion done;
  std::function<void(const Reply&, Capacity)> capacity;
  scsi_iovec iov{};
  std::unique_ptr<scsi_task, void (*)(scsi_task*)> task{nullptr, scsi_free_scsi_task};
  std::list<std::unique_ptr<Command>>::iterator position{};
};

Session::Session(Url url, std::string initiator, std::uint32_t isid)
    : url_(std::move(url)), initiator_(std::move(initiator)), isid_(isid) {}

Session::~Session() {
  close();
}

Result<Url> parse_url(const std::string& text) {
  std::unique_ptr<iscsi_context, int (*)(iscsi_context*)> context(
      iscsi_create_context("iqn.2026-11.org.duet:url"), iscsi_destroy_context);
  iscsi_url* parsed = iscsi_parse_full_url(context.get(), text.c_str());
  if (parsed == nullptr) {
    return fail(ErrorCode::invalid, fmt::format("'{}' is not iscsi://HOST:PORT/IQN/LUN", text));
  }
  Url url{parsed->portal, parsed->target, parsed->lun};
  iscsi_destroy_url(parsed);
  return url;
}

void Session::open() {
  close();
  context_ = iscsi_create_context(initiator_.c_str());
  if (context_ == nullptr) return lose("no memory for a session");
  iscsi_set_noautoreconnect(context_, 1);
  iscsi_set_isid_random(context_, isid_, 0);
  iscsi_set_targetname(context_, url_.target.c_str());
  iscsi_set_session_type(context_, ISCSI_SESSION_NORMAL);
  iscsi_set_header_digest(context_, ISCSI_HEADER_DIGEST_NONE);
  state_ = State::connecting;
  if (iscsi_connect_async(context_, url_.portal.c_str(), on_connected, this) != 0) {
    lose(iscsi_get_error(context_));
  }
}

void Session::close() {
  closing_ = true;  // destroying the context calls callbacks
  if (context_ != nullptr) iscsi_destroy_context(std::exchange(context_, nullptr));
  closing_ = false;
  // Those of a session that the target logged out libiscsi forgets without a call.
  outstanding_.clear();
  state_ = State::closed;
}

void Session::lose(std::string why) {
  if (state_ == State::lost) return;
  state_ = State::lost;
  why_ = std::move(why);
}

int Session::fd() const {
  return context_ == nullptr ? -1 : iscsi_get_fd(context_);
}
short Session::events() const {
  return context_ == nullptr ? short{0} : static_cast<short>(iscsi_which_events(context_));
}

void Session::service(short revents) {
  if (context_ == nullptr || state_ == State::lost) return;
  // No descriptor or no events: libiscsi has lost the connection and waits to reconnect, which we
  // forbade.
  if (iscsi_service(context_, revents) < 0) return lose(iscsi_get_error(context_));
  if (fd() < 0 || events() == 0) lose("connection lost");
}

void Session::on_connected(iscsi_context* context, int status, void*, void* self) {
  auto& session = *static_cast<Session*>(self);
  if (session.closing_) return;
  if (status != SCSI_STATUS_GOOD) return session.lose(iscsi_get_error(context));
  session.state_ = State::logging_in;
  if (iscsi_login_async(context, on_logged_in, &session) != 0) {
    session.lose(iscsi_get_error(context));
  }
}

void Session::on_logged_in(iscsi_context* context, int status, void*, void* self) {
  auto& session = *static_cast<Session*>(self);
  if (session.closing_) return;
  if (status != SCSI_STATUS_GOOD) {
    return session.lose(fmt::format("login: {}", iscsi_get_error(context)));
  }
  session.state_ = State::ready;
}

void Session::on_done(iscsi_context*, int status, void*, void* private_data) {
  Session& session = *static_cast<Command*>(private_data)->session;
  if (session.closing_) return;
  auto& position = static_cast<Command*>(private_data)->position;
  const std::unique_ptr<Command> command = std::move(*position);
  session.outstanding_.erase(position);
  scsi_task* const task = command->task.get();
  if (session.state_ == State::lost) return;
  if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR ||
      status == SCSI_STATUS_TIMEOUT) {
    return session.lose("command cancelled: connection lost");
  }
  const Outcome outcome = command->capacity && status == SCSI_STATUS_GOOD
                              ? Outcome::good  // its answer is shorter than what we ask for
                              : classify(status, task);
  const std::string what = outcome == Outcome::good ? "" : describe(status, task);
  const Reply reply{outcome, what};
  if (!command->capacity) return command->done(reply);
  Capacity capacity;
  if (outcome == Outcome::good) {
    if (auto* raw = static_cast<scsi_readcapacity16*>(scsi_datain_unmarshall(task))) {
      capacity = {raw->returned_lba + 1, raw->block_length};
    }
  }
  command->capacity(reply, capacity);
}

Session::Command* Session::add(Command command) {
  outstanding_.push_back(std::make_unique<Command>(std::move(command)));
  Command* added = outstanding_.back().get();
  added->position = std::prev(outstanding_.end());
  return added;
}

void Session::queued(scsi_task* task, Command* command) {
  if (task != nullptr) {
    command->task.reset(task);
    return;
  }
  outstanding_.erase(command->position);
  lose(iscsi_get_error(context_));
}

void Session::read(std::uint64_t lba, MutableBytes buffer, std::uint32_t block_size,
                   Completion done) {
  auto* command = add({this, std::move(done), {}, {buffer.data(), buffer.size()}});
  queued(iscsi_read16_iov_task(context_, url_.lun, lba, static_cast<std::uint32_t>(buffer.size()),
                               static_cast<int>(block_size), 0, 0, 0, 0, 0, on_done, command,
                               &command->iov, 1),
         command);
}

void Session::write(std::uint64_t lba, Bytes buffer, std::uint32_t block_size, Completion done) {
  auto* bytes = const_cast<std::byte*>(buffer.data());  // libiscsi only reads it
  auto* command = add({this, std::move(done), {}, {bytes, buffer.size()}});
  queued(iscsi_write16_iov_task(
             context_, url_.lun, lba, nullptr, static_cast<std::uint32_t>(buffer.size()),
             static_cast<int>(block_size), 0, 0, 0, 0, 0, on_done, command, &command->iov, 1),
         command);
}

void Session::read_capacity(std::function<void(const Reply&, Capacity)> done) {
  auto* command = add({this, {}, std::move(done), {}});
  queued(iscsi_readcapacity16_task(context_, url_.lun, on_done, command), command);
}

void Session::log_out(int patience_ms) {
  if (state_ == State::ready) {
    bool answered = false;
    const auto on_answer = [](iscsi_context*, int, void*, void* flag) {
      *static_cast<bool*>(flag) = true;
    };
    const Instant until = now() + milliseconds(patience_ms);
    if (iscsi_logout_async(context_, on_answer, &answered) == 0) {
      while (!answered && state_ == State::ready && now() < until) {
        pollfd p{fd(), events(), 0};
        if (poll(&p, 1, 10) > 0) service(p.revents);
      }
    }
    // The flag goes out of scope: nobody may set it later.
    close();
  }
  close();
}

}  // namespace duet::load
