#include "ha/fence_set.h"

#include <algorithm>

#include "base/coverage.h"

namespace duet::ha {

FenceSet::FenceSet(FenceRules rules, NodeId identity, std::uint8_t disks)
    : rules_(rules), identity_(identity), disks_(disks), registered_anew_(disks) {}

DiskFencer FenceSet::make(std::uint8_t index, FenceMode mode) const {
  auto rules = rules_;
  rules.mode = mode;
  return DiskFencer(rules, DiskRef{identity_, index});
}

void FenceSet::start(Output& out) {
  phase_ = all_at_once() ? Phase::others : Phase::arbiter;
  running_.push_back(make(0, rules_.mode));
  if (all_at_once()) {
    for (std::uint8_t i = 1; i < disks_; ++i) running_.push_back(make(i, rules_.mode));
  }
  for (auto& fencer : running_) fencer.start(out);
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
  for (auto& fencer : running_) {
    if (fencer.registered_anew()) registered_anew_[fencer.disk().index] = true;
    if (fencer.outcome() == Outcome::done) continue;
    bool may_repeat = fencer.outcome() == Outcome::lost && rules_.mode == FenceMode::fence &&
                      phase_ == Phase::others && repeats_ < max_repeats;
    if (!may_repeat) return end(fencer.outcome(), fencer);
    repeat = true;
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
  if (phase_ == Phase::arbiter && disks_ > 1) {
    phase_ = Phase::others;
    for (std::uint8_t i = 1; i < disks_; ++i) running_.push_back(make(i, rules_.mode));
  } else {
    phase_ = Phase::arbiter_again;
    running_.push_back(make(0, FenceMode::hold));
  }
  for (auto& fencer : running_) fencer.start(out);
}

}  // namespace duet::ha
