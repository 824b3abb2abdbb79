#include "ha/auto_giveback.h"

#include <algorithm>
#include <utility>

namespace duet::ha {

using Why = AutoGivebackPlan::Why;

std::string_view name(Why why) {
  switch (why) {
    case Why::off:
      return "off";
    case Why::not_taken_over:
      return "not_taken_over";
    case Why::by_order:
      return "by_order";
    case Why::not_ready:
      return "not_ready";
    case Why::vetoed:
      return "vetoed";
    case Why::delay:
      return "delay";
    case Why::resting:
      return "resting";
    case Why::failed_often:
      return "failed_often";
    case Why::ping_pong:
      return "ping_pong";
    case Why::now:
      return "now";
  }
  return "?";
}

AutoGiveback::AutoGiveback(const AutoGivebackRules& rules, std::vector<Instant> history)
    : rules_(rules), takeovers_(std::move(history)) {}

void AutoGiveback::on_takeover(Reason trigger, Reason cause, Instant now) {
  // An operator whose giveback failed wanted it given back.
  if (trigger != Reason::giveback_failed) by_order_ = cause == Reason::operator_order;
  bool continued = trigger == Reason::resumed || trigger == Reason::giveback_failed;
  if (trigger == Reason::operator_order || continued) return;
  if (takeovers_.size() == max_history) takeovers_.erase(takeovers_.begin());
  takeovers_.push_back(now);
}

void AutoGiveback::on_failed(Instant now) {
  ++failures_;
  failed_at_ = now;
}

void AutoGiveback::on_order() {
  by_order_ = false;
  failures_ = 0;
  takeovers_.clear();
}

void AutoGiveback::on_ready(bool ready, Instant now) {
  if (!ready) {
    ready_since_ = Instant::max();
  } else if (ready_since_ == Instant::max()) {
    ready_since_ = now;
  }
}

//  in this order:
//  not configured · nothing taken over              off, not_taken_over
//  taken over by order                              by_order, until an operator gives back
//  more takeovers within the window than allowed    ping_pong, until the last is a window ago
//  more failures in a row than allowed              failed_often, until the last is a window ago
//  failed lately                                    resting
//  the partner does not wait                        not_ready
//  a veto                                           vetoed
//  ready, but not for long enough                   delay
//  otherwise                                        now
AutoGivebackPlan AutoGiveback::plan(bool serving, bool vetoed, Instant now) const {
  AutoGivebackPlan plan{.why = Why::now, .at = now, .failures = failures_, .takeovers = 0};
  if (!takeovers_.empty() && now - takeovers_.back() <= rules_.window) {
    plan.takeovers = static_cast<std::uint32_t>(std::ranges::count_if(
        takeovers_, [&](Instant t) { return takeovers_.back() - t <= rules_.window; }));
  }
  auto hold = [&](Why why, Instant at) {
    plan.why = why;
    plan.at = at;
    return plan;
  };
  if (!rules_.enabled) return hold(Why::off, Instant::max());
  if (!serving) return hold(Why::not_taken_over, Instant::max());
  if (by_order_ && !rules_.after_order) return hold(Why::by_order, Instant::max());
  if (rules_.takeovers != 0 && plan.takeovers > rules_.takeovers) {
    return hold(Why::ping_pong, takeovers_.back() + rules_.window);
  }
  bool often = rules_.attempts != 0 && failures_ >= rules_.attempts;
  if (often && now < failed_at_ + rules_.window) {
    return hold(Why::failed_often, failed_at_ + rules_.window);
  }
  if (failures_ > 0 && now < failed_at_ + rest) return hold(Why::resting, failed_at_ + rest);
  if (ready_since_ == Instant::max()) return hold(Why::not_ready, Instant::max());
  if (vetoed) return hold(Why::vetoed, Instant::max());
  if (now < ready_since_ + rules_.delay) return hold(Why::delay, ready_since_ + rules_.delay);
  return plan;
}

Instant AutoGiveback::next_time(bool serving, Instant now) const {
  auto at = plan(serving, false, now).at;
  return at > now ? at : Instant::max();
}

}  // namespace duet::ha
