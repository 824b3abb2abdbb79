#include "shelf/volatile_cache.h"

namespace duet::shelf {

void VolatileCache::put(std::uint64_t offset, const std::vector<Slice>& data) {
  // One buffer for all blocks: slices of the transport need not end at block borders.
  std::size_t size = 0;
  for (const auto& slice : data) size += slice.bytes.size();
  ASSERT(offset % block_size_ == 0 && size % block_size_ == 0);
  auto buffer = make_buffer(size);
  std::size_t at = 0;
  for (const auto& slice : data) {
    if (slice.bytes.empty()) continue;
    std::memcpy(&buffer.bytes[at], slice.bytes.data(), slice.bytes.size());
    at += slice.bytes.size();
  }
  for (at = 0; at < size; at += block_size_)
    blocks_[offset + at] = {buffer.owner, buffer.bytes.subspan(at, block_size_)};
}

void VolatileCache::overlay(std::uint64_t offset, MutableBytes read) const {
  for (auto it = blocks_.lower_bound(offset);
       it != blocks_.end() && it->first < offset + read.size(); ++it)
    std::memcpy(&read[it->first - offset], it->second.bytes.data(), block_size_);
}

void VolatileCache::forget(std::uint64_t offset, std::uint64_t length) {
  blocks_.erase(blocks_.lower_bound(offset), blocks_.lower_bound(offset + length));
}

std::vector<VolatileCache::Extent> VolatileCache::extents() const {
  std::vector<Extent> extents;
  std::uint64_t end = 0;
  for (const auto& [offset, block] : blocks_) {
    if (extents.empty() || offset != end) extents.push_back({offset, {}});
    extents.back().data.push_back(block);
    end = offset + block_size_;
  }
  return extents;
}

}  // namespace duet::shelf
