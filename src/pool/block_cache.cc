#include "pool/block_cache.h"

#include "base/assert.h"

namespace duet::pool {

Slice BlockCache::find(raid::BlockAddress address) {
  auto found = index_.find(address.value);
  if (found == index_.end()) return {};
  Entry& entry = entries_[found->second];
  entry.referenced = true;
  return entry.block;
}

std::size_t BlockCache::claim() {
  if (entries_.size() < capacity_) {
    entries_.emplace_back();
    return entries_.size() - 1;
  }
  while (entries_[hand_].used && entries_[hand_].referenced) {
    entries_[hand_].referenced = false;
    hand_ = (hand_ + 1) % capacity_;
  }
  const std::size_t claimed = hand_;
  hand_ = (hand_ + 1) % capacity_;
  if (entries_[claimed].used) index_.erase(entries_[claimed].key);
  return claimed;
}

void BlockCache::insert(raid::BlockAddress address, Slice block) {
  ASSERT(block.bytes.size() == filesystem::block_size);
  if (capacity_ == 0) return;
  auto found = index_.find(address.value);
  const std::size_t at = found == index_.end() ? claim() : found->second;
  entries_[at] = {address.value, true, false, std::move(block)};
  index_[address.value] = at;
}

void BlockCache::erase(raid::BlockAddress address) {
  auto found = index_.find(address.value);
  if (found == index_.end()) return;
  entries_[found->second] = {};
  index_.erase(found);
}

void BlockCache::clear() {
  entries_.clear();
  index_.clear();
  hand_ = 0;
}

}  // namespace duet::pool
