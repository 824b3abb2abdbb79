#include "platform/fabric_mirror.h"

#include <algorithm>
#include <utility>

namespace duet::platform {

namespace {

constexpr std::size_t window_grant = 0;

}  // namespace

Result<std::unique_ptr<FabricMirror>> FabricMirror::open(EventLoop& loop,
                                                         FabricMirrorOptions options) {
  if (options.self.secret.size() < interconnect::min_secret_size) {
    return fail(ErrorCode::invalid, "the cluster secret has less than 32 bytes");
  }
  options.self.purpose = interconnect::Purpose::mirror;
  std::unique_ptr<FabricMirror> self(new FabricMirror(loop, std::move(options)));
  const auto& o = self->options_;
  auto listener =
      FabricListener::listen(loop, o.provider, o.listen, self->limits(), o.self, o.dial_limit);
  if (!listener) return std::unexpected(listener.error());
  self->listener_ = std::move(*listener);
  self->listener_->on_authenticated(
      [raw = self.get()](FabricListener::Authenticated a) { raw->on_authenticated(std::move(a)); });
  return self;
}

FabricMirror::FabricMirror(EventLoop& loop, FabricMirrorOptions options)
    : loop_(loop), options_(std::move(options)), rest_(options_.shortest_rest) {}

FabricMirror::~FabricMirror() {
  on_outgoing_ = nullptr;
  hang_up();
  close_window();
}

FabricConnection::Limits FabricMirror::limits() const {
  FabricConnection::Limits limits;
  limits.operation_timeout = options_.operation_timeout;
  return limits;
}

// ---- outgoing ----

void FabricMirror::dial(const std::string& host, std::uint16_t port, BootNonce partner_nonce) {
  hang_up();
  auto info = fabric_info(options_.provider, {host, port}, false);
  if (!info) {
    why_ = info.error().message;
    return;
  }
  partner_info_ = std::move(*info);
  partner_nonce_ = partner_nonce;
  rest_ = options_.shortest_rest;
  attempt();
}

void FabricMirror::attempt() {
  dialer_ = std::make_unique<FabricDialer>(
      loop_, listener_->fabric(), *partner_info_, limits(), options_.self, options_.dial_limit,
      [this](std::expected<FabricDialer::Admitted, FabricDialer::Refusal> outcome) {
        on_dialled(std::move(outcome));
      });
}

void FabricMirror::rest(std::string why) {
  why_ = std::move(why);
  loop_.cancel(timer_);
  timer_ = loop_.at(loop_.now() + rest_, [this] { attempt(); });
  rest_ = std::min(rest_ * 2, options_.longest_rest);
}

void FabricMirror::on_dialled(
    std::expected<FabricDialer::Admitted, FabricDialer::Refusal> outcome) {
  dialer_.reset();
  if (!outcome) {
    rest(outcome.error().why);
    return;
  }
  auto connection = std::move(outcome->connection);
  const auto& grant = outcome->grants[window_grant];
  Status usable;
  if (outcome->peer.nonce != partner_nonce_) {
    usable = fail(ErrorCode::refused, "the partner's engine is of another boot");
  } else if (grant.first_offset > options_.region.size() ||
             grant.length > options_.region.size() - grant.first_offset) {
    usable = fail(ErrorCode::refused, "the partner's window is not inside our region");
  } else {
    usable = connection->use_memory(options_.region);
  }
  if (!usable) {
    connection->close();
    rest(usable.error().message);
    return;
  }
  window_at_partner_ = grant;
  rest_ = options_.shortest_rest;
  outgoing_ = std::move(connection);
  outgoing_->set_callbacks({
      .on_connected = {},
      .on_frame = {},  // the accepting side says nothing after its welcome
      .on_closed =
          [this](const std::string& why) {
            outgoing_.reset();
            rest(why);
            tell(false);
          },
  });
  why_ = "connected";
  tell(true);
}

void FabricMirror::tell(bool up) {
  if (up_ == up) return;
  up_ = up;
  if (on_outgoing_) on_outgoing_(up);
}

void FabricMirror::write(std::uint64_t offset, std::uint64_t length, ports::Done<void> done) {
  const auto& w = window_at_partner_;
  ErrorCode error{};
  const char* why = nullptr;
  if (!outgoing_ || outgoing_->closed()) {
    error = ErrorCode::disconnected;
    why = "no connection to the partner's NVRAM";
  } else if (offset < w.first_offset || offset - w.first_offset > w.length ||
             length > w.length - (offset - w.first_offset)) {
    error = ErrorCode::invalid;
    why = "outside of the partner's window";
  } else if (writes_ >= max_writes) {
    error = ErrorCode::busy;
    why = "too many writes under way";
  }
  if (why != nullptr) {
    loop_.post([done = std::move(done), error, why]() mutable { done(fail(error, why)); });
    return;
  }
  ++writes_;
  outgoing_->write(options_.region.subspan(offset, length), w.address + (offset - w.first_offset),
                   w.key,
                   [this, alive = std::weak_ptr(alive_), done = std::move(done)](Status s) mutable {
                     if (!alive.expired()) --writes_;
                     done(std::move(s));
                   });
}

void FabricMirror::hang_up() {
  loop_.cancel(timer_);
  dialer_.reset();
  partner_info_.reset();
  why_ = "not dialled";
  if (!outgoing_) return;
  outgoing_->close();
  outgoing_.reset();
  // Told from the loop, like every completion.
  up_ = false;
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired() && on_outgoing_ && !up_) on_outgoing_(false);
  });
}

// ---- incoming ----

void FabricMirror::open_window(std::uint64_t offset, std::uint64_t length,
                               BootNonce partner_nonce) {
  ASSERT(offset <= options_.region.size() && length <= options_.region.size() - offset);
  ASSERT(length > 0);
  close_incoming();
  window_offset_ = offset;
  window_length_ = length;
  window_nonce_ = partner_nonce;
}

void FabricMirror::close_window() {
  window_length_ = 0;
  close_incoming();
}

// The connection has a domain of its own: with it go the region's registration and the endpoint, so
// that a write still on its way finds neither.
void FabricMirror::close_incoming() {
  if (incoming_) incoming_->close();
  incoming_.reset();
}

void FabricMirror::on_authenticated(FabricListener::Authenticated a) {
  if (window_length_ == 0 || a.handshake->peer().nonce != window_nonce_) {
    listener_->send_and_close(std::move(a.connection), a.handshake->not_now());
    return;
  }
  close_incoming();
  auto window = a.connection->open_region(options_.region.subspan(window_offset_, window_length_),
                                          FabricConnection::Access::write);
  if (!window) {
    a.connection->close();
    return;
  }
  window->first_offset = window_offset_;
  incoming_ = std::move(a.connection);
  incoming_->set_callbacks({
      .on_connected = {},
      .on_frame = [this](Bytes) { close_incoming(); },  // the partner has nothing to say here
      .on_closed = [this](const std::string&) { incoming_.reset(); },
  });
  incoming_->send(a.handshake->welcome({*window, {}}), [](const Status&) {});
}

}  // namespace duet::platform
