#include "filesystem/consistency_point.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"

namespace duet::filesystem {
namespace {

// Collects pieces in ascending order into as few writes as possible.
class WriteBuilder {
 public:
  WriteBuilder(DiskWrite base, std::vector<DiskWrite>& writes)
      : base_(std::move(base)), writes_(writes) {}
  // `at`: bytes in the extent.
  void add(std::uint64_t at, Slice slice) {
    std::uint64_t size = slice.bytes.size();
    if (writes_.empty() || at != end_ || size_ + size > max_disk_write ||
        writes_.back().data.size() == max_disk_write_slices) {
      DiskWrite write = base_;
      write.offset += at;
      write.lun_offset += at;
      writes_.push_back(std::move(write));
      size_ = 0;
    }
    writes_.back().data.push_back(std::move(slice));
    size_ += size;
    end_ = at + size;
  }

 private:
  DiskWrite base_;
  std::vector<DiskWrite>& writes_;
  std::uint64_t end_ = 0;
  std::uint64_t size_ = 0;
};

// The sectors of a block that are valid, and zeros for the others if `fill`.
void add_block(WriteBuilder& builder, std::uint64_t at, const DirtyBlock& block, bool fill) {
  for (std::uint32_t i = 0; i < sectors_per_block;) {
    bool valid = (block.valid >> i & 1) != 0;
    std::uint32_t end = i + 1;
    while (end < sectors_per_block && ((block.valid >> end & 1) != 0) == valid) ++end;
    std::uint64_t start = std::uint64_t{i} * sector_size,
                  size = std::uint64_t{end - i} * sector_size;
    if (valid) {
      builder.add(at + start, {block.slice.owner, block.slice.bytes.subspan(start, size)});
    } else if (fill) {
      std::vector<Slice> zeros;
      append_zeros(zeros, size);
      for (Slice& slice : zeros) builder.add(at + start, std::move(slice));
    }
    i = end;
  }
}

}  // namespace

std::uint64_t initialised_after(const PoolGeometry& geometry, std::uint64_t before,
                                const DirtyExtent& changes) {
  std::uint64_t after = before & ~changes.zeroed;
  const std::uint32_t blocks_per_chunk = geometry.chunk_size() / block_size;
  for (const auto& [number, block] : changes.blocks) {
    after |= std::uint64_t{1} << (number / blocks_per_chunk);
  }
  return after;
}

std::vector<DiskWrite> plan_extent(const PoolGeometry& geometry, const Lun& lun,
                                   std::uint32_t extent, const DirtyExtent& changes) {
  const ExtentPlace& place = lun.extents[extent];
  std::vector<DiskWrite> writes;
  WriteBuilder builder({place.disk,
                        geometry.extent_address(place.extent),
                        {},
                        lun.instance,
                        std::uint64_t{extent} * geometry.extent_size},
                       writes);
  const std::uint64_t on_disk = place.initialised & ~changes.zeroed;
  const std::uint32_t blocks_per_chunk = geometry.chunk_size() / block_size;
  static const DirtyBlock nothing;
  for (auto it = changes.blocks.begin(); it != changes.blocks.end();) {
    std::uint32_t chunk = it->first / blocks_per_chunk;
    std::uint32_t end = (chunk + 1) * blocks_per_chunk;
    if ((on_disk >> chunk & 1) != 0) {
      for (; it != changes.blocks.end() && it->first < end; ++it) {
        add_block(builder, std::uint64_t{it->first} * block_size, it->second, false);
      }
      continue;
    }
    for (std::uint32_t block = chunk * blocks_per_chunk; block < end; ++block) {
      bool changed = it != changes.blocks.end() && it->first == block;
      add_block(builder, std::uint64_t{block} * block_size, changed ? it->second : nothing, true);
      if (changed) ++it;
    }
  }
  return writes;
}

ConsistencyPoint::ConsistencyPoint(Plan plan, OnWritten on_written)
    : plan_(std::move(plan)),
      on_written_(std::move(on_written)),
      writes_in_flight_(plan_.disks.size()) {
  durable_ = plan_.dirty.blocks() <= small_blocks;
}

void ConsistencyPoint::run(std::function<void(Status)> done) {
  ASSERT(in_flight_ == 0 && !done_);
  done_ = std::move(done);
  error_.reset();
  to_flush_.clear();
  start(Round::data);
}

void ConsistencyPoint::queue_metadata(std::uint64_t offset, std::vector<std::byte> bytes) {
  bytes.resize((bytes.size() + block_size - 1) / block_size * block_size);
  Slice all = copy_to_slice(bytes);
  for (std::size_t disk = 0; disk < plan_.superblock.geometry.metadata_disks(); ++disk) {
    for (std::uint64_t at = 0; at < all.bytes.size(); at += max_disk_write) {
      std::uint64_t size = std::min(max_disk_write, all.bytes.size() - at);
      queue_.push_back({disk, offset + at, {{all.owner, all.bytes.subspan(at, size)}}, {}, 0});
    }
  }
}

void ConsistencyPoint::start(Round round) {
  round_ = round;
  queue_.clear();
  const Superblock& superblock = plan_.superblock;
  switch (round) {
    case Round::data:
      if (!plan_.table.empty()) {
        queue_metadata(superblock.geometry.table_address(superblock.table_slot), plan_.table);
      }
      lun_ = plan_.dirty.luns().begin();
      if (lun_ != plan_.dirty.luns().end()) extent_ = lun_->second.begin();
      break;
    case Round::flush:
      in_flight_ = to_flush_.size();
      for (std::size_t disk : to_flush_) {
        plan_.disks[disk].disk->flush([self = weak_from_this()](Status status) {
          if (auto point = self.lock()) point->on_done(std::move(status));
        });
      }
      break;
    case Round::superblock:
      queue_metadata(superblock_address(superblock.generation), encode_superblock(superblock));
      break;
  }
  pump();
}

// Plans the next extent: one at a time, so that a large generation does not hold up the event loop.
bool ConsistencyPoint::plan_more() {
  if (round_ != Round::data || queue_.size() >= lookahead_max) return false;
  while (lun_ != plan_.dirty.luns().end() && extent_ == lun_->second.end()) {
    if (++lun_ != plan_.dirty.luns().end()) extent_ = lun_->second.begin();
  }
  if (lun_ == plan_.dirty.luns().end()) return false;
  const Lun& lun = *plan_.luns.at(lun_->first);
  for (DiskWrite& write :
       plan_extent(plan_.superblock.geometry, lun, extent_->first, extent_->second)) {
    queue_.push_back(std::move(write));
  }
  ++extent_;
  return true;
}

// The first write whose disk has room for it.
std::optional<DiskWrite> ConsistencyPoint::next_write() {
  do {
    auto next = std::ranges::find_if(queue_, [this](const DiskWrite& write) {
      return writes_in_flight_[write.disk] < writes_in_flight_per_disk;
    });
    if (next != queue_.end()) {
      DiskWrite write = std::move(*next);
      queue_.erase(next);
      return write;
    }
  } while (plan_more());
  return {};
}

void ConsistencyPoint::pump() {
  while (!error_) {
    auto write = next_write();
    if (!write) break;
    issue(std::move(*write));
  }
  if (in_flight_ == 0) end_round();
}

void ConsistencyPoint::end_round() {
  if (error_ || round_ == Round::superblock) {
    auto done = std::exchange(done_, nullptr);
    done(error_ ? Status(std::unexpected(*error_)) : Status());
  } else if (round_ == Round::data && !to_flush_.empty()) {
    MARK(consistency_point_flushes_caches);
    start(Round::flush);
  } else {
    start(Round::superblock);
  }
}

void ConsistencyPoint::issue(DiskWrite write) {
  const PoolDisk& disk = plan_.disks[write.disk];
  const bool durable = durable_ || round_ == Round::superblock;
  if (!durable && disk.disk->geometry().volatile_cache) to_flush_.insert(write.disk);
  ++in_flight_;
  ++writes_in_flight_[write.disk];
  std::uint64_t offset = disk.data.offset + write.offset;
  auto data = write.data;
  disk.disk->write(offset, std::move(data), durable,
                   [self = weak_from_this(), write = std::move(write)](Status status) {
                     auto point = self.lock();
                     if (!point) return;
                     --point->writes_in_flight_[write.disk];
                     if (status && write.lun != LunInstance()) point->on_written_(write);
                     point->on_done(std::move(status));
                   });
}

void ConsistencyPoint::on_done(Status status) {
  --in_flight_;
  // Of several errors the one that says that we are fenced out counts.
  if (!status && (!error_ || status.error().code == ErrorCode::reservation_conflict)) {
    error_ = std::move(status.error());
  }
  pump();
}

}  // namespace duet::filesystem
