// Volumes and snapshots as the pool keeps them: one record each, in one table. A snapshot is the
// inode file of its volume as it was. Format: docs/formats/pool.md, "Volume table".
//
// Which blocks belong to whom follows from births. A block leaves the live volume: if it is younger
// than the newest snapshot (or clone origin), nobody else has it and it is free; else it goes to
// the dead list of the live volume. The dead list of a snapshot, or of the live volume, holds what
// its predecessor has and it has not.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "filesystem/inode.h"

namespace duet::pool {

using filesystem::FileKey;
using filesystem::Generation;
using filesystem::Inode;
using filesystem::InodeNumber;
using filesystem::no_inode;
using filesystem::pool_volume;
using filesystem::VolumeId;

inline constexpr std::size_t volume_record_size = 512;  // bytes
inline constexpr std::size_t volume_records_per_block = filesystem::block_size / volume_record_size;
inline constexpr std::size_t max_volume_name = 63;
inline constexpr std::uint32_t max_volume_id = 1u << 24;

enum class VolumeKind : std::uint8_t { none = 0, volume = 1, snapshot = 2 };

struct Volume {
  VolumeKind kind = VolumeKind::none;
  bool deleting = false;  // its blocks are being given up
  VolumeId id;
  VolumeId parent;       // snapshot: its volume; clone: the snapshot it was made of; else 0
  Generation birth = 0;  // snapshot: the consistency point it shows; clone: its origin's
  std::uint64_t next_inode = 3;
  InodeNumber dead_list;          // a file of the pool's own
  std::uint64_t dead_size = 0;    // bytes of it
  std::uint64_t dead_begin = 0;   // bytes at its front that are done with
  std::uint64_t quota = 0;        // blocks; 0: none
  std::uint64_t reservation = 0;  // blocks that others cannot have
  std::uint64_t used = 0;         // blocks referenced by the live volume and not by its origin
  std::int64_t created = 0;       // ns since 1970
  std::uint32_t clones = 0;       // snapshot: volumes made of it, which hold it
  Inode inodes;                   // the inode file
  std::string name;               // unique among volumes; of a snapshot: in its volume

  bool operator==(const Volume&) const = default;
};

bool valid_volume_name(std::string_view name);  // 1..63 characters a-z A-Z 0-9 . _ -

// `to`: volume_record_size bytes.
void encode(const Volume& volume, MutableBytes to);
// All zeros: kind none. Error: invalid.
Result<Volume> decode_volume(Bytes from);

}  // namespace duet::pool
