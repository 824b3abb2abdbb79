// The HA core of one node for the length of one boot. It only routes: the decisions are in the
// machines it is made of (boot.h, takeover.h, giveback.h, ...).
//
//   Core core(config, nonce);
//   core.on_event(Started{}, now, actions);   // first; then whatever happens
//
// Requires: `now` never decreases; every DiskCommand is completed once, in bounded time, and one
// that timed out has been aborted before its path is used again (mailbox.md M7); the boot before
// this one has ended, its engine included. Ensures: actions are in the order in which they must be
// performed; after EndBoot there are none. Durable when: a promise (GrantDurability,
// AssumeIdentity, an answer `done`) is emitted only after the mailbox write it rests on has
// completed.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "ha/boot.h"
#include "ha/departure.h"
#include "ha/durability.h"
#include "ha/giveback.h"
#include "ha/health_exchange.h"
#include "ha/hold_verifier.h"
#include "ha/leftovers.h"
#include "ha/mirror_control.h"
#include "ha/readiness.h"
#include "ha/returned_disks.h"
#include "ha/snapshot.h"
#include "ha/takeover.h"
#include "ha/veto.h"
#include "ha/world.h"

namespace duet::ha {

class Core {
 public:
  // Requires: self 1 or 2, nonce not 0, 1..max_disks disks of each identity.
  Core(const Config& config, BootNonce nonce);
  ~Core() = default;
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  void on_event(const Event& event, Instant now, Actions& actions);
  Snapshot snapshot(Instant now) const;

 private:
  // A node that stops: waits for its engine to end, shows the last state for a while, ends the
  // boot.
  struct Ending {
    NodeState shown{};
    Reason why = Reason::none;
    bool reboot = true;
    bool engine_ended = false;
    bool dumped = false;       // the boot goes on until its dump is over
    Instant unserved_since{};  // dumped: the partner was not seen to serve for us
    bool dump_stopped = false;
    std::uint64_t request = 0;  // of the operator
    std::string text;
    Instant until{};
  };

  // `halt --no-takeover`: the mailbox is told before anything ends.
  struct Halting {
    std::uint64_t request = 0;
    int attempts = 0;
    Instant retry{};
  };

  void route(const Event& event, Output& out);
  void on(const Started& event, Output& out);
  void on(const TimerExpired& event, Output& out);
  void on(const DiskCompleted& event, Output& out);
  void on(const DiskConnection& event, Output& out);
  void on(const DiskAttention& event, Output& out);
  void on(const LinkChanged& event, Output& out);
  void on(const PartnerStateRead& event, Output& out);
  void on(const MessageArrived& event, Output& out);
  void on(const EngineReady& event, Output& out);
  void on(const EngineEnded& event, Output& out);
  void on(const DumpChanged& event, Output& out);
  void on(const MirrorWindowClosed& event, Output& out);
  void on(const LogChecked& event, Output& out);
  void on(const IdentityAssumed& event, Output& out);
  void on(const AssumeFailed& event, Output& out);
  void on(const IdentityReleased& event, Output& out);
  void on(const ReleaseFailed& event, Output& out);
  void on(const IdentityPrepared& event, Output& out);
  void on(const IdentityHandedOver& event, Output& out);
  void on(const HandOverFailed& event, Output& out);
  void on(const DurabilityWanted& event, Output& out);
  void on(const EngineFenced& event, Output& out);
  void on(const DiskNeeded& event, Output& out);
  void on(const FreeSpares& event, Output& out);
  void on(const DumpCollection& event, Output& out);
  void on(const HealthChanged& event, Output& out);
  void on(const OperatorRequest& event, Output& out);

  // core_health.cc
  void exchange_health(Output& out);
  void on_health_message(HealthMessage message, Output& out);
  ReadinessFacts readiness_facts(Instant now) const;

  // core_operator.cc
  void takeover_order(const OperatorRequest& request, Output& out);
  void giveback_order(const OperatorRequest& request, Output& out);
  void halt_order(const OperatorRequest& request, Output& out);
  void cancel_order(const OperatorRequest& request, Output& out);
  void ask_partner(const OperatorRequest& request, std::vector<Reason> overrides, Output& out);
  Vetoes takeover_vetoes(Instant now) const;
  Vetoes giveback_vetoes(Instant now) const;
  std::optional<std::string> dump_under_way(Instant now) const;
  // By itself, as opposed to by an order that may override.
  bool giveback_vetoed(Instant now) const;
  bool halt_instead_of_reboot(const OperatorRequest& request, Output& out);
  void halt(std::uint64_t request, Output& out);
  void on_halt_marked(const MailboxKeeper::Outcome& outcome, Output& out);
  bool settle_halting(Output& out);

  // core_messages.cc
  void heard(const Message& message, Output& out);
  void please_takeover(const PleaseTakeover& please, Output& out);
  void please_shutdown(const PleaseShutdown& please, BootNonce sender, Output& out);

  void notice_gap(Output& out);
  void settle(Output& out);
  bool settle_once(Output& out);
  void route_mailboxes(Output& out);
  void consider_going(Output& out);
  bool trigger_takeover(Output& out);
  void read_partner(Output& out);
  void read_partner_state(Output& out);
  void watch_dump(Output& out);
  void publish(Output& out);
  void arm_timer(Output& out);
  void leave(Output& out);
  void begin_ending(Ending ending, bool stop_engine, Output& out);
  void settle_ending(Output& out);
  void end_fenced(Output& out);
  void end_boot(bool reboot, std::string why, Output& out);

  bool holds(NodeId identity) const;
  std::array<bool, 3> held() const;
  bool listening() const;
  std::array<bool, 3> served() const;
  void fence_returned(Output& out);
  void look_after_dumps(Output& out);
  ports::ReservationType hold_type(NodeId identity) const;
  HoldVerifier::Hold hold_of(NodeId identity) const;
  void look_for_late_keys(Output& out);
  NodeState state() const;
  Reason reason() const;

  World world_;
  Boot boot_;
  Leftovers leftovers_;
  bool partner_disk_came_ = false;  // it may hold leftovers; looked at when no move is under way
  Takeover takeover_;
  Giveback giveback_;
  Departure departure_;
  DurabilityMarks durability_;
  HoldVerifier verifier_;
  LabelReader labels_;
  ReturnedDisks returned_;
  MirrorControl mirror_;
  HealthExchange health_;

  bool started_ = false;
  bool ended_ = false;
  std::optional<Ending> ending_;
  std::optional<Halting> halting_;
  Instant last_event_{};
  std::uint64_t last_command_ = 0;
  bool reading_state_ = false;
  Instant read_state_at_ = never;
  Instant beat_at_ = never;
  Instant status_at_ = never;
  Instant late_keys_at_ = never;
  Instant armed_ = never;
  std::optional<Instant> dead_since_;
  std::optional<Instant> unwell_since_;  // we cannot serve and the partner could
  Instant go_at_{};                      // then: when we ask to be taken over
  Duration go_pause_{};                  // after the last time
  std::uint64_t heartbeat_ = 0;
  NodeState last_state_ = NodeState::booting;
  Verdict last_verdict_ = Verdict::suspect;
  std::uint64_t free_spares_ = 0;
  std::optional<StateStructure> published_;
  std::uint64_t stale_messages_ = 0;
  std::uint64_t invalid_messages_ = 0;
  std::uint64_t unknown_messages_ = 0;
};

}  // namespace duet::ha
