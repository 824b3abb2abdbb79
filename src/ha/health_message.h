// The message that carries a health record to the partner: docs/formats/ha_messages.md, kind 33.
// Bigger than all others, hence apart. Foreign when it arrives.
#pragma once

#include "ha/health.h"

namespace duet::ha {

struct HealthMessage {
  Epoch sender_epoch;
  BootNonce addressee;
  HealthRecord record;  // names cluster, sender and its boot
  bool operator==(const HealthMessage&) const = default;
};

inline constexpr std::size_t health_message_size = 40 + health_record_size;

// Requires: addressee not 0, and what encode(HealthRecord) requires.
std::vector<std::byte> encode(const HealthMessage& message);
// Errors: invalid, unsupported_version (of message or record).
Result<HealthMessage> decode_health_message(Bytes bytes);

}  // namespace duet::ha
