#include "ha/cluster.h"

#include <algorithm>

#include "base/assert.h"
#include "disk/areas.h"

namespace duet::ha::testing {
namespace {

const ClusterId cluster_id{0x1122334455664d2a};
constexpr std::uint64_t data_block = disk::data_offset;

}  // namespace

Cluster::Cluster(Options options)
    : options_(options), random_(options.seed), now_(Instant{} + seconds(1000)) {
  for (auto identity : {red, blue}) {
    auto& disks = disks_[identity.value() - 1];
    disks.resize(options.disks);
    auto block = encode(first_mailbox(cluster_id, identity, {}));
    for (int i = 0; i < std::min<int>(mailbox_disks, options.disks); ++i) {
      for (int copy = 0; copy < disk::mailbox_copies; ++copy) {
        disks[static_cast<std::size_t>(i)].write(disk::mailbox_copy(copy).offset, block);
      }
    }
    auto& node = node_of(identity);
    node.id = identity;
    node.nvram = 0xd0 + identity.value();
    identity_of(identity).last_ack = now_;
  }
  for (auto identity : {red, blue}) {
    at(random(milliseconds(1), options_.client_interval), [this, identity] { client(identity); });
  }
}

Cluster::~Cluster() = default;

// ---- time ----

void Cluster::at(Duration delay, std::function<void()> task) {
  tasks_.push_back({now_ + delay, ++order_, std::move(task)});
  std::ranges::push_heap(tasks_, std::greater<>());
}

void Cluster::at_node(Node& node, Duration delay, std::function<void()> task) {
  auto boot = node.boots;
  at(delay, [this, &node, boot, task = std::move(task)] {
    (void)this;
    if (!node.powered || node.boots != boot || !node.core) return;
    if (node.paused) {
      node.frozen.push_back([&node, boot, task] {
        if (node.powered && node.boots == boot && node.core) task();
      });
      return;
    }
    task();
  });
}

void Cluster::at_engine(Node& node, Duration delay, std::function<void()> task) {
  auto run = node.engine_run;
  at_node(node, delay, [&node, run, task = std::move(task)] {
    if (node.engine.ready && node.engine_run == run) task();
  });
}

Duration Cluster::random(Duration low, Duration high) {
  if (high <= low) return low;
  return low + Duration(static_cast<std::int64_t>(
                   random_.below(static_cast<std::uint64_t>((high - low).count()))));
}

void Cluster::run_for(Duration time) {
  run_until([] { return false; }, time);
}

bool Cluster::run_until(const std::function<bool()>& condition, Duration limit) {
  auto end = now_ + limit;
  while (!condition()) {
    if (tasks_.empty() || tasks_.front().when > end) {
      now_ = end;
      return condition();
    }
    std::ranges::pop_heap(tasks_, std::greater<>());
    auto task = std::move(tasks_.back());
    tasks_.pop_back();
    now_ = task.when;
    task.run();
  }
  return true;
}

// ---- nodes ----

void Cluster::boot(Node& node) {
  ++node.boots;
  node.nonce = BootNonce(random_.next() | 1);
  node.published.reset();
  node.timer_version = 0;
  node.lease = {};
  node.engine = {};
  // Sessions are reinstated: commands of the boot before end here, at the latest.
  abort_commands({node.id, false}, {});
  abort_commands({node.id, true}, {});
  Config config;
  config.self = node.id;
  config.cluster = cluster_id;
  config.timers = options_.timers;
  config.auto_giveback = options_.auto_giveback;
  for (auto identity : {red, blue}) config.shelves[identity.value()].disks = options_.disks;
  node.core = std::make_unique<Core>(config, node.nonce);
  note(node.id, "shell.boot", "");
  deliver(node, Started{});
  for (auto identity : {red, blue}) {
    for (std::uint8_t i = 0; i < options_.disks; ++i) {
      DiskRef ref{identity, i};
      if (node.cut.contains(ref)) continue;
      at_node(node, random(milliseconds(1), milliseconds(10)),
              [this, &node, ref] { deliver(node, DiskConnection{ref, true}); });
    }
  }
  set_link();
}

void Cluster::end_processes(Node& node) {
  node.core.reset();
  node.engine = {};
  ++node.engine_run;
  node.lease = {};
  node.frozen.clear();
  node.link = false;
}

void Cluster::power_on(NodeId id) {
  auto& node = node_of(id);
  if (node.powered) return;
  node.powered = true;
  node.halted = false;
  boot(node);
}

void Cluster::power_off(NodeId id) {
  auto& node = node_of(id);
  if (!node.powered) return;
  note(id, "shell.power_off", "");
  node.powered = false;
  node.paused = false;
  node.published.reset();
  end_processes(node);
  set_link();
}

void Cluster::pause(NodeId id) {
  auto& node = node_of(id);
  if (!node.powered || node.paused) return;
  note(id, "shell.pause", "");
  node.paused = true;
  set_link();
}

void Cluster::resume(NodeId id) {
  auto& node = node_of(id);
  if (!node.paused) return;
  note(id, "shell.resume", "");
  node.paused = false;
  auto frozen = std::move(node.frozen);
  node.frozen.clear();
  for (auto& task : frozen) {
    at(random(Duration(0), milliseconds(2)), [this, &node, task] {
      (void)this;
      if (node.paused) {
        node.frozen.push_back(task);
      } else {
        task();
      }
    });
  }
  set_link();
}

void Cluster::panic_engine(NodeId id) {
  auto& node = node_of(id);
  if (!node.powered || !node.core || !node.engine.ready) return;
  note(id, "shell.engine_panic", "");
  node.engine = {};
  ++node.engine_run;
  at_node(node, random(milliseconds(1), milliseconds(5)),
          [this, &node] { deliver(node, EngineEnded{false, "signal 6"}); });
}

void Cluster::stop_engine(Node& node) {
  node.engine = {};
  ++node.engine_run;
  at_node(node, random(milliseconds(1), milliseconds(10)),
          [this, &node] { deliver(node, EngineEnded{true, "killed"}); });
}

void Cluster::lose_nvram(NodeId id) {
  auto& node = node_of(id);
  node.logs.clear();
  node.nvram += 0x100;
}

void Cluster::send(NodeId to, const Event& event) {
  deliver(node_of(to), event);
}

void Cluster::order(NodeId node, OperatorVerb verb, NodeId about, bool force) {
  deliver(node_of(node), OperatorRequest{1000 + answers.size(), verb, about, force});
}

void Cluster::deliver(Node& node, const Event& event) {
  if (!node.powered || !node.core) return;
  if (node.paused) {
    auto boot = node.boots;
    node.frozen.push_back([this, &node, boot, event] {
      if (node.boots == boot) deliver(node, event);
    });
    return;
  }
  ++node.handled;
  if (on_handled) {
    on_handled(node.id, event);
    if (!node.powered || !node.core || node.paused) return;
  }
  Actions actions;
  auto boot = node.boots;
  node.core->on_event(event, now_, actions);
  for (const auto& action : actions) {
    if (!node.powered || node.boots != boot || !node.core) return;
    perform(node, action);
  }
}

void Cluster::perform(Node& node, const Action& action) {
  std::visit(
      Overloaded{
          [&](const PublishState& a) { node.published = a.structure; },
          [&](const SetTimer& a) {
            auto version = ++node.timer_version;
            auto delay =
                std::max(Duration(0), a.when - now_) + random(Duration(0), milliseconds(1));
            auto number = a.timer;
            at_node(node, delay, [this, &node, version, number] {
              if (node.timer_version == version) deliver(node, TimerExpired{number});
            });
          },
          [&](const CancelTimer&) { ++node.timer_version; },
          [&](const DiskCommand& a) {
            auto id = a.command;
            command(node, false, a.disk, a.operation, [this, &node, id](Result<DiskReply> reply) {
              deliver(node, DiskCompleted{id, std::move(reply)});
            });
          },
          [&](const ReadPartnerState&) { read_partner_state(node); },
          [&](const SendMessage& a) { message(node, a.bytes); },
          [&](const RenewLease& a) {
            // I2: a lease only ends early by being taken away.
            node.lease[a.identity.value()] = a.until;
          },
          [&](const StartEngine&) {
            at_node(node, random(options_.engine_start / 2, options_.engine_start * 2),
                    [this, &node] {
                      node.engine.ready = true;
                      deliver(node, EngineReady{node.nvram, options_.persistent_nvram, 7002});
                    });
          },
          [&](const StopEngine&) { stop_engine(node); },
          [&](const DialMirror& a) { dial(node, a); },
          [&](const HangUpMirror&) { node.engine.mirror_up = false; },
          [&](const OpenMirrorWindow& a) {
            ASSERT(a.identity == partner_of(node.id));
            if (node.engine.ready) node.engine.window_for = a.partner_nonce;
          },
          [&](const CloseMirrorWindow&) {
            node.engine.window_for = BootNonce(0);
            at_engine(node, random(Duration(20000), milliseconds(2)),
                      [this, &node] { deliver(node, MirrorWindowClosed{}); });
          },
          [&](const AssumeIdentity& a) { assume(node, a); },
          [&](const ReleaseIdentity& a) { release(node, a.identity); },
          [&](const GrantDurability& a) {
            auto it = node.engine.serving.find(a.identity);
            if (it == node.engine.serving.end()) return;
            auto& s = it->second;
            if (s.asked != a.mode) return;
            s.granted = a.mode;
            s.asked.reset();
            s.wanted.clear();
            choose_mode(node, a.identity);
          },
          [&](const PartnerFenced& a) {
            node.engine.partner_fenced = a.fenced;
            if (a.fenced) node.engine.mirror_up = false;
            for (auto identity : {red, blue}) choose_mode(node, identity);
          },
          [&](const OperatorAnswer& a) { answers.push_back(a); },
          [&](const LogEvent& a) { note(node.id, a.phase, a.text); },
          [&](const EndBoot& a) {
            note(node.id, "shell.end_boot", a.why);
            bool reboot = a.reboot;
            // The Core is inside on_event: it goes when the stack is unwound.
            node.engine = {};
            ++node.engine_run;
            node.lease = {};
            auto boot_number = node.boots;
            at(Duration(0), [this, &node, reboot, boot_number] {
              if (!node.powered || node.boots != boot_number) return;
              end_processes(node);
              if (reboot) node.published.reset();
              node.halted = !reboot;
              set_link();
              if (!reboot) return;
              at(random(options_.boot_time / 10, options_.boot_time), [this, &node, boot_number] {
                if (node.powered && node.boots == boot_number) boot(node);
              });
            });
          },
      },
      action);
}

// ---- link ----

void Cluster::set_link() {
  auto alive = [](const Node& n) { return n.powered && n.core && !n.paused; };
  bool up = !link_cut_ && alive(nodes_[0]) && alive(nodes_[1]);
  for (auto& node : nodes_) {
    if (node.link == up || !node.core) continue;
    node.link = up;
    auto delay =
        up ? random(milliseconds(5), milliseconds(60)) : random(milliseconds(2), milliseconds(16));
    at_node(node, delay, [this, &node, up] {
      if (node.link == up) {
        deliver(node, LinkChanged{up ? ports::LinkState::ready : ports::LinkState::down});
      }
    });
  }
  if (!up) {
    for (auto& node : nodes_) {
      if (!node.engine.mirror_up) continue;
      at_engine(node, random(milliseconds(5), milliseconds(300)), [this, &node] {
        if (nodes_[0].link && nodes_[1].link) return;
        node.engine.mirror_up = false;
        for (auto identity : {red, blue}) choose_mode(node, identity);
      });
    }
  }
}

void Cluster::cut_link() {
  if (!link_cut_) note(no_node, "shell.cut_link", "");
  link_cut_ = true;
  set_link();
}
void Cluster::restore_link() {
  if (link_cut_) note(no_node, "shell.restore_link", "");
  link_cut_ = false;
  set_link();
}

void Cluster::read_partner_state(Node& node) {
  auto& partner = node_of(partner_of(node.id));
  auto trip = random(Duration(30000), milliseconds(2));
  at(trip, [this, &node, &partner] {
    Result<std::vector<std::byte>> result = fail(ErrorCode::disconnected, "no link");
    Duration back = random(Duration(30000), milliseconds(2));
    if (!link_cut_ && partner.powered && partner.paused) {
      result = fail(ErrorCode::timed_out, "no answer");
      back = milliseconds(300);
    } else if (!link_cut_ && partner.powered && partner.published) {
      auto bytes = interconnect::encode(*partner.published);
      result = std::vector<std::byte>(bytes.begin(), bytes.end());
      if (random_.chance(1, 200)) (*result)[random_.below(result->size())] ^= std::byte{1};  // torn
    }
    at_node(node, back, [this, &node, result] { deliver(node, PartnerStateRead{result}); });
  });
}

void Cluster::message(Node& node, std::vector<std::byte> bytes) {
  auto& partner = node_of(partner_of(node.id));
  if (link_cut_ || !partner.powered || !partner.core) return;
  at_node(partner, random(Duration(30000), milliseconds(3)), [this, &partner, bytes] {
    if (!link_cut_) deliver(partner, MessageArrived{bytes});
  });
}

void Cluster::dial(Node& node, const DialMirror& dial) {
  auto nonce = dial.partner_nonce;
  at_engine(node, random(milliseconds(1), milliseconds(5)), [this, &node, nonce] {
    auto& partner = node_of(partner_of(node.id));
    bool ok = !link_cut_ && partner.powered && !partner.paused && partner.core &&
              partner.nonce == nonce && partner.engine.ready &&
              partner.engine.window_for == node.nonce;
    if (!ok) return;
    node.engine.mirror_up = true;
    node.engine.mirror_boot = nonce;
    for (auto identity : {red, blue}) choose_mode(node, identity);
  });
}

bool Cluster::mirror_reaches(const Node& from, NodeId identity) const {
  const auto& partner = node_of(partner_of(from.id));
  return identity == from.id && from.engine.mirror_up && !link_cut_ && partner.powered &&
         !partner.paused && partner.core && partner.nonce == from.engine.mirror_boot &&
         partner.engine.ready && partner.engine.window_for == from.nonce;
}

// ---- disks ----

void Cluster::command(Node& node, bool engine, DiskRef ref, DiskOperation operation,
                      std::function<void(Result<DiskReply>)> done) {
  auto id = ++last_command_;
  auto boot = node.boots;
  auto run = node.engine_run;
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
  at(travel, [this, id, operation = std::move(operation)] { execute(id, operation); });
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
  if (m->epoch < identity.mailbox_epoch) {
    violation("I5: mailbox of identity " + std::to_string(ref.identity.value()) + " from epoch " +
              std::to_string(identity.mailbox_epoch.value()) + " back to " +
              std::to_string(m->epoch.value()));
  }
  identity.mailbox_epoch = std::max(identity.mailbox_epoch, m->epoch);
}

void Cluster::check_reservation(DiskRef ref) {
  auto& target = disk(ref);
  if (identity_of(ref.identity).claimed && !target.reserved()) {
    violation("I12: disk " + std::to_string(ref.index) + " of identity " +
              std::to_string(ref.identity.value()) + " is without a reservation");
  }
}

std::uint64_t Cluster::disk_value(NodeId identity) const {
  auto block = disks_[identity.value() - 1].back().read(data_block);
  return load_le<std::uint64_t>(block.data() + 8);
}

// ---- engine ----

void Cluster::assume(Node& node, const AssumeIdentity& order) {
  auto& s = node.engine.serving[order.identity];
  s = {};
  s.epoch = order.epoch;
  s.key = order.key;
  at_engine(node, random(Duration(100000), milliseconds(2)),
            [this, &node, order] { register_next(node, order, 0); });
}

void Cluster::register_next(Node& node, AssumeIdentity order, std::uint8_t index) {
  if (index == options_.disks) return open_pool(node, order);
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
      node.engine.serving.erase(identity);
      for (std::uint8_t i = 0; i < options_.disks; ++i) {
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

// ---- what is seen ----

Snapshot Cluster::snapshot(NodeId id) const {
  const auto& node = node_of(id);
  ASSERT(node.core);
  return node.core->snapshot(now_);
}

NodeState Cluster::state(NodeId id) const {
  const auto& node = node_of(id);
  if (!node.powered || !node.published) return NodeState::halted;
  return node.published->state;
}

bool Cluster::serves(NodeId id, NodeId identity) const {
  const auto& node = node_of(id);
  if (!node.powered || node.paused || !node.core) return false;
  auto it = node.engine.serving.find(identity);
  return it != node.engine.serving.end() && it->second.assumed && !it->second.releasing &&
         node.lease[identity.value()] > now_;
}

Duration Cluster::longest_pause(NodeId id) {
  auto& identity = identity_of(id);
  auto longest = std::max(identity.longest, Duration(now_ - identity.last_ack));
  identity.longest = {};
  return longest;
}

bool Cluster::logged(NodeId node, const std::string& phase) const {
  return log_count(node, phase) > 0;
}

std::uint64_t Cluster::log_count(NodeId node, const std::string& phase) const {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      log_, [&](const Line& line) { return line.node == node && line.phase == phase; }));
}

void Cluster::note(NodeId node, const std::string& phase, const std::string& text) {
  log_.push_back({now_, node, phase, text});
}

void Cluster::violation(const std::string& what) {
  if (violations_.size() >= 3) return;  // the first ones tell the story
  violations_.push_back(what);
  note(no_node, "VIOLATION", what);
}

std::string Cluster::describe() const {
  std::string s;
  for (const auto& node : nodes_) {
    s += "node " + std::to_string(node.id.value()) + ": ";
    if (!node.powered || !node.core) {
      s += node.powered ? "halted or between boots" : "off";
    } else {
      auto shot = snapshot(node.id);
      s += std::string(interconnect::name(shot.state)) + " (" + std::string(name(shot.why)) +
           ") takeover " + std::string(shot.takeover_step) + " giveback " +
           std::string(shot.giveback_step) + " partner " + std::string(name(shot.partner_verdict)) +
           " refusal " + std::string(name(shot.last_refusal));
    }
    for (const auto& [identity, serving] : node.engine.serving) {
      s += "; serves " + std::to_string(identity.value()) + " epoch " +
           std::to_string(serving.epoch.value()) + (serving.assumed ? "" : " (assuming)") +
           (serving.granted ? " " + std::string(name(*serving.granted)) : " no grant");
    }
    s += "\n";
  }
  for (auto id : {red, blue}) {
    auto m = mailbox(id);
    s += "mailbox " + std::to_string(id.value()) + ": ";
    if (m) {
      s += "generation " + std::to_string(m->generation) + " epoch " +
           std::to_string(m->epoch.value()) + " server " + std::to_string(m->server.value()) +
           " taken over by " + std::to_string(m->taken_over_by.value()) + " " +
           std::string(name(m->durability));
    }
    for (const auto& d : disks_[id.value() - 1]) {
      s += " [" + std::string(d.reserved() ? disk::describe(d.holder_key()) : "free") + "]";
    }
    s += "\n";
  }
  return s;
}

std::string Cluster::history() const {
  std::string s;
  auto start = Instant{} + seconds(1000);
  for (const auto& line : log_) {
    auto us = std::chrono::duration_cast<std::chrono::microseconds>(line.when - start).count();
    s += std::to_string(us / 1000) + "." + std::to_string(us % 1000 + 1000).substr(1) + " node " +
         std::to_string(line.node.value()) + " " + line.phase + ": " + line.text + "\n";
  }
  return s;
}

}  // namespace duet::ha::testing
