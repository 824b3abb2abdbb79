#include "simulator/sim_interconnect.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulator {

using ports::LinkState;

namespace {

constexpr const char* software = "duet-sim";
constexpr std::size_t kept_states = 8;
constexpr std::size_t kept_messages = 16;
constexpr std::uint64_t late_message_ms = 400;  // overtaken or repeated: by up to this

interconnect::ManagerConfig manager_config(ClusterId cluster, NodeId self, BootNonce nonce) {
  interconnect::ManagerConfig config;
  config.cluster = cluster;
  config.node = self;
  config.nonce = nonce;
  return config;
}

}  // namespace

// ---- cables ----

void Interconnects::cut(NodeId from, Instant until) {
  cut_until_[from.value()] = std::max(cut_until_[from.value()], until);
}

void Interconnects::heal() {
  cut_until_ = {};
  hold_next_ = {};
  for (std::uint8_t n : {1, 2}) release_writes(NodeId(n));
  faults.reordered_per_1000 = faults.duplicated_per_1000 = 0;
  faults.torn_reads_per_1000 = faults.stale_reads_per_1000 = 0;
  faults.lost_completions_per_10000 = faults.late_writes_per_10000 = 0;
}

bool Interconnects::take_hold(NodeId from) {
  if (!std::exchange(hold_next_[from.value()], false)) return false;
  if (on_write_held) on_write_held(from);
  return true;
}

void Interconnects::release_writes(NodeId from) {
  hold_next_[from.value()] = false;
  for (auto& release : std::exchange(held_[from.value()], {})) release();
}

void Interconnects::carry(NodeId from, Process& process, Instant& last, ports::Task task,
                          Duration extra) {
  auto span = static_cast<std::uint64_t>((faults.latency_max - faults.latency_min).count()) + 1;
  auto delay = faults.latency_min + Duration(random_.below(span)) + extra;
  auto start = std::max(outside_.now(), cut_until_[from.value()]);
  last = std::max(last, start + delay);
  process.at(last, [this, from, &process, task = std::move(task)]() mutable {
    arrive(from, process, std::move(task));
  });
}

void Interconnects::arrive(NodeId from, Process& process, ports::Task task) {
  if (!cut(from)) return task();
  // The transport repeats it until it gets through.
  process.at(cut_until_[from.value()], [this, from, &process, task = std::move(task)]() mutable {
    arrive(from, process, std::move(task));
  });
}

// ---- one end ----

SimInterconnect::SimInterconnect(Interconnects& cables, Process& process, ClusterId cluster,
                                 NodeId self, BootNonce nonce)
    : cables_(cables),
      process_(process),
      cluster_(cluster),
      self_(self),
      nonce_(nonce),
      manager_(manager_config(cluster, self, nonce)) {
  ASSERT(cables_.control_[self_.value()] == nullptr);
  cables_.control_[self_.value()] = this;
}

SimInterconnect::~SimInterconnect() {
  end(false);
}

void SimInterconnect::end(bool announce) {
  if (std::exchange(ended_, true)) return;
  cables_.control_[self_.value()] = nullptr;
  for (auto& weak : connections_) {
    auto connection = weak.lock();
    if (!connection) continue;
    bool dialled = connection->dialer == this;
    (dialled ? connection->dialer : connection->acceptor) = nullptr;
    (dialled ? connection->open_at_dialer : connection->open_at_acceptor) = false;
    auto* other = dialled ? connection->acceptor : connection->dialer;
    if (!announce || other == nullptr) continue;
    cables_.carry(self_, other->process_, dialled ? connection->last_there : connection->last_back,
                  [connection, dialled] {
                    auto* there = dialled ? connection->acceptor : connection->dialer;
                    if (there == nullptr) return;
                    if (dialled) {
                      there->lose_incoming(connection);
                    } else {
                      there->lose_outgoing(connection, "the partner closed the connection");
                    }
                  });
  }
}

void SimInterconnect::start() {
  handle(interconnect::Started{});
}

