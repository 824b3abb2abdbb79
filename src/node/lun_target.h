// The iSCSI target of an identity: its LUNs as SCSI logical units, with the logged storage as their
// store.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "filesystem/storage.h"
#include "node/config.h"
#include "node/logged_storage.h"
#include "ports/scheduler.h"
#include "ports/stream.h"
#include "services/iscsi_server.h"
#include "services/scsi_target.h"

namespace duet::node {

class LunTarget final : private services::UnitStore, private services::TargetBackend {
 public:
  // `foreign`: the identity is the partner's. `may_answer`: asked before replies leave (the lease).
  LunTarget(ports::Scheduler& scheduler, ports::Network& network, const ServiceConfig& service,
            bool foreign, LoggedStorage& storage, std::function<bool()> may_answer);
  ~LunTarget() override;

  // Brings up the address, when all units are there. Error: io_error (cannot listen).
  Status start();
  // Error: invalid (the LUN is offline, or its reservations are damaged: serving it without them
  // could let two clients write); it is then not exported.
  Status add(const filesystem::LunInfo& lun);
  bool exported(LunNumber lun) { return target_.unit(lun) != nullptr; }
  // `done` when no command uses the unit any more. Requires: exported, and not being removed.
  void remove(LunNumber lun, ports::Task done) { target_.remove_unit(lun, std::move(done)); }

  // No new sessions; new commands are answered BUSY, which initiators retry; those under way end.
  // `done(false)` if they have not at `deadline`.
  void drain(Instant deadline, std::function<void(bool drained)> done);
  // Takes commands and sessions again after drain().
  void resume();

  std::size_t sessions() const { return server_.sessions().size(); }

 private:
  // services::UnitStore
  void read(LunNumber lun, const scsi::StoreRead& order) override;
  void write(LunNumber lun, scsi::StoreWrite&& order) override;
  void zero(LunNumber lun, const scsi::StoreZero& order) override;
  void flush(LunNumber lun, const scsi::StoreFlush& order) override;
  void save_reservations(LunNumber lun, scsi::StoreReservations&& order) override;
  void abort(LunNumber, const scsi::StoreAbort&) override {}  // what is in the log stays in the log
  // services::TargetBackend: what comes while draining stops here.
  void submit(std::optional<LunNumber> lun, scsi::Command&& command) override;
  void task_management(std::uint64_t request, const scsi::Nexus& nexus,
                       scsi::TaskManagement function, std::optional<LunNumber> lun,
                       std::optional<scsi::CommandTag> task) override {
    target_.task_management(request, nexus, function, lun, task);
  }
  void nexus_established(const scsi::Nexus& nexus) override { target_.nexus_established(nexus); }
  void nexus_lost(const scsi::Nexus& nexus) override { target_.nexus_lost(nexus); }

  Status listen();
  void zero_from(LunNumber lun, scsi::StoreTag tag, std::uint64_t offset, std::uint64_t length);
  ports::Done<void> finish(LunNumber lun, scsi::StoreTag tag, scsi::StoreDone::Outcome failure);
  void done(LunNumber lun, scsi::StoreDone&& outcome);
  void look_whether_drained();

  ports::Scheduler& scheduler_;
  const ServiceConfig& service_;
  bool foreign_;
  LoggedStorage& storage_;
  services::IscsiServer server_;
  services::ScsiTarget target_;
  services::PortalId portal_{};
  std::size_t store_operations_ = 0;
  std::function<void(bool)> drained_;  // while draining
  ports::TimerId drain_timer_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
