// SCSI reservation keys of a Duet cluster (docs/formats/disk_label.md, "Reservation keys"): a key
// says which cluster, node and process registered, and in which boot epoch. Never 0.
//
// Supervisor and engine of one node have different keys on purpose: the supervisor holds the
// reservation and changes its type by preempting its own key, and PREEMPT removes every
// registration with that key, which must not be the engine's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/ids.h"

namespace duet::disk {

enum class KeyRole : std::uint8_t { supervisor = 1, engine = 2 };

struct KeyParts {
  std::uint16_t cluster = 0;  // low 16 bits of the cluster id
  NodeId node;                // 1 or 2: the node that registered, not the home node of the disk
  KeyRole role = KeyRole::supervisor;
  std::uint32_t epoch = 0;  // low 32 bits of the boot epoch
  bool operator==(const KeyParts&) const = default;
};

// Requires: node is 1 or 2.
ReservationKey make_key(ClusterId cluster, NodeId node, KeyRole role, Epoch epoch);

// Nothing if no Duet cluster makes such a key (zero, unknown node or role).
std::optional<KeyParts> parse_key(ReservationKey key);

// Made by any node of `cluster`.
bool is_ours(ReservationKey key, ClusterId cluster);
// Made by `node` of `cluster`, whichever process and epoch.
bool belongs_to(ReservationKey key, NodeId node, ClusterId cluster);

// For people: "node 1 engine, epoch 7 (0x4d2a010200000007)", or the bare number if not a Duet key.
std::string describe(ReservationKey key);

}  // namespace duet::disk
