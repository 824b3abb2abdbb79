// Reading a pool's metadata from its disks, and making that of a new pool.
#pragma once

#include <optional>
#include <vector>

#include "filesystem/pool_format.h"
#include "ports/disk.h"

namespace duet::filesystem {

// A disk of a pool as its label describes it. The disk outlives whoever it is given to.
struct PoolDisk {
  ports::Disk* disk = nullptr;
  DiskId id;
  disk::Area data;
};

struct PoolMetadata {
  Superblock superblock;
  // Nothing if the table is the one of the `known` superblock.
  std::optional<std::vector<LunEntry>> luns;
};

// `disks` in the order of their positions, all of them. Reads only. `known`: a superblock read
// earlier, whose LUN table need not be read again if it is still the same. Errors: not_found (no
// pool here), invalid (damaged, another pool, other disks), unsupported_version, and those of the
// disks; a medium error is one only if it hits every copy.
void load_pool_metadata(ports::Scheduler& scheduler, std::vector<PoolDisk> disks,
                        const disk::PoolId& pool, const std::optional<Superblock>& known,
                        ports::Done<PoolMetadata> done);

struct PoolFormatOptions {
  std::uint32_t extent_size = 4 << 20;    // bytes
  std::uint64_t table_reserve = 1 << 20;  // bytes for the LUN table besides its extents
};

// The geometry that a new pool on these disks has. Errors: no_space (a disk is too small), invalid.
Result<PoolGeometry> plan_pool(const std::vector<PoolDisk>& disks, const disk::PoolId& pool,
                               const PoolFormatOptions& options);
// Writes the metadata of a new pool without LUNs; what was there before is lost. Durable when done.
// Requires: a geometry from plan_pool with these disks.
void format_pool(std::vector<PoolDisk> disks, const PoolGeometry& geometry, ports::Done<void> done);

}  // namespace duet::filesystem
