// A node that goes in order: asks its partner to take over, hands its identity over while the
// partner counts down, and leaves; or serves on when that is cancelled, fails, or the partner is
// heard no more. Chart, rules and invariants P1..P6: docs/protocols/graceful_takeover.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "ha/world.h"

namespace duet::ha {

class Departure {
 public:
  static constexpr Duration ask_interval = milliseconds(500);  // between please takeovers
  static constexpr Duration ask_limit = seconds(15);
  // Without a please shutdown for so long nobody counts down any more (one comes every 200 ms).
  static constexpr Duration desertion = seconds(1);
  // An engine that does not even answer a cancellation has to be restarted.
  static constexpr Duration cancel_limit = seconds(10);
  // For the partner to hear that we serve on.
  static constexpr Duration told_limit = seconds(2);

  // Please takeover. Requires: idle(). `request`: of the operator, 0: by ourselves.
  void ask(const PleaseTakeover& please, std::uint64_t request, Output& out);
  // `obstacle`: why this node cannot depart now; none: it can.
  void on_please_shutdown(const PleaseShutdown& please, BootNonce sender, Reason obstacle,
                          World& world, Output& out);
  void on_refused(const TakeoverRefused& refused, Output& out);
  void on_cancel(const CancelShutdown& cancel, World& world, Output& out);
  void on_handed_over(std::uint64_t stored, World& world, Output& out);
  void on_hand_over_failed(const std::string& why, World& world, Output& out);
  // The operator cancels here. none: answered later, with `request`.
  Reason cancel(std::uint64_t request, World& world, Output& out);

  bool advance(World& world, Output& out);
  Instant next_time() const;

  bool idle() const { return std::holds_alternative<Idle>(state_); }
  bool asking() const { return std::holds_alternative<Asking>(state_); }
  // From the order to hand over until the node serves as before, or has left.
  bool departing() const { return std::holds_alternative<Departing>(state_) || leaving(); }
  // The engine answers nobody any more: the lease is to be ended, and the node to leave.
  bool leaving() const { return std::holds_alternative<Leaving>(state_); }
  bool quiet() const { return leaving() && std::get<Leaving>(state_).quiet; }
  bool may_cancel() const;
  std::uint64_t take_request() { return std::exchange(request_, 0); }
  std::string_view step() const;
  // What is left of the countdown, as the partner said.
  std::optional<Instant> ends() const;

 private:
  struct Idle {};
  struct Asking {
    PleaseTakeover please;
    Instant send_at;
    Instant until;
  };
  struct Departing {
    std::uint64_t attempt = 0;
    BootNonce partner;
    Instant heard;  // the last please shutdown
    Instant ends;
    Reason cancelling = Reason::none;
    Instant cancel_until = never;
  };
  struct Declining {  // we serve on; the partner may not know yet
    Instant until;
  };
  struct Leaving {
    bool quiet = true;  // the engine says so; otherwise it did not even answer
  };
  struct Declined {
    std::uint64_t attempt = 0;
    BootNonce partner;
    Reason why = Reason::none;
  };

  void begin_cancel(Departing& s, Reason why, World& world, Output& out);
  void decline(std::uint64_t attempt, BootNonce partner, Reason why, World& world, Output& out);
  void tell_declined(World& world, Output& out) const;
  void answer(std::uint64_t& request, OperatorAnswer::Outcome outcome,
              const std::vector<Reason>& reasons, Output& out);

  std::variant<Idle, Asking, Departing, Declining, Leaving> state_;
  std::uint64_t request_ = 0;         // please takeover
  std::uint64_t cancel_request_ = 0;  // of the operator who cancels
  std::uint64_t last_number_ = 0;
  Declined declined_;  // the last attempt that we do not follow
};

}  // namespace duet::ha
