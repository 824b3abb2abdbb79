// All disks of an identity, or nothing, but for those that it is known to do without. Claim and
// fence: mailbox disk 0 first, which arbitrates between the nodes; then all others at once; then
// disk 0 is looked at again. Release and hold: all at once. Ends only when no command of it is
// under way any more.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ha/absence.h"
#include "ha/disk_fencer.h"

namespace duet::ha {

class FenceSet {
 public:
  using Outcome = DiskFencer::Outcome;
  // A disk other than the arbiter lost to the partner, who lost the arbiter to us, is fought for
  // again.
  static constexpr int max_repeats = 4;

  // May the identity do without these disks?
  using Bears = std::function<bool(const DiskSet&)>;

  // `absent` are left alone. A disk that does not answer becomes absent if `bears` says so;
  // nothing: never. The first disk that is not absent arbitrates.
  FenceSet(FenceRules rules, NodeId identity, std::uint8_t disks, DiskSet absent = {},
           Bears bears = {});
  void start(Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_time(Output& out);
  Instant next_time() const;
  Outcome outcome() const { return outcome_; }
  const std::string& why() const { return why_; }
  const DiskSet& absent() const { return absent_; }
  bool registered_anew(std::uint8_t index) const { return registered_anew_[index]; }

 private:
  enum class Phase : std::uint8_t { arbiter, others, arbiter_again };
  void settle(Output& out);
  void end(Outcome outcome, const DiskFencer& fencer);
  bool all_at_once() const {
    return rules_.mode == FenceMode::release || rules_.mode == FenceMode::hold;
  }
  DiskFencer make(std::uint8_t index, FenceMode mode) const;
  bool tolerated(std::uint8_t index) const;
  std::optional<std::uint8_t> arbiter() const;
  void add_others();

  FenceRules rules_;
  NodeId identity_;
  std::uint8_t disks_;
  DiskSet absent_;
  Bears bears_;
  Phase phase_ = Phase::arbiter;
  std::vector<DiskFencer> running_;
  std::vector<bool> registered_anew_;  // by disk
  int repeats_ = 0;
  Outcome outcome_ = Outcome::running;
  std::string why_;
};

}  // namespace duet::ha