void SimInterconnect::handle(interconnect::Event event) {
  if (ended_) return;
  events_.push_back(std::move(event));
  if (handling_) return;
  handling_ = true;
  while (!events_.empty()) {
    auto next = std::move(events_.front());
    events_.pop_front();
    interconnect::Actions actions;
    manager_.on_event(next, process_.now(), actions);
    for (auto& action : actions) std::visit([this](auto& a) { perform(a); }, action);
  }
  handling_ = false;
}

// ---- dialling and accepting ----

void SimInterconnect::perform(interconnect::Dial&) {
  auto dial = ++dials_;
  auto other = partner_of(self_);
  if (!cables_.powered(other)) return;  // nothing answers: the manager's limit ends it
  auto* there = partner();
  Instant last{};
  if (there == nullptr) {  // a machine without the daemon: refused
    cables_.carry(other, process_, last, [this, dial] {
      if (dial == dials_) handle(interconnect::DialFailed{LinkState::down, "nobody listens"});
    });
    return;
  }
  auto connection = std::make_shared<Connection>();
  connection->dialer = this;
  connection->acceptor = there;
  connection->dialer_node = self_;
  connection->acceptor_node = other;
  connections_.push_back(connection);
  there->connections_.push_back(connection);
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
  std::erase_if(there->connections_, [](const auto& weak) { return weak.expired(); });
  interconnect::Session session(cables_.random().next() | 1);
  interconnect::Peer peer{nonce_, {}, software};
  cables_.carry(
      self_, there->process_, connection->last_there, [this, connection, session, peer, dial] {
        auto* acceptor = connection->acceptor;
        if (acceptor == nullptr) return;
        interconnect::Peer answer{acceptor->nonce_, {}, software};
        acceptor->accept(connection, peer, session);
        if (connection->dialer == nullptr) return;
        cables_.carry(
            connection->acceptor_node, process_, connection->last_back,
            [this, connection, session, answer, dial] {
              if (connection->dialer == nullptr || dial != dials_ || !connection->open_at_dialer) {
                return;
              }
              outgoing_ = connection;
              handle(interconnect::OutgoingUp{answer, session});
            });
      });
}

void SimInterconnect::accept(const Shared& connection, interconnect::Peer peer,
                             interconnect::Session session) {
  close_incoming();
  greeting_.fill(std::byte{0});
  incoming_ = connection;
  handle(interconnect::IncomingUp{std::move(peer), session});
}

void SimInterconnect::lose_outgoing(const Shared& connection, const std::string& why) {
  connection->open_at_dialer = false;
  if (outgoing_ != connection) return;
  outgoing_.reset();
  for (auto& operation : std::exchange(operations_, {})) {
    process_.cancel(operation.limit);
    process_.post([done = std::move(operation.done), why]() mutable {
      done(fail(ErrorCode::disconnected, why));
    });
  }
  handle(interconnect::OutgoingLost{why});
}

void SimInterconnect::lose_incoming(const Shared& connection) {
  connection->open_at_acceptor = false;
  if (incoming_ != connection) return;
  incoming_.reset();
  handle(interconnect::IncomingLost{});
}

void SimInterconnect::close_outgoing() {
  auto connection = std::exchange(outgoing_, nullptr);
  for (auto& operation : std::exchange(operations_, {})) {
    process_.cancel(operation.limit);
    process_.post([done = std::move(operation.done)]() mutable {
      done(fail(ErrorCode::disconnected, "closed"));
    });
  }
  if (!connection || !std::exchange(connection->open_at_dialer, false)) return;
  if (connection->acceptor == nullptr) return;
  cables_.carry(self_, connection->acceptor->process_, connection->last_there, [connection] {
    if (connection->acceptor != nullptr) connection->acceptor->lose_incoming(connection);
  });
}

void SimInterconnect::close_incoming() {
  auto connection = std::exchange(incoming_, nullptr);
  if (!connection || !std::exchange(connection->open_at_acceptor, false)) return;
  if (connection->dialer == nullptr) return;
  cables_.carry(self_, connection->dialer->process_, connection->last_back, [connection] {
    if (connection->dialer != nullptr) {
      connection->dialer->lose_outgoing(connection, "the partner closed the connection");
    }
  });
}

// ---- operations on the outgoing connection ----

