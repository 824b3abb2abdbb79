#include "platform/fabric_peer.h"

#include <netinet/in.h>
#include <rdma/fi_errno.h>

#include <utility>

namespace duet::platform {

using interconnect::Verdict;
using ports::LinkState;

namespace {

LinkState link_state(Verdict verdict) {
  switch (verdict) {
    case Verdict::admitted:
      return LinkState::connecting;
    case Verdict::wrong_cluster:
      return LinkState::wrong_cluster;
    case Verdict::is_self:
      return LinkState::partner_is_self;
    case Verdict::wrong_node:
      return LinkState::wrong_node;
    case Verdict::incompatible_version:
      return LinkState::incompatible_version;
    case Verdict::authentication_failed:
      return LinkState::authentication_failed;
    case Verdict::not_now:
      return LinkState::partner_not_ready;
  }
  return LinkState::down;
}

}  // namespace

// ---- dialling side ----

FabricDialer::FabricDialer(EventLoop& loop, fid_fabric& fabric, const fi_info& info,
                           FabricConnection::Limits limits, interconnect::Self self, Duration limit,
                           OnOutcome outcome)
    : loop_(loop), handshake_(std::move(self), random_challenge()), outcome_(std::move(outcome)) {
  timer_ = loop_.at(loop_.now() + limit, [this] {
    timer_ = {};
    if (connected_) {
      refuse(LinkState::partner_not_ready, "it connects, but does not go on");
    } else {
      refuse(LinkState::down, "it does not answer");
    }
  });
  auto connection = FabricConnection::dial(loop_, fabric, info, limits);
  if (!connection) {
    loop_.post([this, alive = std::weak_ptr(alive_), why = connection.error().message] {
      if (!alive.expired()) refuse(LinkState::down, why);
    });
    return;
  }
  connection_ = *connection;
  connection_->set_callbacks({
      .on_connected =
          [this] {
            connected_ = true;
            connection_->send(handshake_.hello(), [](const Status&) {});
          },
      .on_frame = [this](Bytes frame) { on_frame(frame); },
      .on_closed = [this](const std::string& why) { refuse(LinkState::down, why); },
  });
}

FabricDialer::~FabricDialer() {
  loop_.cancel(timer_);
  if (connection_) connection_->close();
}

void FabricDialer::on_frame(Bytes frame) {
  using Outcome = interconnect::DialerHandshake::Step::Outcome;
  auto step = handshake_.on_frame(frame);
  switch (step.outcome) {
    case Outcome::going_on:
      connection_->send(step.send, [](const Status&) {});
      return;
    case Outcome::refused:
      refuse(link_state(step.verdict), std::move(step.why));
      return;
    case Outcome::admitted:
      break;
  }
  loop_.cancel(timer_);
  auto outcome = std::exchange(outcome_, nullptr);
  connection_->set_callbacks({});
  outcome(Admitted{std::exchange(connection_, nullptr), handshake_.peer(), handshake_.session(),
                   handshake_.grants()});
}

void FabricDialer::refuse(LinkState state, std::string why) {
  if (!outcome_) return;
  loop_.cancel(timer_);
  if (connection_) connection_->close();
  auto outcome = std::exchange(outcome_, nullptr);
  outcome(std::unexpected(Refusal{state, std::move(why)}));
}

// ---- accepting side ----

Result<std::unique_ptr<FabricListener>> FabricListener::listen(
    EventLoop& loop, const std::string& provider, const FabricAddress& address,
    FabricConnection::Limits limits, interconnect::Self self, Duration limit) {
  std::unique_ptr<FabricListener> listener(
      new FabricListener(loop, limits, std::move(self), limit));
  auto info = fabric_info(provider, address, true);
  if (!info) return std::unexpected(info.error());
  auto fabric = open_fabric(**info);
  if (!fabric) return std::unexpected(fabric.error());
  listener->fabric_ = std::move(*fabric);

  fi_eq_attr attributes{};
  attributes.wait_obj = FI_WAIT_FD;
  fid_eq* events = nullptr;
  int code = fi_eq_open(listener->fabric_.get(), &attributes, &events, nullptr);
  if (code != 0) return std::unexpected(fabric_error("fi_eq_open", code));
  listener->events_.reset(events);
  fid_pep* endpoint = nullptr;
  code = fi_passive_ep(listener->fabric_.get(), info->get(), &endpoint, nullptr);
  if (code != 0) return std::unexpected(fabric_error("fi_passive_ep", code));
  listener->endpoint_.reset(endpoint);
  code = fi_pep_bind(endpoint, &events->fid, 0);
  if (code == 0) code = fi_listen(endpoint);
  if (code != 0) {
    return std::unexpected(
        fabric_error("listening at " + address.host + ":" + std::to_string(address.port), code));
  }
  sockaddr_in bound{};
  std::size_t size = sizeof bound;
  code = fi_getname(&endpoint->fid, &bound, &size);
  int fd = -1;
  if (code == 0) code = fi_control(&events->fid, FI_GETWAIT, &fd);
  if (code != 0) return std::unexpected(fabric_error("fi_getname", code));
  listener->port_ = ntohs(bound.sin_port);
  listener->watcher_ = std::make_unique<FdWatcher>(
      loop, fd, [raw = listener.get()](bool, bool) { raw->progress(); });
  listener->watcher_->want(true, false);
  listener->progress();
  return listener;
}

FabricListener::FabricListener(EventLoop& loop, FabricConnection::Limits limits,
                               interconnect::Self self, Duration limit)
    : loop_(loop), limits_(limits), self_(std::move(self)), limit_(limit) {}

FabricListener::~FabricListener() {
  while (!half_open_.empty()) drop(half_open_.begin());
  for (auto& connection : leaving_) connection->close();
  watcher_.reset();
}

void FabricListener::set_nonce(BootNonce nonce) {
  self_.nonce = nonce;
  while (!half_open_.empty()) drop(half_open_.begin());
}

void FabricListener::progress() {
  for (;;) {
    fi_eq_cm_entry entry{};
    std::uint32_t event = 0;
    auto n = fi_eq_read(events_.get(), &event, &entry, sizeof entry, 0);
    if (n == -FI_EAVAIL) {
      // Of a peer that left before it was accepted; nothing to us.
      fi_eq_err_entry error{};
      fi_eq_readerr(events_.get(), &error, 0);
      continue;
    }
    if (n >= 0 && event == FI_CONNREQ) {
      accept(entry.info);
      continue;
    }
    if (n >= 0) continue;
    ::fid* fids[] = {&events_->fid};
    if (fi_trywait(fabric_.get(), fids, 1) == 0) return;
  }
}

void FabricListener::accept(fi_info* raw_request) {
  FabricInfo request(raw_request);
  if (half_open_.size() >= max_half_open) drop(half_open_.begin());
  auto connection = FabricConnection::accept(loop_, *fabric_, *endpoint_, *request, limits_);
  if (!connection) return;
  half_open_.push_back(
      {*connection,
       std::make_shared<interconnect::AcceptorHandshake>(self_, random_challenge()),
       {}});
  auto entry = std::prev(half_open_.end());
  entry->timer = loop_.at(loop_.now() + limit_, [this, entry] { drop(entry); });
  (*connection)
      ->set_callbacks({
          .on_connected = {},
          .on_frame = [this, entry](Bytes frame) { on_frame(entry, frame); },
          .on_closed = [this, entry](const std::string&) { drop(entry); },
      });
}

void FabricListener::on_frame(Entry entry, Bytes frame) {
  using Outcome = interconnect::AcceptorHandshake::Step::Outcome;
  auto step = entry->handshake->on_frame(frame);
  switch (step.outcome) {
    case Outcome::going_on:
      entry->connection->send(step.send, [](const Status&) {});
      return;
    case Outcome::refused: {
      auto taken = take(entry);
      if (step.send.empty()) {
        taken.connection->close();
      } else {
        send_and_close(taken.connection, step.send);
      }
      return;
    }
    case Outcome::authenticated: {
      auto taken = take(entry);
      on_authenticated_({std::move(taken.connection), std::move(taken.handshake)});
      return;
    }
  }
}

FabricListener::HalfOpen FabricListener::take(Entry entry) {
  HalfOpen taken = std::move(*entry);
  loop_.cancel(taken.timer);
  taken.connection->set_callbacks({});
  half_open_.erase(entry);
  return taken;
}

void FabricListener::drop(Entry entry) {
  take(entry).connection->close();
}

void FabricListener::send_and_close(std::shared_ptr<FabricConnection> connection, Bytes frame) {
  std::erase_if(leaving_, [](const auto& c) { return c->closed(); });
  if (leaving_.size() >= max_half_open) {
    leaving_.front()->close();
    leaving_.pop_front();
  }
  // The completion keeps the connection alive, and its timeout bounds that.
  connection->send(frame, [connection](const Status&) { connection->close(); });
  leaving_.push_back(std::move(connection));
}

}  // namespace duet::platform
