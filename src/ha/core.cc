#include "ha/core.h"

#include <algorithm>

#include "base/assert.h"
#include "base/coverage.h"

namespace duet::ha {

using ports::ReservationType;
using Purpose = MailboxKeeper::Purpose;

namespace {
constexpr std::uint64_t timer = 1;  // the only one: for the earliest of all machines
constexpr int max_settle_rounds = 64;
}  // namespace

Core::Core(const Config& config, BootNonce nonce)
    : world_(config, nonce), giveback_(config), labels_(config) {
  ASSERT(config.self == NodeId(1) || config.self == NodeId(2));
  ASSERT(nonce != BootNonce(0));
  for (auto identity : {NodeId(1), NodeId(2)}) {
    ASSERT(config.disks(identity) >= 1 && config.disks(identity) <= max_disks);
  }
}

void Core::on_event(const Event& event, Instant now, Actions& actions) {
  if (ended_) return;
  Output out(now, actions, last_command_);
  if (started_) notice_gap(out);
  last_event_ = now;
  route(event, out);
  if (!started_) return;  // what came early is noted
  if (!ended_) settle(out);
  if (!ended_) exchange_health(out);
  if (!ended_) publish(out);
  if (!ended_) arm_timer(out);
}

void Core::route(const Event& event, Output& out) {
  std::visit([&](const auto& e) { on(e, out); }, event);
}

// We were not running: what we did not hear was not silence. After more than a lease we may have
// been replaced, and look at our reservations before we decide anything (B6).
void Core::notice_gap(Output& out) {
  auto gap = out.now() - last_event_;
  if (gap <= scheduling_gap) return;
  world_.monitor.forgive(gap);
  world_.watch.forgive(gap);
  takeover_.forgive(gap);
  if (dead_since_) *dead_since_ += gap;
  if (gap <= world_.config.timers.lease() || ending_) return;
  out.log(Severity::warning, "node.paused",
          "not scheduled for " +
              std::to_string(std::chrono::duration_cast<milliseconds>(gap).count()) + " ms");
  for (auto identity : {NodeId(1), NodeId(2)}) {
    if (!holds(identity)) continue;
    world_.suspended = true;
    world_.lease(identity).pause();
    for (std::uint8_t i = 0; i < world_.config.mailbox_disks_of(identity); ++i) {
      if (contains(world_.absent(identity), i)) continue;
      verifier_.verify({identity, i}, hold_of(identity), world_, out);
    }
  }
}

// ---- events ----

void Core::on(const Started&, Output& out) {
  if (started_) return;
  started_ = true;
  world_.monitor.start(out.now());
  world_.watch.restart(out.now());
  out.act(StartEngine{});
  boot_.start(out);
  leftovers_.start(out);
  labels_.soon(out.now());
  read_state_at_ = out.now();
  beat_at_ = out.now();
  status_at_ = out.now();
}

void Core::on(const TimerExpired&, Output&) {
  armed_ = never;
}

void Core::on(const DiskCompleted& event, Output& out) {
  for (auto& lease : world_.leases) {
    if (lease.on_completed(event, out)) return;
  }
  if (labels_.on_completed(event, world_.places)) return;
  if (world_.watch.on_completed(event, out)) {
    world_.monitor.on_heartbeat(world_.watch);
    return;
  }
  for (auto& keeper : world_.keepers) {
    if (keeper.on_completed(event, out)) return route_mailboxes(out);
  }
  // What no machine claims belongs to a step that was left.
  bool claimed = boot_.on_completed(event, out) || leftovers_.on_completed(event, out) ||
                 takeover_.on_completed(event, world_, out) || giveback_.on_completed(event, out) ||
                 verifier_.on_completed(event, out) || returned_.on_completed(event, out) ||
                 world_.dump_watch.on_completed(event, out) ||
                 world_.dump_collector.on_completed(event, out);
  (void)claimed;
}

void Core::route_mailboxes(Output& out) {
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto outcome = world_.keeper(identity).take_outcome();
    if (!outcome) continue;
    switch (outcome->purpose) {
      case Purpose::boot:
        boot_.on_mailbox(*outcome, world_, out);
        break;
      case Purpose::leftovers:
        leftovers_.on_mailbox(*outcome, world_, out);
        break;
      case Purpose::takeover:
        takeover_.on_mailbox(*outcome, world_, out);
        break;
      case Purpose::giveback:
        giveback_.on_mailbox(*outcome, world_, out);
        break;
      case Purpose::durability:
        durability_.on_mailbox(*outcome, identity, world_, out);
        break;
      case Purpose::halt:
        on_halt_marked(*outcome, out);
        break;
      case Purpose::status:
        if (outcome->kind == MailboxKeeper::Outcome::Kind::known && takeover_.idle()) {
          world_.mailbox(identity) = outcome->mailbox;
        }
        break;
    }
  }
}

