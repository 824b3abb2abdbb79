#include "platform/child_process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace duet::platform {
namespace {

constexpr std::size_t max_descriptors = 8;

// Runs in the child between fork and exec: only async-signal-safe calls. Reports errno through
// `report`.
[[noreturn]] void become(char* const* arguments,
                         const std::vector<std::pair<int, int>>& descriptors, pid_t parent,
                         int report) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // died before prctl took effect
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // The supervisor's real-time priority is its own.
  sched_param ordinary{};
  ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  // Out of the way first: one pair's target may be another pair's source.
  std::array<int, max_descriptors> moved{};
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    moved[i] = ::fcntl(descriptors[i].first, F_DUPFD_CLOEXEC, 64);
  }
  for (std::size_t i = 0; i < descriptors.size(); ++i) ::dup2(moved[i], descriptors[i].second);
  ::execvp(arguments[0], arguments);
  int error = errno;
  [[maybe_unused]] ssize_t n = ::write(report, &error, sizeof error);
  ::_exit(127);
}

std::string describe(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return "exit " + std::to_string(info.si_status);
  const char* signal = ::sigdescr_np(info.si_status);
  return "signal " + std::to_string(info.si_status) + " (" + (signal ? signal : "?") + ")";
}

}  // namespace

Result<std::unique_ptr<ChildProcess>> ChildProcess::start(
    EventLoop& loop, std::vector<std::string> arguments,
    std::vector<std::pair<int, int>> descriptors, OnEnd on_end) {
  ASSERT(descriptors.size() <= max_descriptors);
  std::vector<char*> argv;
  for (auto& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return fail(ErrorCode::io_error, std::strerror(errno));
  pid_t parent = ::getpid();
  pid_t pid = ::fork();
  if (pid == 0) become(argv.data(), descriptors, parent, report[1]);
  int error = pid < 0 ? errno : 0;
  ::close(report[1]);
  // Ends at exec, which closes the pipe, or with the errno of a failed exec.
  if (pid > 0 && ::read(report[0], &error, sizeof error) == sizeof error) {
    ::waitpid(pid, nullptr, 0);
    pid = -1;
  }
  ::close(report[0]);
  if (pid < 0) {
    return fail(ErrorCode::io_error, "cannot start " + arguments[0] + ": " + std::strerror(error));
  }
  int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  ASSERT(pidfd >= 0);  // our own child cannot be gone before we wait for it
  return std::unique_ptr<ChildProcess>(new ChildProcess(loop, pid, pidfd, std::move(on_end)));
}

ChildProcess::ChildProcess(EventLoop& loop, pid_t pid, int pidfd, OnEnd on_end)
    : pid_(pid), pidfd_(pidfd), on_end_(std::move(on_end)) {
  watcher_ = std::make_unique<FdWatcher>(loop, pidfd_, [this](bool, bool) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0) {
      return;
    }
    ended_ = true;
    watcher_.reset();
    auto on_end_once = std::move(on_end_);
    on_end_once(describe(info));  // may destroy us
  });
  watcher_->want(true, false);
}

ChildProcess::~ChildProcess() {
  watcher_.reset();
  if (!ended_) {
    kill();
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(pidfd_);
}

void ChildProcess::kill() {
  if (!ended_) ::kill(pid_, SIGKILL);
}

}  // namespace duet::platform
