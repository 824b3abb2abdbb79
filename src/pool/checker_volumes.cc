// The checker's view of the pool's own files, of volumes and snapshots, and of what left them.
#include <algorithm>
#include <utility>

#include "pool/checker_impl.h"

namespace duet::pool {

// ---- the pool's own files ----

void Checker::Impl::check_own_files() {
  Item root;
  root.kind = Kind::own_inodes;
  root.b = superblock_.inodes.pointer;
  root.b_level = superblock_.inodes.levels;
  const auto visit = [this](const Item& item, Bytes block) {
    for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
      const InodeNumber number(item.index * filesystem::inodes_per_block + i);
      auto inode = filesystem::decode_inode(
          block.subspan(i * filesystem::inode_size, filesystem::inode_size));
      if (!inode) {
        problem("inode " + std::to_string(number.value()) +
                " of the pool is damaged: " + inode.error().message);
        incomplete_ = true;
      } else if (inode->type != filesystem::FileType::none) {
        own_[number] = std::move(*inode);
      }
    }
  };
  walk(root, {false, {}, visit}, [this] {
    std::vector<std::pair<Item, Walk>> walks;
    for (const auto& [number, inode] : own_) {
      if (number.value() >= superblock_.next_inode) {
        problem("file " + std::to_string(number.value()) + " of the pool has a number not given");
      }
      Item file;
      file.kind = Kind::own_file;
      file.inode = number;
      file.b = inode.root;
      file.b_level = inode.levels;
      Walk how;
      if (number == volume_table) {
        how.visit = [this](const Item& item, Bytes block) {
          for (std::uint64_t i = 0; i < volume_records_per_block; ++i) {
            const std::uint64_t id = item.index * volume_records_per_block + i;
            auto volume = decode_volume(block.subspan(i * volume_record_size, volume_record_size));
            if (volume && volume->kind == VolumeKind::none) continue;
            if (!volume || volume->id.value() != id) {
              problem("record " + std::to_string(id) + " of the volume table is damaged: " +
                      (volume ? "it is of volume " + std::to_string(volume->id.value())
                              : volume.error().message));
              incomplete_ = true;
            } else {
              volumes_[volume->id] = std::move(*volume);
            }
          }
        };
      } else if (number == lun_catalogue) {
        how.visit = [this](const Item& item, Bytes block) {
          if (item.index % lun_slot_blocks != 0 ||
              std::ranges::all_of(block, [](std::byte b) { return b == std::byte{0}; })) {
            return;
          }
          auto entry = decode_lun(block);
          if (!entry || entry->info.number.value() != item.index / lun_slot_blocks) {
            problem("slot " + std::to_string(item.index / lun_slot_blocks) +
                    " of the LUN catalogue is damaged");
          } else {
            lun_names_[entry->file] = entry->info.name;
            luns_[entry->info.number] = std::move(*entry);
          }
        };
      } else if (number == zombie_list) {
        how.visit = [this](const Item& item, Bytes block) {
          zombie_blocks_[item.index].assign(block.begin(), block.end());
        };
      }
      walks.emplace_back(file, std::move(how));
    }
    walk_all(std::move(walks), [this] { own_files_read(); });
  });
}

void Checker::Impl::own_files_read() {
  std::vector<std::byte> bytes;
  for (const auto& [number, block] : zombie_blocks_) {  // a hole makes what follows impossible
    bytes.resize(bytes.size() + (number * block_size == bytes.size() ? 0 : zombie_size));
    bytes.insert(bytes.end(), block.begin(), block.end());
  }
  zombie_blocks_.clear();
  if (auto list = own_.find(zombie_list); list != own_.end()) {
    if (list->second.size > bytes.size()) {
      problem("the list of removed trees is longer than its blocks");
      incomplete_ = true;
    }
    bytes.resize(std::min<std::uint64_t>(bytes.size(), list->second.size));
  }
  if (auto zombies = decode_zombies(bytes)) {
    zombies_ = std::move(*zombies);
  } else {
    problem(zombies.error().message);
    incomplete_ = true;
  }
  check_volume_records();
  for (const auto& [id, volume] : volumes_) {
    if (volume.kind == VolumeKind::volume) families_.push_back(id);
  }
  std::ranges::reverse(families_);
  next_volume();
}

