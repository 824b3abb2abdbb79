// What stands in the pool's own files (docs/formats/pool.md): which they are, LUN catalogue, zombie
// list. The decoders take foreign bytes and never trust them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "filesystem/storage.h"
#include "filesystem/view.h"
#include "pool/pool.h"

namespace duet::pool {

// Files of the pool's own with fixed numbers; the others (dead lists) are numbered from 16 on.
inline constexpr InodeNumber volume_table{2};
inline constexpr InodeNumber lun_catalogue{3};
inline constexpr InodeNumber zombie_list{4};

inline constexpr std::uint64_t counts_per_block = block_size / sizeof(std::uint16_t);

// A LUN has a slot of so many blocks: the first for everything but its reservation state.
inline constexpr std::uint64_t lun_slot_blocks = 8;
static_assert((lun_slot_blocks - 1) * block_size >= filesystem::max_reservation_state);
inline constexpr std::size_t max_offline_reason = 255;  // bytes

struct LunEntry {
  LunInfo info;  // reservations: not in the first block
  FileKey file;
  std::size_t reservations_size = 0;  // bytes
};
// The first block of a slot.
std::vector<std::byte> encode_lun(const LunInfo& info, FileKey file);
Result<LunEntry> decode_lun(Bytes block);  // Error: invalid

// The inode of a vdisk says which LUN it is, so that snapshots know.
Inode inode_of(const LunInfo& info, VolumeId volume);
std::optional<LunInfo> lun_shown_by(
    const Inode& vdisk);  // name, serial, NAA, size; nothing: no LUN's

inline constexpr std::size_t zombie_size = 48;  // bytes
std::vector<std::byte> encode_zombies(const std::vector<Zombie>& zombies);
Result<std::vector<Zombie>> decode_zombies(Bytes bytes);  // Error: invalid

// Every block of the file that is not a hole. Looks only; an error other than busy ends it.
Status for_each_block(filesystem::View& view, FileKey file,
                      const std::function<Status(std::uint64_t, Bytes)>& visit);

}  // namespace duet::pool
