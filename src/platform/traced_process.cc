#include "platform/traced_process.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>

namespace duet::platform {
namespace {

// Of one file of /proc; smaps of the most mappings that we take has less.
constexpr std::size_t max_proc_file = 128 * 1024 * 1024;
// A state component of AVX-512 and more has about 3 KiB.
constexpr std::size_t max_register_set = 16 * 1024;
// How many rounds of new threads are stopped: a process that starts them faster is not followed.
constexpr int max_rounds = 16;

Instant now() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return Instant(seconds(t.tv_sec) + Duration(t.tv_nsec));
}

std::string proc_path(pid_t pid, std::string_view name) {
  return fmt::format("/proc/{}/{}", pid, name);
}

std::string read_proc(pid_t pid, std::string_view name) {
  std::string out;
  Descriptor fd(::open(proc_path(pid, name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return out;
  std::array<char, 65536> buffer{};
  while (out.size() < max_proc_file) {
    ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n <= 0) break;
    out.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return out;
}

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> out;
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(proc_path(pid, "task").c_str()),
                                             &::closedir);
  if (!folder) return out;
  while (const dirent* entry = ::readdir(folder.get())) {
    std::string_view name(entry->d_name);
    pid_t id = 0;
    if (std::from_chars(name.begin(), name.end(), id).ec == std::errc()) out.push_back(id);
    if (out.size() == coredump::max_threads) break;
  }
  return out;
}

std::vector<std::byte> register_set(pid_t thread, int kind) {
  std::vector<std::byte> out(max_register_set);
  iovec io{out.data(), out.size()};
  if (::ptrace(PTRACE_GETREGSET, thread, kind, &io) != 0) return {};
  out.resize(io.iov_len);
  return out;
}

// The n-th number behind the name in brackets of /proc/PID/stat; 0: the state's successor.
std::uint32_t stat_number(std::string_view stat, int n) {
  auto close = stat.rfind(')');
  if (close == std::string_view::npos || stat.size() < close + 4) return 0;
  stat.remove_prefix(close + 4);
  for (; n > 0; --n) {
    auto space = stat.find(' ');
    if (space == std::string_view::npos) return 0;
    stat.remove_prefix(space + 1);
  }
  std::uint32_t value = 0;
  std::from_chars(stat.begin(), stat.end(), value);
  return value;
}

// The real id of a line "Uid:\t1000\t1000..." of /proc/PID/status.
std::uint32_t status_number(std::string_view status, std::string_view key) {
  auto at = status.find(key);
  std::uint32_t value = 0;
  if (at != std::string_view::npos) {
    status.remove_prefix(at + key.size());
    std::from_chars(status.begin(), status.end(), value);
  }
  return value;
}

std::vector<std::byte> to_bytes(std::string_view text) {
  auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

Result<std::unique_ptr<TracedProcess>> TracedProcess::stop(pid_t pid, Duration limit) {
  Instant until = now() + limit;
  int memory = ::open(proc_path(pid, "mem").c_str(), O_RDONLY | O_CLOEXEC);
  if (memory < 0) {
    return fail(errno == ENOENT || errno == ESRCH ? ErrorCode::not_found : ErrorCode::io_error,
                fmt::format("process {} cannot be read: {}", pid, std::strerror(errno)));
  }
  std::unique_ptr<TracedProcess> process(new TracedProcess(pid, memory));
  // A thread may be starting another one just now, until all of them have stopped.
  for (int round = 0; round < max_rounds; ++round) {
    std::size_t before = process->tasks_.size();
    if (auto status = process->seize_new(); !status) return std::unexpected(status.error());
    if (process->tasks_.size() == before) break;
    process->await_stops(until);
  }
  if (process->tasks_.empty()) {
    return fail(ErrorCode::not_found, fmt::format("process {} has no thread left", pid));
  }
  return process;
}

TracedProcess::~TracedProcess() {
  for (const Task& task : tasks_) {
    if (!task.gone) ::ptrace(PTRACE_DETACH, task.id, nullptr, nullptr);
  }
}

Status TracedProcess::seize_new() {
  for (pid_t id : threads_of(pid_)) {
    if (std::ranges::find(tasks_, id, &Task::id) != tasks_.end()) continue;
    if (tasks_.size() == coredump::max_threads) break;
    if (::ptrace(PTRACE_SEIZE, id, nullptr, nullptr) != 0) {
      int error = errno;
      // A thread that has ended, or ends, is no obstacle: a first thread may, and leave the others.
      auto stat = read_proc(id, "stat");
      auto close = stat.rfind(')');
      bool ended = error == ESRCH || stat.empty() || close == std::string::npos ||
                   stat.substr(close).starts_with(") Z") || stat.substr(close).starts_with(") X");
      if (ended) continue;
      return fail(ErrorCode::io_error,
                  fmt::format("thread {} cannot be traced: {}", id, std::strerror(error)));
    }
    bool asked = ::ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr) == 0;
    tasks_.push_back({.id = id, .gone = !asked});
  }
  return {};
}

// Whether all have stopped.
bool TracedProcess::collect_stops() {
  bool all = true;
  for (Task& task : tasks_) {
    if (task.stopped || task.gone) continue;
    int status = 0;
    pid_t got = ::waitpid(task.id, &status, __WALL | WNOHANG);
    if (got == task.id) {
      (WIFSTOPPED(status) ? task.stopped : task.gone) = true;
    } else if (got < 0 && errno != EINTR) {
      task.gone = true;
    } else {
      all = false;
    }
  }
  return all;
}

void TracedProcess::await_stops(Instant until) {
  // Stops have no descriptor to wait for, and SIGCHLD belongs to the program's event loop: asks
  // every millisecond.
  while (!collect_stops() && now() < until) ::poll(nullptr, 0, 1);
}

void TracedProcess::end(Duration limit) {
  Instant until = now() + limit;
  ::kill(pid_, SIGKILL);
  auto others_are_gone = [&] {
    bool all = true;
    for (Task& task : tasks_) {
      if (task.gone || task.id == pid_) continue;
      int status = 0;
      pid_t got = ::waitpid(task.id, &status, __WALL | WNOHANG);
      task.gone = got < 0 || (got == task.id && !WIFSTOPPED(status));
      if (!task.gone) all = false;
    }
    return all;
  };
  while (!others_are_gone() && now() < until) ::poll(nullptr, 0, 1);
}

std::size_t TracedProcess::stopped() const {
  return static_cast<std::size_t>(std::ranges::count(tasks_, true, &Task::stopped));
}
std::size_t TracedProcess::running() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(tasks_, [](const Task& t) { return !t.stopped && !t.gone; }));
}

