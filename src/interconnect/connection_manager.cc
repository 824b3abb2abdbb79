#include "interconnect/connection_manager.h"

#include <algorithm>
#include <utility>

#include "interconnect/state_structure.h"

namespace duet::interconnect {

using ports::LinkState;

ConnectionManager::ConnectionManager(ManagerConfig config)
    : config_(config), rest_(config.times.shortest_rest) {}

//  outgoing                                             incoming
//
//  idle --Started--> dialing <---------------+          absent
//                    |     | DialFailed      |            | IncomingUp
//           OutgoingUp     +-----> resting --+            v
//                    v             ^   (timer, or       greeted
//  waiting <-----> reading 1       |    IncomingUp)       | ClientInformation,
//   ^    (not        | valid       |                      | greeting step 2 there
//   |   published)   v             |                      v
//   |              writing 1       |                    known
//   |                v             |                      | Ready for our session:
//   +----(nonce----reading 2       |                      v   link `ready` when the
//        changed)    v             |                    known, ready  outgoing is informed
//                  writing 2       |
//                    | GreetingWritten: sends            any: IncomingLost -> absent,
//                    v   ClientInformation                    IncomingUp   -> greeted
//                  informed        |
//                    | known there too: sends Ready
//                    |             |
//                    any connected state: OutgoingLost, deadline
void ConnectionManager::on_event(const Event& event, Instant now, Actions& actions) {
  now_ = now;
  actions_ = &actions;
  std::visit([this](const auto& e) { on(e); }, event);
  settle();
  actions_ = nullptr;
}

// ---- outgoing ----

void ConnectionManager::on(const Started&) {
  if (std::holds_alternative<Idle>(outgoing_)) dial();
}

void ConnectionManager::dial() {
  outgoing_ = Dialing{now_ + config_.times.dial_limit};
  act(Dial{});
}

void ConnectionManager::rest(LinkState state, std::string why) {
  trouble_ = state;
  why_ = std::move(why);
  outgoing_ = Resting{now_ + rest_};
  rest_ = std::min(rest_ * 2, config_.times.longest_rest);
}

void ConnectionManager::lose_outgoing(LinkState state, std::string why) {
  act(CloseOutgoing{});
  rest(state, std::move(why));
}

void ConnectionManager::on(const DialFailed& event) {
  if (std::holds_alternative<Dialing>(outgoing_)) rest(event.state, event.why);
}

void ConnectionManager::on(const OutgoingUp& event) {
  if (!std::holds_alternative<Dialing>(outgoing_)) return;
  // The handshake is fresh, so the incoming connection is of an earlier boot.
  if (const auto* in = greeted(); in && in->peer.nonce != event.peer.nonce) drop_incoming();
  trouble_ = LinkState::connecting;
  why_ = "connected, bring-up is going on";
  read(Connected{event.peer, event.session, now_}, 1);
}

void ConnectionManager::on(const OutgoingLost& event) {
  if (connected() != nullptr) rest(LinkState::down, event.why);
}

void ConnectionManager::read(const Connected& connected, int round) {
  outgoing_ = Reading{connected, round, now_ + config_.times.step_limit};
  act(ReadState{});
}

void ConnectionManager::write(const Connected& connected, int round) {
  Greeting greeting;
  greeting.step = static_cast<std::uint8_t>(round);
  greeting.node = config_.node;
  greeting.cluster = config_.cluster;
  greeting.nonce = config_.nonce;
  greeting.seen = connected.peer.nonce;
  greeting.session = connected.session;
  trouble_ = LinkState::connecting;
  why_ = "connected, bring-up is going on";
  outgoing_ = Writing{connected, round, now_ + config_.times.step_limit};
  act(WriteGreeting{encode(greeting)});
}

void ConnectionManager::wait(const Connected& connected, std::string why) {
  trouble_ = LinkState::partner_not_ready;
  why_ = std::move(why);
  outgoing_ = Waiting{connected, now_ + config_.times.longest_rest};
}

void ConnectionManager::on(const StateRead& event) {
  auto* reading = std::get_if<Reading>(&outgoing_);
  if (reading == nullptr) return;
  Connected connected = *reading;
  int round = reading->round;
  auto structure = decode_state_structure(event.bytes);
  if (!structure) {
    // A newer structure is no reason to give up the connection: messages and heartbeats of the
    // agreed protocol version work; but we do not say `ready` to what we can't read.
    wait(connected, "the partner's " + structure.error().message);
  } else if (structure->cluster != config_.cluster || structure->node == config_.node ||
             structure->nonce != connected.peer.nonce) {
    wait(connected, "the partner's state structure is of another boot");
  } else {
    write(connected, round);
  }
}

void ConnectionManager::on(const GreetingWritten&) {
  auto* writing = std::get_if<Writing>(&outgoing_);
  if (writing == nullptr) return;
  Connected connected = *writing;
  if (writing->round == 1) {
    read(connected, 2);
    return;
  }
  trouble_ = LinkState::connecting;
  why_ = "our direction works, waiting for the partner's";
  rest_ = config_.times.shortest_rest;
  outgoing_ = Informed{connected, false, {}};
  act(SendFrame{encode(ClientInformation{clients_})});
}

void ConnectionManager::on(const ClientsAnnounced& event) {
  ASSERT(event.clients.size() <= ports::max_connection_clients);
  clients_ = event.clients;
  if (may_send()) act(SendFrame{encode(ClientInformation{clients_})});
}

void ConnectionManager::on(const Restarted& event) {
  config_.nonce = event.nonce;
  if (std::holds_alternative<Idle>(outgoing_)) return;
  if (!std::holds_alternative<Absent>(incoming_)) act(CloseIncoming{});
  incoming_ = Absent{};
  if (!std::holds_alternative<Resting>(outgoing_)) act(CloseOutgoing{});
  rest_ = config_.times.shortest_rest;
  trouble_ = LinkState::down;
  why_ = "we have rebooted";
  dial();
}

// ---- incoming ----

void ConnectionManager::on(const IncomingUp& event) {
  incoming_ = Greeted{event.peer, event.session};
  // The partner is evidently there: no reason to rest.
  if (std::holds_alternative<Resting>(outgoing_)) {
    dial();
  } else if (const auto* out = connected(); out && out->peer.nonce != event.peer.nonce) {
    act(CloseOutgoing{});
    trouble_ = LinkState::down;
    why_ = "the partner has rebooted";
    dial();
  }
}

void ConnectionManager::on(const IncomingLost&) {
  incoming_ = Absent{};
}

void ConnectionManager::drop_incoming() {
  act(CloseIncoming{});
  incoming_ = Absent{};
}

// The partner broke the protocol on its connection: it may try again with a new one.
void ConnectionManager::refuse_incoming(std::string why) {
  drop_incoming();
  why_ = std::move(why);
}

void ConnectionManager::on(const FrameReceived& event) {
  if (std::holds_alternative<Absent>(incoming_)) return;
  auto frame = decode_frame(event.frame);
  if (!frame) {
    refuse_incoming("the partner sent a broken frame: " + frame.error().message);
  } else if (const auto* information = std::get_if<ClientInformation>(&*frame)) {
    on_frame(*information, event.greeting);
  } else if (const auto* ready = std::get_if<Ready>(&*frame)) {
    on_frame(*ready);
  } else if (const auto* payload = std::get_if<Payload>(&*frame)) {
    on_frame(*payload);
  } else {
    refuse_incoming("the partner sent a handshake frame out of order");
  }
}

void ConnectionManager::on_frame(const ClientInformation& information,
                                 const GreetingBytes& greeting_bytes) {
  if (auto* known = std::get_if<Known>(&incoming_)) {
    known->clients = information.clients;
    return;
  }
  auto& greeted = std::get<Greeted>(incoming_);
  auto greeting = decode_greeting(greeting_bytes);
  // The write came before the frame, so it must be here: read-write-read-write is proven.
  if (!greeting || greeting->step != 2 || greeting->cluster != config_.cluster ||
      greeting->node == config_.node || greeting->nonce != greeted.peer.nonce ||
      greeting->seen != config_.nonce || greeting->session != greeted.session) {
    refuse_incoming("the partner's greeting is not right");
    return;
  }
  incoming_ = Known{greeted, information.clients, false, {}};
}

void ConnectionManager::on_frame(const Ready& ready) {
  auto* known = std::get_if<Known>(&incoming_);
  if (known == nullptr) {
    refuse_incoming("the partner sent Ready out of order");
    return;
  }
  known->ready = true;
  known->ready_for = ready.session;
}

void ConnectionManager::on_frame(const Payload& payload) {
  if (std::holds_alternative<Known>(incoming_)) {
    act(Deliver{payload.bytes});
  } else {
    refuse_incoming("the partner sent a message out of order");
  }
}

// ---- both ----

const ConnectionManager::Greeted* ConnectionManager::greeted() const {
  if (const auto* s = std::get_if<Greeted>(&incoming_)) return s;
  return std::get_if<Known>(&incoming_);
}

const ConnectionManager::Connected* ConnectionManager::connected() const {
  if (const auto* s = std::get_if<Reading>(&outgoing_)) return s;
  if (const auto* s = std::get_if<Writing>(&outgoing_)) return s;
  if (const auto* s = std::get_if<Waiting>(&outgoing_)) return s;
  return std::get_if<Informed>(&outgoing_);
}

void ConnectionManager::on(const TimerExpired&) {
  timer_ = Instant::max();
  if (const auto* resting = std::get_if<Resting>(&outgoing_)) {
    if (now_ >= resting->until) dial();
  } else if (const auto* dialing = std::get_if<Dialing>(&outgoing_)) {
    if (now_ >= dialing->deadline) lose_outgoing(LinkState::down, "the partner does not answer");
  } else if (const auto* reading = std::get_if<Reading>(&outgoing_)) {
    if (now_ >= reading->deadline) {
      lose_outgoing(LinkState::partner_not_ready, "a read of the partner's state got no answer");
    }
  } else if (const auto* writing = std::get_if<Writing>(&outgoing_)) {
    if (now_ >= writing->deadline) {
      lose_outgoing(LinkState::partner_not_ready, "a write to the partner got no answer");
    }
  } else if (const auto* waiting = std::get_if<Waiting>(&outgoing_)) {
    if (now_ >= waiting->until) read(Connected(*waiting), 1);
  }
}

bool ConnectionManager::both_ready() const {
  const auto* out = std::get_if<Informed>(&outgoing_);
  const auto* in = std::get_if<Known>(&incoming_);
  return out && in && in->ready && in->ready_for == out->session;
}

// Level-triggered: whenever both directions work, the partner hears it once for each of its
// sessions.
void ConnectionManager::announce_ready() {
  auto* out = std::get_if<Informed>(&outgoing_);
  const auto* in = std::get_if<Known>(&incoming_);
  if (!out || !in || (out->announced && out->announced_for == in->session)) return;
  out->announced = true;
  out->announced_for = in->session;
  act(SendFrame{encode(interconnect::Ready{in->session})});
}

std::pair<LinkState, std::string> ConnectionManager::derive() const {
  if (both_ready()) return {LinkState::ready, "both directions work"};
  const auto* out = connected();
  if (out == nullptr) {
    // Dialling again says nothing new about why there is no connection.
    return {trouble_, why_};
  }
  if (trouble_ == LinkState::partner_not_ready) return {trouble_, why_};
  if (now_ >= bring_up_deadline(*out)) {
    return {LinkState::partner_not_ready, std::holds_alternative<Absent>(incoming_)
                                              ? "the partner does not connect to us"
                                              : "the partner does not finish its bring-up"};
  }
  return {LinkState::connecting, why_};
}

Instant ConnectionManager::bring_up_deadline(const Connected& out) const {
  return std::max(out.since, unready_since_) + config_.times.bring_up_limit;
}

Instant ConnectionManager::next_wake() const {
  Instant wake = Instant::max();
  if (const auto* s = std::get_if<Resting>(&outgoing_)) wake = s->until;
  if (const auto* s = std::get_if<Dialing>(&outgoing_)) wake = s->deadline;
  if (const auto* s = std::get_if<Reading>(&outgoing_)) wake = s->deadline;
  if (const auto* s = std::get_if<Writing>(&outgoing_)) wake = s->deadline;
  if (const auto* s = std::get_if<Waiting>(&outgoing_)) wake = s->until;
  // The moment a connected partner that does not go on becomes partner_not_ready.
  if (const auto* out = connected(); out && !both_ready()) {
    Instant limit = bring_up_deadline(*out);
    if (now_ < limit) wake = std::min(wake, limit);
  }
  return wake;
}

void ConnectionManager::settle() {
  if (std::holds_alternative<Idle>(outgoing_)) return;
  announce_ready();
  if (reported_ == LinkState::ready && !both_ready()) unready_since_ = now_;
  auto [state, why] = derive();
  if (state != reported_ || reported_why_.empty()) {
    reported_ = state;
    reported_why_ = why;
    act(ReportState{state, why});
    reported_partner_ = {};
  }
  if (const auto* known = std::get_if<Known>(&incoming_); known && state == LinkState::ready) {
    ports::Partner partner;
    partner.node = partner_of(config_.node);
    partner.nonce = known->peer.nonce;
    partner.protocol_version =
        common_version(config_.versions, known->peer.versions).value_or(protocol_version);
    partner.software = known->peer.software;
    partner.clients = known->clients;
    if (partner != reported_partner_) {
      reported_partner_ = partner;
      act(ReportPartner{std::move(partner)});
    }
  }
  if (Instant wake = next_wake(); wake != timer_ && wake != Instant::max()) {
    timer_ = wake;
    act(SetTimer{wake});
  }
}

std::string_view ConnectionManager::outgoing_name() const {
  static constexpr std::string_view names[] = {"idle",    "resting", "dialing", "reading",
                                               "writing", "waiting", "informed"};
  return names[outgoing_.index()];
}

std::string_view ConnectionManager::incoming_name() const {
  static constexpr std::string_view names[] = {"absent", "greeted", "known"};
  return names[incoming_.index()];
}

}  // namespace duet::interconnect
