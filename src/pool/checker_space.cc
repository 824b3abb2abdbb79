// The checker's view of maps and counts.
#include <algorithm>
#include <utility>

#include "pool/checker_impl.h"

namespace duet::pool {

// Reads which blocks are in use, and finds the trees that say so.
void Checker::Impl::check_maps() {
  const raid::Layout& layout = superblock_.layout;
  for (std::uint32_t m = 0; m < layout.members.size(); ++m) {
    if (layout.members[m].parity) continue;
    const std::uint64_t blocks = layout.groups[layout.members[m].group].blocks;
    for (std::uint64_t at = 0; at < blocks; at += blocks_per_map) map_begin_.emplace_back(m, at);
  }
  map_used_.resize(map_begin_.size());
  Item root;
  root.kind = Kind::maps;
  root.b = superblock_.maps.pointer;
  root.b_level = superblock_.maps.levels;
  walk(root, {false, {}, [this](const Item& item, Bytes bits) { take_map(item.index, bits); }},
       [this] { check_counts(); });
}

void Checker::Impl::take_map(std::uint64_t number, Bytes bits) {
  if (number >= map_begin_.size()) {
    return problem("map block " + std::to_string(number) + " is of no member");
  }
  for (std::uint32_t i = 0; i < blocks_per_map; ++i) {
    if ((bits[i / 8] >> i % 8 & std::byte{1}) == std::byte{0}) continue;
    const raid::BlockAddress address(map_begin_[number].value + i);
    ++map_used_[number];
    if (!shape_.valid(address)) {
      problem(place(address) + " is marked used, and can't be");
    } else {
      used_.insert(address);
    }
  }
}

void Checker::Impl::check_counts() {
  maps_known_ = true;
  for (const auto& [item, pointer] : std::exchange(unmarked_, {})) {
    if (!used_.contains(pointer.address)) {
      problem(describe(item) + " lies at " + place(pointer.address) + ", which is marked free");
    }
  }
  auto seen = std::make_shared<std::vector<std::uint16_t>>(map_begin_.size());
  Item root;
  root.kind = Kind::counts;
  root.b = superblock_.counts.pointer;
  root.b_level = superblock_.counts.levels;
  const auto visit = [this, seen](const Item& item, Bytes block) {
    for (std::uint64_t i = 0; i < counts_per_block; ++i) {
      const auto count = load_le<std::uint16_t>(&block[i * sizeof(std::uint16_t)]);
      const std::uint64_t map = item.index * counts_per_block + i;
      if (map < seen->size()) {
        (*seen)[map] = count;
      } else if (count != 0) {
        problem("there is a count for map block " + std::to_string(map) + ", which does not exist");
      }
    }
  };
  walk(root, {false, {}, visit}, [this, seen] {
    for (std::size_t map = 0; map < seen->size(); ++map) {
      // A map block has 2^15 bits, of which some are never used: the count fits 16 bits.
      if ((*seen)[map] == map_used_[map]) continue;
      problem("the count of map block " + std::to_string(map) + " (of member " +
              std::to_string(map_begin_[map].member()) + ") says " + std::to_string((*seen)[map]) +
              ", the block " + std::to_string(map_used_[map]));
    }
    check_own_files();
  });
}

// Everything is found: the rest is lost.
void Checker::Impl::compare_space() {
  if (incomplete_) {
    problem("lost blocks were not looked for: a part of the pool cannot be read");
  } else if (used_.size() != reached_.size()) {
    used_.for_each([this](raid::BlockAddress address) {
      if (!reached_.contains(address)) {
        problem(place(address) + " is lost: marked used, and nothing refers to it");
      }
    });
  }
  check_files();
}

}  // namespace duet::pool
