#include "pool/flush.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.h"

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
  p.space_.add_members(p.array_->layout());  // none is lined up now
  p.forget_age();                            // what comes from now on is of the next one
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
  for (auto& [id, waiting] : p.waiting_) waiting = {0, waiting.dirty};
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

// ---- the end ----

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
    const Inode now = std::exchange(file->inode, inode);
    if (!file->changed) continue;
    // Changed since the beginning: its attributes are of the next point.
    file->inode = now;
    file->inode.root = inode.root;
    file->inode.levels = inode.levels;
    file->inode.blocks = inode.blocks;
  }
  p.held_.clear();
  std::set<VolumeId> keep_anew;
  for (const VolumeId id : removed_volumes_) {
    if (auto gone = p.volumes_.find(id); gone != p.volumes_.end()) {
      keep_anew.insert({id, gone->second.parent});
      if (gone->second.kind == VolumeKind::snapshot && --p.snapshots_[gone->second.parent] == 0) {
        p.snapshots_.erase(gone->second.parent);
      }
      p.volumes_.erase(gone);
    }
  }
  for (const auto& [id, volume] : volumes_) {
    auto found = p.volumes_.find(id);
    const std::uint64_t next_inode = found == p.volumes_.end()
                                         ? volume.next_inode
                                         : std::max(volume.next_inode, found->second.next_inode);
    p.volumes_[id] = volume;
    p.volumes_[id].next_inode = next_inode;
    const bool snapshot = volume.kind == VolumeKind::snapshot;
    if (snapshot && found == p.volumes_.end()) ++p.snapshots_[volume.parent];
    keep_anew.insert(snapshot ? volume.parent : id);
  }
  p.zombies_ = std::move(zombies_);
  for (const LunNumber lun : std::exchange(p.going_luns_, {})) p.luns_.erase(lun);
  p.luns_.merge(p.coming_luns_);
  p.coming_luns_.clear();
  for (const VolumeId id : keep_anew) p.keep_anew(id);
  p.flushing_blocks_ = 0;
  for (auto& [id, waiting] : p.waiting_) waiting.flushing = 0;
  std::erase_if(p.waiting_, [](const auto& w) { return w.second.dirty == 0; });
  ++p.figures_.consistency_points;
  for (auto& result : order_results_) {
    p.scheduler_.post(
        [result = std::move(result)]() mutable { result.first(std::move(result.second)); });
  }
  order_results_.clear();
  p.flush_done();
}
}  // namespace duet::pool
