// What a consistency point gives up: removed trees, dead lists of snapshots that go.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "pool/flush.h"
#include "pool/tables.h"

namespace duet::pool {

// ---- volumes as this point leaves them ----

Volume* Flush::volume(VolumeId id) {
  if (auto found = volumes_.find(id); found != volumes_.end()) return &found->second;
  if (removed_volumes_.contains(id)) return nullptr;
  auto old = pool_.volumes_.find(id);
  if (old == pool_.volumes_.end()) return nullptr;
  return &(volumes_[id] = as_it_began(old->second));
}

// Inode numbers that were given since belong to the next point, with the records that gave them.
Volume Flush::as_it_began(const Volume& volume) const {
  Volume began = volume;
  auto before = pool_.next_inode_before_.find(volume.id);
  if (before != pool_.next_inode_before_.end()) began.next_inode = before->second;
  return began;
}

const Volume* Flush::volume_or_old(VolumeId id) const {
  if (auto found = volumes_.find(id); found != volumes_.end()) return &found->second;
  if (removed_volumes_.contains(id)) return nullptr;
  auto old = pool_.volumes_.find(id);
  return old == pool_.volumes_.end() ? nullptr : &old->second;
}

Volume& Flush::add_volume(VolumeKind kind) {
  const VolumeId id(pool_.next_volume_++);
  Volume& made = volumes_[id];
  made.kind = kind;
  made.id = id;
  made.inodes.type = filesystem::FileType::system;
  return made;
}

void Flush::remove_volume(VolumeId id) {
  volumes_.erase(id);
  removed_volumes_.insert(id);
  keeps_.clear();  // it may have been a snapshot that kept something
}

bool Flush::has_snapshots(VolumeId id) const {
  const auto is_one = [&](const Volume& v) {
    return v.kind == VolumeKind::snapshot && v.parent == id;
  };
  return std::ranges::any_of(volumes_, [&](const auto& v) { return is_one(v.second); }) ||
         std::ranges::any_of(pool_.volumes_, [&](const auto& v) {
           return is_one(v.second) && !removed_volumes_.contains(v.first);
         });
}

bool Flush::is_shown(VolumeId id) const {
  return std::ranges::any_of(volumes_, [&](const auto& v) {
    return v.second.kind == VolumeKind::snapshot && v.second.parent == id &&
           v.second.birth == next_.generation;
  });
}

// The volume shows its snapshot again: of what left it since, only what is younger goes.
void Flush::prune_zombies(VolumeId id, Generation keep) {
  for (Zombie& zombie : zombies_) {
    if (zombie.volume != id || zombie.prune || zombie.detached <= keep) continue;
    zombie.prune = true;
    zombie.keep = std::max(zombie.keep, keep);
    zombies_changed_ = true;
  }
}

bool Flush::name_taken(const std::string& name, VolumeId parent) const {
  const auto same = [&](const Volume& v) {
    const bool snapshot = v.kind == VolumeKind::snapshot;
    return v.name == name && (parent == pool_volume ? !snapshot : snapshot && v.parent == parent);
  };
  const auto old = [&](const auto& entry) {
    return same(entry.second) && !volumes_.contains(entry.first) &&
           !removed_volumes_.contains(entry.first);
  };
  return std::ranges::any_of(volumes_, [&](const auto& v) { return same(v.second); }) ||
         std::ranges::any_of(pool_.volumes_, old);
}

InodeNumber Flush::add_dead_list() {
  const InodeNumber number(pool_.next_inode_++);
  own_inode(number);
  return number;
}

void Flush::remove_own_file(InodeNumber number) {
  if (number == no_inode) return;
  Inode& inode = own_inode(number);
  if (!inode.root.hole()) {
    add_zombie({inode.root, inode.levels, false, false, pool_volume, 0, next_.generation});
  }
  inode = {};
  own_.erase(number);
}

void Flush::add_zombie(const Zombie& zombie) {
  zombies_.push_back(zombie);
  zombies_changed_ = true;
}

void Flush::forget_changes(VolumeId volume) {
  pool_.held_.insert(volume);
  std::erase_if(pool_.changed_, [&](const FileKey& key) { return key.volume == volume; });
  std::erase_if(pool_.files_, [&](const auto& entry) {
    if (entry.first.volume != volume) return false;
    pool_.dirty_cost_ -= entry.second->dirty.cost();
    pool_.dirty_blocks_ -= entry.second->dirty.blocks();
    pool_.waiting_[volume].dirty -= entry.second->dirty.blocks();
    return true;
  });
}

// The youngest snapshot of a volume that is older than `before`: what is not younger than it may be
// shown by it. Zero: there is none.
Generation Flush::keeps(VolumeId id, Generation before) {
  auto [it, added] = keeps_.try_emplace({id, before});
  if (!added) return it->second;
  const auto look = [&](const Volume& v) {
    if (v.kind == VolumeKind::snapshot && v.parent == id && v.birth < before) {
      it->second = std::max(it->second, v.birth);
    }
  };
  for (const auto& [number, v] : pool_.volumes_) {
    if (!removed_volumes_.contains(number)) look(v);
  }
  return it->second;
}

// Whose dead list gets what left the volume in consistency point `detached`: the first snapshot
// that does not show it, or the volume.
VolumeId Flush::successor(VolumeId id, Generation detached) const {
  const Volume* first = nullptr;
  for (const auto& [number, old] : pool_.volumes_) {
    const Volume* v = volume_or_old(number);
    if (v == nullptr || v->kind != VolumeKind::snapshot || v->parent != id) continue;
    if (v->birth >= detached && (first == nullptr || v->birth < first->birth)) first = v;
  }
  return first == nullptr ? id : first->id;
}

// ---- removed trees ----

void Flush::next_zombie() {
  if (reaped_ >= zombie_blocks_per_point || zombies_.empty()) return dead_list_step();
  const Zombie zombie = zombies_.back();
  if (!pool_.space_.valid(zombie.pointer.address)) {
    return pool_.give_up_on("a block lies outside of the pool");
  }
  if (zombie.level == 0 && !zombie.inodes) {
    zombies_.pop_back();
    zombies_changed_ = true;
    reap(zombie, {});
    if (++reaped_ % 256 != 0) return next_zombie();
    return soon([this] { next_zombie(); });
  }
  const Slice block = find(zombie.pointer);
  if (block.bytes.empty()) {
    return fetch({zombie.pointer}, [this] { next_zombie(); });
  }
  zombies_.pop_back();
  zombies_changed_ = true;
  ++reaped_;
  reap(zombie, block);
  pins_->clear();
  soon([this] { next_zombie(); });
}

// Gives up one block of a removed tree; what is below it waits.
void Flush::reap(const Zombie& zombie, const Slice& block) {
  const Generation newest = zombie.prune ? 0 : keeps(zombie.volume, zombie.detached);
  const VolumeId dead = newest == 0 ? zombie.volume : successor(zombie.volume, zombie.detached);
  const auto go = [&](const BlockPointer& pointer) {
    if (pointer.birth <= zombie.keep) return;
    give_up(zombie.volume, pointer, newest, dead);
  };
  const auto below = [&](const BlockPointer& pointer, std::uint8_t level, bool inodes) {
    if (pointer.hole() || pointer.birth <= zombie.keep) return;
    if (!pool_.space_.valid(pointer.address)) {
      return pool_.give_up_on("a block lies outside of the pool");
    }
    if (level == 0 && !inodes) return go(pointer);
    Zombie child = zombie;
    child.pointer = pointer;
    child.level = level;
    child.inodes = inodes;
    zombies_.push_back(child);
  };
  if (zombie.level > 0) {
    for (std::uint64_t i = 0; i < group_blocks; ++i) {
      below(filesystem::load_pointer(&block.bytes[i * filesystem::pointer_size]),
            static_cast<std::uint8_t>(zombie.level - 1), zombie.inodes);
    }
  } else if (zombie.inodes) {
    for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
      auto inode = filesystem::decode_inode(
          block.bytes.subspan(i * filesystem::inode_size, filesystem::inode_size));
      if (!inode) return pool_.give_up_on(inode.error().message);
      below(inode->root, inode->levels, false);
    }
  }
  go(zombie.pointer);
}

