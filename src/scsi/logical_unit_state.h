// The inside of LogicalUnit, shared by its three source files: the task set (logical_unit.cc),
// commands on the medium (medium_commands.cc) and all others (control_commands.cc).
#pragma once

#include <list>
#include <map>
#include <unordered_map>

#include "scsi/logical_unit.h"
#include "scsi/mode.h"
#include "scsi/task.h"

namespace duet::scsi {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

struct LogicalUnit::State {
  State(UnitConfig c, Reservations r) : config(std::move(c)), reservations(std::move(r)) {
    mode.write_cache = config.write_cache;
  }

  using Tasks = std::list<Task>;
  struct NexusState {
    UnitAttentions attentions;
    bool connected = false;
    std::uint64_t last_use = 0;
  };
  struct Wait {
    std::size_t left = 0;
    std::optional<std::uint64_t> request;  // task management, or else
    bool task_found = true;
    Task* preempt = nullptr;  // PREEMPT AND ABORT; null once that is aborted itself
  };

  // ---- task set ----
  void admit(Command&& command, Actions& actions);
  void start_what_can_start(Actions& actions);
  bool may_start(Tasks::iterator task) const;
  void start(Task& task, Actions& actions);
  std::optional<Response> refusal(const Task& task);  // unit attention, reservation, bad CDB
  void end(Task& task);
  void finish(Task& task, Response response, Actions& actions);
  void finish_aborted(Task& task, Actions& actions);
  void sweep();

  // ---- aborting ----
  WaitId begin_wait(Wait wait);
  void abort(Task& task, WaitId wait, Actions& actions);
  void end_wait(WaitId wait, Actions& actions);  // one less to wait for
  template <class Which>
  void abort_all(WaitId wait, Which which, Actions& actions) {
    for (auto& task : tasks)
      if (!task.ended && which(task)) abort(task, wait, actions);
  }
  void manage(std::uint64_t request, TaskManagement function, const Nexus& nexus,
              std::optional<CommandTag> which, Actions& actions);

  // ---- store work of a task ----
  StoreTag new_work(Task& task);
  void read(Task& task, std::uint64_t offset, std::uint64_t length, Actions& actions);
  void write(Task& task, std::uint64_t offset, std::vector<Slice> data, bool durable,
             Actions& actions);
  void zero(Task& task, std::uint64_t offset, std::uint64_t length, bool durable, Actions& actions);
  void flush(Task& task, Actions& actions);
  void on_store_done(StoreDone&& done, Actions& actions);

  // ---- medium_commands.cc ----
  // Begin checks the unit's limits; go_on is called with the result of each piece of work.
  std::optional<Sense> check_extent(std::uint64_t lba, std::uint64_t count, bool limited) const;
  std::uint64_t arrived(const Task& task, std::uint64_t blocks) const;
  std::optional<Sense> check_medium(const Task& task) const;
  void begin_medium(Task& task, Actions& actions);
  void go_on_medium(Task& task, std::vector<Slice>&& data, Actions& actions);
  void begin_write_same(Task& task, const WriteSame& op, Actions& actions);
  void go_on_write_same(Task& task, const WriteSame& op, Actions& actions);
  void go_on_unmap(Task& task, Actions& actions);
  void compare_and_write(Task& task, const CompareAndWrite& op, std::vector<Slice>&& data,
                         Actions& actions);
  void or_write(Task& task, const OrWrite& op, std::vector<Slice>&& data, Actions& actions);
  void verify(Task& task, const Verify& op, std::vector<Slice>&& data, Actions& actions);
  bool durable(bool force_unit_access) const { return force_unit_access || !mode.write_cache; }
  std::uint64_t bytes(std::uint64_t blocks) const { return blocks * config.block_size; }

  // ---- control_commands.cc ----
  void control(Task& task, Actions& actions);
  void go_on_control(Task& task, Actions& actions);
  Response request_sense(const Task& task, const RequestSense& op);
  void mode_select_command(Task& task, const ModeSelect& op, Actions& actions);
  void reservation_command(Task& task, const PersistentReserveOut& op, Actions& actions);
  void apply_reservations(Task& task, Actions& actions);
  Response target_port_groups(const ReportTargetPortGroups& op) const;
  Response lba_status(const GetLbaStatus& op) const;

  // ---- nexuses ----
  NexusState& nexus_state(const Nexus& nexus);
  void add_attention(UnitAttention attention, const Nexus* except);

  UnitConfig config;
  ModeParameters mode;
  Reservations reservations;
  std::optional<Nexus> reserved_by;    // RESERVE(6)
  bool reservations_changing = false;  // being persisted: nothing starts meanwhile

  Tasks tasks;
  std::size_t waiting = 0;  // not started
  std::size_t ordered = 0;  // unfinished ORDERED tasks
  std::size_t alone = 0;    // unfinished tasks that must have their blocks alone
  std::size_t unfinished = 0;
  bool sweep_needed = false;
  std::unordered_map<CommandTag, Task*> by_tag;
  std::unordered_map<StoreTag, Task*> by_work;
  std::map<WaitId, Wait> waits;
  std::map<Nexus, NexusState> nexuses;
  std::uint64_t uses = 0;
  StoreTag last_work;
  WaitId last_wait;
};

// Data cut to the allocation length.
Response good(std::vector<std::byte> data, std::uint64_t allocation);

}  // namespace duet::scsi
