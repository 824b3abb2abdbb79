// LUNs of clones of volumes.
#include <utility>

#include "pool/flush.h"
#include "pool/pool.h"
#include "pool/tables.h"

namespace duet::pool {

using filesystem::FileType;
using filesystem::LunCreateRecord;

std::optional<VolumeId> Pool::volume_of(LunNumber number) const {
  const Lun* lun = lun_of(number);
  return lun == nullptr ? std::nullopt : std::optional(lun->file->key.volume);
}

// First what the snapshot has of the LUN is read; then one order makes volume and LUN.
void Pool::clone_lun(LunNumber number, VolumeId snapshot, const std::string& name,
                     ports::Done<LunNumber> done) {
  const Lun* lun = lun_of(number);
  if (lun == nullptr) {
    scheduler_.post([done = std::move(done), number]() mutable {
      done(fail(ErrorCode::not_found, "there is no LUN " + std::to_string(number.value())));
    });
    return;
  }
  const FileKey shown{snapshot, lun->file->key.inode};
  auto inode = std::make_shared<Inode>();
  auto made = std::make_shared<LunNumber>();
  auto answer = [made, done = std::move(done)](Status status) mutable {
    if (!status) return done(std::unexpected(status.error()));
    done(*made);
  };
  run(
      [shown, inode](filesystem::View& view) -> Status {
        auto found = view.inode(shown);
        if (!found) return std::unexpected(found.error());
        *inode = *found;
        return {};
      },
      [this, number, snapshot, name, inode, made, session = std::weak_ptr(session_),
       answer = std::move(answer)](Status status) mutable {
        if (!status && status.error().code == ErrorCode::not_found) {
          return answer(fail(ErrorCode::not_found, "the snapshot does not have this LUN"));
        }
        if (!status) return answer(std::move(status));
        if (session.expired()) return answer(fail(ErrorCode::cancelled, "the pool was closed"));
        order(
            [this, number, snapshot, name, inode, made](Flush& flush) {
              return make_lun_clone(flush, number, snapshot, *inode, name, *made);
            },
            std::move(answer));
      });
}

Status Pool::make_lun_clone(Flush& flush, LunNumber number, VolumeId snapshot_id,
                            const Inode& inode, const std::string& name, LunNumber& made) {
  const Lun* source = lun_of(number);
  Volume* snapshot = flush.volume(snapshot_id);
  if (source == nullptr) return fail(ErrorCode::not_found, "the LUN has been deleted meanwhile");
  if (snapshot == nullptr || snapshot->kind != VolumeKind::snapshot || snapshot->deleting ||
      snapshot->parent != source->file->key.volume || inode.type != FileType::vdisk) {
    return fail(ErrorCode::not_found, "LUN " + source->info.name + " has no such snapshot");
  }
  if (flush.name_taken(name, pool_volume)) {
    return fail(ErrorCode::already_exists, "the name " + name + " is taken by a volume");
  }
  if (volumes_.size() >= volumes_max) return fail(ErrorCode::no_space, "too many volumes");
  auto free = free_lun();
  if (!free) return std::unexpected(free.error());
  LunCreateRecord record;
  record.lun = *free;
  record.name = name;
  record.size = inode.size;
  give_identity(record);
  if (auto status = check(record); !status) return status;

  ++snapshot->clones;
  Volume clone = *snapshot;  // its inodes; the rest is new
  clone.kind = VolumeKind::volume;
  clone.parent = snapshot_id;
  clone.dead_list = no_inode;
  clone.dead_size = clone.dead_begin = 0;
  clone.quota = clone.reservation = clone.used = 0;
  clone.created = 0;
  clone.clones = 0;
  clone.name = name;
  Volume& added = flush.add_volume(VolumeKind::volume);
  clone.id = added.id;
  added = clone;
  volumes_[clone.id] = clone;  // so that its files can be changed

  const FileKey key{clone.id, source->file->key.inode};
  auto file = std::make_shared<File>();
  file->key = key;
  file->inode = inode;
  files_[key] = file;
  // Nobody may use it before it is on the disks: a replay would not find it.
  Lun& lun = coming_luns_[record.lun];
  lun.info = {record.lun, record.name, record.size, record.serial, record.naa, {}, {}, false};
  lun.file = std::move(file);
  set_inode(key, inode_of(lun.info, clone.id));
  ++luns_created_;
  keep_lun(lun, true);
  made = record.lun;
  return {};
}

}  // namespace duet::pool
