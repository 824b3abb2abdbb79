#include "node/disk_report.h"

#include <fmt/format.h>

#include "disk/areas.h"
#include "disk/label.h"
#include "disk/reservation_key.h"

namespace duet::node {
namespace {

struct Gathering {
  admin::DiskReport report;
  std::size_t waiting = 0;
  std::function<void(admin::DiskReport)> done;
  void arrived() {
    if (--waiting == 0) done(std::move(report));
  }
};

std::string_view type_name(ports::ReservationType type) {
  using enum ports::ReservationType;
  switch (type) {
    case write_exclusive:
      return "write exclusive";
    case exclusive_access:
      return "exclusive access";
    case write_exclusive_registrants_only:
      return "write exclusive, registrants only";
    case exclusive_access_registrants_only:
      return "exclusive access, registrants only";
    case write_exclusive_all_registrants:
      return "write exclusive, all registrants";
    case exclusive_access_all_registrants:
      return "exclusive access, all registrants";
  }
  return "type unknown";
}

std::string label_text(Bytes both_copies) {
  auto copy = [&](int n) {
    return both_copies.subspan(disk::label_copy(n).offset, disk::label_copy(n).size);
  };
  auto chosen = disk::choose_label(copy(0), copy(1));
  if (!chosen) return chosen.error().message;
  const auto& label = chosen->label;
  return fmt::format("{} {} of pool {}, home node {}{}", disk::name(label.role), label.position,
                     label.pool_name, label.owner.value(), label.mailbox ? ", mailbox" : "");
}

void look_at(ports::Disk& disk, std::size_t index, const std::shared_ptr<Gathering>& gathering) {
  auto labels = std::make_shared<std::vector<std::byte>>(disk::label_area.size);
  disk.read(disk::label_area.offset, *labels, [=](Result<void> r) {
    gathering->report.disks[index].label = r ? label_text(*labels) : r.error().message;
    gathering->arrived();
  });
  disk.read_reservation([=](Result<ports::ReservationState> r) {
    auto& text = gathering->report.disks[index].reservation;
    if (!r) {
      text = r.error().message;
    } else if (!r->reserved) {
      text = "none";
    } else {
      text = fmt::format("{} by {}", type_name(r->type), disk::describe(r->holder));
    }
    gathering->arrived();
  });
}

}  // namespace

void report_disks(const Config& config, Supervisor::Ports& ports,
                  std::function<void(admin::DiskReport)> done) {
  auto gathering = std::make_shared<Gathering>();
  gathering->done = std::move(done);
  for (std::uint8_t owner : {1, 2}) {
    for (std::size_t i = 0; i < ports.disks[owner].size(); ++i) {
      const auto& disk = *ports.disks[owner][i];
      admin::DiskItem item;
      item.owner = NodeId(owner);
      item.lun = config.shelves[owner].luns[i];
      item.path = disk.name();
      item.connected = disk.connected();
      item.size = disk.geometry().size;
      item.serial = disk.geometry().serial;
      gathering->report.disks.push_back(std::move(item));
    }
  }
  gathering->waiting = 2 * gathering->report.disks.size();
  std::size_t index = 0;
  for (std::uint8_t owner : {1, 2}) {
    for (auto* disk : ports.disks[owner]) look_at(*disk, index++, gathering);
  }
}

}  // namespace duet::node
