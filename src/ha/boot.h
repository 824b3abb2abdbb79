// How a node comes up in its own identity, with the coordinated wait for a giveback. Chart and
// invariants B1..B7: docs/protocols/boot.md.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "ha/fence_set.h"
#include "ha/survey.h"
#include "ha/world.h"

namespace duet::ha {

// What the probe and the mailbox say, and what follows: a decision table.
struct BootView {
  bool disks_connected = false;
  Holding holding = Holding::unreadable;
  std::optional<Mailbox> mailbox;  // nothing: unknown
  bool mailbox_kept_out = false;
  bool mailbox_of_other_version = false;
  bool partner_watches_earlier_boot = false;
  bool link_may_come = false;  // boot_link_wait has not passed and the link is not ready
  bool coordinated = false;    // we waited in givewait or mbwait before
  bool partner_wait_over = false;
  std::optional<std::uint64_t> nvram;  // nothing: the engine is not ready
  bool forced = false;
};
struct BootWait {
  NodeState shown = NodeState::booting;
  Reason why = Reason::none;
  bool operator==(const BootWait&) const = default;
};
struct BootClaim {
  bool operator==(const BootClaim&) const = default;
};
using BootDecision = std::variant<BootWait, BootClaim>;
// Ensures: claims only with a known mailbox, or forced.
BootDecision decide_boot(const BootView& view, NodeId self);

class Boot {
 public:
  static constexpr int max_attempts = 10;  // of a mailbox read or write before probing anew

  void start(Output& out);
  bool advance(World& world, Output& out);  // true: something changed
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_assumed(World& world, Output& out);
  void on_assume_failed(const std::string& why, World& world, Output& out);
  // The partner says that it has written the mailbox: it is read at once, and decides.
  void on_given_back(Output& out);
  // The operator accepts the loss of what only the partner has. False: not waiting for it.
  bool force(Output& out);
  Instant next_time() const;

  bool up() const { return std::holds_alternative<Up>(state_); }
  // Epoch marked: heartbeats run and losing a key means fenced.
  bool holding() const {
    return std::holds_alternative<Assuming>(state_) || std::holds_alternative<Up>(state_);
  }
  NodeState shown() const { return up() ? NodeState::up : shown_; }
  Reason reason() const { return why_; }

 private:
  struct Idle {};
  struct Waiting {
    Instant until;
  };
  struct Probing {
    Survey survey;
  };
  struct Reading {
    Holding holding;
  };
  struct Seizing {
    FenceSet fences;
  };
  struct Claiming {
    FenceSet fences;
    Mailbox from;
  };
  struct Rereading {
    Mailbox from;
    int attempts = 0;
    Instant retry = never;
  };
  struct Marking {
    Mailbox mailbox;
    int attempts = 0;
    Instant retry = never;
  };
  struct Assuming {
    Mailbox mailbox;
    ReplayDecision log;
    Instant retry = never;
  };
  struct Up {};

  void wait(BootWait what, Duration time, World& world, Output& out);
  void probe(World& world, Output& out);
  Holding conclude(const Survey& survey, const World& world);
  void decide(Holding holding, std::optional<Mailbox> mailbox, bool kept_out, World& world,
              Output& out);
  void seize(World& world, Output& out);
  void claim(Mailbox from, World& world, Output& out);
  void on_reread(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_marked(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void assume(World& world, Output& out);

  std::variant<Idle, Waiting, Probing, Reading, Seizing, Claiming, Rereading, Marking, Assuming, Up>
      state_;
  NodeState shown_ = NodeState::booting;
  Reason why_ = Reason::none;
  Instant started_{};
  std::optional<Instant> partner_wait_until_;
  DiskSet absent_;  // disks that this attempt does without
  bool forced_ = false;
  bool look_again_ = false;     // what is being read may be older than what the partner wrote
  bool other_version_ = false;  // the mailbox, when last read
};

}  // namespace duet::ha
