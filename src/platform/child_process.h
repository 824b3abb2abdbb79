// A child process that dies with us: started with a channel and a shared memory region, watched
// through a pidfd, killed with SIGKILL only.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "platform/event_loop.h"
#include "platform/fd_watcher.h"

namespace duet::platform {

class ChildProcess {
 public:
  // Called once when the process has ended and its descriptors are closed: "exit 0", "signal 6
  // (Aborted)".
  using OnEnd = std::function<void(std::string how)>;

  // Runs `arguments[0]`, found as execvp does, and hands it our descriptor `first` as `second`, for
  // each pair of `descriptors`. The child gets SIGKILL when our thread ends (PR_SET_PDEATHSIG).
  // Error: io_error, with the reason.
  static Result<std::unique_ptr<ChildProcess>> start(EventLoop& loop,
                                                     std::vector<std::string> arguments,
                                                     std::vector<std::pair<int, int>> descriptors,
                                                     OnEnd on_end);
  // Kills a process that still runs and waits for its end.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void kill();

 private:
  ChildProcess(EventLoop& loop, pid_t pid, int pidfd, OnEnd on_end);
  pid_t pid_;
  int pidfd_;
  bool ended_ = false;
  OnEnd on_end_;
  std::unique_ptr<FdWatcher> watcher_;
};

}  // namespace duet::platform
