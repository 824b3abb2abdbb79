// The names of a directory, or of the extended attributes of a file: a B+-tree by key in the blocks
// of the file, in which every operation touches O(log n) blocks (docs/formats/directory.md).
// Numbers of blocks are dense: what shrinks gives back the last block.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "files/directory_block.h"
#include "files/draft.h"

namespace duet::files {

inline constexpr std::uint64_t max_directory_blocks = std::uint64_t{1} << 28;
inline constexpr std::uint64_t attribute_tree_blocks = 64;  // at most, of a file of attributes

class DirectoryTree {
 public:
  // Type directory or attributes. Failures of all functions: busy; io (damaged: says where).
  DirectoryTree(Draft& draft, FileKey file) : draft_(draft), file_(file) {}

  // Where a name is, or where it would go.
  struct Slot {
    std::uint64_t key = 0;
    std::optional<Entry> entry;  // its name is valid until the tree changes
  };
  // Failure: no_space (max_ordinals names of this hash, none of them this one).
  Attempt<Slot> find(std::uint64_t hash, std::string_view name);
  Attempt<Slot> find(std::string_view name) { return find(name_hash(name), name); }

  // Requires: find() gave the key for this name, and the tree was not changed since.
  // Failure: no_space (as large as a directory can be).
  Attempt<void> insert(const Entry& entry);
  Attempt<void> remove(std::uint64_t key);
  Attempt<void> replace(std::uint64_t key, std::uint64_t value, FileType type);

  // The leaf where a walk goes on: `offset` is its first entry with at least `key`, or its end; all
  // entries from `high` on are in later leaves, there are none if it is no_upper_bound.
  struct Leaf {
    Bytes bytes;
    std::size_t offset = 0;
    std::uint64_t high = no_upper_bound;
  };
  Attempt<Leaf> leaf(std::uint64_t key);
  // At least `key`; nothing: no more.
  Attempt<std::optional<Entry>> next(std::uint64_t key);

  // Whether the block is in order, and where the tree says it is. Failures: io (it is not), busy.
  Attempt<void> check(std::uint32_t number);

 private:
  struct Step {
    std::uint32_t number = 0;  // of an interior block
    std::size_t index = 0;     // of the child that was taken
  };
  struct Path {
    std::vector<Step> steps;   // from the root
    std::uint32_t number = 0;  // of the block at the end
    Bytes bytes;
    std::uint64_t low = 0;
    std::uint64_t high = no_upper_bound;
  };

  std::uint64_t name_hash(std::string_view name) const;
  Attempt<std::uint64_t> blocks();
  Attempt<void> set_blocks(std::uint64_t blocks);
  // Down to the block of this level that is responsible for the key.
  Attempt<Path> descend(std::uint64_t key, std::uint8_t to_level);
  Attempt<MutableBytes> change(std::uint32_t number);
  Attempt<std::uint32_t> new_block();
  Attempt<void> plant(const Entry& entry);
  // The content of the root goes one level down; the path then begins with a root of one child.
  Attempt<void> grow(Path& path);
  Attempt<Child> split(Path& path);
  Attempt<void> insert_into_parent(Path path, const Child& child);
  Attempt<void> shrink(Path path);
  Attempt<bool> merge(Path& path, std::vector<std::uint32_t>& freed);
  Attempt<void> collapse_root(std::vector<std::uint32_t>& freed);
  Attempt<void> give_back(std::vector<std::uint32_t> freed);
  Attempt<void> move(std::uint32_t from, std::uint32_t to);
  // The block that names another (not the root) as its child, and the index of it.
  Attempt<Step> find_parent(std::uint32_t number);

  Draft& draft_;
  FileKey file_;
};

}  // namespace duet::files
