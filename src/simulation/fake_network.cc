#include "simulation/fake_network.h"

#include <algorithm>

namespace duet::simulation {

class FakeNetwork::FakeListener final : public ports::Listener {
 public:
  FakeListener(FakeNetwork& owner, Where where, Accept accept_client)
      : accept(std::move(accept_client)), network_(owner), where_(std::move(where)) {}
  ~FakeListener() override {
    auto found = network_.listeners_.find(where_);
    if (found != network_.listeners_.end() && found->second == this) {
      network_.listeners_.erase(found);
    }
  }
  std::uint16_t port() const override { return where_.second; }

  Accept accept;

 private:
  FakeNetwork& network_;
  Where where_;
};

// A connection and its handler hold each other until it is closed.
FakeNetwork::~FakeNetwork() {
  for (auto& weak : connections_) {
    if (auto connection = weak.lock()) connection->handler_.reset();
  }
}

Result<std::unique_ptr<ports::Listener>> FakeNetwork::listen(const std::string& address,
                                                             std::uint16_t port, bool foreign,
                                                             Accept accept) {
  Where where{address, port};
  if (refuse_to_listen || (!foreign && listeners_.contains(where))) {
    return fail(ErrorCode::io_error, "cannot listen on " + address + ": address in use");
  }
  auto listener = std::make_unique<FakeListener>(*this, where, std::move(accept));
  listeners_[where] = listener.get();
  return listener;
}

std::shared_ptr<FakeConnection> FakeNetwork::connect(const std::string& address,
                                                     std::uint16_t port) {
  auto found = listeners_.find({address, port});
  if (found == listeners_.end()) return nullptr;
  auto connection = std::make_shared<FakeConnection>(
      scheduler_, "127.0.0.1:" + std::to_string(50000 + ++last_client_));
  auto handler = found->second->accept(connection);
  if (!handler) return nullptr;
  connection->handler_ = std::move(handler);
  connections_.push_back(connection);
  return connection;
}

void FakeConnection::client_send(Bytes bytes) {
  to_server_.insert(to_server_.end(), bytes.begin(), bytes.end());
  resume_reading();
}

void FakeConnection::client_close() {
  if (!closed_) end();
}

void FakeConnection::send(std::vector<Slice> data) {
  if (closed_) return;
  std::ranges::move(data, std::back_inserter(to_client_));
  scheduler_.post([self = shared_from_this()] {
    if (self->handler_) self->handler_->on_sent(0);
  });
}

void FakeConnection::resume_reading() {
  scheduler_.post([self = shared_from_this()] { self->deliver(); });
}

void FakeConnection::deliver() {
  while (!to_server_.empty() && !closed_ && handler_) {
    auto room = handler_->receive_buffer();
    if (room.empty()) return;
    auto size = std::min(room.size(), to_server_.size());
    auto end = to_server_.begin() + static_cast<std::ptrdiff_t>(size);
    std::copy(to_server_.begin(), end, room.begin());
    to_server_.erase(to_server_.begin(), end);
    handler_->on_received(size);
  }
}

void FakeConnection::close(bool) {
  if (!closed_) end();
}

void FakeConnection::end() {
  closed_ = true;
  scheduler_.post([self = shared_from_this()] {
    if (auto handler = std::exchange(self->handler_, nullptr)) handler->on_closed();
  });
}

}  // namespace duet::simulation
