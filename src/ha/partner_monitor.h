// Judges the partner: what it says of itself, and whether its two channels are fresh. The verdict
// is a truth table (docs/protocols/takeover.md). Invariants T1, I17.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ha/config.h"
#include "ha/heartbeat_watch.h"
#include "ha/reason.h"
#include "interconnect/state_structure.h"

namespace duet::ha {

using interconnect::NodeState;
using interconnect::StateStructure;

enum class Verdict : std::uint8_t {
  alive,
  suspect,  // one channel is silent or cannot be read
  absent,   // both silent, and it has not served since our boot (or since we fenced it)
  dead,     // both silent
  gone,     // it says so, or has rebooted: takeover at once
};
std::string_view name(Verdict verdict);

// What the partner says of itself.
enum class Says : std::uint8_t { nothing, not_serving, serving, ended };

// The truth table. `served`: seen serving since our boot.
Verdict judge(Says says, Channel interconnect, Channel disk, bool served);

// A node that was in `from` may be seen in `to` next, during one boot. States in between may be
// missed.
bool legal_transition(NodeState from, NodeState to);
// Its own identity. One that shuts down for a takeover serves until it has left.
bool serving_state(NodeState state);
bool ended_state(NodeState state);

class PartnerMonitor {
 public:
  explicit PartnerMonitor(const Config& config) : config_(config) {}

  void start(Instant now);
  void on_state_read(const Result<std::vector<std::byte>>& bytes, Instant now);
  void on_heartbeat(const HeartbeatWatch& watch);
  void on_panic_notice(BootNonce sender);
  void on_departed(BootNonce sender);
  void forgive(Duration gap);

  Verdict verdict(const HeartbeatWatch& watch, Instant now) const;
  // Of the verdict gone, dead or absent: what a takeover is triggered by.
  Reason reason(const HeartbeatWatch& watch, Instant now) const;
  Channel interconnect(Instant now) const;

  // Nothing may be concluded from the boot that we fenced, or decided not to take over: it is over,
  // even if it shows itself again before it notices.
  void forget_served();
  // `boot` of the partner is known to answer nobody any more, whatever its lease.
  bool stopped(BootNonce boot) const;
  // `boot` says that it panics, and nothing else since: it may be writing a dump.
  bool panicking(BootNonce boot) const;

  // Two equal valid reads, a legal step from those before.
  const std::optional<StateStructure>& stable() const { return stable_; }
  BootNonce nonce() const { return stable_ ? stable_->nonce : BootNonce(0); }
  BootNonce served() const { return served_; }
  // The boot of the partner that we watch; published as `seen partner` (docs/protocols/boot.md).
  BootNonce watched() const { return rebooted() ? served_ : nonce(); }
  // A state of waiting is over with the first read that says so, of two that are to agree: nothing
  // is given to a partner that has gone on.
  bool in(NodeState state) const { return stable_ && stable_->state == state && !gone_on(); }
  // Its progress counter grew within the last `within`.
  bool makes_progress(Instant now, Duration within) const { return now - progress_at_ < within; }
  // Its structure, as last read, is of a version that we do not speak.
  bool other_version() const { return !other_version_.empty(); }
  Instant last_change() const { return last_change_; }
  std::uint64_t invalid_states() const { return invalid_; }
  std::uint64_t illegal_states() const { return illegal_; }

 private:
  bool gone_on() const;
  void on_other_version(const std::vector<std::byte>& bytes, Instant now);
  Says says() const;
  bool rebooted() const;

  Config config_;
  interconnect::StableReader reader_;
  std::optional<StateStructure> last_, stable_;
  Instant last_change_{}, progress_at_{};
  BootNonce served_;    // boot last seen serving
  BootNonce over_;      // boot that was served_ when it was forgotten
  BootNonce panicked_;  // boot that sent a panic notice
  BootNonce departed_;  // boot that said that it has stopped
  BootNonce void_;      // boot of the structure that a newer heartbeat has outlived
  BootNonce beating_;
  std::vector<std::byte> other_version_;  // the structure as read; empty: of ours
  std::uint64_t invalid_ = 0, illegal_ = 0;
};

}  // namespace duet::ha
