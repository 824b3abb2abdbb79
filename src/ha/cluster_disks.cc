// The disks of the cluster: commands that travel, arrive, are aborted, or happen late.
#include "ha/cluster.h"

#include <algorithm>

#include "base/assert.h"
#include "disk/areas.h"

namespace duet::ha::testing {

// ---- disks ----

void Cluster::command(Node& node, bool engine, DiskRef ref, DiskOperation operation,
                      std::function<void(Result<DiskReply>)> done) {
  auto id = ++last_command_;
  auto boot = node.boots;
  auto run = node.engine_run;
  if (auto serving = node.engine.serving.find(ref.identity);
      engine && serving != node.engine.serving.end() &&
      serving->second.absent.contains(ref.index)) {
    violation("I6: the engine touches disk " + std::to_string(ref.index) + ", which is not fenced");
  }
  auto finish = [this, &node, boot, run, engine, done = std::move(done)](Result<DiskReply> reply) {
    (void)this;
    if (!node.powered || node.boots != boot || !node.core) return;
    if (engine && node.engine_run != run) return;
    auto task = [&node, boot, run, engine, done, reply] {
      if (!node.powered || node.boots != boot || !node.core) return;
      if (!engine || node.engine_run == run) done(reply);
    };
    if (node.paused) {
      node.frozen.push_back(task);
    } else {
      task();
    }
  };
  if (node.cut.contains(ref)) {
    at(random(milliseconds(1), milliseconds(20)),
       [finish] { finish(fail(ErrorCode::disconnected, "no path")); });
    return;
  }
  in_flight_.emplace(id, InFlight{boot, {node.id, engine}, ref, false, finish, {}});
  auto travel = random(Duration(30000), milliseconds(1));
  if (random_.chance(options_.slow_per_100, 100))
    travel += random(milliseconds(1), milliseconds(30));
  // A path keeps the order of its commands (CmdSN).
  auto& last = last_arrival_[{{node.id, engine}, ref}];
  last = std::max(last, now_ + travel);
  at(last - now_, [this, id, operation = std::move(operation)] { execute(id, operation); });
}

// Arrives at the disk: the reservation is checked now; a write happens a little later, unless it is
// aborted before. That is what PREEMPT AND ABORT is for.
void Cluster::execute(std::uint64_t id, const DiskOperation& operation) {
  auto it = in_flight_.find(id);
  if (it == in_flight_.end()) return;
  auto& flight = it->second;
  flight.arrived = true;
  auto ref = flight.disk;
  auto& target = disk(ref);
  auto nexus = flight.nexus;
  bool error = random_.chance(options_.errors_per_10000, 10000);
  bool done_all_the_same = error && random_.chance(1, 2);
  auto answer = [this, id, error](Result<DiskReply> reply) {
    if (error && reply) reply = fail(ErrorCode::io_error, "medium error");
    auto found = in_flight_.find(id);
    if (found == in_flight_.end()) return;
    auto done = std::move(found->second.done);
    in_flight_.erase(found);
    at(random(Duration(30000), Duration(300000)), [done, reply] { done(reply); });
  };
  if (error && !done_all_the_same) return answer(DiskReply{});
  if (auto* write = std::get_if<WriteBlock>(&operation)) {
    if (!target.may_write(nexus)) return answer(fail(ErrorCode::reservation_conflict, "conflict"));
    auto slow = random_.chance(options_.slow_per_100, 100)
                    ? random(milliseconds(1), milliseconds(200))
                    : random(Duration(50000), milliseconds(1));
    at(slow, [this, id, answer, ref, nexus, write = *write] {
      if (!in_flight_.contains(id)) return;  // aborted
      check_write(nexus, ref, write);
      auto bytes = write.bytes;
      if (write.offset == data_block) {
        // Of one engine: a storage system orders its own writes.
        auto old = disk(ref).read(data_block);
        bool overtaken =
            load_le<std::uint64_t>(old.data()) == load_le<std::uint64_t>(bytes.data()) &&
            load_le<std::uint64_t>(old.data() + 8) > load_le<std::uint64_t>(bytes.data() + 8);
        if (overtaken) return answer(DiskReply{});
      }
      if (tear_ && tear_->first == ref &&
          disk::mailbox_copy(tear_->second).offset == write.offset) {
        auto old = disk(ref).read(write.offset);
        std::copy(old.begin() + 512, old.end(), bytes.begin() + 512);
        bytes[20] ^= std::byte{0xff};
        tear_.reset();
      }
      disk(ref).write(write.offset, bytes);
      answer(DiskReply{});
    });
    return;
  }
  ClusterDisk::Effects effects;
  auto reply = target.execute(nexus, operation, effects);
  for (auto lost : effects.preempted) {
    if (effects.abort) abort_commands(lost, ref);
    auto& loser = node_of(lost.node);
    if (lost.engine) continue;
    at_node(loser, random(Duration(100000), milliseconds(20)), [this, &loser, ref] {
      deliver(loser, DiskAttention{ref, ports::Attention::registrations_preempted});
    });
  }
  check_reservation(ref);
  answer(std::move(reply));
}

constexpr Duration command_timeout = seconds(2);

void Cluster::abort_commands(Nexus nexus, std::optional<DiskRef> ref) {
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    if (it->second.nexus != nexus || (ref && (it->second.disk != *ref || !it->second.arrived))) {
      ++it;
      continue;
    }
    auto done = std::move(it->second.done);
    it = in_flight_.erase(it);
    // Most targets say nothing about an aborted command (SPC-4 7.5.8, TAS = 0): it ends by its
    // timeout.
    if (random(milliseconds(0), milliseconds(2)) < milliseconds(1)) {
      at(random(milliseconds(1), milliseconds(5)),
         [done] { done(fail(ErrorCode::cancelled, "aborted")); });
    } else {
      at(command_timeout, [done] { done(fail(ErrorCode::timed_out, "no answer")); });
    }
  }
}

