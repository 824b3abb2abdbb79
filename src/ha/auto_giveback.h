// Whether, and when, the survivor gives back by itself: after a delay, not again and again to a
// partner that fails, and not to one that has to be taken over all the time (ping-pong breaker).
// docs/protocols/giveback.md.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "ha/reason.h"

namespace duet::ha {

struct AutoGivebackRules {
  bool enabled = false;
  Duration delay{};                // the partner has been ready for so long
  std::uint32_t attempts = 3;      // that fail, in a row; 0: no limit
  std::uint32_t takeovers = 5;     // not by order, within `window`: more stop it; 0: no limit
  Duration window = seconds(600);  // also the quiet time after which it goes on
  bool after_order = false;        // a takeover by order is given back by itself, too
};

struct AutoGivebackPlan {
  enum class Why : std::uint8_t {
    off,             // not configured
    not_taken_over,  // nothing to give back
    by_order,        // taken over by order: given back by order
    not_ready,       // the partner does not wait for it (yet)
    vetoed,          // see giveback_vetoes
    delay,           // until `at`
    resting,         // after a failure, until `at`
    failed_often,    // until `at`, or an operator's giveback
    ping_pong,       // until `at`, or an operator's giveback
    now,
  };
  Why why = Why::off;
  Instant at{};  // when it goes on, if nothing else happens
  std::uint32_t failures = 0;
  std::uint32_t takeovers = 0;  // within the window
};
std::string_view name(AutoGivebackPlan::Why why);

class AutoGiveback {
 public:
  static constexpr Duration rest = seconds(5);  // after a failure
  static constexpr std::size_t max_history = 64;

  explicit AutoGiveback(const AutoGivebackRules& rules, std::vector<Instant> history = {});

  // The partner's identity is served here now. `trigger`: of this takeover; `cause`: the same, or
  // that of the takeover which this one goes on with.
  void on_takeover(Reason trigger, Reason cause, Instant now);
  void on_done() { failures_ = 0; }
  void on_failed(Instant now);
  void on_order();  // the operator gives back: what happened before is forgiven
  // `ready`: the partner waits for the giveback, and makes progress.
  void on_ready(bool ready, Instant now);

  AutoGivebackPlan plan(bool serving, bool vetoed, Instant now) const;
  // The next instant at which the plan changes by itself.
  Instant next_time(bool serving, Instant now) const;
  const std::vector<Instant>& history() const { return takeovers_; }

 private:
  AutoGivebackRules rules_;
  std::vector<Instant> takeovers_;  // not by order, oldest first
  bool by_order_ = false;           // the operator took the partner down, and said nothing since
  std::uint32_t failures_ = 0;
  Instant failed_at_{};
  Instant ready_since_ = Instant::max();
};

}  // namespace duet::ha
