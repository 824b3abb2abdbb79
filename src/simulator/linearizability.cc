#include "simulator/linearizability.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <unordered_set>

#include "base/assert.h"

namespace duet::simulator {
namespace {

using Kind = Operation::Kind;

struct State {
  Stamp value = 0;
  std::uint64_t done = 0;  // open operations already put in order, by slot
  bool operator==(const State&) const = default;
};
struct HashState {
  std::size_t operator()(const State& s) const {
    return (s.value ^ (s.done * 0x9e3779b97f4a7c15)) * 0xbf58476d1ce4e5b9;
  }
};
using States = std::unordered_set<State, HashState>;

struct Event {
  Tick tick;
  std::size_t operation;
  bool end;
};

std::vector<Event> events_of(std::span<const Operation> operations) {
  std::vector<Event> events;
  events.reserve(2 * operations.size());
  for (std::size_t i = 0; i < operations.size(); ++i) {
    events.push_back({operations[i].begun, i, false});
    if (operations[i].ended != never) events.push_back({operations[i].ended, i, true});
  }
  std::ranges::sort(events, {}, &Event::tick);
  return events;
}

// One pass over the events of a window.
class Pass {
 public:
  Pass(std::span<const Operation> operations, const std::vector<Stamp>& values)
      : operations_(operations), slots_(operations.size()) {
    for (Stamp value : values) states_.insert({value, 0});
  }

  enum class Outcome : std::uint8_t { explained, contradiction, undecided };
  Outcome run(Contradiction& contradiction) {
    for (const Event& event : events_of(operations_)) {
      if (!event.end) {
        if (!begin(event.operation)) return Outcome::undecided;
        continue;
      }
      States before = states_;
      if (!end(event.operation)) return Outcome::undecided;
      if (!states_.empty()) continue;
      contradiction.operation = event.operation;
      for (const State& s : before) contradiction.candidates.push_back(s.value);
      std::ranges::sort(contradiction.candidates);
      auto same = std::ranges::unique(contradiction.candidates);
      contradiction.candidates.erase(same.begin(), same.end());
      return Outcome::contradiction;
    }
    return Outcome::explained;
  }

  // After an explained run whose operations have all ended, or at the end of the history.
  std::vector<Stamp> values() const {
    std::vector<Stamp> all;
    for (const State& s : states_) all.push_back(s.value);
    std::ranges::sort(all);
    auto same = std::ranges::unique(all);
    all.erase(same.begin(), same.end());
    return all;
  }

 private:
  static std::uint64_t bit(unsigned slot) { return std::uint64_t{1} << slot; }
  static bool only_looks(const Operation& o) {
    return o.kind == Kind::read || o.kind == Kind::mismatch;
  }

  // A look changes nothing, so the first moment that explains it is as good as any.
  static bool explains(Stamp value, const Operation& o) {
    return o.kind == Kind::read ? value == o.value : value != o.expected;
  }
  void settle(State& s) const {
    for (std::uint64_t left = looks_ & ~s.done; left != 0; left &= left - 1) {
      auto slot = static_cast<unsigned>(std::countr_zero(left));
      if (explains(s.value, operations_[in_slot_[slot]])) s.done |= bit(slot);
    }
  }

  bool begin(std::size_t i) {
    unsigned slot = static_cast<unsigned>(std::countr_one(open_));
    if (slot >= BlockStates::max_open) return false;
    const Operation& o = operations_[i];
    open_ |= bit(slot);
    if (only_looks(o)) looks_ |= bit(slot);
    slots_[i] = slot;
    in_slot_[slot] = i;
    if (!only_looks(o)) return true;
    States settled;
    for (State s : states_) {
      settle(s);
      settled.insert(s);
    }
    states_ = std::move(settled);
    return true;
  }

  bool end(std::size_t i) {
    const unsigned slot = slots_[i];
    const bool perhaps = operations_[i].perhaps;
    States next;
    for (const State& s : states_) {
      if (perhaps || (s.done & bit(slot)) != 0) {
        next.insert({s.value, s.done & ~bit(slot)});
        if (!perhaps) continue;
      }
      if (!reach(s, slot, next)) return false;
    }
    open_ &= ~bit(slot);
    looks_ &= ~bit(slot);
    states_ = std::move(next);
    return states_.size() <= BlockStates::max_states;
  }

  // Adds to `found`, without the bit of `target`, all states in which it has just been put in
  // order.
  bool reach(const State& from, unsigned target, States& found) {
    States visited{from};
    std::deque<State> frontier{from};
    while (!frontier.empty()) {
      State s = frontier.front();
      frontier.pop_front();
      for (std::uint64_t left = open_ & ~looks_ & ~s.done; left != 0; left &= left - 1) {
        auto slot = static_cast<unsigned>(std::countr_zero(left));
        const Operation& o = operations_[in_slot_[slot]];
        if (o.kind == Kind::compare_and_write && o.expected != s.value) continue;
        State n{o.value, o.perhaps ? s.done : s.done | bit(slot)};
        settle(n);
        if (slot == target || (n.done & bit(target)) != 0) {
          found.insert({n.value, n.done & ~bit(target)});
          // Going on from here would put others in order earlier than their ends demand.
        } else if (visited.insert(n).second) {
          if (visited.size() > BlockStates::max_states) return false;
          frontier.push_back(n);
        }
      }
    }
    return true;
  }

  std::span<const Operation> operations_;
  std::vector<unsigned> slots_;
  std::size_t in_slot_[BlockStates::max_open] = {};
  std::uint64_t open_ = 0, looks_ = 0;
  States states_;
};

}  // namespace

std::string describe(const Operation& o) {
  const auto ms = [](Instant t) {
    return std::chrono::duration<double, std::milli>(t.time_since_epoch()).count();
  };
  std::string what;
  switch (o.kind) {
    case Kind::read:
      what = fmt::format("read {:x}", o.value);
      break;
    case Kind::write:
      what = fmt::format("write {:x}", o.value);
      break;
    case Kind::compare_and_write:
      what = fmt::format("compare {:x} and write {:x}", o.expected, o.value);
      break;
    case Kind::mismatch:
      what = fmt::format("compare {:x}: miscompare", o.expected);
      break;
  }
  const std::string until =
      o.ended == never ? "(no end)" : fmt::format("{:.3f} ms", ms(o.ended_at));
  return fmt::format("client {}: {}{}, {:.3f} ms .. {}", o.client, what,
                     o.perhaps ? " (no answer)" : "", ms(o.begun_at), until);
}

std::optional<Contradiction> BlockStates::check(std::span<const Operation> operations) {
  if (given_up_) return {};
  Pass pass(operations, values_);
  Contradiction contradiction;
  switch (pass.run(contradiction)) {
    case Pass::Outcome::explained:
      values_ = pass.values();
      return {};
    case Pass::Outcome::undecided:
      given_up_ = undecided_ = true;
      return {};
    case Pass::Outcome::contradiction:
      given_up_ = true;
      return contradiction;
  }
  UNREACHABLE();
}

}  // namespace duet::simulator
