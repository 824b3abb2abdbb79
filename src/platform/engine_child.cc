#include "platform/engine_child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace duet::platform {
namespace {

std::string describe(const CrashReport& report) {
  if (report.assertion[0] != 0) return fmt::format("ASSERT failed: {}", report.assertion);
  const char* name = ::sigdescr_np(report.signal);
  auto text = fmt::format("signal {} ({})", report.signal, name != nullptr ? name : "?");
  bool fault = report.signal == SIGSEGV || report.signal == SIGBUS;
  if (fault && report.information.si_code > 0) {
    text += fmt::format(" at address {:#x}",
                        reinterpret_cast<std::uintptr_t>(report.information.si_addr));
  }
  return text;
}

}  // namespace

Result<std::unique_ptr<EngineChild>> EngineChild::create(EventLoop& loop,
                                                         std::vector<std::string> command) {
  auto memory = SharedMemory::create();
  if (!memory) return std::unexpected(memory.error());
  return std::unique_ptr<EngineChild>(
      new EngineChild(loop, std::move(command), std::move(*memory)));
}

Status EngineChild::start(BootNonce nonce) {
  ASSERT(!child_);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(ErrorCode::io_error, std::string("no socket pair: ") + std::strerror(errno));
  }
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) {
    int error = errno;
    for (int end : ends) ::close(end);
    return fail(ErrorCode::io_error, std::string("no pipe: ") + std::strerror(error));
  }
  auto report_end = std::make_unique<Descriptor>(pipe_ends[0]);
  Descriptor engines_report_end(pipe_ends[1]);
  auto arguments = command_;
  arguments.push_back("--nonce");
  arguments.push_back(std::to_string(nonce.value()));
  memory_.state().engine_progress.store(0);
  auto child = ChildProcess::start(loop_, std::move(arguments),
                                   {{ends[1], engine_channel_descriptor},
                                    {memory_.descriptor(), engine_memory_descriptor},
                                    {engines_report_end.get(), crash_report_descriptor}},
                                   [this](const std::string& how) {
                                     // The child is the caller: it goes when this returns.
                                     auto ended = std::move(child_);
                                     channel_.reset();
                                     report_watcher_.reset();
                                     auto core =
                                         std::move(core_);  // until the callback is done with it
                                     auto callback = on_ended_;  // it may put another in its place
                                     if (callback) callback(how);
                                   });
  ::close(ends[1]);
  if (!child) {
    ::close(ends[0]);
    return std::unexpected(child.error());
  }
  child_ = std::move(*child);
  core_ = std::make_unique<EngineCore>(loop_, child_->pid());
  report_ = std::move(report_end);
  report_watcher_ =
      std::make_unique<FdWatcher>(loop_, report_->get(), [this](bool, bool) { read_report(); });
  report_watcher_->want(true, false);
  channel_ = std::make_unique<UnixChannel>(loop_, ends[0]);
  channel_->on_message([this](Bytes bytes) {
    if (on_message_) on_message_(bytes);
  });
  // An engine that lost its channel is of no use: its end is the event that counts.
  channel_->on_closed([this] { kill(); });
  return {};
}

// One report, or the end of the engine.
void EngineChild::read_report() {
  std::array<std::byte, sizeof(CrashReport) + 1> bytes{};
  ssize_t n = ::read(report_->get(), bytes.data(), bytes.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  report_watcher_.reset();
  auto report =
      decode_crash_report(Bytes(bytes).first(static_cast<std::size_t>(std::max<ssize_t>(n, 0))));
  if (!report) return;
  core_->on_report(*report);
  if (on_panic_) return on_panic_({report->signal, describe(*report)});
  kill();
}

void EngineChild::interrupt() {
  // To the thread that hangs: its stack is what is wanted.
  if (child_) ::syscall(SYS_tgkill, child_->pid(), child_->pid(), SIGABRT);
}

void EngineChild::kill() {
  if (!child_) return;
  child_->kill();
  core_->leave();
}

void EngineChild::send(std::vector<std::byte> message) {
  if (channel_) channel_->send(std::move(message));
}

}  // namespace duet::platform
