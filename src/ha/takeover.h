// The survivor takes over its partner's identity: check, close the mirror window, fence every disk,
// read again, mark, assume. Chart and invariants T1..T8: docs/protocols/takeover.md. By order, from
// a partner that serves: first warm up and count down, docs/protocols/graceful_takeover.md.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ha/fence_set.h"
#include "ha/survey.h"
#include "ha/world.h"

namespace duet::ha {

struct TakeoverOrder {
  Reason trigger = Reason::none;
  std::uint64_t request = 0;        // of the operator, 0: none
  std::uint64_t asked = 0;          // number of the partner's please takeover, 0: none
  bool unwell = false;              // the partner asked by itself: it cannot serve
  bool force = false;               // all soft vetoes are overridden
  std::vector<Reason> overrides{};  // single ones
  Duration countdown = seconds(30);

  bool overridden(Reason reason) const {
    return force || std::ranges::find(overrides, reason) != overrides.end();
  }
};

class Takeover {
 public:
  static constexpr int max_attempts = 10;  // of a mailbox read or write before handing back
  static constexpr Duration min_countdown = seconds(1), max_countdown = seconds(600);
  static constexpr Duration warming_limit = seconds(10);
  static constexpr Duration please_interval = milliseconds(200);
  // For the partner to say whether it serves on or has left.
  static constexpr Duration cancel_limit = seconds(5);

  // Requires: idle().
  void begin(TakeoverOrder order, World& world, Output& out);
  // The giveback failed after the mailbox said "free": take back everything.
  void retake(World& world, Output& out);
  // The partner serves itself again.
  void given_back(World& world, Output& out);

