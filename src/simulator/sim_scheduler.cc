#include "simulator/sim_scheduler.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulator {

namespace {

constexpr auto later = [](const auto& a, const auto& b) { return a.after(b); };

ports::TimerId timer_of(std::uint32_t slot, std::uint32_t generation) {
  return ports::TimerId(std::uint64_t{generation} << 32 | (slot + 1));
}

}  // namespace

Clock::~Clock() {
  for (auto& slot : slots_) slot.task = nullptr;
}

std::uint32_t Clock::add(Process& process, ports::Task task) {
  std::uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  slots_[slot].task = std::move(task);
  slots_[slot].process = &process;
  slots_[slot].used = true;
  return slot;
}

void Clock::push(Instant when, std::uint32_t slot) {
  heap_.push_back({when, ++order_, slot, slots_[slot].generation});
  std::ranges::push_heap(heap_, later);
}

void Clock::release(std::uint32_t slot) {
  auto task = std::move(slots_[slot].task);
  slots_[slot].task = nullptr;
  slots_[slot].used = false;
  ++slots_[slot].generation;
  free_.push_back(slot);
  // What the task held goes here, and may cancel others.
}

bool Clock::step(Instant limit) {
  while (!heap_.empty() && heap_.front().when <= limit) {
    auto entry = heap_.front();
    std::ranges::pop_heap(heap_, later);
    heap_.pop_back();
    if (!live(entry.slot, entry.generation)) continue;
    now_ = std::max(now_, entry.when);
    slots_[entry.slot].process->arrive(entry.slot, entry.generation);
    return true;
  }
  now_ = std::max(now_, limit);
  return false;
}

void Clock::execute(std::uint32_t slot) {
  auto task = std::move(slots_[slot].task);
  auto& process = *slots_[slot].process;
  release(slot);
  ++steps_;
  mix(static_cast<std::uint64_t>(now_.time_since_epoch().count()) << 6 | process.id_);
  if (process.execute) {
    process.execute(task);
  } else {
    task();
  }
}

Process::Process(Clock& clock, Random& random, std::string name)
    : clock_(clock), random_(random), name_(std::move(name)), id_(++clock.processes_) {}

Process::~Process() {
  kill();
}

ports::TimerId Process::at(Instant when, ports::Task task) {
  if (!alive_) return {};
  auto slot = clock_.add(*this, std::move(task));
  clock_.push(std::max(when, clock_.now()), slot);
  return timer_of(slot, clock_.slots_[slot].generation);
}

void Process::cancel(ports::TimerId timer) {
  if (!alive_ || timer == ports::TimerId{}) return;
  auto slot = static_cast<std::uint32_t>(timer.value()) - 1;
  auto generation = static_cast<std::uint32_t>(timer.value() >> 32);
  if (slot < clock_.slots_.size() && clock_.live(slot, generation)) clock_.release(slot);
}

// A task of ours is due.
void Process::arrive(std::uint32_t slot, std::uint32_t generation) {
  if (slot == wake_slot_ && generation == wake_generation_) {
    clock_.release(slot);
    wake_slot_ = no_slot;
    return drain();
  }
  if (clock_.now() < starved_until_ && !paused() && starved_most_ > Duration(0)) {
    pause(clock_.now() +
          Duration(random_.below(static_cast<std::uint64_t>(starved_most_.count()) + 1)));
  }
  if (!paused() && backlog_.empty()) return clock_.execute(slot);
  backlog_.push_back({slot, generation});
  wake_at(std::max(paused_until_, clock_.now()));
}

void Process::wake_at(Instant when) {
  if (wake_slot_ != no_slot) return;  // drain() looks again
  wake_slot_ = clock_.add(*this, [] {});
  wake_generation_ = clock_.slots_[wake_slot_].generation;
  clock_.push(when, wake_slot_);
}

void Process::drain() {
  while (!backlog_.empty() && !clock_.live(backlog_.front().slot, backlog_.front().generation)) {
    backlog_.pop_front();
  }
  if (backlog_.empty()) return;
  if (!paused()) {
    auto slot = backlog_.front().slot;
    backlog_.pop_front();
    if (!backlog_.empty()) wake_at(clock_.now());
    return clock_.execute(slot);
  }
  wake_at(paused_until_);
}

void Process::pause(Instant until) {
  paused_until_ = std::max(paused_until_, until);
}

void Process::starve(Instant until, Duration most) {
  starved_until_ = until;
  starved_most_ = most;
}

void Process::heal() {
  starved_until_ = {};
  paused_until_ = {};
  if (!alive_ || backlog_.empty()) return;
  if (wake_slot_ != no_slot) clock_.release(std::exchange(wake_slot_, no_slot));
  wake_at(clock_.now());
}

void Process::kill() {
  if (!std::exchange(alive_, false)) return;
  backlog_.clear();
  wake_slot_ = no_slot;
  std::vector<ports::Task> gone;
  for (std::uint32_t i = 0; i < clock_.slots_.size(); ++i) {
    if (!clock_.slots_[i].used || clock_.slots_[i].process != this) continue;
    gone.push_back(std::move(clock_.slots_[i].task));
    clock_.release(i);
  }
  // Destroyed here; what they hold may call us, who is not alive any more.
}

}  // namespace duet::simulator
