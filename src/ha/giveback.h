// The survivor gives the partner's identity back, step by step, to a partner that makes progress.
// Chart and invariants G1..G7: docs/protocols/giveback.md.
#pragma once

#include <string>
#include <variant>

#include "ha/fence_set.h"
#include "ha/takeover.h"
#include "ha/world.h"

namespace duet::ha {

class Giveback {
 public:
  // Mailbox writes that fail are repeated, same generation, for so long; then the identity is
  // retaken.
  static constexpr Duration mark_limit = seconds(2);
  // After a failed one, auto-giveback rests.
  static constexpr Duration rest = seconds(5);

  // none: accepted.
  Reason order(std::uint64_t request, const World& world, const Takeover& takeover, Instant now);
  bool advance(World& world, Takeover& takeover, Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Takeover& takeover,
                  Output& out);
  void on_released(World& world, Takeover& takeover, Output& out);
  void on_release_failed(const std::string& why, World& world, Output& out);
  Instant next_time() const;

  // G1: two equal valid reads say that it waits, both counters have grown lately.
  bool partner_waits(const World& world, Instant now) const;
  bool idle() const { return std::holds_alternative<Holding>(state_); }
  // G4: the partner's claim takes its disks from us.
  bool letting_go() const {
    return std::holds_alternative<Marking>(state_) || std::holds_alternative<AwaitingUp>(state_);
  }
  bool giving() const { return std::holds_alternative<Stopping>(state_) || letting_go(); }
  std::string_view step() const;
  // none: an order now would be accepted.
  Reason obstacle(const World& world, const Takeover& takeover, Instant now) const;

 private:
  struct Holding {};
  struct Releasing {
    FenceSet fences;
    BootNonce nonce;
  };
  struct Released {
    BootNonce nonce;
    Instant deadline;  // for MBWAIT
  };
  struct ReReserving {
    FenceSet fences;
  };
  struct Stopping {
    BootNonce nonce;
  };
  struct Marking {
    BootNonce nonce;
    Mailbox mailbox;
    Instant deadline;
    Instant retry = never;
  };
  struct AwaitingUp {
    BootNonce nonce;
    Epoch epoch;  // the partner's claim is newer
    Instant deadline;
  };

  void re_reserve(World& world, Output& out);
  void stop(BootNonce nonce, World& world, Output& out);
  static bool partner_serves(const World& world, Epoch after);
  void on_written(const Marking& marking, World& world, Output& out);
  bool settle_awaiting_up(World& world, Takeover& takeover, Output& out);
  void retake(World& world, Takeover& takeover, Output& out);
  void answer(OperatorAnswer::Outcome outcome, Reason reason, Output& out);

  std::variant<Holding, Releasing, Released, ReReserving, Stopping, Marking, AwaitingUp> state_;
  std::uint64_t request_ = 0;
  bool ordered_ = false;
  Instant ordered_until_{};
  Instant not_before_{};       // releasing again after a failure
  Instant auto_not_before_{};  // auto-giveback again after a failure
};

}  // namespace duet::ha
