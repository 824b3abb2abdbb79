#include "ha/partner_monitor.h"

#include "base/assert.h"
#include "base/coverage.h"

namespace duet::ha {

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::alive:
      return "alive";
    case Verdict::suspect:
      return "suspect";
    case Verdict::absent:
      return "absent";
    case Verdict::dead:
      return "dead";
    case Verdict::gone:
      return "gone";
  }
  return "?";
}

//  says         interconnect  disk             verdict
//  ended        any           any              gone
//  not serving  fresh         any              alive     (nothing to hear on its disks)
//  serving      fresh         fresh            alive
//  serving      fresh         silent, unknown  suspect
//  nothing      fresh         any              suspect   (structure not understood)
//  any          silent        fresh, unknown   suspect
//  any          silent        silent           dead if it has served, else absent
Verdict judge(Says says, Channel interconnect, Channel disk, bool served) {
  if (says == Says::ended) return Verdict::gone;
  if (interconnect == Channel::fresh) {
    switch (says) {
      case Says::not_serving:
        return Verdict::alive;
      case Says::serving:
        return disk == Channel::fresh ? Verdict::alive : Verdict::suspect;
      case Says::nothing:
        return Verdict::suspect;
      case Says::ended:
        break;
    }
    UNREACHABLE();
  }
  if (disk != Channel::silent) return Verdict::suspect;
  return served ? Verdict::dead : Verdict::absent;
}

bool serving_state(NodeState state) {
  return state == NodeState::up || state == NodeState::taken_over_partner ||
         state == NodeState::giving_back || state == NodeState::shutting_down;
}

bool ended_state(NodeState state) {
  return state == NodeState::panic || state == NodeState::dumping || state == NodeState::halted;
}

bool legal_transition(NodeState from, NodeState to) {
  switch (from) {
    case NodeState::booting:
    case NodeState::givewait:
    case NodeState::mbwait:
      return true;  // before it serves, everything lies ahead
    case NodeState::up:
    case NodeState::taken_over_partner:
    case NodeState::giving_back:
    case NodeState::shutting_down:  // until it has left: a departure may be cancelled
      return serving_state(to) || ended_state(to);
    case NodeState::panic:
    case NodeState::dumping:
      return to == NodeState::panic || to == NodeState::dumping || to == NodeState::halted;
    case NodeState::halted:
      return to == NodeState::halted;
  }
  UNREACHABLE();
}

void PartnerMonitor::start(Instant now) {
  last_change_ = now;
  progress_at_ = now;
}

void PartnerMonitor::forgive(Duration gap) {
  last_change_ += gap;
  progress_at_ += gap;
}

void PartnerMonitor::on_state_read(const Result<std::vector<std::byte>>& bytes, Instant now) {
  if (!bytes) {
    reader_.reset();
    return;
  }
  auto read = interconnect::decode_state_structure(*bytes);
  if (!read && read.error().code == ErrorCode::unsupported_version) {
    return on_other_version(*bytes, now);
  }
  bool foreign = read && (read->cluster != config_.cluster || read->node != config_.partner());
  bool backwards = read && last_ && read->nonce == last_->nonce &&
                   (read->progress < last_->progress || read->heartbeat < last_->heartbeat);
  if (!read || foreign || backwards) {
    MARK(partner_structure_invalid);
    ++invalid_;
    reader_.reset();
    // A structure that went backwards is not believed before it agrees with itself again.
    if (backwards) last_ = *read;
    return;
  }
  other_version_.clear();
  bool first = !last_;
  bool reboot = last_ && last_->nonce != read->nonce;
  if (!first &&
      (reboot || read->heartbeat > last_->heartbeat || read->progress > last_->progress)) {
    last_change_ = now;
  }
  if (!first && !reboot && read->progress > last_->progress) progress_at_ = now;
  last_ = *read;
  auto agreed = reader_.observe(read);
  if (!agreed) return;
  if (stable_ && stable_->nonce == agreed->nonce &&
      !legal_transition(stable_->state, agreed->state)) {
    ++illegal_;
    MARK(partner_transition_illegal);
    return;
  }
  stable_ = *agreed;
  if (stable_->nonce == over_ && serving_state(stable_->state)) {
    MARK(partner_fenced_boot_shows_itself);
    return;
  }
  if (serving_state(stable_->state) && stable_->nonce != void_) served_ = stable_->nonce;
}

