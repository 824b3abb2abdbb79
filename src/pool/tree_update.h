// One file in a consistency point: from the tree on the disks and the changes since to the tree
// that will be on the disks. Old blocks are never changed: every changed block and the indirect
// blocks above it get new places.
//
// Works in steps of bounded size: step() does some and says what it needs in memory for the next.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "pool/dirty_file.h"
#include "pool/resident_tree.h"

namespace duet::pool {

// What a step asks of the consistency point.
class TreeHost {
 public:
  virtual ~TreeHost() = default;
  // A block that was asked for by the step before; empty: not in memory.
  virtual Slice find(const BlockPointer& pointer) = 0;
  // Gives the block a place and writes it. Requires: space was made for it. `data`: not indirect.
  virtual BlockPointer place(Slice block, bool data) = 0;
  // No longer part of the file.
  virtual void drop(const BlockPointer& pointer) = 0;
  // Nor is anything below this indirect block of `level`.
  virtual void drop_tree(const BlockPointer& pointer, std::uint8_t level) = 0;
};

class TreeUpdate {
 public:
  // Data blocks that a step writes at most, and groups of them.
  static constexpr std::size_t blocks_per_step = 256;
  static constexpr std::size_t groups_per_step = 32;
  // Blocks that a step places at most: data, their parents, and once all above them.
  static constexpr std::size_t places_per_step =
      blocks_per_step + group_blocks + groups_per_step + 8;

  TreeUpdate(TreeHost& host, const TreeRoot& root, const DirtyFile& changes);

  struct Need {
    bool done = false;
    std::vector<BlockPointer> blocks;  // to be in memory before the next step
  };
  // Error: invalid (an indirect block on disk is impossible).
  Result<Need> step();

  const TreeRoot& root() const { return root_; }
  std::int64_t blocks_added() const { return blocks_added_; }  // data blocks; estimated below zero

 private:
  struct Node {
    std::vector<BlockPointer> children;
    BlockPointer old;
    bool changed = false;
  };
  using Key = std::pair<std::uint8_t, std::uint64_t>;  // level, index

  Node* node(std::uint8_t level, std::uint64_t index);
  Node* parent_chain(std::uint64_t group);
  void grow();
  bool clear(std::uint8_t level, std::uint64_t index, std::uint64_t from, std::uint64_t to);
  bool clear_ranges();
  bool write_groups();
  bool write_group(std::uint64_t group, const DirtyFile::Group& blocks, std::size_t& budget);
  void write_single();
  void finish_node(std::uint8_t level, std::uint64_t index);
  bool finish();
  void replace(BlockPointer& slot, const Slice& block);
  std::uint64_t span(std::uint8_t level) const { return std::uint64_t{1} << 8 * level; }

  TreeHost& host_;
  TreeRoot root_;
  const DirtyFile& changes_;
  std::map<Key, Node> nodes_;
  std::vector<BlockPointer> missing_;
  std::optional<Error> error_;
  std::map<std::uint64_t, std::uint64_t>::const_iterator next_range_;
  std::map<std::uint64_t, DirtyFile::Group>::const_iterator next_group_;
  std::uint8_t finish_level_ = 1;
  std::int64_t blocks_added_ = 0;
};

}  // namespace duet::pool