// A disk of ours that was away may have forgotten us, or be another's. One of the partner's that
// was away may have been left to us.
void Core::on(const DiskConnection& event, Output& out) {
  if (event.disk.identity != NodeId(1) && event.disk.identity != NodeId(2)) return;
  auto& disks = world_.connected[event.disk.identity.value()];
  if (event.disk.index >= disks.size()) return;
  disks[event.disk.index] = event.connected;
  labels_.soon(out.now());
  if (!event.connected) return;
  ++world_.connections;
  if (!started_ || ending_) return;
  auto identity = event.disk.identity;
  if (holds(identity) && !contains(world_.absent(identity), event.disk.index)) {
    verifier_.verify(event.disk, hold_of(identity), world_, out);
  }
  if (identity == world_.partner()) partner_disk_came_ = true;
}

void Core::on(const DiskAttention& event, Output& out) {
  auto identity = event.disk.identity;
  if (identity != NodeId(1) && identity != NodeId(2)) return;
  if (event.disk.index >= world_.config.disks(identity) || !holds(identity) || ending_) return;
  if (contains(world_.absent(identity), event.disk.index)) return;  // not ours
  switch (event.attention) {
    case ports::Attention::power_on_or_reset:
    case ports::Attention::reservations_preempted:
    case ports::Attention::reservations_released:
    case ports::Attention::registrations_preempted:
      verifier_.verify(event.disk, hold_of(identity), world_, out);
      break;
    case ports::Attention::capacity_changed:
    case ports::Attention::other:
      break;
  }
}

void Core::on(const LinkChanged& event, Output& out) {
  world_.link = event.state;
  mirror_.on_link(event.state == ports::LinkState::ready);
  if (event.state == ports::LinkState::ready) read_state_at_ = out.now();
}

void Core::on(const PartnerStateRead& event, Output& out) {
  reading_state_ = false;
  world_.monitor.on_state_read(event.bytes, out.now());
}

void Core::on(const EngineReady& event, Output& out) {
  ++world_.progress;
  world_.engine = event;
  out.log(Severity::info, "engine.ready", event.persistent ? "NVRAM persistent" : "NVRAM volatile");
}

void Core::on(const EngineEnded& event, Output& out) {
  world_.engine.reset();
  if (ending_) {
    if (!ending_->engine_ended) {
      ending_->engine_ended = true;
      ending_->until = out.now() + farewell;
      if (ending_->shown == NodeState::halted) {
        world_.send(Departed{}, world_.monitor.nonce(), out);
      }
    }
    return;
  }
  // The notice first: it is what ends the clients' pause.
  world_.send(PanicNotice{}, world_.monitor.nonce(), out);
  out.log(Severity::error, "node.panic", "the engine ended: " + event.how);
  begin_ending({.shown = NodeState::panic,
                .why = Reason::engine_panicked,
                .reboot = true,
                .engine_ended = true,
                .dumped = event.dumped,
                .text = "engine panic: " + event.how},
               false, out);
}

