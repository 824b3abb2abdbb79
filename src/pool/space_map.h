// Which blocks of the pool are used, and which to use next. A bit per block in map blocks of 4 KiB,
// of which only those that are needed are in memory, and a count for each of them.
//
// A block is in one of three states: free; used, by the image that is being made; or released: not
// used by it any more, but by the last one on the disks, or still being read. Only free blocks are
// given away. A released one becomes free by settle().
//
// Allocation goes through areas: map block i of all data members of a group. Rows (stripes) that
// are free on all members come first, as they are written without reading anything.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "raid/layout.h"

namespace duet::pool {

inline constexpr std::uint32_t blocks_per_map = raid::block_size * 8;

class SpaceMap {
 public:
  // Of a map block that is loaded.
  static constexpr std::size_t bytes_in_memory = 2 * blocks_per_map / 8;

  SpaceMap() = default;
  // Everything free, nothing loaded. Map blocks are numbered densely, data members in the order of
  // their numbers, so numbers stay when members are added.
  explicit SpaceMap(const raid::Layout& layout) { add_members(layout); }
  // Members that are new in `layout`.
  void add_members(const raid::Layout& layout);

  std::uint64_t maps() const { return maps_.size(); }
  // Map block that has the bit of `address`.
  std::uint64_t map_of(raid::BlockAddress address) const;
  bool valid(raid::BlockAddress address) const;  // a block that could be allocated at all

  // ---- contents: foreign bytes come in here ----
  // Before load: how many bits are set. False: more than there are blocks.
  bool set_used(std::uint64_t map, std::uint32_t used);
  std::uint32_t used(std::uint64_t map) const { return maps_[map].used; }
  bool loaded(std::uint64_t map) const { return maps_[map].bits != nullptr; }
  // `bits`: a block, or nothing for all free. False: not what set_used said, or bits of blocks that
  // cannot be used.
  bool load(std::uint64_t map, Bytes bits);
  Bytes bits(std::uint64_t map) const;  // Requires: loaded.
  // Changed since the last call of take_dirty.
  const std::set<std::uint64_t>& dirty() const { return dirty_; }
  std::set<std::uint64_t> take_dirty() { return std::exchange(dirty_, {}); }

  // How many are loaded.
  std::size_t in_memory() const { return in_memory_; }
  // Drops the contents of some until `keep` are loaded, or all others are needed: changed, with
  // released blocks that wait, or lined up.
  void evict(std::size_t keep);

  // ---- allocation ----
  std::uint64_t usable() const { return usable_; }  // blocks in all
  std::uint64_t free() const { return free_; }      // blocks
  std::uint64_t used() const { return used_; }      // blocks, released ones not among them
  // How many rows a member gets before the next one's turn.
  void set_chunk_rows(std::uint32_t rows) { chunk_rows_ = rows; }
  // Blocks that allocate() can give from what is loaded.
  std::uint64_t available() const;
  // Lines up areas until `blocks` are available. Returns the map blocks to load first (then call
  // again); empty: done, as far as there are free blocks at all.
  std::vector<std::uint64_t> line_up(std::uint64_t blocks);
  // Requires: available() > 0.
  raid::BlockAddress allocate();
  // Of the last allocate(): chunks are numbered, rows of a finished one get no more blocks.
  std::uint64_t chunk() const { return chunk_; }
  // The rows begun get no more blocks: who is done with an image begins new rows for the next.
  void finish_rows();

  // Requires: loaded, used.
  void release(raid::BlockAddress address);
  std::vector<raid::BlockAddress> take_released() { return std::exchange(released_, {}); }
  void settle(const std::vector<raid::BlockAddress>& released);

  // Anything but free; also where the map is not loaded.
  bool live(raid::BlockAddress address) const;
  bool is_used(raid::BlockAddress address) const;  // Requires: loaded.

 private:
  static constexpr std::size_t words = blocks_per_map / 64;
  struct Bits {
    std::uint64_t used[words] = {};
    std::uint64_t busy[words] = {};  // used, released or not usable
  };
  struct Map {
    std::uint32_t member = 0;
    std::uint32_t area = 0;    // index in areas_
    std::uint32_t usable = 0;  // blocks
    std::uint32_t used = 0;
    std::uint32_t busy = 0;  // without the unusable ones
    bool recent = false;     // used since the hand passed (CLOCK)
    std::unique_ptr<Bits> bits;
  };
  struct Area {
    std::uint32_t index = 0;          // of the map blocks in their members
    std::vector<std::uint64_t> maps;  // of the data members by role
    bool no_clean_rows = false;       // since a block of it became free
    bool clean_lined_up = false;
    bool rest_lined_up = false;  // what is not clean rows, behind them
    bool lined_up() const { return clean_lined_up || rest_lined_up; }
  };
  struct Line {
    std::size_t area = 0;
    bool clean = false;
    std::uint32_t row = 0;
    std::uint64_t left = 0;  // blocks
  };

  void mark_unusable(Map& map) const;
  std::uint64_t area_free(const Area& area) const;
  std::uint64_t count(const Area& area, bool clean, std::uint32_t from_row) const;
  std::uint64_t promised(std::size_t area) const;
  std::uint64_t rows_free(const Area& area, std::uint32_t word) const;
  bool fill_chunk();
  std::optional<std::size_t> best_area(bool clean) const;

  raid::Layout layout_;
  std::vector<Map> maps_;
  std::size_t in_memory_ = 0;
  std::size_t hand_ = 0;                  // in maps_
  std::vector<std::uint64_t> first_map_;  // of each member
  std::vector<Area> areas_;
  std::map<std::pair<std::uint16_t, std::uint32_t>, std::size_t> area_of_;  // group, index
  std::set<std::uint64_t> dirty_;
  std::deque<Line> lines_;
  std::deque<raid::BlockAddress> chunk_left_;
  std::uint64_t chunk_ = 0;
  std::uint32_t chunk_rows_ = 16;
  std::uint64_t usable_ = 0;
  std::uint64_t free_ = 0;
  std::uint64_t used_ = 0;
  std::vector<raid::BlockAddress> released_;
};

}  // namespace duet::pool
