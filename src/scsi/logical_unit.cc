#include "scsi/logical_unit.h"

#include <algorithm>
#include <utility>

#include "scsi/logical_unit_state.h"
#include "scsi/opcodes.h"
#include "scsi/slices.h"

namespace duet::scsi {

Response good(std::vector<std::byte> data, std::uint64_t allocation) {
  if (data.size() > allocation) data.resize(allocation);
  Response response;
  if (!data.empty()) response.data_in.push_back(copy_to_slice(data));
  return response;
}

Footprint footprint(const Operation& operation) {
  // Saturating: the extent is checked against the unit later.
  const auto extent = [](std::uint64_t lba, std::uint64_t blocks, bool alone) {
    return Footprint{lba, lba + std::min(blocks, ~lba), alone};
  };
  return std::visit(Overloaded{
                        [&](const Read& o) { return extent(o.lba, o.blocks, false); },
                        [&](const Write& o) { return extent(o.lba, o.blocks, false); },
                        [&](const WriteAndVerify& o) { return extent(o.lba, o.blocks, false); },
                        [&](const Verify& o) { return extent(o.lba, o.blocks, false); },
                        [&](const WriteSame& o) { return extent(o.lba, o.blocks, false); },
                        [&](const OrWrite& o) { return extent(o.lba, o.blocks, true); },
                        [&](const CompareAndWrite& o) { return extent(o.lba, o.blocks, true); },
                        // Its ranges are in the data-out: count it as touching everything.
                        [&](const Unmap&) { return extent(0, ~std::uint64_t{0}, false); },
                        [](const auto&) { return Footprint{}; },
                    },
                    operation);
}

// ---- task set ----
//
//   waiting --start--> running --finish--> ended (Respond)
//      |                  |
//      +---- abort -------+--- abort --> aborted --its work ends--> ended (CommandAborted)
//
// A task starts when no reservation change is being persisted, and
//   HEAD OF QUEUE  at once
//   ORDERED        when all earlier tasks have ended
//   SIMPLE         when all earlier ORDERED tasks have ended
// and no earlier unfinished task needs some of its blocks alone (or it alone, theirs).

void LogicalUnit::State::admit(Command&& command, Actions& actions) {
  if (unfinished >= max_tasks) {
    actions.push_back(
        Respond{command.tag, {.status = StatusCode::task_set_full, .sense = {}, .data_in = {}}});
    return;
  }
  ASSERT(!by_tag.contains(command.tag));
  Task task{.tag = command.tag,
            .nexus = std::move(command.nexus),
            .attribute = command.attribute,
            .operation = decode_cdb(command.cdb),
            .data_out = std::move(command.data_out),
            .blocks = {},
            .work = {},
            .waited_for_by = {},
            .pattern = {},
            .next_reservations = {},
            .effects = {}};
  if (task.operation) {
    if (!config.thin && find_opcode(command.cdb)->thin_only)
      task.operation = std::unexpected(sense::invalid_opcode);
    else
      task.blocks = footprint(*task.operation);
  }
  if (task.operation)
    task.data_out_wanted = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(data_out_wanted(*task.operation, config.block_size), 0xffffffff));
  const bool first = task.attribute == TaskAttribute::head_of_queue;
  auto& admitted = *tasks.insert(first ? tasks.begin() : tasks.end(), std::move(task));
  by_tag.emplace(admitted.tag, &admitted);
  ++waiting;
  ++unfinished;
  if (admitted.attribute == TaskAttribute::ordered) ++ordered;
  if (admitted.blocks.alone) ++alone;
  start_what_can_start(actions);
}

bool LogicalUnit::State::may_start(Tasks::iterator task) const {
  if (reservations_changing) return false;
  if (ordered == 0 && alone == 0) return true;
  for (auto earlier = tasks.begin(); earlier != Tasks::const_iterator(task); ++earlier) {
    if (earlier->ended) continue;
    if (task->attribute == TaskAttribute::ordered) return false;
    if (task->attribute == TaskAttribute::simple && earlier->attribute == TaskAttribute::ordered)
      return false;
    if (task->blocks.conflicts(earlier->blocks)) return false;
  }
  if (task->attribute != TaskAttribute::head_of_queue) return true;
  // It overtook the others: those that run already are behind it in the list.
  return std::none_of(Tasks::const_iterator(std::next(task)), tasks.end(), [&](const Task& other) {
    return other.started && !other.ended && task->blocks.conflicts(other.blocks);
  });
}

