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
struct AssumeOrder {
  NodeId identity;
  Epoch epoch;
  bool replay = false;
  Epoch log_epoch;
  Durability durability{};  // of the log that is replayed, with log_epoch and since: its mark in
                            // the mailbox
  LogSequence since;
  ReservationKey key;
  ReservationKey holder;
  template <class A>
  void fields(A& a) {
    a(identity), a(epoch), a(replay), a(log_epoch), a(durability), a(since), a(key), a(holder);
  }
};
struct ReleaseOrder {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};
struct PrepareOrder {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};
struct DropPreparedOrder {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};
struct HandOverOrder {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};
struct CancelHandOverOrder {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};
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
struct LunCreateOrder {
  std::uint64_t request = 0;
  NodeId identity;
  std::string name;
  std::uint64_t size = 0;
  template <class A>
  void fields(A& a) {
    a(request), a(identity), a(name), a(size);
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

using ToEngine =
    std::variant<DialMirrorOrder, HangUpMirrorOrder, OpenWindowOrder, CloseWindowOrder, AssumeOrder,
                 ReleaseOrder, PrepareOrder, DropPreparedOrder, HandOverOrder, CancelHandOverOrder,
                 GrantOrder, PartnerFencedNote, LunCreateOrder, LunDeleteOrder, LunListOrder>;

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
struct WindowClosedFact {
  template <class A>
  void fields(A&) {}
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
struct ReleasedFact {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
  }
};
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
struct FencedFact {
  NodeId identity;
  template <class A>
  void fields(A& a) {
    a(identity);
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
// Every half second, for `duet status`.
struct EngineReport {
  struct PerIdentity {
    NodeId identity;
    bool serving = false;
    Durability mode{};
    std::uint64_t log_used = 0, log_size = 0;  // bytes
    std::uint64_t consistency_points = 0;
    std::uint32_t sessions = 0;
    std::uint32_t luns = 0;
    template <class A>
    void fields(A& a) {
      a(identity), a(serving), a(mode), a(log_used), a(log_size), a(consistency_points),
          a(sessions), a(luns);
    }
  };
  bool mirror_outgoing = false;
  bool mirror_incoming = false;
  std::vector<PerIdentity> identities;
  template <class A>
  void fields(A& a) {
    a(mirror_outgoing), a(mirror_incoming), a(identities);
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

using FromEngine =
    std::variant<ReadyFact, WindowClosedFact, AssumedFact, AssumeFailedFact, ReleasedFact,
                 ReleaseFailedFact, PreparedFact, HandedOverFact, HandOverFailedFact,
                 DurabilityWantedFact, FencedFact, LunAnswer, EngineReport, LogFact>;

}  // namespace duet::node
