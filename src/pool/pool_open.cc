// Opening, activating and closing a Pool: from superblocks to everything that stays in memory.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "pool/flush.h"
#include "pool/pool.h"
#include "pool/tables.h"

namespace duet::pool {

struct Pool::Loading {
  std::weak_ptr<Session> session;
  ports::Done<void> done;
  std::function<Status(const Superblock&)> accept;  // before anything is changed
  bool recover = false;                             // we may write
  std::size_t left = 0;
  std::optional<Superblock> best;
  Error error{ErrorCode::not_found, "no disk of this pool is at hand"};
  bool reached = false;  // some disk could be read
  // Disks that are here and of which a slot could not be read, and why.
  std::map<DiskId, std::string> unread;
  std::shared_ptr<Pins> pins = std::make_shared<Pins>();
};

// Whoever waits is told, once.
bool Pool::was_closed(Loading& loading) {
  if (!loading.session.expired()) return false;
  if (loading.done) {
    std::exchange(loading.done, nullptr)(fail(ErrorCode::cancelled, "the pool was closed"));
  }
  return true;
}

// ---- superblocks ----

void Pool::read_superblocks(std::shared_ptr<Loading> loading) {
  loading->left = options_.disks.size() * superblock_slots;
  if (loading->left == 0) {
    return scheduler_.post([this, loading, session = std::weak_ptr(session_)] {
      if (!session.expired()) loaded(loading, std::unexpected(loading->error));
    });
  }
  for (const Disk& disk : options_.disks) {
    for (std::uint32_t slot = 0; slot < superblock_slots; ++slot) {
      OwnedBuffer buffer = make_buffer(superblock_size_max);
      const std::uint64_t at = disk.data.offset + std::uint64_t{slot} * superblock_size_max;
      disk.disk->read(
          at, buffer.bytes,
          [this, loading, buffer, id = disk.id, name = disk.disk->name()](Status s) {
            if (was_closed(*loading)) return;
            if (s) {
              loading->reached = true;
              auto found = decode_superblock(buffer.bytes);
              if (found && found->pool != options_.pool) {
                found = fail(ErrorCode::invalid,
                             "disk " + name + " bears the superblock of another pool");
              }
              if (!found && found.error().code != ErrorCode::not_found) {
                loading->error = found.error();
              } else if (!found && loading->error.code == ErrorCode::not_found) {
                loading->error.message = "no disk bears a superblock of this pool";
              }
              if (found && (!loading->best || loading->best->generation < found->generation)) {
                loading->best = std::move(*found);
              }
            } else {
              if (!loading->reached) loading->error = s.error();
              if (s.error().code != ErrorCode::disconnected) {
                loading->unread[id] = "disk " + name + ": " + s.error().message;
              }
            }
            if (--loading->left > 0) return;
            if (!loading->best) return loaded(loading, std::unexpected(loading->error));
            if (auto certain = check_newest(*loading); !certain) return loaded(loading, certain);
            load(loading);
          });
    }
  }
}

// ---- the way up ----

void Pool::make_array(const Superblock& superblock) {
  raid::Array::Options raid = options_.raid;
  raid.layout = superblock.layout;
  for (const Disk& disk : options_.disks)
    raid.disks.push_back({disk.id, disk.disk, disk.data.offset});
  raid::Array::Owner owner;
  owner.live = [this](raid::BlockAddress address) { return space_.live(address); };
  owner.journal = options_.journal;
  owner.claim = options_.claim;
  owner.spare_missed = options_.spare_missed;
  owner.layout_changed = [this] {
    watch_members();
    start_consistency_point();
  };
  // Said once; what lasts is in the layout.
  owner.event = [this](const std::string& text) { set_health(text); };
  owner.fenced = [this](const std::string& why) {
    if (state_ == StorageState::active) fence(why);
  };
  space_ = SpaceMap(superblock.layout);
  array_ = std::make_unique<raid::Array>(scheduler_, std::move(raid), std::move(owner));
}

// Every superblock is on all members in sync before it counts. So a younger one than what was found
// could be only where nothing was read: not if more members were read than a group can lose. With
// fewer, one that is here but does not answer may know better.
Status Pool::check_newest(const Loading& loading) const {
  if (loading.unread.empty()) return {};
  const raid::Layout& layout = loading.best->layout;
  for (std::size_t g = 0; g < layout.groups.size(); ++g) {
    std::uint32_t read = 0;
    for (const raid::Member& member : layout.members) {
      if (member.group != g || member.state == raid::MemberState::failed) continue;
      const bool here = std::ranges::any_of(options_.disks, [&](const Disk& disk) {
        return disk.id == member.disk && disk.disk->connected();
      });
      if (here && !loading.unread.contains(member.disk)) ++read;
    }
    if (read <= raid::parity_count(layout.groups[g].protection)) {
      return fail(ErrorCode::io_error, "the newest superblock may be where it cannot be read (" +
                                           loading.unread.begin()->second +
                                           "): pull the disk if it is broken");
    }
  }
  return {};
}

// Enough members of each group must be at hand.
Status Pool::check_disks(const raid::Layout& layout) const {
  for (std::size_t g = 0; g < layout.groups.size(); ++g) {
    std::string missing;
    std::uint32_t count = 0;
    for (std::size_t m = 0; m < layout.members.size(); ++m) {
      const raid::Member& member = layout.members[m];
      const bool here = std::ranges::any_of(
          options_.disks, [&](const Disk& disk) { return disk.id == member.disk; });
      if (member.group != g || (here && member.state == raid::MemberState::in_sync)) continue;
      ++count;
      missing += (missing.empty() ? "" : ", ") + to_string(member.disk);
    }
    const std::uint32_t borne = raid::parity_count(layout.groups[g].protection);
    if (count > borne) {
      return fail(ErrorCode::disconnected,
                  "RAID group " + std::to_string(g) + " bears the loss of " +
                      std::to_string(borne) +
                      " disks, but these are missing or not in sync: " + missing);
    }
  }
  return {};
}

void Pool::load(std::shared_ptr<Loading> loading) {
  const Superblock& superblock = *loading->best;
  if (auto status = check_disks(superblock.layout); !status) return loaded(loading, status);
  if (auto status = loading->accept(superblock); !status) return loaded(loading, status);
  forget();
  superblock_ = superblock;
  maps_ = ResidentTree(superblock.maps);
  counts_ = ResidentTree(superblock.counts);
  inodes_ = ResidentTree(superblock.inodes);
  next_inode_ = superblock.next_inode;
  next_volume_ = superblock.next_volume;
  luns_created_ = superblock.luns_created;
  make_array(superblock);
  auto go_on = [this, loading](Status status) {
    if (was_closed(*loading)) return;
    if (!status) return loaded(loading, status);
    load_trees(loading);
  };
  if (!loading->recover) return go_on({});
  std::vector<Slice> records;
  if (stripe_records_) records = stripe_records_(superblock.position);
  array_->recover(superblock.generation, std::move(records), std::move(go_on));
}

void Pool::load_trees(std::shared_ptr<Loading> loading) {
  std::vector<BlockPointer> missing;
  std::vector<ResidentTree*> trees{&maps_, &counts_, &inodes_};
  for (ResidentTree* tree : trees) {
    for (const BlockPointer& pointer : tree->missing()) {
      if (Slice block = cached(pointer); !block.bytes.empty()) {
        if (auto added = tree->add(pointer, block.bytes); !added) return loaded(loading, added);
      } else {
        auto pinned = loading->pins->find(pointer.address.value);
        if (pinned == loading->pins->end()) {
          missing.push_back(pointer);
        } else if (auto added = tree->add(pointer, pinned->second.bytes); !added) {
          return loaded(loading, added);
        }
      }
    }
  }
  const bool complete = std::ranges::all_of(trees, [](ResidentTree* t) { return t->complete(); });
  auto go_on = [this, loading](Status status) {
    if (was_closed(*loading)) return;
    if (!status) return loaded(loading, status);
    load_trees(loading);
  };
  if (!missing.empty()) return fetch(std::move(missing), loading->pins, std::move(go_on));
  if (!complete) return go_on({});
  load_tables(loading);
}

// Everything that is read as a whole: it runs again with what it lacked until nothing is.
void Pool::load_tables(std::shared_ptr<Loading> loading) {
  pins_ = loading->pins.get();
  missing_.clear();
  std::vector<std::pair<std::uint64_t, BlockPointer>> inode_blocks;
  inodes_.for_each([&](std::uint64_t block, const BlockPointer& pointer) {
    inode_blocks.emplace_back(block, pointer);
  });
  Status status = read_inodes(std::move(inode_blocks));
  if (status) status = read_counts();
  if (status) status = read_volumes();
  if (status) status = read_luns();
  if (status) status = read_zombies();
  if (status) keep_all_anew();
  pins_ = nullptr;
  if (missing_.empty()) return loaded(loading, status);
  fetch(std::exchange(missing_, {}), loading->pins, [this, loading](Status fetched) {
    if (was_closed(*loading)) return;
    if (!fetched) return loaded(loading, fetched);
    load_tables(loading);
  });
}

Status Pool::read_inodes(std::vector<std::pair<std::uint64_t, BlockPointer>> blocks) {
  bool complete = true;
  for (const auto& [number, pointer] : blocks) {
    if (cached(pointer).bytes.empty()) {
      missing_.push_back(pointer);
      complete = false;
    }
  }
  if (!complete) return fail(ErrorCode::busy, "not in memory");
  for (const auto& [number, pointer] : blocks) {
    const Slice block = cached(pointer);
    for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
      auto inode = filesystem::decode_inode(
          block.bytes.subspan(i * filesystem::inode_size, filesystem::inode_size));
      if (!inode) return std::unexpected(inode.error());
      if (inode->type == filesystem::FileType::none) continue;
      const FileKey key{pool_volume, InodeNumber(number * filesystem::inodes_per_block + i)};
      auto made = std::make_shared<File>();
      made->key = key;
      made->inode = std::move(*inode);
      files_[key] = std::move(made);
    }
  }
  return {};
}

