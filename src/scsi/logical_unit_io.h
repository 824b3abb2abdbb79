// What goes in and out of a SCSI logical unit. The unit itself (logical_unit.h) is sans-I/O:
// commands and completions in, actions out. The disk shelf and the LUN service drive the same unit;
// they differ only in how they perform the store actions.
//
// Terms are those of SAM-5, SPC-4 and SBC-3.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/strong.h"

namespace duet::scsi {

// An I_T nexus: who talks to us through which of our ports (SAM-5 4.7). For iSCSI the initiator
// port is name + ISID (RFC 7143 4.4), so it survives the loss of the connection; reservations
// belong to it.
struct Nexus {
  std::string initiator_name;              // iSCSI name, e.g. iqn.2026-11.com.example:host
  std::array<std::uint8_t, 6> isid{};      // initiator session id
  std::uint16_t relative_target_port = 1;  // SPC-4 relative port identifier; > 1 on a second path
  auto operator<=>(const Nexus&) const = default;
};

// Chosen by the transport, unique among the commands outstanding at one logical unit.
using CommandTag = Strong<struct CommandTagTag, std::uint64_t>;
// Chosen by the logical unit for work it gave to the store.
using StoreTag = Strong<struct StoreTagTag, std::uint64_t>;

enum class TaskAttribute : std::uint8_t { simple, ordered, head_of_queue };

struct Command {
  CommandTag tag;
  Nexus nexus;
  TaskAttribute attribute = TaskAttribute::simple;
  std::array<std::uint8_t, 16> cdb{};
  std::vector<Slice> data_out;         // complete: the transport has collected it
  std::uint32_t data_in_expected = 0;  // bytes the initiator is ready to take
};

enum class StatusCode : std::uint8_t {  // SAM-5 table 33
  good = 0x00,
  check_condition = 0x02,
  condition_met = 0x04,
  busy = 0x08,
  reservation_conflict = 0x18,
  task_set_full = 0x28,
  aca_active = 0x30,
  task_aborted = 0x40,
};

struct Response {
  StatusCode status = StatusCode::good;
  std::vector<std::byte> sense;  // SPC-4 4.5.3 fixed format with check_condition, else empty
  std::vector<Slice> data_in;    // already cut to the CDB's allocation length
  std::uint32_t data_out_wanted =
      0;  // bytes of data-out the CDB asked for: the transport's residual
};

enum class TaskManagement : std::uint8_t {  // RFC 7143 11.5.1 function codes
  abort_task = 1,
  abort_task_set = 2,
  clear_aca = 3,
  clear_task_set = 4,
  logical_unit_reset = 5,
  target_warm_reset = 6,
  target_cold_reset = 7,
};

// ---- actions: orders of a logical unit, performed in order ----

// The answer to a command. Each command gets exactly one, unless it is aborted: then
// CommandAborted.
struct Respond {
  CommandTag tag;
  Response response;
};
// The command was aborted by another one (PREEMPT AND ABORT, CLEAR TASK SET, a reset) and nothing
// is sent for it (TAS = 0). Comes only when its store work has ended: its data can land no more.
struct CommandAborted {
  CommandTag tag;
};
// The task management function is complete (all tasks it aborts have ended).
struct TaskManagementDone {
  std::uint64_t request;
  bool function_complete = true;  // false: rejected
  bool task_found = true;         // of abort_task; false: the command had been answered before
};

// Work for the store. Offsets and lengths in bytes, inside the unit, multiples of its block size.
// Each is answered by exactly one StoreDone. Work given while other work is under way may run in
// any order with it; the unit itself keeps ORDERED tasks and overlapping atomic work apart.
struct StoreRead {
  StoreTag tag;
  std::uint64_t offset;
  std::uint32_t length;
};
struct StoreWrite {
  StoreTag tag;
  std::uint64_t offset;
  std::vector<Slice> data;
  bool durable;  // FUA, or the unit's write cache is off: done means it survives a power loss
};
struct StoreZero {  // UNMAP and WRITE SAME of zeros
  StoreTag tag;
  std::uint64_t offset;
  std::uint64_t length;
  bool durable;
};
struct StoreFlush {
  StoreTag tag;
};
// The reservations with their generation, in the form of docs/formats/reservations.md; done means
// durable. Given only when they must persist (APTPL, or units whose reservations always do).
struct StoreReservations {
  StoreTag tag;
  std::vector<std::byte> state;
};
// The work is not wanted any more. Its StoreDone must still come, with `cancelled` or its result,
// and after it nothing of this work may reach the medium.
struct StoreAbort {
  StoreTag tag;
};

using Action = std::variant<Respond, CommandAborted, TaskManagementDone, StoreRead, StoreWrite,
                            StoreZero, StoreFlush, StoreReservations, StoreAbort>;
using Actions = std::vector<Action>;

// ---- events: facts for a logical unit ----

struct StoreDone {
  enum class Outcome : std::uint8_t {
    ok,
    cancelled,     // after StoreAbort
    read_failed,   // MEDIUM ERROR, UNRECOVERED READ ERROR
    write_failed,  // MEDIUM ERROR, WRITE ERROR
    not_ready,     // the node is not able to serve now: NOT READY 02/04/0A, initiators retry
    busy,          // a bound was reached: status BUSY, initiators retry
    no_space,      // DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT 07/27/07
    conflict,      // RESERVATION CONFLICT below us
  };
  StoreTag tag;
  Outcome outcome = Outcome::ok;
  std::vector<Slice> data;  // of a StoreRead
};

}  // namespace duet::scsi
