// What the `duet` command and the daemon of a node say to each other over the control socket, or
// through duet-apid. A request gets the replies named beside it. A message is one byte, the version
// of this protocol, and an archive: the other side may be of another build, and says so.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/archive.h"
#include "base/durability.h"
#include "base/ids.h"

namespace duet::admin {

// ---- requests ----

struct StatusQuery {  // StatusReport
  template <class A>
  void fields(A&) {}
};
struct EventsQuery {  // EventItem for each kept event, then for new ones if `follow`, else
                      // EventsEnd
  bool follow = false;
  template <class A>
  void fields(A& a) {
    a(follow);
  }
};
enum class Verb : std::uint8_t { takeover, giveback, halt, cancel };
struct HealthQuery {  // HealthReport
  template <class A>
  void fields(A&) {}
};
struct CheckQuery {  // CheckReport, within seconds: disks are read
  template <class A>
  void fields(A&) {}
};
struct Operate {  // OperateReply: `accepted` at once, then the end of the job
  Verb verb{};
  NodeId node;  // cancel: 0 stands for the one whose takeover is under way at this node
  bool force = false;
  std::vector<std::string> overrides{};  // of single vetoes, by name
  std::uint32_t timeout_ms = 30'000;     // takeover: the countdown
  bool no_takeover = false;              // halt
  bool uncoordinated = false;            // giveback
  template <class A>
  void fields(A& a) {
    a(verb), a(node), a(force), a(overrides), a(timeout_ms), a(no_takeover), a(uncoordinated);
  }
};
// LunReply to each of these. Identity 0: the node's own.
struct LunCreate {
  NodeId identity;
  std::string name;
  std::uint64_t size = 0;  // bytes
  bool reserve = false;    // keeps space for all of it
  template <class A>
  void fields(A& a) {
    a(identity), a(name), a(size), a(reserve);
  }
};
struct LunDelete {
  NodeId identity;
  std::string name;
  template <class A>
  void fields(A& a) {
    a(identity), a(name);
  }
};
struct LunList {
  template <class A>
  void fields(A&) {}
};
struct DiskList {  // DiskReport
  template <class A>
  void fields(A&) {}
};

struct NodePanic {   // OperateReply; for tests, if the configuration allows it
  std::string kind;  // null, assert, stack, abort, hang
  template <class A>
  void fields(A& a) {
    a(kind);
  }
};

enum class PoolVerb : std::uint8_t {
  status,            // PoolReply::report
  check,             // starts the checker; `data`: reads all blocks
  scrub,             // starts the comparison of parity
  volume_list,       // PoolReply::volumes, as of the next two
  volume_create,     // name
  volume_delete,     // volume
  volume_limit,      // volume, quota, reservation
  snapshot_list,     // PoolReply::volumes; of `volume` if one is named
  snapshot_create,   // volume, name
  snapshot_delete,   // volume, snapshot
  snapshot_clone,    // volume, snapshot, name
  snapshot_restore,  // volume, snapshot, force
  lun_clone,         // lun, snapshot, name; PoolReply::luns
  disk_fail,         // disk
  disk_replace,      // disk, spare (empty: the disk itself)
  disk_spare,        // disk, label
  pool_grow,         // disks; protection: a new group, else group
  disk_coredump,     // disk, which bears no label
};
inline constexpr std::uint8_t pool_verbs = 18;
// What to do with the pool of an identity. PoolReply, when it is done; check and scrub: when they
// have begun. Volumes, snapshots and LUNs by name; no volume: the first one. Disks: `2`, the LUN on
// the shelf as in `duet disk list`, or `m2`, the member as in `duet pool status`.
struct PoolOrder {
  PoolVerb verb{};
  NodeId identity;  // 0: the node's own
  std::string volume{};
  std::string snapshot{};
  std::string lun{};
  std::string name{};  // of what is made
  std::string disk{};
  std::string spare{};
  std::uint64_t quota = 0;        // bytes; 0: none
  std::uint64_t reservation = 0;  // bytes; 0: none
  bool data = false;
  bool force = false;                // also while a client may use the LUNs
  bool label = false;                // a disk that bears none gets one
  std::vector<std::string> disks{};  // as `disk`
  std::uint32_t group = 0;
  std::string protection{};  // none, raid4, dual
  std::string file{};        // path from the root of the volume
  template <class A>
  void fields(A& a) {
    a(verb), a(identity), a(volume), a(snapshot), a(lun), a(name), a(disk), a(spare), a(quota),
        a(reservation), a(data), a(force), a(label), a(disks), a(group), a(protection), a(file);
  }
};

enum class CoreVerb : std::uint8_t {
  list,    // CoreReply::cores, all of them
  show,    // the one that `id` names, with its JSON
  read,    // CoreReply::data: at most max_piece bytes from `offset` on
  remove,  // and its JSON; durable
};
inline constexpr std::uint8_t core_verbs = 4;
// What to do with the core files of an identity. CoreReply.
struct CoreOrder {
  static constexpr std::uint32_t max_piece = 512 * 1024;
  CoreVerb verb{};
  NodeId identity;   // 0: the node's own
  std::string id{};  // or the front of it, if no other begins like that
  std::uint64_t offset = 0;
  template <class A>
  void fields(A& a) {
    a(verb), a(identity), a(id), a(offset);
  }
};

using Request = std::variant<StatusQuery, EventsQuery, Operate, LunCreate, LunDelete, LunList,
                             DiskList, HealthQuery, CheckQuery, PoolOrder, NodePanic, CoreOrder>;

// ---- replies ----

struct AbsentDisk {  // an identity is served without it
  std::string name;
  std::string why;
  template <class A>
  void fields(A& a) {
    a(name), a(why);
  }
};
struct IdentityStatus {
  NodeId identity;
  std::string name;  // of the home node
  bool served_here = false;
  std::uint64_t epoch = 0;
  std::string durability;  // empty unless served here
  std::string target;      // IQN
  std::string address;     // address:port
  std::string network;     // where the address stands on its interface, or that it is not managed
  bool lease_valid = false;
  std::uint32_t luns = 0;
  std::uint32_t sessions = 0;
  std::uint64_t log_used = 0, log_size = 0;  // bytes
  std::uint64_t consistency_points = 0;
  std::vector<AbsentDisk> absent;
  template <class A>
  void fields(A& a) {
    a(identity), a(name), a(served_here), a(epoch), a(durability), a(target), a(address),
        a(network), a(lease_valid), a(luns), a(sessions), a(log_used), a(log_size),
        a(consistency_points), a(absent);
  }
};
struct Veto {  // why a move is refused now
  std::string name;
  bool hard = true;  // else --override=name, or --force
  std::string text;
  std::string detail;  // which disk, ...; may be empty
  std::string cure;    // what clears it; may be empty
  template <class A>
  void fields(A& a) {
    a(name), a(hard), a(text), a(detail), a(cure);
  }
};
struct Possible {  // whether something could be done now, and if not, why
  bool possible = false;
  std::vector<Veto> vetoes;
  std::vector<Veto> notes;  // worth knowing, in nobody's way
  template <class A>
  void fields(A& a) {
    a(possible), a(vetoes), a(notes);
  }
};
struct Counter {
  std::string name;
  std::uint64_t value = 0;
  template <class A>
  void fields(A& a) {
    a(name), a(value);
  }
};
struct StatusReport {
  NodeId node;
  std::string name;
  std::string cluster;
  std::int64_t supervisor_pid = 0;
  std::int64_t engine_pid = 0;  // 0: not running
  std::string state;            // of the node, as in its state structure
  std::string why;
  std::string next;
  std::uint64_t boot_nonce = 0;
  std::string partner_name;
  std::string partner_state;    // "unknown" when it cannot be read
  std::string partner_verdict;  // what our partner monitor thinks
  std::string link;             // ports::LinkState
  std::string link_why;
  bool mirror_outgoing = false;
  bool mirror_incoming = false;
  bool nvram_persistent = false;
  bool auto_giveback = false;
  std::string health;          // of this node
  std::string partner_health;  // as it says itself; "unknown" without a fresh record
  std::string takeover_step;   // of the takeover of the partner by this node; "idle": none
  std::string departure_step;  // of this node's own going; "idle": none
  std::string giveback_step;
  std::int64_t countdown_left_ms = -1;  // -1: none runs
  bool may_cancel = false;
  std::string auto_giveback_plan;  // when it happens, or why not, in words
  std::vector<IdentityStatus> identities;
  Possible takeover;  // of the partner by this node
  Possible giveback;  // to the partner by this node
  std::vector<Counter> counters;
  template <class A>
  void fields(A& a) {
    a(node), a(name), a(cluster), a(supervisor_pid), a(engine_pid), a(state), a(why), a(next),
        a(boot_nonce), a(partner_name), a(partner_state), a(partner_verdict), a(link), a(link_why),
        a(mirror_outgoing), a(mirror_incoming), a(nvram_persistent), a(auto_giveback), a(health),
        a(partner_health), a(takeover_step), a(departure_step), a(giveback_step),
        a(countdown_left_ms), a(may_cancel), a(auto_giveback_plan), a(identities), a(takeover),
        a(giveback), a(counters);
  }
};
struct EventItem {
  std::uint64_t number = 0;      // 1, 2, 3, ... since the daemon started
  std::int64_t boottime_ns = 0;  // CLOCK_BOOTTIME
  std::int64_t wall_ns = 0;      // since 1970, for people
  std::string severity;
  std::string phase;
  std::string text;
  template <class A>
  void fields(A& a) {
    a(number), a(boottime_ns), a(wall_ns), a(severity), a(phase), a(text);
  }
};
struct EventsEnd {
  template <class A>
  void fields(A&) {}
};
enum class OperateOutcome : std::uint8_t { accepted, done, failed, refused };
struct OperateReply {
  OperateOutcome outcome{};
  std::vector<std::string> reasons;
  template <class A>
  void fields(A& a) {
    a(outcome), a(reasons);
  }
};
struct Lun {
  NodeId identity;
  LunNumber number;
  std::string name;
  std::uint64_t size = 0;  // bytes
  std::string serial;
  std::string naa;
  bool reserved = false;  // space is kept for all of it
  template <class A>
  void fields(A& a) {
    a(identity), a(number), a(name), a(size), a(serial), a(naa), a(reserved);
  }
};
struct LunReply {
  bool ok = false;
  std::string why;  // if not ok
  std::vector<Lun> luns;
  template <class A>
  void fields(A& a) {
    a(ok), a(why), a(luns);
  }
};
struct DiskItem {
  NodeId owner;
  std::uint32_t lun = 0;
  std::string path;  // portal and target
  bool connected = false;
  std::uint64_t size = 0;  // bytes
  std::string serial;
  std::string label;        // role and pool, or why there is none
  std::string reservation;  // holder and type, or why it is not known
  template <class A>
  void fields(A& a) {
    a(owner), a(lun), a(path), a(connected), a(size), a(serial), a(label), a(reservation);
  }
};
struct DiskReport {
  std::vector<DiskItem> disks;
  template <class A>
  void fields(A& a) {
    a(disks);
  }
};

struct ModuleItem {
  std::string module;
  std::string health;
  std::string finding;  // "none" when all is well
  std::string detail;
  std::string cure;  // what clears it; may be empty
  template <class A>
  void fields(A& a) {
    a(module), a(health), a(finding), a(detail), a(cure);
  }
};
struct NodeHealth {
  NodeId node;
  std::string name;
  std::string health;
  std::string source;       // "now", "reported", or "kept in NVRAM": from before this boot
  std::int64_t age_ms = 0;  // since it was reported; of a kept one: since it was written
  std::string software;
  std::vector<ModuleItem> modules;
  template <class A>
  void fields(A& a) {
    a(node), a(name), a(health), a(source), a(age_ms), a(software), a(modules);
  }
};
struct HealthReport {
  std::vector<NodeHealth> nodes;  // this one first; a node of which nothing is known is missing
  template <class A>
  void fields(A& a) {
    a(nodes);
  }
};
struct MoveCheck {
  NodeId node;  // which would be taken over
  NodeId by;
  bool rehearsed = false;  // `by` is the asked node, which has looked at the disks
  Possible possible;
  template <class A>
  void fields(A& a) {
    a(node), a(by), a(rehearsed), a(possible);
  }
};
struct CheckReport {
  std::vector<MoveCheck> takeovers;  // of both nodes
  std::vector<MoveCheck> givebacks;  // of what is taken over
  template <class A>
  void fields(A& a) {
    a(takeovers), a(givebacks);
  }
};

struct PoolGroup {
  std::uint32_t number = 0;
  std::string protection;
  std::uint64_t size = 0;  // bytes of data, without parity
  template <class A>
  void fields(A& a) {
    a(number), a(protection), a(size);
  }
};
struct PoolDisk {
  // `m2`; `spare`; `joining` a group; or `unused`: labelled, and no part of the pool
  std::string member;
  std::uint32_t group = 0;
  std::string role;   // of a member: data or parity
  std::string state;  // of a member: in_sync, failed, rebuilding
  std::string disk;   // its id
  std::string path;   // shelf and LUN; empty: not seen since the pool was opened
  std::string lun;    // on the shelf; empty like `path`
  bool present = false;
  bool slow = false;
  std::uint64_t read_errors = 0;
  std::uint64_t repaired = 0;  // blocks
  std::uint64_t rebuilt = 0;   // bytes, while rebuilding or joining
  template <class A>
  void fields(A& a) {
    a(member), a(group), a(role), a(state), a(disk), a(path), a(lun), a(present), a(slow),
        a(read_errors), a(repaired), a(rebuilt);
  }
};
struct PoolWork {  // rebuild, scrub, check
  bool running = false;
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  std::string last;  // how the last one ended; empty: none since this node serves the pool
  template <class A>
  void fields(A& a) {
    a(running), a(done), a(total), a(last);
  }
};
struct PoolReport {
  NodeId identity;
  std::string name;                            // of the home node
  std::string health;                          // empty: well
  std::uint64_t size = 0, used = 0, free = 0;  // bytes; free: what a new LUN could take
  std::uint64_t waiting = 0;                   // bytes for the next consistency point
  std::uint64_t consistency_points = 0;        // since this node serves the pool
  bool consistency_point_under_way = false;
  std::vector<PoolGroup> groups;
  std::vector<PoolDisk> disks;
  PoolWork rebuild, scrub, check;
  std::vector<std::string> problems;  // that the last check found; the first ones
  template <class A>
  void fields(A& a) {
    a(identity), a(name), a(health), a(size), a(used), a(free), a(waiting), a(consistency_points),
        a(consistency_point_under_way), a(groups), a(disks), a(rebuild), a(scrub), a(check),
        a(problems);
  }
};
struct VolumeItem {
  NodeId identity;
  std::string name;
  std::string volume;      // of a snapshot: whose; else empty
  std::string origin;      // of a clone: volume/snapshot that it was made of; else empty
  std::uint64_t used = 0;  // bytes; snapshots: 0, they are part of their volume
  std::uint64_t quota = 0, reservation = 0;  // bytes
  std::int64_t created = 0;                  // of a snapshot: ns since 1970
  std::uint32_t clones = 0;                  // of a snapshot
  bool deleting = false;
  template <class A>
  void fields(A& a) {
    a(identity), a(name), a(volume), a(origin), a(used), a(quota), a(reservation), a(created),
        a(clones), a(deleting);
  }
};
struct PoolReply {
  bool ok = false;
  std::string why;                  // if not ok
  std::vector<PoolReport> report;   // one, or none
  std::vector<VolumeItem> volumes;  // at most volumes_max
  std::uint64_t more = 0;           // volumes that were left out
  std::vector<Lun> luns;
  static constexpr std::size_t volumes_max = 8192;
  template <class A>
  void fields(A& a) {
    a(ok), a(why), a(report), a(volumes), a(more), a(luns);
  }
};

struct CoreItem {
  NodeId identity;
  std::string id;
  bool collecting = false;   // not finished: it is being made of the raw dump
  std::uint64_t size = 0;    // bytes; of the raw dump while collecting
  std::uint64_t used = 0;    // bytes on the disks; collecting: of the raw dump, done
  std::int64_t created = 0;  // ns since 1970
  // What is beside the core file (docs/formats/coredump.md); empty: none, or the reply is full.
  std::string details;
  template <class A>
  void fields(A& a) {
    a(identity), a(id), a(collecting), a(size), a(used), a(created), a(details);
  }
};
struct CoreReply {
  static constexpr std::size_t max_details = 1024 * 1024;  // bytes, of all cores
  bool ok = false;
  std::string why;  // if not ok
  std::vector<CoreItem> cores;
  std::vector<std::byte> data;
  bool end = false;  // nothing follows the data
  template <class A>
  void fields(A& a) {
    a(ok), a(why), a(cores), a(data), a(end);
  }
};

using Reply = std::variant<StatusReport, EventItem, EventsEnd, OperateReply, LunReply, DiskReport,
                           HealthReport, CheckReport, PoolReply, CoreReply>;

// Changes with every change of the messages above.
inline constexpr std::uint8_t control_version = 6;

template <class T>
std::vector<std::byte> to_message(const T& message) {
  auto body = archive(message);
  body.insert(body.begin(), std::byte{control_version});
  return body;
}
// What a daemon answers to a message of another version: its own version, and nothing else.
inline std::vector<std::byte> other_version() {
  return {std::byte{control_version}};
}
// Errors: unsupported_version (the sender is of another build), invalid.
template <class T>
Result<T> from_message(Bytes bytes) {
  if (bytes.empty()) return fail(ErrorCode::invalid, "empty message");
  auto version = std::to_integer<unsigned>(bytes[0]);
  if (version != control_version || bytes.size() == 1) {
    return fail(ErrorCode::unsupported_version,
                "the other side speaks version " + std::to_string(version) +
                    " of the control protocol, this program version " +
                    std::to_string(control_version) + ": use the same build on both sides");
  }
  return unarchive<T>(bytes.subspan(1));
}

}  // namespace duet::admin