void LogicalUnit::State::start_what_can_start(Actions& actions) {
  // Starting a task may end others, which may let earlier ones start: until nothing moves.
  for (bool moved = true; moved && waiting > 0;) {
    moved = false;
    for (auto task = tasks.begin(); task != tasks.end(); ++task) {
      if (task->started || task->ended || !may_start(task)) continue;
      task->started = true;
      --waiting;
      start(*task, actions);
      moved = true;
    }
  }
  sweep();
}

// SAM-5 5.3.3: 29h, then RESERVATION CONFLICT, then other attentions, then what is wrong with the
// CDB.
std::optional<Response> LogicalUnit::State::refusal(const Task& task) {
  const bool exempt = task.operation && (std::holds_alternative<Inquiry>(*task.operation) ||
                                         std::holds_alternative<ReportLuns>(*task.operation) ||
                                         std::holds_alternative<RequestSense>(*task.operation));
  auto& attentions = nexus_state(task.nexus).attentions;
  const auto attention = exempt ? std::nullopt : attentions.first();
  const auto report = [&] {
    attentions.remove(*attention);
    return check_condition(sense_of(*attention));
  };
  if (attention && UnitAttentions::before_reservations(*attention)) return report();
  if (task.operation) {
    const auto& op = *task.operation;
    const AccessClass access = access_class(op);
    const bool of_persistent = std::holds_alternative<PersistentReserveIn>(op) ||
                               std::holds_alternative<PersistentReserveOut>(op);
    // RESERVE(6) and RELEASE(6): SPC-2 5.5.1. Persistent reservations and they exclude each other.
    const bool old_conflict =
        reserved_by && (of_persistent ||
                        (*reserved_by != task.nexus && access != AccessClass::always &&
                         !std::holds_alternative<Release6>(op)) ||
                        (*reserved_by != task.nexus && std::holds_alternative<TestUnitReady>(op)));
    const bool persistent_conflict = access == AccessClass::reservation
                                         ? !of_persistent && !reservations.registrations().empty()
                                         : !reservations.allows(task.nexus, access);
    if (old_conflict || persistent_conflict)
      return Response{.status = StatusCode::reservation_conflict, .sense = {}, .data_in = {}};
  }
  if (attention) return report();
  if (!task.operation) return check_condition(task.operation.error());
  return std::nullopt;
}

void LogicalUnit::State::start(Task& task, Actions& actions) {
  if (auto response = refusal(task)) return finish(task, std::move(*response), actions);
  if (auto sense = check_medium(task)) return finish(task, check_condition(*sense), actions);
  control(task, actions);
}

void LogicalUnit::State::end(Task& task) {
  ASSERT(!task.ended && !task.work);
  if (!task.started) --waiting;
  task.ended = true;
  --unfinished;
  if (task.attribute == TaskAttribute::ordered) --ordered;
  if (task.blocks.alone) --alone;
  by_tag.erase(task.tag);
  sweep_needed = true;
}

void LogicalUnit::State::finish(Task& task, Response response, Actions& actions) {
  ASSERT(!task.aborted);
  response.data_out_wanted = task.data_out_wanted;
  actions.push_back(Respond{task.tag, std::move(response)});
  end(task);
}

void LogicalUnit::State::finish_aborted(Task& task, Actions& actions) {
  actions.push_back(CommandAborted{task.tag});
  end(task);
  for (auto& [id, wait] : waits)
    if (wait.preempt == &task) wait.preempt = nullptr;
  for (WaitId wait : std::exchange(task.waited_for_by, {})) end_wait(wait, actions);
}

// Ended tasks stay in the list while it is being walked.
void LogicalUnit::State::sweep() {
  if (!sweep_needed) return;
  sweep_needed = false;
  std::erase_if(tasks, [](const Task& task) { return task.ended; });
}

// ---- aborting ----

WaitId LogicalUnit::State::begin_wait(Wait wait) {
  wait.left = 1;  // for the caller, who ends it when all tasks are marked
  last_wait = last_wait.next();
  waits.emplace(last_wait, wait);
  return last_wait;
}

void LogicalUnit::State::abort(Task& task, WaitId wait, Actions& actions) {
  ++waits.at(wait).left;
  task.waited_for_by.push_back(wait);
  if (std::exchange(task.aborted, true)) return;
  if (!task.work) return finish_aborted(task, actions);
  // Reservations that are being written are neither old nor new until that ended.
  if (!task.work_is_reservations) actions.push_back(StoreAbort{*task.work});
}

