#include "platform/iscsi_session.h"

#include <fmt/format.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "base/assert.h"
#include "initiator/scsi_replies.h"

namespace duet::platform {

using initiator::CommandKind;
using initiator::judge;
using initiator::parse_report_luns;
using initiator::Verdict;
namespace {

// "address:port" or "[address]:port", so that libiscsi's name lookup never blocks the loop.
Status check_portal(const std::string& portal) {
  auto colon = portal.rfind(':');
  auto host = portal.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  boost::system::error_code error;
  boost::asio::ip::make_address(host, error);
  if (error || colon == std::string::npos || colon + 1 == portal.size()) {
    return fail(ErrorCode::invalid,
                fmt::format("portal '{}' is not a numeric address:port", portal));
  }
  return {};
}

void set_cork(int fd, int on) {
  ::setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

}  // namespace

void ScsiTaskDeleter::operator()(scsi_task* task) const {
  scsi_free_scsi_task(task);
}

struct IscsiSession::Command {
  IscsiSession* session;
  ScsiCommand command;
  std::vector<scsi_iovec> vectors;
  Instant deadline;
  Done done;
  std::list<std::unique_ptr<Command>>::iterator position;
};

// What libiscsi calls. Teardown makes it call back too; then the session already knows.
struct IscsiSession::Callbacks {
  static void connected(iscsi_context* context, int status, void*, void* data) {
    auto& self = *static_cast<IscsiSession*>(data);
    if (self.context_ != context) return;
    if (status == SCSI_STATUS_GOOD) {
      self.begin_login();
    } else {
      self.lose(iscsi_get_error(context));
    }
  }
  static void login(iscsi_context* context, int status, void*, void* data) {
    auto& self = *static_cast<IscsiSession*>(data);
    if (self.context_ != context) return;
    if (status == SCSI_STATUS_GOOD) {
      self.finish_login();
    } else {
      self.lose(fmt::format("login failed: {}", iscsi_get_error(context)));
    }
  }
  static void command(iscsi_context* context, int status, void*, void* data) {
    auto& command = *static_cast<Command*>(data);
    if (command.session->context_ == context) command.session->on_reply(command, status);
  }
};

IscsiSession::IscsiSession(EventLoop& loop, IscsiSessionOptions options)
    : loop_(loop), options_(std::move(options)), backoff_(options_.backoff_min) {}

IscsiSession::~IscsiSession() {
  ASSERT(!in_library_);
  loop_.cancel(phase_timer_);
  loop_.cancel(deadline_timer_);
  watcher_.reset();
  if (context_ != nullptr) iscsi_destroy_context(std::exchange(context_, nullptr));
}

Status IscsiSession::start(std::move_only_function<void(bool)> callback) {
  if (auto status = check_portal(options_.portal); !status) return status;
  on_state_ = std::move(callback);
  connect();
  return {};
}

void IscsiSession::connect() {
  context_ = iscsi_create_context(options_.initiator.c_str());
  if (context_ == nullptr) {
    last_error_ = "libiscsi gives no context";
    return retry_later();
  }
  const Isid& isid = options_.isid;
  iscsi_set_isid_random(context_,
                        std::uint32_t{isid.node} << 16 | std::uint32_t{isid.role} << 8 | isid.path,
                        isid.unit);
  iscsi_set_noautoreconnect(context_, 1);
  iscsi_set_session_type(context_, ISCSI_SESSION_NORMAL);
  iscsi_set_header_digest(context_, ISCSI_HEADER_DIGEST_NONE);
  iscsi_set_targetname(context_, options_.target.c_str());
  lost_ = false;
  // Does not wait: the socket is non-blocking and the address numeric.
  if (iscsi_connect_async(context_, options_.portal.c_str(), &Callbacks::connected, this) != 0) {
    return lose(iscsi_get_error(context_));
  }
  phase_timer_ = loop_.at(loop_.now() + options_.connect_timeout, [this] {
    lose(fmt::format("no connection to {} in time", options_.portal));
  });
  watch();
}

void IscsiSession::watch() {
  watcher_ = std::make_unique<FdWatcher>(
      loop_, iscsi_get_fd(context_), [this](bool readable, bool writable) {
        on_ready((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
      });
  update_interest();
}

void IscsiSession::begin_login() {
  loop_.cancel(phase_timer_);
  phase_timer_ = loop_.at(loop_.now() + options_.login_timeout, [this] {
    lose(fmt::format("no answer to the login at {} in time", options_.portal));
  });
  if (iscsi_login_async(context_, &Callbacks::login, this) != 0) lose(iscsi_get_error(context_));
}

void IscsiSession::finish_login() {
  loop_.cancel(phase_timer_);
  logged_in_ = true;
  if (!reported_error_.empty()) spdlog::info("iscsi: logged in to {} again", options_.target);
  reported_error_.clear();
  complete([this] { on_state_(true); });
}

void IscsiSession::submit(unsigned lun, ScsiCommand command, Instant deadline, Done done) {
  ASSERT(command.task != nullptr);
  if (!logged_in_ || lost_) {
    complete([done = std::move(done), why = last_error_]() mutable {
      done(fail(ErrorCode::disconnected, why));
    });
    return;
  }
  auto owned = std::make_unique<Command>(
      Command{this, std::move(command), {}, deadline, std::move(done), {}});
  Command& c = *owned;
  scsi_task* task = c.command.task.get();
  if (!c.command.data_in.empty()) {
    c.vectors.push_back({c.command.data_in.data(), c.command.data_in.size()});
    scsi_task_set_iov_in(task, c.vectors.data(), 1);
  } else if (!c.command.data_out.empty()) {
    c.vectors.reserve(c.command.data_out.size());
    for (const Slice& slice : c.command.data_out) {
      c.vectors.push_back({const_cast<std::byte*>(slice.bytes.data()), slice.bytes.size()});
    }
    scsi_task_set_iov_out(task, c.vectors.data(), static_cast<int>(c.vectors.size()));
  }
  c.position = in_flight_.insert(in_flight_.end(), std::move(owned));
  in_library_ = true;
  int result = iscsi_scsi_command_async(context_, static_cast<int>(lun), task, &Callbacks::command,
                                        nullptr, &c);
  in_library_ = false;
  if (result != 0 && !lost_) return lose(iscsi_get_error(context_));
  if (lost_) return tear_down();
  arm_deadline(deadline);
  if (flush_scheduled_) return;
  flush_scheduled_ = true;
  loop_.at_turn_end([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) flush();
  });
}

// Hands over all that was queued in this turn. Corked, so that headers and data of several commands
// share segments; taking the cork out sends the rest at once (libiscsi has set TCP_NODELAY).
void IscsiSession::flush() {
  flush_scheduled_ = false;
  if (context_ == nullptr || (iscsi_which_events(context_) & POLLOUT) == 0) return;
  set_cork(iscsi_get_fd(context_), 1);
  step(POLLOUT);
  if (context_ != nullptr) set_cork(iscsi_get_fd(context_), 0);
  deliver();
}

void IscsiSession::on_ready(int events) {
  if (context_ == nullptr) return;
  step(events);
  deliver();
}

// Lets libiscsi do what the descriptor is ready for.
void IscsiSession::step(int events) {
  in_library_ = true;
  int result = iscsi_service(context_, events);
  in_library_ = false;
  if (lost_) {
    tear_down();
  } else if (result < 0) {
    lose("connection lost");
  } else {
    update_interest();
  }
}

void IscsiSession::update_interest() {
  int events = iscsi_which_events(context_);
  watcher_->want((events & POLLIN) != 0, (events & POLLOUT) != 0);
  // Nothing is queued any more, so libiscsi refers to no command but those in flight.
  if (!unsent_.empty() && (events & POLLOUT) == 0 && iscsi_out_queue_length(context_) == 0) {
    unsent_.clear();
  }
}

void IscsiSession::on_reply(Command& command, int status) {
  if (status < 0 || status > 0xff) {
    // Not the disk's word: the connection broke, or the target violated the protocol.
    return lose(fmt::format("command not answered: {}", iscsi_get_error(context_)));
  }
  const scsi_task& task = *command.command.task;
  ScsiReply reply;
  reply.status.status = static_cast<std::uint8_t>(status);
  if (status == SCSI_STATUS_CHECK_CONDITION) {
    reply.status.response = task.sense.error_type;
    reply.status.key = static_cast<std::uint8_t>(task.sense.key);
    reply.status.code = static_cast<std::uint16_t>(task.sense.ascq);
  } else if (task.datain.data != nullptr && task.datain.size > 0) {
    reply.data_in = {reinterpret_cast<const std::byte*>(task.datain.data),
                     static_cast<std::size_t>(task.datain.size)};
  }
  if (task.residual_status == SCSI_RESIDUAL_UNDERFLOW) reply.data_in_missing = task.residual;
  auto owned = std::move(*command.position);
  in_flight_.erase(command.position);
  if (in_flight_.empty()) {
    loop_.cancel(deadline_timer_);
    deadline_ = Instant::max();
  }
  complete([this, reply, owned = std::move(owned)]() mutable {
    auto done = std::move(owned->done);
    // A failed write's data may still be queued in libiscsi, which reads it through the task.
    if (reply.status.status != SCSI_STATUS_GOOD && !owned->command.data_out.empty() &&
        context_ != nullptr) {
      unsent_.push_back(std::move(owned));
      if (unsent_.size() > max_unsent) lose("too much write data that the target does not take");
    }
    done(reply);
  });
}

void IscsiSession::reset(const std::string& why) {
  lose(why);
}

void IscsiSession::lose(const std::string& why) {
  if (lost_ || context_ == nullptr) return;
  lost_ = true;
  last_error_ = fmt::format("{}: {}", options_.portal, why);
  if (last_error_ != reported_error_) {
    // Once for each reason: it is tried again several times a second, for ever.
    spdlog::warn("iscsi: {} lost or not reached: {}", options_.target, last_error_);
    reported_error_ = last_error_;
  }
  if (!in_library_) tear_down();
}

void IscsiSession::tear_down() {
  loop_.cancel(phase_timer_);
  loop_.cancel(deadline_timer_);
  deadline_ = Instant::max();
  watcher_.reset();
  in_library_ = true;
  iscsi_destroy_context(std::exchange(context_, nullptr));
  in_library_ = false;
  unsent_.clear();
  if (std::exchange(logged_in_, false)) {
    complete([this] { on_state_(false); });
  }
  Instant now = loop_.now();
  auto given_up = std::exchange(in_flight_, {});
  for (auto& command : given_up) {
    auto code = command->deadline <= now ? ErrorCode::timed_out : ErrorCode::disconnected;
    complete([code, why = last_error_, owned = std::move(command)]() mutable {
      auto done = std::move(owned->done);
      owned.reset();
      done(fail(code, why));
    });
  }
  retry_later();
}

void IscsiSession::retry_later() {
  phase_timer_ = loop_.at(loop_.now() + backoff_, [this] { connect(); });
  backoff_ = std::min(backoff_ * 2, options_.backoff_max);
}

void IscsiSession::arm_deadline(Instant when) {
  if (when >= deadline_) return;
  loop_.cancel(deadline_timer_);
  deadline_ = when;
  deadline_timer_ = loop_.at(when, [this] { on_deadline(); });
}

// The timer runs for the earliest deadline known when it was set; that command is usually long
// done.
void IscsiSession::on_deadline() {
  deadline_ = Instant::max();
  if (in_flight_.empty()) return;
  auto earliest = (*std::ranges::min_element(in_flight_, {}, [](const auto& c) {
                    return c->deadline;
                  }))->deadline;
  if (earliest <= loop_.now()) return lose("a command was not answered in time");
  arm_deadline(earliest);
}

void IscsiSession::complete(std::move_only_function<void()> completion) {
  completions_.push_back(std::move(completion));
  if (in_library_ || delivering_ || delivery_posted_) return;
  delivery_posted_ = true;
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    delivery_posted_ = false;
    deliver();
  });
}

// Callbacks run only here, outside of libiscsi: they may submit, reset, or destroy the session.
void IscsiSession::deliver() {
  if (delivering_) return;
  delivering_ = true;
  std::weak_ptr alive = alive_;
  while (!completions_.empty()) {
    auto completion = std::move(completions_.front());
    completions_.pop_front();
    completion();
    if (alive.expired()) return;
  }
  delivering_ = false;
}

LunDiscovery::LunDiscovery(EventLoop& loop, IscsiSessionOptions options, Duration limit,
                           std::move_only_function<void(Result<std::vector<LunNumber>>)> done)
    : loop_(loop),
      limit_(loop.now() + limit),
      done_(std::move(done)),
      session_(loop, std::move(options)) {
  auto started = session_.start([this](bool logged_in) {
    if (logged_in) ask();
  });
  if (!started) {
    timer_ =
        loop_.at(loop_.now(), [this, error = started.error()] { finish(std::unexpected(error)); });
    return;
  }
  timer_ = loop_.at(limit_, [this] { finish(fail(ErrorCode::timed_out, session_.last_error())); });
}

LunDiscovery::~LunDiscovery() {
  loop_.cancel(timer_);
}

void LunDiscovery::ask() {
  constexpr int allocation_length = 8 + 8 * 256;
  ScsiCommand command;
  command.task.reset(scsi_reportluns_cdb(SCSI_REPORTLUNS_REPORT_ALL_LUNS, allocation_length));
  session_.submit(0, std::move(command), limit_, [this](Result<ScsiReply> reply) {
    if (!reply) return;  // the session tries again, until the limit
    auto verdict = judge(reply->status, CommandKind::inquire);
    switch (verdict.action) {
      case Verdict::Action::succeed:
        return finish(parse_report_luns(reply->data_in));
      case Verdict::Action::repeat_now:
      case Verdict::Action::repeat_later:
        return session_.reset("REPORT LUNS: not ready");
      case Verdict::Action::fail:
        return finish(fail(verdict.error, "REPORT LUNS failed"));
    }
  });
}

void LunDiscovery::finish(Result<std::vector<LunNumber>> result) {
  loop_.cancel(timer_);
  std::exchange(done_, nullptr)(std::move(result));
}

}  // namespace duet::platform
