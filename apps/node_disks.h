// The disks of a shelf as a process of a node opens them; shared by the programs of a node.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "disk/reservation_key.h"
#include "node/config.h"
#include "platform/iscsi_disk.h"

namespace duet {

using Shelf = std::vector<std::unique_ptr<platform::IscsiDisk>>;

// In the order of the configuration; not started. Node and role make the nexus: the same after
// every restart.
inline Shelf open_shelf(platform::EventLoop& loop, const node::Config& config, NodeId owner,
                        disk::KeyRole role, Duration command_timeout) {
  Shelf disks;
  const auto& shelf = config.shelves[owner.value()];
  for (auto lun : shelf.luns) {
    platform::IscsiDiskOptions options;
    options.session.portal = shelf.portal;
    options.session.target = shelf.iqn;
    options.session.initiator = "iqn.2026-11.org.duet:node." + config.name_of(config.self);
    options.session.isid.node = config.self.value();
    options.session.isid.role = static_cast<std::uint8_t>(role);
    options.lun = static_cast<std::uint8_t>(lun);
    options.name = fmt::format("{}/{}", config.name_of(owner), lun);
    options.command_timeout = command_timeout;
    disks.push_back(std::make_unique<platform::IscsiDisk>(loop, std::move(options)));
  }
  return disks;
}

}  // namespace duet