Status Pool::read_counts() {
  bool complete = true;
  std::vector<std::pair<std::uint64_t, Slice>> blocks;
  counts_.for_each([&](std::uint64_t number, const BlockPointer& pointer) {
    blocks.emplace_back(number, cached(pointer));
    if (!blocks.back().second.bytes.empty()) return;
    missing_.push_back(pointer);
    complete = false;
  });
  if (!complete) return fail(ErrorCode::busy, "not in memory");
  SpaceMap space(superblock_.layout);
  for (const auto& [number, block] : blocks) {
    for (std::uint64_t i = 0; i < counts_per_block; ++i) {
      const auto used = load_le<std::uint16_t>(&block.bytes[i * sizeof(std::uint16_t)]);
      const std::uint64_t map = number * counts_per_block + i;
      if (used == 0) continue;
      if (map >= space.maps() || !space.set_used(map, used)) {
        return fail(ErrorCode::invalid, "the count of used blocks of map block " +
                                            std::to_string(map) + " is impossible");
      }
    }
  }
  space_ = std::move(space);
  return {};
}

Status Pool::read_volumes() {
  volumes_.clear();
  changed_volumes_.clear();
  auto found = files_.find({pool_volume, volume_table});
  if (found == files_.end()) {  // a new pool
    Volume first;
    first.kind = VolumeKind::volume;
    first.id = first_volume;
    first.name = "vol0";
    first.inodes.type = filesystem::FileType::system;
    volumes_[first.id] = first;
    changed_volumes_.insert(first.id);
    return {};
  }
  return for_each_block(
      *this, found->second->key, [this](std::uint64_t number, Bytes block) -> Status {
        for (std::size_t i = 0; i < volume_records_per_block; ++i) {
          auto volume = decode_volume(block.subspan(i * volume_record_size, volume_record_size));
          if (!volume) return std::unexpected(volume.error());
          if (volume->kind == VolumeKind::none) continue;
          if (volume->id.value() != number * volume_records_per_block + i) {
            return fail(ErrorCode::invalid, "a volume record is in the wrong place");
          }
          volumes_[volume->id] = std::move(*volume);
        }
        return {};
      });
}