void LogicalUnit::State::end_wait(WaitId id, Actions& actions) {
  auto it = waits.find(id);
  ASSERT(it != waits.end() && it->second.left > 0);
  if (--it->second.left > 0) return;
  const Wait wait = it->second;
  waits.erase(it);
  if (wait.request) actions.push_back(TaskManagementDone{*wait.request, true, wait.task_found});
  if (wait.preempt) finish(*wait.preempt, {}, actions);
}

void LogicalUnit::State::manage(std::uint64_t request, TaskManagement function, const Nexus& nexus,
                                std::optional<CommandTag> which, Actions& actions) {
  const WaitId wait = begin_wait({.request = request});
  switch (function) {
    case TaskManagement::abort_task:
      waits.at(wait).task_found = std::ranges::any_of(
          tasks, [&](const Task& t) { return !t.ended && t.nexus == nexus && t.tag == which; });
      abort_all(wait, [&](const Task& t) { return t.nexus == nexus && t.tag == which; }, actions);
      break;
    case TaskManagement::abort_task_set:
      abort_all(wait, [&](const Task& t) { return t.nexus == nexus; }, actions);
      break;
    case TaskManagement::clear_task_set:
      for (const auto& task : tasks)
        if (!task.ended && task.nexus != nexus)
          nexus_state(task.nexus).attentions.add(UnitAttention::commands_cleared);
      abort_all(wait, [](const Task&) { return true; }, actions);
      break;
    case TaskManagement::clear_aca:  // NORMACA is 0
      waits.erase(wait);
      actions.push_back(TaskManagementDone{request, false});
      return;
    case TaskManagement::logical_unit_reset:
    case TaskManagement::target_warm_reset:
    case TaskManagement::target_cold_reset:
      abort_all(wait, [](const Task&) { return true; }, actions);
      reserved_by.reset();
      add_attention(UnitAttention::unit_reset, nullptr);
      break;
  }
  end_wait(wait, actions);
  start_what_can_start(actions);
}

// ---- store work ----

StoreTag LogicalUnit::State::new_work(Task& task) {
  ASSERT(!task.work);
  last_work = last_work.next();
  task.work = last_work;
  by_work.emplace(last_work, &task);
  return last_work;
}

void LogicalUnit::State::read(Task& task, std::uint64_t offset, std::uint64_t length,
                              Actions& actions) {
  actions.push_back(StoreRead{new_work(task), offset, static_cast<std::uint32_t>(length)});
}
void LogicalUnit::State::write(Task& task, std::uint64_t offset, std::vector<Slice> data,
                               bool durable_write, Actions& actions) {
  actions.push_back(StoreWrite{new_work(task), offset, std::move(data), durable_write});
}
void LogicalUnit::State::zero(Task& task, std::uint64_t offset, std::uint64_t length,
                              bool durable_zero, Actions& actions) {
  actions.push_back(StoreZero{new_work(task), offset, length, durable_zero});
}
void LogicalUnit::State::flush(Task& task, Actions& actions) {
  actions.push_back(StoreFlush{new_work(task)});
}

namespace {

Response failure(StoreDone::Outcome outcome) {
  using Outcome = StoreDone::Outcome;
  switch (outcome) {
    case Outcome::read_failed:
      return check_condition(sense::unrecovered_read_error);
    case Outcome::write_failed:
      return check_condition(sense::write_error);
    case Outcome::not_ready:
      return check_condition(sense::not_ready_transition);
    case Outcome::no_space:
      return check_condition(sense::space_allocation_failed);
    case Outcome::conflict:
      return {.status = StatusCode::reservation_conflict, .sense = {}, .data_in = {}};
    case Outcome::ok:
    case Outcome::cancelled:  // by the store itself: it is going away
    case Outcome::busy:
      return {.status = StatusCode::busy, .sense = {}, .data_in = {}};
  }
  UNREACHABLE();
}

}  // namespace

