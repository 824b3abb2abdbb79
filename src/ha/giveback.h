// The survivor gives the partner's identity back, step by step, to a partner that makes progress.
// Chart and invariants G1..G7: docs/protocols/giveback.md.
#pragma once

#include <string>
#include <variant>

#include "ha/auto_giveback.h"
#include "ha/fence_set.h"
#include "ha/takeover.h"
#include "ha/world.h"

namespace duet::ha {

class Giveback {
 public:
  // Mailbox writes that fail are repeated, same generation, for so long; then the identity is
  // retaken.
  static constexpr Duration mark_limit = seconds(2);
  // For a partner that boots after an uncoordinated giveback.
  static constexpr Duration uncoordinated_limit = seconds(120);

  explicit Giveback(const Config& config);

  // none: accepted. Uncoordinated: the partner need not wait for it.
  Reason order(std::uint64_t request, bool uncoordinated, const World& world,
               const Takeover& takeover, Instant now);
  // The operator does not wait any longer for a partner that was given everything, uncoordinated.
  bool take_back(World& world, Takeover& takeover, Output& out);
  // `vetoed`: not to be given back without an order.
  bool advance(World& world, Takeover& takeover, bool vetoed, Output& out);
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_mailbox(const MailboxKeeper::Outcome& outcome, World& world, Output& out);
  void on_released(World& world, Takeover& takeover, Output& out);
  void on_release_failed(const std::string& why, World& world, Output& out);
  Instant next_time(Instant now) const;

  // G1: two equal valid reads say that it waits, both counters have grown lately.
  static bool partner_waits(const World& world, Instant now);
  bool idle() const { return std::holds_alternative<Holding>(state_); }
  // G4: the partner's claim takes its disks from us.
  bool letting_go() const {
    return std::holds_alternative<Marking>(state_) || std::holds_alternative<AwaitingUp>(state_);
  }
  bool giving() const { return std::holds_alternative<Stopping>(state_) || letting_go(); }
  // Given without the partner being ready, and it does not serve yet.
  bool uncoordinated() const { return uncoordinated_ && giving(); }
  AutoGiveback& automatic() { return auto_; }
  const AutoGiveback& automatic() const { return auto_; }
  std::string_view step() const;

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

  static DiskSet left_out(const World& world);
  void re_reserve(World& world, Output& out);
  void stop(BootNonce nonce, World& world, Output& out);
  static bool partner_left(const World& world, BootNonce boot, Instant now);
  static bool partner_serves(const World& world, Epoch after);
  void on_written(const Marking& marking, World& world, Output& out);
  bool settle_awaiting_up(World& world, Takeover& takeover, Output& out);
  void retake(World& world, Takeover& takeover, Output& out);
  void answer(OperatorAnswer::Outcome outcome, Reason reason, Output& out);

  std::variant<Holding, Releasing, Released, ReReserving, Stopping, Marking, AwaitingUp> state_;
  AutoGiveback auto_;
  std::uint64_t request_ = 0;
  bool ordered_ = false;
  bool uncoordinated_ = false;
  Instant ordered_until_{};
  Instant not_before_{};  // releasing again after a failure
};

}  // namespace duet::ha
