// For tests: a directory of its own, workers that post into a queue, a simulated clock.
#pragma once

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>

#include "shelf/workers.h"
#include "simulation/scheduler.h"

namespace duet::shelf {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "duet-shelf-XXXXXX").string();
    ASSERT(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

// What worker threads post, run by the test.
class PostQueue {
 public:
  void post(ports::Task task) {
    {
      std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
  }
  // Waits for one task and runs it.
  void run_one() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !tasks_.empty(); });
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
  }
  bool run_if_any() {
    {
      std::lock_guard lock(mutex_);
      if (tasks_.empty()) return false;
    }
    run_one();
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ports::Task> tasks_;
};

struct ShelfFixture {
  TemporaryDirectory directory;
  simulation::SimulatedScheduler clock;
  PostQueue posted;
  Workers workers{2, [this](ports::Task task) { posted.post(std::move(task)); }};
};

}  // namespace duet::shelf
