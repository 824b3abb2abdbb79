#include "interconnect/connection_manager.h"

#include <gtest/gtest.h>

#include <map>

#include "interconnect/state_structure.h"

namespace duet::interconnect {
namespace {

using ports::LinkState;

constexpr ClusterId cluster{7};
constexpr BootNonce our_nonce{11};
constexpr BootNonce partner_nonce{22};
constexpr BootNonce other_nonce{33};
constexpr Session our_session{100};
constexpr Session partner_session{200};

ManagerConfig config() {
  ManagerConfig c;
  c.cluster = cluster;
  c.node = NodeId(1);
  c.nonce = our_nonce;
  return c;
}
Peer peer(BootNonce nonce = partner_nonce) {
  return {nonce, {}, "duet test"};
}

std::vector<std::byte> structure(BootNonce nonce = partner_nonce) {
  StateStructure s;
  s.cluster = cluster;
  s.node = NodeId(2);
  s.nonce = nonce;
  auto bytes = encode(s);
  return {bytes.begin(), bytes.end()};
}
GreetingBytes greeting(std::uint8_t step = 2) {
  Greeting g;
  g.step = step;
  g.node = NodeId(2);
  g.cluster = cluster;
  g.nonce = partner_nonce;
  g.seen = our_nonce;
  g.session = partner_session;
  return encode(g);
}
FrameReceived frame(const Frame& f, GreetingBytes g = greeting()) {
  return {encode(f), g};
}

// An action in a word; timers are checked apart.
std::string word(const Action& action) {
  struct Visitor {
    std::string operator()(const Dial&) { return "dial"; }
    std::string operator()(const ReadState&) { return "read"; }
    std::string operator()(const WriteGreeting& w) {
      return "write" + std::to_string(decode_greeting(w.bytes)->step);
    }
    std::string operator()(const SendFrame& s) {
      auto f = *decode_frame(s.frame);
      if (std::holds_alternative<ClientInformation>(f)) return "send-clients";
      return "send-ready:" + std::to_string(std::get<Ready>(f).session.value());
    }
    std::string operator()(const CloseOutgoing&) { return "close-out"; }
    std::string operator()(const CloseIncoming&) { return "close-in"; }
    std::string operator()(const SetTimer&) { return ""; }
    std::string operator()(const ReportState& r) { return "[" + std::string(name(r.state)) + "]"; }
    std::string operator()(const ReportPartner& r) {
      return "partner:" + std::to_string(r.partner.clients.size());
    }
    std::string operator()(const Deliver&) { return "deliver"; }
  };
  return std::visit(Visitor{}, action);
}

struct Driver {
  ConnectionManager manager{config()};
  Instant now = Instant(seconds(1000));
  Instant timer = Instant::max();
  std::string why;

