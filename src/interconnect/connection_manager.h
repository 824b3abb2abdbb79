// The bring-up of the interconnect and its upkeep, sans-I/O. Two one-way connections:
// on the *outgoing* one we dialled and read, write and send; the *incoming* one is the same for the
// partner. `ready` = both went through read-write-read-write and both nodes know each other's
// connection clients. Chart and invariants: docs/protocols/interconnect.md.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "interconnect/messages.h"
#include "ports/interconnect.h"

namespace duet::interconnect {

struct ManagerTimes {
  Duration shortest_rest = milliseconds(20);  // between attempts; doubles up to longest_rest
  Duration longest_rest = milliseconds(200);
  Duration dial_limit = milliseconds(1000);      // connection and handshake
  Duration step_limit = milliseconds(500);       // each RDMA read and write
  Duration bring_up_limit = milliseconds(1000);  // connected without `ready`: half-booted
};

struct ManagerConfig {
  ClusterId cluster;
  NodeId node;
  BootNonce nonce;
  VersionRange versions;
  ManagerTimes times;
};

// ---- events ----

// A peer that knows the secret, from its hello.
struct Peer {
  BootNonce nonce;
  VersionRange versions;
  std::string software;
};

struct Started {};
struct TimerExpired {};
struct DialFailed {
  ports::LinkState state;  // down, or one of the named mismatches
  std::string why;
};
// The connection we dialled is authenticated.
struct OutgoingUp {
  Peer peer;
  Session session;
};
// The outgoing connection is gone, by whichever cause but CloseOutgoing.
struct OutgoingLost {
  std::string why;
};
struct StateRead {
  std::vector<std::byte> bytes;
};
struct GreetingWritten {};
// A connection of the partner is authenticated. It replaces an earlier one, which the shell has
// closed.
struct IncomingUp {
  Peer peer;
  Session session;
};
struct IncomingLost {};
struct FrameReceived {  // on the incoming connection
  std::vector<std::byte> frame;
  GreetingBytes greeting;  // our greeting region now
};
struct ClientsAnnounced {
  std::vector<ports::ConnectionClient> clients;
};
struct Restarted {  // a new boot of ours
  BootNonce nonce;
};

using Event = std::variant<Started, TimerExpired, DialFailed, OutgoingUp, OutgoingLost, StateRead,
                           GreetingWritten, IncomingUp, IncomingLost, FrameReceived,
                           ClientsAnnounced, Restarted>;

// ---- actions ----

struct Dial {};  // with the current nonce; answered by OutgoingUp or DialFailed
struct ReadState {};
struct WriteGreeting {
  GreetingBytes bytes;
};
struct SendFrame {  // on the outgoing connection
  std::vector<std::byte> frame;
};
struct CloseOutgoing {};  // also a dial under way; nothing more is heard of it
struct CloseIncoming {};
struct SetTimer {  // replaces the one before
  Instant when;
};
struct ReportState {
  ports::LinkState state;
  std::string why;
};
struct ReportPartner {
  ports::Partner partner;
};
struct Deliver {
  std::vector<std::byte> message;
};

using Action = std::variant<Dial, ReadState, WriteGreeting, SendFrame, CloseOutgoing, CloseIncoming,
                            SetTimer, ReportState, ReportPartner, Deliver>;
using Actions = std::vector<Action>;

class ConnectionManager {
 public:
  explicit ConnectionManager(ManagerConfig config);

  // Requires: `now` never decreases. Ensures: actions are to be performed in order. An event that
  // does not fit the state (it was under way when the state changed) has no effect.
  void on_event(const Event& event, Instant now, Actions& actions);

  ports::LinkState state() const { return reported_; }
  // Our messages reach the partner: its regions are proven and it knows our clients.
  bool may_send() const { return std::holds_alternative<Informed>(outgoing_); }

  // For `duet status` and the tests.
  std::string_view outgoing_name() const;
  std::string_view incoming_name() const;

 private:
  // Outgoing.
  struct Idle {};  // before Started
  struct Resting {
    Instant until;
  };
  struct Dialing {
    Instant deadline;
  };
  struct Connected {
    Peer peer;
    Session session;
    Instant since;
  };
  struct Reading : Connected {
    int round = 1;
    Instant deadline;
  };
  struct Writing : Connected {
    int round = 1;
    Instant deadline;
  };
  // The partner's structure is not there yet, or of an earlier boot: read again.
  struct Waiting : Connected {
    Instant until;
  };
  struct Informed : Connected {
    bool announced = false;  // Ready sent
    Session announced_for;   // the incoming session it was sent for
  };
  using Outgoing = std::variant<Idle, Resting, Dialing, Reading, Writing, Waiting, Informed>;

  // Incoming.
  struct Absent {};
  struct Greeted {  // authenticated
    Peer peer;
    Session session;
  };
  struct Known : Greeted {  // its read-write-read-write is done, its clients are known
    std::vector<ports::ConnectionClient> clients;
    bool ready = false;  // it said Ready
    Session ready_for;   // to this outgoing session of ours
  };
  using Incoming = std::variant<Absent, Greeted, Known>;

  void on(const Started& event);
  void on(const TimerExpired& event);
  void on(const DialFailed& event);
  void on(const OutgoingUp& event);
  void on(const OutgoingLost& event);
  void on(const StateRead& event);
  void on(const GreetingWritten& event);
  void on(const IncomingUp& event);
  void on(const IncomingLost& event);
  void on(const FrameReceived& event);
  void on(const ClientsAnnounced& event);
  void on(const Restarted& event);

  void on_frame(const ClientInformation& information, const GreetingBytes& greeting);
  void on_frame(const Ready& ready);
  void on_frame(const Payload& payload);

  void dial();
  void rest(ports::LinkState state, std::string why);
  void lose_outgoing(ports::LinkState state, std::string why);
  void read(const Connected& connected, int round);
  void write(const Connected& connected, int round);
  void wait(const Connected& connected, std::string why);
  void drop_incoming();
  void refuse_incoming(std::string why);
  const Greeted* greeted() const;
  const Connected* connected() const;
  Instant bring_up_deadline(const Connected& out) const;
  bool both_ready() const;
  void announce_ready();
  void settle();
  Instant next_wake() const;
  std::pair<ports::LinkState, std::string> derive() const;

  template <class A>
  void act(A action) {
    actions_->emplace_back(std::move(action));
  }

  ManagerConfig config_;
  std::vector<ports::ConnectionClient> clients_;
  Outgoing outgoing_;
  Incoming incoming_;
  Duration rest_;
  // Why there is no connection, or why a connected partner does not go on.
  ports::LinkState trouble_ = ports::LinkState::down;
  std::string why_ = "not started";

  ports::LinkState reported_ = ports::LinkState::down;
  std::string reported_why_;
  ports::Partner reported_partner_;
  Instant unready_since_ = Instant::min();  // when the link was last lost from `ready`
  Instant timer_ = Instant::max();
  // Of the event being handled.
  Instant now_;
  Actions* actions_ = nullptr;
};

}  // namespace duet::interconnect
