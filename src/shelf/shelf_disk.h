// One disk of the shelf: a logical unit on files, with power that can fail.
//
//   on ──power_off──► off ──power_on──► on: a new unit; reservations as they were persisted
//   on ──hang──► hanging: takes everything and answers nothing ──heal──► on, in the old order
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "scsi/target_device.h"
#include "shelf/file_store.h"

namespace duet::shelf {

class ShelfDisk {
 public:
  // What leaves the disk: Respond, CommandAborted, TaskManagementDone.
  using Answer = std::function<void(scsi::Action&&)>;

  // Opens the files or creates them. The unit is added to `device` as `lun`.
  static Result<std::unique_ptr<ShelfDisk>> open(scsi::TargetDevice& device, LunNumber lun,
                                                 scsi::UnitConfig unit, StoreConfig store,
                                                 ports::Scheduler& scheduler, Workers& workers,
                                                 Answer answer);

  void on_command(scsi::Command&& command);
  void on_task_management(std::uint64_t request, scsi::TaskManagement function,
                          const scsi::Nexus& nexus, std::optional<scsi::CommandTag> task);
  void on_nexus_new(const scsi::Nexus& nexus);
  void on_nexus_lost(const scsi::Nexus& nexus);

  void power_off();
  Status power_on();
  void hang() { hanging_ = true; }
  void fail_all() { store_->set_failing(true); }
  void slow(Duration delay) { store_->set_delay(delay); }
  void heal();  // neither hanging, failing nor slow; off stays off

  LunNumber lun() const { return lun_; }
  std::string status() const;  // on, off, hanging, failing, slow=MS

 private:
  ShelfDisk(scsi::TargetDevice& device, LunNumber lun, scsi::UnitConfig unit, StoreConfig store,
            Answer answer);
  Result<scsi::Reservations> load_reservations() const;
  // Does `event` now, or keeps it while the disk hangs.
  void take(std::move_only_function<void()> event, std::optional<scsi::CommandTag> command = {},
            const scsi::Nexus& nexus = {});
  void drop_kept_commands(const scsi::Nexus& nexus);
  void perform(scsi::Actions&& actions);
  void on_store_ready();
  scsi::LogicalUnit& unit() { return *device_.find(lun_); }

  scsi::TargetDevice& device_;
  LunNumber lun_;
  scsi::UnitConfig unit_config_;
  StoreConfig store_config_;
  Answer answer_;
  std::unique_ptr<FileStore> store_;
  bool powered_ = true;
  bool hanging_ = false;
  struct Kept {
    std::move_only_function<void()> event;
    std::optional<scsi::CommandTag> command;  // and whose it is
    scsi::Nexus nexus;
  };
  std::deque<Kept> kept_;  // bounded by the windows of the sessions
};

}  // namespace duet::shelf
