// The state structure of a node, which the partner reads by RDMA whatever state the node is in.
// Format: docs/formats/state_structure.md. A reader acts on two equal valid reads only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet::interconnect {

enum class NodeState : std::uint8_t {
  booting = 1,
  givewait = 2,            // our disks are reserved by the partner; waits for the release
  mbwait = 3,              // disks readable, mailbox says taken over; waits for the giveback
  up = 4,                  // serves its own identity
  taken_over_partner = 5,  // serves both identities
  giving_back = 6,
  shutting_down = 7,
  panic = 8,
  dumping = 9,
  halted = 10,
};
std::string_view name(NodeState state);

struct StateStructure {
  ClusterId cluster;
  NodeId node;
  NodeState state = NodeState::booting;
  std::uint8_t reason = 0;          // why, a ha::Reason; 0: none
  bool mirror_window_open = false;  // the partner may write its log into our NVRAM
  BootNonce nonce;
  Epoch boot_epoch;
  std::uint64_t progress = 0;   // only grows during a boot: a stuck boot shows
  std::uint64_t heartbeat = 0;  // +1 with each heartbeat interval
  Epoch own_epoch;              // of our own identity as we know it; 0: not yet known
  Epoch partner_epoch;          // under which we serve the partner's identity; 0: we do not
  BootNonce seen_partner;       // boot of the partner that we are connected to; 0: none
  // Of our own disks, by index, spares that RAID has not taken: we may dump to them.
  std::uint64_t free_spares = 0;
  bool operator==(const StateStructure&) const = default;
};

inline constexpr std::size_t state_structure_size = 128;
inline constexpr std::uint16_t state_structure_version = 1;

std::array<std::byte, state_structure_size> encode(const StateStructure& structure);
// Errors: unsupported_version; invalid (checksum, size, a field out of its range). Either means
// "unknown": the reader neither gives back nor kills on it.
Result<StateStructure> decode_state_structure(Bytes bytes);

// The rule of two equal valid reads: RDMA reads are not atomic, and a structure may be caught
// between two publications. The counters `heartbeat` and `progress` may differ, and only grow.
class StableReader {
 public:
  // Ensures: what is returned agrees with the read before it; an invalid read starts over.
  std::optional<StateStructure> observe(const Result<StateStructure>& read);
  void reset() { last_.reset(); }

 private:
  std::optional<StateStructure> last_;
};

}  // namespace duet::interconnect
