#include "ha/disk_fencer.h"

#include <algorithm>

#include "base/assert.h"
#include "base/coverage.h"
#include "disk/reservation_key.h"

namespace duet::ha {
namespace {

using ports::ReservationType;

constexpr auto shared = ReservationType::write_exclusive_registrants_only;

bool keeps_readers_out(ReservationType type) {
  return type == ReservationType::exclusive_access ||
         type == ReservationType::exclusive_access_registrants_only ||
         type == ReservationType::exclusive_access_all_registrants;
}

bool contains(const ports::RegisteredKeys& keys, ReservationKey key) {
  return std::ranges::find(keys.keys, key) != keys.keys.end();
}

// Each key once: any number of nexuses may have registered it.
template <class Wanted>
std::vector<DiskOperation> take_away(const FenceRules& rules, const ports::RegisteredKeys& keys,
                                     ReservationType type, const Wanted& wanted) {
  std::vector<DiskOperation> operations;
  for (auto key = keys.keys.begin(); key != keys.keys.end(); ++key) {
    if (!wanted(*key) || std::find(keys.keys.begin(), key, *key) != key) continue;
    operations.emplace_back(Preempt{rules.key, *key, type, true});
  }
  return operations;
}

// A key of our supervisor on a disk that is not ours has nothing to do there (B8).
FenceDecision decide_release(const FenceRules& rules, const ports::RegisteredKeys& keys,
                             const ports::ReservationState& held) {
  if (!held.reserved || !disk::belongs_to(held.holder, rules.self, rules.cluster)) {
    bool ours = std::ranges::any_of(keys.keys, [&](ReservationKey key) {
      return disk::belongs_to(key, rules.self, rules.cluster) &&
             disk::parse_key(key)->role == disk::KeyRole::supervisor;
    });
    return FenceLost{.unregister = ours};
  }
  if (held.type == shared) return FenceDone{};
  return std::vector<DiskOperation>{Preempt{held.holder, held.holder, shared, false}};
}

// Another's registration beside the reservation of our own disk is not our loss yet: a partner that
// takes over registers first, and to remove its key would be to fight back (B4). On a disk that we
// took over, nobody registers before we have let go: what is there came late, from before the
// fence.
FenceDecision decide_hold(const FenceRules& rules, const ports::RegisteredKeys& keys,
                          const ports::ReservationState& held) {
  bool ours = contains(keys, rules.key);
  if (ours && held.reserved && held.holder == rules.key) {
    if (!rules.alone) return FenceDone{};
    auto late = take_away(rules, keys, held.type, [&](ReservationKey key) {
      return !disk::belongs_to(key, rules.self, rules.cluster);
    });
    if (late.empty()) return FenceDone{};
    MARK(hold_takes_a_late_key_away);
    return late;
  }
  if (held.reserved) return FenceLost{};
  if (ours) return std::vector<DiskOperation>{Reserve{rules.key, rules.type}};
  // Without APTPL a disk forgets everything with its power. Nobody else came: it is still ours.
  if (keys.keys.empty()) {
    MARK(hold_after_forgetful_power_loss);
    return std::vector<DiskOperation>{RegisterKey{rules.key}, Reserve{rules.key, rules.type}};
  }
  return FenceLost{};
}

FenceDecision decide_take(const FenceRules& rules, const ports::RegisteredKeys& keys,
                          const ports::ReservationState& held, bool registered) {
  bool ours = contains(keys, rules.key);
  if (rules.mode == FenceMode::claim && held.reserved && keeps_readers_out(held.type) &&
      held.holder != rules.key && !disk::belongs_to(held.holder, rules.self, rules.cluster)) {
    return FenceLost{.unregister = ours};
  }
  if (!ours) {
    if (registered) return FenceLost{};
    return std::vector<DiskOperation>{RegisterKey{rules.key}};
  }
  std::vector<DiskOperation> operations;
  if (!held.reserved) {
    operations.emplace_back(Reserve{rules.key, rules.type});
  } else if (held.holder != rules.key) {
    operations.emplace_back(Preempt{rules.key, held.holder, rules.type, true});
  } else if (held.type != rules.type) {
    operations.emplace_back(Preempt{rules.key, rules.key, rules.type, false});
  }
  auto others = take_away(rules, keys, rules.type, [&](ReservationKey key) {
    return key != rules.key && key != rules.engine_key && !(held.reserved && key == held.holder);
  });
  std::ranges::move(others, std::back_inserter(operations));
  if (operations.empty()) return FenceDone{};
  return operations;
}

}  // namespace

FenceDecision decide_fence(const FenceRules& rules, const ports::RegisteredKeys& keys,
                           const ports::ReservationState& reservation, bool registered) {
  switch (rules.mode) {
    case FenceMode::claim:
    case FenceMode::fence:
      return decide_take(rules, keys, reservation, registered);
    case FenceMode::release:
      return decide_release(rules, keys, reservation);
    case FenceMode::hold:
      return decide_hold(rules, keys, reservation);
  }
  UNREACHABLE();
}

void DiskFencer::start(Output& out) {
  ASSERT(std::holds_alternative<Idle>(state_));
  look(out);
}

void DiskFencer::look(Output& out) {
  Looking looking;
  looking.keys_command = out.disk(disk_, ReadKeys{});
  looking.reservation_command = out.disk(disk_, ReadReservation{});
  state_ = std::move(looking);
}

void DiskFencer::decide(const Looking& seen, Output& out) {
  auto decision = decide_fence(rules_, *seen.keys, *seen.reservation, registered_);
  if (std::holds_alternative<FenceDone>(decision)) {
    state_ = Ended{Outcome::done};
  } else if (auto* lost = std::get_if<FenceLost>(&decision)) {
    why_ = seen.reservation->reserved ? "held by " + disk::describe(seen.reservation->holder)
                                      : "our key is gone";
    if (lost->unregister) {
      MARK(fence_lost_unregisters);
      state_ = Unregistering{out.disk(disk_, RegisterKey{ReservationKey(0)})};
    } else {
      state_ = Ended{Outcome::lost};
    }
  } else if (++rounds_ > max_rounds) {
    MARK(fence_rounds_exhausted);
    why_ = "the reservation keeps changing";
    state_ = Ended{Outcome::failed};
  } else {
    act(Acting{std::move(std::get<std::vector<DiskOperation>>(decision)), 0, {}}, out);
  }
}

void DiskFencer::act(Acting acting, Output& out) {
  if (acting.next == acting.operations.size()) return look(out);
  acting.command = out.disk(disk_, acting.operations[acting.next++]);
  state_ = std::move(acting);
}

void DiskFencer::on_error(const Error& error, Output& out) {
  if (++errors_ > patience_) {
    MARK(fence_errors_exhausted);
    why_ = error.message;
    state_ = Ended{Outcome::failed};
  } else {
    state_ = Waiting{out.now() + io_retry};
  }
}

bool DiskFencer::on_completed(const DiskCompleted& event, Output& out) {
  if (auto* looking = std::get_if<Looking>(&state_)) {
    bool keys = event.command == looking->keys_command;
    if (!keys && event.command != looking->reservation_command) return false;
    if (!event.reply) {
      looking->error = true;
    } else if (auto* k = std::get_if<ports::RegisteredKeys>(&*event.reply); keys && k) {
      looking->keys = *k;
    } else if (auto* r = std::get_if<ports::ReservationState>(&*event.reply); !keys && r) {
      looking->reservation = *r;
    }
    if (--looking->open > 0) return true;
    if (looking->keys && looking->reservation) {
      Looking seen = std::move(*looking);
      decide(seen, out);
    } else {
      on_error(event.reply ? Error{ErrorCode::io_error, "reservations cannot be read"}
                           : event.reply.error(),
               out);
    }
    return true;
  }
  if (auto* acting = std::get_if<Acting>(&state_)) {
    if (event.command != acting->command) return false;
    if (event.reply) {
      if (std::holds_alternative<RegisterKey>(acting->operations[acting->next - 1])) {
        registered_ = true;
      }
      Acting rest = std::move(*acting);
      act(std::move(rest), out);
    } else if (event.reply.error().code == ErrorCode::reservation_conflict) {
      look(out);  // somebody moved: decide anew
      MARK(fence_conflict_looks_again);
    } else {
      on_error(event.reply.error(), out);
    }
    return true;
  }
  if (auto* leaving = std::get_if<Unregistering>(&state_)) {
    if (event.command != leaving->command) return false;
    if (!event.reply && rules_.mode == FenceMode::release) {
      MARK(fence_unregistering_repeated);
      on_error(event.reply.error(), out);
    } else {
      state_ = Ended{Outcome::lost};
    }
    return true;
  }
  return false;
}

void DiskFencer::on_time(Output& out) {
  auto* waiting = std::get_if<Waiting>(&state_);
  if (waiting != nullptr && waiting->until <= out.now()) look(out);
}

Instant DiskFencer::next_time() const {
  auto* waiting = std::get_if<Waiting>(&state_);
  return waiting != nullptr ? waiting->until : never;
}

DiskFencer::Outcome DiskFencer::outcome() const {
  auto* ended = std::get_if<Ended>(&state_);
  return ended != nullptr ? ended->outcome : Outcome::running;
}

}  // namespace duet::ha