std::optional<coredump::Thread> TracedProcess::thread(pid_t id) const {
  coredump::Thread out;
  out.id = static_cast<std::uint32_t>(id);
  out.registers = register_set(id, NT_PRSTATUS);
  user_regs_struct registers{};
  if (out.registers.size() != sizeof registers) return std::nullopt;
  std::memcpy(&registers, out.registers.data(), sizeof registers);
  out.stack_pointer = registers.rsp;
  out.floating = register_set(id, NT_FPREGSET);
  out.extended = register_set(id, NT_X86_XSTATE);
  return out;
}

Result<coredump::ProcessImage> TracedProcess::image(const Failure& failure) {
  coredump::ProcessImage out;
  for (const Task& task : tasks_) {
    if (!task.stopped) continue;
    auto found = thread(task.id);
    if (!found) continue;
    bool failed = found->id == failure.thread;
    out.threads.insert(failed ? out.threads.begin() : out.threads.end(), std::move(*found));
  }
  if (out.threads.empty()) {
    return fail(ErrorCode::not_found, fmt::format("no thread of process {} has stopped", pid_));
  }
  auto stat = read_proc(pid_, "stat");
  auto status = read_proc(pid_, "status");
  out.pid = static_cast<std::uint32_t>(pid_);
  out.parent = stat_number(stat, 0);
  out.group = stat_number(stat, 1);
  out.session = stat_number(stat, 2);
  out.uid = status_number(status, "\nUid:\t");
  out.gid = status_number(status, "\nGid:\t");
  out.name = read_proc(pid_, "comm");
  if (out.name.ends_with('\n')) out.name.pop_back();
  out.arguments = read_proc(pid_, "cmdline");
  if (out.arguments.ends_with('\0')) out.arguments.pop_back();
  std::ranges::replace(out.arguments, '\0', ' ');
  out.signal = failure.signal;
  out.signal_information = failure.signal_information;
  out.auxiliary_vector = to_bytes(read_proc(pid_, "auxv"));
  out.mappings = coredump::parse_smaps(read_proc(pid_, "smaps"));
  for (auto& mapping : out.mappings) {
    if (mapping.inode == 0 || mapping.offset != 0 || !mapping.read) continue;
    std::array<std::byte, SELFMAG> magic{};
    mapping.elf = read_memory(mapping.start, magic) == magic.size() &&
                  std::memcmp(magic.data(), ELFMAG, SELFMAG) == 0;
  }
  return out;
}

std::size_t TracedProcess::read_memory(std::uint64_t address, std::span<std::byte> out) {
  const iovec to{out.data(), out.size()};
  const iovec from{std::bit_cast<void*>(address), out.size()};
  ssize_t n = ::process_vm_readv(pid_, &to, 1, &from, 1, 0);
  // The file copies twice, but also reads what the process itself may not; 0: no memory is left.
  if (n <= 0) {
    n = ::pread(memory_.get(), out.data(), out.size(), static_cast<off_t>(address));
    memory_gone_ = memory_gone_ || n == 0;
  }
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

}  // namespace duet::platform
