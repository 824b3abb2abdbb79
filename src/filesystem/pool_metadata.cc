#include "filesystem/pool_metadata.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"
#include "base/crc32c.h"

namespace duet::filesystem {
namespace {

constexpr std::uint64_t superblocks_size = 2 * block_size;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Calls `done` with all results when `count` operations have ended.
class Gather {
 public:
  using AllDone = std::move_only_function<void(std::vector<Status>)>;
  Gather(std::size_t count, AllDone done) : results_(count), left_(count), done_(std::move(done)) {}
  void set(std::size_t index, Status status) {
    results_[index] = std::move(status);
    if (--left_ == 0) done_(std::move(results_));
  }

 private:
  std::vector<Status> results_;
  std::size_t left_;
  AllDone done_;
};

Status check_disks(const std::vector<PoolDisk>& disks) {
  if (disks.empty() || disks.size() > max_pool_disks) {
    return fail(ErrorCode::invalid, "a pool has 1 to 64 disks");
  }
  for (const PoolDisk& disk : disks) {
    if (disk.disk->geometry().block_size != sector_size) {
      return fail(ErrorCode::invalid,
                  "disk " + disk.disk->name() + " cannot be used: its blocks are not of 512 bytes");
    }
    if (disk.data.offset % block_size != 0 || disk.data.size > disk::max_disk_size ||
        disk.data.end() > disk.disk->geometry().size) {
      return fail(ErrorCode::invalid,
                  "disk " + disk.disk->name() + " is smaller than its label says");
    }
  }
  return {};
}

Status check_members(const PoolGeometry& geometry, const std::vector<PoolDisk>& disks) {
  if (geometry.disks.size() != disks.size()) {
    return fail(ErrorCode::invalid, "the pool has " + std::to_string(geometry.disks.size()) +
                                        " disks, not " + std::to_string(disks.size()));
  }
  for (std::size_t i = 0; i < disks.size(); ++i) {
    if (geometry.disks[i].id != disks[i].id) {
      return fail(ErrorCode::invalid, "disk " + disks[i].disk->name() + " is not disk " +
                                          std::to_string(i) + " of the pool");
    }
    if (disks[i].data.size < geometry.extent_address(geometry.disks[i].extents)) {
      return fail(ErrorCode::invalid, "disk " + disks[i].disk->name() + " has become smaller");
    }
  }
  return {};
}

class Loader : public std::enable_shared_from_this<Loader> {
 public:
  Loader(std::vector<PoolDisk> disks, const disk::PoolId& pool, std::optional<Superblock> known,
         ports::Done<PoolMetadata> done)
      : disks_(std::move(disks)), pool_(pool), known_(std::move(known)), done_(std::move(done)) {}

  void start() {
    std::size_t copies = std::min(disks_.size(), max_metadata_disks);
    for (std::size_t i = 0; i < copies; ++i) slots_.push_back(make_buffer(superblocks_size));
    auto gather = std::make_shared<Gather>(
        copies, [self = shared_from_this()](auto results) { self->on_slots(std::move(results)); });
    for (std::size_t i = 0; i < copies; ++i) {
      disks_[i].disk->read(disks_[i].data.offset, slots_[i].bytes,
                           [gather, i](Status status) { gather->set(i, std::move(status)); });
    }
  }

 private:
  // The highest valid superblock.
  Result<Superblock> choose(const std::vector<Status>& results) const {
    std::optional<Superblock> best;
    Error error{ErrorCode::not_found, "no pool on these disks"};
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (!results[i]) {
        MARK(superblock_unreadable);
        // A copy that may be read later could be newer; one on a bad sector is not (C5).
        if (results[i].error().code != ErrorCode::io_error)
          return std::unexpected(results[i].error());
        error = results[i].error();
        continue;
      }
      for (std::uint64_t slot = 0; slot < 2; ++slot) {
        auto found =
            decode_superblock(Bytes(slots_[i].bytes).subspan(slot * block_size, block_size));
        if (found && found->geometry.pool != pool_) {
          found = fail(ErrorCode::invalid, "disk " + disks_[i].disk->name() + " has another pool");
        }
        if (found && (found->generation & 1) != slot) {
          MARK(superblock_in_wrong_slot);
          found = fail(ErrorCode::invalid, "pool metadata: superblock in the wrong slot");
        }
        if (!found) {
          if (found.error().code == ErrorCode::unsupported_version) return found;
          if (found.error().code != ErrorCode::not_found) error = found.error();
          continue;
        }
        if (!best || found->generation > best->generation) best = std::move(*found);
      }
    }
    if (!best) return std::unexpected(error);
    return std::move(*best);
  }

  void on_slots(std::vector<Status> results) {
    auto chosen = choose(results);
    if (!chosen) return done_(std::unexpected(chosen.error()));
    if (auto status = check_members(chosen->geometry, disks_); !status) {
      return done_(std::unexpected(status.error()));
    }
    metadata_.superblock = std::move(*chosen);
    const Superblock& now = metadata_.superblock;
    if (known_ && known_->table_generation == now.table_generation &&
        known_->table_crc == now.table_crc && known_->geometry == now.geometry) {
      return done_(std::move(metadata_));
    }
    read_table(0);
  }

