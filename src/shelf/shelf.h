// The embedded disk shelf: file-backed SCSI disks behind several target ports. Knows nothing of
// iSCSI; the program joins it to the iSCSI server. Open this header first.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "shelf/shelf_disk.h"

namespace duet::shelf {

inline constexpr unsigned max_disks = 256;

struct ShelfConfig {
  std::filesystem::path directory;  // disk-NNN.img and disk-NNN.reservations; created if missing
  unsigned disks = 1;
  std::vector<std::uint64_t> sizes{1u << 30};  // bytes, by LUN; the last one goes for the rest
  std::uint32_t block_size = 512;
  std::string target_name;
  std::uint16_t target_ports = 1;
  bool write_cache = false;  // WCE at power on
  bool sync = false;         // durable means on the device, not only in the kernel's page cache
};

// Removes the files of all disks there.
void remove_disks(const std::filesystem::path& directory);

class Shelf {
 public:
  // Respond and CommandAborted for a command, TaskManagementDone for a request. May come from
  // inside the call that caused it.
  using Answer = std::function<void(scsi::Action&&)>;

  static Result<std::unique_ptr<Shelf>> open(const ShelfConfig& config, ports::Scheduler& scheduler,
                                             Workers& workers);
  void on_answer(Answer answer) { answer_ = std::move(answer); }

  // Nothing in `lun`: a number no unit can have.
  void on_command(std::optional<LunNumber> lun, scsi::Command&& command);
  // False: no such unit, no answer follows. Resets of the target go to every unit by the caller.
  bool on_task_management(std::uint64_t request, scsi::TaskManagement function,
                          const scsi::Nexus& nexus, LunNumber lun,
                          std::optional<scsi::CommandTag> task);
  void on_nexus_new(const scsi::Nexus& nexus);
  void on_nexus_lost(const scsi::Nexus& nexus);

  std::vector<std::unique_ptr<ShelfDisk>>& disks() { return disks_; }

 private:
  Shelf() = default;
  ShelfDisk* find(std::optional<LunNumber> lun);

  scsi::TargetDevice device_;
  std::vector<std::unique_ptr<ShelfDisk>> disks_;  // by LUN: 0, 1, 2, ...
  Answer answer_;
};

}  // namespace duet::shelf
