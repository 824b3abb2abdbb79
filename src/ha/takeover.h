// The survivor takes over its partner's identity: check, close the mirror window, fence every disk,
// read again, mark, assume. Chart and invariants T1..T8: docs/protocols/takeover.md.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ha/fence_set.h"
#include "ha/survey.h"
#include "ha/world.h"

namespace duet::ha {

class Takeover {
 public:
  static constexpr int max_attempts = 10;  // of a mailbox read or write before handing back

  // Requires: idle(). `request`: of the operator, 0 if none.
  void begin(Reason trigger, std::uint64_t request, bool force, World& world, Output& out);
  // The giveback failed after the mailbox said "free": take back everything.
  void retake(World& world, Output& out);
  // The partner serves itself again.
  void given_back(World& world, Output& out);

  bool advance(World& world, Output& out);
  bool on_completed(const DiskCompleted& event, World& world, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_window_closed(World& world, Output& out);
  void on_assumed(World& world, Output& out);
  void on_assume_failed(const std::string& why, World& world, Output& out);
  Instant next_time() const;

  bool idle() const { return std::holds_alternative<Idle>(state_); }
  bool serving() const { return std::holds_alternative<Serving>(state_); }
  // Fencing has begun, or worse for the partner: no mirror window, no trust in its messages.
  bool against_partner() const { return !idle() && !std::holds_alternative<Checking>(state_); }
  // The mailbox bears our mark: heartbeats run, and losing a key means that we are fenced.
  bool holding() const {
    return std::holds_alternative<AwaitingLease>(state_) ||
           std::holds_alternative<Assuming>(state_) || serving();
  }
  Epoch epoch() const { return holding() ? epoch_ : Epoch(0); }
  std::string_view step() const;  // for status
  Reason trigger() const { return trigger_; }
  Reason refusal() const { return refusal_; }  // why the last attempt ended without serving
  Instant retry_at() const { return retry_at_; }
  // After `backoff`, or at once if the reason for refusing may be gone.
  bool may_begin(Instant now) const { return idle() && now >= retry_at_; }

 private:
  struct Idle {};
  struct Checking {};
  struct AskingShutdown {
    Instant until;
  };
  struct ClosingWindow {
    Instant until;
  };
  struct Fencing {
    FenceSet fences;
  };
  struct Confirming {
    struct Beat {
      CommandId command;
      std::uint8_t disk;
    };
    std::optional<CommandId> own_disk;  // reading the reservation of our own mailbox disk 0
    bool own_disk_ours = false;
    std::vector<Beat> beats;  // reads of the partner's heartbeat blocks under way
    Instant lease_ends{};     // of the partner, at the latest
    std::size_t beats_read = 0;
    std::optional<Mailbox> mailbox;
    bool mailbox_pending = true;
    bool failed = false;
    int attempts = 0;
    Instant retry = never;
  };
  struct Marking {
    Mailbox mailbox;
    Instant lease_ends{};
    int attempts = 0;
    Instant retry = never;
  };
  struct AwaitingLease {
    Instant until;
  };
  struct Assuming {
    Instant retry = never;
  };
  struct Serving {};
  struct HandingBack {
    FenceSet fences;
    Instant retry = never;
  };

  void refuse(Reason why, World& world, Output& out);  // nothing has been changed
  void hand_back(Reason why, World& world, Output& out);
  bool settle_handing_back(World& world, Output& out);
  void close_window(World& world, Output& out);
  void fence(World& world, Output& out);
  void confirm(int attempts, World& world, Output& out);
  bool settle_confirming(World& world, Output& out);
  void mark(const Confirming& seen, World& world, Output& out);
  void assume(World& world, Output& out);
  void on_checked(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_marked(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  bool still_wanted(const World& world, Instant now) const;
  void answer(OperatorAnswer::Outcome outcome, Reason reason, Output& out);
  bool send_kill_packets(World& world, Output& out);

  std::variant<Idle, Checking, AskingShutdown, ClosingWindow, Fencing, Confirming, Marking,
               AwaitingLease, Assuming, Serving, HandingBack>
      state_;
  // Of the attempt under way.
  Reason trigger_ = Reason::none;
  std::uint64_t request_ = 0;
  bool force_ = false;
  bool partner_stopped_ = false;  // known to answer nobody any more
  int closes_ = 0;                // MirrorWindowClosed events still to come
  Mailbox marked_;
  bool replay_ = false;
  Epoch epoch_;
  BootNonce victim_;  // the partner's boot that we took over
  Instant kill_at_ = never;
  Reason refusal_ = Reason::none;
  Instant retry_at_{};
};

}  // namespace duet::ha
