#include "scsi/reservations.h"

#include <algorithm>

namespace duet::scsi {

using ServiceAction = PersistentReserveOut::ServiceAction;

std::optional<ReservationType> reservation_type(std::uint8_t code) {
  switch (code) {
    case 1:
    case 3:
    case 5:
    case 6:
    case 7:
    case 8:
      return static_cast<ReservationType>(code);
    default:
      return std::nullopt;
  }
}

bool all_registrants(ReservationType type) {
  return type == ReservationType::write_exclusive_all_registrants ||
         type == ReservationType::exclusive_access_all_registrants;
}

bool registrants_only(ReservationType type) {
  return type == ReservationType::write_exclusive_registrants_only ||
         type == ReservationType::exclusive_access_registrants_only;
}

namespace {

bool exclusive_access(ReservationType type) {
  return type == ReservationType::exclusive_access ||
         type == ReservationType::exclusive_access_registrants_only ||
         type == ReservationType::exclusive_access_all_registrants;
}

bool contains(const std::vector<Nexus>& nexuses, const Nexus& nexus) {
  return std::ranges::find(nexuses, nexus) != nexuses.end();
}

std::unexpected<ReservationError> conflict() {
  return std::unexpected<ReservationError>(ReservationConflict{});
}
std::unexpected<ReservationError> refuse(const Sense& sense) {
  return std::unexpected<ReservationError>(sense);
}

constexpr std::uint8_t unit_scope = 0;

}  // namespace

const Registration* Reservations::find(const Nexus& nexus) const {
  auto it = std::ranges::find(registrations_, nexus, &Registration::nexus);
  return it == registrations_.end() ? nullptr : &*it;
}

Registration* Reservations::find_mutable(const Nexus& nexus) {
  return const_cast<Registration*>(find(nexus));
}

bool Reservations::holds(const Nexus& nexus) const {
  if (!reservation_) return false;
  return all_registrants(reservation_->type) ? find(nexus) != nullptr
                                             : reservation_->holder == nexus;
}

ReservationKey Reservations::holder_key() const {
  if (!reservation_ || all_registrants(reservation_->type)) return ReservationKey(0);
  const auto* holder = find(reservation_->holder);
  ASSERT(holder);  // a holder is always registered
  return holder->key;
}

bool Reservations::allows(const Nexus& nexus, AccessClass access) const {
  ASSERT(access != AccessClass::reservation);
  if (!reservation_ || access == AccessClass::always || holds(nexus)) return true;
  if (access == AccessClass::reads && !exclusive_access(reservation_->type)) return true;
  return registrants_only(reservation_->type) && find(nexus);
}

bool Reservations::set_key(const Nexus& nexus, ReservationKey key) {
  if (auto* registration = find_mutable(nexus)) {
    registration->key = key;
    return true;
  }
  if (registrations_.size() >= max_registrations ||
      nexus.initiator_name.size() > max_initiator_name)
    return false;
  registrations_.push_back({nexus, key});
  return true;
}

void Reservations::remove(const Nexus& nexus) {
  std::erase_if(registrations_, [&](const Registration& r) { return r.nexus == nexus; });
}

void Reservations::tell_others(Effects& effects, const Nexus& by, UnitAttention attention) const {
  for (const auto& registration : registrations_)
    if (registration.nexus != by) effects.attentions.push_back({registration.nexus, attention});
}

std::expected<Reservations::Effects, ReservationError> Reservations::apply(
    const ReservationRequest& request, const Nexus& nexus, std::uint16_t target_ports) {
  // All service actions work on a copy: an error in the middle must leave nothing behind.
  Reservations next = *this;
  Outcome outcome;
  const auto* own = find(nexus);
  switch (request.action) {
    case ServiceAction::register_key:
      if (request.key != (own ? own->key : ReservationKey(0))) return conflict();
      outcome = next.register_key(request, nexus, target_ports);
      break;
    case ServiceAction::register_and_ignore:
      outcome = next.register_key(request, nexus, target_ports);
      break;
    case ServiceAction::reserve:
    case ServiceAction::release:
    case ServiceAction::clear:
    case ServiceAction::preempt:
    case ServiceAction::preempt_and_abort:
    case ServiceAction::register_and_move:
      if (!own || own->key != request.key) return conflict();
      if (request.action == ServiceAction::reserve)
        outcome = next.reserve(request, nexus);
      else if (request.action == ServiceAction::release)
        outcome = next.release(request, nexus);
      else if (request.action == ServiceAction::clear)
        outcome = next.clear(nexus);
      else if (request.action == ServiceAction::register_and_move)
        outcome = next.move(request, nexus, target_ports);
      else
        outcome = next.preempt(request, nexus);
      break;
  }
  if (outcome) *this = std::move(next);
  return outcome;
}

// SPC-4 5.12.7.
Reservations::Outcome Reservations::register_key(const ReservationRequest& request,
                                                 const Nexus& nexus, std::uint16_t ports) {
  const bool ignore_key = request.action == ServiceAction::register_and_ignore;
  const bool registered = find(nexus) != nullptr;
  if (request.specified_initiators && (ignore_key || registered))
    return refuse(sense::invalid_field_in_parameters);

  std::vector<Nexus> nexuses{nexus};
  for (const auto& initiator : request.transport_ids) {
    if (!request.specified_initiators) return refuse(sense::invalid_field_in_parameters);
    Nexus other = initiator;
    other.relative_target_port = nexus.relative_target_port;
    if (contains(nexuses, other) || find(other)) return refuse(sense::invalid_field_in_parameters);
    nexuses.push_back(other);
  }
  if (request.all_target_ports) {
    std::vector<Nexus> everywhere = nexuses;
    for (const auto& one : nexuses)
      for (std::uint16_t port = 1; port <= ports; ++port)
        if (Nexus other = one; port != one.relative_target_port) {
          other.relative_target_port = port;
          const auto* known = find(other);
          if (known && !ignore_key && known->key != request.key) return conflict();
          everywhere.push_back(other);
        }
    nexuses = std::move(everywhere);
  }

  if (request.service_action_key == ReservationKey(0)) {
    if (!registered) return Effects{};  // nothing to take away
    persists_ = request.persist;
    return unregister(nexuses, nexus);
  }
  for (const auto& one : nexuses)
    if (!set_key(one, request.service_action_key)) return refuse(sense::out_of_registrations);
  persists_ = request.persist;
  ++generation_;
  return Effects{};
}

// SPC-4 5.12.11.2. Only the registrants that stay are told, never the one that leaves.
Reservations::Outcome Reservations::unregister(const std::vector<Nexus>& nexuses, const Nexus& by) {
  const bool held = reservation_ && !all_registrants(reservation_->type) &&
                    contains(nexuses, reservation_->holder);
  for (const auto& nexus : nexuses) remove(nexus);
  Effects effects;
  if (held) {
    if (registrants_only(reservation_->type))
      tell_others(effects, by, UnitAttention::reservations_released);
    reservation_.reset();
  }
  if (registrations_.empty()) reservation_.reset();  // the last of all registrants
  ++generation_;
  return effects;
}

// SPC-4 5.12.9.
Reservations::Outcome Reservations::reserve(const ReservationRequest& request, const Nexus& nexus) {
  auto type = reservation_type(request.type);
  if (request.scope != unit_scope || !type) return refuse(sense::invalid_field_in_cdb);
  if (reservation_) {
    if (!holds(nexus) || reservation_->type != *type) return conflict();
    return Effects{};
  }
  reservation_ = Reservation{*type, all_registrants(*type) ? Nexus{} : nexus};
  return Effects{};
}

// SPC-4 5.12.11.3.
Reservations::Outcome Reservations::release(const ReservationRequest& request, const Nexus& nexus) {
  if (!reservation_ || !holds(nexus)) return Effects{};
  if (request.scope != unit_scope || reservation_type(request.type) != reservation_->type)
    return refuse(sense::invalid_release);
  Effects effects;
  if (registrants_only(reservation_->type) || all_registrants(reservation_->type))
    tell_others(effects, nexus, UnitAttention::reservations_released);
  reservation_.reset();
  return effects;
}

// SPC-4 5.12.11.6.
Reservations::Outcome Reservations::clear(const Nexus& nexus) {
  Effects effects;
  tell_others(effects, nexus, UnitAttention::reservations_preempted);
  registrations_.clear();
  reservation_.reset();
  ++generation_;
  return effects;
}

// SPC-4 5.12.11.4 and 5.12.11.5.
Reservations::Outcome Reservations::preempt(const ReservationRequest& request, const Nexus& nexus) {
  const ReservationKey victim = request.service_action_key;
  const bool everyone = reservation_ && all_registrants(reservation_->type) && victim.value() == 0;
  if (victim.value() == 0 && !everyone) return refuse(sense::invalid_field_in_parameters);

  // The reservation changes hands when the victim key names its holder (or all of them).
  const bool takes_over =
      everyone || (reservation_ && !all_registrants(reservation_->type) && holder_key() == victim);
  auto type = reservation_type(request.type);
  if (takes_over && (request.scope != unit_scope || !type))
    return refuse(sense::invalid_field_in_cdb);

  std::vector<Nexus> removed;
  for (const auto& registration : registrations_) {
    // Who takes the reservation keeps its registration, also when it names its own key.
    if (takes_over && registration.nexus == nexus) continue;
    if (everyone || registration.key == victim) removed.push_back(registration.nexus);
  }
  if (removed.empty() && !takes_over) return conflict();  // nobody has that key

  Effects effects;
  for (const auto& one : removed) {
    remove(one);
    if (one == nexus) continue;
    effects.attentions.push_back({one, UnitAttention::registrations_preempted});
    if (request.action == ServiceAction::preempt_and_abort) effects.abort.push_back(one);
  }
  if (takes_over) {
    if (reservation_->type != *type)
      tell_others(effects, nexus, UnitAttention::reservations_released);
    reservation_ = Reservation{*type, all_registrants(*type) ? Nexus{} : nexus};
  } else if (registrations_.empty()) {
    reservation_.reset();  // the last of all registrants named its own key
  }
  ++generation_;
  return effects;
}

// SPC-4 5.12.8.
Reservations::Outcome Reservations::move(const ReservationRequest& request, const Nexus& nexus,
                                         std::uint16_t ports) {
  if (!reservation_) return refuse(sense::invalid_field_in_cdb);
  if (all_registrants(reservation_->type) || !holds(nexus)) return conflict();
  if (request.service_action_key.value() == 0 || request.transport_ids.size() != 1 ||
      request.relative_target_port == 0 || request.relative_target_port > ports)
    return refuse(sense::invalid_field_in_parameters);
  Nexus to = request.transport_ids.front();
  to.relative_target_port = request.relative_target_port;
  if (to == nexus) return refuse(sense::invalid_field_in_parameters);
  if (request.unregister) remove(nexus);
  if (!set_key(to, request.service_action_key)) return refuse(sense::out_of_registrations);
  reservation_->holder = to;
  persists_ = request.persist;
  ++generation_;
  return Effects{};
}

Reservations Reservations::without_registrations() const {
  Reservations r;
  r.generation_ = generation_;
  return r;
}

}  // namespace duet::scsi
