// A consistency point under way (docs/protocols/consistency_point.md): one generation of changes
// goes to the disks, then the superblock that names it. Rounds: data and LUN table, flush of
// volatile caches, superblock; a small one writes through the caches instead of flushing them. May
// be run again after it failed: it writes the same bytes to the same places.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "filesystem/dirty_cache.h"
#include "filesystem/lun_table.h"
#include "filesystem/pool_metadata.h"

namespace duet::filesystem {

struct DiskWrite {
  std::size_t disk = 0;
  std::uint64_t offset = 0;  // bytes from the start of the disk's data area
  std::vector<Slice> data;
  LunInstance lun;               // whose data it is; 0: metadata
  std::uint64_t lun_offset = 0;  // bytes
};

inline constexpr std::uint64_t max_disk_write = 1 << 20;  // bytes
inline constexpr std::size_t max_disk_write_slices = 256;

// The writes that bring the changes of one extent to its disk: the changed sectors; whole chunks,
// filled up with zeros, where the chunk was not initialised.
std::vector<DiskWrite> plan_extent(const PoolGeometry& geometry, const Lun& lun,
                                   std::uint32_t extent, const DirtyExtent& changes);
// Which chunks are initialised once these writes are done.
std::uint64_t initialised_after(const PoolGeometry& geometry, std::uint64_t before,
                                const DirtyExtent& changes);

class ConsistencyPoint : public std::enable_shared_from_this<ConsistencyPoint> {
 public:
  struct Plan {
    std::vector<PoolDisk> disks;
    DirtyCache dirty;
    std::map<LunInstance, std::shared_ptr<const Lun>> luns;  // those in `dirty`
    Superblock superblock;                                   // to be written
    std::vector<std::byte> table;                            // empty: unchanged
  };
  using OnWritten = std::function<void(const DiskWrite&)>;

  // `on_written`: after each write of data that reached a disk.
  ConsistencyPoint(Plan plan, OnWritten on_written);

  // `done` when the superblock is durable everywhere, or with the first error, when nothing is
  // under way any more. Requires: not running. Nothing further happens once the object is gone.
  void run(std::function<void(Status)> done);
  const DirtyCache& dirty() const { return plan_.dirty; }
  const Superblock& superblock() const { return plan_.superblock; }

  static constexpr std::size_t writes_in_flight_per_disk = 8;
  static constexpr std::size_t lookahead_max = 256;  // writes planned for disks that are behind
  static constexpr std::uint64_t small_blocks = 16;  // up to here: through the caches

 private:
  enum class Round { data, flush, superblock };
  std::optional<DiskWrite> next_write();
  bool plan_more();
  void queue_metadata(std::uint64_t offset, std::vector<std::byte> bytes);
  void start(Round round);
  void pump();
  void issue(DiskWrite write);
  void on_done(Status status);
  void end_round();

  Plan plan_;
  OnWritten on_written_;
  std::function<void(Status)> done_;
  Round round_{};
  bool durable_ = false;                                 // data round writes through the caches
  std::map<LunInstance, DirtyLun>::const_iterator lun_;  // cursor of the data round
  DirtyLun::const_iterator extent_;
  std::deque<DiskWrite> queue_;
  std::set<std::size_t> to_flush_;  // disks
  std::size_t in_flight_ = 0;
  std::vector<std::size_t> writes_in_flight_;  // by disk
  std::optional<Error> error_;
};

}  // namespace duet::filesystem
