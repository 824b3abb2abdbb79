// One generation of changes that are applied but not yet in a consistency point: blocks of 4 KiB
// with a valid bit per sector, and chunks that became zero as a whole. Whole blocks hold the
// client's slice, without a copy; smaller pieces are merged into a block of our own. A slice handed
// out is never changed afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "filesystem/pool_format.h"

namespace duet::filesystem {

// A LUN of this process: distinguishes a LUN from a later one with the same number.
using LunInstance = Strong<struct LunInstanceTag, std::uint32_t>;

struct DirtyBlock {
  std::uint8_t valid = 0;    // bit per sector
  Slice slice;               // block_size bytes
  std::byte* own = nullptr;  // start of the slice, if its buffer is ours

  // Merges `bytes`, whole sectors, at `sector`.
  void merge(std::uint32_t sector, Bytes bytes);
};

struct DirtyExtent {
  std::uint64_t zeroed = 0;                    // bit per chunk: zero apart from `blocks`
  std::map<std::uint32_t, DirtyBlock> blocks;  // by number in the extent
};

using DirtyLun = std::map<std::uint32_t, DirtyExtent>;  // by number of the extent in the LUN

class DirtyCache {
 public:
  explicit DirtyCache(std::uint32_t extent_size = min_extent_size) : extent_size_(extent_size) {}

  void write(LunInstance lun, std::uint64_t offset, const std::vector<Slice>& data);
  void zero(LunInstance lun, std::uint64_t offset, std::uint64_t length);
  void drop(LunInstance lun);

  const DirtyExtent* find(LunInstance lun, std::uint32_t extent) const;
  const std::map<LunInstance, DirtyLun>& luns() const { return luns_; }
  bool empty() const { return luns_.empty(); }
  std::uint64_t blocks() const { return blocks_; }
  // Memory this stands for: a block for each block, and a little for each extent.
  std::uint64_t bytes() const { return blocks_ * block_size + extents_ * extent_cost; }
  static constexpr std::uint64_t extent_cost = 512;
  // What a write or zero of that many bytes can add at most.
  std::uint64_t write_cost(std::uint64_t length) const;
  std::uint64_t zero_cost(std::uint64_t length) const;

 private:
  DirtyExtent& extent(LunInstance lun, std::uint32_t number);

  std::uint32_t extent_size_;
  std::uint64_t blocks_ = 0;
  std::uint64_t extents_ = 0;
  std::map<LunInstance, DirtyLun> luns_;
};

// `size` bytes of zeros, at most max_extent_size: many slices of one buffer.
void append_zeros(std::vector<Slice>& slices, std::uint64_t size);

}  // namespace duet::filesystem
