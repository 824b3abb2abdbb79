// `duet init`: labels, mailbox and an empty pool on this node's own shelf.
#pragma once

#include <string>

#include "base/result.h"
#include "node/config.h"

namespace duet::cli {

// What was done, for people. Errors: refused (the disks are in use, or have labels and `force` is
// not set; nothing was changed), io_error and others of the disks.
Result<std::string> initialize(const node::Config& config, bool force);

}  // namespace duet::cli
