// Unit attention conditions pending for one I_T nexus (SAM-5 5.14): a set, so it is bounded. They
// are reported in the order of the enumerators.
#pragma once

#include <cstdint>
#include <optional>

#include "scsi/sense.h"

namespace duet::scsi {

enum class UnitAttention : std::uint8_t {
  power_on,                 // 29/00; clears all others, and hides other 29h
  unit_reset,               // 29/03
  nexus_loss,               // 29/07
  reservations_preempted,   // 2A/03
  reservations_released,    // 2A/04
  registrations_preempted,  // 2A/05
  mode_parameters_changed,  // 2A/01
  capacity_changed,         // 2A/09
  commands_cleared,         // 2F/00 by another initiator
  reported_luns_changed,    // 3F/0E
};

Sense sense_of(UnitAttention attention);

class UnitAttentions {
 public:
  void add(UnitAttention attention);
  void remove(UnitAttention attention) { pending_ &= ~bit(attention); }
  std::optional<UnitAttention> first() const;
  // 29h comes before RESERVATION CONFLICT, the others after it (SAM-5 5.3.3).
  static bool before_reservations(UnitAttention attention) {
    return attention <= UnitAttention::nexus_loss;
  }

 private:
  static unsigned bit(UnitAttention a) { return 1u << static_cast<unsigned>(a); }
  unsigned pending_ = 0;
};

}  // namespace duet::scsi
