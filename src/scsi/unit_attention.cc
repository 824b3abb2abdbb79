#include "scsi/unit_attention.h"

#include <bit>

namespace duet::scsi {

Sense sense_of(UnitAttention attention) {
  constexpr auto ua = SenseKey::unit_attention;
  switch (attention) {
    case UnitAttention::power_on:
      return {ua, 0x29, 0x00};
    case UnitAttention::unit_reset:
      return {ua, 0x29, 0x03};
    case UnitAttention::nexus_loss:
      return {ua, 0x29, 0x07};
    case UnitAttention::reservations_preempted:
      return {ua, 0x2a, 0x03};
    case UnitAttention::reservations_released:
      return {ua, 0x2a, 0x04};
    case UnitAttention::registrations_preempted:
      return {ua, 0x2a, 0x05};
    case UnitAttention::mode_parameters_changed:
      return {ua, 0x2a, 0x01};
    case UnitAttention::capacity_changed:
      return {ua, 0x2a, 0x09};
    case UnitAttention::commands_cleared:
      return {ua, 0x2f, 0x00};
    case UnitAttention::reported_luns_changed:
      return {ua, 0x3f, 0x0e};
  }
  UNREACHABLE();
}

void UnitAttentions::add(UnitAttention attention) {
  if (attention == UnitAttention::power_on) pending_ = 0;
  // A reset or a lost nexus says nothing new to who has not even heard of the power loss.
  if ((pending_ & bit(UnitAttention::power_on)) != 0 && before_reservations(attention)) return;
  pending_ |= bit(attention);
}

std::optional<UnitAttention> UnitAttentions::first() const {
  if (pending_ == 0) return std::nullopt;
  return static_cast<UnitAttention>(std::countr_zero(pending_));
}

}  // namespace duet::scsi
