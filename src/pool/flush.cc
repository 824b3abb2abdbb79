#include "pool/flush.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.h"
#include "base/crc32c.h"
#include "pool/tables.h"

namespace duet::pool {

Flush::Flush(Pool& pool) : pool_(pool) {}

void Flush::stop() {
  stopped_ = true;
  for (auto& result : std::exchange(order_results_, {})) {
    pool_.scheduler_.post([done = std::move(result.first)]() mutable {
      done(fail(ErrorCode::cancelled, "the pool was closed or lost"));
    });
  }
}

// ---- common steps ----

// A callback that counts only while this consistency point goes on.
template <class F>
auto Flush::mine(F f) {
  return [self = shared_from_this(), f = std::move(f)](auto&&... arguments) mutable {
    if (!self->stopped_) f(std::forward<decltype(arguments)>(arguments)...);
  };
}

void Flush::soon(Then then) {
  pool_.scheduler_.post(mine(std::move(then)));
}

void Flush::retry(const Error& error, Then then) {
  if (error.code == ErrorCode::reservation_conflict) return pool_.fence(error.message);
  pool_.set_health(fmt::format("consistency point {} failed: {}, trying again", next_.generation,
                               error.message));
  pool_.retry_ = pool_.scheduler_.at(pool_.scheduler_.now() + pool_.options_.retry_delay,
                                     mine(std::move(then)));
}

void Flush::fetch(std::vector<BlockPointer> blocks, Then then) {
  if (blocks.empty()) return soon(std::move(then));
  auto again = blocks;
  pool_.fetch(std::move(blocks), pins_,
              mine([this, again = std::move(again), then = std::move(then)](Status status) mutable {
                if (status) return then();
                retry(status.error(), [this, again = std::move(again), then = std::move(then)] {
                  fetch(again, then);
                });
              }));
}

// Makes sure that `blocks` can be placed without waiting.
void Flush::make_room(std::uint64_t blocks, Then then) {
  auto missing = pool_.space_.line_up(blocks);
  if (missing.empty()) return then();
  load_maps(std::move(missing),
            [this, blocks, then = std::move(then)] { make_room(blocks, then); });
}

void Flush::load_maps(std::vector<std::uint64_t> maps, Then then) {
  std::vector<BlockPointer> pointers;
  for (auto map : maps) {
    if (const BlockPointer pointer = pool_.maps_.find(map); !pointer.hole()) {
      pointers.push_back(pointer);
    }
  }
  fetch(std::move(pointers), [this, maps = std::move(maps), then = std::move(then)] {
    for (auto map : maps) {
      if (pool_.space_.loaded(map)) continue;
      const BlockPointer pointer = pool_.maps_.find(map);
      if (!pool_.space_.load(map, pointer.hole() ? Bytes{} : find(pointer).bytes)) {
        // Its checksum is right, so somebody counted wrong: nothing may be written on top of it.
        return pool_.give_up_on("map block " + std::to_string(map) + " does not fit its count");
      }
    }
    then();
  });
}

void Flush::update(const TreeRoot& root, const DirtyFile& changes,
                   std::function<void(const TreeRoot&, std::int64_t)> then) {
  update_ = std::make_unique<TreeUpdate>(static_cast<TreeHost&>(*this), root, changes);
  update_step(std::move(then));
}

void Flush::update_step(std::function<void(const TreeRoot&, std::int64_t)> then) {
  make_room(TreeUpdate::places_per_step, [this, then = std::move(then)] {
    auto need = update_->step();
    if (!need) return pool_.give_up_on(need.error().message);
    if (full_) return pool_.give_up_on("there is no free block for a consistency point");
    if (need->done) {
      const TreeRoot root = update_->root();
      const std::int64_t added = update_->blocks_added();
      pins_->clear();
      return soon([then, root, added] { then(root, added); });
    }
    if (need->blocks.empty()) {
      pins_->clear();
      return soon([this, then] { update_step(then); });
    }
    fetch(std::move(need->blocks), [this, then] { update_step(then); });
  });
}

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
                        --in_flight_;
                        if (!status) {
                          return retry(status.error(), [this, number] { write_batch(number); });
                        }
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

// ---- freeze ----

void Flush::start() {
  freeze();
  soon([this] { next_file(); });
}

// The slot of the superblock in force is left alone, and that of the next generation overwritten.
void Flush::start_bare(ports::Done<void> done) {
  next_ = pool_.superblock_;
  next_.generation += 3;
  next_.epoch = pool_.epoch_;
  zombies_ = pool_.zombies_;
  order_results_.emplace_back(std::move(done), Status{});
  soon([this] { write_superblock(); });
}

void Flush::freeze() {
  Pool& p = pool_;
  next_ = p.superblock_;
  ++next_.generation;
  next_.epoch = p.epoch_;
  next_.position = p.applied_;
  zombies_ = p.zombies_;
  p.next_inode_before_.clear();
  p.forget_age();  // what comes from now on is of the next one
  p.hurried_ = false;
  for (const VolumeId id : std::exchange(p.changed_volumes_, {})) volumes_[id] = p.volumes_.at(id);
  while (!p.orders_.empty()) {
    Status made = p.orders_.front().make(*this);
    if (!made && made.error().code == ErrorCode::busy) {  // it and all after it: the next point
      p.again_ = true;
      break;
    }
    order_results_.emplace_back(std::move(p.orders_.front().done), std::move(made));
    p.orders_.pop_front();
  }
  next_.luns_created = p.luns_created_;
  const std::uint64_t needed = p.reserved_space();
  const std::uint64_t free = p.space_.free();
  p.space_for_next_ = free > needed ? free - needed : 0;
  const std::uint64_t per_member =
      (p.dirty_cost_ + p.changed_.size()) / std::max<std::size_t>(1, next_.layout.members.size());
  p.space_.set_chunk_rows(
      static_cast<std::uint32_t>(std::bit_ceil(std::clamp<std::uint64_t>(per_member / 8, 1, 64))));
  for (const FileKey& key : std::exchange(p.changed_, {})) {
    auto found = p.files_.find(key);
    if (found == p.files_.end()) continue;
    File& file = *found->second;
    file.flushing = std::exchange(file.dirty, {});
    file.flushing_inode = file.inode;
    file.in_flush = true;
    file.changed = false;
    files_.push_back(found->second);
  }
  p.flushing_blocks_ = std::exchange(p.dirty_blocks_, 0);
  p.dirty_cost_ = 0;
}

// ---- files of volumes ----

void Flush::next_file() {
  for (std::size_t done = 0; file_ < files_.size(); ++done) {
    File& file = *files_[file_];
    current_ = file.key.volume;
    const bool gone = current_ != pool_volume && volume(current_) == nullptr;
    const bool removed = file.flushing_inode.type == filesystem::FileType::none;
    if (current_ != pool_volume && !gone && !removed && !file.flushing.empty()) break;
    if (done == files_per_step) return soon([this] { next_file(); });
    ++file_;
    if (current_ == pool_volume || gone) continue;
    if (removed) {
      removed_file(file);
    } else {
      flushed(file, file.root(), 0);
    }
  }
  if (file_ == files_.size()) return next_zombie();
  File& file = *files_[file_++];
  update(file.root(), file.flushing, [this, &file](const TreeRoot& root, std::int64_t added) {
    flushed(file, root, added);
    next_file();
  });
}

void Flush::flushed(File& file, const TreeRoot& root, std::int64_t added) {
  file.flushing_inode.root = root.pointer;
  file.flushing_inode.levels = root.levels;
  const auto blocks = static_cast<std::int64_t>(file.inode.blocks) + added;
  file.flushing_inode.blocks = static_cast<std::uint64_t>(std::max<std::int64_t>(blocks, 0));
  inode_changes_[file.key.volume][file.key.inode] = file.flushing_inode;
  pool_.figures_.data_blocks += file.flushing.blocks();
}

void Flush::removed_file(File& file) {
  if (!file.inode.root.hole()) {
    if (file.inode.levels == 0) {
      drop(file.inode.root);
    } else {
      drop_tree(file.inode.root, file.inode.levels);
    }
  }
  inode_changes_[file.key.volume][file.key.inode] = Inode{};
}

// ---- inode files ----

void Flush::next_inode_file() {
  std::erase_if(inode_changes_, [this](const auto& v) { return volume(v.first) == nullptr; });
  inode_volume_ = inode_changes_.begin();
  if (inode_volume_ == inode_changes_.end()) return next_dead_list();
  inode_file(inode_volume_->first, std::make_shared<DirtyFile>());
}

// Puts the inodes that changed into their blocks, as many as are in memory, and goes on with the
// rest.
void Flush::inode_file(VolumeId id, const std::shared_ptr<DirtyFile>& changes) {
  current_ = id;
  inodes_now_ = true;
  Volume& volume = *this->volume(id);
  const TreeRoot root{volume.inodes.root, volume.inodes.levels};
  pool_.pins_ = pins_.get();
  pool_.missing_.clear();
  std::optional<Error> error;
  for (const auto& [number, inode] : inode_volume_->second) {
    const std::uint64_t block = number.value() / filesystem::inodes_per_block;
    if (changes->find(block) != nullptr || (error && pool_.missing_.empty())) continue;
    auto pointer = pool_.resolve(root, block);
    if (!pointer) {
      error = pointer.error();
      continue;
    }
    const Slice base = pointer->hole() ? zero_block() : pool_.cached(*pointer);
    if (base.bytes.empty()) {
      pool_.missing_.push_back(*pointer);
    } else {
      changes->change(block, base.bytes);
    }
  }
  pool_.pins_ = nullptr;
  if (!pool_.missing_.empty()) {
    return fetch(std::exchange(pool_.missing_, {}),
                 [this, id, changes] { inode_file(id, changes); });
  }
  if (error) return pool_.give_up_on(error->message);
  std::set<std::uint64_t> touched;
  for (const auto& [number, inode] : inode_volume_->second) {
    const std::uint64_t block = number.value() / filesystem::inodes_per_block;
    MutableBytes bytes = changes->change(block, {});
    filesystem::encode(
        inode, bytes.subspan(number.value() % filesystem::inodes_per_block * filesystem::inode_size,
                             filesystem::inode_size));
    touched.insert(block);
  }
  for (const std::uint64_t block : touched) {  // nothing in it any more: a hole
    if (std::ranges::all_of(changes->find(block)->slice.bytes,
                            [](std::byte b) { return b == std::byte{0}; })) {
      changes->zero(block * block_size, block_size);
    }
  }
  update(root, *changes, [this, id, changes](const TreeRoot& made, std::int64_t) {
    Volume& done = *this->volume(id);
    done.inodes.root = made.pointer;
    done.inodes.levels = made.levels;
    inodes_now_ = false;
    if (++inode_volume_ == inode_changes_.end()) return next_dead_list();
    inode_file(inode_volume_->first, std::make_shared<DirtyFile>());
  });
}

// ---- the pool's own files ----

Inode& Flush::own_inode(InodeNumber number) {
  auto [it, added] = own_inodes_.try_emplace(number);
  if (added) {
    auto found = pool_.files_.find({pool_volume, number});
    if (found != pool_.files_.end()) {
      it->second = found->second->inode;
    } else {
      it->second.type = filesystem::FileType::system;
    }
  }
  return it->second;
}

void Flush::own_files() {
  for (auto& task : std::exchange(later_, {})) task();
  for (const auto& file : files_) {
    if (file->key.volume != pool_volume) continue;
    // Attributes as of the beginning; its tree is updated below.
    own_inodes_[file->key.inode] = file->flushing_inode;
    own_[file->key.inode] = file->flushing;
  }
  if (zombies_changed_) {
    Inode& inode = own_inode(zombie_list);
    auto bytes = encode_zombies(zombies_);
    inode.size = bytes.size();
    DirtyFile& changes = own_changes(zombie_list);
    changes.zero(0, filesystem::max_file_size);
    bytes.resize((bytes.size() + block_size - 1) / block_size * block_size);
    if (!bytes.empty()) changes.write(0, {copy_to_slice(bytes)});
  }
  std::set<std::uint64_t> blocks;
  for (const auto& [id, volume] : volumes_) blocks.insert(id.value() / volume_records_per_block);
  for (const VolumeId id : removed_volumes_) blocks.insert(id.value() / volume_records_per_block);
  for (const std::uint64_t number : blocks) {
    OwnedBuffer block = make_buffer(block_size);
    bool any = false;
    for (std::uint32_t i = 0; i < volume_records_per_block; ++i) {
      const VolumeId id(static_cast<std::uint32_t>(number * volume_records_per_block) + i);
      const Volume* record = volume_or_old(id);
      if (record == nullptr) continue;
      encode(volumes_.contains(id) ? *record : as_it_began(*record),
             block.bytes.subspan(i * volume_record_size, volume_record_size));
      any = true;
    }
    own_inode(volume_table);
    if (any) {
      own_changes(volume_table).write(number * block_size, {block.slice()});
    } else {
      own_changes(volume_table).zero(number * block_size, block_size);
    }
  }
  current_ = pool_volume;
  for (const auto& [number, changes] : own_) own_queue_.push_back(number);
  next_own_file();
}

void Flush::next_own_file() {
  if (own_queue_.empty()) return plan_maps();
  const InodeNumber number = own_queue_.back();
  own_queue_.pop_back();
  Inode& inode = own_inode(number);
  if (inode.type == filesystem::FileType::none) return soon([this] { next_own_file(); });
  update({inode.root, inode.levels}, own_[number],
         [this, number](const TreeRoot& root, std::int64_t added) {
           Inode& inode = own_inode(number);
           inode.root = root.pointer;
           inode.levels = root.levels;
           inode.blocks = static_cast<std::uint64_t>(
               std::max<std::int64_t>(static_cast<std::int64_t>(inode.blocks) + added, 0));
           next_own_file();
         });
}

// ---- maps ----

// Allocating for the maps changes the maps: until nothing more does. Then contents can be made.
void Flush::plan_maps() {
  Pool& p = pool_;
  for (const auto& [number, inode] : own_inodes_) {
    p.inodes_.change(number.value() / filesystem::inodes_per_block);
  }
  std::set<std::uint64_t> unloaded;
  for (auto address : unloaded_releases_) {
    const std::uint64_t map = p.space_.map_of(address);
    if (!p.space_.loaded(map) && unloaded.size() < maps_loaded_at_once) unloaded.insert(map);
  }
  if (!unloaded.empty()) {
    return load_maps({unloaded.begin(), unloaded.end()}, [this] {
      for (auto address : std::exchange(unloaded_releases_, {})) release(address);
      pins_->clear();
      plan_maps();
    });
  }
  for (auto address : std::exchange(unloaded_releases_, {})) release_now(address);
  for (const std::uint64_t map : p.space_.take_dirty()) {
    p.maps_.change(map);
    p.counts_.change(map / counts_per_block);
  }
  const std::size_t places = p.inodes_.unplanned() + p.maps_.unplanned() + p.counts_.unplanned();
  if (places == 0) return write_maps();
  make_room(places, [this] {
    Pool& p = pool_;
    const ResidentTree::Space space{[this] {
                                      if (pool_.space_.available() == 0) {
                                        full_ = true;
                                        return raid::BlockAddress{};
                                      }
                                      const raid::BlockAddress address = pool_.space_.allocate();
                                      const std::uint64_t chunk = pool_.space_.chunk();
                                      if (chunk != chunk_) chunk_done(std::exchange(chunk_, chunk));
                                      ++chunks_[chunk].expected;
                                      planned_chunk_[address.value] = chunk;
                                      ++pool_.figures_.blocks_written;
                                      pool_.metadata_.erase(address);
                                      pool_.data_.erase(address);
                                      return address;
                                    },
                                    [this](raid::BlockAddress address) { release(address); }};
    p.inodes_.plan(space);
    p.maps_.plan(space);
    p.counts_.plan(space);
    if (full_) return p.give_up_on("there is no free block for a consistency point");
    plan_maps();
  });
}

void Flush::write_maps() {
  Pool& p = pool_;
  const auto emit_planned = [this](raid::BlockAddress address, Slice block) {
    pool_.metadata_.insert(address, block);
    emit(address, std::move(block), planned_chunk_.at(address.value));
  };
  next_.inodes = p.inodes_.write(
      next_.generation,
      [&](std::uint64_t number) {
        OwnedBuffer block = make_buffer(block_size);
        for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
          const InodeNumber inode(number * filesystem::inodes_per_block + i);
          MutableBytes slot =
              block.bytes.subspan(i * filesystem::inode_size, filesystem::inode_size);
          if (auto changed = own_inodes_.find(inode); changed != own_inodes_.end()) {
            filesystem::encode(changed->second, slot);
          } else if (auto old = p.files_.find({pool_volume, inode}); old != p.files_.end()) {
            // One that is younger than this point has no tree yet.
            if (!old->second->inode.root.hole()) filesystem::encode(old->second->inode, slot);
          }
        }
        return block.slice();
      },
      emit_planned);
  next_.maps = p.maps_.write(
      next_.generation, [&](std::uint64_t map) { return copy_to_slice(p.space_.bits(map)); },
      emit_planned);
  next_.counts = p.counts_.write(
      next_.generation,
      [&](std::uint64_t number) {
        OwnedBuffer block = make_buffer(block_size);
        for (std::uint64_t i = 0; i < counts_per_block; ++i) {
          const std::uint64_t map = number * counts_per_block + i;
          if (map >= p.space_.maps()) break;
          store_le(&block.bytes[i * sizeof(std::uint16_t)],
                   static_cast<std::uint16_t>(p.space_.used(map)));
        }
        return block.slice();
      },
      emit_planned);
  next_.next_inode = p.next_inode_;
  next_.next_volume = p.next_volume_;
  write_all();
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

void Flush::commit() {
  auto self = shared_from_this();
  Pool& p = pool_;
  p.superblock_ = next_;
  for (const auto& file : files_) {
    file->flushing = {};
    file->in_flush = false;
    const bool gone = file->key.volume != pool_volume && volume_or_old(file->key.volume) == nullptr;
    if (gone || (file->freed && file->flushing_inode.type == filesystem::FileType::none)) {
      p.files_.erase(file->key);
      continue;
    }
    if (file->key.volume == pool_volume) continue;  // below
    file->inode.root = file->flushing_inode.root;
    file->inode.levels = file->flushing_inode.levels;
    file->inode.blocks = file->flushing_inode.blocks;
  }
  for (const auto& [number, inode] : own_inodes_) {
    const FileKey key{pool_volume, number};
    if (inode.type == filesystem::FileType::none) {
      p.files_.erase(key);
      continue;
    }
    auto& file = p.files_[key];
    if (!file) {
      file = std::make_shared<File>();
      file->key = key;
    }
    file->inode = inode;
  }
  p.held_.clear();
  for (const VolumeId id : removed_volumes_) p.volumes_.erase(id);
  for (const auto& [id, volume] : volumes_) {
    auto found = p.volumes_.find(id);
    const std::uint64_t next_inode = found == p.volumes_.end()
                                         ? volume.next_inode
                                         : std::max(volume.next_inode, found->second.next_inode);
    p.volumes_[id] = volume;
    p.volumes_[id].next_inode = next_inode;
  }
  p.zombies_ = std::move(zombies_);
  p.luns_.merge(p.coming_luns_);
  p.coming_luns_.clear();
  p.flushing_blocks_ = 0;
  ++p.figures_.consistency_points;
  for (auto& result : order_results_) {
    p.scheduler_.post(
        [result = std::move(result)]() mutable { result.first(std::move(result.second)); });
  }
  order_results_.clear();
  p.flush_done();
}

}  // namespace duet::pool
