// The commands about the pool of an identity: pool, volume, snapshot, lun clone, and what changes
// disks. Each is one order to the node that serves the identity (admin::PoolOrder).
#pragma once

#include "admin/control.h"
#include "arguments.h"
#include "target.h"

namespace duet::cli {

int pool_status(const Target& target, const Arguments& arguments);
int pool_check(const Target& target, const Arguments& arguments);
int show_volumes(const Target& target, const Arguments& arguments);
int show_snapshots(const Target& target, const Arguments& arguments);
// Done, or why not; nothing to show.
int pool_change(const Target& target, const Arguments& arguments, admin::PoolVerb verb);

}  // namespace duet::cli
