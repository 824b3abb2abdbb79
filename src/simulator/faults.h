// What goes wrong in a run: a plan of faults made from the seed alone, so that single ones can be
// left out, and how each is done to a world. Each kind is on or off per seed (swarm testing).
#pragma once

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
  engine_crash,
  supervisor_crash,
  power_loss,
  pause_node,
  pause_engine,
  pause_supervisor,
  starve,
  clock_step,
  link_cut,
  link_cut_one_way,
  link_slow,
  state_torn,
  state_stale,
  completion_lost,
  mirror_write_late,
  message_again,
  disk_errors,
  disk_slow,
  disk_hang,
  path_cut,
  path_reset,
  shelf_blip,
  disk_blip,
  unit_attention,
  mailbox_write_lost,
  mailbox_write_misdirected,
  mailbox_lost,
  mailbox_rolled_back,
  mirror_bit_flip,
  client_cut,
  client_reset,
  operator_takeover,
  operator_takeover_self,
  operator_cancel,
  operator_giveback,
  operator_halt,
  count,
};
std::string_view name(Fault fault);
std::optional<Fault> find_fault(std::string_view name);

struct FaultEvent {
  Duration at{};  // since the faults began
  Fault fault{};
  NodeId node;               // whom it concerns, or whose identity's disks
  Duration lasts{};          // where that means something
  std::uint64_t chance = 0;  // seed of what is left open
};
std::string describe(const FaultEvent& event);

struct FaultPlan {
  std::set<Fault> kinds;
  // A node may fail while the other one is down.
  bool double_failures = false;
  Duration length{};
  std::vector<FaultEvent> events;  // in the order of time
};
FaultPlan make_plan(std::uint64_t seed, const Shape& shape, Duration length);

class Faults {
 public:
  Faults(World& world, FaultPlan plan);
  // Schedules the plan from now on; `left_out`: indexes of events that do not happen.
  void start(const std::set<std::size_t>& left_out);
  // Ends everything that goes on: all power, all paths, nothing is slow, nobody stands still, no
  // node is halted. Nothing happens any more.
  void heal();
  // Both nodes serve their own identity, mirrored.
  bool settled() const;
  std::uint64_t happened() const { return happened_; }

 private:
  void happen(const FaultEvent& event);
  void to_node(const FaultEvent& event, Random& random);
  void to_link(const FaultEvent& event, Random& random);
  void to_disks(const FaultEvent& event, Random& random);
  void to_mailbox(const FaultEvent& event, Random& random);
  void to_clients(const FaultEvent& event);
  void by_operator(const FaultEvent& event, Random& random);
  void hear(std::string_view who, std::string_view text);
  bool may_lose_power(NodeId node) const;
  void later(Duration after, std::function<void()> what);
  SimUnit& victim(NodeId identity);
  void repair_mailbox(NodeId identity);

  World& world_;
  FaultPlan plan_;
  bool over_ = false;
  std::uint64_t happened_ = 0;
  std::array<bool, 3> flipped_{};          // a bit of the mirror of this identity's log
  std::array<std::uint8_t, 3> victims_{};  // the one disk whose mailbox may be spoilt
  std::array<std::vector<std::byte>, 3> old_mailbox_;
};

}  // namespace duet::simulator
