#include "platform/crash_report.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/assert.h"
#include "base/failed_assertion.h"

namespace duet::platform {
namespace {

constexpr int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
constexpr std::size_t handler_stack_size = 64 * 1024;

std::atomic<bool> crashed{false};
CrashReport report;  // no memory can be had in a handler, and its stack is small

// Only async-signal-safe calls. A crash in here ends the process: the signals are blocked.
void on_crash(int signal, siginfo_t* information, void* context) {
  if (crashed.exchange(true)) {
    for (;;) ::pause();  // another thread was first
  }
  report.signal = signal;
  report.thread = static_cast<std::uint32_t>(::syscall(SYS_gettid));
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  report.instruction = static_cast<std::uint64_t>(registers[REG_RIP]);
  report.stack_pointer = static_cast<std::uint64_t>(registers[REG_RSP]);
  report.frame_pointer = static_cast<std::uint64_t>(registers[REG_RBP]);
  report.information = *information;
  if (const char* text = last_failed_assertion(); signal == SIGABRT && text != nullptr) {
    for (std::size_t i = 0; i + 1 < sizeof report.assertion && text[i] != 0; ++i) {
      report.assertion[i] = text[i];
    }
  }
  // Our sockets and disks go as they do with a process that ends, before anybody hears of it: the
  // partner will listen at the same addresses.
  ::syscall(SYS_close_range, crash_report_descriptor + 1, ~0U, 0);
  if (::write(crash_report_descriptor, &report, sizeof report) != sizeof report) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    ::sigprocmask(SIG_UNBLOCK, &one, nullptr);
  }
  for (;;) ::pause();
}

}  // namespace

static_assert(sizeof(CrashReport) <= PIPE_BUF, "written in one piece, or not at all");

void report_crashes() {
  ::prctl(PR_SET_PTRACER, ::getppid());
  void* stack = ::mmap(nullptr, handler_stack_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT(stack != MAP_FAILED);
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = handler_stack_size;
  ASSERT(::sigaltstack(&alternate, nullptr) == 0);
  struct sigaction action{};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int signal : fatal_signals) sigaddset(&action.sa_mask, signal);
  for (int signal : fatal_signals) ASSERT(::sigaction(signal, &action, nullptr) == 0);
}

std::optional<CrashReport> decode_crash_report(Bytes bytes) {
  CrashReport out;
  if (bytes.size() != sizeof out) return std::nullopt;
  std::memcpy(&out, bytes.data(), sizeof out);
  if (out.magic != CrashReport::expected_magic) return std::nullopt;
  out.assertion[sizeof out.assertion - 1] = 0;
  return out;
}

}  // namespace duet::platform