void SimInterconnect::operate(There there, bool needs_process,
                              ports::Done<std::vector<std::byte>> done) {
  auto connection = outgoing_;
  if (!connection || !connection->open_at_dialer || operations_.size() >= slots) {
    auto code = connection ? ErrorCode::busy : ErrorCode::disconnected;
    process_.post([done = std::move(done), code]() mutable { done(fail(code, "no connection")); });
    return;
  }
  auto id = ++last_operation_;
  auto limit = process_.at(process_.now() + operation_timeout, [this, connection, id] {
    complete(id, fail(ErrorCode::timed_out, "the partner does not answer"));
    if (outgoing_ == connection) {
      if (connection->acceptor != nullptr) {
        cables_.carry(self_, connection->acceptor->process_, connection->last_there, [connection] {
          if (connection->acceptor != nullptr) connection->acceptor->lose_incoming(connection);
        });
      }
      lose_outgoing(connection, "an operation was not answered in time");
    }
  });
  operations_.push_back({id, std::move(done), limit});
  if (connection->acceptor == nullptr) return;  // the limit ends it
  auto& where =
      cables_.hardware && !needs_process ? cables_.outside_ : connection->acceptor->process_;
  cables_.carry(self_, where, connection->last_there,
                [this, connection, id, there = std::move(there)]() mutable {
                  if (connection->acceptor == nullptr || !connection->open_at_acceptor) return;
                  auto answer = there(*connection->acceptor);
                  if (connection->dialer == nullptr) return;
                  cables_.carry(connection->acceptor_node, process_, connection->last_back,
                                [this, connection, id, answer = std::move(answer)]() mutable {
                                  if (outgoing_ == connection) complete(id, std::move(answer));
                                });
                });
}

void SimInterconnect::complete(std::uint64_t id, Result<std::vector<std::byte>> result) {
  auto it = std::ranges::find(operations_, id, &Operation::id);
  if (it == operations_.end()) return;
  auto operation = std::move(*it);
  operations_.erase(it);
  process_.cancel(operation.limit);
  operation.done(std::move(result));
}

// What an RDMA read of our state structure finds now.
std::vector<std::byte> SimInterconnect::read_here() {
  auto& random = cables_.random();
  if (process_.now() < frozen_until_) return {frozen_state_.begin(), frozen_state_.end()};
  std::vector<std::byte> bytes(state_.begin(), state_.end());
  if (earlier_states_.empty()) return bytes;
  const auto& faults = cables_.faults;
  if (random.chance(faults.stale_reads_per_1000, 1000)) {
    const auto& old = earlier_states_[random.below(earlier_states_.size())];
    bytes.assign(old.begin(), old.end());
  } else if (random.chance(faults.torn_reads_per_1000, 1000)) {
    const auto& old = earlier_states_.back();
    auto at = random.below(bytes.size());
    std::copy(old.begin(), old.begin() + static_cast<std::ptrdiff_t>(at), bytes.begin());
  }
  return bytes;
}

void SimInterconnect::perform(interconnect::ReadState&) {
  operate([](SimInterconnect& there) { return there.read_here(); }, false,
          [this](Result<std::vector<std::byte>> bytes) {
            if (bytes) handle(interconnect::StateRead{std::move(*bytes)});
          });
}

void SimInterconnect::perform(interconnect::WriteGreeting& action) {
  operate(
      [greeting = action.bytes](SimInterconnect& there) {
        there.greeting_ = greeting;
        return std::vector<std::byte>{};
      },
      false,
      [this](const Result<std::vector<std::byte>>& written) {
        if (written) handle(interconnect::GreetingWritten{});
      });
}

void SimInterconnect::perform(interconnect::SendFrame& action) {
  operate(
      [frame = std::move(action.frame), connection = outgoing_](SimInterconnect& there) {
        if (there.incoming_ == connection) {
          there.handle(interconnect::FrameReceived{frame, there.greeting_});
        }
        return std::vector<std::byte>{};
      },
      true, [](const Result<std::vector<std::byte>>&) {});
}

void SimInterconnect::perform(interconnect::CloseOutgoing&) {
  ++dials_;
  close_outgoing();
}

void SimInterconnect::perform(interconnect::CloseIncoming&) {
  close_incoming();
}