void Core::on(const DumpChanged& event, Output&) {
  if (!ending_ || !ending_->dumped) return;
  ++world_.progress;
  if (event.over) {
    ending_->dumped = false;
  } else {
    ending_->shown = NodeState::dumping;
  }
}

void Core::on(const MirrorWindowClosed&, Output& out) {
  if (ending_) return;
  mirror_.on_closed();
  takeover_.on_window_closed(world_, out);
}

void Core::on(const LogChecked& event, Output& out) {
  if (!ending_ && event.identity == world_.partner()) takeover_.on_log_checked(event, world_, out);
}

void Core::on(const IdentityAssumed& event, Output& out) {
  if (ending_) return;
  if (event.identity == world_.self()) {
    world_.replayed[event.identity.value()] = event.replayed;
    boot_.on_assumed(world_, out);
  } else if (event.identity == world_.partner()) {
    world_.replayed[event.identity.value()] = event.replayed;
    bool served_before = takeover_.serving();
    takeover_.on_assumed(world_, out);
    if (!served_before && takeover_.serving()) {
      auto trigger = takeover_.partner_unwell() ? Reason::partner_unwell : takeover_.trigger();
      giveback_.automatic().on_takeover(trigger, takeover_.cause(), out.now());
    }
  }
}

void Core::on(const AssumeFailed& event, Output& out) {
  if (ending_) return;
  if (event.identity == world_.self()) {
    boot_.on_assume_failed(event.why, world_, out);
  } else if (event.identity == world_.partner()) {
    takeover_.on_assume_failed(event.why, world_, out);
  }
}

void Core::on(const IdentityReleased& event, Output& out) {
  if (ending_ || event.identity != world_.partner()) return;
  durability_.forget(event.identity);
  giveback_.on_released(world_, takeover_, out);
}

void Core::on(const ReleaseFailed& event, Output& out) {
  if (ending_ || event.identity != world_.partner()) return;
  giveback_.on_release_failed(event.why, world_, out);
}

void Core::on(const IdentityPrepared& event, Output& out) {
  if (!ending_ && event.identity == world_.partner()) takeover_.on_prepared(event, world_, out);
}

void Core::on(const IdentityHandedOver& event, Output& out) {
  if (ending_ || event.identity != world_.self()) return;
  departure_.on_handed_over(event.stored, world_, out);
}

void Core::on(const HandOverFailed& event, Output& out) {
  if (ending_ || event.identity != world_.self()) return;
  departure_.on_hand_over_failed(event.why, world_, out);
}

void Core::on(const DurabilityWanted& event, Output&) {
  if (event.identity != NodeId(1) && event.identity != NodeId(2)) return;
  if (!ending_ && holds(event.identity)) durability_.on_wanted(event);
}

void Core::on(const EngineFenced& event, Output&) {
  if (event.identity != NodeId(1) && event.identity != NodeId(2)) return;
  if (!ending_ && holds(event.identity)) {
    MARK(core_engine_fenced);
    world_.fenced = "the engine met a reservation conflict on identity " +
                    std::to_string(event.identity.value());
  }
}

void Core::on(const DiskNeeded& event, Output&) {
  if (!ending_ && event.identity == world_.partner()) world_.dump_watch.needed(event.disk);
}

void Core::on(const FreeSpares& event, Output&) {
  free_spares_ = event.disks;
}

void Core::on(const DumpCollection& event, Output& out) {
  if (!ending_) world_.dump_collector.on_collection(event, out.now());
}

// ---- what follows ----

bool Core::holds(NodeId identity) const {
  if (identity == world_.self()) return boot_.holding();
  return takeover_.holding() && !giveback_.letting_go();
}
std::array<bool, 3> Core::held() const {
  return {false, holds(NodeId(1)), holds(NodeId(2))};
}

std::array<bool, 3> Core::served() const {
  std::array<bool, 3> served{};
  served[world_.self().value()] = boot_.up();
  served[world_.partner().value()] = takeover_.serving() && !giveback_.letting_go();
  return served;
}

