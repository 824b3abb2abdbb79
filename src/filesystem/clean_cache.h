// Blocks as the disks have them, a bounded number, second-chance replacement (CLOCK). Holds copies,
// so that no large buffer is kept alive by one block of it. What is here is used only where no
// dirty cache knows better.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "filesystem/dirty_cache.h"

namespace duet::filesystem {

class CleanCache {
 public:
  // `limit` in bytes; less than a block: caches nothing.
  explicit CleanCache(std::uint64_t limit) : capacity_(limit / block_size) {}

  // `block`: number in the LUN. Empty: not here.
  Slice find(LunInstance lun, std::uint64_t block);
  // Copies block_size bytes.
  void insert(LunInstance lun, std::uint64_t block, Bytes bytes);
  void erase(LunInstance lun, std::uint64_t block);
  void clear();
  std::size_t size() const { return index_.size(); }  // blocks

 private:
  struct Entry {
    std::uint64_t key = 0;
    bool used = false;        // holds a block
    bool referenced = false;  // since the hand passed
    OwnedBuffer buffer;
  };
  Entry& claim();

  std::size_t capacity_;  // blocks
  std::size_t hand_ = 0;
  std::vector<Entry> entries_;
  std::unordered_map<std::uint64_t, std::size_t> index_;
};

}  // namespace duet::filesystem
