// Virtual time for a whole cluster. One clock and one queue; each simulated process (a supervisor,
// an engine) sees the queue through a ports::Scheduler of its own, and so can be stopped, starved
// of CPU or killed without the others noticing anything but its silence.
//
// Deterministic: equal instants run in the order in which they were asked for.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ports/scheduler.h"
#include "simulation/random.h"

namespace duet::simulator {

using simulation::Random;

class Process;

class Clock {
 public:
  Clock() = default;
  ~Clock();
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;

  Instant now() const { return now_; }
  // Runs the next thing to do if it is due until `limit`, and lets the time until `limit` pass if
  // nothing is. False: nothing was due.
  bool step(Instant limit);
  std::uint64_t steps() const { return steps_; }
  // Of everything that has run so far: who, when, in which order; and what was mixed in.
  std::uint64_t hash() const { return hash_; }
  void mix(std::uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15;
    hash_ ^= hash_ >> 29;
  }

 private:
  friend class Process;
  struct Slot {
    ports::Task task;
    Process* process = nullptr;
    std::uint32_t generation = 1;  // tells timers of the same slot apart
    bool used = false;
  };
  struct Entry {
    Instant when;
    std::uint64_t order;
    std::uint32_t slot;
    std::uint32_t generation;
    bool after(const Entry& other) const {
      return when != other.when ? when > other.when : order > other.order;
    }
  };
  std::uint32_t add(Process& process, ports::Task task);
  void push(Instant when, std::uint32_t slot);
  void release(std::uint32_t slot);
  bool live(std::uint32_t slot, std::uint32_t generation) const {
    return slots_[slot].used && slots_[slot].generation == generation;
  }
  void execute(std::uint32_t slot);

  Instant now_ = Instant(seconds(1000));  // an uptime like any other
  std::uint64_t order_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t hash_ = 0xcbf29ce484222325;
  std::uint32_t processes_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::vector<Entry> heap_;
};

class Process final : public ports::Scheduler {
 public:
  // `random` decides how late a starved process is.
  Process(Clock& clock, Random& random, std::string name);
  ~Process() override;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const std::string& name() const { return name_; }
  bool alive() const { return alive_; }
  bool paused() const { return clock_.now() < paused_until_; }
  bool starved() const { return clock_.now() < starved_until_; }

  // Runs nothing until `until` (SIGSTOP and SIGCONT, a frozen machine). What falls due meanwhile
  // runs then, in order. The longest pause wins.
  void pause(Instant until);
  // From now on up to `until` each task is late by up to `most`.
  void starve(Instant until, Duration most);
  void heal();  // ends pauses and starvation
  // The process ends in the middle of whatever it does: nothing of it ever runs again, and nothing
  // it still tries to do has an effect. Its tasks are gone when this returns.
  void kill();
  // Called around the execution of each task; may run it in a try block.
  std::function<void(ports::Task&)> execute;

  // ---- ports::Scheduler ----
  Instant now() const override { return clock_.now(); }
  ports::TimerId at(Instant when, ports::Task task) override;
  void cancel(ports::TimerId timer) override;
  void post(ports::Task task) override { at(clock_.now(), std::move(task)); }

 private:
  friend class Clock;
  void arrive(std::uint32_t slot, std::uint32_t generation);
  void wake_at(Instant when);
  void drain();

  Clock& clock_;
  Random& random_;
  std::string name_;
  std::uint32_t id_;
  bool alive_ = true;
  Instant paused_until_{};
  Instant starved_until_{};
  Duration starved_most_{};
  struct Waiting {
    std::uint32_t slot;
    std::uint32_t generation;
  };
  std::deque<Waiting> backlog_;  // fell due while the process did not run
  static constexpr std::uint32_t no_slot = ~0u;
  std::uint32_t wake_slot_ = no_slot;  // the wake-up in the queue
  std::uint32_t wake_generation_ = 0;
};

}  // namespace duet::simulator
