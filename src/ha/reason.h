// Why the core does, or refuses, something: for status, events, the mailbox and exit texts. Values
// are stored in the mailbox and the state structure: append only.
#pragma once

#include <cstdint>
#include <string_view>

namespace duet::ha {

enum class Reason : std::uint8_t {
  none = 0,
  // triggers of a takeover
  partner_panicked = 1,
  partner_silent = 2,
  partner_rebooted = 3,
  partner_shut_down = 4,
  operator_order = 5,
  cold_start = 6,
  resumed = 7,
  giveback_failed = 8,
  // why a node waits or does not serve
  taken_over = 20,
  disks_missing = 21,
  mailbox_unknown = 22,
  nvram_lost = 23,
  awaiting_partner = 24,
  awaiting_engine = 25,
  lost_arbitration = 26,
  engine_failed = 27,
  fenced = 28,
  awaiting_giveback = 29,
  partner_absent_taken_over = 30,  // the mailbox says taken over, but the partner holds nothing
  claiming = 31,
  // refusals
  not_up = 40,
  already_taken_over = 41,
  not_taken_over = 42,
  partner_not_waiting = 43,
  partner_makes_no_progress = 44,
  ask_the_partner = 45,
  ask_the_node = 46,
  busy = 47,
  partner_disks_unreachable = 48,
  log_not_here = 49,
  halt_without_takeover = 50,
  no_lease = 51,
  engine_stuck = 52,
  serves_partner = 53,
  no_such_node = 54,
  fencing_failed = 55,
  vetoed = 56,
  ended = 57,
  giveback_timed_out = 58,
  no_takeover_under_way = 59,
  // graceful takeover
  handed_over = 60,
  takeover_forced = 61,
  cancelled = 62,
  hand_over_failed = 63,
  not_prepared = 64,
  departing = 65,
  partner_takes_over = 66,
  too_late = 67,
  no_answer = 68,
  partner_silent_to_us = 69,
  mailbox_unwritable = 70,
  log_damaged = 71,
  // readiness
  inventory_mismatch = 80,
  version_mismatch = 81,
  survivor_unwell = 82,
  partner_unwell = 83,
  health_unknown = 84,
  label_unfit = 85,
  foreign_reservation = 86,
  disk_done_without = 87,  // a finding, in nobody's way
  coredump_in_progress = 88,
  engine_panicked = 89,  // why a node ends its boot
};

std::string_view name(Reason reason);  // stable, snake_case
std::string_view sentence(
    Reason reason);  // for people: what is the matter, and the cure if there is one

}  // namespace duet::ha