void SimInterconnect::perform(interconnect::SetTimer& action) {
  process_.cancel(timer_);
  timer_ = process_.at(action.when, [this] { handle(interconnect::TimerExpired{}); });
}

void SimInterconnect::perform(interconnect::ReportState& action) {
  if (on_state_) on_state_(action.state, action.why);
}

void SimInterconnect::perform(interconnect::ReportPartner& action) {
  if (on_partner_) on_partner_(action.partner);
}

void SimInterconnect::perform(interconnect::Deliver& action) {
  if (delivered.size() >= kept_messages) delivered.erase(delivered.begin());
  delivered.push_back(action.message);
  auto& random = cables_.random();
  auto later = [&] {
    process_.at(process_.now() + milliseconds(random.below(late_message_ms)),
                [this, message = action.message] { deliver_again(message); });
  };
  const auto& faults = cables_.faults;
  if (faults.duplicated_per_1000 > 0 && random.chance(faults.duplicated_per_1000, 1000)) later();
  if (faults.reordered_per_1000 > 0 && random.chance(faults.reordered_per_1000, 1000)) {
    return later();  // others overtake it
  }
  if (on_message_) on_message_(action.message);
}

// ---- the port ----

void SimInterconnect::announce_clients(std::vector<ports::ConnectionClient> clients) {
  handle(interconnect::ClientsAnnounced{std::move(clients)});
}

void SimInterconnect::read_partner_state(ports::Done<std::vector<std::byte>> done) {
  if (cables_.sabotage().without(Safeguard::giveback_progress)) {
    done = [this, done = std::move(done)](Result<std::vector<std::byte>> bytes) mutable {
      done(as_if_alive(std::move(bytes)));
    };
  }
  operate([](SimInterconnect& there) { return there.read_here(); }, false, std::move(done));
}

// Sabotage: who waited for a giveback seems to wait for ever, and to make progress.
Result<std::vector<std::byte>> SimInterconnect::as_if_alive(Result<std::vector<std::byte>> bytes) {
  using interconnect::NodeState;
  if (bytes) {
    auto state = interconnect::decode_state_structure(*bytes);
    if (!state) return bytes;
    bool waits = state->state == NodeState::givewait || state->state == NodeState::mbwait;
    if (waits) {
      waiting_partner_ = *state;
    } else {
      waiting_partner_.reset();
    }
    return bytes;
  }
  if (!waiting_partner_) return bytes;
  waiting_partner_->state = NodeState::mbwait;
  ++waiting_partner_->progress;
  ++waiting_partner_->heartbeat;
  auto faked = interconnect::encode(*waiting_partner_);
  return std::vector<std::byte>(faked.begin(), faked.end());
}

void SimInterconnect::send(std::vector<std::byte> message, ports::Done<void> done) {
  ASSERT(message.size() <= max_message);
  auto plain = [done = std::move(done)](Result<std::vector<std::byte>> r) mutable {
    done(r ? Status() : Status(std::unexpected(r.error())));
  };
  if (!outgoing_ || !manager_.may_send()) {
    process_.post([plain = std::move(plain)]() mutable {
      plain(fail(ErrorCode::disconnected, "no connection to the partner"));
    });
    return;
  }
  auto frame = interconnect::encode(interconnect::Payload{std::move(message)});
  operate(
      [frame = std::move(frame), connection = outgoing_](SimInterconnect& there) {
        if (there.incoming_ == connection) {
          there.handle(interconnect::FrameReceived{frame, there.greeting_});
        }
        return std::vector<std::byte>{};
      },
      true, std::move(plain));
}

void SimInterconnect::publish_state(Bytes structure) {
  ASSERT(structure.size() == state_.size());
  if (earlier_states_.size() >= kept_states) earlier_states_.pop_front();
  earlier_states_.push_back(state_);
  std::ranges::copy(structure, state_.begin());
}

void SimInterconnect::restart(BootNonce nonce) {
  nonce_ = nonce;
  state_.fill(std::byte{0});
  earlier_states_.clear();
  frozen_until_ = {};
  handle(interconnect::Restarted{nonce});
}

}  // namespace duet::simulator