  // Performs `event`, gives the actions as words.
  std::string operator()(const Event& event) {
    Actions actions;
    manager.on_event(event, now, actions);
    std::string words;
    for (const auto& action : actions) {
      if (const auto* t = std::get_if<SetTimer>(&action)) timer = t->when;
      if (const auto* r = std::get_if<ReportState>(&action)) why = r->why;
      auto w = word(action);
      if (!w.empty()) words += (words.empty() ? "" : " ") + w;
    }
    return words;
  }
  // Lets time pass up to the timer.
  std::string expire() {
    EXPECT_NE(timer, Instant::max());
    now = std::max(now, timer);
    timer = Instant::max();
    return (*this)(TimerExpired{});
  }
  std::string at() const {
    return std::string(manager.outgoing_name()) + "/" + std::string(manager.incoming_name());
  }
};

using Steps = std::vector<Event>;
Steps operator+(Steps a, const Steps& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const OutgoingUp up{peer(), our_session};
const IncomingUp in{peer(), partner_session};
const ports::ConnectionClient mirror{"mirror", 1, 64, 7002};
const FrameReceived clients = frame(ClientInformation{{mirror}});
const FrameReceived ready = frame(Ready{our_session});

const std::vector<std::pair<std::string, Steps>> outgoing_states = {
    {"idle", {}},
    {"resting", {Started{}, DialFailed{LinkState::down, "refused"}}},
    {"dialing", {Started{}}},
    {"reading1", {Started{}, up}},
    {"writing1", {Started{}, up, StateRead{structure()}}},
    {"reading2", {Started{}, up, StateRead{structure()}, GreetingWritten{}}},
    {"writing2",
     {Started{}, up, StateRead{structure()}, GreetingWritten{}, StateRead{structure()}}},
    {"waiting", {Started{}, up, StateRead{std::vector<std::byte>(128)}}},
    {"informed",
     {Started{}, up, StateRead{structure()}, GreetingWritten{}, StateRead{structure()},
      GreetingWritten{}}},
};

// What each event does in each outgoing state, the incoming connection being absent:
// "new state: actions"; "-" = nothing at all.
using Row = std::map<std::string, std::string>;
const std::vector<std::pair<std::string, Event>> outgoing_events = {
    {"Started", Started{}},
    {"TimerExpired", TimerExpired{}},  // early: no deadline has come
    {"DialFailed", DialFailed{LinkState::wrong_cluster, "w"}},
    {"OutgoingUp", up},
    {"OutgoingLost", OutgoingLost{"l"}},
    {"StateRead", StateRead{structure()}},
    {"StateRead bad", StateRead{std::vector<std::byte>(128)}},
    {"StateRead old", StateRead{structure(other_nonce)}},
    {"GreetingWritten", GreetingWritten{}},
    {"ClientsAnnounced", ClientsAnnounced{{mirror}}},
    {"Restarted", Restarted{other_nonce}},
    {"IncomingUp", in},
    {"IncomingUp other", IncomingUp{peer(other_nonce), partner_session}},
    {"IncomingLost", IncomingLost{}},
    {"FrameReceived", clients},
};
const std::map<std::string, Row> outgoing_table = {
    {"idle",
     {{"Started", "dialing: dial [down]"},
      {"IncomingUp", "idle: "},
      {"IncomingUp other", "idle: "}}},
    {"resting",
     {{"Restarted", "dialing: dial"},
      {"IncomingUp", "dialing: dial"},
      {"IncomingUp other", "dialing: dial"}}},
    {"dialing",
     {{"DialFailed", "resting: [wrong cluster]"},
      {"OutgoingUp", "reading: read [connecting]"},
      {"Restarted", "dialing: close-out dial"},
      {"IncomingUp", "dialing: "},
      {"IncomingUp other", "dialing: "}}},
    {"reading1",
     {{"OutgoingLost", "resting: [down]"},
      {"StateRead", "writing: write1"},
      {"StateRead bad", "waiting: [partner not ready]"},
      {"StateRead old", "waiting: [partner not ready]"},
      {"Restarted", "dialing: close-out dial [down]"},
      {"IncomingUp", "reading: "},
      {"IncomingUp other", "dialing: close-out dial [down]"}}},
    {"writing1",
     {{"OutgoingLost", "resting: [down]"},
      {"GreetingWritten", "reading: read"},
      {"Restarted", "dialing: close-out dial [down]"},
      {"IncomingUp", "writing: "},
      {"IncomingUp other", "dialing: close-out dial [down]"}}},
    {"reading2",
     {{"OutgoingLost", "resting: [down]"},
      {"StateRead", "writing: write2"},
      {"StateRead bad", "waiting: [partner not ready]"},
      {"StateRead old", "waiting: [partner not ready]"},
      {"Restarted", "dialing: close-out dial [down]"},
      {"IncomingUp", "reading: "},
      {"IncomingUp other", "dialing: close-out dial [down]"}}},
    {"writing2",
     {{"OutgoingLost", "resting: [down]"},
      {"GreetingWritten", "informed: send-clients"},
      {"Restarted", "dialing: close-out dial [down]"},
      {"IncomingUp", "writing: "},
      {"IncomingUp other", "dialing: close-out dial [down]"}}},
    {"waiting",
     {{"OutgoingLost", "resting: [down]"},
      {"Restarted", "dialing: close-out dial [down]"},
      {"IncomingUp", "waiting: "},
      {"IncomingUp other", "dialing: close-out dial [down]"}}},
    {"informed",
     {{"OutgoingLost", "resting: [down]"},
      {"ClientsAnnounced", "informed: send-clients"},
      {"Restarted", "dialing: close-out dial [down]"},
      {"IncomingUp", "informed: "},
      {"IncomingUp other", "dialing: close-out dial [down]"}}},
};

TEST(ConnectionManagerTable, EveryOutgoingStateWithEveryEvent) {
  for (const auto& [state, steps] : outgoing_states) {
    for (const auto& [event_name, event] : outgoing_events) {
      Driver d;
      for (const auto& step : steps) d(step);
      auto before = std::string(d.manager.outgoing_name());
      auto words = d(event);
      auto got = std::string(d.manager.outgoing_name()) + ": " + words;
      const auto& row = outgoing_table.at(state);
      auto found = row.find(event_name);
      auto expected = found != row.end() ? found->second : before + ": ";
      EXPECT_EQ(got, expected) << state << " + " << event_name;
    }
  }
}

const std::vector<std::pair<std::string, Steps>> incoming_states = {
    {"absent", {}},
    {"greeted", {in}},
    {"known", {in, clients}},
    {"known, ready", {in, clients, ready}},
};
const std::vector<std::pair<std::string, Event>> incoming_events = {
    {"IncomingUp", IncomingUp{peer(), Session(201)}},
    {"IncomingLost", IncomingLost{}},
    {"clients", clients},
    {"clients changed", frame(ClientInformation{{mirror, mirror}})},
    {"clients, no greeting", frame(ClientInformation{}, {})},
    {"clients, greeting 1", frame(ClientInformation{}, greeting(1))},
    {"Ready", ready},
    {"Ready, old session", frame(Ready{Session(99)})},
    {"payload", frame(Payload{})},
    {"handshake frame", frame(DialerProof{})},
    {"broken frame", FrameReceived{std::vector<std::byte>(9), greeting()}},
};
// The outgoing connection being informed.
const std::map<std::string, Row> incoming_table = {
    {"absent", {{"IncomingUp", "greeted: "}}},
    {"greeted",
     {{"IncomingUp", "greeted: "},
      {"IncomingLost", "absent: "},
      {"clients", "known: send-ready:200"},
      {"clients changed", "known: send-ready:200"},
      {"clients, no greeting", "absent: close-in"},
      {"clients, greeting 1", "absent: close-in"},
      {"Ready", "absent: close-in"},
      {"Ready, old session", "absent: close-in"},
      {"payload", "absent: close-in"},
      {"handshake frame", "absent: close-in"},
      {"broken frame", "absent: close-in"}}},
    {"known",
     {{"IncomingUp", "greeted: "},
      {"IncomingLost", "absent: "},
      {"Ready", "known: [ready] partner:1"},
      {"payload", "known: deliver"},
      {"handshake frame", "absent: close-in"},
      {"broken frame", "absent: close-in"}}},
    {"known, ready",
     {{"IncomingUp", "greeted: [connecting]"},
      {"IncomingLost", "absent: [connecting]"},
      {"clients changed", "known: partner:2"},
      {"clients, no greeting", "known: partner:0"},
      {"clients, greeting 1", "known: partner:0"},
      {"Ready, old session", "known: [connecting]"},
      {"payload", "known: deliver"},
      {"handshake frame", "absent: close-in [connecting]"},
      {"broken frame", "absent: close-in [connecting]"}}},
};

TEST(ConnectionManagerTable, EveryIncomingStateWithEveryEvent) {
  for (const auto& [state, steps] : incoming_states) {
    for (const auto& [event_name, event] : incoming_events) {
      Driver d;
      for (const auto& step : outgoing_states.back().second + steps) d(step);
      auto before = std::string(d.manager.incoming_name());
      auto words = d(event);
      auto got = std::string(d.manager.incoming_name()) + ": " + words;
      const auto& row = incoming_table.at(state);
      auto found = row.find(event_name);
      EXPECT_EQ(got, found != row.end() ? found->second : before + ": ")
          << state << " + " << event_name;
    }
  }
}

Driver ready_driver() {
  Driver d;
  for (const auto& step : outgoing_states.back().second + Steps{in, clients, ready}) d(step);
  EXPECT_EQ(d.manager.state(), LinkState::ready);
  return d;
}

TEST(ConnectionManager, EveryWaitEnds) {
  const std::map<std::string, std::string> ends = {
      {"resting", "dialing: dial"},
      {"dialing", "resting: close-out"},
      {"reading1", "resting: close-out [partner not ready]"},
      {"writing1", "resting: close-out [partner not ready]"},
      {"reading2", "resting: close-out [partner not ready]"},
      {"writing2", "resting: close-out [partner not ready]"},
      {"waiting", "reading: read"},
      {"informed", "informed: [partner not ready]"},
  };
  for (const auto& [state, steps] : outgoing_states) {
    if (state == "idle") continue;
    Driver d;
    for (const auto& step : steps) d(step);
    auto words = d.expire();
    EXPECT_EQ(std::string(d.manager.outgoing_name()) + ": " + words, ends.at(state)) << state;
    EXPECT_LE(d.now - Instant(seconds(1000)), seconds(1)) << state;
  }
}

TEST(ConnectionManager, RestGrowsToItsBoundAndStartsOverAfterSuccess) {
  Driver d;
  d(Started{});
  const auto times = ManagerTimes{};
  std::vector<Duration> rests;
  for (int i = 0; i < 8; ++i) {
    d(DialFailed{LinkState::down, "refused"});
    rests.push_back(d.timer - d.now);
    EXPECT_EQ(d.expire(), "dial");
  }
  EXPECT_EQ(rests.front(), times.shortest_rest);
  EXPECT_EQ(rests[1], times.shortest_rest * 2);
  EXPECT_EQ(rests.back(), times.longest_rest);
  for (const auto& step : Steps{up, StateRead{structure()}, GreetingWritten{},
                                StateRead{structure()}, GreetingWritten{}, OutgoingLost{"l"}}) {
    d(step);
  }
  EXPECT_EQ(d.timer - d.now, times.shortest_rest);
}

TEST(ConnectionManager, NamedFailuresStayWhileItTriesAgain) {
  for (auto state : {LinkState::wrong_cluster, LinkState::partner_is_self, LinkState::wrong_node,
                     LinkState::incompatible_version, LinkState::authentication_failed}) {
    Driver d;
    d(Started{});
    EXPECT_EQ(d(DialFailed{state, "the reason"}), "[" + std::string(name(state)) + "]");
    EXPECT_EQ(d.why, "the reason");
    EXPECT_EQ(d.expire(), "dial");
    EXPECT_EQ(d(DialFailed{state, "the reason"}), "");
    EXPECT_EQ(d.manager.state(), state);
    d.expire();
    EXPECT_EQ(d(up), "read [connecting]");
  }
}

TEST(ConnectionManager, HalfBootedPartnerIsPartnerNotReady) {
  Driver d;
  d(Started{});
  d(up);
  EXPECT_EQ(d(StateRead{std::vector<std::byte>(128)}), "[partner not ready]");
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(d.expire(), "read");
    EXPECT_EQ(d(StateRead{std::vector<std::byte>(128)}), "");
  }
  d.expire();
  // Its structure appears: the bring-up goes on from the first read.
  d(StateRead{structure()});
  EXPECT_EQ(d(GreetingWritten{}), "read");
}

TEST(ConnectionManager, PartnerThatDoesNotConnectBackIsPartnerNotReady) {
  Driver d;
  for (const auto& step : outgoing_states.back().second) d(step);
  EXPECT_EQ(d.expire(), "[partner not ready]");
  EXPECT_EQ(d.why, "the partner does not connect to us");
  d(in);
  EXPECT_EQ(d(clients), "send-ready:200");
  EXPECT_EQ(d(ready), "[ready] partner:1");
}

TEST(ConnectionManager, ReadyLinkSetsNoTimer) {
  auto d = ready_driver();
  d.timer = Instant::max();
  EXPECT_EQ(d(frame(Payload{})), "deliver");
  EXPECT_EQ(d.timer, Instant::max());
  EXPECT_EQ(d(TimerExpired{}), "");  // a stale one
}

TEST(ConnectionManager, OldReadyDoesNotCountForANewConnection) {
  auto d = ready_driver();
  EXPECT_EQ(d(OutgoingLost{"cut"}), "[down]");
  EXPECT_EQ(d.expire(), "dial");
  EXPECT_EQ(d(OutgoingUp{peer(), Session(101)}), "read [connecting]");
  d(StateRead{structure()});
  d(GreetingWritten{});
  d(StateRead{structure()});
  EXPECT_EQ(d(GreetingWritten{}), "send-clients send-ready:200");
  EXPECT_EQ(d.manager.state(), LinkState::connecting);
  EXPECT_EQ(d(ready), "");  // for session 100
  EXPECT_EQ(d(frame(Ready{Session(101)})), "[ready] partner:1");
}

TEST(ConnectionManager, RebootedPartnerRestartsTheBringUp) {
  // Seen first on the incoming connection ...
  auto d = ready_driver();
  EXPECT_EQ(d(IncomingUp{peer(other_nonce), Session(300)}), "close-out dial [down]");
  EXPECT_EQ(d(OutgoingUp{peer(other_nonce), Session(101)}), "read [connecting]");
  EXPECT_EQ(d.at(), "reading/greeted");
  // ... or on the outgoing one.
  d = ready_driver();
  d(OutgoingLost{"gone"});
  d.expire();
  EXPECT_EQ(d(OutgoingUp{peer(other_nonce), Session(101)}), "close-in read [connecting]");
  EXPECT_EQ(d.at(), "reading/absent");
}

TEST(ConnectionManager, OurRebootBreaksBothConnections) {
  auto d = ready_driver();
  EXPECT_EQ(d(Restarted{other_nonce}), "close-in close-out dial [down]");
  d(up);
  Actions actions;
  d.manager.on_event(StateRead{structure()}, d.now, actions);
  auto written = decode_greeting(std::get<WriteGreeting>(actions.front()).bytes);
  EXPECT_EQ(written->nonce, other_nonce);
  EXPECT_EQ(written->seen, partner_nonce);
}

TEST(ConnectionManager, LosingReadyGetsTheFullBringUpLimitAgain) {
  auto d = ready_driver();
  d.now += seconds(100);
  EXPECT_EQ(d(IncomingLost{}), "[connecting]");
  EXPECT_EQ(d.timer - d.now, ManagerTimes{}.bring_up_limit);
  EXPECT_EQ(d.expire(), "[partner not ready]");
}

// Two managers, every message delivered at once or after the other side's, in both orders.
TEST(ConnectionManager, TwoOfThemBringEachOtherUp) {
  for (bool swapped : {false, true}) {
    struct Node {
      std::unique_ptr<ConnectionManager> manager;
      BootNonce nonce;
      GreetingBytes greeting_region{};
      std::vector<Event> inbox;
      ports::Partner partner;
    };
    Node nodes[2];
    for (int i = 0; i < 2; ++i) {
      auto c = config();
      c.node = NodeId(static_cast<std::uint8_t>(i + 1));
      c.nonce = nodes[i].nonce = BootNonce(50u + static_cast<unsigned>(i));
      nodes[i].manager = std::make_unique<ConnectionManager>(c);
      nodes[i].inbox.emplace_back(ClientsAnnounced{{mirror}});
      nodes[i].inbox.emplace_back(Started{});
    }
    std::uint64_t sessions = 0;
    for (int turn = 0; turn < 100; ++turn) {
      int me = (turn + (swapped ? 1 : 0)) % 2;
      auto& self = nodes[me];
      auto& other = nodes[1 - me];
      for (const auto& event : std::exchange(self.inbox, {})) {
        Actions actions;
        self.manager->on_event(event, Instant(seconds(turn)), actions);
        for (const auto& action : actions) {
          if (std::holds_alternative<Dial>(action)) {
            Session session{++sessions};
            other.greeting_region = {};
            other.inbox.emplace_back(IncomingUp{peer(self.nonce), session});
            self.inbox.emplace_back(OutgoingUp{peer(other.nonce), session});
          } else if (std::holds_alternative<ReadState>(action)) {
            StateStructure s;
            s.cluster = cluster;
            s.node = NodeId(static_cast<std::uint8_t>(2 - me));
            s.nonce = other.nonce;
            auto bytes = encode(s);
            self.inbox.emplace_back(StateRead{{bytes.begin(), bytes.end()}});
          } else if (const auto* w = std::get_if<WriteGreeting>(&action)) {
            other.greeting_region = w->bytes;
            self.inbox.emplace_back(GreetingWritten{});
          } else if (const auto* s = std::get_if<SendFrame>(&action)) {
            other.inbox.emplace_back(FrameReceived{s->frame, other.greeting_region});
          } else if (const auto* p = std::get_if<ReportPartner>(&action)) {
            self.partner = p->partner;
          }
        }
      }
    }
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(nodes[i].manager->state(), LinkState::ready) << swapped << i;
      EXPECT_EQ(nodes[i].partner.nonce, nodes[1 - i].nonce);
      EXPECT_EQ(nodes[i].partner.clients, std::vector{mirror});
    }
  }
}

}  // namespace
}  // namespace duet::interconnect