void Checker::Impl::check_volume_records() {
  std::map<InodeNumber, VolumeId> lists;
  std::set<std::pair<VolumeId, std::string>> names;
  std::map<VolumeId, std::uint32_t> clones;
  for (const auto& [id, v] : volumes_) {
    const std::string name = name_of(id);
    const bool snapshot = v.kind == VolumeKind::snapshot;
    auto parent = volumes_.find(v.parent);
    if (id.value() >= superblock_.next_volume) problem(name + " has a number that was not given");
    if (v.birth > superblock_.generation) problem(name + " is born later than the superblock");
    if (!names.insert({snapshot ? v.parent : pool_volume, v.name}).second) {
      problem("the name of " + name + " is there twice");
    }
    if (snapshot && (parent == volumes_.end() || parent->second.kind != VolumeKind::volume)) {
      problem(name + " is of a volume that does not exist");
      incomplete_ = true;
    }
    if (!snapshot && v.parent != pool_volume) {
      ++clones[v.parent];
      if (parent == volumes_.end() || parent->second.kind != VolumeKind::snapshot) {
        problem("the snapshot that " + name + " was made of does not exist");
      } else if (parent->second.birth != v.birth) {
        problem(name + " and the snapshot that it was made of disagree about its birth");
      }
    }
    if (v.dead_list == no_inode) {
      if (v.dead_size > 0) problem(name + " has no dead list, and blocks in it");
      continue;
    }
    auto list = own_.find(v.dead_list);
    if (list == own_.end() || v.dead_list.value() < 16) {
      problem("the dead list of " + name + " does not exist");
      incomplete_ = true;
    } else if (auto [other, added] = lists.emplace(v.dead_list, id); !added) {
      problem(name + " and " + name_of(other->second) + " have the same dead list");
    } else if (v.dead_size > list->second.size || v.dead_size % filesystem::pointer_size != 0 ||
               v.dead_begin % filesystem::pointer_size != 0) {
      problem("the dead list of " + name + " has an impossible size");
    }
  }
  for (const auto& [id, v] : volumes_) {
    if (v.clones != clones[id]) {
      problem(name_of(id) + " says that it has " + std::to_string(v.clones) + " clones, and has " +
              std::to_string(clones[id]));
    }
  }
  for (const auto& [number, inode] : own_) {
    if (number.value() >= 16 && !lists.contains(number)) {
      problem("file " + std::to_string(number.value()) + " of the pool is nobody's dead list");
    }
  }
}

// ---- volumes ----

// The images of the next volume, the oldest first. Snapshots that are being deleted are none: their
// blocks go.
void Checker::Impl::next_volume() {
  if (families_.empty()) return other_zombies();
  const VolumeId id = families_.back();
  families_.pop_back();
  images_.clear();
  for (const auto& [other, v] : volumes_) {
    if (v.kind == VolumeKind::snapshot && v.parent == id && !v.deleting) images_.push_back(other);
  }
  std::ranges::sort(images_, {}, [this](VolumeId v) { return volumes_.at(v).birth; });
  images_.push_back(id);
  image_ = 0;
  family_blocks_ = 0;
  next_image();
}

// Compares image_ with the one before it.
void Checker::Impl::next_image() {
  if (image_ == images_.size()) return volume_done();
  const VolumeId live = images_.back();
  const Volume& volume = volumes_.at(live);
  const Volume& b = volumes_.at(images_[image_]);
  floor_ = volume.parent == pool_volume ? 0 : volume.birth;
  newest_ = b.kind == VolumeKind::snapshot ? b.birth : superblock_.generation;
  left_.clear();
  left_fingerprint_ = 0;
  pair_broken_ = false;
  Item root;
  root.kind = Kind::inode_file;
  root.volume = b.id;
  root.b = b.inodes.root;
  root.b_level = b.inodes.levels;
  before_ = 0;
  if (image_ > 0) {
    const Volume& a = volumes_.at(images_[image_ - 1]);
    before_ = a.birth;
    root.a = a.inodes.root;
    root.a_level = a.inodes.levels;
  }
  const Generation from = before_;
  const Generation to = newest_;
  shown_by_deleting_ = from;
  lists_left_ = {b.id};
  for (const auto& [other, v] : volumes_) {
    if (v.kind != VolumeKind::snapshot || v.parent != live || !v.deleting) continue;
    if (v.birth <= from || v.birth > to) continue;
    shown_by_deleting_ = std::max(shown_by_deleting_, v.birth);
    lists_left_.push_back(other);
  }
  zombies_left_.clear();
  std::erase_if(zombies_, [&](const Zombie& zombie) {
    // A tree that left between a and b. What a volume gave up that went back is its own.
    const bool mine =
        zombie.volume == live &&
        (zombie.prune ? b.id == live : zombie.detached > from && zombie.detached <= to);
    if (mine) zombies_left_.push_back(zombie);
    return mine;
  });
  walk(root, {}, [this] { next_zombie(); });
}

void Checker::Impl::next_zombie() {
  gives_up_ = false;
  if (zombies_left_.empty()) return next_dead_list();
  const Zombie zombie = zombies_left_.back();
  zombies_left_.pop_back();
  const Generation floor = floor_;
  const Generation newest = newest_;
  floor_ = std::max(floor_, zombie.keep);
  newest_ = zombie.detached;
  gives_up_ = !zombie.prune;
  const Generation before = before_;
  if (zombie.prune) before_ = 0;
  Item root;
  root.kind = zombie.inodes ? Kind::zombie_inodes : Kind::zombie;
  root.volume = zombie.volume;
  root.b = zombie.pointer;
  root.b_level = zombie.level;
  walk(root, {}, [this, floor, newest, before] {
    floor_ = floor;
    newest_ = newest;
    before_ = before;
    next_zombie();
  });
}

