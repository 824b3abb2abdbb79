// The tree of a file of the pool's own whose indirect blocks stay in memory, so that the end of a
// consistency point, where allocating changes the very maps that are being written, needs no I/O.
//
// Writing is in two steps: plan() gives every changed node and block a new place and gives up the
// old one, and may be called again when that changed more; write() then makes contents and
// checksums from the data up, and returns the new root.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "filesystem/block_pointer.h"

namespace duet::pool {

using filesystem::BlockPointer;
using filesystem::Generation;
inline constexpr std::uint8_t max_levels = 5;

struct TreeRoot {
  BlockPointer pointer;
  std::uint8_t levels = 0;  // of indirect blocks
  bool operator==(const TreeRoot&) const = default;
};

// Levels that a tree with block `last` needs.
constexpr std::uint8_t levels_for(std::uint64_t last) {
  std::uint8_t levels = 0;
  for (; last > 0; last >>= 8) ++levels;
  return levels;
}

class ResidentTree {
 public:
  ResidentTree() = default;
  explicit ResidentTree(const TreeRoot& root) : root_(root) {}

  // ---- loading ----
  // Indirect blocks that are not in memory yet, of the topmost level that has any.
  std::vector<BlockPointer> missing() const;
  // One of them. Error: invalid (foreign bytes).
  Status add(const BlockPointer& pointer, Bytes block);
  bool complete() const { return missing().empty(); }

  BlockPointer find(std::uint64_t block) const;
  // All blocks that are not holes, in order.
  void for_each(const std::function<void(std::uint64_t, const BlockPointer&)>& visit) const;
  // Nodes too: level 0 is data.
  void for_each_node(const std::function<void(int level, const BlockPointer&)>& visit) const;
  const TreeRoot& root() const { return root_; }

  // ---- writing ----
  struct Space {
    std::function<raid::BlockAddress()> allocate;
    std::function<void(raid::BlockAddress)> release;
  };
  void change(std::uint64_t block);  // data of `block` will be written anew
  void plan(const Space& space);
  std::size_t planned() const { return planned_; }  // blocks since the last write()
  // How many blocks plan() would place now, at most.
  std::size_t unplanned() const;
  // `content(block)`: the data; `emit`: a block to write.
  const TreeRoot& write(Generation generation, const std::function<Slice(std::uint64_t)>& content,
                        const std::function<void(raid::BlockAddress, Slice)>& emit);

 private:
  struct Node {
    std::vector<BlockPointer> children;                  // pointers_per_block of them
    std::map<std::uint32_t, raid::BlockAddress> placed;  // new places of children
  };
  using Level = std::map<std::uint64_t, Node>;  // by index: block >> 8 * level

  Node& node(std::uint8_t level, std::uint64_t index);
  void place(std::uint8_t level, std::uint64_t index, const Space& space);
  void grow(std::uint64_t block);

  TreeRoot root_;
  std::vector<Level> levels_ = std::vector<Level>(max_levels + 1);
  std::set<std::uint64_t> changed_;  // not planned yet
  std::set<std::uint64_t> data_;     // planned
  std::optional<raid::BlockAddress> root_place_;
  std::size_t planned_ = 0;
};

}  // namespace duet::pool
