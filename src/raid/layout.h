// Which disks a pool is made of, and how they protect each other. Part of the pool's superblock, so
// it changes together with a consistency point: a disk is out of its group, or a spare in, exactly
// from the superblock on that says so.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "raid/address.h"

namespace duet::raid {

enum class Protection : std::uint8_t {
  none = 0,    // RAID 0: no member may be lost
  single = 1,  // RAID 4: one parity disk (P)
  dual = 2,    // two parity disks (P and Q): any two members may be lost
};
constexpr std::uint32_t parity_count(Protection p) {
  return static_cast<std::uint32_t>(p);
}

std::string_view name(Protection p);  // for people: "RAID 4"

enum class MemberState : std::uint8_t {
  in_sync = 0,
  failed = 1,      // what the disk holds, if there is one, must not be used
  rebuilding = 2,  // blocks below `rebuilt` are valid, and those written since
};

struct Member {
  DiskId disk;
  std::uint16_t group = 0;
  bool parity = false;
  std::uint8_t role = 0;  // data: position in the stripe; parity: 0 = P, 1 = Q
  MemberState state = MemberState::in_sync;
  std::uint64_t rebuilt = 0;  // blocks, while rebuilding
  // Failed by an operator: does not come back by itself, whoever serves.
  bool kept_out = false;

  bool operator==(const Member&) const = default;
};

struct Group {
  Protection protection = Protection::single;
  std::uint64_t blocks = 0;  // of each member; stripe n is block n of every member

  bool operator==(const Group&) const = default;
};

// A disk that is being zeroed, and then becomes a data member of the group.
struct Joining {
  DiskId disk;
  std::uint16_t group = 0;
  bool operator==(const Joining&) const = default;
};

struct Layout {
  std::vector<Group> groups;
  std::vector<Member> members;  // by number; a number is never given again
  std::vector<DiskId> spares;
  std::vector<Joining> joining;

  bool operator==(const Layout&) const = default;
};

inline constexpr std::uint32_t max_groups = 64;
inline constexpr std::uint32_t max_group_data = 28;  // data members of a group
inline constexpr std::uint32_t max_spares = 32;
inline constexpr std::uint32_t max_joining = 32;
// The first blocks of every data area hold superblocks and the stripe journal: never allocated.
inline constexpr std::uint64_t reserved_blocks = 256;

// Error: invalid; the message names the rule that is broken (docs/formats/raid_layout.md).
Status check(const Layout& layout);
// Docs: docs/formats/raid_layout.md. `layout` keeps the rules.
void encode(const Layout& layout, ByteWriter& out);
// Errors: invalid.
Result<Layout> decode_layout(ByteReader& in);

}  // namespace duet::raid
