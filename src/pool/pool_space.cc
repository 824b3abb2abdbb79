// Space of a Pool: what is free, for whom it is kept, and whether a change may have what it takes.
#include <algorithm>
#include <utility>

#include "pool/pool.h"

namespace duet::pool {
namespace {

constexpr std::uint64_t working_room = 1024;  // blocks, for overwrites under way

// Data and the indirect blocks above, dead lists and inodes: what writing all of it takes.
std::uint64_t blocks_of_all(std::uint64_t size) {
  const std::uint64_t data = size / block_size;
  return data + data / 64 + 64;
}

std::uint64_t less(std::uint64_t a, std::uint64_t b) {
  return a > b ? a - b : 0;
}

}  // namespace

filesystem::Capacity Pool::capacity() const {
  const std::uint64_t needed = reserved_space() + kept_space();
  return {space_.usable() * block_size, less(free_space(), needed) * block_size, block_size};
}

std::uint64_t Pool::free_space() const {
  return flush_ ? space_for_next_ : space_.free();
}

std::uint64_t Pool::reserved_space() const {
  // Of each changed file its inode and the path to it, and what the ends of every point need.
  const std::uint64_t ends = 64 + space_.maps() / 64;
  return dirty_cost_ + 4 * changed_.size() + ends + space_.usable() / 256;
}

// ---- space that is kept ----

// Volumes that anything is reserved in.
std::set<VolumeId> Pool::reserving() const {
  std::set<VolumeId> found;
  for (const auto& [number, lun] : luns_) {
    if (lun.info.reserved) found.insert(lun.file->key.volume);
  }
  for (const auto& [id, volume] : volumes_) {
    if (volume.reservation > 0) found.insert(id);
  }
  return found;
}

// A reserved LUN that nobody shares blocks with needs room for what it has not yet written; once a
// snapshot may hold its blocks, for all of it again. A volume needs what it has reserved and not
// used; what its LUNs need is part of that.
Pool::Kept Pool::kept_by(VolumeId id, bool shown) const {
  Kept kept;
  const bool shared = shown || snapshots_.contains(id);
  for (const auto& [number, lun] : luns_) {
    if (!lun.info.reserved || lun.file->key.volume != id) continue;
    kept.luns += less(blocks_of_all(lun.info.size), shared ? 0 : lun.file->inode.blocks);
    kept.any = true;
  }
  if (auto found = volumes_.find(id); found != volumes_.end() && found->second.reservation > 0) {
    kept.volume = less(less(found->second.reservation, found->second.used), kept.luns);
    kept.any = true;
  }
  return kept;
}

void Pool::keep_anew(VolumeId id) {
  const Kept now = kept_by(id, false);
  const auto found = kept_.find(id);
  if (found != kept_.end()) {
    kept_sum_ -= found->second.sum();
    kept_.erase(found);
  }
  if (!now.any) return;
  kept_sum_ += now.sum();
  kept_[id] = now;
}

void Pool::keep_all_anew() {
  kept_.clear();
  kept_sum_ = 0;
  snapshots_.clear();
  for (const auto& [id, volume] : volumes_) {
    if (volume.kind == VolumeKind::snapshot) ++snapshots_[volume.parent];
  }
  for (const VolumeId id : reserving()) keep_anew(id);
}

std::uint64_t Pool::kept_space() const {
  return kept_.empty() ? 0 : kept_sum_ + working_room;
}

bool Pool::keeps_what_it_should() const {
  std::map<VolumeId, Kept> walked;
  std::uint64_t sum = 0;
  for (const VolumeId id : reserving()) {
    walked[id] = kept_by(id, false);
    sum += walked[id].sum();
  }
  std::map<VolumeId, std::uint32_t> snapshots;
  for (const auto& [id, volume] : volumes_) {
    if (volume.kind == VolumeKind::snapshot) ++snapshots[volume.parent];
  }
  return walked == kept_ && sum == kept_sum_ && snapshots == snapshots_;
}

// What others than this volume, or than its reserved LUNs, have been promised. Who has a promise
// may use the working room, too: an overwrite takes blocks before the next point gives back others.
std::uint64_t Pool::kept_from(VolumeId id, bool reserved_lun) const {
  const auto found = kept_.find(id);
  if (found == kept_.end()) return kept_space();
  if (reserved_lun) return kept_sum_ - found->second.sum();
  const Volume& volume = volumes_.at(id);
  const bool promised = volume.reservation > 0 && volume.used <= volume.reservation;
  return kept_sum_ - found->second.volume + (promised ? 0 : working_room);
}

// ---- may it have so much? ----

std::unexpected<Error> Pool::no_room(const std::string& why) const {
  if (!clean() || !space_settled()) {
    return fail(ErrorCode::busy, "the next consistency point may make room");
  }
  return fail(ErrorCode::no_space, why);
}

Status Pool::room_in_memory(std::uint64_t blocks) const {
  // A change larger than the bound goes in alone.
  if (dirty_blocks_ + flushing_blocks_ > 0 &&
      dirty_bytes() + blocks * block_size > options_.dirty_limit) {
    return fail(ErrorCode::busy, "too much data waits for the next consistency point");
  }
  return {};
}

// `added`: of them, so many at most are more than the volume had.
Status Pool::room_in_quota(VolumeId id, std::uint64_t added) const {
  auto found = volumes_.find(id);
  if (found == volumes_.end() || found->second.quota == 0) return {};
  std::uint64_t waiting = 0;
  if (auto w = waiting_.find(id); w != waiting_.end())
    waiting = w->second.dirty + w->second.flushing;
  if (added == 0 || found->second.used + waiting + added <= found->second.quota) return {};
  return no_room("the quota of volume " + found->second.name + " is used up");
}

Status Pool::room_on_disks(std::uint64_t blocks, std::uint64_t kept) const {
  if (reserved_space() + kept + blocks + blocks / 16 + 8 <= free_space()) return {};
  return no_room(kept == 0 ? "the pool is full"
                           : "the pool is full but for what volumes and LUNs have reserved");
}

Status Pool::space(VolumeId id, std::uint64_t blocks) {
  if (!volumes_.contains(id)) return fail(ErrorCode::not_found, "no such volume");
  if (auto room = room_in_memory(blocks); !room) return room;
  if (auto room = room_in_quota(id, blocks); !room) {
    if (room.error().code == ErrorCode::busy) return room;
    return fail(ErrorCode::refused, room.error().message);
  }
  return room_on_disks(blocks, kept_from(id, false));
}

Status Pool::room_for_lun(const Lun& lun, std::uint64_t blocks) const {
  if (auto room = room_in_memory(blocks); !room) return room;
  const VolumeId home = lun.file->key.volume;
  if (auto found = volumes_.find(home); found != volumes_.end() && found->second.quota > 0) {
    // What it has it may overwrite, unless a snapshot holds that.
    const std::uint64_t lacks = less(lun.info.size / block_size, lun.file->inode.blocks);
    const std::uint64_t added = snapshots_.contains(home) ? blocks : std::min(blocks, lacks);
    if (auto room = room_in_quota(home, added); !room) return room;
  }
  std::uint64_t kept = kept_from(home, lun.info.reserved);
  // With nothing else under way even a write that is larger than the working room fits.
  if (lun.info.reserved && clean() && space_settled()) kept = 0;
  return room_on_disks(blocks, kept);
}

// Its own space comes on top of what others keep; the first one brings the working room, too.
Status Pool::admit_reservation(const filesystem::LunCreateRecord& record) const {
  const std::uint64_t needed = blocks_of_all(record.size);
  if (reserved_space() + kept_sum_ + working_room + needed <= free_space()) return {};
  return no_room("LUN " + record.name + " needs " + std::to_string(needed * block_size) +
                 " bytes kept for it, and " + std::to_string(capacity().free) +
                 " are free: make room, or create it thin");
}

// Of a volume, from the next point on. `used`: as of this one.
Status Pool::admit_limits(const Volume& volume, std::uint64_t quota,
                          std::uint64_t reservation) const {
  if (quota > 0 && reservation > quota) {
    return fail(ErrorCode::invalid,
                "volume " + volume.name + " cannot reserve more than its quota");
  }
  std::uint64_t luns = 0;
  std::uint64_t others = kept_sum_;
  if (auto found = kept_.find(volume.id); found != kept_.end()) {
    luns = found->second.luns;
    others -= found->second.sum();
  }
  const std::uint64_t wants = std::max(luns, less(reservation, volume.used));
  if (reservation == 0 || reserved_space() + others + working_room + wants <= space_.free()) {
    return {};
  }
  return fail(ErrorCode::no_space,
              "volume " + volume.name + " lacks " + std::to_string(wants * block_size) +
                  " bytes to what it shall have, and there is not so much that nobody else has "
                  "reserved: make room, or reserve less");
}

// From now on overwriting a reserved LUN of the volume would give nothing back.
Status Pool::admit_snapshot(VolumeId id) const {
  const Kept shown = kept_by(id, true);
  if (shown.luns == 0) return {};
  std::uint64_t others = kept_sum_;
  if (auto found = kept_.find(id); found != kept_.end()) others -= found->second.sum();
  if (reserved_space() + others + working_room + shown.sum() <= space_.free()) return {};
  return fail(ErrorCode::no_space,
              "reserved LUNs could not be overwritten any more with this snapshot: delete "
              "snapshots or LUNs, or make room");
}

}  // namespace duet::pool
