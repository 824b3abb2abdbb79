// Reads the reservation of every disk of an identity: the read-only probe of a boot. Changes
// nothing.
#pragma once

#include <optional>
#include <vector>

#include "ha/absence.h"
#include "ha/config.h"
#include "ha/output.h"

namespace duet::ha {

enum class Holding : std::uint8_t {
  unreadable,   // a disk did not answer
  exclusive,    // at least one disk is kept from everyone else by the partner
  shared_all,   // the partner holds every disk, readable for all
  shared_some,  // the partner holds some disks, readable
  none,         // the partner holds nothing
};

class Survey {
 public:
  // `absent` are not asked.
  Survey(const Config& config, NodeId identity, DiskSet absent = {});
  void start(Output& out);
  bool on_completed(const DiskCompleted& event);
  bool done() const { return open_ == 0; }
  // As seen by `self`, without `ignored`. Requires: done().
  Holding holding(const DiskSet& ignored = {}) const;
  // Disks that did not answer, are not held by the partner, or are kept from everyone else by it.
  DiskSet unreadable() const;
  DiskSet not_held_by_partner() const;
  DiskSet exclusive() const;
  // A disk is held as Exclusive Access by a key of our own node, of whichever boot.
  bool exclusive_by_us() const;
  const std::vector<std::optional<ports::ReservationState>>& states() const { return states_; }

 private:
  template <class Test>
  DiskSet which(Test test) const;

  ClusterId cluster_;
  NodeId self_;
  NodeId identity_;
  std::vector<std::optional<CommandId>> commands_;
  std::vector<std::optional<ports::ReservationState>> states_;
  DiskSet absent_;
  std::size_t open_ = 0;
};

}  // namespace duet::ha
