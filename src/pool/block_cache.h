// Blocks of the pool in memory by their address, a bounded number, second-chance replacement
// (CLOCK). A block never changes where it lies (the pool writes anywhere else), so what is here is
// right until its address is given away again: then it is erased or replaced.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "filesystem/block_pointer.h"

namespace duet::pool {

class BlockCache {
 public:
  // `limit` in bytes; less than a block: caches nothing.
  explicit BlockCache(std::uint64_t limit) : capacity_(limit / filesystem::block_size) {}

  Slice find(raid::BlockAddress address);  // empty: not here
  bool contains(raid::BlockAddress address) const { return index_.contains(address.value); }
  // Keeps the slice, so its owner should be a block of its own.
  void insert(raid::BlockAddress address, Slice block);
  void erase(raid::BlockAddress address);
  void clear();
  std::size_t size() const { return index_.size(); }  // blocks

 private:
  struct Entry {
    std::uint64_t key = 0;
    bool used = false;        // holds a block
    bool referenced = false;  // since the hand passed
    Slice block;
  };
  std::size_t claim();

  std::size_t capacity_;  // blocks
  std::size_t hand_ = 0;
  std::vector<Entry> entries_;
  std::unordered_map<std::uint64_t, std::size_t> index_;
};

}  // namespace duet::pool
