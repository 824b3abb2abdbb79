#include "platform/fabric_interconnect.h"

#include <algorithm>
#include <utility>

namespace duet::platform {

using interconnect::Event;
using ports::LinkState;

namespace {

constexpr std::size_t receive_frames = 16;
constexpr std::size_t slots = 32;  // operations under way
// Grants of a control connection, docs/formats/interconnect_messages.md.
constexpr std::size_t state_grant = 0;
constexpr std::size_t greeting_grant = 1;

interconnect::ManagerConfig manager_config(const FabricInterconnectOptions& options) {
  return {options.self.cluster, options.self.node, options.self.nonce, options.self.versions,
          options.times};
}

}  // namespace

Result<std::unique_ptr<FabricInterconnect>> FabricInterconnect::open(
    EventLoop& loop, FabricInterconnectOptions options) {
  if (options.self.secret.size() < interconnect::min_secret_size) {
    return fail(ErrorCode::invalid, "the cluster secret has less than 32 bytes");
  }
  options.self.purpose = interconnect::Purpose::control;
  std::unique_ptr<FabricInterconnect> self(new FabricInterconnect(loop, std::move(options)));
  const auto& o = self->options_;
  auto listener = FabricListener::listen(loop, o.provider, o.listen, self->limits(), o.self,
                                         o.times.dial_limit);
  if (!listener) return std::unexpected(listener.error());
  self->listener_ = std::move(*listener);
  self->listener_->on_authenticated(
      [raw = self.get()](FabricListener::Authenticated a) { raw->on_authenticated(std::move(a)); });
  return self;
}

FabricInterconnect::FabricInterconnect(EventLoop& loop, FabricInterconnectOptions options)
    : loop_(loop), options_(std::move(options)), manager_(manager_config(options_)) {}

FabricInterconnect::~FabricInterconnect() {
  loop_.cancel(timer_);
  dialer_.reset();
  if (outgoing_) outgoing_->close();
  close_incoming();
}

FabricConnection::Limits FabricInterconnect::limits() const {
  FabricConnection::Limits limits;
  limits.frame_size = interconnect::max_frame_size;
  limits.receive_frames = receive_frames;
  limits.slots = slots;
  limits.operation_timeout = options_.operation_timeout;
  return limits;
}

Status FabricInterconnect::start() {
  auto info = fabric_info(options_.provider, options_.partner, false);
  if (!info) return std::unexpected(info.error());
  partner_info_ = std::move(*info);
  handle(interconnect::Started{});
  return {};
}

// Callbacks of actions may bring new events: they wait until the actions of this one are done.
void FabricInterconnect::handle(Event event) {
  events_.push_back(std::move(event));
  if (handling_) return;
  handling_ = true;
  while (!events_.empty()) {
    Event next = std::move(events_.front());
    events_.pop_front();
    interconnect::Actions actions;
    manager_.on_event(next, loop_.now(), actions);
    for (auto& action : actions) {
      std::visit([this](auto& a) { perform(a); }, action);
    }
  }
  handling_ = false;
}

// ---- what the manager orders ----

void FabricInterconnect::perform(interconnect::Dial&) {
  // The manager bounds the attempt; the dialer's own limit only tells a silent peer from no peer.
  auto limit = options_.times.dial_limit - options_.times.dial_limit / 10;
  dialer_ = std::make_unique<FabricDialer>(
      loop_, listener_->fabric(), *partner_info_, limits(), options_.self, limit,
      [this](std::expected<FabricDialer::Admitted, FabricDialer::Refusal> outcome) {
        on_dialled(std::move(outcome));
      });
}

void FabricInterconnect::on_dialled(
    std::expected<FabricDialer::Admitted, FabricDialer::Refusal> outcome) {
  dialer_.reset();
  const auto& partner = options_.partner;
  if (!outcome) {
    handle(interconnect::DialFailed{outcome.error().state, "partner " + partner.host + ":" +
                                                               std::to_string(partner.port) + ": " +
                                                               outcome.error().why});
    return;
  }
  const auto& state = outcome->grants[state_grant];
  const auto& greeting = outcome->grants[greeting_grant];
  if (state.length != interconnect::state_structure_size ||
      greeting.length != interconnect::greeting_size) {
    outcome->connection->close();
    handle(interconnect::DialFailed{LinkState::incompatible_version,
                                    "the partner's regions are not of the agreed sizes"});
    return;
  }
  outgoing_ = std::move(outcome->connection);
  grants_ = outcome->grants;
  outgoing_->set_callbacks({
      .on_connected = {},
      .on_frame = {},  // the accepting side says nothing after its welcome
      .on_closed =
          [this](const std::string& why) {
            outgoing_.reset();
            handle(interconnect::OutgoingLost{why});
          },
  });
  handle(interconnect::OutgoingUp{
      {outcome->peer.nonce, outcome->peer.versions, outcome->peer.software}, outcome->session});
}

void FabricInterconnect::perform(interconnect::ReadState&) {
  if (!outgoing_) return;
  const auto& grant = grants_[state_grant];
  outgoing_->read(grant.address, grant.key, grant.length,
                  [this, of = std::weak_ptr(outgoing_)](Result<std::vector<std::byte>> bytes) {
                    auto connection = of.lock();
                    if (!bytes || !connection || connection != outgoing_) return;
                    handle(interconnect::StateRead{std::move(*bytes)});
                  });
}

void FabricInterconnect::perform(interconnect::WriteGreeting& action) {
  if (!outgoing_) return;
  const auto& grant = grants_[greeting_grant];
  outgoing_->write_copy(action.bytes, grant.address, grant.key,
                        [this, of = std::weak_ptr(outgoing_)](const Status& written) {
                          auto connection = of.lock();
                          if (!written || !connection || connection != outgoing_) return;
                          handle(interconnect::GreetingWritten{});
                        });
}

void FabricInterconnect::perform(interconnect::SendFrame& action) {
  if (!outgoing_) return;
  outgoing_->send(action.frame, [of = std::weak_ptr(outgoing_)](const Status& sent) {
    // A lost control frame would leave the bring-up waiting: the connection starts over.
    if (auto connection = of.lock(); connection && !sent && sent.error().code == ErrorCode::busy) {
      connection->give_up("the partner does not take our messages");
    }
  });
}

void FabricInterconnect::perform(interconnect::CloseOutgoing&) {
  dialer_.reset();
  if (outgoing_) outgoing_->close();
  outgoing_.reset();
}

void FabricInterconnect::perform(interconnect::CloseIncoming&) {
  close_incoming();
}

void FabricInterconnect::close_incoming() {
  if (incoming_) incoming_->close();
  incoming_.reset();
}

void FabricInterconnect::perform(interconnect::SetTimer& action) {
  loop_.cancel(timer_);
  timer_ = loop_.at(action.when, [this] { handle(interconnect::TimerExpired{}); });
}

void FabricInterconnect::perform(interconnect::ReportState& action) {
  if (on_state_) on_state_(action.state, action.why);
}

void FabricInterconnect::perform(interconnect::ReportPartner& action) {
  if (on_partner_) on_partner_(action.partner);
}

void FabricInterconnect::perform(interconnect::Deliver& action) {
  if (on_message_) on_message_(action.message);
}

// ---- incoming ----

void FabricInterconnect::on_authenticated(FabricListener::Authenticated a) {
  // The newest connection is the partner; the one before is broken or of an earlier boot.
  close_incoming();
  greeting_.fill(std::byte{0});
  auto state = a.connection->open_region(state_, FabricConnection::Access::read);
  auto greeting = a.connection->open_region(greeting_, FabricConnection::Access::write);
  if (!state || !greeting) {
    a.connection->close();
    handle(interconnect::IncomingLost{});
    return;
  }
  incoming_ = std::move(a.connection);
  incoming_->set_callbacks({
      .on_connected = {},
      .on_frame =
          [this](Bytes frame) {
            handle(interconnect::FrameReceived{{frame.begin(), frame.end()}, greeting_});
          },
      .on_closed =
          [this](const std::string&) {
            incoming_.reset();
            handle(interconnect::IncomingLost{});
          },
  });
  incoming_->send(a.handshake->welcome({*state, *greeting}), [](const Status&) {});
  const auto& peer = a.handshake->peer();
  handle(
      interconnect::IncomingUp{{peer.nonce, peer.versions, peer.software}, a.handshake->session()});
}

// ---- the port ----

void FabricInterconnect::announce_clients(std::vector<ports::ConnectionClient> clients) {
  handle(interconnect::ClientsAnnounced{std::move(clients)});
}

void FabricInterconnect::read_partner_state(ports::Done<std::vector<std::byte>> done) {
  if (!outgoing_) {
    loop_.post([done = std::move(done)]() mutable {
      done(fail(ErrorCode::disconnected, "no connection to the partner"));
    });
    return;
  }
  const auto& grant = grants_[state_grant];
  outgoing_->read(grant.address, grant.key, grant.length, std::move(done));
}

void FabricInterconnect::send(std::vector<std::byte> message, ports::Done<void> done) {
  ASSERT(message.size() <= max_message);
  if (!outgoing_ || !manager_.may_send()) {
    loop_.post([done = std::move(done)]() mutable {
      done(fail(ErrorCode::disconnected, "no connection to the partner"));
    });
    return;
  }
  outgoing_->send(interconnect::encode(interconnect::Payload{std::move(message)}), std::move(done));
}

void FabricInterconnect::publish_state(Bytes structure) {
  ASSERT(structure.size() == state_.size());
  std::ranges::copy(structure, state_.begin());
}

void FabricInterconnect::restart(BootNonce nonce) {
  options_.self.nonce = nonce;
  listener_->set_nonce(nonce);
  state_.fill(std::byte{0});
  handle(interconnect::Restarted{nonce});
}

}  // namespace duet::platform
