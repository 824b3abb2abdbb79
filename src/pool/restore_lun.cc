// One LUN goes back to what a snapshot of its volume shows; everything else stays.
//
// Blocks that the volume has given up stand in its dead list, so the tree of the snapshot cannot be
// put in place of the LUN's: what differs is copied, a batch at a time, behind everything else.
// From its first consistency point to its last the LUN is offline, and the catalogue says why: one
// that is restored half-way is never served. Its log records are all before the first point, so a
// replay changes nothing of it.
#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "pool/flush.h"
#include "pool/pool.h"
#include "pool/tables.h"

namespace duet::pool {

struct Pool::LunRestore {
  struct Difference {
    std::uint64_t block = 0;
    BlockPointer shown;  // by the snapshot
  };
  LunNumber lun;
  std::shared_ptr<File> file;
  VolumeId snapshot;
  TreeRoot shown;
  std::string offline;     // the reason that makes the LUN ours
  std::uint64_t next = 0;  // block to look at
  std::vector<Difference> differences;
  std::shared_ptr<Era> era;  // of the turn that found them
  ports::Done<void> done;
  std::weak_ptr<Session> session;
};

namespace {

constexpr std::size_t batch_blocks = 256;
// Batches for which consistency points made no room, one after the other.
constexpr int refusals_max = 8;

}  // namespace

// The first block from `from` on that two trees do not share, or `end`.
Result<std::uint64_t> Pool::next_difference(const TreeRoot& a, const TreeRoot& b,
                                            std::uint64_t from, std::uint64_t end) {
  const std::uint8_t top = std::max(a.levels, b.levels);
  const auto root_at = [](const TreeRoot& tree, std::uint64_t block) {
    return block >> 8 * tree.levels == 0 ? tree.pointer : BlockPointer{};
  };
  // One level down; a tree that does not reach so high is still at its root.
  const auto descend = [&](const TreeRoot& tree, BlockPointer& pointer, std::uint8_t level) {
    if (level > tree.levels || pointer.hole()) return true;
    const Slice node = cached(pointer);
    if (node.bytes.empty()) {
      missing_.push_back(pointer);
      return false;
    }
    pointer = filesystem::load_pointer(
        &node.bytes[(from >> 8 * (level - 1) & 0xff) * filesystem::pointer_size]);
    return true;
  };
  while (from < std::min(end, std::uint64_t{1} << 8 * top)) {
    BlockPointer left = root_at(a, from);
    BlockPointer right = root_at(b, from);
    std::uint8_t level = top;
    const auto shared = [&] {
      if (left.hole() && right.hole()) return true;
      return level <= std::min(a.levels, b.levels) && left == right;
    };
    while (level > 0 && !shared()) {
      const bool here = descend(a, left, level);
      if (!descend(b, right, level) || !here) return fail(ErrorCode::busy, "not in memory");
      --level;
    }
    if (!shared()) return from;
    from = ((from >> 8 * level) + 1) << 8 * level;
  }
  return end;
}

void Pool::restore_lun(LunNumber lun, VolumeId snapshot, ports::Done<void> done) {
  auto restore = std::make_shared<LunRestore>();
  restore->lun = lun;
  restore->snapshot = snapshot;
  restore->done = std::move(done);
  restore->session = session_;
  auto inode = std::make_shared<Inode>();
  const auto look = [this, lun, snapshot, inode](filesystem::View& view) -> Status {
    const Lun* found = lun_of(lun);
    if (found == nullptr) return fail(ErrorCode::not_found, "there is no such LUN");
    auto shown = view.inode({snapshot, found->file->key.inode});
    if (!shown) return std::unexpected(shown.error());
    *inode = *shown;
    return {};
  };
  run(look, [this, restore, inode](Status status) {
    if (!status && status.error().code == ErrorCode::not_found) {
      return restore->done(fail(ErrorCode::not_found, "the snapshot does not have this LUN"));
    }
    if (!status) return restore->done(std::move(status));
    if (!still_open(*restore)) return;
    restore->shown = {inode->root, inode->levels};
    order([this, restore, inode](Flush& flush) { return take_offline(flush, *restore, *inode); },
          [this, restore](Status taken) {
            if (!taken) return restore->done(std::move(taken));
            if (still_open(*restore)) find_differences(restore);
          });
  });
}

bool Pool::still_open(LunRestore& restore) {
  if (!restore.session.expired()) return true;
  restore.done(fail(ErrorCode::cancelled, "the pool was closed"));
  return false;
}

Status Pool::take_offline(Flush& flush, LunRestore& restore, const Inode& shown) {
  Lun* lun = lun_of(restore.lun);
  if (lun == nullptr) return fail(ErrorCode::not_found, "the LUN has been deleted meanwhile");
  const Volume* snapshot = flush.volume_or_old(restore.snapshot);
  if (snapshot == nullptr || snapshot->kind != VolumeKind::snapshot || snapshot->deleting ||
      snapshot->parent != lun->file->key.volume) {
    return fail(ErrorCode::not_found, "LUN " + lun->info.name + " has no such snapshot");
  }
  if (held_.contains(lun->file->key.volume)) {
    return fail(ErrorCode::busy, "the volume is being replaced");
  }
  const auto info = lun_shown_by(shown);
  if (!info || info->naa != lun->info.naa || info->size != lun->info.size) {
    return fail(ErrorCode::not_found, "the snapshot does not have LUN " + lun->info.name +
                                          ": it was made later, under an older LUN's number");
  }
  restore.offline = "its restore from snapshot " + snapshot->name +
                    " has not ended: wait for it, or restore it again";
  if (!restoring_.insert(restore.lun).second) {
    return fail(ErrorCode::refused, "LUN " + lun->info.name + " is being restored already");
  }
  restore.file = lun->file;
  lun->info.offline = restore.offline;
  keep_lun(*lun, false);
  set_health(lasting_health());
  return {};
}

// It is still there, nothing else has changed it, and we may.
Pool::Lun* Pool::restored(const LunRestore& restore) {
  Lun* lun = lun_of(restore.lun);
  const bool ours = state_ == StorageState::active && !deactivated_ && lun != nullptr &&
                    lun->file == restore.file && lun->info.offline == restore.offline &&
                    !held_.contains(restore.file->key.volume);
  return ours ? lun : nullptr;
}

void Pool::find_differences(const std::shared_ptr<LunRestore>& restore) {
  auto next = std::make_shared<std::uint64_t>();
  const auto look = [this, restore, next](filesystem::View&) -> Status {
    const auto snapshot = volumes_.find(restore->snapshot);
    if (restored(*restore) == nullptr || snapshot == volumes_.end() || snapshot->second.deleting) {
      return fail(ErrorCode::cancelled, "the LUN or its snapshot was changed meanwhile");
    }
    restore->differences.clear();
    restore->era = era_;
    const std::uint64_t end = restored(*restore)->info.size / block_size;
    std::uint64_t block = restore->next;
    for (; restore->differences.size() < batch_blocks; ++block) {
      auto found = next_difference(restore->file->root(), restore->shown, block, end);
      if (!found) return std::unexpected(found.error());
      block = *found;
      if (block == end) break;
      auto shown = resolve(restore->shown, block);
      if (!shown) return std::unexpected(shown.error());
      restore->differences.push_back({block, *shown});
    }
    *next = block;
    return {};
  };
  run(look, [this, restore, next](Status status) {
    if (!still_open(*restore)) return;
    if (!status) return end_restore(restore, std::move(status));
    restore->next = *next;
    if (restore->differences.empty()) return bring_online(restore);
    read_differences(restore);
  });
}

void Pool::read_differences(const std::shared_ptr<LunRestore>& restore) {
  auto buffer =
      std::make_shared<OwnedBuffer>(make_buffer(restore->differences.size() * block_size));
  std::vector<raid::BlockRead> reads;
  for (std::size_t i = 0; i < restore->differences.size(); ++i) {
    const BlockPointer& shown = restore->differences[i].shown;
    if (shown.hole()) continue;
    reads.push_back({shown.address, shown.crc, buffer->bytes.subspan(i * block_size, block_size)});
  }
  auto read = [this, restore, buffer](Status status) {
    if (!still_open(*restore)) return;
    restore->era.reset();  // what was released meanwhile may become room
    if (!status) return end_restore(restore, std::move(status));
    copy_differences(restore, *buffer, 0);
  };
  if (reads.empty()) return read({});
  array_->read(std::move(reads), std::move(read));
}

void Pool::copy_differences(const std::shared_ptr<LunRestore>& restore, const OwnedBuffer& buffer,
                            int refusals) {
  Lun* lun = restored(*restore);
  if (lun == nullptr) {
    return end_restore(restore, fail(ErrorCode::cancelled, "the LUN was changed meanwhile"));
  }
  if (auto room = room_for_lun(*lun, restore->differences.size()); !room) {
    if (room.error().code != ErrorCode::busy || refusals == refusals_max) {
      return end_restore(restore, std::move(room));
    }
    MARK(lun_restore_waits_for_room);
    return order([](Flush&) { return Status(); },
                 [this, restore, buffer, refusals](Status status) {
                   if (!still_open(*restore)) return;
                   if (!status) return end_restore(restore, std::move(status));
                   copy_differences(restore, buffer, refusals + 1);
                 });
  }
  for (std::size_t i = 0; i < restore->differences.size(); ++i) {
    const auto& [block, shown] = restore->differences[i];
    if (shown.hole()) {
      zero(restore->file->key, block * block_size, block_size);
    } else {
      write(restore->file->key, block * block_size,
            {{buffer.owner, Bytes(buffer.bytes).subspan(i * block_size, block_size)}});
    }
  }
  find_differences(restore);
}

void Pool::bring_online(const std::shared_ptr<LunRestore>& restore) {
  order(
      [this, restore](Flush&) -> Status {
        Lun* lun = restored(*restore);
        if (lun == nullptr) return fail(ErrorCode::cancelled, "the LUN was changed meanwhile");
        lun->info.offline.clear();
        keep_lun(*lun, false);
        set_health(lasting_health());
        return {};
      },
      [this, restore](Status status) {
        if (still_open(*restore)) end_restore(restore, std::move(status));
      });
}

// One that has failed leaves the LUN offline.
void Pool::end_restore(const std::shared_ptr<LunRestore>& restore, Status status) {
  restoring_.erase(restore->lun);
  restore->done(std::move(status));
}

}  // namespace duet::pool
