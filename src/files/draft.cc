#include "files/draft.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"

namespace duet::files {

using filesystem::block_size;

namespace {
constexpr std::array<std::byte, block_size> zeros{};
}

Attempt<const Inode*> Draft::inode(FileKey file) {
  auto found = inodes_.find(file);
  if (found == inodes_.end()) {
    auto inode = view_->inode(file);
    if (!inode) return refuse(inode.error());
    found = inodes_.emplace(file, DraftedInode{*inode, *inode, false}).first;
  }
  if (found->second.now.type == FileType::none) return refuse(Outcome::stale);
  return &found->second.now;
}

Attempt<Bytes> Draft::block(FileKey file, std::uint64_t number) {
  if (auto found = blocks_.find({file, number}); found != blocks_.end()) {
    return Bytes(found->second.get(), block_size);
  }
  if (file == created_ || file == made_) return Bytes(zeros);  // it has none yet
  auto block = view_->block(file, number);
  if (!block) return refuse(block.error());
  ASSERT(block->size() == block_size);
  return *block;
}

Attempt<Inode*> Draft::change_inode(FileKey file) {
  auto inode = this->inode(file);
  if (!inode) return std::unexpected(inode.error());
  DraftedInode& drafted = inodes_.at(file);
  drafted.changed = true;
  return &drafted.now;
}

Attempt<MutableBytes> Draft::change_block(FileKey file, std::uint64_t number) {
  auto present = block(file, number);
  if (!present) return std::unexpected(present.error());
  auto& copy = blocks_[{file, number}];
  if (copy == nullptr) {
    copy = std::make_unique_for_overwrite<std::byte[]>(block_size);
    std::memcpy(copy.get(), present->data(), block_size);
  }
  return MutableBytes(copy.get(), block_size);
}

void Draft::drop_blocks(FileKey file, std::uint64_t number, std::uint64_t end) {
  blocks_.erase(blocks_.lower_bound({file, number}), blocks_.lower_bound({file, end}));
  zero(file, number * block_size, (end - number) * block_size);
}

Attempt<FileKey> Draft::new_inode(VolumeId volume, Inode inode) {
  ASSERT(created_.inode == filesystem::no_inode && inode.type != FileType::none);
  auto number = view_->next_inode(volume);
  if (!number) return refuse(number.error());
  created_ = {volume, *number};
  inodes_[created_] = {Inode{}, std::move(inode), true};
  return created_;
}

void Draft::make_file(FileKey file, Inode inode) {
  ASSERT(made_.inode == filesystem::no_inode && inode.type != FileType::none);
  made_ = file;
  inodes_[file] = {Inode{}, std::move(inode), true};
}

void Draft::free_inode(FileKey file) {
  DraftedInode& drafted = inodes_.at(file);
  ASSERT(drafted.now.type != FileType::none && file != created_);
  drafted.now = Inode{};
  drafted.changed = true;
  blocks_.erase(blocks_.lower_bound({file, 0}),
                blocks_.upper_bound({file, filesystem::max_file_blocks}));
  std::erase_if(data_, [file](const DataChange& change) { return change.file == file; });
}

void Draft::write(FileKey file, std::uint64_t offset, std::vector<Slice> data) {
  std::uint64_t length = 0;
  for (const Slice& slice : data) length += slice.bytes.size();
  ASSERT(length > 0 && offset + length <= filesystem::max_file_size);
  data_.push_back({file, offset, length, std::move(data)});
}

void Draft::zero(FileKey file, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  ASSERT(offset + length <= filesystem::max_file_size);
  data_.push_back({file, offset, length, {}});
}

bool Draft::empty() const {
  return blocks_.empty() && data_.empty() &&
         std::ranges::none_of(inodes_, [](const auto& entry) { return entry.second.changed; });
}

Attempt<void> Draft::reserve(VolumeId volume) {
  std::uint64_t blocks = blocks_.size();
  for (const DataChange& change : data_) {
    if (change.data.empty()) continue;
    blocks += (change.offset + change.length - 1) / block_size - change.offset / block_size + 1;
  }
  auto space = view_->space(volume, blocks);
  if (!space) return refuse(space.error());
  return {};
}

std::vector<InodeChange> Draft::inodes() const {
  std::vector<InodeChange> all;
  for (const auto& [file, drafted] : inodes_) {
    if (drafted.changed) all.push_back({file, drafted.before, drafted.now});
  }
  return all;
}

void Draft::commit() {
  if (created_.inode != filesystem::no_inode) {
    ASSERT(view_->allocate_inode(created_.volume) == created_.inode);
  }
  for (const auto& [file, drafted] : inodes_) {
    if (drafted.changed && drafted.now.type != FileType::none) view_->set_inode(file, drafted.now);
  }
  for (const DataChange& change : data_) {
    if (change.data.empty()) {
      view_->zero(change.file, change.offset, change.length);
    } else {
      view_->write(change.file, change.offset, change.data);
    }
  }
  for (const auto& [key, bytes] : blocks_) {
    if (key.first == created_ || key.first == made_) {
      view_->write(key.first, key.second * block_size, {copy_to_slice({bytes.get(), block_size})});
      continue;
    }
    MutableBytes to = view_->change_block(key.first, key.second);
    ASSERT(to.size() == block_size);
    std::memcpy(to.data(), bytes.get(), block_size);
  }
  for (const auto& [file, drafted] : inodes_) {
    if (drafted.changed && drafted.now.type == FileType::none) view_->set_inode(file, drafted.now);
  }
}

}  // namespace duet::files