  bool advance(World& world, Output& out);
  bool on_completed(const DiskCompleted& event, World& world, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_window_closed(World& world, Output& out);
  void on_log_checked(const LogChecked& event, World& world, Output& out);
  void on_prepared(const IdentityPrepared& event, World& world, Output& out);
  void on_declined(const ShutdownDeclined& declined, World& world, Output& out);
  // The operator cancels here. none: answered later, with `request`.
  Reason cancel(std::uint64_t request, World& world, Output& out);
  // Before anything has been changed: ends the attempt. Requires: graceful().
  void give_up(OperatorAnswer::Outcome outcome, Reason why, World& world, Output& out);
  // We were not running for `gap`: nor was the countdown.
  void forgive(Duration gap);
  void on_assumed(World& world, Output& out);
  void on_assume_failed(const std::string& why, World& world, Output& out);
  Instant next_time() const;

  bool idle() const { return std::holds_alternative<Idle>(state_); }
  bool serving() const { return std::holds_alternative<Serving>(state_); }
  // An order that has changed nothing yet: it may be cancelled, or yield to the partner's.
  bool graceful() const {
    return (std::holds_alternative<Checking>(state_) && order_.trigger == Reason::operator_order) ||
           std::holds_alternative<Warming>(state_) || counting_down();
  }
  bool cancelling() const { return std::holds_alternative<Cancelling>(state_); }
  bool counting_down() const { return std::holds_alternative<CountingDown>(state_); }
  // Beyond that: no mirror window, and nobody listens to the partner's heartbeats.
  bool against_partner() const {
    return !idle() && !graceful() && !std::holds_alternative<Checking>(state_) && !cancelling();
  }
  // The mailbox bears our mark: heartbeats run, and losing a key means that we are fenced.
  bool holding() const {
    return std::holds_alternative<AwaitingLease>(state_) ||
           std::holds_alternative<Assuming>(state_) || serving();
  }
  Epoch epoch() const { return holding() ? epoch_ : Epoch(0); }
  std::string_view step() const;  // for status
  Reason trigger() const { return order_.trigger; }
  // Of the takeover that is served, as in the mailbox: one that goes on has that of the first.
  Reason cause() const { return static_cast<Reason>(marked_.reason); }
  bool partner_unwell() const { return order_.unwell; }
  std::uint64_t asked() const { return idle() ? 0 : order_.asked; }  // by the partner
  std::optional<Instant> countdown_ends() const;
  Reason refusal() const { return refusal_; }  // why the last attempt ended without serving
  void forget_refusal() {
    if (order_.trigger != Reason::operator_order) refusal_ = Reason::none;
  }
  // Its answer to the last please takeover, if that was refused: it may have been lost.
  bool refused_ask(std::uint64_t number, BootNonce sender) const {
    return idle() && order_.asked == number && victim_ == sender && refusal_ != Reason::none;
  }
  Instant retry_at() const { return retry_at_; }
  // After `backoff`, or at once if the reason for refusing may be gone.
  bool may_begin(const World& world, Instant now) const {
    return idle() && (now >= retry_at_ || refusal_cleared(world, now));
  }

 private:
  struct Idle {};
  struct Checking {};
  struct Warming {
    Instant until;
  };
  struct CountingDown {
    Instant ends;
    Instant send_at;
  };
  struct Cancelling {
    Instant until;
    Instant send_at;
    std::uint64_t request = 0;  // of the operator who cancels
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
    std::vector<CommandId> own_disks;  // reading the reservations of our own mailbox disks
    std::size_t own_disks_ours = 0;
    bool own_disk_lost = false;
    std::vector<Beat> beats;  // reads of the partner's heartbeat blocks under way
    Instant lease_ends{};     // of the partner, at the latest
    std::size_t beats_read = 0;
    std::optional<Mailbox> mailbox;
    bool mailbox_pending = true;
    int attempts = 0;
    Instant retry = never;
  };
  struct Looking {  // at the log that will be replayed: before fencing, or, if it is another one by
                    // then, before marking
    Instant until;
    std::optional<Confirming> confirmed;
  };
  struct Marking {
    Mailbox mailbox;
    Instant lease_ends{};
    bool heard_of = true;  // the boot whose lease that is: it is victim_
    int attempts = 0;
    Instant retry = never;
  };
  struct AwaitingLease {
    Instant until;
    bool heard_of = true;
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
  void drop_prepared(World& world, Output& out);
  bool partner_is_over(World& world, Output& out);
  void warm(World& world, Output& out);
  bool settle_warming(World& world, Output& out);
  void count_down(World& world, Output& out);
  bool settle_counting_down(World& world, Output& out);
  void end_countdown(World& world, Output& out);
  bool settle_cancelling(World& world, Output& out);
  void hand_back(Reason why, World& world, Output& out);
  bool settle_handing_back(World& world, Output& out);
  void close_window(Output& out);
  // False: there is nothing to look at, or it has been looked at.
  bool look(const Mailbox& mailbox, std::optional<Confirming> confirmed, World& world, Output& out);
  void fence(World& world, Output& out);
  void on_fenced(const FenceSet& fences, World& world, Output& out);
  static void forget_aborted(const FenceSet& fences, World& world);
  void confirm(int attempts, World& world, Output& out);
  bool settle_confirming(World& world, Output& out);
  void mark(const Confirming& seen, World& world, Output& out);
  void assume(World& world, Output& out);
  void on_checked(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_marked(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  static void leave_alone(World& world);
  bool refusal_cleared(const World& world, Instant now) const;
  bool still_wanted(const World& world, Instant now) const;
  void answer(OperatorAnswer::Outcome outcome, Reason reason, Output& out);
  bool send_kill_packets(World& world, Output& out);

  std::variant<Idle, Checking, Warming, CountingDown, Cancelling, ClosingWindow, Looking, Fencing,
               Confirming, Marking, AwaitingLease, Assuming, Serving, HandingBack>
      state_;
  TakeoverOrder order_;        // of the attempt under way
  std::uint64_t attempt_ = 0;  // grows with each
  bool prepared_ = false;      // the engine holds something for it
  int closes_ = 0;             // MirrorWindowClosed events still to come
  struct Log {                 // as the mailbox describes it
    Durability mode{};
    Epoch epoch;
    LogSequence since;
    bool own = false;
    bool operator==(const Log&) const = default;
  };
  DiskSet absent_;                // the partner's disks that are not fenced, in this attempt
  std::optional<Log> looked_at_;  // in this attempt
  bool damaged_ = false;          // it is, and the operator accepts that
  Mailbox marked_;
  ReplayDecision replay_;
  Epoch epoch_;
  BootNonce victim_;  // the partner's boot that we took over
  Instant kill_at_ = never;
  Reason refusal_ = Reason::none;
  Instant retry_at_{};
  std::uint64_t connections_ = 0;  // when refused: World::connections,
  BootNonce refused_;              // and the partner's boot
};

}  // namespace duet::ha
