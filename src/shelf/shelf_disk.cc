#include "shelf/shelf_disk.h"

#include <utility>

#include "scsi/sense.h"

namespace duet::shelf {

ShelfDisk::ShelfDisk(scsi::TargetDevice& device, LunNumber lun, scsi::UnitConfig unit,
                     StoreConfig store, Answer answer)
    : device_(device),
      lun_(lun),
      unit_config_(std::move(unit)),
      store_config_(std::move(store)),
      answer_(std::move(answer)) {}

Result<std::unique_ptr<ShelfDisk>> ShelfDisk::open(scsi::TargetDevice& device, LunNumber lun,
                                                   scsi::UnitConfig unit, StoreConfig store,
                                                   ports::Scheduler& scheduler, Workers& workers,
                                                   Answer answer) {
  auto file = DiskFile::open(store.data, store.size);
  if (!file) return std::unexpected(file.error());
  std::unique_ptr<ShelfDisk> disk(
      new ShelfDisk(device, lun, std::move(unit), store, std::move(answer)));
  auto reservations = disk->load_reservations();
  if (!reservations) return std::unexpected(reservations.error());
  disk->store_ = std::make_unique<FileStore>(std::move(store), std::move(*file), scheduler, workers,
                                             [raw = disk.get()] { raw->on_store_ready(); });
  device.add(lun, scsi::LogicalUnit(disk->unit_config_, std::move(*reservations)));
  return disk;
}

// A damaged file is an error, not "no reservations": that would unfence a node.
Result<scsi::Reservations> ShelfDisk::load_reservations() const {
  auto content = load_file(store_config_.reservations);
  if (!content) return std::unexpected(content.error());
  if (!*content) return scsi::Reservations{};
  auto parsed = scsi::Reservations::parse(**content);
  if (!parsed)
    return fail(parsed.error().code,
                store_config_.reservations.string() + ": " + parsed.error().message);
  return parsed;
}

void ShelfDisk::take(std::move_only_function<void()> event, std::optional<scsi::CommandTag> command,
                     const scsi::Nexus& nexus) {
  if (hanging_)
    kept_.push_back({std::move(event), command, nexus});
  else
    event();
}

// Nobody waits for them any more, and a hanging disk must not keep the initiator from coming back.
void ShelfDisk::drop_kept_commands(const scsi::Nexus& nexus) {
  std::vector<scsi::CommandTag> dropped;
  std::erase_if(kept_, [&](const Kept& kept) {
    const bool drop = kept.command && kept.nexus == nexus;
    if (drop) dropped.push_back(*kept.command);
    return drop;
  });
  for (auto tag : dropped) answer_(scsi::CommandAborted{tag});
}

void ShelfDisk::perform(scsi::Actions&& actions) {
  // Much store work is done at once; its completions are fed back until nothing moves.
  for (;;) {
    for (auto& action : actions) {
      const bool leaves = std::holds_alternative<scsi::Respond>(action) ||
                          std::holds_alternative<scsi::CommandAborted>(action) ||
                          std::holds_alternative<scsi::TaskManagementDone>(action);
      if (leaves)
        answer_(std::move(action));
      else
        store_->perform(std::move(action));
    }
    actions.clear();
    auto done = store_->take_done();
    if (done.empty()) return;
    for (auto& one : done) unit().on_store_done(std::move(one), actions);
  }
}

void ShelfDisk::on_store_ready() {
  take([this] {
    if (powered_) perform({});
  });
}

void ShelfDisk::on_command(scsi::Command&& command) {
  if (!powered_) {
    answer_(scsi::Respond{command.tag, scsi::check_condition(scsi::sense::not_ready_no_cause)});
    return;
  }
  const auto tag = command.tag;
  const auto nexus = command.nexus;
  take(
      [this, command = std::move(command)]() mutable {
        if (!powered_) return answer_(scsi::CommandAborted{command.tag});  // went while it hung
        scsi::Actions actions;
        unit().on_command(std::move(command), actions);
        perform(std::move(actions));
      },
      tag, nexus);
}

void ShelfDisk::on_task_management(std::uint64_t request, scsi::TaskManagement function,
                                   const scsi::Nexus& nexus, std::optional<scsi::CommandTag> task) {
  take([this, request, function, nexus, task] {
    if (!powered_) return answer_(scsi::TaskManagementDone{request});
    scsi::Actions actions;
    unit().on_task_management(request, function, nexus, task, actions);
    perform(std::move(actions));
  });
}

void ShelfDisk::on_nexus_new(const scsi::Nexus& nexus) {
  take([this, nexus] { unit().on_nexus_new(nexus); });
}

void ShelfDisk::on_nexus_lost(const scsi::Nexus& nexus) {
  drop_kept_commands(nexus);
  take([this, nexus] {
    scsi::Actions actions;
    unit().on_nexus_lost(nexus, actions);
    perform(std::move(actions));
  });
}

void ShelfDisk::power_off() {
  if (!powered_) return;
  powered_ = false;
  store_->power_off();
  heal();
  scsi::Actions actions;
  unit().on_power_lost(actions);
  for (auto& action : actions) answer_(std::move(action));
  unit() = scsi::LogicalUnit(unit_config_, scsi::Reservations{});
}

Status ShelfDisk::power_on() {
  if (powered_) return {};
  auto reservations = load_reservations();
  if (!reservations) return std::unexpected(reservations.error());
  unit() = scsi::LogicalUnit(unit_config_, std::move(*reservations));
  powered_ = true;
  return {};
}

void ShelfDisk::heal() {
  store_->set_failing(false);
  store_->set_delay(Duration(0));
  hanging_ = false;
  for (auto kept = std::exchange(kept_, {}); !kept.empty(); kept.pop_front()) kept.front().event();
}

std::string ShelfDisk::status() const {
  if (!powered_) return "off";
  if (hanging_) return "hanging";
  if (store_->failing()) return "failing";
  if (store_->delay() > Duration(0))
    return "slow=" +
           std::to_string(std::chrono::duration_cast<milliseconds>(store_->delay()).count());
  return "on";
}

}  // namespace duet::shelf
