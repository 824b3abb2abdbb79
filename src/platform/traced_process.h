// Another process, stopped thread by thread with ptrace so that its memory and registers stand
// still for a core. All calls from the thread that made it, as ptrace demands. When this is gone
// the process runs on, but for threads that had not stopped: those only end() frees.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "coredump/process_image.h"
#include "platform/descriptor.h"

namespace duet::platform {

struct Failure {
  std::uint32_t thread = 0;  // that failed; 0 not known
  int signal = 0;
  std::vector<std::byte> signal_information;  // siginfo_t of its handler; may be empty
};

class TracedProcess {
 public:
  // Stops every thread of `pid`, new ones too. A thread that does not stop within `limit` (it hangs
  // in the kernel) is left alone. Errors: not_found (no such process, or all its threads have
  // ended), io_error (may not be traced, by whom it is traced already).
  static Result<std::unique_ptr<TracedProcess>> stop(pid_t pid, Duration limit);
  ~TracedProcess();
  TracedProcess(const TracedProcess&) = delete;
  TracedProcess& operator=(const TracedProcess&) = delete;

  // Threads with their registers, the failing one first. Error: not_found (the process has ended,
  // or no thread has stopped).
  Result<coredump::ProcessImage> image(const Failure& failure);
  // As CoreStream::ReadMemory wants it.
  std::size_t read_memory(std::uint64_t address, std::span<std::byte> out);
  // A read found no memory any more: the process has ended, and what was asked for since is not
  // what it held. True from before the end is seen anywhere else, as freeing memory takes long.
  bool memory_gone() const { return memory_gone_; }

  // Kills the process, a child of ours, and takes leave of its threads: its end is seen only then.
  // The child itself is left for its parent to wait for. A thread that hangs in the kernel outlives
  // `limit`.
  void end(Duration limit);

  std::size_t stopped() const;  // threads
  std::size_t running() const;  // threads that did not stop in time

 private:
  struct Task {
    pid_t id = 0;
    bool stopped = false;
    bool gone = false;
  };
  TracedProcess(pid_t pid, int memory) : pid_(pid), memory_(memory) {}
  Status seize_new();
  bool collect_stops();
  void await_stops(Instant until);
  std::optional<coredump::Thread> thread(pid_t id) const;
  pid_t pid_;
  Descriptor memory_;
  bool memory_gone_ = false;
  std::vector<Task> tasks_;
};

}  // namespace duet::platform