// ---- snapshots that go ----

// The dead list of the next snapshot (or of the live volume) is gone through: what is younger than
// the previous one was shown by the removed one only. The rest moves to the list that stays.
void Flush::dead_list_step() {
  VolumeId going = pool_volume;
  for (const auto& [id, old] : pool_.volumes_) {
    const Volume* v = volume_or_old(id);
    if (v != nullptr && v->kind == VolumeKind::snapshot && v->deleting) {
      going = id;
      break;
    }
  }
  if (going == pool_volume) return next_inode_file();
  const Volume snapshot = *volume(going);
  VolumeId next = successor(snapshot.parent, snapshot.birth + 1);
  if (volume(next) == nullptr) return pool_.give_up_on("a snapshot has no volume");
  Generation previous = keeps(snapshot.parent, snapshot.birth);
  const Volume& parent = *volume(snapshot.parent);
  if (parent.parent != pool_volume) previous = std::max(previous, parent.birth);
  Volume& heir = *volume(next);
  if (heir.dead_begin == heir.dead_size) {
    finish_deleting(going, next, previous);
    return next_inode_file();
  }
  const Inode& list = own_inode(heir.dead_list);
  const TreeRoot root{list.root, list.levels};
  pool_.pins_ = pins_.get();
  pool_.missing_.clear();
  std::vector<Slice> blocks;
  std::optional<Error> error;
  const std::uint64_t first = heir.dead_begin / block_size;
  const std::uint64_t end =
      std::min((heir.dead_size + block_size - 1) / block_size, first + dead_blocks_per_point);
  for (std::uint64_t number = first; number < end; ++number) {
    auto pointer = pool_.resolve(root, number);
    if (!pointer) {
      error = pointer.error();
      continue;
    }
    blocks.push_back(pointer->hole() ? zero_block() : pool_.cached(*pointer));
    if (blocks.back().bytes.empty()) pool_.missing_.push_back(*pointer);
  }
  pool_.pins_ = nullptr;
  if (!pool_.missing_.empty()) {
    return fetch(std::exchange(pool_.missing_, {}), [this] { dead_list_step(); });
  }
  if (error) return pool_.give_up_on(error->message);
  for (; heir.dead_begin < std::min(heir.dead_size, end * block_size);
       heir.dead_begin += filesystem::pointer_size) {
    const Slice& block = blocks[heir.dead_begin / block_size - first];
    const BlockPointer pointer =
        filesystem::load_pointer(&block.bytes[heir.dead_begin % block_size]);
    if (pointer.hole() || !pool_.space_.valid(pointer.address)) {
      return pool_.give_up_on("a dead list names an impossible block");
    }
    give_up(snapshot.parent, pointer, previous, going);
  }
  if (const std::uint64_t done = heir.dead_begin / block_size; done > first) {
    own_changes(heir.dead_list).zero(first * block_size, (done - first) * block_size);
  }
  if (heir.dead_begin == heir.dead_size) finish_deleting(going, next, previous);
  pins_->clear();
  soon([this] { next_inode_file(); });
}

