// The write cache of a disk with WCE = 1: blocks that were answered but are not on the medium. It
// is what a power loss loses.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/bytes.h"

namespace duet::shelf {

class VolatileCache {
 public:
  explicit VolatileCache(std::uint32_t block_size) : block_size_(block_size) {}

  void put(std::uint64_t offset, const std::vector<Slice>& data);
  // What is cached of the range replaces what was read of the medium.
  void overlay(std::uint64_t offset, MutableBytes read) const;
  void forget(std::uint64_t offset, std::uint64_t length);
  void clear() { blocks_.clear(); }
  std::uint64_t bytes() const { return blocks_.size() * block_size_; }

  struct Extent {
    std::uint64_t offset;
    std::vector<Slice> data;
  };
  // Everything, adjacent blocks together.
  std::vector<Extent> extents() const;

 private:
  std::uint32_t block_size_;
  std::map<std::uint64_t, Slice> blocks_;  // by offset
};

}  // namespace duet::shelf
