#include "pool/space_map.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace duet::pool {
namespace {

std::uint32_t bit_count(const std::uint64_t* words, std::size_t count) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < count; ++i)
    bits += static_cast<std::uint32_t>(std::popcount(words[i]));
  return bits;
}

}  // namespace

// ---- shape ----

void SpaceMap::add_members(const raid::Layout& layout) {
  for (std::size_t m = layout_.members.size(); m < layout.members.size(); ++m) {
    const raid::Member& member = layout.members[m];
    first_map_.push_back(maps_.size());
    if (member.parity) continue;
    const std::uint64_t blocks = layout.groups[member.group].blocks;
    for (std::uint32_t i = 0; std::uint64_t{i} * blocks_per_map < blocks; ++i) {
      const std::uint64_t begin =
          std::max(std::uint64_t{i} * blocks_per_map, raid::reserved_blocks);
      const std::uint64_t end = std::min(std::uint64_t{i + 1} * blocks_per_map, blocks);
      Map map;
      map.member = static_cast<std::uint32_t>(m);
      map.usable = static_cast<std::uint32_t>(end > begin ? end - begin : 0);
      auto [found, added] = area_of_.try_emplace({member.group, i}, areas_.size());
      if (added) areas_.push_back({i, {}, false, false, false});
      map.area = static_cast<std::uint32_t>(found->second);
      areas_[found->second].maps.push_back(maps_.size());
      usable_ += map.usable;
      free_ += map.usable;
      maps_.push_back(std::move(map));
    }
  }
  layout_ = layout;
}

std::uint64_t SpaceMap::map_of(raid::BlockAddress address) const {
  return first_map_[address.member()] + address.block() / blocks_per_map;
}

bool SpaceMap::valid(raid::BlockAddress address) const {
  if (address.member() >= layout_.members.size()) return false;
  const raid::Member& member = layout_.members[address.member()];
  return !member.parity && address.block() >= raid::reserved_blocks &&
         address.block() < layout_.groups[member.group].blocks;
}

// ---- contents ----

bool SpaceMap::set_used(std::uint64_t number, std::uint32_t used) {
  Map& map = maps_[number];
  ASSERT(map.bits == nullptr && map.used == 0);
  if (used > map.usable) return false;
  map.used = map.busy = used;
  used_ += used;
  free_ -= used;
  return true;
}

void SpaceMap::mark_unusable(Map& map) const {
  const std::uint64_t first = std::uint64_t{areas_[map.area].index} * blocks_per_map;
  const std::uint64_t blocks = layout_.groups[layout_.members[map.member].group].blocks;
  const auto mark = [&](std::uint64_t from, std::uint64_t to) {  // numbers of blocks
    for (std::uint64_t i = std::max(from, first); i < std::min(to, first + blocks_per_map); ++i) {
      map.bits->busy[(i - first) / 64] |= std::uint64_t{1} << i % 64;
    }
  };
  mark(0, raid::reserved_blocks);
  mark(blocks, ~std::uint64_t{0});
}

bool SpaceMap::load(std::uint64_t number, Bytes bytes) {
  Map& map = maps_[number];
  ASSERT(map.bits == nullptr);
  auto bits = std::make_unique<Bits>();
  if (!bytes.empty()) {
    for (std::size_t i = 0; i < words; ++i) bits->used[i] = load_le<std::uint64_t>(&bytes[i * 8]);
  }
  if (bit_count(bits->used, words) != map.used) return false;
  map.bits = std::move(bits);
  mark_unusable(map);
  for (std::size_t i = 0; i < words; ++i) {
    if ((map.bits->used[i] & map.bits->busy[i]) != 0) {
      map.bits.reset();
      return false;
    }
    map.bits->busy[i] |= map.bits->used[i];
  }
  ++in_memory_;
  map.recent = true;
  return true;
}

