// All disks of an identity, or nothing. Claim and fence: mailbox disk 0 first, which arbitrates
// between the nodes; then all others at once; then disk 0 is looked at again. Release and hold: all
// at once. Ends only when no command of it is under way any more.
#pragma once

#include <string>
#include <vector>

#include "ha/disk_fencer.h"

namespace duet::ha {

class FenceSet {
 public:
  using Outcome = DiskFencer::Outcome;
  // A disk other than the arbiter lost to the partner, who lost the arbiter to us, is fought for
  // again.
  static constexpr int max_repeats = 4;

  FenceSet(FenceRules rules, NodeId identity, std::uint8_t disks);
  void start(Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_time(Output& out);
  Instant next_time() const;
  Outcome outcome() const { return outcome_; }
  const std::string& why() const { return why_; }
  bool registered_anew(std::uint8_t index) const { return registered_anew_[index]; }

 private:
  enum class Phase : std::uint8_t { arbiter, others, arbiter_again };
  void settle(Output& out);
  void end(Outcome outcome, const DiskFencer& fencer);
  bool all_at_once() const {
    return rules_.mode == FenceMode::release || rules_.mode == FenceMode::hold;
  }
  DiskFencer make(std::uint8_t index, FenceMode mode) const;

  FenceRules rules_;
  NodeId identity_;
  std::uint8_t disks_;
  Phase phase_ = Phase::arbiter;
  std::vector<DiskFencer> running_;
  std::vector<bool> registered_anew_;  // by disk
  int repeats_ = 0;
  Outcome outcome_ = Outcome::running;
  std::string why_;
};

}  // namespace duet::ha