// A newer or older partner lives, but what it says is not understood: nothing that it said before
// counts any more.
void PartnerMonitor::on_other_version(const std::vector<std::byte>& bytes, Instant now) {
  MARK(partner_of_another_version);
  ++invalid_;
  if (bytes != other_version_) last_change_ = now;
  other_version_ = bytes;
  reader_.reset();
  last_.reset();
  stable_.reset();
}

void PartnerMonitor::forget_served() {
  if (served_ != BootNonce(0)) over_ = served_;
  served_ = panicked_ = departed_ = BootNonce(0);
}

void PartnerMonitor::on_heartbeat(const HeartbeatWatch& watch) {
  if (!watch.last() || watch.last()->nonce == beating_) return;
  beating_ = watch.last()->nonce;
  if (beating_ == served_) return;
  served_ = beating_;
  MARK(partner_heartbeat_of_another_boot);
  if (stable_ && stable_->nonce != beating_) void_ = stable_->nonce;
}

void PartnerMonitor::on_panic_notice(BootNonce sender) {
  panicked_ = sender;
}

Channel PartnerMonitor::interconnect(Instant now) const {
  return now - last_change_ < config_.timers.interconnect_silence ? Channel::fresh
                                                                  : Channel::silent;
}

void PartnerMonitor::on_departed(BootNonce sender) {
  departed_ = sender;
}

bool PartnerMonitor::stopped(BootNonce boot) const {
  if (boot == BootNonce(0)) return false;
  if (panicked_ == boot || departed_ == boot) return true;
  if (!stable_ || stable_->nonce == void_) return false;
  return stable_->nonce != boot || ended_state(stable_->state);
}

bool PartnerMonitor::panicking(BootNonce boot) const {
  if (boot == BootNonce(0) || boot == void_) return false;
  if (stable_ && stable_->nonce == boot && ended_state(stable_->state)) {
    return stable_->state != NodeState::halted;
  }
  return panicked_ == boot && (!stable_ || stable_->nonce == boot);
}

bool PartnerMonitor::gone_on() const {
  auto waits = [](NodeState state) {
    return state == NodeState::givewait || state == NodeState::mbwait;
  };
  if (!last_ || !waits(stable_->state)) return false;
  return last_->nonce != stable_->nonce || !waits(last_->state);
}

bool PartnerMonitor::rebooted() const {
  return served_ != BootNonce(0) && stable_ && stable_->nonce != served_ &&
         stable_->nonce != void_ && !serving_state(stable_->state) && !ended_state(stable_->state);
}

Says PartnerMonitor::says() const {
  for (auto ended : {panicked_, departed_}) {
    if (ended != BootNonce(0) && (ended == served_ || ended == nonce())) return Says::ended;
  }
  if (rebooted()) return Says::ended;
  if (!stable_ || stable_->nonce == void_) return Says::nothing;
  if (ended_state(stable_->state)) return Says::ended;
  if (stable_->state == NodeState::booting &&
      stable_->reason == static_cast<std::uint8_t>(Reason::nvram_lost)) {
    MARK(partner_lost_its_nvram);
    return Says::ended;
  }
  return serving_state(stable_->state) ? Says::serving : Says::not_serving;
}

Verdict PartnerMonitor::verdict(const HeartbeatWatch& watch, Instant now) const {
  return judge(says(), interconnect(now), watch.channel(now), served_ != BootNonce(0));
}

Reason PartnerMonitor::reason(const HeartbeatWatch& watch, Instant now) const {
  switch (verdict(watch, now)) {
    case Verdict::alive:
    case Verdict::suspect:
      return Reason::none;
    case Verdict::absent:
      return Reason::cold_start;
    case Verdict::dead:
      return Reason::partner_silent;
    case Verdict::gone:
      break;
  }
  if (panicked_ != BootNonce(0) && panicked_ != void_) return Reason::partner_panicked;
  if (rebooted()) return Reason::partner_rebooted;
  bool panic = in(NodeState::panic) || in(NodeState::dumping);
  return panic ? Reason::partner_panicked : Reason::partner_shut_down;
}

}  // namespace duet::ha
