// What `duet disk list` shows: label and reservation of every disk, read when asked.
#pragma once

#include <functional>

#include "admin/control.h"
#include "node/config.h"
#include "node/supervisor.h"

namespace duet::node {

// Reads all disks at once; `done` comes when every disk has answered or failed.
void report_disks(const Config& config, Supervisor::Ports& ports,
                  std::function<void(admin::DiskReport)> done);

}  // namespace duet::node
