// From blocks in memory to blocks on the disks: places, batches of writes, the superblock; and what
// is given up.
#include <utility>

#include "base/assert.h"
#include "base/crc32c.h"
#include "pool/flush.h"

namespace duet::pool {

// ---- blocks ----

Slice Flush::find(const BlockPointer& pointer) {
  if (auto pinned = pins_->find(pointer.address.value); pinned != pins_->end()) {
    return pinned->second;
  }
  return pool_.metadata_.find(pointer.address);
}

BlockPointer Flush::place(Slice block, bool data) {
  if (pool_.space_.available() == 0) {
    full_ = true;
    return {};
  }
  const raid::BlockAddress address = pool_.space_.allocate();
  const BlockPointer pointer{address, next_.generation, crc32c(block.bytes)};
  const std::uint64_t chunk = pool_.space_.chunk();
  if (chunk != chunk_) chunk_done(std::exchange(chunk_, chunk));
  ++chunks_[chunk].expected;
  ++pool_.figures_.blocks_written;
  if (current_ != pool_volume) {
    if (Volume* owner = volume(current_)) ++owner->used;
  }
  // Whatever was there in another life is replaced. A client's buffer is not kept for one block.
  if (data && !inodes_now_ && current_ != pool_volume) {
    pool_.metadata_.erase(address);
    pool_.data_.insert(address, copy_to_slice(block.bytes));
  } else {
    pool_.data_.erase(address);
    pool_.metadata_.insert(address, block);
  }
  emit(address, std::move(block), chunk);
  return pointer;
}

void Flush::emit(raid::BlockAddress address, Slice block, std::uint64_t chunk) {
  auto found = chunks_.find(chunk);
  found->second.blocks.push_back({address, std::move(block)});
  if (chunk != chunk_) chunk_done(chunk);
}

// A chunk that gets no more blocks and has all contents is ready to be written.
void Flush::chunk_done(std::uint64_t chunk) {
  auto found = chunks_.find(chunk);
  if (found == chunks_.end() || found->second.blocks.size() < found->second.expected) return;
  for (auto& block : found->second.blocks) ready_.push_back(std::move(block));
  chunks_.erase(found);
  if (ready_.size() >= blocks_per_write) send();
}

void Flush::send() {
  if (ready_.empty()) return;
  written_.push_back(std::exchange(ready_, {}));
  if (in_flight_ < writes_in_flight) write_batch(next_batch_++);
}

void Flush::write_batch(std::size_t number) {
  ++in_flight_;
  pool_.array_->write(next_.generation, written_[number], mine([this, number](Status status) {
                        // One that failed stays under way: the point must not end without it.
                        if (!status) {
                          return retry(status.error(), [this, number] {
                            --in_flight_;
                            write_batch(number);
                          });
                        }
                        --in_flight_;
                        if (next_batch_ < written_.size()) return write_batch(next_batch_++);
                        if (in_flight_ == 0 && all_written_) std::exchange(all_written_, nullptr)();
                      }));
}

void Flush::release(raid::BlockAddress address) {
  if (pool_.space_.loaded(pool_.space_.map_of(address))) {
    release_now(address);
  } else {
    unloaded_releases_.push_back(address);
  }
}

void Flush::release_now(raid::BlockAddress address) {
  if (!pool_.space_.is_used(address)) {
    return pool_.give_up_on("a block is freed twice: the pool is damaged");
  }
  pool_.space_.release(address);
}

void Flush::drop(const BlockPointer& pointer) {
  if (!pool_.space_.valid(pointer.address)) {
    return pool_.give_up_on("a block lies outside of the pool");
  }
  if (current_ == pool_volume) return release(pointer.address);
  give_up(current_, pointer, keeps(current_, next_.generation), current_);
}

void Flush::drop_tree(const BlockPointer& pointer, std::uint8_t level) {
  // What a clone has of its origin is not its own, also when the clone is removed meanwhile.
  const Volume* owner = volume(current_);
  const bool clone =
      owner != nullptr && owner->kind == VolumeKind::volume && owner->parent != pool_volume;
  const Generation keep = clone ? owner->birth : 0;
  if (pointer.birth <= keep) return;
  add_zombie({pointer, level, false, false, current_, keep, next_.generation});
}

void Flush::give_up(VolumeId id, const BlockPointer& pointer, Generation newest, VolumeId dead) {
  Volume* owner = volume(id);
  const bool clone =
      owner != nullptr && owner->kind == VolumeKind::volume && owner->parent != pool_volume;
  if (clone && pointer.birth <= owner->birth) return;  // the origin's
  if (pointer.birth <= newest) {
    dead_[dead].push_back(pointer);
    return;
  }
  if (owner != nullptr && owner->used > 0) --owner->used;
  release(pointer.address);
}

// ---- to the disks ----

void Flush::write_all() {
  pool_.space_.finish_rows();
  const std::uint64_t last = std::exchange(chunk_, pool_.space_.chunk());
  chunk_done(last);
  ASSERT(chunks_.empty());
  send();
  if (in_flight_ == 0 && next_batch_ == written_.size()) {
    return soon([this] { flush_disks(); });
  }
  all_written_ = [this] { flush_disks(); };
}

void Flush::flush_disks() {
  if (std::exchange(write_again_, false)) {
    next_batch_ = 0;
    all_written_ = [this] { flush_disks(); };
    if (!written_.empty()) return write_batch(next_batch_++);
    all_written_ = nullptr;
  }
  pool_.array_->flush(mine([this](Status status) {
    if (!status) {
      write_again_ = true;
      return retry(status.error(), [this] { flush_disks(); });
    }
    if (write_again_) return flush_disks();
    write_superblock();
  }));
}

void Flush::write_superblock() {
  next_.layout = pool_.array_->layout();
  auto bytes = encode(next_);
  if (!bytes) return pool_.give_up_on(bytes.error().message);
  pool_.array_->write_everywhere(superblock_slot(next_.generation), copy_to_slice(*bytes),
                                 mine([this](Status status) {
                                   if (status) return commit();
                                   if (status.error().code == ErrorCode::busy)
                                     return soon([this] { write_superblock(); });
                                   retry(status.error(), [this] { write_superblock(); });
                                 }));
}

}  // namespace duet::pool
