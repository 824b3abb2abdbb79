// The label of a Duet disk: whose it is and which place it has in which pool. One 4 KiB block, kept
// twice (docs/formats/disk_label.md); the highest valid generation wins. decode_label and
// choose_label take foreign bytes and never trust them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "disk/areas.h"

namespace duet::disk {

inline constexpr std::uint32_t label_version = 1;
inline constexpr std::size_t max_pool_name = 63;
inline constexpr std::uint8_t max_redundancy = 2;

enum class Role : std::uint8_t {
  data = 1,      // a member of a RAID group
  spare = 2,     // waits to replace a data disk; free of file data
  coredump = 3,  // dedicated to dumps
};
std::string_view name(Role role);

using PoolId = std::array<std::uint8_t, 16>;  // random, made with the pool

struct Label {
  std::uint64_t generation = 1;  // 1, 2, 3, ... with every rewrite
  ClusterId cluster;
  DiskId id;
  NodeId owner;  // the home node: 1 or 2
  Role role = Role::data;
  bool mailbox = false;             // one of the owner's mailbox disks
  std::uint16_t raid_group = 0;     // data disks; else 0
  std::uint16_t position = 0;       // in the RAID group; data disks, else 0
  std::uint16_t disks_in_pool = 0;  // with role data, over all RAID groups
  // Disks of the RAID group whose loss the group bears: 0..max_redundancy; data disks, else 0.
  std::uint8_t redundancy = 0;
  std::uint64_t size = 0;  // bytes used of the disk, a multiple of 4 KiB
  PoolId pool{};
  std::string pool_name;  // 1..max_pool_name characters a-z A-Z 0-9 . _ -

  bool operator==(const Label&) const = default;
};

// One block of area_block_size bytes. Error: invalid (a field breaks its rule; the message names
// it).
Result<std::vector<std::byte>> encode_label(const Label& label);

// Errors: not_found (no magic: not a Duet disk), invalid (damaged, or a field breaks its rule),
// unsupported_version (undamaged, of another version).
Result<Label> decode_label(Bytes block);

struct ChosenLabel {
  Label label;
  // The other copy is older, damaged or missing. Invariant L3: write `label` to both copies, in
  // order, before a label of a new generation is written.
  bool repair = false;
};

// Of the two copies of one disk, the one that counts. Errors: not_found (neither is a label),
// unsupported_version (one of them is undamaged and of another version), invalid (damaged both, or
// two different labels of the same generation).
Result<ChosenLabel> choose_label(Bytes copy0, Bytes copy1);

}  // namespace duet::disk
