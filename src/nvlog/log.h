// The log of one identity on the node that serves it: append, mirror, acknowledge, free.
// Guarantees I4: Acknowledge is ordered only for what is in both NVRAMs, or in ours while the
// mailbox says `local`, or in a consistency point. Refuses: appending over live records (no_space),
// serving before start(). Sans-I/O but for the copy into NVRAM. Protocol and charts:
// docs/protocols/log.md.
//
// Use, all from one thread:
//   auto opened = open_region(nvram, cluster, node);          // region.h
//   decide_replay, plan_replay, apply plan.record(...) i = 0..size()-1 to the pool;  // replay.h
//   Log log(nvram, layout, identity, plan, options);
//   log.start(epoch, self, partner_down, actions);
//   per request:  log.append(kind, words, slices) -> sequence, durable here on return
//   once per turn: log.on_event(Commit{}, actions);           // group commit of all that was
//   appended MirrorWrite{id}: link.write(offset, length) -> MirrorWritten{id} or MirrorFailed{id}
//   RequestMark{mark}: write it to the mailbox -> DurabilityMarked{mark}
//   StartConsistencyPoint: take one up to log.last(); superblock gets log.position(sequence);
//                          once it is durable -> ConsistencyPointDone{sequence}
//   Acknowledge{through}: answer the requests up to this sequence (if the lease is valid).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "nvlog/control_block.h"
#include "nvlog/durability.h"
#include "nvlog/ring.h"

namespace duet::nvlog {

// --- events -------------------------------------------------------------------------------------
struct Commit {};      // everything of this turn has been appended
struct MirrorUp {};    // the partner has opened its window; what it holds is unknown
struct MirrorDown {};  // connection lost or window closed
struct MirrorWritten {
  std::uint64_t id;
};  // there and durable there
struct MirrorFailed {
  std::uint64_t id;
};  // the link is closed, MirrorDown may follow
struct DurabilityMarked {
  Mark mark;
};  // durable in the mailbox
struct ConsistencyPointDone {
  LogSequence sequence;
};  // its superblock is durable
// The partner is fenced, down, or so early in its boot that it cannot take over.
struct PartnerDown {
  bool down;
};
struct Drain {};  // giveback, shutdown: no more requests; bring all to disk and mark write_through
struct Stop {};   // fenced or shutting down: no acknowledgement after this
using Event = std::variant<Commit, MirrorUp, MirrorDown, MirrorWritten, MirrorFailed,
                           DurabilityMarked, ConsistencyPointDone, PartnerDown, Drain, Stop>;

// --- actions ------------------------------------------------------------------------------------
struct MirrorWrite {
  std::uint64_t id;
  std::uint64_t offset;  // in the region, the same at the partner
  std::uint64_t length;
  LogSequence through;  // newest record complete at the partner with it
  bool operator==(const MirrorWrite&) const = default;
};
struct RequestMark {
  Mark mark;
  bool operator==(const RequestMark&) const = default;
};
struct Acknowledge {
  LogSequence through;
  bool operator==(const Acknowledge&) const = default;
};
struct StartConsistencyPoint {
  bool operator==(const StartConsistencyPoint&) const = default;
};
using Action = std::variant<MirrorWrite, RequestMark, Acknowledge, StartConsistencyPoint>;
using Actions = std::vector<Action>;

enum class MirrorState : std::uint8_t {
  down,
  resync,    // copying the live log, then what has been appended meanwhile
  complete,  // the partner's copy holds all but what is under way
};
std::string_view name(MirrorState state);

class Log {
 public:
  static constexpr std::size_t default_transfers_max = 4;
  static constexpr std::uint64_t default_transfer_bytes_max = 1024 * 1024;
  // A resync is complete when less than this is left to send, or after so many rounds.
  static constexpr std::uint64_t resync_lag_max = 1024 * 1024;
  static constexpr unsigned resync_rounds_max = 4;

  struct Options {
    bool persistent = false;  // ports::Nvram::persistent(): may an acknowledgement rest on us alone
    std::size_t transfers_max = default_transfers_max;              // mirror writes under way
    std::uint64_t transfer_bytes_max = default_transfer_bytes_max;  // multiple of 64
    unsigned high_water_percent = 50;  // of the ring: from here on consistency points are demanded
  };

