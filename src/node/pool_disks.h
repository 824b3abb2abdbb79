// From the disks of an identity to the disks of its pool: reads and checks the labels.
#pragma once

#include <vector>

#include "base/ids.h"
#include "disk/label.h"
#include "pool/pool.h"
#include "ports/disk.h"

namespace duet::node {

struct LabelledPool {
  disk::PoolId pool{};
  std::vector<pool::Pool::Disk> disks;  // of the pool and its spares, that could be read
  std::vector<std::string> missing;     // why others could not: "disk ...: ..."
};

// A disk that cannot be read, or whose label is damaged or gone, is missing: whether the pool can
// do without is for the pool to say. Errors: invalid (a label of another cluster, owner or pool;
// the message names the disk and the cure), reservation_conflict, and those of the disks if no disk
// of a pool is left.
void read_pool_disks(const std::vector<ports::Disk*>& disks, ClusterId cluster, NodeId identity,
                     ports::Done<LabelledPool> done);

// The same of one disk more of a pool that is open: it may be a spare, and none if it is for dumps.
void read_returned_disk(ports::Disk& disk, ClusterId cluster, NodeId identity,
                        ports::Done<LabelledPool> done);

// Writes a label on a disk that bears none. Error: refused (it bears one, or did), and those of the
// disk.
void label_blank_disk(ports::Disk& disk, const disk::Label& label, ports::Done<void> done);

}  // namespace duet::node
