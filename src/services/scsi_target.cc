#include "services/scsi_target.h"

#include <utility>

namespace duet::services {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

bool resets_target(scsi::TaskManagement function) {
  return function == scsi::TaskManagement::target_warm_reset ||
         function == scsi::TaskManagement::target_cold_reset;
}

}  // namespace

void ScsiTarget::add_unit(LunNumber lun, scsi::LogicalUnit unit) {
  ASSERT(device_.find(lun) == nullptr);
  device_.add(lun, std::move(unit));
}

void ScsiTarget::remove_unit(LunNumber lun, ports::Task gone) {
  scsi::LogicalUnit* unit = device_.find(lun);
  ASSERT(unit != nullptr && !leaving_.contains(lun));
  leaving_.emplace(lun, std::move(gone));
  scsi::Actions actions;
  // Nobody waits for this request: management_ does not know it.
  unit->on_task_management(++last_management_, scsi::TaskManagement::logical_unit_reset, {}, {},
                           actions);
  run(lun, std::move(actions));
}

void ScsiTarget::remove_idle_units() {
  for (auto it = leaving_.begin(); it != leaving_.end();) {
    scsi::LogicalUnit* unit = device_.find(it->first);
    if (unit->tasks() > 0) {
      ++it;
      continue;
    }
    device_.remove(it->first);
    auto gone = std::move(it->second);
    it = leaving_.erase(it);
    gone();
  }
}

void ScsiTarget::store_done(LunNumber lun, scsi::StoreDone&& done) {
  scsi::LogicalUnit* unit = device_.find(lun);
  if (unit == nullptr) return;
  scsi::Actions actions;
  unit->on_store_done(std::move(done), actions);
  run(lun, std::move(actions));
}

void ScsiTarget::submit(std::optional<LunNumber> lun, scsi::Command&& command) {
  if (lun && leaving_.contains(*lun)) {
    scsi::Response busy;
    busy.status = scsi::StatusCode::busy;
    server_.respond(command.tag, std::move(busy));
    return;
  }
  scsi::Actions actions;
  device_.on_command(lun, std::move(command), actions);
  run(lun.value_or(LunNumber()), std::move(actions));
}

void ScsiTarget::task_management(std::uint64_t request, const scsi::Nexus& nexus,
                                 scsi::TaskManagement function, std::optional<LunNumber> lun,
                                 std::optional<scsi::CommandTag> task) {
  std::vector<LunNumber> concerned;
  if (resets_target(function)) {
    concerned = device_.luns();
  } else if (lun && device_.find(*lun) != nullptr) {
    concerned.push_back(*lun);
  } else {
    server_.task_management_done(request, iscsi::TaskManagementResult::lun_does_not_exist);
    return;
  }
  if (concerned.empty()) {
    server_.task_management_done(request, iscsi::TaskManagementResult::function_complete);
    return;
  }
  std::uint64_t ours = ++last_management_;
  management_.emplace(ours, Management{.request = request, .units_left = concerned.size()});
  for (LunNumber each : concerned) {
    scsi::LogicalUnit* unit = device_.find(each);
    if (unit == nullptr) continue;
    scsi::Actions actions;
    unit->on_task_management(ours, function, nexus, task, actions);
    run(each, std::move(actions));
  }
}

void ScsiTarget::on_management_done(const scsi::TaskManagementDone& done) {
  auto found = management_.find(done.request);
  if (found == management_.end()) return;
  Management& management = found->second;
  management.complete = management.complete && done.function_complete;
  management.task_found = done.task_found;
  if (--management.units_left > 0) return;
  Management ended = management;
  management_.erase(found);
  using enum iscsi::TaskManagementResult;
  server_.task_management_done(ended.request, !ended.complete     ? rejected
                                              : !ended.task_found ? task_does_not_exist
                                                                  : function_complete);
}

void ScsiTarget::nexus_established(const scsi::Nexus& nexus) {
  device_.on_nexus_new(nexus);
}

void ScsiTarget::nexus_lost(const scsi::Nexus& nexus) {
  for (LunNumber lun : device_.luns()) {
    scsi::LogicalUnit* unit = device_.find(lun);
    if (unit == nullptr) continue;
    scsi::Actions actions;
    unit->on_nexus_lost(nexus, actions);
    run(lun, std::move(actions));
  }
}

void ScsiTarget::run(LunNumber lun, scsi::Actions&& actions) {
  for (auto& action : actions) queue_.emplace_back(lun, std::move(action));
  if (running_) return;
  running_ = true;
  while (!queue_.empty()) {
    auto [unit, action] = std::move(queue_.front());
    queue_.pop_front();
    perform(unit, action);
  }
  running_ = false;
  if (!leaving_.empty()) remove_idle_units();
}

void ScsiTarget::perform(LunNumber lun, scsi::Action& action) {
  std::visit(Overloaded{
                 [&](scsi::Respond& a) { server_.respond(a.tag, std::move(a.response)); },
                 [&](scsi::CommandAborted& a) { server_.aborted(a.tag); },
                 [&](scsi::TaskManagementDone& a) { on_management_done(a); },
                 [&](scsi::StoreRead& a) { store_.read(lun, a); },
                 [&](scsi::StoreWrite& a) { store_.write(lun, std::move(a)); },
                 [&](scsi::StoreZero& a) { store_.zero(lun, a); },
                 [&](scsi::StoreFlush& a) { store_.flush(lun, a); },
                 [&](scsi::StoreReservations& a) { store_.save_reservations(lun, std::move(a)); },
                 [&](scsi::StoreAbort& a) { store_.abort(lun, a); },
             },
             action);
}

}  // namespace duet::services