Status Pool::read_luns() {
  luns_.clear();
  auto found = files_.find({pool_volume, lun_catalogue});
  if (found == files_.end()) return {};
  std::map<LunNumber, LunEntry> entries;
  std::map<std::uint64_t, std::vector<std::byte>> reservations;
  Status status =
      for_each_block(*this, found->second->key, [&](std::uint64_t number, Bytes block) -> Status {
        if (number % lun_slot_blocks != 0) {
          reservations[number].assign(block.begin(), block.end());
          return {};
        }
        if (std::ranges::all_of(block, [](std::byte b) { return b == std::byte{0}; })) return {};
        auto entry = decode_lun(block);
        if (!entry) return std::unexpected(entry.error());
        if (entry->info.number.value() != number / lun_slot_blocks) {
          return fail(ErrorCode::invalid, "a LUN is in the wrong place of the catalogue");
        }
        entries[entry->info.number] = std::move(*entry);
        return {};
      });
  if (!status) return status;
  bool complete = true;
  for (auto& [number, entry] : entries) {
    for (std::uint64_t i = 1; entry.info.reservations.size() < entry.reservations_size; ++i) {
      const auto& block = reservations[number.value() * lun_slot_blocks + i];
      if (i >= lun_slot_blocks || block.size() != block_size) {
        return fail(ErrorCode::invalid,
                    "the reservations of LUN " + entry.info.name + " are missing");
      }
      const std::size_t part = std::min<std::size_t>(
          block_size, entry.reservations_size - entry.info.reservations.size());
      entry.info.reservations.insert(entry.info.reservations.end(), block.begin(),
                                     block.begin() + static_cast<std::ptrdiff_t>(part));
    }
    if (auto made = file(entry.file); made) {
      luns_[number] = {std::move(entry.info), files_.at(entry.file)};
    } else if (missing_.empty()) {
      return fail(ErrorCode::invalid, "the data of LUN " + entry.info.name +
                                          " cannot be found: " + made.error().message);
    } else {
      complete = false;
    }
  }
  if (!complete) return fail(ErrorCode::busy, "not in memory");
  return {};
}

