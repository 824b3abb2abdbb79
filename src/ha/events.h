// What goes in and out of the HA core of one node, for the length of one boot. Events are facts,
// actions are orders; the core (core.h) never does I/O and the shell (node/supervisor.h) never
// decides.
//
// Granularity: single disk commands. So every interleaving of every takeover, giveback and boot,
// with every failure of every command, happens inside the core where tables and simulation reach
// it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "ha/health.h"
#include "ha/mailbox.h"
#include "interconnect/state_structure.h"
#include "ports/disk.h"
#include "ports/interconnect.h"

namespace duet::ha {

// A disk of an identity. `index` counts the disks of that identity in LUN order; the first
// mailbox_disks (3, or all if fewer) carry its mailbox and are fenced first, in order.
struct DiskRef {
  NodeId identity;
  std::uint8_t index = 0;
  auto operator<=>(const DiskRef&) const = default;
};
inline constexpr std::uint8_t mailbox_disks = 3;
inline constexpr std::uint8_t max_disks = 64;  // of one identity

// ---- disk commands and their outcomes ----

struct ReadBlock {  // 4096 bytes at `offset`
  std::uint64_t offset;
};
struct WriteBlock {  // durable
  std::uint64_t offset;
  std::vector<std::byte> bytes;
};
struct ReadKeys {};
struct ReadReservation {};
struct RegisterKey {  // REGISTER AND IGNORE EXISTING KEY; key 0 unregisters
  ReservationKey key;
};
struct Reserve {
  ReservationKey key;
  ports::ReservationType type;
};
struct Preempt {
  ReservationKey key;
  ReservationKey victim;
  ports::ReservationType type;
  bool abort;
};
using DiskOperation =
    std::variant<ReadBlock, WriteBlock, ReadKeys, ReadReservation, RegisterKey, Reserve, Preempt>;

using CommandId = Strong<struct HaCommandIdTag, std::uint64_t>;

// The outcome of a disk command. Exactly one for each; the shell bounds its time.
using DiskReply = std::variant<std::monostate,            // done, nothing to tell
                               std::vector<std::byte>,    // ReadBlock
                               ports::RegisteredKeys,     // ReadKeys
                               ports::ReservationState>;  // ReadReservation

// ---- operator commands ----

enum class OperatorVerb : std::uint8_t { takeover, giveback, halt, cancel };
struct OperatorRequest {
  std::uint64_t request = 0;  // echoed in OperatorAnswer
  OperatorVerb verb{};
  // The node it is about: takeover: the node that shall go, which may be ourselves (please
  // takeover); cancel: the node whose takeover is under way.
  NodeId node;
  bool force = false;                    // overrides all soft vetoes
  std::vector<std::string> overrides{};  // names of single soft vetoes (Reason names)
  Duration timeout = seconds(30);        // takeover: the countdown of the shutdown
  bool no_takeover = false;              // halt: maintenance, the partner shall not take over
  bool uncoordinated = false;  // giveback: first give back, then let it boot (the yardstick)
};

// ---- events ----

struct Started {};  // first event of a boot: the disks of both identities are known
struct TimerExpired {
  std::uint64_t timer;
};
struct DiskCompleted {
  CommandId command;
  Result<DiskReply> reply;
};
struct DiskConnection {
  DiskRef disk;
  bool connected;
};
struct DiskAttention {
  DiskRef disk;
  ports::Attention attention;
};
struct LinkChanged {
  ports::LinkState state;
};
// Outcome of the routine one-sided read (ReadPartnerState). Raw bytes: the core validates.
struct PartnerStateRead {
  Result<std::vector<std::byte>> bytes;
};
struct MessageArrived {
  std::vector<std::byte> bytes;
};
// The engine is running and connected to the supervisor. Its NVRAM: `nvram` names the region
// (random at its creation); `persistent` as ports::Nvram says; mirror_port is where the partner's
// engine dials.
struct EngineReady {
  std::uint64_t nvram = 0;
  bool persistent = false;
  std::uint16_t mirror_port = 0;
};
// The engine process has ended, or its progress stalled past the limit and it was killed. All its
// sockets are closed when this event comes.
struct EngineEnded {
  bool expected = false;  // after StopEngine
  std::string how;        // "signal 6 (Aborted)", "exit 0", "no progress for 5000 ms"
  bool dumped = false;    // it panicked and stands still: its memory is dumped, DumpChanged follows
};
// Of the dump that EngineEnded announced (docs/protocols/coredump.md): now and then, and once
// `over`; the boot ends only then.
struct DumpChanged {
  bool over = false;
};
struct MirrorWindowClosed {};  // answer to CloseMirrorWindow
struct IdentityAssumed {       // answer to AssumeIdentity: served from now on
  NodeId identity;
  std::uint64_t replayed = 0;  // records
};
struct LogChecked {  // answer to CheckLog
  NodeId identity;
  bool sound = false;
  std::string why;  // if not
};
struct AssumeFailed {
  NodeId identity;
  std::string why;
};
struct IdentityReleased {  // answer to ReleaseIdentity: everything is on disk, nothing is served
  NodeId identity;
};
struct ReleaseFailed {  // the engine goes on serving
  NodeId identity;
  std::string why;
};
// Answer to PrepareIdentity.
struct IdentityPrepared {
  NodeId identity;
  bool prepared = false;
  std::string why;  // if not
};
// Answer to HandOverIdentity: nobody is answered any more, every request that had begun is
// complete, and those that had not are in the log (docs/protocols/graceful_takeover.md).
struct IdentityHandedOver {
  NodeId identity;
  std::uint64_t stored = 0;  // requests received but not begun
};
struct HandOverFailed {  // the engine goes on serving; also the answer to CancelHandOver in time
  NodeId identity;
  std::string why;
};
// The log of an identity wants to acknowledge under another durability mode from `since` on.
struct DurabilityWanted {
  NodeId identity;
  Durability mode{};
  LogSequence since;
};
// From the failover monitor: what it knows of this node, whenever that changes.
struct HealthChanged {
  HealthRecord record;
};
// RAID of an identity that is served needs a disk that it is served without, for the disk may carry
// a dump: redundancy beats the dump (docs/protocols/coredump.md). DiskReturned answers: the disk is
// fenced, and its header is inactive.
struct DiskNeeded {
  NodeId identity;
  DiskId disk;  // as its label says; the engine has not read that of a disk it may not touch
};
// Spares of our own identity that RAID has not taken, one bit for each index: the partner leaves
// them to our dump when we panic. From the supervisor, whenever that changes, and before it answers
// RAID that a spare may be taken (docs/protocols/coredump.md, C9).
struct FreeSpares {
  std::uint64_t disks = 0;
};
// Of the dump that CollectDump named: now and then, and once `over`, when it is saved or dropped,
// or was cancelled.
struct DumpCollection {
  DiskRef disk;
  std::uint64_t bytes_done = 0, bytes_total = 0;  // of the raw dump; total 0: not known
  bool over = false;
};
struct EngineFenced {  // the engine met a reservation conflict on a disk of this identity
  NodeId identity;
};

using Event = std::variant<Started, TimerExpired, DiskCompleted, DiskConnection, DiskAttention,
                           LinkChanged, PartnerStateRead, MessageArrived, EngineReady, EngineEnded,
                           DumpChanged, MirrorWindowClosed, LogChecked, IdentityAssumed,
                           AssumeFailed, IdentityReleased, ReleaseFailed, IdentityPrepared,
                           IdentityHandedOver, HandOverFailed, DurabilityWanted, EngineFenced,
                           DiskNeeded, FreeSpares, DumpCollection, HealthChanged, OperatorRequest>;

// ---- actions ----

struct PublishState {
  interconnect::StateStructure structure;
};
struct SetTimer {  // replaces the timer of the same number
  std::uint64_t timer;
  Instant when;
};
struct CancelTimer {
  std::uint64_t timer;
};
struct DiskCommand {
  CommandId command;
  DiskRef disk;
  DiskOperation operation;
};
struct ReadPartnerState {};
struct SendMessage {  // at most once, no answer; lost when the link is not ready
  std::vector<std::byte> bytes;
};
// Replies to clients of `identity` may leave until `until`; never moves back except to Instant{}
// (none).
struct RenewLease {
  NodeId identity;
  Instant until;
};
struct StartEngine {};
// Kills the engine at once (SIGKILL). EngineEnded{expected = true} follows.
struct StopEngine {};
// Ends the dump that EngineEnded announced, soon: nobody serves for this node. DumpChanged follows.
struct StopDump {};
// The partner's engine accepts our mirror at its interconnect host and this port.
struct DialMirror {
  std::uint16_t port;
  BootNonce partner_nonce;
};
struct HangUpMirror {};
// Opens the ring of `identity` to the writes of the partner's boot `partner_nonce`.
struct OpenMirrorWindow {
  NodeId identity;
  BootNonce partner_nonce;
};
struct CloseMirrorWindow {};
// Is the log of `identity` in our NVRAM whole, from the consistency point on disk up to what its
// mark promises? Changes nothing. Requires: the mirror window is closed. LogChecked answers.
struct CheckLog {
  NodeId identity;
  Durability durability = Durability::write_through;  // as in the mailbox
  Epoch log_epoch;
  LogSequence since;
  bool own_log = false;  // this node served under it: ReplayDecision
};
// Serve `identity`: register `key` on its disks, verify the reservation is `holder`'s, open the
// pool, replay the log of `log_epoch` if `replay`, start the new epoch, make a consistency point,
// bring up its target and addresses. Acknowledge nothing before GrantDurability.
struct AssumeIdentity {
  NodeId identity;
  Epoch epoch;
  bool replay = false;
  Epoch log_epoch;
  ReservationKey key;     // the engine's own registration
  ReservationKey holder;  // the supervisor's key, which holds the reservation
  // With log_epoch the mark of the log that is replayed, from the mailbox: mode and first record
  // under it.
  Durability durability = Durability::write_through;
  LogSequence since;
  bool own_log = false;  // this node served under it: ReplayDecision
  // Disks, by index, that are not fenced: dead, or out of reach. Not to be touched until
  // DiskReturned; the engine says AssumeFailed when it cannot do without them.
  std::vector<std::uint8_t> absent{};
};
// A disk that the identity was assumed without has been fenced now.
struct DiskReturned {
  DiskRef disk;
};
// The disk is ours and carries a dump, completed or aborted, of an identity that is served:
// DumpCollection answers, now and then and once `over`; before that the engine writes the header
// inactive, unless it is cancelled. From DiskReturned on the disk is the engine's: when RAID needs
// it meanwhile, the engine ends the collection, writes inactive, and only then RAID writes.
struct CollectDump {
  DiskRef disk;
};
// Leave the dump as it is, header included. `over` follows if it was collected.
struct CancelCollect {
  DiskRef disk;
};
// Stop serving: refuse new commands in a way that initiators retry, drain, final consistency point,
// close the pool, unregister, take target and addresses down.
struct ReleaseIdentity {
  NodeId identity;
};
// Ahead of a planned takeover, while the partner still serves: read labels and pool of `identity`,
// warm what serving it will need; write and register nothing. Kept until AssumeIdentity or
// DropPrepared. IdentityPrepared answers.
struct PrepareIdentity {
  NodeId identity;
};
struct DropPrepared {
  NodeId identity;
};
// The graceful end: consistency point while clients are still served, then take no new requests,
// complete those that have begun, store the others in both NVRAMs, ask the clients to come back
// later and let them go. IdentityHandedOver or HandOverFailed answers.
struct HandOverIdentity {
  NodeId identity;
};
// Serve on if it is not too late. HandOverFailed answers, or IdentityHandedOver if it was.
struct CancelHandOver {
  NodeId identity;
};
struct GrantDurability {
  NodeId identity;
  Durability mode{};
  LogSequence since;
};
// Whether the partner is fenced or known to be down: a log may then go on in `local` mode.
struct PartnerFenced {
  bool fenced;
};
// Keep these health records in our NVRAM; empty: none.
struct KeepHealthRecords {
  std::vector<std::byte> own, partner;  // encoded
};
struct OperatorAnswer {
  enum class Outcome : std::uint8_t { accepted, done, failed, refused };
  std::uint64_t request;
  Outcome outcome;
  std::vector<std::string> reasons;
};
enum class Severity : std::uint8_t { info, notice, warning, error };
// For people and `duet events`: what happened, why, and what follows.
struct LogEvent {
  Severity severity;
  std::string phase;  // stable word for timelines: "takeover.fenced", "giveback.mailbox_written"
  std::string text;
};
// Ends this boot: the shell stops the engine, and starts a new boot with a new nonce (reboot) or
// leaves the node halted until the operator starts it again.
struct EndBoot {
  bool reboot;
  std::string why;
};

using Action =
    std::variant<PublishState, SetTimer, CancelTimer, DiskCommand, ReadPartnerState, SendMessage,
                 RenewLease, StartEngine, StopEngine, StopDump, DialMirror, HangUpMirror,
                 OpenMirrorWindow, CloseMirrorWindow, CheckLog, AssumeIdentity, DiskReturned,
                 CollectDump, CancelCollect, ReleaseIdentity, PrepareIdentity, DropPrepared,
                 HandOverIdentity, CancelHandOver, GrantDurability, PartnerFenced,
                 KeepHealthRecords, OperatorAnswer, LogEvent, EndBoot>;
using Actions = std::vector<Action>;

}  // namespace duet::ha
