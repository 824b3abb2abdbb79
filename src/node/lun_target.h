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

class LunTarget final : private services::UnitStore {
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

  // No new sessions; commands that have not begun wait; those under way end, and `drained` is
  // called. Then initiators are asked to log out.
  void drain(ports::Task drained);
  // The commands that wait. Requires: drained.
  std::vector<iscsi::StoredRequest> waiting_requests(std::size_t most) {
    return server_.waiting_requests(service_.iqn, most);
  }
  // Sessions end, initiators may come back at once; `gone` at `limit` at the latest. Requires:
  // drained.
  void part(Instant limit, ports::Task gone) { server_.part(service_.iqn, limit, std::move(gone)); }
  // Takes commands and sessions again after drain(); sessions that are left go on.
  void resume();

  std::vector<services::SessionInfo> sessions() const { return server_.sessions(); }

 private:
  // services::UnitStore
  void read(LunNumber lun, const scsi::StoreRead& order) override;
  void write(LunNumber lun, scsi::StoreWrite&& order) override;
  void zero(LunNumber lun, const scsi::StoreZero& order) override;
  void flush(LunNumber lun, const scsi::StoreFlush& order) override;
  void save_reservations(LunNumber lun, scsi::StoreReservations&& order) override;
  void abort(LunNumber, const scsi::StoreAbort&) override {}  // what is in the log stays in the log

  Status listen();
  void zero_from(LunNumber lun, scsi::StoreTag tag, std::uint64_t offset, std::uint64_t length);
  ports::Done<void> finish(LunNumber lun, scsi::StoreTag tag, scsi::StoreDone::Outcome failure);

  const ServiceConfig& service_;
  bool foreign_;
  LoggedStorage& storage_;
  services::IscsiServer server_;
  services::ScsiTarget target_;
  services::PortalId portal_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
