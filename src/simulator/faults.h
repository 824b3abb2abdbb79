// How the faults of a plan are done to a world.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "ha/events.h"
#include "ha/mailbox.h"
#include "simulator/fault_plan.h"
#include "simulator/sim_disk.h"
#include "simulator/world.h"

namespace duet::simulator {

class Faults {
 public:
  Faults(World& world, FaultPlan plan);
  ~Faults();
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;
  // Schedules the plan from now on; `left_out`: indexes of events that do not happen.
  void start(const std::set<std::size_t>& left_out);
  // Ends everything that goes on: all power, all paths, nothing is slow, nobody stands still, no
  // node is halted. Nothing happens any more.
  void heal();
  // Both nodes serve their own identity, mirrored.
  bool settled() const;
  std::uint64_t happened() const { return happened_; }

 private:
  void arm(std::size_t index);
  void happen(const FaultEvent& event);
  void to_node(const FaultEvent& event, Random& random);
  void to_link(const FaultEvent& event, Random& random);
  void to_disks(const FaultEvent& event, Random& random);
  void to_area(const FaultEvent& event, Random& random);
  void flip_bit(const FaultEvent& event, Random& random);
  void to_clients(const FaultEvent& event);
  void by_operator(const FaultEvent& event, Random& random);
  void order(NodeId at, ha::OperatorRequest request);
  void hear(std::string_view who, std::string_view text);
  void see_mailbox(const SimUnit& unit, const SimUnit::Landed& landed);
  void on_event(NodeId node, std::string_view event);
  bool may_lose_power(NodeId node) const;
  bool may_lose_nvram(NodeId node) const;
  void later(Duration after, std::function<void()> what);
  SimUnit& victim(NodeId identity);
  void repair_mailbox(NodeId identity);

  World& world_;
  FaultPlan plan_;
  bool over_ = false;
  std::uint64_t happened_ = 0;
  std::vector<std::size_t> armed_;  // wait for their triggers
  std::array<ha::Mailbox, 3> seen_mailbox_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::array<bool, 3> flipped_{};          // a bit of the mirror of this identity's log
  std::array<std::uint8_t, 3> victims_{};  // the one disk whose mailbox may be spoilt
  std::array<std::vector<std::byte>, 3> old_mailbox_;
};

}  // namespace duet::simulator
