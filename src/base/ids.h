// Names of things that cross module boundaries.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "base/strong.h"

namespace duet {

// A node of the pair: 1 or 2; 0 means "no node". An identity (target name, serials, addresses,
// disks, mailbox, log) bears the number of its home node, whichever node serves it.
using NodeId = Strong<struct NodeIdTag, std::uint8_t>;
inline constexpr NodeId no_node{0};
inline NodeId partner_of(NodeId node) {
  ASSERT(node.value() == 1 || node.value() == 2);
  return NodeId(static_cast<std::uint8_t>(3 - node.value()));
}

// Counts the ownerships of an identity; kept in its mailbox, never decreases (invariant I5). Every
// boot of the home node and every takeover starts a new one. Epoch 0: none yet.
using Epoch = Strong<struct EpochTag, std::uint64_t>;

// Random, new with every boot of a node; tells a rebooted partner from a stuck one. Never 0.
using BootNonce = Strong<struct BootNonceTag, std::uint64_t>;

// First 8 bytes of SHA-256 of the cluster name: enough to notice a cable in the wrong port.
using ClusterId = Strong<struct ClusterIdTag, std::uint64_t>;

// Position of a record in the log of an identity, 1, 2, 3, ...; never reused.
using LogSequence = Strong<struct LogSequenceTag, std::uint64_t>;

// SPC-4 reservation key. Ours are made in disk/reservation_key.h.
using ReservationKey = Strong<struct ReservationKeyTag, std::uint64_t>;

using LunNumber = Strong<struct LunNumberTag, std::uint16_t>;

// 16 random bytes from the disk's label.
struct DiskId {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const DiskId&) const = default;
};
std::string to_string(const DiskId& id);  // 32 hexadecimal digits

}  // namespace duet
