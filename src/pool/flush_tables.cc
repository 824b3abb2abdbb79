// The end of what a consistency point writes: inode files, the pool's own files, maps.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "pool/flush.h"
#include "pool/tables.h"

namespace duet::pool {

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

}  // namespace duet::pool
