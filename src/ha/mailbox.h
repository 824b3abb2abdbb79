// The mailbox of an identity: one block on each of its mailbox disks, in two copies, and a
// heartbeat block beside it. Format: docs/formats/mailbox.md. Invariants I4, I5, I7.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/durability.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet::ha {

enum class Intent : std::uint8_t {
  none = 0,
  takeover = 1,          // the writer is about to take over its partner
  halt_no_takeover = 2,  // maintenance: the partner shall not take over
};

struct Mailbox {
  ClusterId cluster;
  NodeId identity;               // home node
  std::uint64_t generation = 0;  // highest valid one wins; +1 with each write
  Epoch epoch;                   // ownership, never decreases
  NodeId server;                 // who serves, or served last, in this epoch
  NodeId taken_over_by;          // no_node: not taken over
  Durability durability = Durability::write_through;
  Intent intent = Intent::none;
  std::uint8_t reason = 0;       // a ha::Reason: why taken over, as long as it is; or halted
  LogSequence durability_since;  // first record under `durability`
  // The records to replay after a crash: those of this epoch, in the NVRAM regions named here.
  // log_epoch stays behind `epoch` until the replay is on disk, so that dying in the middle replays
  // again.
  Epoch log_epoch;
  std::uint64_t nvram_server = 0;  // region of the node that wrote the log
  std::uint64_t nvram_mirror = 0;  // region of its partner; 0 unless mirrored
  BootNonce writer;
  std::vector<DiskId> disks;  // all disks of the identity: who takes over fences every one
  bool operator==(const Mailbox&) const = default;
};

inline constexpr std::size_t mailbox_block_size = 4096;
inline constexpr std::size_t max_mailbox_disk_ids = 64;

std::vector<std::byte> encode(const Mailbox& mailbox);  // one block
Result<Mailbox> decode_mailbox(Bytes block);            // invalid, unsupported_version
// What the formatter writes into both copies on every mailbox disk of a new shelf.
Mailbox first_mailbox(ClusterId cluster, NodeId identity, std::vector<DiskId> disks);

// Written by the serving node every heartbeat interval; alive = the block changes.
struct Heartbeat {
  ClusterId cluster;
  NodeId identity;
  NodeId server;
  BootNonce nonce;
  Epoch epoch;
  std::uint64_t counter = 0;
  bool operator==(const Heartbeat&) const = default;
};
std::vector<std::byte> encode(const Heartbeat& heartbeat);  // one block
Result<Heartbeat> decode_heartbeat(Bytes block);

}  // namespace duet::ha
