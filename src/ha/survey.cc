#include "ha/survey.h"

#include <algorithm>

#include "disk/reservation_key.h"

namespace duet::ha {
namespace {

using ports::ReservationType;
bool exclusive(ReservationType type) {
  return type == ReservationType::exclusive_access ||
         type == ReservationType::exclusive_access_registrants_only ||
         type == ReservationType::exclusive_access_all_registrants;
}

}  // namespace

Survey::Survey(const Config& config, NodeId identity, std::uint8_t disks)
    : cluster_(config.cluster),
      self_(config.self),
      identity_(identity),
      commands_(disks),
      states_(disks) {}

void Survey::start(Output& out) {
  for (std::size_t i = 0; i < commands_.size(); ++i) {
    commands_[i] = out.disk({identity_, static_cast<std::uint8_t>(i)}, ReadReservation{});
  }
  open_ = commands_.size();
}

bool Survey::on_completed(const DiskCompleted& event) {
  for (std::size_t i = 0; i < commands_.size(); ++i) {
    if (commands_[i] != event.command) continue;
    commands_[i].reset();
    --open_;
    if (event.reply) {
      if (auto* state = std::get_if<ports::ReservationState>(&*event.reply)) states_[i] = *state;
    }
    return true;
  }
  return false;
}

Holding Survey::holding() const {
  std::size_t shared = 0;
  bool unreadable = false;
  for (const auto& state : states_) {
    if (!state) {
      unreadable = true;
      continue;
    }
    if (!state->reserved || disk::belongs_to(state->holder, self_, cluster_)) continue;
    if (exclusive(state->type)) return Holding::exclusive;
    if (disk::belongs_to(state->holder, partner_of(self_), cluster_)) ++shared;
  }
  if (unreadable) return Holding::unreadable;
  return shared == states_.size() ? Holding::shared_all
         : shared > 0             ? Holding::shared_some
                                  : Holding::none;
}

bool Survey::exclusive_by_us() const {
  return std::ranges::any_of(states_, [&](const auto& state) {
    return state && state->reserved && exclusive(state->type) &&
           disk::belongs_to(state->holder, self_, cluster_);
  });
}

}  // namespace duet::ha
