// A SCSI block device, sans-I/O: commands, completions and task management in, actions out. It owns
// the task set, the persistent reservations, the unit attentions and the mode parameters; what the
// actions do is up to the shelf or the LUN service.
//
// Each command is answered exactly once, by Respond or by CommandAborted. Nothing here blocks, and
// nothing is unbounded: beyond max_tasks commands the answer is TASK SET FULL.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "scsi/cdb.h"
#include "scsi/logical_unit_io.h"
#include "scsi/reservations.h"
#include "scsi/unit_attention.h"

namespace duet::scsi {

inline constexpr std::size_t max_tasks = 1024;
inline constexpr std::size_t max_nexuses = 1024;  // remembered; beyond it the idlest is forgotten
inline constexpr std::uint32_t max_write_same_bytes = 16u << 20;
inline constexpr std::uint32_t max_unmap_descriptors = 256;

struct UnitConfig {
  std::string vendor = "DUET";           // at most 8 characters
  std::string product = "VIRTUAL-DISK";  // at most 16
  std::string revision = "0001";         // at most 4
  std::string serial;                    // unit serial number, at most 64 printable characters
  std::uint64_t naa = 0;           // VPD 83h: locally assigned NAA (type 3); its top digit is set
  std::string target_name;         // iSCSI name, for VPD 83h
  std::uint16_t target_ports = 1;  // relative target port identifiers 1..target_ports
  std::uint32_t block_size = 512;  // 512 or 4096
  std::uint64_t blocks = 0;
  std::uint32_t max_transfer = 1u << 20;  // bytes per command; block limits VPD
  bool write_cache = false;               // WCE at power on
  bool write_cache_changeable = false;    // MODE SELECT may change WCE
  bool thin = true;                       // the store frees what is unmapped; it reads as zeros
  bool reservations_always_persist =
      false;  // persist without APTPL too (failover is no power loss)
};

class LogicalUnit {
 public:
  // Requires: a valid configuration. `reservations`: what was persisted, or nothing.
  LogicalUnit(UnitConfig config, Reservations reservations);
  ~LogicalUnit();
  LogicalUnit(LogicalUnit&&) noexcept;
  LogicalUnit& operator=(LogicalUnit&&) noexcept;

  void on_command(Command&& command, Actions& actions);
  void on_store_done(StoreDone&& done, Actions& actions);
  // `request` comes back in TaskManagementDone. `task` names the command of abort_task.
  void on_task_management(std::uint64_t request, TaskManagement function, const Nexus& nexus,
                          std::optional<CommandTag> task, Actions& actions);

  // A session of this nexus begins. A nexus we do not remember starts with POWER ON (29/00).
  void on_nexus_new(const Nexus& nexus);
  // Its session ended: its commands are aborted, its RESERVE(6) is released; persistent
  // reservations stay (SPC-4 5.12.1).
  void on_nexus_lost(const Nexus& nexus, Actions& actions);

  // The unit loses power: every unfinished command ends with CommandAborted, every task management
  // function is done. Store work given before is not answered any more; the unit is not used again.
  void on_power_lost(Actions& actions);

  // CAPACITY DATA HAS CHANGED for everyone. Shrinking is the caller's responsibility.
  void resize(std::uint64_t blocks);
  void add_attention(UnitAttention attention);  // for every nexus
  void remove_attention(const Nexus& nexus, UnitAttention attention);

  const UnitConfig& config() const;
  const Reservations& reservations() const;
  bool write_cache() const;
  std::size_t tasks() const;  // unfinished

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace duet::scsi
