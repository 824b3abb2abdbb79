// What an earlier boot of ours left on the partner's disks: a takeover that was marked is resumed
// once we are up; reservations of one that was not marked are handed back, so that the partner can
// boot (docs/protocols/boot.md; frees nodes that fenced each other). A registration on a disk that
// is not ours, of a fencing that had just begun, goes (B8).
#pragma once

#include <variant>

#include "ha/fence_set.h"
#include "ha/survey.h"
#include "ha/world.h"

namespace duet::ha {

class Leftovers {
 public:
  void start(Output& out);
  bool advance(World& world, Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  Instant next_time() const;
  // Until then no takeover: the reservations are being read or changed.
  bool done() const { return std::holds_alternative<Done>(state_); }

 private:
  void hand_back(bool fenced, World& world, Output& out);

  struct Idle {};
  struct Waiting {
    Instant until;
  };
  struct Surveying {
    Survey survey;
  };
  struct Reading {};
  struct HandingBack {
    bool fenced = false;  // some disk, by us; else there can only be registrations
    FenceSet fences;
  };
  struct Done {};
  std::variant<Idle, Waiting, Surveying, Reading, HandingBack, Done> state_;
};

}  // namespace duet::ha
