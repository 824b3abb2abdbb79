// One disk's reservation, brought to where it should be and verified: look, decide, act, look
// again. The decision is a pure function; everything that can go wrong in between (the other node's
// commands) shows in the next look. Bounded rounds and retries. Invariants B3, B4, I6, I12.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "ha/config.h"
#include "ha/output.h"

namespace duet::ha {

enum class FenceMode : std::uint8_t {
  claim,    // boot: Write Exclusive RO; stands down before the partner's Exclusive Access
  fence,    // takeover: Exclusive Access RO, from whoever has it
  release,  // what our node holds, under whichever of its keys: to Write Exclusive RO; our key off
            // the rest
  hold,     // still ours? A disk that forgot everything is taken again
};

struct FenceRules {
  FenceMode mode{};
  ClusterId cluster;
  NodeId self;
  ReservationKey key;         // supervisor's, of this boot
  ReservationKey engine_key;  // our engine's, of this boot: left alone
  ports::ReservationType type{};
  bool alone = false;  // hold: the partner's registrations are taken away (takeover.md T9)
};

struct FenceDone {
  bool operator==(const FenceDone&) const = default;
};
struct FenceLost {
  bool unregister = false;  // our key is on a disk that is the partner's: take it away
  bool operator==(const FenceLost&) const = default;
};
using FenceDecision = std::variant<FenceDone, FenceLost, std::vector<DiskOperation>>;

// `registered`: this run has registered our key already, so its absence means that it was taken.
FenceDecision decide_fence(const FenceRules& rules, const ports::RegisteredKeys& keys,
                           const ports::ReservationState& reservation, bool registered);

class DiskFencer {
 public:
  enum class Outcome : std::uint8_t { running, done, lost, failed };
  static constexpr int max_rounds = 16;  // looks that led to an action
  static constexpr int max_errors = 8;   // commands that failed for another reason than a conflict

  // Of a disk that the identity can do without: a command may take seconds to time out.
  static constexpr int few_errors = 1;

  DiskFencer(FenceRules rules, DiskRef disk, int patience = max_errors)
      : rules_(rules), disk_(disk), patience_(patience) {}

  void start(Output& out);
  // False: not our command.
  bool on_completed(const DiskCompleted& event, Output& out);
  void on_time(Output& out);
  Instant next_time() const;
  Outcome outcome() const;
  DiskRef disk() const { return disk_; }
  // Our key was not there and has been registered: whoever took it away has aborted what we had
  // sent to this disk before.
  bool registered_anew() const { return registered_; }
  const std::string& why() const { return why_; }  // of lost and failed

 private:
  struct Idle {};
  struct Looking {
    CommandId keys_command, reservation_command;
    std::optional<ports::RegisteredKeys> keys;
    std::optional<ports::ReservationState> reservation;
    int open = 2;
    bool error = false;
  };
  struct Acting {
    std::vector<DiskOperation> operations;
    std::size_t next = 0;
    CommandId command;
  };
  struct Unregistering {
    CommandId command;
  };
  struct Waiting {
    Instant until;
  };
  struct Ended {
    Outcome outcome;
  };

  void look(Output& out);
  void decide(const Looking& seen, Output& out);
  void act(Acting acting, Output& out);
  void on_error(const Error& error, Output& out);

  FenceRules rules_;
  DiskRef disk_;
  int patience_;
  bool registered_ = false;
  int rounds_ = 0, errors_ = 0;
  std::string why_;
  std::variant<Idle, Looking, Acting, Unregistering, Waiting, Ended> state_;
};

}  // namespace duet::ha
