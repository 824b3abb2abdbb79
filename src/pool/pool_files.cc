// Files of a Pool as operations see and change them (filesystem::View).
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "pool/flush.h"
#include "pool/pool.h"

namespace duet::pool {
namespace {

std::unexpected<Error> not_in_memory() {
  return fail(ErrorCode::busy, "not in memory");
}

std::string describe(FileKey key) {
  return "inode " + std::to_string(key.inode.value()) + " of volume " +
         std::to_string(key.volume.value());
}

}  // namespace

// ---- blocks in memory ----

Slice Pool::cached(const BlockPointer& pointer) {
  if (pins_ != nullptr) {
    if (auto pinned = pins_->find(pointer.address.value); pinned != pins_->end()) {
      return pinned->second;
    }
  }
  Slice block = metadata_.find(pointer.address);
  return block.bytes.empty() ? data_.find(pointer.address) : block;
}

// Brings blocks into memory and, for who asked, keeps them there in `pins`.
void Pool::fetch(std::vector<BlockPointer> blocks, std::shared_ptr<Pins> pins,
                 ports::Done<void> done) {
  std::ranges::sort(blocks, {}, &BlockPointer::address);
  auto repeated = std::ranges::unique(blocks);
  blocks.erase(repeated.begin(), repeated.end());
  std::vector<raid::BlockRead> reads;
  auto buffers = std::make_shared<std::vector<std::pair<BlockPointer, Slice>>>();
  for (const BlockPointer& pointer : blocks) {
    if (Slice block = metadata_.find(pointer.address); !block.bytes.empty()) {
      (*pins)[pointer.address.value] = std::move(block);
      continue;
    }
    OwnedBuffer buffer = make_buffer(block_size);
    reads.push_back({pointer.address, pointer.crc, buffer.bytes});
    buffers->emplace_back(pointer, buffer.slice());
  }
  if (reads.empty()) {
    return scheduler_.post([done = std::move(done)]() mutable { done({}); });
  }
  array_->read(std::move(reads), [this, session = std::weak_ptr(session_), buffers, pins,
                                  done = std::move(done)](Status status) mutable {
    if (session.expired()) return done(fail(ErrorCode::cancelled, "the pool was closed"));
    if (!status) return done(std::move(status));
    for (const auto& [pointer, block] : *buffers) {
      (*pins)[pointer.address.value] = block;
      metadata_.insert(pointer.address, block);
    }
    done({});
  });
}

// The pointer of a block in the tree on the disks.
Result<BlockPointer> Pool::resolve(const TreeRoot& root, std::uint64_t block) {
  if (levels_for(block) > root.levels) return BlockPointer{};
  BlockPointer pointer = root.pointer;
  for (std::uint8_t level = root.levels; level > 0 && !pointer.hole(); --level) {
    const Slice node = cached(pointer);
    if (node.bytes.empty()) {
      missing_.push_back(pointer);
      return not_in_memory();
    }
    const std::uint64_t slot = block >> 8 * (level - 1) & 0xff;
    const BlockPointer child =
        filesystem::load_pointer(&node.bytes[slot * filesystem::pointer_size]);
    if (child.birth > pointer.birth) {
      return fail(ErrorCode::io_error, "an indirect block names a block that is newer than itself");
    }
    pointer = child;
  }
  return pointer;
}

Result<std::uint64_t> Pool::next_in_tree(const TreeRoot& root, std::uint64_t from,
                                         std::uint64_t end) {
  const std::uint64_t blocks = std::uint64_t{1} << 8 * root.levels;
  while (from < std::min(end, blocks)) {
    BlockPointer pointer = root.pointer;
    std::uint8_t level = root.levels;
    for (; level > 0 && !pointer.hole(); --level) {
      const Slice node = cached(pointer);
      if (node.bytes.empty()) {
        missing_.push_back(pointer);
        return not_in_memory();
      }
      const std::uint64_t slot = from >> 8 * (level - 1) & 0xff;
      pointer = filesystem::load_pointer(&node.bytes[slot * filesystem::pointer_size]);
    }
    if (!pointer.hole()) return std::min(from, end);
    from = ((from >> 8 * level) + 1) << 8 * level;  // past the hole
  }
  return end;
}

Result<File*> Pool::file(FileKey key) {
  if (held_.contains(key.volume)) return fail(ErrorCode::busy, "the volume is being replaced");
  // The blocks of a snapshot that is being deleted go one by one.
  const auto volume = volumes_.find(key.volume);
  const bool there = volume != volumes_.end() && !volume->second.deleting;
  if (!there && key.volume != pool_volume) {
    return fail(ErrorCode::not_found, describe(key) + " does not exist");
  }
  if (auto found = files_.find(key); found != files_.end()) {
    if (found->second->freed) return fail(ErrorCode::not_found, describe(key) + " is free");
    return found->second.get();
  }
  if (!there || key.inode == no_inode) {
    return fail(ErrorCode::not_found, describe(key) + " does not exist");
  }
  const Inode& inodes = volume->second.inodes;
  auto pointer =
      resolve({inodes.root, inodes.levels}, key.inode.value() / filesystem::inodes_per_block);
  if (!pointer) return std::unexpected(pointer.error());
  if (pointer->hole()) return fail(ErrorCode::not_found, describe(key) + " is free");
  const Slice block = cached(*pointer);
  if (block.bytes.empty()) {
    missing_.push_back(*pointer);
    return not_in_memory();
  }
  auto inode = filesystem::decode_inode(
      block.bytes.subspan(key.inode.value() % filesystem::inodes_per_block * filesystem::inode_size,
                          filesystem::inode_size));
  if (!inode) return fail(ErrorCode::io_error, describe(key) + ": " + inode.error().message);
  if (inode->type == filesystem::FileType::none) {
    return fail(ErrorCode::not_found, describe(key) + " is free");
  }
  auto made = std::make_shared<File>();
  made->key = key;
  made->inode = std::move(*inode);
  return (files_[key] = std::move(made)).get();
}

// A whole block with everything applied.
Result<Slice> Pool::block_now(File& file, std::uint64_t number) {
  const DirtyBlock* dirty = file.dirty.find(number);
  if (dirty != nullptr && dirty->whole()) return dirty->slice;
  if (dirty == nullptr && file.dirty.zeroed(number)) return zero_block();
  const DirtyBlock* flushing = file.flushing.find(number);
  Slice base = zero_block();
  if (flushing != nullptr && flushing->whole()) {
    base = flushing->slice;
  } else if (flushing != nullptr || !file.flushing.zeroed(number)) {
    auto pointer = resolve(file.root(), number);
    if (!pointer) return std::unexpected(pointer.error());
    if (!pointer->hole()) {
      base = cached(*pointer);
      if (base.bytes.empty()) {
        missing_.push_back(*pointer);
        return not_in_memory();
      }
    }
    if (flushing != nullptr) base = flushing->over(base);
  }
  return dirty == nullptr ? base : dirty->over(base);
}

// Only when there are twice as many as were left the last time: what is not clean would be looked
// at again and again.
void Pool::forget_clean_files() {
  if (files_.size() <= forget_above_) return;
  std::erase_if(files_, [](const auto& entry) {
    const auto& [key, file] = entry;
    return key.volume != pool_volume && file->clean() && file.use_count() == 1;
  });
  forget_above_ = std::max(files_max, 2 * files_.size());
}

// ---- View ----

Result<Inode> Pool::inode(FileKey key) {
  auto found = file(key);
  if (!found) return std::unexpected(found.error());
  return (*found)->inode;
}

Result<Bytes> Pool::block(FileKey key, std::uint64_t number) {
  auto found = file(key);
  if (!found) return std::unexpected(found.error());
  auto now = block_now(**found, number);
  if (!now) return std::unexpected(now.error());
  shown_.push_back(*now);
  return now->bytes;
}

Result<std::uint64_t> Pool::next_block(FileKey key, std::uint64_t from) {
  auto found = file(key);
  if (!found) return std::unexpected(found.error());
  std::uint64_t next = filesystem::max_file_blocks;
  for (const DirtyFile* changes : {&(*found)->dirty, &(*found)->flushing}) {
    for (auto group = changes->groups().lower_bound(from / group_blocks);
         group != changes->groups().end(); ++group) {
      const std::uint64_t base = group->first * group_blocks;
      auto block =
          group->second.lower_bound(static_cast<std::uint32_t>(from > base ? from - base : 0));
      if (block == group->second.end()) continue;
      next = std::min(next, base + block->first);
      break;
    }
  }
  // In the tree, whatever was zeroed since.
  return next_in_tree((*found)->root(), from, next);
}

Result<InodeNumber> Pool::next_inode(VolumeId id) {
  auto volume = volumes_.find(id);
  if (volume == volumes_.end() || volume->second.kind != VolumeKind::volume) {
    return fail(ErrorCode::not_found, "no such volume");
  }
  if (held_.contains(id)) return fail(ErrorCode::busy, "the volume is being replaced");
  const std::uint64_t next = volume->second.next_inode;
  if (next / filesystem::inodes_per_block >= filesystem::max_file_blocks) {
    return fail(ErrorCode::no_space,
                "volume " + volume->second.name + " has no inode numbers left");
  }
  return InodeNumber(next);
}

InodeNumber Pool::allocate_inode(VolumeId id) {
  Volume& volume = volumes_.at(id);
  ASSERT(volume.kind == VolumeKind::volume);
  changed_volumes_.insert(id);
  note_change();
  if (flush_) next_inode_before_.try_emplace(id, volume.next_inode);
  const InodeNumber number(volume.next_inode++);
  auto made = std::make_shared<File>();
  made->key = {id, number};
  files_[made->key] = std::move(made);
  return number;
}

// The file, about to be changed.
File& Pool::changed_file(FileKey key) {
  File& changed = *files_.at(key);
  ASSERT(!changed.freed);
  if (key.volume != pool_volume) ASSERT(volumes_.at(key.volume).kind == VolumeKind::volume);
  changed_.insert(key);
  return changed;
}

template <class Change>
void Pool::change_data(FileKey key, Change change) {
  File& file = changed_file(key);
  std::uint64_t& waiting = waiting_[key.volume].dirty;
  dirty_cost_ -= file.dirty.cost();
  dirty_blocks_ -= file.dirty.blocks();
  waiting -= file.dirty.blocks();
  change(file.dirty);
  dirty_cost_ += file.dirty.cost();
  dirty_blocks_ += file.dirty.blocks();
  waiting += file.dirty.blocks();
  note_change();
}

void Pool::set_inode(FileKey key, const Inode& inode) {
  auto found = files_.find(key);
  if (found == files_.end()) {  // new, with a number that was chosen
    auto made = std::make_shared<File>();
    made->key = key;
    files_[key] = std::move(made);
  }
  if (inode.type == filesystem::FileType::none) {
    change_data(key, [](DirtyFile& dirty) { dirty = {}; });
  }
  File& file = changed_file(key);
  const Inode before = std::exchange(file.inode, inode);
  file.inode.root = before.root;
  file.inode.levels = before.levels;
  file.inode.blocks = before.blocks;
  file.changed = true;
  file.freed = inode.type == filesystem::FileType::none;
  note_change();
}

MutableBytes Pool::change_block(FileKey key, std::uint64_t number) {
  auto now = block_now(*files_.at(key), number);
  ASSERT(now);
  MutableBytes bytes;
  change_data(key, [&](DirtyFile& dirty) { bytes = dirty.change(number, now->bytes); });
  return bytes;
}

void Pool::write(FileKey key, std::uint64_t offset, const std::vector<Slice>& data) {
  change_data(key, [&](DirtyFile& dirty) { dirty.write(offset, data); });
}

void Pool::zero(FileKey key, std::uint64_t offset, std::uint64_t length) {
  change_data(key, [&](DirtyFile& dirty) { dirty.zero(offset, length); });
}

// ---- operations ----

struct Pool::Running {
  std::function<Status(filesystem::View&)> operation;
  ports::Done<void> done;
  std::shared_ptr<Pins> pins = std::make_shared<Pins>();
  std::shared_ptr<Era> era;
  std::weak_ptr<Session> session;
};

void Pool::run(std::function<Status(filesystem::View&)> operation, ports::Done<void> done) {
  auto running = std::make_shared<Running>();
  running->operation = std::move(operation);
  running->done = std::move(done);
  running->session = session_;
  if (session_ == nullptr || state_ == StorageState::closed) {
    return fail_later(running->done, {ErrorCode::refused, "the pool is not open"});
  }
  run_again(running);
}

void Pool::run_again(const std::shared_ptr<Running>& running) {
  // The first one, so that what is pinned is not given away and written again meanwhile.
  if (!running->era) running->era = era_;
  pins_ = running->pins.get();
  missing_.clear();
  shown_.clear();
  Status status = running->operation(*this);
  pins_ = nullptr;
  shown_.clear();
  if (missing_.empty()) {
    forget_clean_files();
    return scheduler_.post(
        [running, status = std::move(status)]() mutable { running->done(std::move(status)); });
  }
  ASSERT(!status);
  fetch(std::exchange(missing_, {}), running->pins, [this, running](Status fetched) {
    if (running->session.expired()) {
      return running->done(fail(ErrorCode::cancelled, "the pool was closed"));
    }
    if (!fetched) return running->done(std::move(fetched));
    run_again(running);
  });
}

}  // namespace duet::pool
