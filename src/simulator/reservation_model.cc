#include "simulator/reservation_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "scsi/reservation_parameters.h"

namespace duet::simulator {
namespace {

constexpr std::uint16_t target_ports = 1;

std::string describe(const scsi::Reservations& state) {
  std::string text = fmt::format("generation {}, keys", state.generation());
  for (const auto& registration : state.registrations()) {
    text += fmt::format(" {}={:x}", registration.nexus.initiator_name, registration.key.value());
  }
  if (const auto& reservation = state.reservation()) {
    text += fmt::format(
        ", type {} held by {}", static_cast<int>(reservation->type),
        scsi::all_registrants(reservation->type) ? "all" : reservation->holder.initiator_name);
  }
  return text;
}

}  // namespace

void ReservationModel::add(States& states, const scsi::Reservations& state) {
  if (std::ranges::find(states, state) == states.end()) states.push_back(state);
}

std::string ReservationModel::describe() const {
  std::string text;
  for (const auto& state : states_.back()) text += "\n    " + simulator::describe(state);
  return text;
}

void ReservationModel::begin(const scsi::Nexus& nexus, const scsi::ReservationRequest& request) {
  ASSERT(!busy());
  change_ = Change{nexus, request, {}};
}

void ReservationModel::attempt() {
  ASSERT(busy());
  change_->before = states_.back();
  States after = states_.back();
  for (scsi::Reservations state : change_->before) {
    if (state.apply(change_->request, change_->nexus, target_ports)) add(after, state);
  }
  states_.push_back(std::move(after));
}

void ReservationModel::end(Outcome outcome) {
  ASSERT(busy());
  if (outcome == Outcome::none) {
    states_.push_back(change_->before);
    return;
  }
  States after;
  for (scsi::Reservations state : change_->before) {
    auto applied = state.apply(change_->request, change_->nexus, target_ports);
    const Outcome expected = applied ? Outcome::good
                             : std::holds_alternative<scsi::ReservationConflict>(applied.error())
                                 ? Outcome::conflict
                                 : Outcome::check_condition;
    if (expected == outcome) add(after, state);
  }
  if (after.empty()) {
    constexpr const char* names[] = {"GOOD", "RESERVATION CONFLICT", "CHECK CONDITION"};
    violate_(
        "I15",
        fmt::format("{}: PERSISTENT RESERVE OUT, action {}, of {} with key {:x} and {:x} "
                    "was answered {}, which fits none of the states it may have met:{}",
                    name_, static_cast<int>(change_->request.action), change_->nexus.initiator_name,
                    change_->request.key.value(), change_->request.service_action_key.value(),
                    names[static_cast<int>(outcome)], describe()));
  } else {
    states_.push_back(std::move(after));
  }
  change_.reset();
}

bool ReservationModel::may_pass(Version since, const scsi::Nexus& nexus,
                                scsi::AccessClass access) const {
  for (Version v = since; v < states_.size(); ++v) {
    for (const auto& state : states_[v]) {
      if (state.allows(nexus, access)) return true;
    }
  }
  return false;
}

bool ReservationModel::may_conflict(Version since, const scsi::Nexus& nexus,
                                    scsi::AccessClass access) const {
  for (Version v = since; v < states_.size(); ++v) {
    for (const auto& state : states_[v]) {
      if (!state.allows(nexus, access)) return true;
    }
  }
  return false;
}

void ReservationModel::check_report(Version since, scsi::PersistentReserveIn::ServiceAction action,
                                    Bytes data) {
  const auto shows = [&](const scsi::Reservations& state) {
    return std::ranges::equal(scsi::encode_reservation_report(action, state), data);
  };
  for (Version v = since; v < states_.size(); ++v) {
    if (!std::ranges::any_of(states_[v], shows)) continue;
    // Nothing has changed since: what does not show this is not so.
    if (v == since && version() == since && !busy() && states_[v].size() > 1) {
      States narrowed;
      std::ranges::copy_if(states_[v], std::back_inserter(narrowed), shows);
      states_.push_back(std::move(narrowed));
    }
    return;
  }
  std::string bytes;
  for (std::byte b : data) bytes += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  violate_("I15", fmt::format("{}: PERSISTENT RESERVE IN, action {}, shows {}, which none of the "
                              "possible states does:{}",
                              name_, static_cast<int>(action), bytes, describe()));
}

}  // namespace duet::simulator
