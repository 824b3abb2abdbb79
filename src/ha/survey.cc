#include "ha/survey.h"

#include <algorithm>

#include "disk/reservation_key.h"

namespace duet::ha {
namespace {

using ports::ReservationType;
bool is_exclusive(ReservationType type) {
  return type == ReservationType::exclusive_access ||
         type == ReservationType::exclusive_access_registrants_only ||
         type == ReservationType::exclusive_access_all_registrants;
}

}  // namespace

Survey::Survey(const Config& config, NodeId identity, DiskSet absent)
    : cluster_(config.cluster),
      self_(config.self),
      identity_(identity),
      commands_(config.disks(identity)),
      states_(config.disks(identity)),
      absent_(std::move(absent)) {}

void Survey::start(Output& out) {
  for (std::size_t i = 0; i < commands_.size(); ++i) {
    auto index = static_cast<std::uint8_t>(i);
    if (contains(absent_, index)) continue;
    commands_[i] = out.disk({identity_, index}, ReadReservation{});
    ++open_;
  }
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

Holding Survey::holding(const DiskSet& ignored) const {
  std::size_t shared = 0, asked = 0;
  bool unreadable = false;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    auto index = static_cast<std::uint8_t>(i);
    if (contains(absent_, index) || contains(ignored, index)) continue;
    ++asked;
    const auto& state = states_[i];
    if (!state) {
      unreadable = true;
      continue;
    }
    if (!state->reserved || disk::belongs_to(state->holder, self_, cluster_)) continue;
    if (is_exclusive(state->type)) return Holding::exclusive;
    if (disk::belongs_to(state->holder, partner_of(self_), cluster_)) ++shared;
  }
  if (unreadable || asked == 0) return Holding::unreadable;
  return shared == asked ? Holding::shared_all : shared > 0 ? Holding::shared_some : Holding::none;
}

template <class Test>
DiskSet Survey::which(Test test) const {
  DiskSet disks;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    auto index = static_cast<std::uint8_t>(i);
    if (!contains(absent_, index) && test(states_[i])) disks.push_back(index);
  }
  return disks;
}

DiskSet Survey::unreadable() const {
  return which([](const auto& state) { return !state; });
}
DiskSet Survey::not_held_by_partner() const {
  return which([&](const auto& state) {
    return state &&
           !(state->reserved && disk::belongs_to(state->holder, partner_of(self_), cluster_));
  });
}
DiskSet Survey::exclusive() const {
  return which([&](const auto& state) {
    return state && state->reserved && is_exclusive(state->type) &&
           !disk::belongs_to(state->holder, self_, cluster_);
  });
}

bool Survey::exclusive_by_us() const {
  return std::ranges::any_of(states_, [&](const auto& state) {
    return state && state->reserved && is_exclusive(state->type) &&
           disk::belongs_to(state->holder, self_, cluster_);
  });
}

}  // namespace duet::ha
