// The superblock of a pool: the only thing at a fixed place, and the one that makes a consistency
// point true. Format: docs/formats/pool.md. The decoder takes foreign bytes and never trusts them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "disk/label.h"
#include "filesystem/block_pointer.h"
#include "nvlog/position.h"
#include "pool/resident_tree.h"
#include "raid/layout.h"

namespace duet::pool {

inline constexpr std::uint32_t superblock_slots = 2;
inline constexpr std::uint32_t superblock_slot_blocks = 8;  // of block_size
inline constexpr std::size_t superblock_size_max = superblock_slot_blocks * filesystem::block_size;
static_assert(superblock_slots * superblock_slot_blocks <= raid::reserved_blocks);

struct Superblock {
  disk::PoolId pool{};
  Generation generation = 1;       // number of the consistency point; its lowest bit is the slot
  Epoch epoch;                     // of the node that wrote it; never decreases
  nvlog::LogPosition position;     // records up to and with it are contained, no others
  TreeRoot maps;                   // bits of used blocks
  TreeRoot counts;                 // used blocks of each map block, 16 bits each
  TreeRoot inodes;                 // of the pool's own files
  std::uint64_t next_inode = 16;   // of the pool's own files
  std::uint32_t next_volume = 2;   // snapshots are numbered with the volumes
  std::uint64_t luns_created = 0;  // gives each its serial and NAA
  raid::Layout layout;

  bool operator==(const Superblock&) const = default;
};

constexpr std::uint64_t superblock_slot(Generation generation) {
  return generation % superblock_slots * superblock_slot_blocks;  // block
}

// A multiple of block_size, at most superblock_size_max. Requires: the layout keeps its rules.
// Error: no_space (too many members).
Result<std::vector<std::byte>> encode(const Superblock& superblock);
// `slot`: superblock_size_max bytes as read. Errors: not_found (no superblock), invalid (damaged),
// unsupported_version.
Result<Superblock> decode_superblock(Bytes slot);

}  // namespace duet::pool