Status Pool::read_zombies() {
  zombies_.clear();
  auto found = files_.find({pool_volume, zombie_list});
  if (found == files_.end()) return {};
  std::vector<std::byte> bytes;
  Status status =
      for_each_block(*this, found->second->key, [&](std::uint64_t number, Bytes block) -> Status {
        bytes.resize(std::max<std::size_t>(bytes.size(), (number + 1) * block_size));
        std::ranges::copy(block, bytes.begin() + static_cast<std::ptrdiff_t>(number * block_size));
        return {};
      });
  if (!status) return status;
  bytes.resize(std::min<std::size_t>(bytes.size(), found->second->inode.size));
  auto zombies = decode_zombies(bytes);
  if (!zombies) return std::unexpected(zombies.error());
  zombies_ = std::move(*zombies);
  return {};
}

void Pool::loaded(const std::shared_ptr<Loading>& loading, Status status) {
  if (!loading->done) return;
  std::exchange(loading->done, nullptr)(std::move(status));
}

// ---- states ----

void Pool::open(ports::Done<void> done) {
  if (state_ != StorageState::closed || session_ != nullptr) {
    return fail_later(done, {ErrorCode::refused, "the pool is open already"});
  }
  session_ = std::make_shared<Session>();
  auto loading = std::make_shared<Loading>();
  loading->session = session_;
  loading->accept = [](const Superblock&) -> Status { return {}; };
  loading->done = [this, session = std::weak_ptr(session_),
                   done = std::move(done)](Status s) mutable {
    if (session.expired()) return done(std::move(s));
    if (!s) {
      forget();
      session_.reset();  // may be opened again
    } else {
      applied_ = superblock_.position;
      state_ = StorageState::read_only;
    }
    done(std::move(s));
  };
  read_superblocks(loading);
}

