#include "filesystem/dirty_cache.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::filesystem {
namespace {

// Reads a list of slices from front to back.
class SliceReader {
 public:
  explicit SliceReader(const std::vector<Slice>& slices) : slices_(slices) { skip_empty(); }
  // The next at most `size` bytes that lie together.
  Slice take(std::size_t size) {
    const Slice& slice = slices_[index_];
    Slice part{slice.owner, slice.bytes.subspan(at_, std::min(size, slice.bytes.size() - at_))};
    at_ += part.bytes.size();
    skip_empty();
    return part;
  }
  bool done() const { return index_ == slices_.size(); }

 private:
  void skip_empty() {
    while (index_ < slices_.size() && at_ == slices_[index_].bytes.size()) ++index_, at_ = 0;
  }
  const std::vector<Slice>& slices_;
  std::size_t index_ = 0;
  std::size_t at_ = 0;
};

std::uint8_t sector_bits(std::uint32_t first, std::uint32_t count) {
  return static_cast<std::uint8_t>(((1u << count) - 1) << first);
}

// A buffer of our own with the present content of the block, which nobody else sees.
void make_own(DirtyBlock& block) {
  // A reply under way may still show the buffer: it must not change under it.
  if (block.own != nullptr && block.slice.owner.use_count() == 1) return;
  OwnedBuffer buffer = make_buffer(block_size);
  if (block.valid != 0) std::ranges::copy(block.slice.bytes, buffer.bytes.begin());
  block.slice = buffer.slice();
  block.own = buffer.bytes.data();
}

}  // namespace

void DirtyBlock::merge(std::uint32_t sector, Bytes bytes) {
  ASSERT(bytes.size() % sector_size == 0 && sector * sector_size + bytes.size() <= block_size);
  make_own(*this);
  std::ranges::copy(bytes, own + sector * sector_size);
  valid |= sector_bits(sector, static_cast<std::uint32_t>(bytes.size() / sector_size));
}

DirtyExtent& DirtyCache::extent(LunInstance lun, std::uint32_t number) {
  auto [it, added] = luns_[lun].try_emplace(number);
  extents_ += added ? 1 : 0;
  return it->second;
}

void DirtyCache::write(LunInstance lun, std::uint64_t offset, const std::vector<Slice>& data) {
  SliceReader reader(data);
  while (!reader.done()) {
    DirtyExtent& dirty = extent(lun, static_cast<std::uint32_t>(offset / extent_size_));
    do {
      auto number = static_cast<std::uint32_t>(offset % extent_size_ / block_size);
      auto in_block = static_cast<std::uint32_t>(offset % block_size);
      auto [it, added] = dirty.blocks.try_emplace(number);
      blocks_ += added ? 1 : 0;
      // Collects the part of the data that falls into this block; its pieces may be odd in size.
      Slice part = reader.take(block_size - in_block);
      auto taken = part.bytes.size();
      if (taken == block_size) {
        it->second = {0xff, std::move(part), nullptr};
      } else if (taken % sector_size == 0) {
        it->second.merge(in_block / sector_size, part.bytes);
      } else {
        std::vector<std::byte> joined(part.bytes.begin(), part.bytes.end());
        while (joined.size() % sector_size != 0) {
          Slice more = reader.take(sector_size - joined.size() % sector_size);
          joined.insert(joined.end(), more.bytes.begin(), more.bytes.end());
        }
        it->second.merge(in_block / sector_size, joined);
        taken = joined.size();
      }
      offset += taken;
    } while (!reader.done() && offset % extent_size_ != 0);
  }
}

void DirtyCache::zero(LunInstance lun, std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t chunk_size = extent_size_ / chunks_per_extent;
  while (length > 0) {
    std::uint64_t part = std::min(length, chunk_size - offset % chunk_size);
    if (part == chunk_size) {
      DirtyExtent& dirty = extent(lun, static_cast<std::uint32_t>(offset / extent_size_));
      auto first = static_cast<std::uint32_t>(offset % extent_size_ / block_size);
      auto begin = dirty.blocks.lower_bound(first);
      auto end =
          dirty.blocks.lower_bound(first + static_cast<std::uint32_t>(chunk_size / block_size));
      blocks_ -= static_cast<std::uint64_t>(std::distance(begin, end));
      dirty.blocks.erase(begin, end);
      dirty.zeroed |= std::uint64_t{1} << (offset % extent_size_ / chunk_size);
    } else {
      std::vector<Slice> zeros;
      append_zeros(zeros, part);
      write(lun, offset, zeros);
    }
    offset += part;
    length -= part;
  }
}

void DirtyCache::drop(LunInstance lun) {
  auto found = luns_.find(lun);
  if (found == luns_.end()) return;
  for (const auto& [number, dirty] : found->second) blocks_ -= dirty.blocks.size();
  extents_ -= found->second.size();
  luns_.erase(found);
}

const DirtyExtent* DirtyCache::find(LunInstance lun, std::uint32_t number) const {
  auto found = luns_.find(lun);
  if (found == luns_.end()) return nullptr;
  auto it = found->second.find(number);
  return it == found->second.end() ? nullptr : &it->second;
}

std::uint64_t DirtyCache::write_cost(std::uint64_t length) const {
  return (length / block_size + 2) * block_size + (length / extent_size_ + 2) * extent_cost;
}
std::uint64_t DirtyCache::zero_cost(std::uint64_t length) const {
  // Blocks only in the chunks at both ends.
  std::uint64_t edges = std::min<std::uint64_t>(length, 2 * extent_size_ / chunks_per_extent);
  return write_cost(edges) + (length / extent_size_ + 2) * extent_cost;
}

void append_zeros(std::vector<Slice>& slices, std::uint64_t size) {
  static const OwnedBuffer zeros = make_buffer(64 << 10);
  while (size > 0) {
    std::uint64_t part = std::min<std::uint64_t>(size, zeros.bytes.size());
    slices.push_back({zeros.owner, zeros.bytes.first(part)});
    size -= part;
  }
}

}  // namespace duet::filesystem
