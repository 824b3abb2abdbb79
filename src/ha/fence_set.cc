#include "ha/fence_set.h"

#include <algorithm>

#include "base/coverage.h"

namespace duet::ha {

FenceSet::FenceSet(FenceRules rules, NodeId identity, std::uint8_t disks, DiskSet absent,
                   Bears bears)
    : rules_(rules),
      identity_(identity),
      disks_(disks),
      absent_(std::move(absent)),
      bears_(std::move(bears)),
      registered_anew_(disks) {}

bool FenceSet::tolerated(std::uint8_t index) const {
  auto without = absent_;
  add(without, index);
  return bears_ && bears_(without);
}

DiskFencer FenceSet::make(std::uint8_t index, FenceMode mode) const {
  auto rules = rules_;
  rules.mode = mode;
  return {rules, DiskRef{identity_, index},
          tolerated(index) ? DiskFencer::few_errors : DiskFencer::max_errors};
}

std::optional<std::uint8_t> FenceSet::arbiter() const {
  for (std::uint8_t i = 0; i < disks_; ++i) {
    if (!contains(absent_, i)) return i;
  }
  return {};
}

void FenceSet::start(Output& out) {
  auto first = arbiter();
  if (!first) {
    outcome_ = Outcome::failed;
    why_ = "no disk answers";
    return;
  }
  phase_ = all_at_once() ? Phase::others : Phase::arbiter;
  running_.push_back(make(*first, rules_.mode));
  if (all_at_once()) add_others();
  for (auto& fencer : running_) fencer.start(out);
}

void FenceSet::add_others() {
  for (auto i = static_cast<std::uint8_t>(*arbiter() + 1); i < disks_; ++i) {
    if (!contains(absent_, i)) running_.push_back(make(i, rules_.mode));
  }
}

bool FenceSet::on_completed(const DiskCompleted& event, Output& out) {
  for (auto& fencer : running_) {
    if (fencer.on_completed(event, out)) {
      settle(out);
      return true;
    }
  }
  return false;
}

void FenceSet::on_time(Output& out) {
  if (next_time() > out.now()) return;
  for (auto& fencer : running_) fencer.on_time(out);
  settle(out);
}

Instant FenceSet::next_time() const {
  Instant next = never;
  for (const auto& fencer : running_) next = std::min(next, fencer.next_time());
  return next;
}

void FenceSet::end(Outcome outcome, const DiskFencer& fencer) {
  outcome_ = outcome;
  why_ = "disk " + std::to_string(fencer.disk().index) + ": " + fencer.why();
}

void FenceSet::settle(Output& out) {
  if (outcome_ != Outcome::running) return;
  if (std::ranges::any_of(running_,
                          [](const auto& f) { return f.outcome() == Outcome::running; })) {
    return;
  }
  bool repeat = false;
  bool lost_arbiter = false;
  for (auto& fencer : running_) {
    auto index = fencer.disk().index;
    if (fencer.registered_anew()) registered_anew_[index] = true;
    if (fencer.outcome() == Outcome::done) continue;
    if (fencer.outcome() == Outcome::failed && tolerated(index)) {
      MARK(fence_set_without_a_disk);
      lost_arbiter |= index == arbiter();
      add(absent_, index);
      continue;
    }
    bool may_repeat = fencer.outcome() == Outcome::lost && rules_.mode == FenceMode::fence &&
                      phase_ == Phase::others && repeats_ < max_repeats;
    if (!may_repeat) return end(fencer.outcome(), fencer);
    repeat = true;
  }
  if (lost_arbiter && !all_at_once()) {  // the next one arbitrates
    MARK(fence_set_next_arbiter);
    running_.clear();
    return start(out);
  }
  if (repeat) {
    MARK(fence_set_repeated);
    ++repeats_;
    std::vector<DiskFencer> again;
    for (auto& fencer : running_) {
      if (fencer.outcome() == Outcome::lost)
        again.push_back(make(fencer.disk().index, rules_.mode));
    }
    running_ = std::move(again);
    for (auto& fencer : running_) fencer.start(out);
    return;
  }
  running_.clear();
  if (all_at_once() || phase_ == Phase::arbiter_again) {
    outcome_ = Outcome::done;
    return;
  }
  if (phase_ == Phase::arbiter) {
    phase_ = Phase::others;
    add_others();
  }
  if (running_.empty()) {
    phase_ = Phase::arbiter_again;
    running_.push_back(make(*arbiter(), FenceMode::hold));
  }
  for (auto& fencer : running_) fencer.start(out);
}

}  // namespace duet::ha
