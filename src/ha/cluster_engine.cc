// The engines of the cluster: a counter per identity, logged, mirrored, flushed and acknowledged as
// docs/protocols/log.md says.
#include "ha/cluster.h"

#include <algorithm>

#include "base/assert.h"
#include "disk/areas.h"

namespace duet::ha::testing {

// ---- engine ----

void Cluster::assume(Node& node, const AssumeIdentity& order) {
  if (order.identity != node.id) node.engine.prepared = false;  // used now
  auto& s = node.engine.serving[order.identity];
  s = {};
  s.epoch = order.epoch;
  s.key = order.key;
  s.holder = order.holder;
  s.absent = {order.absent.begin(), order.absent.end()};
  at_engine(node, random(Duration(100000), milliseconds(2)),
            [this, &node, order] { register_next(node, order, 0); });
}

void Cluster::register_next(Node& node, AssumeIdentity order, std::uint8_t index) {
  if (index == options_.disks) return open_pool(node, order);
  if (contains(order.absent, index)) {
    if (index + 1 == options_.disks) {
      deliver(node, AssumeFailed{order.identity, "the pool is on a disk that is not fenced"});
      return;
    }
    return register_next(node, order, static_cast<std::uint8_t>(index + 1));
  }
  DiskRef ref{order.identity, index};
  command(node, true, ref, RegisterKey{order.key},
          [this, &node, order, index, ref](auto registered) {
            command(node, true, ref, ReadReservation{},
                    [this, &node, order, index, registered](auto reply) {
                      auto* held = reply ? std::get_if<ports::ReservationState>(&*reply) : nullptr;
                      if (!registered || held == nullptr || !held->reserved ||
                          held->holder != order.holder) {
                        deliver(node, AssumeFailed{order.identity, "the reservation is not ours"});
                        return;
                      }
                      register_next(node, order, static_cast<std::uint8_t>(index + 1));
                    });
          });
}

void Cluster::open_pool(Node& node, AssumeIdentity order) {
  DiskRef last{order.identity, static_cast<std::uint8_t>(options_.disks - 1)};
  command(node, true, last, ReadBlock{data_block}, [this, &node, order, last](auto reply) {
    auto* block = reply ? std::get_if<std::vector<std::byte>>(&*reply) : nullptr;
    if (block == nullptr) {
      deliver(node, AssumeFailed{order.identity, "the pool cannot be read"});
      return;
    }
    auto value = load_le<std::uint64_t>(block->data() + 8);
    std::uint64_t replayed = 0;
    auto& log = node.logs[order.identity];
    if (order.replay && log.damaged) {
      deliver(node, AssumeFailed{order.identity, "the log is damaged"});
      return;
    }
    if (order.replay && log.epoch == order.log_epoch && log.last > value) {
      replayed = log.last - value;
      value = log.last;
    }
    std::vector<std::byte> out(4096);
    store_le(out.data(), order.epoch.value());
    store_le(out.data() + 8, value);
    at_engine(node, random(options_.replay / 2, options_.replay * 2),
              [this, &node, order, last, value, replayed, out] {
                command(
                    node, true, last, WriteBlock{data_block, out},
                    [this, &node, order, value, replayed](auto written) {
                      auto it = node.engine.serving.find(order.identity);
                      if (it == node.engine.serving.end() || it->second.epoch != order.epoch)
                        return;
                      if (!written) {
                        deliver(node, AssumeFailed{order.identity, "no consistency point"});
                        return;
                      }
                      auto& identity = identity_of(order.identity);
                      // A node that was paused meanwhile may finish what is over: nobody hears it.
                      if (order.epoch >= identity.served_epoch && value < identity.acknowledged) {
                        violation("I1: identity " + std::to_string(order.identity.value()) +
                                  " opened at " + std::to_string(value) + " though " +
                                  std::to_string(identity.acknowledged) + " is acknowledged");
                      }
                      identity.served_epoch = std::max(identity.served_epoch, order.epoch);
                      identity.claimed = true;
                      auto& s = it->second;
                      s.assumed = true;
                      s.value = value;
                      node.logs[order.identity] = {order.epoch, value};
                      deliver(node, IdentityAssumed{order.identity, replayed});
                      choose_mode(node, order.identity);
                    });
              });
  });
}

void Cluster::release(Node& node, NodeId identity) {
  auto it = node.engine.serving.find(identity);
  if (it == node.engine.serving.end() || !it->second.assumed) {
    at_engine(node, milliseconds(1),
              [this, &node, identity] { deliver(node, ReleaseFailed{identity, "not served"}); });
    return;
  }
  it->second.releasing = true;
  at_engine(node, random(milliseconds(1), milliseconds(20)), [this, &node, identity] {
    auto& s = node.engine.serving[identity];
    if (s.flushing > 0 || s.busy) return release(node, identity);  // drain
    std::vector<std::byte> out(4096);
    store_le(out.data(), s.epoch.value());
    store_le(out.data() + 8, s.value);
    DiskRef last{identity, static_cast<std::uint8_t>(options_.disks - 1)};
    command(node, true, last, WriteBlock{data_block, out}, [this, &node, identity](auto written) {
      if (!written) {
        node.engine.serving[identity].releasing = false;
        deliver(node, ReleaseFailed{identity, "no consistency point"});
        return;
      }
      auto absent = node.engine.serving[identity].absent;
      node.engine.serving.erase(identity);
      for (std::uint8_t i = 0; i < options_.disks; ++i) {
        if (absent.contains(i)) continue;
        command(node, true, {identity, i}, RegisterKey{ReservationKey(0)}, [](auto) {});
      }
      at_engine(node, milliseconds(2),
                [this, &node, identity] { deliver(node, IdentityReleased{identity}); });
    });
  });
}

// What the engine would like to rest its acknowledgements on; asks when that is not what it has.
void Cluster::choose_mode(Node& node, NodeId identity) {
  auto it = node.engine.serving.find(identity);
  if (!node.engine.ready || it == node.engine.serving.end() || !it->second.assumed) return;
  auto& s = it->second;
  auto mode = Durability::write_through;
  if (identity == node.id && node.engine.mirror_up) {
    mode = Durability::mirrored;
  } else if (node.engine.partner_fenced && options_.persistent_nvram) {
    mode = Durability::local;
  }
  s.wanted.insert(mode);
  if (s.asked || s.granted == mode) return;  // one request at a time
  if (mode == Durability::mirrored) {
    // Resync: the partner's copy is complete before the mailbox says "mirrored".
    if (!mirror_reaches(node, identity)) {
      node.engine.mirror_up = false;
      return choose_mode(node, identity);
    }
    node_of(partner_of(node.id)).logs[identity] = node.logs[identity];
  }
  s.asked = mode;
  ask_mode(node, identity, mode, s.value);
}

// "write-through" only once everything acknowledged so far is on disk (docs/protocols/log.md).
void Cluster::ask_mode(Node& node, NodeId identity, Durability mode, std::uint64_t since) {
  at_engine(node, random(Duration(50000), milliseconds(2)), [this, &node, identity, mode, since] {
    auto found = node.engine.serving.find(identity);
    if (found == node.engine.serving.end() || found->second.asked != mode) return;
    if (mode != Durability::write_through || disk_value(identity) >= since) {
      deliver(node, DurabilityWanted{identity, mode, LogSequence(since)});
      return;
    }
    std::vector<std::byte> out(4096);
    store_le(out.data(), found->second.epoch.value());
    store_le(out.data() + 8, found->second.value);
    DiskRef last{identity, static_cast<std::uint8_t>(options_.disks - 1)};
    command(node, true, last, WriteBlock{data_block, out},
            [this, &node, identity, mode, since](auto reply) {
              if (!node.engine.serving.contains(identity)) return;
              if (!reply && reply.error().code == ErrorCode::reservation_conflict) {
                return engine_fenced(node, identity);
              }
              at_engine(node, reply ? Duration(1000) : milliseconds(20),
                        [=, this, &node] { ask_mode(node, identity, mode, since); });
            });
  });
}

void Cluster::engine_fenced(Node& node, NodeId identity) {
  auto& s = node.engine.serving[identity];
  if (s.fenced) return;
  s.fenced = true;
  at_engine(node, random(Duration(50000), milliseconds(2)),
            [this, &node, identity] { deliver(node, EngineFenced{identity}); });
}

void Cluster::client(NodeId identity) {
  at(random(options_.client_interval / 2, options_.client_interval * 3 / 2),
     [this, identity] { client(identity); });
  for (auto& node : nodes_) {
    if (!node.powered || node.paused || !node.core || !node.engine.ready) continue;
    auto it = node.engine.serving.find(identity);
    if (it == node.engine.serving.end() || !it->second.assumed || it->second.releasing) continue;
    auto& s = it->second;
    if (s.handing_over || s.handed_over) continue;
    // I2: whoever may answer a read knows every acknowledged write.
    if (node.lease[identity.value()] > now_ && s.value < identity_of(identity).acknowledged) {
      violation("I2: node " + std::to_string(node.id.value()) + " may answer with " +
                std::to_string(s.value) + " though " +
                std::to_string(identity_of(identity).acknowledged) + " of identity " +
                std::to_string(identity.value()) + " is acknowledged");
    }
    if (s.busy || !s.granted || s.fenced) continue;
    s.busy = true;
    ++s.value;
    node.logs[identity] = {s.epoch, s.value};
    client_step(node, identity, s.value);
  }
}

bool Cluster::satisfied(const Node& node, NodeId identity, std::uint64_t value,
                        Durability mode) const {
  switch (mode) {
    case Durability::local:
      return true;  // appended before
    case Durability::mirrored: {
      const auto& logs = node_of(partner_of(node.id)).logs;
      auto log = logs.find(identity);
      return log != logs.end() && log->second.epoch == node.logs.at(identity).epoch &&
             log->second.last >= value;
    }
    case Durability::write_through:
      return disk_value(identity) >= value;
  }
  return false;
}

// Does what is missing for all modes that count, one after the other, then acknowledges.
void Cluster::client_step(Node& node, NodeId identity, std::uint64_t value) {
  auto& s = node.engine.serving[identity];
  auto modes = s.wanted;
  modes.insert(*s.granted);
  for (auto mode : modes) {
    if (satisfied(node, identity, value, mode)) continue;
    if (mode == Durability::mirrored) {
      at_engine(node, random(Duration(20000), milliseconds(2)), [this, &node, identity, value] {
        auto it = node.engine.serving.find(identity);
        if (it == node.engine.serving.end()) return;
        if (mirror_reaches(node, identity)) {
          node_of(partner_of(node.id)).logs[identity] = node.logs[identity];
          at_engine(node, random(Duration(20000), milliseconds(2)), [this, &node, identity, value] {
            if (node.engine.serving.contains(identity)) client_step(node, identity, value);
          });
          return;
        }
        node.engine.mirror_up = false;
        choose_mode(node, identity);
        at_engine(node, milliseconds(5), [this, &node, identity, value] {
          if (node.engine.serving.contains(identity)) client_step(node, identity, value);
        });
      });
      return;
    }
    std::vector<std::byte> out(4096);
    store_le(out.data(), s.epoch.value());
    store_le(out.data() + 8, value);
    DiskRef last{identity, static_cast<std::uint8_t>(options_.disks - 1)};
    command(node, true, last, WriteBlock{data_block, out},
            [this, &node, identity, value](auto reply) {
              auto it = node.engine.serving.find(identity);
              if (it == node.engine.serving.end()) return;
              if (!reply && reply.error().code == ErrorCode::reservation_conflict) {
                return engine_fenced(node, identity);
              }
              at_engine(node, reply ? Duration(1000) : milliseconds(20),
                        [this, &node, identity, value] {
                          if (node.engine.serving.contains(identity))
                            client_step(node, identity, value);
                        });
            });
    return;
  }
  acknowledge(node, identity, value);
}

void Cluster::acknowledge(Node& node, NodeId id, std::uint64_t value) {
  auto& s = node.engine.serving[id];
  auto& identity = identity_of(id);
  if (node.lease[id.value()] <= now_) {  // the answer waits for the lease
    at_engine(node, milliseconds(10), [this, &node, id, value] {
      if (node.engine.serving.contains(id)) client_step(node, id, value);
    });
    return;
  }
  s.busy = false;
  if (s.epoch < identity.acknowledged_epoch) {
    violation("I2: node " + std::to_string(node.id.value()) + " acknowledged in epoch " +
              std::to_string(s.epoch.value()) + " of identity " + std::to_string(id.value()) +
              " after epoch " + std::to_string(identity.acknowledged_epoch.value()));
  }
  auto m = mailbox(id);
  bool covered = m && (satisfied(node, id, value, Durability::write_through) ||
                       (m->durability == Durability::mirrored && m->nvram_server == node.nvram &&
                        satisfied(node, id, value, Durability::mirrored)) ||
                       (m->durability == Durability::local && m->nvram_server == node.nvram));
  if (!covered) {
    violation("I4: acknowledged " + std::to_string(value) + " of identity " +
              std::to_string(id.value()) + " as " + std::string(name(*s.granted)) +
              ", the mailbox says " + std::string(m ? name(m->durability) : "nothing"));
  }
  identity.acknowledged_epoch = s.epoch;
  identity.acknowledged = std::max(identity.acknowledged, value);
  identity.longest = std::max(identity.longest, Duration(now_ - identity.last_ack));
  identity.last_ack = now_;
  if (random_.chance(1, 3)) flush(node, id);
}

// A consistency point in the background: what PREEMPT AND ABORT has to stop when it comes late.
void Cluster::flush(Node& node, NodeId id) {
  auto& s = node.engine.serving[id];
  std::vector<std::byte> out(4096);
  store_le(out.data(), s.epoch.value());
  store_le(out.data() + 8, s.value);
  DiskRef last{id, static_cast<std::uint8_t>(options_.disks - 1)};
  ++s.flushing;
  command(node, true, last, WriteBlock{data_block, out}, [this, &node, id](auto reply) {
    if (node.engine.serving.contains(id)) --node.engine.serving[id].flushing;
    bool conflict = !reply && reply.error().code == ErrorCode::reservation_conflict;
    if (conflict && node.engine.serving.contains(id)) engine_fenced(node, id);
  });
}

}  // namespace duet::ha::testing