  void read_table(std::size_t copy) {
    const Superblock& superblock = metadata_.superblock;
    const PoolDisk& disk = disks_[copy];
    table_ = make_buffer(round_up(superblock.table_size, block_size));
    disk.disk->read(disk.data.offset + superblock.geometry.table_address(superblock.table_slot),
                    table_.bytes, [self = shared_from_this(), copy](Status status) {
                      self->on_table(copy, std::move(status));
                    });
  }

  void on_table(std::size_t copy, Status status) {
    Result<std::vector<LunEntry>> luns;
    if (status) {
      luns = decode_lun_table(metadata_.superblock,
                              Bytes(table_.bytes).first(metadata_.superblock.table_size));
    } else {
      luns = std::unexpected(status.error());
      MARK(lun_table_unreadable);
    }
    if (luns) {
      metadata_.luns = std::move(*luns);
      return done_(std::move(metadata_));
    }
    if (copy + 1 < slots_.size()) return read_table(copy + 1);
    done_(std::unexpected(luns.error()));
  }

  std::vector<PoolDisk> disks_;
  disk::PoolId pool_;
  std::optional<Superblock> known_;
  ports::Done<PoolMetadata> done_;
  std::vector<OwnedBuffer> slots_;
  OwnedBuffer table_;
  PoolMetadata metadata_;
};

using Writes = std::vector<std::pair<std::uint64_t, std::vector<std::byte>>>;  // offset, bytes

// Writes the same to the metadata area of every disk that has one, durably.
void write_everywhere(const std::vector<PoolDisk>& disks, std::size_t copies, Writes writes,
                      ports::Done<void> done) {
  auto gather = std::make_shared<Gather>(
      copies * writes.size(), [done = std::move(done)](std::vector<Status> results) mutable {
        auto failed = std::ranges::find_if(results, [](const Status& s) { return !s; });
        done(failed == results.end() ? Status{} : std::move(*failed));
      });
  std::size_t index = 0;
  for (auto& [offset, bytes] : writes) {
    Slice slice = copy_to_slice(bytes);
    for (std::size_t i = 0; i < copies; ++i, ++index) {
      disks[i].disk->write(disks[i].data.offset + offset, {slice}, true,
                           [gather, index](Status s) { gather->set(index, std::move(s)); });
    }
  }
}

}  // namespace

void load_pool_metadata(ports::Scheduler& scheduler, std::vector<PoolDisk> disks,
                        const disk::PoolId& pool, const std::optional<Superblock>& known,
                        ports::Done<PoolMetadata> done) {
  if (auto status = check_disks(disks); !status) {
    scheduler.post([error = status.error(), done = std::move(done)]() mutable {
      done(std::unexpected(error));
    });
    return;
  }
  std::make_shared<Loader>(std::move(disks), pool, known, std::move(done))->start();
}

Result<PoolGeometry> plan_pool(const std::vector<PoolDisk>& disks, const disk::PoolId& pool,
                               const PoolFormatOptions& options) {
  if (auto status = check_disks(disks); !status) return std::unexpected(status.error());
  if (options.extent_size < min_extent_size || options.extent_size > max_extent_size ||
      (options.extent_size & (options.extent_size - 1)) != 0) {
    return fail(ErrorCode::invalid, "an extent has 256 KiB to 64 MiB, a power of two");
  }
  PoolGeometry geometry;
  geometry.pool = pool;
  geometry.extent_size = options.extent_size;
  std::uint64_t extents_max = 0;
  for (const PoolDisk& disk : disks) extents_max += disk.data.size / options.extent_size;
  if (extents_max > max_pool_extents) {
    return fail(ErrorCode::invalid, "a pool has at most " + std::to_string(max_pool_extents) +
                                        " extents: choose larger ones");
  }
  geometry.table_slot_size = round_up(options.table_reserve + extents_max * 16, block_size);
  geometry.extents_offset =
      round_up(table_area_offset + 2 * geometry.table_slot_size, table_area_offset);
  for (const PoolDisk& disk : disks) {
    if (disk.data.size < geometry.extent_address(1)) {
      return fail(ErrorCode::no_space, "disk " + disk.disk->name() + " is too small for a pool: " +
                                           std::to_string(geometry.extent_address(1)) +
                                           " bytes of data area are needed");
    }
    geometry.disks.push_back(
        {disk.id, static_cast<std::uint32_t>((disk.data.size - geometry.extents_offset) /
                                             geometry.extent_size)});
  }
  return geometry;
}

void format_pool(std::vector<PoolDisk> disks, const PoolGeometry& geometry,
                 ports::Done<void> done) {
  ASSERT(disks.size() == geometry.disks.size());
  Superblock superblock;
  superblock.geometry = geometry;
  auto table = encode_lun_table(superblock, {});
  superblock.table_size = table.size();
  superblock.table_crc = crc32c(table);
  table.resize(round_up(table.size(), block_size));
  const std::size_t copies = geometry.metadata_disks();
  Writes first;
  first.emplace_back(0, std::vector<std::byte>(superblocks_size));  // an older pool's
  first.emplace_back(geometry.table_address(0), std::move(table));
  Writes second;
  second.emplace_back(superblock_address(1), encode_superblock(superblock));
  auto then = [disks, copies, second = std::move(second),
               done = std::move(done)](Status status) mutable {
    if (!status) return done(std::move(status));
    write_everywhere(disks, copies, std::move(second), std::move(done));
  };
  write_everywhere(disks, copies, std::move(first), std::move(then));
}

}  // namespace duet::filesystem
