// What goes wrong in a run: a plan of faults made from the seed alone, so that single ones can be
// left out. Each kind is on or off per seed (swarm testing). A fault happens at a time, or soon
// after something that a node does: how rare windows are hit.
#pragma once

#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "simulator/world.h"

namespace duet::simulator {

enum class Fault : std::uint8_t {
  // to_node
  engine_crash,
  supervisor_crash,
  power_loss,
  nvram_lost,
  pause_node,
  pause_engine,
  pause_supervisor,
  pause_both,
  starve,
  clock_step,
  // to_link
  link_cut,
  link_cut_one_way,
  link_slow,
  state_torn,
  state_stale,
  state_frozen,
  completion_lost,
  mirror_write_late,
  mirror_write_held,
  messages_reordered,
  messages_duplicated,
  message_again,
  // to_disks
  disk_errors,
  disk_slow,
  disk_hang,
  path_cut,
  path_reset,
  shelf_blip,
  disk_blip,
  disk_forgets,
  unit_attention,
  // to_area
  mailbox_write_lost,
  mailbox_write_misdirected,
  mailbox_lost,
  mailbox_rolled_back,
  pool_write_lost,
  pool_write_misdirected,
  mirror_bit_flip,
  // to_clients
  client_cut,
  client_reset,
  // by_operator
  operator_takeover,
  operator_takeover_self,
  operator_takeover_both,
  operator_takeover_forced,
  operator_cancel,
  operator_giveback,
  operator_boot_forced,
  operator_halt,
  count,
};
std::string_view name(Fault fault);
std::optional<Fault> find_fault(std::string_view name);

// What a fault may wait for: phases of the events that a node tells its operator, and what the
// simulator sees happen (`seen.`).
std::span<const std::string_view> trigger_names();
struct Trigger {
  std::string_view event;  // of trigger_names()
  NodeId node;             // who does it
};

struct FaultEvent {
  Duration at{};                   // since the faults began
  std::optional<Trigger> trigger;  // then it happens `delay` after the first one since `at`
  Duration delay{};
  Fault fault{};
  NodeId node;               // whom it concerns, or whose identity's disks
  Duration lasts{};          // where that means something
  bool dump_disks = false;   // of disks: these and no other
  std::uint64_t chance = 0;  // seed of what is left open
};
// "power_loss (node 2, 300 ms) 1.250 ms after giveback.done of node 1"
std::string describe(const FaultEvent& event);
inline constexpr std::string_view of_coredump_disks = " of the coredump disks";

// Whether an engine that crashes can say so, and be dumped: what engine_crash leaves open.
bool engine_tells(Random& random);

struct FaultPlan {
  std::set<Fault> kinds;
  // A node may fail while the other one is down.
  bool double_failures = false;
  Duration length{};
  std::vector<FaultEvent> events;  // in the order of time
};
FaultPlan make_plan(std::uint64_t seed, const Shape& shape, Duration length);

}  // namespace duet::simulator
