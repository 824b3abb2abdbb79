// Are our disks still ours? Asked after a unit attention, and after a pause of this node, before
// anything else is decided (B6). A disk that forgot its registrations is taken again; one that
// another node has taken means that we are fenced. And are disks that we took over ours alone?
// Asked again and again (takeover.md T9).
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "ha/disk_fencer.h"
#include "ha/world.h"

namespace duet::ha {

class HoldVerifier {
 public:
  struct Hold {
    ports::ReservationType type{};  // what a disk that forgot everything is reserved with again
    bool alone = false;             // the partner's registrations are taken away
  };
  void verify(DiskRef disk, Hold hold, const World& world, Output& out);
  bool verifying(DiskRef disk) const { return running_.contains(disk); }
  bool on_completed(const DiskCompleted& event, Output& out);
  // `held`: by identity, whether losing a disk of it means that we are fenced.
  void advance(World& world, std::array<bool, 3> held, Output& out);
  Instant next_time() const;
  bool idle() const { return running_.empty(); }

 private:
  struct Check {
    DiskFencer fencer;
    Hold hold;
  };
  std::map<DiskRef, Check> running_;
};

}  // namespace duet::ha
