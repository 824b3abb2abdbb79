// Linearizability of one block (invariant I13): is there an order of its operations, each at one
// instant between its beginning and its end, that explains every answer? COMPARE AND WRITE is one
// operation. An operation without answer may take effect any number of times until its end (the
// client's next login), or never: what a retried command may do by the standard.
//
// Just-in-time linearization: the block's possible states are carried from event to event, and an
// operation is put in order no earlier than its end demands. Reads never branch.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/time.h"

namespace duet::simulator {

using Stamp = std::uint64_t;  // what a block holds; 0: as never written
// Counts the events of a run: no two have the same, so order is total where virtual time is not.
using Tick = std::uint64_t;
inline constexpr Tick never = ~Tick{0};

struct Operation {
  enum class Kind : std::uint8_t {
    read,               // answered `value`
    write,              // of `value`
    compare_and_write,  // found `expected`, wrote `value`
    mismatch,           // COMPARE AND WRITE that did not find `expected`
  };
  Kind kind = Kind::read;
  bool perhaps = false;  // no answer: any number of effects, or none. Writes only.
  std::uint16_t client = 0;
  Stamp expected = 0;
  Stamp value = 0;
  Tick begun = 0;
  Tick ended = never;  // with `perhaps`: no effect after this
  Instant begun_at{};
  Instant ended_at{};
};
std::string describe(const Operation& operation);

struct Contradiction {
  std::size_t operation = 0;      // the one that no order explains
  std::vector<Stamp> candidates;  // what the block may have held when it ended
};

class BlockStates {
 public:
  // More states than this, or more operations at once than a mask has bits: undecided.
  static constexpr std::size_t max_states = 20'000;
  static constexpr unsigned max_open = 64;

  // Goes on from the states that the operations before may have led to. Requires: all operations
  // before have ended before these begin. After a contradiction, or when undecided, nothing more is
  // said about this block: one fault is reported once.
  std::optional<Contradiction> check(std::span<const Operation> operations);
  bool undecided() const { return undecided_; }
  // What the block may hold now.
  const std::vector<Stamp>& values() const { return values_; }

 private:
  std::vector<Stamp> values_ = {0};
  bool given_up_ = false;
  bool undecided_ = false;
};

}  // namespace duet::simulator
