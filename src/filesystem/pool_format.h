// What an extent pool keeps on its disks (docs/formats/pool.md): superblock and LUN table as
// values, and their bytes. The decoders take foreign bytes and never trust them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "disk/areas.h"
#include "disk/label.h"
#include "filesystem/storage.h"

namespace duet::filesystem {

inline constexpr std::uint32_t block_size = 4096;  // bytes
inline constexpr std::uint32_t sectors_per_block = block_size / sector_size;
inline constexpr std::uint32_t chunks_per_extent = 64;
inline constexpr std::uint32_t min_extent_size = 256 << 10;  // bytes
inline constexpr std::uint32_t max_extent_size = 64 << 20;   // bytes
inline constexpr std::size_t max_pool_disks = 64;
inline constexpr std::size_t max_pool_extents = 1 << 20;
inline constexpr std::size_t max_luns = std::size_t{max_lun_number} + 1;
inline constexpr std::size_t max_offline_reason = 255;  // bytes
inline constexpr std::size_t max_metadata_disks = 3;
inline constexpr std::uint64_t table_area_offset = 65536;  // bytes from the start of a data area

struct PoolMember {
  DiskId id;
  std::uint32_t extents = 0;
  bool operator==(const PoolMember&) const = default;
};

// The same on every disk of a pool, from its format to its end.
struct PoolGeometry {
  disk::PoolId pool{};
  std::uint32_t extent_size = 4 << 20;  // bytes
  std::uint64_t table_slot_size = 0;    // bytes
  std::uint64_t extents_offset = 0;     // bytes from the start of a data area
  std::vector<PoolMember> disks;        // by position

  std::uint32_t chunk_size() const { return extent_size / chunks_per_extent; }
  std::uint64_t extent_address(std::uint32_t extent) const {
    return extents_offset + std::uint64_t{extent} * extent_size;
  }
  std::uint64_t table_address(std::uint32_t slot) const {
    return table_area_offset + slot * table_slot_size;
  }
  std::size_t metadata_disks() const { return std::min(disks.size(), max_metadata_disks); }
  std::size_t extents() const;
  bool operator==(const PoolGeometry&) const = default;
};

struct Superblock {
  PoolGeometry geometry;
  std::uint64_t generation = 1;
  Epoch epoch;
  LogPosition position;
  std::uint64_t table_generation = 1;
  std::uint32_t table_slot = 0;
  std::uint32_t table_crc = 0;
  std::uint64_t table_size = 0;  // bytes
  std::uint64_t luns_created = 0;
  bool operator==(const Superblock&) const = default;
};
constexpr std::uint64_t superblock_address(std::uint64_t generation) {
  return (generation & 1) * block_size;
}

std::vector<std::byte> encode_superblock(const Superblock& superblock);  // one block
// Errors: not_found (no magic), invalid, unsupported_version (undamaged, of another version).
Result<Superblock> decode_superblock(Bytes block);

struct ExtentPlace {
  std::uint16_t disk = 0;
  std::uint32_t extent = 0;
  std::uint64_t initialised = 0;  // bit per chunk
  bool operator==(const ExtentPlace&) const = default;
};
struct LunEntry {
  LunInfo info;
  std::vector<ExtentPlace> extents;
};

// Bytes of the entry in the table.
std::size_t table_entry_size(const LunInfo& info, std::size_t extents);
std::size_t table_header_size();
// Requires: ascending numbers. Exactly the bytes that the CRC covers, without padding.
std::vector<std::byte> encode_lun_table(const Superblock& superblock,
                                        const std::vector<const LunEntry*>& luns);
// Checks size and CRC against the superblock, then every rule of the format. Error: invalid.
Result<std::vector<LunEntry>> decode_lun_table(const Superblock& superblock, Bytes table);

}  // namespace duet::filesystem