void LogicalUnit::State::on_store_done(StoreDone&& done, Actions& actions) {
  auto it = by_work.find(done.tag);
  ASSERT(it != by_work.end());  // the store is ours: it answers what it was given, once
  Task& task = *it->second;
  by_work.erase(it);
  task.work.reset();
  if (std::exchange(task.work_is_reservations, false)) {
    reservations_changing = false;
    if (done.outcome == StoreDone::Outcome::ok)
      apply_reservations(task, actions);
    else if (task.aborted)
      finish_aborted(task, actions);
    else
      finish(task, check_condition(sense::internal_target_failure), actions);
  } else if (task.aborted) {
    finish_aborted(task, actions);
  } else if (done.outcome != StoreDone::Outcome::ok) {
    finish(task, failure(done.outcome), actions);
  } else {
    go_on_medium(task, std::move(done.data), actions);
  }
  start_what_can_start(actions);
}

// ---- nexuses ----

LogicalUnit::State::NexusState& LogicalUnit::State::nexus_state(const Nexus& nexus) {
  auto it = nexuses.find(nexus);
  if (it == nexuses.end()) {
    if (nexuses.size() >= max_nexuses) {
      // The idlest, of those without a session if there is one. Coming back, it meets 29/00 again.
      nexuses.erase(std::ranges::min_element(nexuses, {}, [](const auto& entry) {
        return std::pair(entry.second.connected, entry.second.last_use);
      }));
    }
    it = nexuses.emplace(nexus, NexusState{}).first;
    it->second.attentions.add(UnitAttention::power_on);
  }
  it->second.last_use = ++uses;
  return it->second;
}

void LogicalUnit::State::add_attention(UnitAttention attention, const Nexus* except) {
  for (auto& [nexus, state] : nexuses)
    if (!except || nexus != *except) state.attentions.add(attention);
}

// ---- the unit ----

LogicalUnit::LogicalUnit(UnitConfig config, Reservations reservations)
    : state_(std::make_unique<State>(std::move(config), std::move(reservations))) {
  const auto& c = state_->config;
  ASSERT(c.block_size == 512 || c.block_size == 4096);
  ASSERT(c.blocks > 0 && c.max_transfer >= c.block_size && c.target_ports > 0);
  ASSERT(c.serial.size() <= 64);
}
LogicalUnit::~LogicalUnit() = default;
LogicalUnit::LogicalUnit(LogicalUnit&&) noexcept = default;
LogicalUnit& LogicalUnit::operator=(LogicalUnit&&) noexcept = default;

void LogicalUnit::on_command(Command&& command, Actions& actions) {
  state_->admit(std::move(command), actions);
}

void LogicalUnit::on_store_done(StoreDone&& done, Actions& actions) {
  state_->on_store_done(std::move(done), actions);
}

void LogicalUnit::on_task_management(std::uint64_t request, TaskManagement function,
                                     const Nexus& nexus, std::optional<CommandTag> task,
                                     Actions& actions) {
  state_->manage(request, function, nexus, task, actions);
}

void LogicalUnit::on_nexus_new(const Nexus& nexus) {
  state_->nexus_state(nexus).connected = true;
}

void LogicalUnit::on_nexus_lost(const Nexus& nexus, Actions& actions) {
  auto& state = state_->nexus_state(nexus);
  state.connected = false;
  state.attentions.add(UnitAttention::nexus_loss);
  if (state_->reserved_by == nexus) state_->reserved_by.reset();
  const WaitId wait = state_->begin_wait({});
  state_->abort_all(wait, [&](const Task& t) { return t.nexus == nexus; }, actions);
  state_->end_wait(wait, actions);
  state_->start_what_can_start(actions);
}

void LogicalUnit::on_power_lost(Actions& actions) {
  for (auto& task : state_->tasks) {
    if (task.ended) continue;
    task.work.reset();
    state_->finish_aborted(task, actions);
  }
  state_->by_work.clear();
  state_->sweep();
}

void LogicalUnit::resize(std::uint64_t blocks) {
  ASSERT(blocks > 0);
  state_->config.blocks = blocks;
  add_attention(UnitAttention::capacity_changed);
}

void LogicalUnit::add_attention(UnitAttention attention) {
  state_->add_attention(attention, nullptr);
}

void LogicalUnit::remove_attention(const Nexus& nexus, UnitAttention attention) {
  state_->nexus_state(nexus).attentions.remove(attention);
}

const UnitConfig& LogicalUnit::config() const {
  return state_->config;
}
const Reservations& LogicalUnit::reservations() const {
  return state_->reservations;
}
bool LogicalUnit::write_cache() const {
  return state_->mode.write_cache;
}
std::size_t LogicalUnit::tasks() const {
  return state_->unfinished;
}

}  // namespace duet::scsi
