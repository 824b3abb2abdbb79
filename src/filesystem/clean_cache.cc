#include "filesystem/clean_cache.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::filesystem {
namespace {

// A LUN has at most 2^32 blocks (max_lun_size).
static_assert(max_lun_size / block_size <= std::uint64_t{1} << 32);
std::uint64_t key_of(LunInstance lun, std::uint64_t block) {
  return std::uint64_t{lun.value()} << 32 | block;
}

}  // namespace

Slice CleanCache::find(LunInstance lun, std::uint64_t block) {
  auto found = index_.find(key_of(lun, block));
  if (found == index_.end()) return {};
  Entry& entry = entries_[found->second];
  entry.referenced = true;
  return entry.buffer.slice();
}

CleanCache::Entry& CleanCache::claim() {
  if (entries_.size() < capacity_) return entries_.emplace_back();
  while (entries_[hand_].used && entries_[hand_].referenced) {
    entries_[hand_].referenced = false;
    hand_ = (hand_ + 1) % capacity_;
  }
  Entry& entry = entries_[hand_];
  hand_ = (hand_ + 1) % capacity_;
  if (entry.used) index_.erase(entry.key);
  return entry;
}

void CleanCache::insert(LunInstance lun, std::uint64_t block, Bytes bytes) {
  ASSERT(bytes.size() == block_size);
  if (capacity_ == 0) return;
  std::uint64_t key = key_of(lun, block);
  auto found = index_.find(key);
  Entry& entry = found == index_.end() ? claim() : entries_[found->second];
  // A reply under way may still show the old buffer.
  if (entry.buffer.owner.use_count() != 1) entry.buffer = make_buffer(block_size);
  std::ranges::copy(bytes, entry.buffer.bytes.begin());
  entry.key = key;
  entry.used = true;
  if (found == index_.end()) index_[key] = static_cast<std::size_t>(&entry - entries_.data());
}

void CleanCache::erase(LunInstance lun, std::uint64_t block) {
  auto found = index_.find(key_of(lun, block));
  if (found == index_.end()) return;
  entries_[found->second].used = false;
  entries_[found->second].referenced = false;
  index_.erase(found);
}

void CleanCache::clear() {
  entries_.clear();
  index_.clear();
  hand_ = 0;
}

}  // namespace duet::filesystem
