// From the disks of an identity to the disks of its pool: reads and checks the labels.
#pragma once

#include <vector>

#include "base/ids.h"
#include "disk/label.h"
#include "filesystem/pool_metadata.h"
#include "ports/disk.h"

namespace duet::node {

struct LabelledPool {
  disk::PoolId pool{};
  std::vector<filesystem::PoolDisk> disks;  // by position
};

// Errors: invalid (a label is missing, damaged, of another cluster or owner, or disks of different
// pools; the message names the disk and the cure), and those of the disks.
void read_pool_disks(const std::vector<ports::Disk*>& disks, ClusterId cluster, NodeId identity,
                     ports::Done<LabelledPool> done);

}  // namespace duet::node
