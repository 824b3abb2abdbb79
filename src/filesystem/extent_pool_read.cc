// Reads of an ExtentPool: from memory at once, the rest from the disks.
#include <algorithm>
#include <array>
#include <utility>

#include "filesystem/extent_pool.h"

namespace duet::filesystem {

struct ExtentPool::ReadInFlight {
  ReadPlan plan;
  LunNumber lun;
  LunInstance instance;
  std::uint64_t length = 0;
  std::uint64_t flushes = 0;  // when it started
  std::size_t started = 0;    // disk reads
  std::size_t left = 0;       // disk reads that have not ended
  std::optional<Error> error;
  ports::Done<std::vector<Slice>> done;
};

Status ExtentPool::check_read(LunNumber number, std::uint64_t offset, std::uint64_t length) const {
  switch (state_) {
    case StorageState::closed:
    case StorageState::offline:
      return fail(ErrorCode::refused, "the pool is not open: " + health_);
    case StorageState::fenced:
      return fail(ErrorCode::reservation_conflict, health_);
    case StorageState::read_only:
    case StorageState::active:
      break;
  }
  const Lun* lun = table_.find(number);
  if (lun == nullptr) {
    return fail(ErrorCode::not_found, "there is no LUN " + std::to_string(number.value()));
  }
  if (!lun->info.offline.empty()) {
    return fail(ErrorCode::refused, "LUN " + lun->info.name + " is offline: " + lun->info.offline);
  }
  if (offset % sector_size != 0 || length % sector_size != 0 || length > max_read_length ||
      offset > lun->info.size || length > lun->info.size - offset) {
    return fail(ErrorCode::invalid, "a read that LUN " + lun->info.name + " does not have");
  }
  return {};
}

void ExtentPool::read(LunNumber number, std::uint64_t offset, std::uint64_t length,
                      ports::Done<std::vector<Slice>> done) {
  if (auto status = check_read(number, offset, length); !status) {
    scheduler_.post([done = std::move(done), error = status.error()]() mutable {
      done(std::unexpected(std::move(error)));
    });
    return;
  }
  const Lun& lun = *table_.find(number);
  std::array<const DirtyCache*, 2> generations{&dirty_, point_ ? &point_->dirty() : nullptr};
  auto read = std::make_shared<ReadInFlight>();
  read->plan = plan_read(superblock_.geometry, lun, offset, length,
                         std::span(generations).first(point_ ? 2 : 1), clean_cache_);
  read->lun = number;
  read->instance = lun.instance;
  read->length = length;
  read->flushes = flushes_;
  read->left = read->plan.reads.size();
  read->done = std::move(done);
  if (read->left == 0) {
    scheduler_.post([read] { read->done(std::move(read->plan.data)); });
    return;
  }
  for (std::size_t i = 0; i < disk_reads_per_read && i < read->plan.reads.size(); ++i) {
    read_next(read);
  }
}

// Starts one more disk read; its end starts another.
void ExtentPool::read_next(const std::shared_ptr<ReadInFlight>& read) {
  const DiskRead& part = read->plan.reads[read->started++];
  const PoolDisk& disk = options_.disks[part.disk];
  disk.disk->read(disk.data.offset + part.offset, part.into.bytes,
                  [this, read, session = std::weak_ptr(session_)](Status status) {
                    --read->left;
                    if (!status && !read->error) read->error = std::move(status.error());
                    if (session.expired() && !read->error) {
                      read->error = {ErrorCode::cancelled, "the pool was closed"};
                    }
                    // After an error nothing more is started.
                    std::size_t never = read->plan.reads.size() - read->started;
                    if (!read->error && never > 0) return read_next(read);
                    if (read->left > (read->error ? never : 0)) return;
                    if (!session.expired()) return read_done(read);
                    read->done(fail(ErrorCode::cancelled, "the pool was closed"));
                  });
}

void ExtentPool::read_done(const std::shared_ptr<ReadInFlight>& read) {
  if (read->error && read->error->code == ErrorCode::reservation_conflict) {
    std::weak_ptr session = session_;
    fence(read->error->message);
    if (session.expired()) return read->done(fail(ErrorCode::cancelled, "the pool was closed"));
  }
  if (read->error) return read->done(std::unexpected(*read->error));
  // The extents of a LUN that was deleted meanwhile may hold another one's data.
  const Lun* lun = table_.find(read->lun);
  if (lun == nullptr || lun->instance != read->instance) {
    return read->done(fail(ErrorCode::not_found, "the LUN was deleted"));
  }
  keep(*read);
  read->done(std::move(read->plan.data));
}

// Keeps what was read, unless the disks may have got something newer since it was asked for: then
// it was in a dirty cache for a while, and is there still or `flushes_` has changed.
void ExtentPool::keep(const ReadInFlight& read) {
  if (state_ != StorageState::active || read.flushes != flushes_ || read.length > cached_read_max) {
    return;
  }
  const std::uint64_t extent_size = superblock_.geometry.extent_size;
  for (const DiskRead& part : read.plan.reads) {
    Bytes bytes = part.into.bytes;
    std::uint64_t skip = (block_size - part.lun_offset % block_size) % block_size;
    for (std::uint64_t at = skip; at + block_size <= bytes.size(); at += block_size) {
      std::uint64_t offset = part.lun_offset + at;
      auto extent = static_cast<std::uint32_t>(offset / extent_size);
      auto block = static_cast<std::uint32_t>(offset % extent_size / block_size);
      auto changed = [&](const DirtyCache& cache) {
        const DirtyExtent* changes = cache.find(read.instance, extent);
        return changes != nullptr && (changes->zeroed != 0 || changes->blocks.contains(block));
      };
      if (changed(dirty_) || (point_ && changed(point_->dirty()))) continue;
      clean_cache_.insert(read.instance, offset / block_size, bytes.subspan(at, block_size));
    }
  }
}

// After a write of a consistency point: the clean cache knows what the disk now has.
void ExtentPool::keep(const DiskWrite& write) {
  std::uint64_t offset = write.lun_offset;
  for (const Slice& slice : write.data) {
    for (std::uint64_t at = 0; at < slice.bytes.size();) {
      std::uint64_t part =
          std::min<std::uint64_t>(block_size - offset % block_size, slice.bytes.size() - at);
      if (part == block_size && slice.bytes.size() == block_size) {
        clean_cache_.insert(write.lun, offset / block_size, slice.bytes);
      } else {
        clean_cache_.erase(write.lun, offset / block_size);
      }
      at += part;
      offset += part;
    }
  }
}

}  // namespace duet::filesystem
