#include "ha/cluster.h"

#include <algorithm>

#include "base/assert.h"
#include "disk/areas.h"
#include "disk/label.h"

namespace duet::ha::testing {
namespace {

const ClusterId cluster_id{0x1122334455664d2a};

}  // namespace

Cluster::Cluster(Options options)
    : options_(options), random_(options.seed), now_(Instant{} + seconds(1000)) {
  for (auto identity : {red, blue}) {
    auto& disks = disks_[identity.value() - 1];
    disks.resize(options.disks);
    label(identity);
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

void Cluster::label(NodeId identity) {
  int data = options_.disks - options_.spares, position = 0;
  for (int i = 0; i < options_.disks; ++i) {
    bool spare = i < options_.disks - 1 && i >= data - 1;
    disk::Label label;
    label.cluster = cluster_id;
    label.id.bytes.fill(static_cast<std::uint8_t>(16 * identity.value() + i + 1));
    label.owner = identity;
    bool dedicated = options_.dedicated && i == options_.disks - 2;
    label.role = !spare ? disk::Role::data : dedicated ? disk::Role::coredump : disk::Role::spare;
    label.mailbox = i < mailbox_disks;
    label.position = static_cast<std::uint16_t>(spare ? 0 : position++);
    label.disks_in_pool = static_cast<std::uint16_t>(data);
    label.redundancy = spare ? std::uint8_t{0} : options_.redundancy;
    label.size = std::uint64_t{64} << 20;
    label.pool_name = "pool";
    auto block = disk::encode_label(label);
    ASSERT(block);
    for (int copy : {0, 1}) {
      disks_[identity.value() - 1][static_cast<std::size_t>(i)].write(disk::label_copy(copy).offset,
                                                                      *block);
    }
  }
}

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
  config.auto_giveback_rules = options_.rules;
  config.past_takeovers = std::exchange(node.past_takeovers, {});
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
  node.held = false;
  node.reboot = nullptr;
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

// The core has ended; its supervisor shows that it lives.
void Cluster::keep_beating(Node& node) {
  at_node(node, milliseconds(100), [this, &node] {
    if (!node.held || !node.published) return;
    ++node.published->heartbeat;
    keep_beating(node);
  });
}

void Cluster::let_reboot(NodeId id) {
  auto& node = node_of(id);
  node.held = false;
  if (auto go_on = std::exchange(node.reboot, nullptr)) at(Duration(0), go_on);
}

void Cluster::write(NodeId id, DiskRef ref, std::uint64_t offset, std::vector<std::byte> bytes,
                    std::function<void(Status)> done) {
  command(node_of(id), false, ref, WriteBlock{offset, std::move(bytes)},
          [done = std::move(done)](const Result<DiskReply>& reply) {
            if (done) done(reply ? Status() : Status(std::unexpected(reply.error())));
          });
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

void Cluster::damage_log(NodeId node, NodeId identity) {
  node_of(node).logs[identity].damaged = true;
}

void Cluster::send(NodeId to, const Event& event) {
  deliver(node_of(to), event);
}

void Cluster::order(NodeId node, OperatorVerb verb, NodeId about, bool force) {
  order(node, OperatorRequest{.verb = verb, .node = about, .force = force});
}

std::uint64_t Cluster::order(NodeId node, OperatorRequest request) {
  request.request = ++last_request_;
  deliver(node_of(node), request);
  return request.request;
}

std::optional<OperatorAnswer> Cluster::answer_to(std::uint64_t request) const {
  auto found = std::find_if(answers.rbegin(), answers.rend(),
                            [&](const auto& a) { return a.request == request; });
  return found != answers.rend() ? std::optional(*found) : std::nullopt;
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
          [&](const PublishState& a) {
            check_published(node, a.structure);
            node.published = a.structure;
          },
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
          [&](const StopDump&) { ++node.dumps_stopped; },
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
          [&](const CheckLog& a) {
            auto identity = a.identity;
            at_engine(node, random(Duration(20000), milliseconds(2)), [this, &node, identity] {
              ASSERT(node.engine.window_for == BootNonce(0));
              bool sound = !node.logs[identity].damaged;
              deliver(node, LogChecked{identity, sound, sound ? "" : "a record is missing"});
            });
          },
          [&](const AssumeIdentity& a) { assume(node, a); },
          [&](const DiskReturned& a) {
            auto it = node.engine.serving.find(a.disk.identity);
            if (it == node.engine.serving.end()) return;
            if (disk(a.disk).holder_key() != it->second.holder) {
              violation("I6: disk " + std::to_string(a.disk.index) + " is not the supervisor's");
            }
            it->second.absent.erase(a.disk.index);
          },
          [&](const CollectDump& a) {
            auto ref = a.disk;
            auto serving = node.engine.serving.find(ref.identity);
            if (serving == node.engine.serving.end() ||
                serving->second.absent.contains(ref.index)) {
              violation("a dump is to be collected from a disk that is not ours");
            }
            node.engine.collecting.insert(ref);
            at_engine(node, options_.collect, [this, &node, ref] {
              if (node.engine.collecting.erase(ref) == 0) return;
              deliver(node, DumpCollection{.disk = ref, .over = true});
            });
          },
          [&](const CancelCollect& a) {
            auto ref = a.disk;
            if (node.engine.collecting.erase(ref) == 0) return;
            at_engine(node, milliseconds(1), [this, &node, ref] {
              deliver(node, DumpCollection{.disk = ref, .over = true});
            });
          },
          [&](const ReleaseIdentity& a) { release(node, a.identity); },
          [&](const PrepareIdentity& a) { prepare(node, a.identity); },
          [&](const KeepHealthRecords&) {},
          [&](const DropPrepared&) { node.engine.prepared = false; },
          [&](const HandOverIdentity& a) { hand_over(node, a.identity); },
          [&](const CancelHandOver& a) { cancel_hand_over(node, a.identity); },
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
            auto go_on = [this, &node, reboot, boot_number] {
              if (!node.powered || node.boots != boot_number) return;
              node.past_takeovers = snapshot(node.id).takeovers;
              end_processes(node);
              if (reboot) node.published.reset();
              node.halted = !reboot;
              set_link();
              if (!reboot) return;
              at(random(options_.boot_time / 10, options_.boot_time), [this, &node, boot_number] {
                if (node.powered && node.boots == boot_number) boot(node);
              });
            };
            if (!node.held) return at(Duration(0), go_on);
            node.reboot = go_on;
            keep_beating(node);
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
         !it->second.handed_over && node.lease[identity.value()] > now_;
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
