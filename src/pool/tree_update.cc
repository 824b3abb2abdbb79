#include "pool/tree_update.h"

#include <algorithm>

#include "base/assert.h"

namespace duet::pool {

TreeUpdate::TreeUpdate(TreeHost& host, const TreeRoot& root, const DirtyFile& changes)
    : host_(host),
      root_(root),
      changes_(changes),
      next_range_(changes.zeroed_ranges().begin()),
      next_group_(changes.groups().begin()) {
  grow();
}

// New levels above the old root, empty but for it.
void TreeUpdate::grow() {
  if (changes_.groups().empty()) return;
  const auto& [group, blocks] = *changes_.groups().rbegin();
  const std::uint8_t levels = levels_for(group * group_blocks + blocks.rbegin()->first);
  for (; root_.levels < levels; ++root_.levels) {
    Node top;
    top.children.resize(group_blocks);
    top.children[0] = root_.pointer;
    top.changed = true;  // must be written even if the new block is elsewhere
    nodes_[{static_cast<std::uint8_t>(root_.levels + 1), 0}] = std::move(top);
    root_.pointer = {};
  }
}

// The node, as far as it can be had now; null: `missing_` has what is needed first.
TreeUpdate::Node* TreeUpdate::node(std::uint8_t level, std::uint64_t index) {
  if (auto found = nodes_.find({level, index}); found != nodes_.end()) return &found->second;
  BlockPointer pointer = root_.pointer;
  if (level < root_.levels) {
    Node* parent = node(static_cast<std::uint8_t>(level + 1), index / group_blocks);
    if (parent == nullptr) return nullptr;
    pointer = parent->children[index % group_blocks];
  }
  Node made;
  made.old = pointer;
  made.children.resize(group_blocks);
  if (!pointer.hole()) {
    const Slice block = host_.find(pointer);
    if (block.bytes.empty()) {
      missing_.push_back(pointer);
      return nullptr;
    }
    for (std::uint64_t i = 0; i < group_blocks; ++i) {
      made.children[i] = filesystem::load_pointer(&block.bytes[i * filesystem::pointer_size]);
      if (made.children[i].birth > pointer.birth) {
        error_ = {ErrorCode::invalid, "an indirect block names a block that is newer than itself"};
        return nullptr;
      }
    }
  }
  return &(nodes_[{level, index}] = std::move(made));
}

Result<TreeUpdate::Need> TreeUpdate::step() {
  missing_.clear();
  const bool done = clear_ranges() && write_groups() && finish();
  if (error_) return std::unexpected(*error_);
  return Need{done, std::move(missing_)};
}

// ---- zeros ----

// Makes holes of the blocks [from, to) below the node. False: something is missing.
bool TreeUpdate::clear(std::uint8_t level, std::uint64_t index, std::uint64_t from,
                       std::uint64_t to) {
  Node* here = node(level, index);
  if (here == nullptr) return false;
  const std::uint64_t child_span = span(static_cast<std::uint8_t>(level - 1));
  const std::uint64_t base = index * span(level);
  const std::uint64_t first = (std::max(from, base) - base) / child_span;
  const std::uint64_t end = (std::min(to, base + span(level)) - base + child_span - 1) / child_span;
  bool complete = true;
  for (std::uint64_t i = first; i < end; ++i) {
    const std::uint64_t begin = base + i * child_span;
    const auto below = static_cast<std::uint8_t>(level - 1);
    if (level > 1 && nodes_.contains({below, index * group_blocks + i})) {
      complete &= clear(below, index * group_blocks + i, from, to);  // new, or cleared in part
      continue;
    }
    BlockPointer& child = here->children[i];
    if (child.hole()) continue;
    if (from > begin || to < begin + child_span) {
      complete &= clear(below, index * group_blocks + i, from, to);
      continue;
    }
    if (level == 1) {
      host_.drop(child);
      --blocks_added_;
    } else {
      host_.drop_tree(child, below);
      blocks_added_ -= static_cast<std::int64_t>(child_span);
    }
    child = {};
    here->changed = true;
  }
  return complete;
}

bool TreeUpdate::clear_ranges() {
  for (; next_range_ != changes_.zeroed_ranges().end(); ++next_range_) {
    const auto [from, to] = *next_range_;
    if (root_.levels == 0) {
      if (from == 0 && !root_.pointer.hole()) {
        host_.drop(root_.pointer);
        root_.pointer = {};
        --blocks_added_;
      }
    } else if (from < span(root_.levels)) {
      if (!clear(root_.levels, 0, from, std::min(to, span(root_.levels)))) return false;
    }
  }
  return true;
}

// ---- data ----

void TreeUpdate::replace(BlockPointer& slot, const Slice& block) {
  if (slot.hole()) {
    ++blocks_added_;
  } else {
    host_.drop(slot);
  }
  slot = host_.place(block, true);
}

bool TreeUpdate::write_group(std::uint64_t group, const DirtyFile::Group& blocks,
                             std::size_t& budget) {
  Node* parent = node(1, group);
  if (parent == nullptr) return false;
  bool complete = true;
  for (const auto& [slot, block] : blocks) {
    const BlockPointer& old = parent->children[slot];
    if (block.whole() || old.hole() || !host_.find(old).bytes.empty()) continue;
    missing_.push_back(old);
    complete = false;
  }
  if (!complete) return false;
  for (const auto& [slot, block] : blocks) {
    BlockPointer& child = parent->children[slot];
    Slice base;
    if (!block.whole() && !child.hole()) base = host_.find(child);
    replace(child, block.over(base));
  }
  parent->changed = true;
  budget -= std::min(budget, blocks.size());
  finish_node(1, group);
  return true;
}

bool TreeUpdate::write_groups() {
  if (root_.levels == 0) {
    if (next_group_ == changes_.groups().end()) return true;
    const DirtyBlock& block = next_group_->second.begin()->second;
    Slice base;
    if (!block.whole() && !root_.pointer.hole()) {
      base = host_.find(root_.pointer);
      if (base.bytes.empty()) {
        missing_.push_back(root_.pointer);
        return false;
      }
    }
    replace(root_.pointer, block.over(base));
    ++next_group_;
    return true;
  }
  std::size_t budget = blocks_per_step;
  std::size_t groups = 0;
  while (next_group_ != changes_.groups().end()) {
    if (budget == 0 || groups == groups_per_step) return false;  // the next step goes on
    if (!write_group(next_group_->first, next_group_->second, budget)) {
      // What the groups after it need is brought in together with it.
      auto ahead = std::next(next_group_);
      for (++groups; ahead != changes_.groups().end() && groups < groups_per_step;
           ++ahead, ++groups) {
        Node* parent = node(1, ahead->first);
        if (parent == nullptr) continue;
        for (const auto& [slot, block] : ahead->second) {
          const BlockPointer& old = parent->children[slot];
          if (!block.whole() && !old.hole() && host_.find(old).bytes.empty()) {
            missing_.push_back(old);
          }
        }
      }
      return false;
    }
    ++next_group_;
    ++groups;
  }
  return true;
}

// ---- up to the root ----

// Writes the node, unless nothing is left below it, and tells its parent.
void TreeUpdate::finish_node(std::uint8_t level, std::uint64_t index) {
  auto found = nodes_.find({level, index});
  Node done = std::move(found->second);
  nodes_.erase(found);
  if (!done.changed) return;
  BlockPointer pointer;
  if (!std::ranges::all_of(done.children, &BlockPointer::hole)) {
    OwnedBuffer block = make_buffer(block_size);
    for (std::uint64_t i = 0; i < group_blocks; ++i) {
      filesystem::store_pointer(&block.bytes[i * filesystem::pointer_size], done.children[i]);
    }
    pointer = host_.place(block.slice(), false);
  }
  if (!done.old.hole()) host_.drop(done.old);
  if (level == root_.levels) {
    root_.pointer = pointer;
    return;
  }
  Node& parent = nodes_.at({static_cast<std::uint8_t>(level + 1), index / group_blocks});
  parent.children[index % group_blocks] = pointer;
  parent.changed = true;
}

bool TreeUpdate::finish() {
  std::size_t budget = groups_per_step;
  for (; finish_level_ <= root_.levels; ++finish_level_) {
    while (true) {
      auto found = nodes_.lower_bound({finish_level_, 0});
      if (found == nodes_.end() || found->first.first != finish_level_) break;
      if (budget-- == 0) return false;
      finish_node(finish_level_, found->first.second);
    }
  }
  if (root_.pointer.hole()) root_.levels = 0;
  return true;
}

}  // namespace duet::pool
