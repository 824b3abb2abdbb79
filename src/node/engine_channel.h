// What supervisor and engine of one node tell each other over their socket pair. Orders and facts
// of the HA core travel as they are (ha/events.h); the rest is administration.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "admin/control.h"
#include "base/archive.h"
#include "base/durability.h"
#include "base/ids.h"

namespace duet::node {

using LunInfo = admin::Lun;  // travels on to the `duet` command as it is

// What says no more than which identity it is about.
template <class Tag>
struct OfIdentity {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};

// ---- supervisor to engine ----

struct DialMirrorOrder {
  std::uint16_t port = 0;
  BootNonce partner_nonce;
  template <class A>
  void fields(A& a) {
    a(port), a(partner_nonce);
  }
};
struct HangUpMirrorOrder {
  template <class A>
  void fields(A&) {}
};
struct OpenWindowOrder {
  NodeId identity;
  BootNonce partner_nonce;
  template <class A>
  void fields(A& a) {
    a(identity), a(partner_nonce);
  }
};
struct CloseWindowOrder {
  template <class A>
  void fields(A&) {}
};
struct CheckLogOrder {
  NodeId identity;
  Durability durability{};
  Epoch log_epoch;
  LogSequence since;
  bool own_log = false;  // this node served under it; else it is the mirror of who did
  template <class A>
  void fields(A& a) {
    a(identity), a(durability), a(log_epoch), a(since), a(own_log);
  }
};
struct AssumeOrder {
  NodeId identity;
  Epoch epoch;
  bool replay = false;
  Epoch log_epoch;
  Durability durability{};  // of the log that is replayed, with log_epoch and since: its mark in
                            // the mailbox
  LogSequence since;
  bool own_log = false;  // as in CheckLogOrder
  ReservationKey key;
  ReservationKey holder;
  std::vector<std::uint8_t> absent;  // disks, by index, that are not fenced: not to be touched
  template <class A>
  void fields(A& a) {
    a(identity), a(epoch), a(replay), a(log_epoch), a(durability), a(since), a(own_log), a(key),
        a(holder), a(absent);
  }
};
struct DiskReturnedNote {  // an absent disk is fenced now
  NodeId identity;
  std::uint8_t index = 0;
  template <class A>
  void fields(A& a) {
    a(identity), a(index);
  }
};
struct CollectDumpOrder {  // ha::CollectDump
  NodeId identity;
  std::uint8_t index = 0;
  template <class A>
  void fields(A& a) {
    a(identity), a(index);
  }
};
struct CancelCollectOrder {
  NodeId identity;
  std::uint8_t index = 0;
  template <class A>
  void fields(A& a) {
    a(identity), a(index);
  }
};
struct FreeSparesHeardNote {  // to FreeSparesFact
  std::uint64_t number = 0;
  template <class A>
  void fields(A& a) {
    a(number);
  }
};
using ReleaseOrder = OfIdentity<struct ReleaseOrderTag>;
using PrepareOrder = OfIdentity<struct PrepareOrderTag>;
using DropPreparedOrder = OfIdentity<struct DropPreparedOrderTag>;
using HandOverOrder = OfIdentity<struct HandOverOrderTag>;
using CancelHandOverOrder = OfIdentity<struct CancelHandOverOrderTag>;
struct GrantOrder {
  NodeId identity;
  Durability mode{};
  LogSequence since;
  template <class A>
  void fields(A& a) {
    a(identity), a(mode), a(since);
  }
};
struct PartnerFencedNote {
  bool fenced = false;
  template <class A>
  void fields(A& a) {
    a(fenced);
  }
};
struct KeepHealthOrder {  // in the health pages of the NVRAM region; empty: as it is
  std::vector<std::byte> own, partner;
  template <class A>
  void fields(A& a) {
    a(own), a(partner);
  }
};
struct LunCreateOrder {
  std::uint64_t request = 0;
  NodeId identity;
  std::string name;
  std::uint64_t size = 0;
  bool reserve = false;
  template <class A>
  void fields(A& a) {
    a(request), a(identity), a(name), a(size), a(reserve);
  }
};
struct LunDeleteOrder {
  std::uint64_t request = 0;
  NodeId identity;
  std::string name;
  template <class A>
  void fields(A& a) {
    a(request), a(identity), a(name);
  }
};
struct LunListOrder {
  std::uint64_t request = 0;
  template <class A>
  void fields(A& a) {
    a(request);
  }
};

struct PoolAsk {  // of an identity that is 1 or 2; the engine checks the rest
  std::uint64_t request = 0;
  admin::PoolOrder order;
  template <class A>
  void fields(A& a) {
    a(request), a(order);
  }
};

struct TestPanicOrder {   // only if the configuration allows it
  std::uint8_t kind = 0;  // PanicKind
  template <class A>
  void fields(A& a) {
    a(kind);
  }
};
struct CoreAsk {  // of an identity that is 1 or 2; the engine checks the rest
  std::uint64_t request = 0;
  admin::CoreOrder order;
  template <class A>
  void fields(A& a) {
    a(request), a(order);
  }
};

using ToEngine =
    std::variant<DialMirrorOrder, HangUpMirrorOrder, OpenWindowOrder, CloseWindowOrder, AssumeOrder,
                 ReleaseOrder, PrepareOrder, DropPreparedOrder, HandOverOrder, CancelHandOverOrder,
                 GrantOrder, PartnerFencedNote, LunCreateOrder, LunDeleteOrder, LunListOrder,
                 KeepHealthOrder, CheckLogOrder, DiskReturnedNote, PoolAsk, TestPanicOrder,
                 CollectDumpOrder, CancelCollectOrder, CoreAsk, FreeSparesHeardNote>;

// ---- engine to supervisor ----

struct ReadyFact {
  std::uint64_t nvram = 0;
  bool persistent = false;
  std::uint16_t mirror_port = 0;
  template <class A>
  void fields(A& a) {
    a(nvram), a(persistent), a(mirror_port);
  }
};
// Before ReadyFact: the health records that the NVRAM region held, as bytes; valid or not.
struct HealthKeptFact {
  std::vector<std::byte> own, partner;
  template <class A>
  void fields(A& a) {
    a(own), a(partner);
  }
};
struct WindowClosedFact {
  template <class A>
  void fields(A&) {}
};
struct LogCheckedFact {
  NodeId identity;
  bool sound = false;
  std::string why;
  template <class A>
  void fields(A& a) {
    a(identity), a(sound), a(why);
  }
};
struct AssumedFact {
  NodeId identity;
  std::uint64_t replayed = 0;
  template <class A>
  void fields(A& a) {
    a(identity), a(replayed);
  }
};
struct AssumeFailedFact {
  NodeId identity;
  std::string why;
  template <class A>
  void fields(A& a) {
    a(identity), a(why);
  }
};
using ReleasedFact = OfIdentity<struct ReleasedFactTag>;
struct ReleaseFailedFact {
  NodeId identity;
  std::string why;
  template <class A>
  void fields(A& a) {
    a(identity), a(why);
  }
};
struct PreparedFact {
  NodeId identity;
  bool prepared = false;
  std::string why;
  template <class A>
  void fields(A& a) {
    a(identity), a(prepared), a(why);
  }
};
struct HandedOverFact {
  NodeId identity;
  std::uint64_t stored = 0;
  template <class A>
  void fields(A& a) {
    a(identity), a(stored);
  }
};
struct HandOverFailedFact {
  NodeId identity;
  std::string why;
  template <class A>
  void fields(A& a) {
    a(identity), a(why);
  }
};
struct DurabilityWantedFact {
  NodeId identity;
  Durability mode{};
  LogSequence since;
  template <class A>
  void fields(A& a) {
    a(identity), a(mode), a(since);
  }
};
using FencedFact = OfIdentity<struct FencedFactTag>;
struct DiskNeededFact {  // ha::DiskNeeded
  NodeId identity;
  DiskId disk;
  template <class A>
  void fields(A& a) {
    a(identity);
    for (auto& byte : disk.bytes) a(byte);
  }
};
// Spares of the node's own identity that RAID leaves alone: one bit for each index. Answered by
// FreeSparesHeardNote: no dump goes to any other from then on, nor is one under way.
struct FreeSparesFact {
  std::uint64_t number = 0;  // 1, 2, 3, ...
  std::uint64_t disks = 0;
  template <class A>
  void fields(A& a) {
    a(number), a(disks);
  }
};
struct DumpCollectionFact {  // ha::DumpCollection
  NodeId identity;
  std::uint8_t index = 0;
  std::uint64_t bytes_done = 0, bytes_total = 0;
  bool over = false;
  template <class A>
  void fields(A& a) {
    a(identity), a(index), a(bytes_done), a(bytes_total), a(over);
  }
};
struct LunAnswer {  // to LunCreateOrder, LunDeleteOrder, LunListOrder
  std::uint64_t request = 0;
  bool ok = false;
  std::string why;  // if not ok
  std::vector<LunInfo> luns;
  template <class A>
  void fields(A& a) {
    a(request), a(ok), a(why), a(luns);
  }
};
struct PoolAnswer {  // to PoolAsk
  std::uint64_t request = 0;
  admin::PoolReply reply;
  template <class A>
  void fields(A& a) {
    a(request), a(reply);
  }
};
struct CoreAnswer {  // to CoreAsk
  std::uint64_t request = 0;
  admin::CoreReply reply;
  template <class A>
  void fields(A& a) {
    a(request), a(reply);
  }
};
// Every half second, for `duet status`.
struct EngineReport {
  enum class Mirror : std::uint8_t { none, down, resync, complete };
  struct PerIdentity {
    NodeId identity;
    bool serving = false;
    Durability mode{};
    std::uint64_t log_used = 0, log_size = 0;  // bytes
    std::uint64_t consistency_points = 0;
    std::uint32_t sessions = 0;
    std::uint32_t luns = 0;
    std::string pool_health;           // for people; empty: well, or not served
    Mirror mirror{};                   // of its log, as we append to it
    std::uint64_t dirty = 0;           // bytes that wait for a consistency point
    std::vector<std::string> clients;  // address:port of live sessions, at most max_clients
    template <class A>
    void fields(A& a) {
      a(identity), a(serving), a(mode), a(log_used), a(log_size), a(consistency_points),
          a(sessions), a(luns), a(pool_health), a(mirror), a(dirty), a(clients);
    }
  };
  struct Disk {  // our path to it
    NodeId shelf;
    std::uint8_t index = 0;  // in the order of the configuration
    bool connected = false;
    std::uint64_t operations = 0, errors = 0;      // since the engine started
    std::uint32_t slowest_us = 0, average_us = 0;  // since the report before
    std::string last_error;                        // at most max_text characters
    template <class A>
    void fields(A& a) {
      a(shelf), a(index), a(connected), a(operations), a(errors), a(slowest_us), a(average_us),
          a(last_error);
    }
  };
  static constexpr std::size_t max_clients = 1024;
  static constexpr std::size_t max_text = 512;
  bool mirror_outgoing = false;
  bool mirror_incoming = false;
  std::uint64_t cache_limit = 0;  // bytes that caches may take, of all identities
  std::uint64_t memory = 0;       // bytes resident; 0: not known
  std::vector<PerIdentity> identities;
  std::vector<Disk> disks;
  template <class A>
  void fields(A& a) {
    a(mirror_outgoing), a(mirror_incoming), a(cache_limit), a(memory), a(identities), a(disks);
  }
};
struct LogFact {              // for `duet events`
  std::uint8_t severity = 0;  // ha::Severity
  std::string phase;
  std::string text;
  template <class A>
  void fields(A& a) {
    a(severity), a(phase), a(text);
  }
};

using FromEngine = std::variant<ReadyFact, WindowClosedFact, AssumedFact, AssumeFailedFact,
                                ReleasedFact, ReleaseFailedFact, PreparedFact, HandedOverFact,
                                HandOverFailedFact, DurabilityWantedFact, FencedFact, LunAnswer,
                                EngineReport, LogFact, HealthKeptFact, LogCheckedFact, PoolAnswer,
                                DiskNeededFact, DumpCollectionFact, CoreAnswer, FreeSparesFact>;

}  // namespace duet::node
