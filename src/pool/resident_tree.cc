#include "pool/resident_tree.h"

#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::pool {
namespace {

constexpr std::uint64_t fan_out = filesystem::pointers_per_block;

}  // namespace

// ---- loading ----

std::vector<BlockPointer> ResidentTree::missing() const {
  std::vector<BlockPointer> missing;
  if (root_.levels == 0 || root_.pointer.hole()) return missing;
  if (levels_[root_.levels].empty()) return {root_.pointer};
  for (std::uint8_t level = root_.levels; level > 1; --level) {
    for (const auto& [index, node] : levels_[level]) {
      for (std::uint64_t i = 0; i < fan_out; ++i) {
        if (!node.children[i].hole() && !levels_[level - 1].contains(index * fan_out + i)) {
          missing.push_back(node.children[i]);
        }
      }
    }
    if (!missing.empty()) return missing;
  }
  return missing;
}

Status ResidentTree::add(const BlockPointer& pointer, Bytes block) {
  const auto take = [&](std::uint8_t level, std::uint64_t index) -> Status {
    Node& added = levels_[level][index];
    for (std::uint64_t i = 0; i < fan_out; ++i) {
      added.children.push_back(filesystem::load_pointer(&block[i * filesystem::pointer_size]));
      if (added.children.back().birth > pointer.birth) {
        return fail(ErrorCode::invalid,
                    "an indirect block names a block that is newer than itself");
      }
    }
    return {};
  };
  if (levels_[root_.levels].empty()) {
    ASSERT(pointer == root_.pointer);
    return take(root_.levels, 0);
  }
  for (std::uint8_t level = root_.levels; level > 1; --level) {
    for (const auto& [index, node] : levels_[level]) {
      for (std::uint64_t i = 0; i < fan_out; ++i) {
        if (node.children[i] == pointer && !levels_[level - 1].contains(index * fan_out + i)) {
          return take(static_cast<std::uint8_t>(level - 1), index * fan_out + i);
        }
      }
    }
  }
  return fail(ErrorCode::invalid, "a block that this tree does not have");
}

BlockPointer ResidentTree::find(std::uint64_t block) const {
  if (levels_for(block) > root_.levels) return {};
  if (root_.levels == 0) return root_.pointer;
  auto found = levels_[1].find(block / fan_out);
  return found == levels_[1].end() ? BlockPointer{} : found->second.children[block % fan_out];
}

void ResidentTree::for_each(
    const std::function<void(std::uint64_t, const BlockPointer&)>& visit) const {
  if (root_.levels == 0) {
    if (!root_.pointer.hole()) visit(0, root_.pointer);
    return;
  }
  for (const auto& [index, node] : levels_[1]) {
    for (std::uint64_t i = 0; i < fan_out; ++i) {
      if (!node.children[i].hole()) visit(index * fan_out + i, node.children[i]);
    }
  }
}

void ResidentTree::for_each_node(const std::function<void(int, const BlockPointer&)>& visit) const {
  if (!root_.pointer.hole()) visit(root_.levels, root_.pointer);
  for (std::uint8_t level = root_.levels; level > 0; --level) {
    for (const auto& [index, node] : levels_[level]) {
      for (const BlockPointer& child : node.children) {
        if (!child.hole()) visit(level - 1, child);
      }
    }
  }
}

// ---- writing ----

ResidentTree::Node& ResidentTree::node(std::uint8_t level, std::uint64_t index) {
  Node& found = levels_[level][index];
  if (found.children.empty()) found.children.resize(fan_out);
  return found;
}

void ResidentTree::grow(std::uint64_t block) {
  const std::uint8_t levels = levels_for(block);
  for (; root_.levels < levels; ++root_.levels) {
    Node& top = node(static_cast<std::uint8_t>(root_.levels + 1), 0);
    top.children[0] = root_.pointer;
    if (root_place_) top.placed[0] = *root_place_;
    root_.pointer = {};
    root_place_.reset();
  }
}

void ResidentTree::change(std::uint64_t block) {
  if (!data_.contains(block)) changed_.insert(block);
}

// Gives the block or node (level, index) a place unless it has one, and all above it.
void ResidentTree::place(std::uint8_t level, std::uint64_t index, const Space& space) {
  for (; level < root_.levels; ++level, index /= fan_out) {
    Node& parent = node(static_cast<std::uint8_t>(level + 1), index / fan_out);
    const auto slot = static_cast<std::uint32_t>(index % fan_out);
    if (parent.placed.contains(slot)) return;
    parent.placed[slot] = space.allocate();
    ++planned_;
    if (!parent.children[slot].hole()) space.release(parent.children[slot].address);
  }
  if (root_place_) return;
  root_place_ = space.allocate();
  ++planned_;
  if (!root_.pointer.hole()) space.release(root_.pointer.address);
}

void ResidentTree::plan(const Space& space) {
  while (!changed_.empty()) {
    const std::uint64_t block = *changed_.begin();
    changed_.erase(changed_.begin());
    data_.insert(block);
    const std::uint8_t before = root_.levels;
    grow(block);
    for (auto level = static_cast<std::uint8_t>(before + 1); level < root_.levels; ++level) {
      place(level, 0, space);
    }
    place(0, block, space);
  }
}

std::size_t ResidentTree::unplanned() const {
  // Each block with a path of its own.
  return changed_.size() *
         (std::max<std::size_t>(root_.levels,
                                changed_.empty() ? 0 : levels_for(*changed_.rbegin())) +
          2);
}

const TreeRoot& ResidentTree::write(Generation generation,
                                    const std::function<Slice(std::uint64_t)>& content,
                                    const std::function<void(raid::BlockAddress, Slice)>& emit) {
  ASSERT(changed_.empty());
  const auto point = [&](raid::BlockAddress address, Slice block) {
    const BlockPointer pointer{address, generation, crc32c(block.bytes)};
    emit(address, std::move(block));
    return pointer;
  };
  for (const std::uint64_t block : data_) {
    if (root_.levels == 0) {
      root_.pointer = point(*root_place_, content(block));
    } else {
      Node& parent = node(1, block / fan_out);
      const auto slot = static_cast<std::uint32_t>(block % fan_out);
      parent.children[slot] = point(parent.placed.at(slot), content(block));
    }
  }
  for (std::uint8_t level = 1; level <= root_.levels; ++level) {
    for (auto& [index, changed] : levels_[level]) {
      if (changed.placed.empty()) continue;
      OwnedBuffer block = make_buffer(filesystem::block_size);
      for (std::uint64_t i = 0; i < fan_out; ++i) {
        filesystem::store_pointer(&block.bytes[i * filesystem::pointer_size], changed.children[i]);
      }
      changed.placed.clear();
      if (level == root_.levels) {
        root_.pointer = point(*root_place_, block.slice());
      } else {
        Node& parent = node(static_cast<std::uint8_t>(level + 1), index / fan_out);
        const auto slot = static_cast<std::uint32_t>(index % fan_out);
        parent.children[slot] = point(parent.placed.at(slot), block.slice());
      }
    }
  }
  data_.clear();
  root_place_.reset();
  planned_ = 0;
  return root_;
}

}  // namespace duet::pool