  // `plan`: the ring's content after the superblock's position (plan_replay), or empty_plan.
  Log(ports::Nvram& nvram, const RegionLayout& layout, NodeId identity, const ReplayPlan& plan,
      Options options);

  // Starts `epoch`: control block and epoch_start record, durable on return. Requires: the mailbox
  // bears the epoch, and it is higher than that of any record. Error: no_space (take a consistency
  // point of what was replayed, then try again with a new plan).
  Status start(Epoch epoch, NodeId self, bool partner_down, Actions& actions);

  // Durable in this region on return; answered by Acknowledge later. Errors: no_space (hold the
  // request back; a consistency point is demanded by the next event), invalid (too large), refused
  // (draining or stopped).
  Result<LogSequence> append(RecordKind kind, const Words& words, std::span<const Slice> payload);

  void on_event(const Event& event, Actions& actions);

  LogSequence last() const { return ring_.last(); }
  LogSequence freed() const { return ring_.freed(); }
  LogSequence acknowledged() const { return acknowledged_; }
  // After Drain: everything is on disk and the mailbox says write_through; the identity may be
  // given away, the next owner starts with empty_plan at the superblock's position.
  bool drained() const;
  // For the superblock of a consistency point that contains exactly the records through `sequence`.
  LogPosition position(LogSequence sequence) const { return ring_.position_after(sequence); }
  std::size_t max_payload() const { return ring_.max_payload(); }
  std::uint64_t capacity() const { return ring_.capacity(); }
  std::uint64_t live_bytes() const { return ring_.live_bytes(); }
  MirrorState mirror_state() const { return mirror_; }
  std::optional<Durability> marked() const { return marked_; }  // by this epoch, in the mailbox
  std::optional<Durability> requested() const { return requested_; }  // on its way into the mailbox
  std::uint64_t ignored_events() const { return ignored_; }  // stale completions, unasked marks

 private:
  struct Transfer {
    std::uint64_t id;
    std::uint64_t start;  // log address; of a control block: start == end
    std::uint64_t end;
    bool control;
    bool done = false;
  };

  void on(const Commit&) {}
  void on(const MirrorUp&);
  void on(const MirrorDown&);
  void on(const MirrorWritten&);
  void on(const MirrorFailed&);
  void on(const DurabilityMarked&);
  void on(const ConsistencyPointDone&);
  void on(const PartnerDown&);
  void on(const Drain&);
  void on(const Stop&);

  void advance(Actions& actions);
  void release();
  void write_control();
  bool control_under_way() const;
  void send(Actions& actions);
  void check_resync();
  void acknowledge(Actions& actions);
  void request_mark(Actions& actions);
  void demand_consistency_point(Actions& actions);
  Durability desired() const;
  LogSequence promised() const;
  LogSequence acknowledgeable(std::optional<Durability> mode) const;

  ports::Nvram& nvram_;
  RegionLayout layout_;
  NodeId identity_;
  Options options_;
  Ring ring_;
  ControlBlock control_;
  enum class Phase : std::uint8_t { created, running, draining, stopped } phase_ = Phase::created;

  bool partner_down_ = false;
  std::optional<Durability> marked_;
  std::optional<Durability> requested_;
  Mark request_{};  // valid while requested_

  MirrorState mirror_ = MirrorState::down;
  std::uint64_t next_id_ = 1;
  std::deque<Transfer> under_way_;
  std::uint64_t sent_ = 0;     // log address up to which transfers were ordered
  std::uint64_t written_ = 0;  // ... and are complete, without a gap since the resync began
  std::uint64_t resync_target_ = 0;
  unsigned resync_rounds_ = 0;
  bool sealing_ = false;  // resync: the records are there, the control block is going over
  std::array<bool, 2> control_unsent_{};  // copies the partner lacks; sent once its ring is whole
  bool control_due_ = false;              // the tail moved since the control block was written
  LogSequence at_partner_;                // newest record known complete at the partner

  LogSequence consistent_;  // contained in the last consistency point
  LogSequence acknowledged_;
  LogSequence replayed_;      // end of what was replayed at the start
  LogSequence last_request_;  // newest record that somebody waits for
  bool consistency_point_demanded_ = false;
  bool full_ = false;  // an append found no space since the last consistency point
  std::uint64_t ignored_ = 0;
};

}  // namespace duet::nvlog