// What image b has not, and image a has: all of it stands in these lists, once.
void Checker::Impl::next_dead_list() {
  if (lists_left_.empty()) {
    if (pair_broken_) {
      // What it is about was told.
    } else if (left_.size() > 0) {
      const std::string a = name_of(images_[image_ - 1]);
      const std::string b = name_of(images_[image_]);
      left_.for_each([&](raid::BlockAddress address) {
        problem(place(address) + " of " + a + " is not part of " + b + ", and in no dead list");
      });
    } else if (left_fingerprint_ != 0) {
      problem("births or checksums in the dead list of " + name_of(images_[image_]) +
              " are not those of the blocks");
    }
    ++image_;
    return next_image();
  }
  const VolumeId id = lists_left_.back();
  lists_left_.pop_back();
  const Volume& v = volumes_.at(id);
  auto list = own_.find(v.dead_list);
  if (v.dead_list == no_inode || list == own_.end() || v.dead_begin >= v.dead_size) {
    return soon([this] { next_dead_list(); });
  }
  Item root;
  root.kind = Kind::own_file;
  root.inode = v.dead_list;
  root.b = list->second.root;
  root.b_level = list->second.levels;
  Walk how;
  how.look = true;
  how.only = {v.dead_begin / block_size, (v.dead_size + block_size - 1) / block_size};
  auto entries = std::make_shared<std::uint64_t>(0);
  how.visit = [this, id, entries](const Item& item, Bytes block) {
    const Volume& owner = volumes_.at(id);
    for (std::uint64_t i = 0; i < filesystem::pointers_per_block; ++i) {
      const std::uint64_t at = item.index * block_size + i * filesystem::pointer_size;
      if (at < owner.dead_begin || at >= owner.dead_size) continue;
      ++*entries;
      take_dead(id, filesystem::load_pointer(&block[i * filesystem::pointer_size]));
    }
  };
  walk(root, std::move(how), [this, id, entries] {
    const Volume& owner = volumes_.at(id);
    if (*entries != (owner.dead_size - owner.dead_begin) / filesystem::pointer_size) {
      problem("the dead list of " + name_of(id) + " has holes");
      incomplete_ = pair_broken_ = true;
    }
    next_dead_list();
  });
}

void Checker::Impl::take_dead(VolumeId list, const BlockPointer& pointer) {
  const std::string text = "the dead list of " + name_of(list) + " names " +
                           place(pointer.address) + " (born " + std::to_string(pointer.birth) + ")";
  if (pointer.hole() || !shape_.valid(pointer.address)) {
    return problem(text + ", which is impossible");
  }
  if (pointer.birth <= floor_) {
    return problem(text + ", which belongs to the snapshot the clone was made of");
  }
  if (pointer.birth <= before_) {
    if (!left_.erase(pointer.address)) {
      if (!pair_broken_) {
        problem(text + ", which snapshot " + volumes_.at(images_[image_ - 1]).name +
                " has not, or " + name_of(images_[image_]) + " still has, or names it twice");
      }
    } else {
      left_fingerprint_ -= fingerprint(pointer);
    }
    return;
  }
  // Only a snapshot that goes has it.
  if (pointer.birth > shown_by_deleting_) {
    return problem(text + ", which is younger than all snapshots before it");
  }
  Item item;
  item.kind = Kind::zombie;
  item.volume = list;
  item.b = pointer;
  mark(item, pointer);
}

void Checker::Impl::volume_done() {
  const Volume& v = volumes_.at(images_.back());
  if (v.used != family_blocks_ && !incomplete_) {
    problem(name_of(v.id) + " says that it uses " + std::to_string(v.used) + " blocks, and uses " +
            std::to_string(family_blocks_));
  }
  next_volume();
}

// Of the pool's own files, and of volumes that are gone.
void Checker::Impl::other_zombies() {
  gives_up_ = false;
  before_ = 0;
  if (zombies_.empty()) return compare_space();
  const Zombie zombie = zombies_.back();
  zombies_.pop_back();
  if (volumes_.contains(zombie.volume)) {
    problem("a removed tree of " + name_of(zombie.volume) + " left in an impossible point (" +
            std::to_string(zombie.detached) + ")");
  }
  floor_ = zombie.keep;
  newest_ = zombie.detached;
  Item root;
  root.kind = zombie.inodes ? Kind::zombie_inodes : Kind::zombie;
  root.volume = zombie.volume;
  root.b = zombie.pointer;
  root.b_level = zombie.level;
  walk(root, {}, [this] { other_zombies(); });
}

}  // namespace duet::pool
