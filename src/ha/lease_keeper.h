// Heartbeat and lease of one identity that we serve: writes the heartbeat block of every mailbox
// disk each interval; the lease ends `lease` after the issue of the latest write that a majority
// has taken (docs/formats/mailbox.md, M8).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ha/absence.h"
#include "ha/config.h"
#include "ha/output.h"

namespace duet::ha {

class LeaseKeeper {
 public:
  LeaseKeeper(const Config& config, NodeId identity);

  void start(BootNonce nonce, Epoch epoch, Output& out);
  // Ends the lease at once. Writes still under way are of no interest any more.
  void stop(Output& out);
  // Disks that are not ours: no heartbeat goes there.
  void leave_out(DiskSet disks) { left_out_ = std::move(disks); }
  bool running() const { return beat_.has_value(); }
  // A paused node: nothing is renewed until its reservations have been read.
  void pause() { paused_ = true; }
  void resume() { paused_ = false; }

  bool on_completed(const DiskCompleted& event, Output& out);
  void on_time(Output& out);
  Instant next_time() const { return beat_ && !paused_ ? next_ : never; }

  Instant until() const { return until_; }
  // A reservation kept a heartbeat out: we are fenced, unless we are giving the identity back.
  bool conflict() const { return conflict_; }

 private:
  struct Disk {
    std::optional<CommandId> open;  // at most one write under way
    Instant issued{};
    Instant taken{};  // issue of the latest write that succeeded
  };
  void renew(Output& out);

  NodeId identity_;
  ClusterId cluster_;
  NodeId self_;
  Duration interval_, lease_;
  std::vector<Disk> disks_;
  std::optional<Heartbeat> beat_;
  std::uint64_t counter_ = 0;  // grows over all epochs of this boot
  Instant next_{};
  Instant until_{};
  DiskSet left_out_;
  bool paused_ = false;
  bool conflict_ = false;
};

}  // namespace duet::ha
