// `duet init`: labels, mailbox and an empty pool on this node's own shelf.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "base/result.h"
#include "node/config.h"
#include "raid/layout.h"

namespace duet::cli {

struct InitializeOptions {
  bool force = false;                          // also if the disks have Duet labels
  std::optional<raid::Protection> protection;  // nothing: RAID 4 if there are disks enough for it
  std::size_t spares = 0;                      // of the disks, the last ones
};
// What was done, for people. Errors: refused (the disks are in use, or have labels and `force` is
// not set; nothing was changed), invalid (too few disks), io_error and others of the disks.
Result<std::string> initialize(const node::Config& config, const InitializeOptions& options);

}  // namespace duet::cli
