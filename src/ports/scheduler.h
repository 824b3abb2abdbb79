// Time and the event loop of one thread.
#pragma once

#include <functional>

#include "base/result.h"
#include "base/strong.h"
#include "base/time.h"

namespace duet::ports {

// Completion of an asynchronous operation: called exactly once, from the scheduler, never from
// inside the call that started the operation.
template <class T>
using Done = std::move_only_function<void(Result<T>)>;

using Task = std::move_only_function<void()>;
using TimerId = Strong<struct TimerIdTag, std::uint64_t>;  // 0: none

class Scheduler {
 public:
  virtual ~Scheduler() = default;
  virtual Instant now() const = 0;
  // Runs `task` at `when` or as soon after as it can. Equal instants run in the order of the calls.
  virtual TimerId at(Instant when, Task task) = 0;
  // No effect on a timer that has run or is unknown.
  virtual void cancel(TimerId timer) = 0;
  // Runs `task` after the current one, in the order of the calls.
  virtual void post(Task task) = 0;
};

}  // namespace duet::ports