void Pool::activate(Epoch epoch, ports::Done<void> done) {
  const bool opening = state_ == StorageState::closed && session_ == nullptr;
  if (state_ != StorageState::read_only && !opening) {
    return fail_later(done, {ErrorCode::refused, "the pool is being opened, or active"});
  }
  if (opening) session_ = std::make_shared<Session>();
  auto loading = std::make_shared<Loading>();
  loading->session = session_;
  loading->recover = true;
  loading->accept = [this, epoch, before = state_](const Superblock& found) -> Status {
    if (state_ != before) return fail(ErrorCode::refused, "the pool is active already");
    if (found.epoch > epoch) {
      return fail(ErrorCode::refused, "the pool was written in epoch " +
                                          std::to_string(found.epoch.value()) + ", later than " +
                                          std::to_string(epoch.value()));
    }
    return {};
  };
  loading->done = [this, epoch, opening, session = std::weak_ptr(session_),
                   done = std::move(done)](Status s) mutable {
    if (session.expired()) return done(std::move(s));
    if (!s) {
      if (opening) {
        forget();
        session_.reset();
      }
      return done(std::move(s));
    }
    applied_ = superblock_.position;
    epoch_ = epoch;
    state_ = StorageState::active;
    make_root_directories();
    set_health(lasting_health());
    watch_members();
    if (!lacks_a_member()) return done({});
    flush_ = std::make_shared<Flush>(*this);
    flush_->start_bare(std::move(done));
  };
  read_superblocks(loading);
}

// A member that is not here may bear the next superblock, of a consistency point that nobody else
// saw the end of. What it refers to is about to be overwritten, so a younger superblock comes
// first.
bool Pool::lacks_a_member() const {
  return std::ranges::any_of(superblock_.layout.members, [this](const raid::Member& member) {
    return member.state == raid::MemberState::in_sync &&
           std::ranges::none_of(options_.disks, [&](const Disk& disk) {
             return disk.id == member.disk && disk.disk->connected();
           });
  });
}

// Every volume has one; that of a new volume is made here, in memory, as its first change.
void Pool::make_root_directories() {
  for (const VolumeId id : changed_volumes_) {
    if (volumes_.at(id).inodes.root.hole()) make_root_directory(id);
  }
}

void Pool::make_root_directory(VolumeId volume) {
  Inode root;
  root.type = filesystem::FileType::directory;
  root.mode = 0040755;
  root.links = 2;
  root.parent = filesystem::root_directory;
  set_inode({volume, filesystem::root_directory}, root);
}

void Pool::deactivate(ports::Done<void> done) {
  if (state_ != StorageState::active || deactivated_) {
    return fail_later(done, {ErrorCode::refused, "the pool is not active"});
  }
  deactivated_ = std::move(done);
  if (flush_) return;  // its end goes on from here
  scheduler_.post([this, session = std::weak_ptr(session_)] {
    if (!session.expired() && !flush_) finish_deactivation();
  });
}

void Pool::finish_deactivation() {
  if (!deactivated_ || state_ != StorageState::active) return;
  if (!clean()) return begin_flush();
  state_ = StorageState::read_only;
  for (Order& order : std::exchange(orders_, {})) {
    fail_later(order.done, {ErrorCode::cancelled, "the pool is given away"});
  }
  std::exchange(deactivated_, nullptr)({});
}

// Back to nothing known.
void Pool::forget() {
  if (flush_) flush_->stop();
  flush_.reset();
  era_ = std::make_shared<Era>();
  space_token_ = std::make_shared<bool>(true);
  unsettled_ = 0;
  if (array_) {
    array_->close();
    array_.reset();
  }
  maps_ = counts_ = inodes_ = ResidentTree();
  space_ = SpaceMap();
  files_.clear();
  changed_.clear();
  volumes_.clear();
  changed_volumes_.clear();
  next_inode_before_.clear();
  held_.clear();
  luns_.clear();
  coming_luns_.clear();
  going_luns_.clear();
  restoring_.clear();
  zombies_.clear();
  dirty_cost_ = dirty_blocks_ = flushing_blocks_ = 0;
  waiting_.clear();
  snapshots_.clear();
  kept_.clear();
  kept_sum_ = 0;
  metadata_.clear();
  data_.clear();
  again_ = false;
  hurried_ = false;
  forget_age();
  superblock_ = {};
  applied_ = {};
}

void Pool::close() {
  session_.reset();
  if (retry_ != ports::TimerId()) scheduler_.cancel(std::exchange(retry_, {}));
  scheduler_.cancel(std::exchange(rejoin_, {}));
  rejoins_.clear();
  state_ = StorageState::closed;
  for (Order& order : std::exchange(orders_, {})) {
    fail_later(order.done, {ErrorCode::cancelled, "the pool was closed"});
  }
  forget();
  health_.clear();
  fail_later(deactivated_, {ErrorCode::cancelled, "the pool was closed"});
}

}  // namespace duet::pool
