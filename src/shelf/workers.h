// Threads for the work that would block the event loop: reads that miss the page cache, fdatasync,
// and the reservation file.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "ports/scheduler.h"

namespace duet::shelf {

class Workers {
 public:
  // `post` runs a task on the event loop and may be called from any thread.
  Workers(unsigned threads, std::function<void(ports::Task)> post);
  // Finishes the jobs that are queued; their `done` tasks are posted all the same.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // `job` runs in some thread and gives what to run on the event loop afterwards. Bounded by the
  // commands the logical units admit.
  void run(std::move_only_function<ports::Task()> job);
  // Waits until no job is queued or running.
  void wait_idle();

 private:
  void work();

  std::function<void(ports::Task)> post_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::move_only_function<ports::Task()>> jobs_;
  unsigned running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace duet::shelf