// While we take over, or serve, the partner's identity its heartbeats mean nothing.
bool Core::listening() const {
  return !takeover_.against_partner() || giveback_.letting_go();
}

HoldVerifier::Hold Core::hold_of(NodeId identity) const {
  return {hold_type(identity),
          identity == world_.partner() && takeover_.serving() && !giveback_.letting_go()};
}

// A registration that the partner sent before it was fenced may arrive after: its path may be slow.
void Core::look_for_late_keys(Output& out) {
  auto identity = world_.partner();
  if (!hold_of(identity).alone) {
    late_keys_at_ = never;
    return;
  }
  if (late_keys_at_ > out.now()) {
    late_keys_at_ = std::min(late_keys_at_, out.now() + late_key_look);
    return;
  }
  late_keys_at_ = out.now() + late_key_look;
  for (std::uint8_t i = 0; i < world_.config.disks(identity); ++i) {
    DiskRef disk{identity, i};
    if (!world_.connected[identity.value()][i] || contains(world_.absent(identity), i) ||
        verifier_.verifying(disk)) {
      continue;
    }
    verifier_.verify(disk, hold_of(identity), world_, out);
  }
}

ReservationType Core::hold_type(NodeId identity) const {
  bool exclusive = identity == world_.partner() && giveback_.idle();
  return exclusive ? ReservationType::exclusive_access_registrants_only
                   : ReservationType::write_exclusive_registrants_only;
}

// While the partner's identity is being given back its disks are left as they are.
void Core::fence_returned(Output& out) {
  std::array<std::optional<FenceMode>, 3> modes;
  std::array<ReservationType, 3> types{};
  for (auto identity : {NodeId(1), NodeId(2)}) {
    bool own = identity == world_.self();
    types[identity.value()] = hold_type(identity);
    if (world_.suspended || !holds(identity) || (!own && !giveback_.idle())) continue;
    modes[identity.value()] = own ? FenceMode::claim : FenceMode::fence;
  }
  returned_.advance(world_, modes, types, out);
}

void Core::look_after_dumps(Output& out) {
  bool ours = !world_.suspended && holds(world_.partner()) && giveback_.idle();
  world_.dump_watch.advance(world_, ours, out);
  auto serves = served();
  if (giveback_.giving()) serves[world_.partner().value()] = false;
  world_.dump_collector.advance(world_, serves, out);
}

void Core::settle(Output& out) {
  if (ending_) return settle_ending(out);
  for (int round = 0; settle_once(out); ++round) {
    ASSERT(round < max_settle_rounds);
    if (ended_ || ending_) return;
  }
}

bool Core::settle_once(Output& out) {
  for (auto identity : {NodeId(1), NodeId(2)}) {
    auto& lease = world_.lease(identity);
    lease.on_time(out);
    if (lease.conflict() && holds(identity) && !world_.fenced) {
      MARK(core_heartbeat_conflict);
      world_.fenced =
          "a reservation keeps our heartbeats out of identity " + std::to_string(identity.value());
    }
  }
  if (listening()) world_.watch.on_time(out);
  look_for_late_keys(out);
  verifier_.advance(world_, held(), out);
  labels_.on_time(world_.connected, world_.places, out);
  look_after_dumps(out);
  fence_returned(out);
  if (world_.suspended && verifier_.idle() && !world_.fenced) {
    MARK(core_suspension_over);
    world_.suspended = false;
    for (auto& lease : world_.leases) lease.resume();
  }
  if (partner_disk_came_ && takeover_.idle() && leftovers_.done()) {
    partner_disk_came_ = false;
    leftovers_.start(out);
  }
  read_partner(out);
  consider_going(out);
  bool changed = boot_.advance(world_, out) || leftovers_.advance(world_, out) ||
                 (!world_.suspended && takeover_.advance(world_, out)) ||
                 (!world_.suspended &&
                  giveback_.advance(world_, takeover_, giveback_vetoed(out.now()), out)) ||
                 departure_.advance(world_, out) || settle_halting(out) ||
                 durability_.advance(world_, served(), out);
  if (!world_.fenced) changed = changed || trigger_takeover(out);
  mirror_.advance(world_, !takeover_.against_partner(), out);
  if (world_.fenced) {
    end_fenced(out);
    return false;
  }
  if (departure_.leaving()) {
    leave(out);
    return false;
  }
  return changed;
}

