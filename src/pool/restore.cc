// A volume goes back to its newest snapshot, its LUNs with it.
//
// First the vdisks that the snapshot shows are looked for, in short steps: a snapshot does not
// change. Then one order makes volume, files and LUN catalogue what they were. From its freeze to
// its end nobody may look at or change the volume (held_), so nothing of what comes after it is in
// the log before it is on the disks.
#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "pool/flush.h"
#include "pool/pool.h"
#include "pool/tables.h"

namespace duet::pool {

struct Pool::Restore {
  VolumeId volume;
  VolumeId snapshot;
  std::uint64_t next = 0;  // block of the inode file to look at
  std::map<InodeNumber, Inode> vdisks;
  ports::Done<void> done;
  std::weak_ptr<Session> session;
};

namespace {

constexpr std::uint64_t blocks_per_look = 64;  // of an inode file

}  // namespace

void Pool::restore(VolumeId volume, VolumeId snapshot, ports::Done<void> done) {
  auto restore = std::make_shared<Restore>();
  restore->volume = volume;
  restore->snapshot = snapshot;
  restore->done = std::move(done);
  restore->session = session_;
  find_vdisks(restore);
}

void Pool::find_vdisks(const std::shared_ptr<Restore>& restore) {
  auto next = std::make_shared<std::uint64_t>(restore->next);
  const auto look = [this, restore, next](filesystem::View&) -> Status {
    *next = restore->next;
    return find_vdisks(*restore, *next);
  };
  run(look, [this, restore, next](Status status) {
    if (!status) return restore->done(std::move(status));
    if (restore->session.expired()) {
      return restore->done(fail(ErrorCode::cancelled, "the pool was closed"));
    }
    restore->next = *next;
    if (*next < filesystem::max_file_blocks) return find_vdisks(restore);
    order([this, restore](Flush& flush) { return take_back(flush, *restore); },
          std::move(restore->done));
  });
}

// Some blocks from `next` on, which becomes max_file_blocks at the end.
Status Pool::find_vdisks(Restore& restore, std::uint64_t& next) {
  auto snapshot = volumes_.find(restore.snapshot);
  if (snapshot == volumes_.end() || snapshot->second.kind != VolumeKind::snapshot ||
      snapshot->second.parent != restore.volume || snapshot->second.deleting) {
    return fail(ErrorCode::not_found, "the volume has no such snapshot");
  }
  const TreeRoot root{snapshot->second.inodes.root, snapshot->second.inodes.levels};
  for (std::uint64_t looked = 0; looked < blocks_per_look; ++looked, ++next) {
    auto block = next_in_tree(root, next, filesystem::max_file_blocks);
    if (!block) return std::unexpected(block.error());
    next = *block;
    if (next == filesystem::max_file_blocks) break;
    auto pointer = resolve(root, next);
    if (!pointer) return std::unexpected(pointer.error());
    const Slice bytes = cached(*pointer);
    if (bytes.bytes.empty()) {
      missing_.push_back(*pointer);
      continue;
    }
    for (std::uint64_t i = 0; i < filesystem::inodes_per_block; ++i) {
      auto inode = filesystem::decode_inode(
          bytes.bytes.subspan(i * filesystem::inode_size, filesystem::inode_size));
      if (!inode) return fail(ErrorCode::io_error, "an inode is damaged: " + inode.error().message);
      if (inode->type == filesystem::FileType::vdisk) {
        restore.vdisks[InodeNumber(next * filesystem::inodes_per_block + i)] = std::move(*inode);
      }
    }
  }
  if (!missing_.empty()) return fail(ErrorCode::busy, "not in memory");
  return {};
}

Status Pool::take_back(Flush& flush, const Restore& restore) {
  const VolumeId id = restore.volume;
  Volume* volume = flush.volume(id);
  const Volume* snapshot = flush.volume_or_old(restore.snapshot);
  if (volume == nullptr || volume->kind != VolumeKind::volume) {
    return fail(ErrorCode::not_found, "there is no volume " + std::to_string(id.value()));
  }
  if (snapshot == nullptr || snapshot->kind != VolumeKind::snapshot || snapshot->parent != id ||
      snapshot->deleting) {
    return fail(ErrorCode::not_found, "volume " + volume->name + " has no such snapshot");
  }
  // A snapshot of this point is made at its end, and would show what it is taken back to.
  if (flush.is_shown(id)) return fail(ErrorCode::busy, "a snapshot comes first");
  if (flush.keeps(id, flush.generation()) != snapshot->birth) {
    return fail(ErrorCode::refused,
                "volume " + volume->name + " has newer snapshots: delete them first");
  }
  auto returning = returning_luns(restore);
  if (!returning) return std::unexpected(returning.error());
  flush.forget_changes(id);
  if (!volume->inodes.root.hole()) {
    flush.add_zombie({volume->inodes.root, volume->inodes.levels, true, true, id, snapshot->birth,
                      flush.generation()});
  }
  flush.prune_zombies(id, snapshot->birth);
  flush.remove_own_file(std::exchange(volume->dead_list, no_inode));
  volume->dead_begin = volume->dead_size = 0;
  volume->inodes = snapshot->inodes;
  take_luns_back(restore, std::move(*returning));
  return {};
}

// LUNs that were deleted since the snapshot, as it shows them.
Result<std::map<LunNumber, Pool::Lun>> Pool::returning_luns(const Restore& restore) const {
  std::map<LunNumber, Lun> returning;
  const auto is_here = [this](FileKey key) {
    return std::ranges::any_of(luns_, [key](const auto& l) { return l.second.file->key == key; });
  };
  // Numbers and names of LUNs that go in the same point are free.
  const auto goes = [&](const Lun& lun) {
    return lun.file->key.volume == restore.volume && !restore.vdisks.contains(lun.file->key.inode);
  };
  const auto taken = [&](LunNumber number) {
    const auto found = luns_.find(number);
    return coming_luns_.contains(number) || (found != luns_.end() && !goes(found->second));
  };
  LunNumber number;
  for (const auto& [inode_number, inode] : restore.vdisks) {
    const FileKey key{restore.volume, inode_number};
    if (is_here(key)) continue;
    auto info = lun_shown_by(inode);  // of a copy of a volume: no LUN
    if (!info || inode.entries != restore.volume.value()) continue;
    for (const auto* luns : {&luns_, &coming_luns_}) {
      for (const auto& [other, lun] : *luns) {
        if (lun.info.name != info->name || goes(lun)) continue;
        return fail(ErrorCode::refused, "the snapshot shows a LUN " + info->name +
                                            " that was deleted, and there is another one of this "
                                            "name now: delete that, or make a clone instead");
      }
    }
    while (taken(number) || returning.contains(number)) number = number.next();
    if (number.value() > filesystem::max_lun_number) {
      return fail(ErrorCode::no_space, "the pool has no room for the LUNs of the snapshot");
    }
    Lun& lun = returning[number];
    lun.info = std::move(*info);
    lun.info.number = number;
    lun.file = std::make_shared<File>();
    lun.file->key = key;
    lun.file->inode = inode;
  }
  return returning;
}

void Pool::take_luns_back(const Restore& restore, std::map<LunNumber, Lun> returning) {
  for (auto& [number, lun] : luns_) {
    if (lun.file->key.volume != restore.volume) continue;
    auto shown = restore.vdisks.find(lun.file->key.inode);
    if (shown == restore.vdisks.end()) {
      // Its number and name are taken until the disks say so: a replay would find them taken.
      MARK(restore_without_a_lun);
      going_luns_.push_back(number);
      const std::uint64_t slot = number.value() * lun_slot_blocks * block_size;
      zero(catalogue(), slot, lun_slot_blocks * block_size);
      continue;
    }
    auto file = std::make_shared<File>();
    file->key = lun.file->key;
    file->inode = shown->second;
    files_[file->key] = file;
    lun.file = std::move(file);
    lun.info.size = shown->second.size;
    lun.info.offline.clear();
    keep_lun(lun, false);
  }
  for (auto& [number, lun] : returning) {
    MARK(restore_brings_a_lun_back);
    files_[lun.file->key] = lun.file;
    keep_lun(lun, true);
  }
  coming_luns_.merge(returning);
  keep_anew(restore.volume);
}

}  // namespace duet::pool
