#include "simulator/sim_mirror.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulator {

namespace {

constexpr Duration resync_time = milliseconds(20);  // sabotage: as long as a resync may take

}  // namespace

SimMirror::SimMirror(Interconnects& cables, Process& process, SimNvram& nvram, NodeId self,
                     BootNonce nonce, std::uint16_t port)
    : cables_(cables), process_(process), nvram_(nvram), self_(self), nonce_(nonce), port_(port) {
  ASSERT(cables_.mirror_[self_.value()] == nullptr);
  cables_.mirror_[self_.value()] = this;
}

SimMirror::~SimMirror() {
  end(false);
}

void SimMirror::end(bool announce) {
  if (std::exchange(ended_, true)) return;
  cables_.mirror_[self_.value()] = nullptr;
  up_ = false;
  for (auto& weak : connections_) {
    auto connection = weak.lock();
    if (!connection) continue;
    bool writing = connection->writer == this;
    (writing ? connection->writer : connection->target) = nullptr;
    (writing ? connection->open_at_writer : connection->open_at_target) = false;
    auto* other = writing ? connection->target : connection->writer;
    if (!announce || other == nullptr) continue;
    if (writing) {
      close_behind(cables_, connection);
      continue;
    }
    cables_.carry(self_, other->process_, connection->last_back, [connection] {
      if (connection->writer == nullptr) return;
      connection->writer->lose_outgoing(connection, ErrorCode::disconnected);
    });
  }
}

void SimMirror::send(Interconnects& cables, const Shared& connection, bool hardware, Duration extra,
                     ports::Task task) {
  if (connection->held) {
    cables.held_[connection->writer_node.value()].push_back(
        [&cables, connection, hardware, extra, task = std::move(task)]() mutable {
          send(cables, connection, hardware, extra, std::move(task));
        });
    return;
  }
  if (connection->target == nullptr) return;
  auto& where = hardware ? cables.outside_ : connection->target->process_;
  cables.carry(connection->writer_node, where, connection->last_there, std::move(task), extra);
}

// The partner hears of it behind everything that is under way.
void SimMirror::close_behind(Interconnects& cables, const Shared& connection) {
  send(cables, connection, false, {}, [connection] {
    if (connection->target != nullptr && connection->target->incoming_ == connection) {
      connection->target->close_incoming();
    }
  });
}

// ---- outgoing ----

void SimMirror::dial(const std::string&, std::uint16_t port, BootNonce partner_nonce) {
  hang_up();
  dialling_ = true;
  partner_port_ = port;
  partner_nonce_ = partner_nonce;
  rest_ = shortest_rest;
  attempt();
}

void SimMirror::attempt() {
  if (!dialling_ || ended_) return;
  auto dial = ++dials_;
  auto* there = cables_.mirror(partner_of(self_));
  process_.cancel(timer_);
  timer_ = process_.at(process_.now() + dial_limit, [this] { rest(); });
  if (!cables_.powered(partner_of(self_))) return;
  if (there == nullptr || there->port_ != partner_port_) return rest();
  auto connection = std::make_shared<Connection>();
  connection->writer = this;
  connection->target = there;
  connection->writer_node = self_;
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
  std::erase_if(there->connections_, [](const auto& weak) { return weak.expired(); });
  connections_.push_back(connection);
  there->connections_.push_back(connection);
  cables_.carry(self_, there->process_, connection->last_there, [connection, dial, from = nonce_] {
    if (connection->target != nullptr) connection->target->accept(connection, from, dial);
  });
}

void SimMirror::accept(const Shared& connection, BootNonce from, std::uint64_t dial) {
  bool admitted = window_length_ > 0 && from == window_nonce_;
  if (admitted) {
    close_incoming();
    connection->offset = window_offset_;
    connection->length = window_length_;
    incoming_ = connection;
  } else {
    connection->open_at_target = false;
  }
  if (connection->writer == nullptr) return;
  cables_.carry(self_, connection->writer->process_, connection->last_back,
                [connection, admitted, dial] {
                  if (connection->writer != nullptr) {
                    connection->writer->dialled(connection, admitted, dial);
                  }
                });
}

void SimMirror::dialled(const Shared& connection, bool admitted, std::uint64_t dial) {
  if (dial != dials_ || !dialling_) return;
  process_.cancel(timer_);
  // The dial is for one boot of the partner.
  bool right = connection->target != nullptr && connection->target->nonce_ == partner_nonce_;
  if (!admitted || !right) {
    connection->open_at_writer = false;
    return rest();
  }
  rest_ = shortest_rest;
  outgoing_ = connection;
  up_since_ = process_.now();
  tell(true);
}

void SimMirror::rest() {
  if (!dialling_ || ended_) return;
  ++dials_;
  process_.cancel(timer_);
  timer_ = process_.at(process_.now() + rest_, [this] { attempt(); });
  rest_ = std::min(rest_ * 2, longest_rest);
}

void SimMirror::tell(bool up) {
  if (up_ == up) return;
  up_ = up;
  if (on_outgoing_) on_outgoing_(up);
}

