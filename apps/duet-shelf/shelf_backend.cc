#include "shelf_backend.h"

namespace duet {

using iscsi::TaskManagementResult;

ShelfBackend::ShelfBackend(services::IscsiServer& server, shelf::Shelf& shelf)
    : server_(server), shelf_(shelf) {
  shelf_.on_answer([this](scsi::Action&& action) { on_answer(std::move(action)); });
}

void ShelfBackend::submit(std::optional<LunNumber> lun, scsi::Command&& command) {
  shelf_.on_command(lun, std::move(command));
}

void ShelfBackend::task_management(std::uint64_t request, const scsi::Nexus& nexus,
                                   scsi::TaskManagement function, std::optional<LunNumber> lun,
                                   std::optional<scsi::CommandTag> task) {
  const auto own = ++last_management_;
  if (lun) {
    management_.emplace(own, Management{request, 1});
    if (shelf_.on_task_management(own, function, nexus, *lun, task)) return;
    management_.erase(own);
    return server_.task_management_done(request, TaskManagementResult::lun_does_not_exist);
  }
  const auto units = shelf_.disks().size();
  management_.emplace(own, Management{request, units});
  for (std::size_t i = 0; i < units; ++i)
    shelf_.on_task_management(own, function, nexus, LunNumber(static_cast<std::uint16_t>(i)), task);
}

void ShelfBackend::management_done(const scsi::TaskManagementDone& done) {
  auto it = management_.find(done.request);
  ASSERT(it != management_.end());
  auto& management = it->second;
  management.complete = management.complete && done.function_complete;
  management.task_found = done.task_found;
  if (--management.units_left > 0) return;
  const auto finished = management;
  management_.erase(it);
  server_.task_management_done(finished.request, !finished.complete ? TaskManagementResult::rejected
                                                 : !finished.task_found
                                                     ? TaskManagementResult::task_does_not_exist
                                                     : TaskManagementResult::function_complete);
}

void ShelfBackend::on_answer(scsi::Action&& action) {
  if (auto* respond = std::get_if<scsi::Respond>(&action))
    server_.respond(respond->tag, std::move(respond->response));
  else if (const auto* aborted = std::get_if<scsi::CommandAborted>(&action))
    server_.aborted(aborted->tag);
  else
    management_done(std::get<scsi::TaskManagementDone>(action));
}

}  // namespace duet