void Flush::finish_deleting(VolumeId going, VolumeId next, Generation previous) {
  const Volume snapshot = *volume(going);
  Volume& heir = *volume(next);
  remove_own_file(heir.dead_list);
  heir.dead_list = snapshot.dead_list;
  heir.dead_begin = snapshot.dead_begin;
  heir.dead_size = snapshot.dead_size;
  // What left the heir in this very point: shown by the snapshot that goes, or also before it.
  for (const BlockPointer& pointer : std::exchange(dead_[next], {})) {
    give_up(snapshot.parent, pointer, previous, next);
  }
  for (const BlockPointer& pointer : std::exchange(dead_[going], {})) {
    dead_[next].push_back(pointer);
  }
  dead_.erase(going);
  remove_volume(going);
}

// ---- dead lists ----

void Flush::next_dead_list() {
  while (!dead_.empty() && dead_.begin()->second.empty()) dead_.erase(dead_.begin());
  if (dead_.empty()) return own_files();
  const VolumeId id = dead_.begin()->first;
  Volume* owner = volume(id);
  ASSERT(owner != nullptr);
  if (owner->dead_list == no_inode) owner->dead_list = add_dead_list();
  const std::uint64_t tail = owner->dead_size / block_size;
  Slice base = zero_block();
  if (owner->dead_size % block_size != 0 && own_changes(owner->dead_list).find(tail) == nullptr) {
    const Inode& list = own_inode(owner->dead_list);
    pool_.pins_ = pins_.get();
    pool_.missing_.clear();
    auto pointer = pool_.resolve({list.root, list.levels}, tail);
    if (pointer && !pointer->hole()) {
      base = pool_.cached(*pointer);
      if (base.bytes.empty()) pool_.missing_.push_back(*pointer);
    }
    pool_.pins_ = nullptr;
    if (!pool_.missing_.empty()) {
      return fetch(std::exchange(pool_.missing_, {}), [this] { next_dead_list(); });
    }
    if (!pointer) return pool_.give_up_on(pointer.error().message);
  }
  append_dead(*owner, dead_.begin()->second, base.bytes);
  dead_.erase(dead_.begin());
  pins_->clear();
  soon([this] { next_dead_list(); });
}

void Flush::append_dead(Volume& volume, const std::vector<BlockPointer>& dead, Bytes tail) {
  DirtyFile& changes = own_changes(volume.dead_list);
  for (const BlockPointer& pointer : dead) {
    MutableBytes block = changes.change(volume.dead_size / block_size, tail);
    tail = zero_block().bytes;
    filesystem::store_pointer(&block[volume.dead_size % block_size], pointer);
    volume.dead_size += filesystem::pointer_size;
  }
  own_inode(volume.dead_list).size = volume.dead_size;
}

}  // namespace duet::pool
