// Where the machines of a core put their orders.
#pragma once

#include <string>
#include <utility>

#include "ha/events.h"

namespace duet::ha {

class Output {
 public:
  Output(Instant now, Actions& actions, std::uint64_t& last_command)
      : now_(now), actions_(actions), last_command_(last_command) {}

  Instant now() const { return now_; }

  CommandId disk(DiskRef disk, DiskOperation operation) {
    CommandId id(++last_command_);
    actions_.emplace_back(DiskCommand{id, disk, std::move(operation)});
    return id;
  }
  template <class A>
  void act(A action) {
    actions_.emplace_back(std::move(action));
  }
  void log(Severity severity, std::string phase, std::string text) {
    actions_.emplace_back(LogEvent{severity, std::move(phase), std::move(text)});
  }

 private:
  Instant now_;
  Actions& actions_;
  std::uint64_t& last_command_;
};

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace duet::ha
