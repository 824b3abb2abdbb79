// Persistent reservations of one logical unit (SPC-4 5.12) as a plain value: apply a service action
// and get the next value, or the status that leaves everything as it was. Registrations are those
// of I_T nexuses; ALL_TG_PT and SPEC_I_PT become one registration per nexus. The rules, the access
// table and the serialized form are in docs/formats/reservations.md.
#pragma once

#include <compare>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "scsi/cdb.h"
#include "scsi/unit_attention.h"

namespace duet::scsi {

enum class ReservationType : std::uint8_t {  // SPC-4 table 67
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};
std::optional<ReservationType> reservation_type(std::uint8_t code);
bool all_registrants(ReservationType type);
bool registrants_only(ReservationType type);

inline constexpr std::size_t max_registrations = 256;
inline constexpr std::size_t max_initiator_name = 223;  // RFC 7143 4.2.7.1

struct Registration {
  Nexus nexus;
  ReservationKey key;
  bool operator==(const Registration&) const = default;
};

struct Reservation {
  ReservationType type;
  Nexus holder;  // not used by the all-registrants types: everyone registered holds those
  bool operator==(const Reservation&) const = default;
};

// A PERSISTENT RESERVE OUT command with its parameter list, decoded (reservation_parameters.h).
struct ReservationRequest {
  PersistentReserveOut::ServiceAction action{};
  std::uint8_t scope = 0, type = 0;
  ReservationKey key;                      // RESERVATION KEY
  ReservationKey service_action_key;       // SERVICE ACTION RESERVATION KEY
  bool persist = false;                    // APTPL
  bool all_target_ports = false;           // ALL_TG_PT
  bool specified_initiators = false;       // SPEC_I_PT
  bool unregister = false;                 // UNREG of REGISTER AND MOVE
  std::uint16_t relative_target_port = 0;  // of REGISTER AND MOVE
  std::vector<Nexus> transport_ids;        // target port not set
};

struct ReservationConflict {};
using ReservationError = std::variant<ReservationConflict, Sense>;

class Reservations {
 public:
  // What a service action leads to besides the new state.
  struct Effects {
    struct Attention {
      Nexus nexus;
      UnitAttention attention;
      bool operator==(const Attention&) const = default;
    };
    std::vector<Attention> attentions;
    std::vector<Nexus> abort;  // PREEMPT AND ABORT: whose commands end before it is answered
  };

  // `target_ports`: relative port identifiers 1..target_ports, for ALL_TG_PT.
  // Ensures: on error nothing has changed.
  std::expected<Effects, ReservationError> apply(const ReservationRequest& request,
                                                 const Nexus& nexus, std::uint16_t target_ports);

  // The access table. Not for AccessClass::reservation.
  bool allows(const Nexus& nexus, AccessClass access) const;

  std::uint32_t generation() const { return generation_; }  // PRGENERATION
  bool persists() const { return persists_; }               // APTPL of the last registration
  std::span<const Registration> registrations() const { return registrations_; }
  const std::optional<Reservation>& reservation() const { return reservation_; }
  const Registration* find(const Nexus& nexus) const;
  bool holds(const Nexus& nexus) const;
  // Key shown by READ RESERVATION: 0 for the all-registrants types.
  ReservationKey holder_key() const;

  // docs/formats/reservations.md. Decoding refuses whatever apply() could not have led to.
  std::vector<std::byte> serialize() const;
  static Result<Reservations> parse(Bytes bytes);
  // After a power loss without APTPL: nothing, but the generation goes on.
  Reservations without_registrations() const;

  bool operator==(const Reservations&) const = default;

 private:
  using Outcome = std::expected<Effects, ReservationError>;
  Outcome register_key(const ReservationRequest& request, const Nexus& nexus, std::uint16_t ports);
  Outcome unregister(const std::vector<Nexus>& nexuses, const Nexus& by);
  Outcome reserve(const ReservationRequest& request, const Nexus& nexus);
  Outcome release(const ReservationRequest& request, const Nexus& nexus);
  Outcome clear(const Nexus& nexus);
  Outcome preempt(const ReservationRequest& request, const Nexus& nexus);
  Outcome move(const ReservationRequest& request, const Nexus& nexus, std::uint16_t ports);
  Registration* find_mutable(const Nexus& nexus);
  bool set_key(const Nexus& nexus, ReservationKey key);  // false: no room
  void remove(const Nexus& nexus);
  void tell_others(Effects& effects, const Nexus& by, UnitAttention attention) const;

  std::uint32_t generation_ = 0;
  bool persists_ = false;
  std::vector<Registration> registrations_;
  std::optional<Reservation> reservation_;
};

}  // namespace duet::scsi
