// Joins the shelf to the iSCSI server.
#pragma once

#include <map>

#include "services/iscsi_server.h"
#include "shelf/shelf.h"

namespace duet {

class ShelfBackend final : public services::TargetBackend {
 public:
  ShelfBackend(services::IscsiServer& server, shelf::Shelf& shelf);

  void submit(std::optional<LunNumber> lun, scsi::Command&& command) override;
  void task_management(std::uint64_t request, const scsi::Nexus& nexus,
                       scsi::TaskManagement function, std::optional<LunNumber> lun,
                       std::optional<scsi::CommandTag> task) override;
  void nexus_established(const scsi::Nexus& nexus) override { shelf_.on_nexus_new(nexus); }
  void nexus_lost(const scsi::Nexus& nexus) override { shelf_.on_nexus_lost(nexus); }

 private:
  void on_answer(scsi::Action&& action);
  void management_done(const scsi::TaskManagementDone& done);

  services::IscsiServer& server_;
  shelf::Shelf& shelf_;
  struct Management {  // one request of the server, done when all units are
    std::uint64_t request;
    std::size_t units_left;
    bool complete = true;
    bool task_found = true;
  };
  std::map<std::uint64_t, Management> management_;
  std::uint64_t last_management_ = 0;
};

}  // namespace duet