// Two rounds of the hand: the first may find that all were used lately.
void SpaceMap::evict(std::size_t keep) {
  for (std::size_t steps = 2 * maps_.size(); steps > 0 && in_memory_ > keep; --steps) {
    const std::size_t number = hand_;
    hand_ = (hand_ + 1) % maps_.size();
    Map& map = maps_[number];
    const bool needed = map.busy != map.used || dirty_.contains(number) ||
                        areas_[map.area].lined_up() || std::exchange(map.recent, false);
    if (map.bits == nullptr || needed) continue;
    map.bits.reset();
    --in_memory_;
  }
}

Bytes SpaceMap::bits(std::uint64_t number) const {
  static_assert(std::endian::native == std::endian::little);
  return std::as_bytes(std::span(maps_[number].bits->used));
}

// ---- allocation ----

std::uint64_t SpaceMap::area_free(const Area& area) const {
  std::uint64_t free = 0;
  for (auto map : area.maps) free += maps_[map].usable - maps_[map].busy;
  return free;
}

// Rows of a word that are free on all members.
std::uint64_t SpaceMap::rows_free(const Area& area, std::uint32_t word) const {
  std::uint64_t busy = 0;
  for (auto map : area.maps) busy |= maps_[map].bits->busy[word];
  return ~busy;
}

std::uint64_t SpaceMap::count(const Area& area, bool clean, std::uint32_t from_row) const {
  ASSERT(from_row % 64 == 0);
  std::uint64_t blocks = 0;
  for (std::uint32_t word = from_row / 64; word < words; ++word) {
    if (clean) {
      blocks += static_cast<std::uint64_t>(std::popcount(rows_free(area, word))) * area.maps.size();
    } else {
      for (auto map : area.maps) {
        blocks += static_cast<std::uint64_t>(std::popcount(~maps_[map].bits->busy[word]));
      }
    }
  }
  return blocks;
}

// The emptiest area that is not in line and may have what is wanted.
std::optional<std::size_t> SpaceMap::best_area(bool clean) const {
  std::optional<std::size_t> best;
  std::uint64_t best_free = 0;
  for (std::size_t i = 0; i < areas_.size(); ++i) {
    const Area& area = areas_[i];
    if (clean ? area.lined_up() || area.no_clean_rows : area.rest_lined_up) continue;
    if (const std::uint64_t free = area_free(area); free > best_free) {
      best = i;
      best_free = free;
    }
  }
  return best;
}

// Of its free blocks those that lines give away already.
std::uint64_t SpaceMap::promised(std::size_t area) const {
  std::uint64_t blocks = 0;
  for (const Line& line : lines_) {
    if (line.area == area) blocks += line.left;
  }
  if (!lines_.empty() && lines_.front().area == area) blocks += chunk_left_.size();
  return blocks;
}

std::uint64_t SpaceMap::available() const {
  std::uint64_t blocks = chunk_left_.size();
  for (const Line& line : lines_) blocks += line.left;
  return blocks;
}

std::vector<std::uint64_t> SpaceMap::line_up(std::uint64_t blocks) {
  bool clean = true;
  while (available() < blocks) {
    auto index = best_area(clean);
    if (!index && clean) {
      clean = false;
      continue;
    }
    if (!index) break;
    Area& area = areas_[*index];
    std::vector<std::uint64_t> missing;
    for (auto map : area.maps) {
      if (!loaded(map)) missing.push_back(map);
    }
    if (!missing.empty()) return missing;
    std::uint64_t left = count(area, clean, 0);
    if (!clean) left -= promised(*index);
    if (clean && left == 0) {
      area.no_clean_rows = true;
      continue;
    }
    (clean ? area.clean_lined_up : area.rest_lined_up) = true;
    lines_.push_back({*index, clean, 0, left});
  }
  return {};
}