void SimMirror::write(std::uint64_t offset, std::uint64_t length, ports::Done<void> done) {
  auto refuse = [&](ErrorCode code) {
    process_.post([done = std::move(done), code]() mutable { done(fail(code, "mirror write")); });
  };
  auto connection = outgoing_;
  if (!connection || !connection->open_at_writer) return refuse(ErrorCode::disconnected);
  if (offset < connection->offset || offset - connection->offset > connection->length ||
      length > connection->length - (offset - connection->offset)) {
    return refuse(ErrorCode::invalid);
  }
  if (writes_.size() >= max_writes) return refuse(ErrorCode::busy);
  auto id = ++last_write_;
  auto limit = process_.at(process_.now() + operation_timeout, [this, connection] {
    if (outgoing_ == connection) lose_outgoing(connection, ErrorCode::timed_out);
  });
  writes_.push_back({id, std::move(done), limit});
  if (connection->target == nullptr) return;
  const auto& sabotage = cables_.sabotage();
  bool never =
      (sabotage.without(Safeguard::mirror_landed) && cables_.random().chance(1, 20)) ||
      (sabotage.without(Safeguard::resync_complete) && process_.now() < up_since_ + resync_time);
  if (never) {
    cables_.outside_.at(process_.now() + std::chrono::microseconds(50), [this, connection, id] {
      if (connection->writer == nullptr) return;
      process_.post([this, connection, id] {
        if (outgoing_ == connection) complete(id);
      });
    });
    return;
  }
  auto source = nvram_.visible().subspan(offset, length);
  std::vector<std::byte> bytes(source.begin(), source.end());
  auto& random = cables_.random();
  Duration extra{};
  if (random.chance(cables_.faults.late_writes_per_10000, 10000)) {
    extra = milliseconds(random.below(3000));
  }
  if (cables_.take_hold(self_)) {
    connection->held = true;
    cables_.held_[self_.value()].push_back([connection] { connection->held = false; });
  }
  send(cables_, connection, cables_.hardware, extra,
       [connection, id, offset, bytes = std::move(bytes)]() mutable {
         if (connection->target != nullptr) {
           connection->target->land(connection, id, offset, std::move(bytes));
         }
       });
}

// At the target: the bytes are seen, then durable, then the writer hears of it.
void SimMirror::land(const Shared& connection, std::uint64_t id, std::uint64_t offset,
                     std::vector<std::byte> bytes) {
  if (!connection->open_at_target) return;
  if (incoming_ != connection && cables_.on_stray_write) cables_.on_stray_write(self_);
  auto& random = cables_.random();
  if (connection->writer == nullptr) {  // died while it was sending
    nvram_.land_torn(offset, bytes, random);
    return;
  }
  nvram_.land(offset, bytes);
  auto complete = [this, connection, id] {
    if (connection->writer == nullptr) return;
    if (cables_.random().chance(cables_.faults.lost_completions_per_10000, 10000)) return;
    cables_.carry(self_, connection->writer->process_, connection->last_back, [connection, id] {
      if (connection->writer != nullptr && connection->writer->outgoing_ == connection) {
        connection->writer->complete(id);
      }
    });
  };
  auto commit_time = Duration(random.below(30'000));
  if (cables_.sabotage().without(Safeguard::commit_persists)) {
    complete();
    commit_time = milliseconds(random.below(200));
    cables_.outside_.at(process_.now() + commit_time,
                        [this, connection, offset, size = bytes.size()] {
                          if (connection->target == this) nvram_.commit(offset, size);
                        });
    return;
  }
  cables_.outside_.at(process_.now() + commit_time,
                      [this, connection, offset, size = bytes.size(), complete] {
                        if (connection->target != this || !connection->open_at_target) return;
                        nvram_.commit(offset, size);
                        complete();
                      });
}

// Completions come in order.
void SimMirror::complete(std::uint64_t id) {
  while (!writes_.empty() && writes_.front().id <= id) {
    auto write = std::move(writes_.front());
    writes_.pop_front();
    process_.cancel(write.limit);
    write.done({});
  }
}

void SimMirror::lose_outgoing(const Shared& connection, ErrorCode code) {
  connection->open_at_writer = false;
  if (outgoing_ != connection) return;
  outgoing_.reset();
  for (auto& write : std::exchange(writes_, {})) {
    process_.cancel(write.limit);
    process_.post([done = std::move(write.done), code]() mutable {
      done(fail(code, "the mirror connection is gone"));
    });
  }
  close_behind(cables_, connection);
  rest();
  tell(false);
}

void SimMirror::hang_up() {
  ++dials_;
  dialling_ = false;
  process_.cancel(timer_);
  auto connection = std::exchange(outgoing_, nullptr);
  if (!connection) return;
  connection->open_at_writer = false;
  for (auto& write : std::exchange(writes_, {})) {
    process_.cancel(write.limit);
    process_.post([done = std::move(write.done)]() mutable {
      done(fail(ErrorCode::disconnected, "hung up"));
    });
  }
  close_behind(cables_, connection);
  up_ = false;
  process_.post([this] {
    if (on_outgoing_ && !up_) on_outgoing_(false);
  });
}

// ---- incoming ----

void SimMirror::open_window(std::uint64_t offset, std::uint64_t length, BootNonce partner_nonce) {
  ASSERT(length > 0 && offset <= nvram_.visible().size() &&
         length <= nvram_.visible().size() - offset);
  close_incoming();
  window_offset_ = offset;
  window_length_ = length;
  window_nonce_ = partner_nonce;
}

void SimMirror::close_window() {
  window_length_ = 0;
  if (cables_.sabotage().without(Safeguard::window_closed)) {
    incoming_.reset();  // and the partner's access stays
    return;
  }
  close_incoming();
}

void SimMirror::close_incoming() {
  auto connection = std::exchange(incoming_, nullptr);
  if (!connection || !std::exchange(connection->open_at_target, false)) return;
  if (connection->writer == nullptr) return;
  cables_.carry(self_, connection->writer->process_, connection->last_back, [connection] {
    if (connection->writer != nullptr) {
      connection->writer->lose_outgoing(connection, ErrorCode::disconnected);
    }
  });
}

}  // namespace duet::simulator
