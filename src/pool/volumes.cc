// Volumes and snapshots of a Pool: orders that consistency points carry out.
#include <algorithm>
#include <utility>

#include "pool/flush.h"
#include "pool/pool.h"

namespace duet::pool {
namespace {

// Hands the number that the order found on to who asked for it.
ports::Done<void> with_id(std::shared_ptr<VolumeId> id, ports::Done<VolumeId> done) {
  return [id = std::move(id), done = std::move(done)](Status status) mutable {
    if (!status) return done(std::unexpected(status.error()));
    done(*id);
  };
}

VolumeReport report_of(const Volume& v) {
  return {v.id,
          v.parent,
          v.kind,
          v.deleting,
          v.name,
          v.used * block_size,
          v.quota * block_size,
          v.reservation * block_size,
          v.created,
          v.clones};
}

std::unexpected<Error> no_such_volume(VolumeId id) {
  return fail(ErrorCode::not_found, "there is no volume " + std::to_string(id.value()));
}

Status check_name(const Flush& flush, const std::string& name, VolumeId parent) {
  if (!valid_volume_name(name)) {
    return fail(ErrorCode::invalid,
                "the name of a volume has 1 to 63 characters a-z A-Z 0-9 . _ -");
  }
  if (flush.name_taken(name, parent)) {
    return fail(ErrorCode::already_exists, "the name " + name + " is taken");
  }
  return {};
}

}  // namespace

void Pool::order(std::function<Status(Flush&)> make, ports::Done<void> done) {
  if (state_ != StorageState::active || deactivated_) {
    return fail_later(done, {ErrorCode::refused, "the pool is not active"});
  }
  if (orders_.size() >= orders_max) {
    return fail_later(done, {ErrorCode::busy, "too many orders wait"});
  }
  orders_.push_back({std::move(make), std::move(done)});
  start_consistency_point();
}

std::vector<VolumeReport> Pool::volumes() const {
  std::vector<VolumeReport> reports;
  for (const auto& [id, v] : volumes_) reports.push_back(report_of(v));
  return reports;
}

std::optional<VolumeReport> Pool::find_volume(VolumeId volume) const {
  auto found = volumes_.find(volume);
  return found == volumes_.end() ? std::nullopt : std::optional(report_of(found->second));
}

void Pool::create_volume(const std::string& name, ports::Done<VolumeId> done) {
  auto id = std::make_shared<VolumeId>();
  order(
      [this, id, name](Flush& flush) -> Status {
        if (auto status = check_name(flush, name, pool_volume); !status) return status;
        if (volumes_.size() >= volumes_max) return fail(ErrorCode::no_space, "too many volumes");
        Volume& made = flush.add_volume(VolumeKind::volume);
        made.name = name;
        *id = made.id;
        volumes_[made.id] = made;  // so that its files can be changed
        make_root_directory(made.id);
        return {};
      },
      with_id(id, std::move(done)));
}

void Pool::delete_volume(VolumeId id, ports::Done<void> done) {
  order(
      [this, id](Flush& flush) -> Status {
        Volume* volume = flush.volume(id);
        if (volume == nullptr || volume->kind != VolumeKind::volume) return no_such_volume(id);
        if (id == first_volume) {
          return fail(ErrorCode::refused, "the first volume stays as long as the pool");
        }
        if (flush.has_snapshots(id)) {
          return fail(ErrorCode::refused,
                      "volume " + volume->name + " has snapshots: delete them first");
        }
        for (const auto& [number, lun] : luns_) {
          if (lun.file->key.volume == id) {
            return fail(ErrorCode::refused, "LUN " + lun.info.name + " is in volume " +
                                                volume->name + ": delete it first");
          }
        }
        const Volume gone = *volume;
        if (!gone.inodes.root.hole()) {
          flush.add_zombie({gone.inodes.root, gone.inodes.levels, true, true, id,
                            gone.parent == pool_volume ? 0 : gone.birth, flush.generation()});
        }
        if (Volume* origin = flush.volume(gone.parent)) --origin->clones;
        flush.remove_own_file(gone.dead_list);
        flush.forget_changes(id);
        flush.remove_volume(id);
        return {};
      },
      std::move(done));
}

void Pool::create_snapshot(VolumeId id, const std::string& name, std::int64_t now,
                           ports::Done<VolumeId> done) {
  auto made = std::make_shared<VolumeId>();
  order(
      [this, id, made, name, now](Flush& flush) -> Status {
        const Volume* volume = flush.volume(id);
        if (volume == nullptr || volume->kind != VolumeKind::volume) return no_such_volume(id);
        if (auto status = check_name(flush, name, id); !status) return status;
        if (volumes_.size() >= volumes_max) return fail(ErrorCode::no_space, "too many snapshots");
        // Births tell the order of snapshots: one in a point.
        if (flush.is_shown(id)) return fail(ErrorCode::busy, "one snapshot at a time");
        if (auto room = admit_snapshot(id); !room) return room;
        Volume& snapshot = flush.add_volume(VolumeKind::snapshot);
        snapshot.parent = id;
        snapshot.name = name;
        snapshot.birth = flush.generation();
        snapshot.created = now;
        *made = snapshot.id;
        flush.later([&flush, id, made] {
          Volume& live = *flush.volume(id);
          Volume& shown = *flush.volume(*made);
          shown.inodes = live.inodes;
          shown.next_inode = live.next_inode;
          shown.dead_list = std::exchange(live.dead_list, no_inode);
          shown.dead_begin = std::exchange(live.dead_begin, 0);
          shown.dead_size = std::exchange(live.dead_size, 0);
        });
        return {};
      },
      with_id(made, std::move(done)));
}

void Pool::delete_snapshot(VolumeId id, ports::Done<void> done) {
  order(
      [id](Flush& flush) -> Status {
        Volume* snapshot = flush.volume(id);
        if (snapshot == nullptr || snapshot->kind != VolumeKind::snapshot || snapshot->deleting) {
          return fail(ErrorCode::not_found, "there is no snapshot " + std::to_string(id.value()));
        }
        if (snapshot->clones > 0) {
          return fail(ErrorCode::refused,
                      "snapshot " + snapshot->name + " has clones: delete them first");
        }
        snapshot->deleting = true;
        return {};
      },
      std::move(done));
}

void Pool::create_clone(VolumeId id, const std::string& name, ports::Done<VolumeId> done) {
  auto made = std::make_shared<VolumeId>();
  order(
      [this, id, made, name](Flush& flush) -> Status {
        Volume* snapshot = flush.volume(id);
        if (snapshot == nullptr || snapshot->kind != VolumeKind::snapshot || snapshot->deleting) {
          return fail(ErrorCode::not_found, "there is no snapshot " + std::to_string(id.value()));
        }
        if (auto status = check_name(flush, name, pool_volume); !status) return status;
        if (volumes_.size() >= volumes_max) return fail(ErrorCode::no_space, "too many volumes");
        ++snapshot->clones;
        const Generation birth = snapshot->birth;
        Volume& clone = flush.add_volume(VolumeKind::volume);
        clone.parent = id;
        clone.birth = birth;
        clone.name = name;
        *made = clone.id;
        flush.later([&flush, id, made] {
          Volume& copy = *flush.volume(*made);
          copy.inodes = flush.volume(id)->inodes;
          copy.next_inode = flush.volume(id)->next_inode;
        });
        return {};
      },
      with_id(made, std::move(done)));
}

void Pool::set_limits(VolumeId id, std::uint64_t quota, std::uint64_t reservation,
                      ports::Done<void> done) {
  order(
      [this, id, quota, reservation](Flush& flush) -> Status {
        Volume* volume = flush.volume(id);
        if (volume == nullptr || volume->kind != VolumeKind::volume) return no_such_volume(id);
        const std::uint64_t most = quota / block_size;  // a part of a block is none
        const std::uint64_t least =
            reservation / block_size + (reservation % block_size != 0 ? 1 : 0);
        if (quota > 0 && most == 0) return fail(ErrorCode::invalid, "a quota has a block at least");
        if (auto room = admit_limits(*volume, most, least); !room) return room;
        volume->quota = most;
        volume->reservation = least;
        return {};
      },
      std::move(done));
}

}  // namespace duet::pool
