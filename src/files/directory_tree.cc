#include "files/directory_tree.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "base/assert.h"
#include "files/name_hash.h"

namespace duet::files {
namespace {

constexpr std::uint64_t last_of(std::uint64_t hash) {
  return hash << ordinal_bits | ((std::uint64_t{1} << ordinal_bits) - 1);
}
bool at_end(const DirectoryTree::Leaf& leaf) {
  return leaf.bytes.empty() || leaf.offset >= end_of_entries(leaf.bytes);
}
std::unexpected<Failure> damaged(FileKey file, std::string what) {
  return refuse(Outcome::io,
                "directory " + std::to_string(file.inode.value()) + ": " + std::move(what));
}

}  // namespace

std::uint64_t DirectoryTree::name_hash(std::string_view name) const {
  return files::name_hash(file_.inode, name);
}

// A directory ends with its last block; the values of attributes lie behind their tree.
Attempt<std::uint64_t> DirectoryTree::blocks() {
  auto inode = draft_.inode(file_);
  if (!inode) return std::unexpected(inode.error());
  const bool directory = (*inode)->type == FileType::directory;
  ASSERT(directory || (*inode)->type == FileType::attributes);
  std::uint64_t blocks = directory ? (*inode)->size / block_size : (*inode)->device;
  if (directory && (*inode)->size % block_size != 0) return damaged(file_, "size");
  if (blocks > (directory ? max_directory_blocks : attribute_tree_blocks)) {
    return damaged(file_, "size");
  }
  return blocks;
}

Attempt<void> DirectoryTree::set_blocks(std::uint64_t blocks) {
  auto inode = draft_.change_inode(file_);
  if (!inode) return std::unexpected(inode.error());
  const bool directory = (*inode)->type == FileType::directory;
  if (blocks > (directory ? max_directory_blocks : attribute_tree_blocks)) {
    return refuse(Outcome::no_space, "a directory is full");
  }
  if (directory) {
    (*inode)->size = blocks * block_size;
  } else {
    (*inode)->device = blocks;
  }
  return {};
}

Attempt<DirectoryTree::Path> DirectoryTree::descend(std::uint64_t key, std::uint8_t to_level) {
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  Path path;
  Expected expected{.owner = file_.inode, .blocks = *blocks};
  for (;;) {
    auto bytes = draft_.block(file_, expected.number);
    if (!bytes) return std::unexpected(bytes.error());
    if (auto good = check_block(*bytes, expected); !good) {
      return refuse(Outcome::io, good.error().message);
    }
    const std::uint8_t level = files::level(*bytes);
    if (level < to_level) return damaged(file_, "a leaf where children belong");
    if (level == to_level) {
      path.number = expected.number;
      path.bytes = *bytes;
      path.low = expected.low;
      path.high = expected.high;
      return path;
    }
    const std::size_t index = child_for(*bytes, key);
    path.steps.push_back({expected.number, index});
    const Child child = child_at(*bytes, index);
    if (index + 1 < count(*bytes)) expected.high = child_at(*bytes, index + 1).low;
    expected.low = child.low;
    expected.number = child.number;
    expected.level = static_cast<std::uint8_t>(level - 1);
  }
}

Attempt<DirectoryTree::Leaf> DirectoryTree::leaf(std::uint64_t key) {
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  if (*blocks == 0) return Leaf{};
  auto path = descend(key, 0);
  if (!path) return std::unexpected(path.error());
  return Leaf{path->bytes, lower_bound(path->bytes, key), path->high};
}

Attempt<std::optional<Entry>> DirectoryTree::next(std::uint64_t key) {
  for (;;) {
    auto leaf = this->leaf(key);
    if (!leaf) return std::unexpected(leaf.error());
    if (!at_end(*leaf)) return entry_at(leaf->bytes, leaf->offset);
    if (leaf->high == no_upper_bound) return std::nullopt;
    key = leaf->high;
  }
}

Attempt<DirectoryTree::Slot> DirectoryTree::find(std::uint64_t hash, std::string_view name) {
  const std::uint64_t last = last_of(hash);
  Slot slot{hash << ordinal_bits, {}};  // the lowest key that is free, so far
  for (std::optional<std::uint64_t> from = slot.key; from;) {
    auto leaf = this->leaf(*from);
    if (!leaf) return std::unexpected(leaf.error());
    for (; !at_end(*leaf); leaf->offset = next_entry(leaf->bytes, leaf->offset)) {
      Entry entry = entry_at(leaf->bytes, leaf->offset);
      if (entry.key > last) break;
      if (entry.name == name) return Slot{entry.key, entry};
      if (entry.key == slot.key) ++slot.key;
    }
    from = at_end(*leaf) && leaf->high <= last ? std::optional(leaf->high) : std::nullopt;
  }
  if (slot.key > last) return refuse(Outcome::no_space, "too many names of one hash");
  return slot;
}

Attempt<MutableBytes> DirectoryTree::change(std::uint32_t number) {
  return draft_.change_block(file_, number);
}

Attempt<std::uint32_t> DirectoryTree::new_block() {
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  if (auto set = set_blocks(*blocks + 1); !set) return std::unexpected(set.error());
  return static_cast<std::uint32_t>(*blocks);
}

Attempt<void> DirectoryTree::plant(const Entry& entry) {
  auto number = new_block();
  if (!number) return std::unexpected(number.error());
  auto root = change(*number);
  if (!root) return std::unexpected(root.error());
  format_block(*root, file_.inode, *number, 0, 0);
  insert_entry(*root, first_entry(), entry);
  return {};
}

Attempt<void> DirectoryTree::insert(const Entry& entry) {
  auto inode = draft_.change_inode(file_);
  if (!inode) return std::unexpected(inode.error());
  ++(*inode)->entries;
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  if (*blocks == 0) return plant(entry);
  auto path = descend(entry.key, 0);
  if (!path) return std::unexpected(path.error());
  std::optional<Child> right;
  std::uint32_t number = path->number;
  if (used(path->bytes) + entry_size(entry.name) > directory_room) {
    auto child = split(*path);
    if (!child) return std::unexpected(child.error());
    right = *child;
    number = entry.key >= child->low ? child->number : path->number;
  }
  auto leaf = change(number);
  if (!leaf) return std::unexpected(leaf.error());
  insert_entry(*leaf, lower_bound(*leaf, entry.key), entry);
  if (right) return insert_into_parent(std::move(*path), *right);
  return {};
}

Attempt<void> DirectoryTree::replace(std::uint64_t key, std::uint64_t value, FileType type) {
  auto path = descend(key, 0);
  if (!path) return std::unexpected(path.error());
  auto leaf = change(path->number);
  if (!leaf) return std::unexpected(leaf.error());
  const std::size_t offset = lower_bound(*leaf, key);
  ASSERT(offset < end_of_entries(*leaf) && entry_at(*leaf, offset).key == key);
  set_entry(*leaf, offset, value, type);
  return {};
}

Attempt<void> DirectoryTree::remove(std::uint64_t key) {
  auto path = descend(key, 0);
  if (!path) return std::unexpected(path.error());
  auto leaf = change(path->number);
  if (!leaf) return std::unexpected(leaf.error());
  const std::size_t offset = lower_bound(*leaf, key);
  ASSERT(offset < end_of_entries(*leaf) && entry_at(*leaf, offset).key == key);
  remove_entry(*leaf, offset);
  auto inode = draft_.change_inode(file_);
  if (!inode) return std::unexpected(inode.error());
  if ((*inode)->entries == 0) return damaged(file_, "number of entries");
  if (--(*inode)->entries > 0) return shrink(std::move(*path));
  auto left = next(0);
  if (!left) return std::unexpected(left.error());
  if (*left) return damaged(file_, "number of entries");
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  draft_.drop_blocks(file_, 0, *blocks);
  return set_blocks(0);
}

// ---- growing ----

Attempt<void> DirectoryTree::grow(Path& path) {
  ASSERT(path.steps.empty() && path.number == 0);
  auto number = new_block();
  if (!number) return std::unexpected(number.error());
  auto root = change(0);
  if (!root) return std::unexpected(root.error());
  auto copy = change(*number);
  if (!copy) return std::unexpected(copy.error());
  const std::uint8_t level = files::level(*root);
  if (level == max_directory_level) return refuse(Outcome::no_space, "a directory is full");
  std::ranges::copy(*root, copy->begin());
  set_number(*copy, *number);
  format_block(*root, file_.inode, 0, static_cast<std::uint8_t>(level + 1), 0);
  insert_child(*root, 0, {0, *number});
  path.steps.push_back({0, 0});
  path.number = *number;
  return {};
}

Attempt<Child> DirectoryTree::split(Path& path) {
  if (path.steps.empty()) {
    if (auto grown = grow(path); !grown) return std::unexpected(grown.error());
  }
  auto number = new_block();
  if (!number) return std::unexpected(number.error());
  auto left = change(path.number);
  if (!left) return std::unexpected(left.error());
  auto right = change(*number);
  if (!right) return std::unexpected(right.error());
  split_block(*left, *right, *number);
  return Child{low_key(*right), *number};
}

Attempt<void> DirectoryTree::insert_into_parent(Path path, const Child& child) {
  Step parent = path.steps.back();
  path.steps.pop_back();
  path.number = parent.number;
  auto block = change(parent.number);
  if (!block) return std::unexpected(block.error());
  if (used(*block) + child_size <= directory_room) {
    insert_child(*block, parent.index + 1, child);
    return {};
  }
  auto right = split(path);
  if (!right) return std::unexpected(right.error());
  block = change(path.number);
  if (!block) return std::unexpected(block.error());
  if (parent.index >= count(*block)) {
    parent.index -= count(*block);
    block = change(right->number);
    if (!block) return std::unexpected(block.error());
  }
  insert_child(*block, parent.index + 1, child);
  return insert_into_parent(std::move(path), *right);
}

// ---- shrinking ----

Attempt<void> DirectoryTree::shrink(Path path) {
  std::vector<std::uint32_t> freed;
  while (!path.steps.empty()) {
    auto bytes = draft_.block(file_, path.number);
    if (!bytes) return std::unexpected(bytes.error());
    if (used(*bytes) >= directory_room / 3) break;
    auto merged = merge(path, freed);
    if (!merged) return std::unexpected(merged.error());
    if (!*merged) break;
    path.number = path.steps.back().number;
    path.steps.pop_back();
  }
  if (auto collapsed = collapse_root(freed); !collapsed) return collapsed;
  return give_back(std::move(freed));
}

// With the right or the left neighbour under the same parent, if they fit well.
Attempt<bool> DirectoryTree::merge(Path& path, std::vector<std::uint32_t>& freed) {
  const Step& step = path.steps.back();
  auto parent = draft_.block(file_, step.number);
  if (!parent) return std::unexpected(parent.error());
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  for (std::size_t right_index : {step.index + 1, step.index}) {
    if (right_index == 0 || right_index >= count(*parent)) continue;
    const std::size_t other = right_index == step.index ? step.index - 1 : right_index;
    const Child sibling = child_at(*parent, other);
    auto bytes = draft_.block(file_, sibling.number);
    if (!bytes) return std::unexpected(bytes.error());
    Expected expected{
        .owner = file_.inode, .number = sibling.number, .blocks = *blocks, .low = sibling.low};
    expected.level = static_cast<std::uint8_t>(level(*parent) - 1);
    if (other + 1 < count(*parent)) expected.high = child_at(*parent, other + 1).low;
    if (auto good = check_block(*bytes, expected); !good) {
      return refuse(Outcome::io, good.error().message);
    }
    auto self = draft_.block(file_, path.number);
    if (!self) return std::unexpected(self.error());
    const std::size_t both = used(*self) + used(*bytes);
    const bool nearly_empty = used(*self) <= child_size;
    if (both > (nearly_empty ? directory_room : directory_room * 3 / 4)) continue;
    const std::uint32_t left_number = other < step.index ? sibling.number : path.number;
    const std::uint32_t right_number = other < step.index ? path.number : sibling.number;
    auto left = change(left_number);
    if (!left) return std::unexpected(left.error());
    auto right = draft_.block(file_, right_number);
    if (!right) return std::unexpected(right.error());
    append_block(*left, *right);
    auto above = change(step.number);
    if (!above) return std::unexpected(above.error());
    remove_child(*above, right_index);
    freed.push_back(right_number);
    return true;
  }
  return false;
}

Attempt<void> DirectoryTree::collapse_root(std::vector<std::uint32_t>& freed) {
  for (;;) {
    auto root = draft_.block(file_, 0);
    if (!root) return std::unexpected(root.error());
    if (level(*root) == 0 || count(*root) > 1) return {};
    const std::uint32_t number = child_at(*root, 0).number;
    auto child = descend(0, static_cast<std::uint8_t>(level(*root) - 1));
    if (!child) return std::unexpected(child.error());
    ASSERT(child->number == number);
    auto changed = change(0);
    if (!changed) return std::unexpected(changed.error());
    std::ranges::copy(child->bytes, changed->begin());
    set_number(*changed, 0);
    freed.push_back(number);
  }
}

Attempt<void> DirectoryTree::give_back(std::vector<std::uint32_t> freed) {
  if (freed.empty()) return {};
  auto blocks = this->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  std::uint64_t left = *blocks;
  std::ranges::sort(freed, std::greater());
  for (std::uint32_t number : freed) {
    const auto last = static_cast<std::uint32_t>(left - 1);
    if (number != last) {
      if (auto moved = move(last, number); !moved) return moved;
    }
    --left;
  }
  draft_.drop_blocks(file_, left, *blocks);
  return set_blocks(left);
}

Attempt<DirectoryTree::Step> DirectoryTree::find_parent(std::uint32_t number) {
  auto bytes = draft_.block(file_, number);
  if (!bytes) return std::unexpected(bytes.error());
  const std::uint8_t level = files::level(*bytes);
  if (level >= max_directory_level) return damaged(file_, "level");
  auto parent = descend(low_key(*bytes), static_cast<std::uint8_t>(level + 1));
  if (!parent) return std::unexpected(parent.error());
  const std::size_t index = child_for(parent->bytes, low_key(*bytes));
  const Child child = child_at(parent->bytes, index);
  if (child.number != number || child.low != low_key(*bytes)) {
    return damaged(file_, "block " + std::to_string(number) + " has no parent");
  }
  return Step{parent->number, index};
}

Attempt<void> DirectoryTree::move(std::uint32_t from, std::uint32_t to) {
  auto parent = find_parent(from);
  if (!parent) return std::unexpected(parent.error());
  auto bytes = draft_.block(file_, from);
  if (!bytes) return std::unexpected(bytes.error());
  auto target = change(to);
  if (!target) return std::unexpected(target.error());
  std::ranges::copy(*bytes, target->begin());
  set_number(*target, to);
  auto above = change(parent->number);
  if (!above) return std::unexpected(above.error());
  set_child(*above, parent->index, to);
  return {};
}

Attempt<void> DirectoryTree::check(std::uint32_t number) {
  if (number == 0) {
    auto path = descend(0, 0);  // looks through the root first
    if (!path) return std::unexpected(path.error());
    return {};
  }
  auto parent = find_parent(number);
  if (!parent) return std::unexpected(parent.error());
  auto bytes = draft_.block(file_, number);
  if (!bytes) return std::unexpected(bytes.error());
  auto path = descend(low_key(*bytes), level(*bytes));
  if (!path) return std::unexpected(path.error());
  return {};
}

}  // namespace duet::files