void Core::read_partner_state(Output& out) {
  if (read_state_at_ > out.now()) return;
  read_state_at_ = out.now() + world_.config.timers.state_read;
  if (reading_state_) return;
  reading_state_ = true;
  out.act(ReadPartnerState{});
}

void Core::read_partner(Output& out) {
  read_partner_state(out);
  if (status_at_ <= out.now()) {
    status_at_ = out.now() + status_interval;
    auto& keeper = world_.keeper(world_.partner());
    if (boot_.up() && takeover_.idle() && leftovers_.done() && keeper.idle()) {
      keeper.read(Purpose::status, out);
    }
  }
}

NodeState Core::state() const {
  if (ending_) return ending_->engine_ended ? ending_->shown : last_state_;
  if (!boot_.up()) return boot_.shown();
  if (departure_.departing()) return NodeState::shutting_down;
  if (giveback_.giving()) return NodeState::giving_back;
  return takeover_.holding() ? NodeState::taken_over_partner : NodeState::up;
}

Reason Core::reason() const {
  if (ending_) return ending_->why;
  if (!boot_.up()) return boot_.reason();
  return takeover_.holding() ? takeover_.trigger() : Reason::none;
}

void Core::publish(Output& out) {
  if (beat_at_ <= out.now()) {
    beat_at_ = out.now() + world_.config.timers.heartbeat;
    ++heartbeat_;
  }
  auto now_state = state();
  if (now_state != last_state_) {
    last_state_ = now_state;
    ++world_.progress;
  }
  const auto& own = world_.mailbox(world_.self());
  StateStructure s{.cluster = world_.config.cluster,
                   .node = world_.self(),
                   .state = now_state,
                   .reason = static_cast<std::uint8_t>(reason()),
                   .mirror_window_open = mirror_.open(),
                   .nonce = world_.nonce,
                   .boot_epoch = world_.boot_epoch,
                   .progress = world_.progress,
                   .heartbeat = heartbeat_,
                   .own_epoch = boot_.holding() ? world_.boot_epoch
                                : own           ? own->epoch
                                                : Epoch(0),
                   .partner_epoch = takeover_.epoch(),
                   .seen_partner = world_.monitor.watched(),
                   .free_spares = free_spares_};
  if (published_ == s) return;
  published_ = s;
  out.act(PublishState{s});
}

void Core::arm_timer(Output& out) {
  Instant next =
      std::min({read_state_at_, beat_at_, status_at_, late_keys_at_, boot_.next_time(),
                leftovers_.next_time(), takeover_.next_time(), giveback_.next_time(out.now()),
                departure_.next_time(), durability_.next_time(), verifier_.next_time(),
                labels_.next_time(), returned_.next_time(), world_.dump_watch.next_time(),
                world_.dump_collector.next_time(), mirror_.next_time(), health_.next_time(),
                halting_ ? halting_->retry : never, unwell_since_ ? go_at_ : never});
  for (const auto& lease : world_.leases) next = std::min(next, lease.next_time());
  if (listening()) next = std::min(next, world_.watch.next_time());
  if (takeover_.idle() && takeover_.retry_at() > out.now()) {
    next = std::min(next, takeover_.retry_at());
  }
  if (ending_) next = std::min(beat_at_, ending_->dumped ? read_state_at_ : ending_->until);
  // What is due and did not happen waits for something else: look again soon, but do not spin.
  if (next <= out.now()) next = out.now() + keeper_retry;
  if (next == armed_) return;
  armed_ = next;
  out.act(SetTimer{timer, next});
}

}  // namespace duet::ha