void Cluster::cut_path(NodeId id, DiskRef ref) {
  auto& node = node_of(id);
  if (!node.cut.insert(ref).second) return;
  note(id, "shell.cut_path",
       std::to_string(ref.identity.value()) + "/" + std::to_string(ref.index));
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    auto& flight = it->second;
    if (flight.nexus.node != id || flight.disk != ref) {
      ++it;
      continue;
    }
    auto done = flight.done;
    at(random(milliseconds(1), milliseconds(200)),
       [done] { done(fail(ErrorCode::disconnected, "path lost")); });
    if (flight.arrived) {  // may yet happen
      flight.done = [](Result<DiskReply>) {};
      ++it;
    } else {
      it = in_flight_.erase(it);
    }
  }
  at_node(node, random(milliseconds(1), milliseconds(20)), [this, &node, ref] {
    if (node.cut.contains(ref)) deliver(node, DiskConnection{ref, false});
  });
}

void Cluster::restore_path(NodeId id, DiskRef ref) {
  auto& node = node_of(id);
  if (node.cut.erase(ref) == 0) return;
  for (bool engine : {false, true}) {
    for (auto it = in_flight_.begin(); it != in_flight_.end();) {
      bool old = it->second.nexus == Nexus{id, engine} && it->second.disk == ref;
      it = old ? in_flight_.erase(it) : std::next(it);
    }
  }
  at_node(node, random(milliseconds(5), milliseconds(50)), [this, &node, ref] {
    if (!node.cut.contains(ref)) deliver(node, DiskConnection{ref, true});
  });
}

void Cluster::blip(NodeId identity, bool forget) {
  for (std::uint8_t i = 0; i < options_.disks; ++i) {
    DiskRef ref{identity, i};
    if (forget) disk(ref).forget_registrations();
    for (auto& node : nodes_) {
      at_node(node, random(milliseconds(1), milliseconds(10)), [this, &node, ref] {
        deliver(node, DiskAttention{ref, ports::Attention::power_on_or_reset});
      });
    }
  }
}

std::optional<Mailbox> Cluster::mailbox(NodeId identity) const {
  std::optional<Mailbox> best;
  for (const auto& d : disks_[identity.value() - 1]) {
    for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
      auto m = decode_mailbox(d.read(disk::mailbox_copy(copy).offset));
      if (m && (!best || m->generation > best->generation)) best = *m;
    }
  }
  return best;
}

Durability Cluster::mode_in_mailbox(NodeId identity) const {
  auto m = mailbox(identity);
  return m ? m->durability : Durability::write_through;
}

bool Cluster::left_registered(NodeId identity) const {
  return std::ranges::any_of(disks_[identity.value() - 1], [&](const ClusterDisk& disk) {
    return disk.registered({partner_of(identity), false}) ||
           disk.registered({partner_of(identity), true});
  });
}

void Cluster::check_write(Nexus nexus, DiskRef ref, const WriteBlock& write) {
  auto& identity = identity_of(ref.identity);
  if (write.offset == data_block) {
    Epoch epoch(load_le<std::uint64_t>(write.bytes.data()));
    if (epoch < identity.served_epoch) {
      violation("I3: node " + std::to_string(nexus.node.value()) + " wrote data of epoch " +
                std::to_string(epoch.value()) + " while epoch " +
                std::to_string(identity.served_epoch.value()) + " is served");
    }
    return;
  }
  auto m = decode_mailbox(write.bytes);
  if (!m) return;
  // A late write of the last owner may land on a disk that the new one does without
  // (absent_disks.md): what a read of all yields is that of the highest generation.
  auto& on_this_disk = identity.mailbox_epochs[ref.index];
  bool newer = m->generation > identity.mailbox_generation;
  auto before = newer ? std::max(on_this_disk, identity.mailbox_epoch) : on_this_disk;
  if (m->epoch < before) {
    violation("I5: mailbox of identity " + std::to_string(ref.identity.value()) + " on disk " +
              std::to_string(ref.index) + " from epoch " + std::to_string(before.value()) +
              " back to " + std::to_string(m->epoch.value()) + " by node " +
              std::to_string(nexus.node.value()));
  }
  on_this_disk = m->epoch;
  if (!newer) return;
  identity.mailbox_generation = m->generation;
  identity.mailbox_epoch = m->epoch;
}

void Cluster::check_reservation(DiskRef ref) {
  auto& target = disk(ref);
  // A disk that nobody uses may never have been claimed.
  bool used = std::ranges::any_of(nodes_, [&](const Node& node) {
    auto it = node.engine.serving.find(ref.identity);
    return it != node.engine.serving.end() && !it->second.absent.contains(ref.index);
  });
  if (options_.redundancy > 0 && !used) return;
  if (identity_of(ref.identity).claimed && !target.reserved()) {
    violation("I12: disk " + std::to_string(ref.index) + " of identity " +
              std::to_string(ref.identity.value()) + " is without a reservation");
  }
}

std::uint64_t Cluster::disk_value(NodeId identity) const {
  auto block = disks_[identity.value() - 1].back().read(data_block);
  return load_le<std::uint64_t>(block.data() + 8);
}

}  // namespace duet::ha::testing