// The free blocks of the next rows, member by member. False: this line has no more.
bool SpaceMap::fill_chunk() {
  Line& line = lines_.front();
  const Area& area = areas_[line.area];
  while (chunk_left_.empty() && line.row < blocks_per_map) {
    const std::uint32_t rows = std::min(chunk_rows_, 64 - line.row % 64);
    const std::uint64_t mask = (rows == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << rows) - 1)
                               << line.row % 64;
    const std::uint32_t word = line.row / 64;
    const std::uint64_t clean = rows_free(area, word);
    for (auto number : area.maps) {
      const Map& map = maps_[number];
      std::uint64_t bits = (line.clean ? clean : ~map.bits->busy[word]) & mask;
      for (; bits != 0; bits &= bits - 1) {
        const auto row = word * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
        chunk_left_.emplace_back(map.member, std::uint64_t{area.index} * blocks_per_map + row);
      }
    }
    line.row += rows;
  }
  if (chunk_left_.empty()) return false;
  line.left -= std::min<std::uint64_t>(line.left, chunk_left_.size());  // some may be free since
  ++chunk_;
  return true;
}

raid::BlockAddress SpaceMap::allocate() {
  while (chunk_left_.empty()) {
    ASSERT(!lines_.empty());
    if (!fill_chunk()) {
      Area& area = areas_[lines_.front().area];
      (lines_.front().clean ? area.clean_lined_up : area.rest_lined_up) = false;
      if (lines_.front().clean) area.no_clean_rows = true;
      lines_.pop_front();
    }
  }
  const raid::BlockAddress address = chunk_left_.front();
  chunk_left_.pop_front();
  const std::uint64_t number = map_of(address);
  Map& map = maps_[number];
  const std::uint64_t bit = std::uint64_t{1} << address.block() % 64;
  const std::size_t word = address.block() % blocks_per_map / 64;
  ASSERT((map.bits->busy[word] & bit) == 0);
  map.bits->busy[word] |= bit;
  map.bits->used[word] |= bit;
  map.recent = true;
  ++map.busy;
  ++map.used;
  ++used_;
  --free_;
  dirty_.insert(number);
  return address;
}

void SpaceMap::finish_rows() {
  chunk_left_.clear();
  ++chunk_;
  // Whole rows that are left are found again, as is what was freed behind the line.
  for (const Line& line : lines_) {
    areas_[line.area].clean_lined_up = areas_[line.area].rest_lined_up = false;
  }
  lines_.clear();
}

void SpaceMap::release(raid::BlockAddress address) {
  ASSERT(is_used(address));
  const std::uint64_t number = map_of(address);
  Map& map = maps_[number];
  map.bits->used[address.block() % blocks_per_map / 64] &=
      ~(std::uint64_t{1} << address.block() % 64);
  map.recent = true;
  --map.used;
  --used_;
  dirty_.insert(number);
  released_.push_back(address);
}

void SpaceMap::settle(const std::vector<raid::BlockAddress>& released) {
  for (auto address : released) {
    Map& map = maps_[map_of(address)];
    const std::uint64_t bit = std::uint64_t{1} << address.block() % 64;
    std::uint64_t& busy = map.bits->busy[address.block() % blocks_per_map / 64];
    ASSERT((busy & bit) != 0);
    busy &= ~bit;
    --map.busy;
    ++free_;
    areas_[map.area].no_clean_rows = false;
  }
}

bool SpaceMap::live(raid::BlockAddress address) const {
  if (!valid(address)) return false;
  const Map& map = maps_[map_of(address)];
  if (map.bits == nullptr) return true;
  return (map.bits->busy[address.block() % blocks_per_map / 64] >> address.block() % 64 & 1) != 0;
}

bool SpaceMap::is_used(raid::BlockAddress address) const {
  const Map& map = maps_[map_of(address)];
  ASSERT(map.bits != nullptr);
  return (map.bits->used[address.block() % blocks_per_map / 64] >> address.block() % 64 & 1) != 0;
}

}  // namespace duet::pool
