// Where the bytes of a read come from: the generations of changes, newest first, then zeros for
// chunks never written, then the clean cache, then the disks. Pure; the disks' part is filled in by
// whoever reads them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "filesystem/clean_cache.h"
#include "filesystem/dirty_cache.h"
#include "filesystem/lun_table.h"

namespace duet::filesystem {

struct DiskRead {
  std::size_t disk = 0;
  std::uint64_t offset = 0;      // bytes from the start of the disk's data area
  std::uint64_t lun_offset = 0;  // bytes
  OwnedBuffer into;
};

struct ReadPlan {
  std::vector<Slice> data;  // all of it, in order; complete when `reads` are
  std::vector<DiskRead> reads;
};

// Requires: sectors inside the LUN.
ReadPlan plan_read(const PoolGeometry& geometry, const Lun& lun, std::uint64_t offset,
                   std::uint64_t length, std::span<const DirtyCache* const> generations,
                   CleanCache& clean);

}  // namespace duet::filesystem
