// Joins a SCSI target device to the iSCSI service on one side and to a store on the other: performs
// the actions of its logical units. The disk shelf and the LUN service differ only in their store.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <utility>

#include "scsi/target_device.h"
#include "services/iscsi_server.h"

namespace duet::services {

// Where the data of the units lives. Each order is answered by one ScsiTarget::store_done with its
// tag, at any time, from inside the call too; an aborted one as well (see scsi::StoreAbort).
class UnitStore {
 public:
  virtual ~UnitStore() = default;
  virtual void read(LunNumber lun, const scsi::StoreRead& order) = 0;
  virtual void write(LunNumber lun, scsi::StoreWrite&& order) = 0;
  virtual void zero(LunNumber lun, const scsi::StoreZero& order) = 0;
  virtual void flush(LunNumber lun, const scsi::StoreFlush& order) = 0;
  virtual void save_reservations(LunNumber lun, scsi::StoreReservations&& order) = 0;
  virtual void abort(LunNumber lun, const scsi::StoreAbort& order) = 0;
};

class ScsiTarget final : public TargetBackend {
 public:
  // Both outlive it.
  ScsiTarget(IscsiServer& server, UnitStore& store) : server_(server), store_(store) {}

  // Requires: no unit of this number, not one that is leaving either.
  void add_unit(LunNumber lun, scsi::LogicalUnit unit);
  // Aborts its commands; the unit goes, and `gone` is called, when the store has answered for them.
  // New commands are answered BUSY until then. Requires: the unit exists and is not leaving.
  void remove_unit(LunNumber lun, ports::Task gone);
  // Null: none. Leaving ones are still there.
  scsi::LogicalUnit* unit(LunNumber lun) { return device_.find(lun); }
  std::vector<LunNumber> luns() const { return device_.luns(); }

  void store_done(LunNumber lun, scsi::StoreDone&& done);

  void submit(std::optional<LunNumber> lun, scsi::Command&& command) override;
  void task_management(std::uint64_t request, const scsi::Nexus& nexus,
                       scsi::TaskManagement function, std::optional<LunNumber> lun,
                       std::optional<scsi::CommandTag> task) override;
  void nexus_established(const scsi::Nexus& nexus) override;
  void nexus_lost(const scsi::Nexus& nexus) override;

 private:
  struct Management {
    std::uint64_t request;  // of the server
    std::size_t units_left;
    bool complete = true;
    bool task_found = true;
  };

  void run(LunNumber lun, scsi::Actions&& actions);
  void perform(LunNumber lun, scsi::Action& action);
  void on_management_done(const scsi::TaskManagementDone& done);
  void remove_idle_units();

  IscsiServer& server_;
  UnitStore& store_;
  scsi::TargetDevice device_;
  std::map<LunNumber, ports::Task> leaving_;
  std::map<std::uint64_t, Management> management_;  // by the request given to the units
  std::uint64_t last_management_ = 0;
  // Actions in order. A store may answer at once: its answer's actions queue up behind instead of
  // nesting.
  std::deque<std::pair<LunNumber, scsi::Action>> queue_;
  bool running_ = false;
};

}  // namespace duet::services
