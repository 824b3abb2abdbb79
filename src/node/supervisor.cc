#include "node/supervisor.h"

#include <fmt/format.h>

#include <utility>

#include "base/coverage.h"

namespace duet::node {
namespace {

constexpr const char* mirror_client = "nvram-mirror";

std::string_view severity_name(ha::Severity severity) {
  switch (severity) {
    case ha::Severity::info:
      return "info";
    case ha::Severity::notice:
      return "notice";
    case ha::Severity::warning:
      return "warning";
    case ha::Severity::error:
      return "error";
  }
  return "?";
}

// The same fact in the words of the HA core.
ha::Event core_event(const WindowClosedFact&) {
  return ha::MirrorWindowClosed{};
}
ha::Event core_event(const LogCheckedFact& f) {
  return ha::LogChecked{f.identity, f.sound, f.why};
}
ha::Event core_event(const AssumedFact& f) {
  return ha::IdentityAssumed{f.identity, f.replayed};
}
ha::Event core_event(const AssumeFailedFact& f) {
  return ha::AssumeFailed{f.identity, f.why};
}
ha::Event core_event(const ReleasedFact& f) {
  return ha::IdentityReleased{f.identity};
}
ha::Event core_event(const ReleaseFailedFact& f) {
  return ha::ReleaseFailed{f.identity, f.why};
}
ha::Event core_event(const PreparedFact& f) {
  return ha::IdentityPrepared{f.identity, f.prepared, f.why};
}
ha::Event core_event(const HandedOverFact& f) {
  return ha::IdentityHandedOver{f.identity, f.stored};
}
ha::Event core_event(const HandOverFailedFact& f) {
  return ha::HandOverFailed{f.identity, f.why};
}
ha::Event core_event(const DurabilityWantedFact& f) {
  return ha::DurabilityWanted{f.identity, f.mode, f.since};
}
ha::Event core_event(const FencedFact& f) {
  return ha::EngineFenced{f.identity};
}
ha::Event core_event(const DiskNeededFact& f) {
  return ha::DiskNeeded{f.identity, f.disk};
}
ha::Event core_event(const DumpCollectionFact& f) {
  return ha::DumpCollection{{f.identity, f.index}, f.bytes_done, f.bytes_total, f.over};
}

ha::Config core_config(const Config& config) {
  ha::Config c;
  c.self = config.self;
  c.cluster = config.cluster;
  for (std::uint8_t n : {1, 2}) {
    c.shelves[n].disks = static_cast<std::uint8_t>(config.shelves[n].luns.size());
  }
  c.timers.state_read = config.timers.state_read;
  c.timers.heartbeat = config.timers.heartbeat;
  c.timers.interconnect_silence = config.timers.interconnect_silence;
  c.timers.mailbox_silence = config.timers.mailbox_silence;
  c.timers.cold_start_wait = config.timers.cold_start_wait;
  // Both nodes are configured alike; a shorter limit in the header counts.
  c.dump_limits.own_limit = config.dump_limit;
  c.auto_giveback = config.auto_giveback;
  c.auto_giveback_rules.delay = config.auto_giveback_delay;
  c.auto_giveback_rules.attempts = static_cast<std::uint32_t>(config.auto_giveback_attempts);
  c.auto_giveback_rules.takeovers = static_cast<std::uint32_t>(config.auto_giveback_takeovers);
  c.auto_giveback_rules.window = config.auto_giveback_window;
  c.auto_giveback_rules.after_order = config.auto_giveback_after_order;
  return c;
}

}  // namespace

Supervisor::Supervisor(const Config& config, Ports ports)
    : config_(config),
      ports_(std::move(ports)),
      watchdog_(config.progress_limit),
      addresses_(config_, ports_.scheduler, ports_.addresses,
                 {[this](ha::Severity severity, std::string phase, std::string text) {
                    note(severity, std::move(phase), std::move(text));
                  },
                  [this](std::vector<std::byte> message) {
                    ports_.interconnect.send(std::move(message), [](Result<void>) {});
                  }}) {}

Supervisor::~Supervisor() = default;

void Supervisor::start() {
  ports_.engine.on_message([this](Bytes bytes) { engine_said(bytes); });
  ports_.engine.on_ended([this](const std::string& how) { engine_ended(how); });
  ports_.engine.on_panic([this](const ports::EnginePanic& panic) { engine_panicked(panic); });
  ports_.interconnect.on_state([this](ports::LinkState state, const std::string& why) {
    link_why_ = why;
    feed(ha::LinkChanged{state});
  });
  ports_.interconnect.on_message([this](Bytes message) {
    if (addresses_.on_message(message)) return;
    feed(ha::MessageArrived{std::vector<std::byte>(message.begin(), message.end())});
  });
  ports_.interconnect.on_partner([this](const ports::Partner& partner) { greet(partner); });
  addresses_.start();
  announce_clients(0);
  attach_disks();
  for (std::uint8_t n : {1, 2}) health_.tracks[n].resize(ports_.disks[n].size());
  watch_engine();
  boot();
  watch_health();
}

// The connection clients of this node: the HA core's messages, and the engine's NVRAM mirror.
void Supervisor::announce_clients(std::uint16_t mirror_port) {
  ports_.interconnect.announce_clients({{"ha", 1, interconnect::state_structure_size, 0},
                                        {mirror_client, 1, config_.nvram_size, mirror_port}});
}

void Supervisor::greet(const ports::Partner& partner) {
  health_.partner = PartnerFacts{partner.software, 0};
  addresses_.on_partner();
  for (const auto& client : partner.clients) {
    if (client.name != mirror_client) continue;
    health_.partner->nvram_size = client.memory;
    if (client.memory == config_.nvram_size) continue;
    note(ha::Severity::error, "mirror.size",
         fmt::format(
             "the partner's NVRAM has {} bytes, ours {}: nothing can be mirrored; make nvram.size "
             "the same on both nodes",
             client.memory, config_.nvram_size));
  }
}

void Supervisor::attach_disks() {
  for (std::uint8_t identity : {1, 2}) {
    for (std::size_t i = 0; i < ports_.disks[identity].size(); ++i) {
      ha::DiskRef ref{NodeId(identity), static_cast<std::uint8_t>(i)};
      ports_.disks[identity][i]->on_connection(
          [this, ref](bool connected) { feed(ha::DiskConnection{ref, connected}); });
      ports_.disks[identity][i]->on_attention(
          [this, ref](ports::Attention attention) { feed(ha::DiskAttention{ref, attention}); });
    }
  }
}

void Supervisor::boot() {
  ++boot_;
  nonce_ = boot_ == 1 ? ports_.first_nonce : ports_.new_nonce();
  between_boots_ = false;
  queue_.clear();
  engine_stop_expected_ = false;
  panic_ = {};
  engine_report_ = {};
  health_.engine_ready = false;
  health_.reported.reset();
  drop_leases();
  auto configuration = core_config(config_);
  if (core_) configuration.past_takeovers = core_->snapshot(ports_.scheduler.now()).takeovers;
  core_ = std::make_unique<ha::Core>(configuration, nonce_);
  if (nonce_ != ports_.first_nonce) ports_.interconnect.restart(nonce_);
  feed(ha::Started{});
  for (std::uint8_t identity : {1, 2}) {
    for (std::size_t i = 0; i < ports_.disks[identity].size(); ++i) {
      if (ports_.disks[identity][i]->connected()) {
        feed(ha::DiskConnection{{NodeId(identity), static_cast<std::uint8_t>(i)}, true});
      }
    }
  }
  feed(ha::LinkChanged{ports_.interconnect.state()});
}

// Events that come while actions are performed wait for their turn: actions are performed in order.
void Supervisor::feed(ha::Event event) {
  queue_.push_back(std::move(event));
  if (!running_queue_) run_queue();
}

void Supervisor::run_queue() {
  running_queue_ = true;
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    ha::Actions actions;
    ha::Event event = std::move(queue_[i]);
    core_->on_event(event, ports_.scheduler.now(), actions);
    auto boot = boot_;
    for (auto& action : actions) std::visit([this](auto& a) { perform(a); }, action);
    if (boot != boot_) break;  // a new boot has a new core and an empty queue
  }
  queue_.clear();
  running_queue_ = false;
}

ports::Disk* Supervisor::disk(ha::DiskRef ref) {
  ASSERT(ref.index < ports_.disks[ref.identity.value()].size());
  return ports_.disks[ref.identity.value()][ref.index];
}

// ---- actions ----

void Supervisor::perform(ha::PublishState& action) {
  ports_.interconnect.publish_state(interconnect::encode(action.structure));
}

void Supervisor::perform(ha::SetTimer& action) {
  auto& timer = timers_[action.timer];
  ports_.scheduler.cancel(timer);
  timer = ports_.scheduler.at(action.when, in_this_boot([this, number = action.timer] {
                                timers_.erase(number);
                                feed(ha::TimerExpired{number});
                              }));
}

void Supervisor::perform(ha::CancelTimer& action) {
  auto it = timers_.find(action.timer);
  if (it == timers_.end()) return;
  ports_.scheduler.cancel(it->second);
  timers_.erase(it);
}

void Supervisor::perform(ha::DiskCommand& action) {
  auto* d = disk(action.disk);
  auto done = [this, command = action.command, ref = action.disk,
               started = ports_.scheduler.now()](Result<ha::DiskReply> reply) {
    track(ref, started, reply);
    feed(ha::DiskCompleted{command, std::move(reply)});
  };
  auto plain = [&]() -> ports::Done<void> {
    return in_this_boot([done](Result<void> r) mutable {
      done(r ? Result<ha::DiskReply>(ha::DiskReply()) : std::unexpected(r.error()));
    });
  };
  struct Visitor {
    Supervisor& self;
    ports::Disk* disk;
    ha::DiskRef ref;
    decltype(done)& finish;
    decltype(plain)& plain_done;

    void operator()(ha::ReadBlock& op) {
      auto block = std::make_shared<std::vector<std::byte>>(ha::mailbox_block_size);
      disk->read(op.offset, *block,
                 self.in_this_boot([block, finish = finish, &supervisor = self, ref = ref,
                                    offset = op.offset](Result<void> r) mutable {
                   if (r) supervisor.note_label(ref, offset, *block);
                   finish(r ? Result<ha::DiskReply>(ha::DiskReply(std::move(*block)))
                            : std::unexpected(r.error()));
                 }));
    }
    void operator()(ha::WriteBlock& op) {
      disk->write(op.offset, {copy_to_slice(op.bytes)}, true, plain_done());
    }
    void operator()(ha::ReadKeys&) {
      disk->read_keys(self.in_this_boot([finish = finish](Result<ports::RegisteredKeys> r) mutable {
        finish(r ? Result<ha::DiskReply>(ha::DiskReply(std::move(*r)))
                 : std::unexpected(r.error()));
      }));
    }
    void operator()(ha::ReadReservation&) {
      disk->read_reservation(
          self.in_this_boot([finish = finish](Result<ports::ReservationState> r) mutable {
            finish(r ? Result<ha::DiskReply>(ha::DiskReply(*r)) : std::unexpected(r.error()));
          }));
    }
    void operator()(ha::RegisterKey& op) { disk->register_key(op.key, plain_done()); }
    void operator()(ha::Reserve& op) { disk->reserve(op.key, op.type, plain_done()); }
    void operator()(ha::Preempt& op) {
      disk->preempt(op.key, op.victim, op.type, op.abort, plain_done());
    }
  };
  Visitor visitor{*this, d, action.disk, done, plain};
  std::visit(visitor, action.operation);
}

void Supervisor::perform(ha::ReadPartnerState&) {
  ports_.interconnect.read_partner_state(in_this_boot([this](Result<std::vector<std::byte>> bytes) {
    feed(ha::PartnerStateRead{std::move(bytes)});
  }));
}

void Supervisor::perform(ha::SendMessage& action) {
  // At most once: what the link does not take is lost, and the protocols above know it.
  ports_.interconnect.send(std::move(action.bytes), [](Result<void>) {});
}

void Supervisor::perform(ha::RenewLease& action) {
  ports_.engine.shared().lease_until[action.identity.value()].store(
      action.until.time_since_epoch().count(), std::memory_order_release);
  addresses_.on_lease(action.identity, action.until);
}

void Supervisor::perform(ha::StartEngine&) {
  engine_stop_expected_ = false;
  engine_kill_reason_.clear();
  if (auto started = ports_.engine.start(nonce_); !started) {
    ports_.scheduler.post(
        in_this_boot([this, why = started.error().message] { feed(ha::EngineEnded{false, why}); }));
    return;
  }
  watchdog_.started(ports_.scheduler.now());
}

void Supervisor::perform(ha::StopEngine&) {
  engine_stop_expected_ = true;
  addresses_.withdraw_all();
  if (ports_.engine.running()) {
    ports_.engine.kill();
  } else {
    ports_.scheduler.post(in_this_boot([this] { feed(ha::EngineEnded{true, "was not running"}); }));
  }
}

void Supervisor::perform(ha::DialMirror& a) {
  to_engine(DialMirrorOrder{a.port, a.partner_nonce});
}
void Supervisor::perform(ha::HangUpMirror&) {
  to_engine(HangUpMirrorOrder{});
}
void Supervisor::perform(ha::OpenMirrorWindow& a) {
  to_engine(OpenWindowOrder{a.identity, a.partner_nonce});
}
void Supervisor::perform(ha::CloseMirrorWindow&) {
  to_engine(CloseWindowOrder{});
}
void Supervisor::perform(ha::CheckLog& a) {
  to_engine(CheckLogOrder{a.identity, a.durability, a.log_epoch, a.since, a.own_log});
}
void Supervisor::perform(ha::AssumeIdentity& a) {
  if (a.identity == config_.self) panic_.epoch = a.epoch, panic_.holder = a.holder;
  to_engine(AssumeOrder{a.identity, a.epoch, a.replay, a.log_epoch, a.durability, a.since,
                        a.own_log, a.key, a.holder, a.absent});
}
void Supervisor::perform(ha::DiskReturned& a) {
  to_engine(DiskReturnedNote{a.disk.identity, a.disk.index});
}
void Supervisor::perform(ha::CollectDump& a) {
  to_engine(CollectDumpOrder{a.disk.identity, a.disk.index});
}
void Supervisor::perform(ha::CancelCollect& a) {
  to_engine(CancelCollectOrder{a.disk.identity, a.disk.index});
}
void Supervisor::perform(ha::ReleaseIdentity& a) {
  to_engine(ReleaseOrder{a.identity});
}
void Supervisor::perform(ha::PrepareIdentity& a) {
  to_engine(PrepareOrder{a.identity});
}
void Supervisor::perform(ha::DropPrepared& a) {
  to_engine(DropPreparedOrder{a.identity});
}
void Supervisor::perform(ha::HandOverIdentity& a) {
  to_engine(HandOverOrder{a.identity});
}
void Supervisor::perform(ha::CancelHandOver& a) {
  to_engine(CancelHandOverOrder{a.identity});
}
void Supervisor::perform(ha::GrantDurability& a) {
  to_engine(GrantOrder{a.identity, a.mode, a.since});
}
void Supervisor::perform(ha::PartnerFenced& a) {
  to_engine(PartnerFencedNote{a.fenced});
}

void Supervisor::perform(ha::KeepHealthRecords& action) {
  to_engine(KeepHealthOrder{std::move(action.own), std::move(action.partner)});
}

void Supervisor::perform(ha::OperatorAnswer& action) {
  auto it = operator_requests_.find(action.request);
  if (it == operator_requests_.end()) return;  // nobody waits any more
  auto done = it->second;
  if (action.outcome != ha::OperatorAnswer::Outcome::accepted) operator_requests_.erase(it);
  done(action);
}

void Supervisor::perform(ha::LogEvent& action) {
  note(action.severity, std::move(action.phase), std::move(action.text));
}

void Supervisor::perform(ha::EndBoot& action) {
  // After the actions of this batch.
  ports_.scheduler.post(in_this_boot([this, order = action] { end_boot(order); }));
}

void Supervisor::end_boot(const ha::EndBoot& order) {
  addresses_.withdraw_all();
  drop_leases();
  for (auto& [number, timer] : timers_) ports_.scheduler.cancel(timer);
  timers_.clear();
  ++boot_;  // what is under way belongs to the past
  between_boots_ = true;
  note(ha::Severity::notice, order.reboot ? "node.reboot" : "node.halted", order.why);
  for (auto& [request, done] : std::exchange(operator_requests_, {})) {
    done({request,
          order.reboot ? ha::OperatorAnswer::Outcome::failed : ha::OperatorAnswer::Outcome::done,
          {order.reboot ? "this node rebooted: " + order.why : order.why}});
  }
  auto go_on = [this, reboot = order.reboot] {
    if (auto halted = std::exchange(halted_between_boots_, nullptr)) {
      halted({0, ha::OperatorAnswer::Outcome::done, {}});
      if (on_halted_) on_halted_();
    } else if (reboot) {
      boot();
    } else if (on_halted_) {
      on_halted_();
    }
  };
  if (!ports_.engine.running()) {
    go_on();
    return;
  }
  // The old engine's sockets and locks must be gone before a new boot looks at anything.
  on_engine_gone_ = go_on;
  ports_.engine.kill();
}

void Supervisor::drop_leases() {
  for (auto& lease : ports_.engine.shared().lease_until) {
    lease.store(0, std::memory_order_release);
  }
}

// ---- engine ----

void Supervisor::engine_said(Bytes bytes) {
  if (panic_.under_way) return;  // the word of the dead
  auto message = unarchive<FromEngine>(bytes);
  if (!message) {
    note(ha::Severity::error, "engine.malformed", "a message of the engine cannot be read");
    MARK(engine_message_malformed);
    ports_.engine.kill();
    return;
  }
  std::visit([this](auto& fact) { engine_fact(fact); }, *message);
}

template <class Fact>
void Supervisor::engine_fact(Fact& fact) {
  feed(core_event(fact));
}

void Supervisor::engine_fact(ReadyFact& fact) {
  nvram_persistent_ = fact.persistent;
  health_.engine_ready = true;
  announce_clients(fact.mirror_port);
  feed(ha::EngineReady{fact.nvram, fact.persistent, fact.mirror_port});
}

// Up last: the engine listens.
void Supervisor::engine_fact(AssumedFact& fact) {
  feed(core_event(fact));
  if (!engine_stop_expected_ && !between_boots_) addresses_.serve(fact.identity);
}

// Down before anybody hears of it.
void Supervisor::engine_fact(ReleasedFact& fact) {
  addresses_.withdraw(fact.identity);
  feed(core_event(fact));
}

void Supervisor::engine_fact(HandedOverFact& fact) {
  addresses_.withdraw(fact.identity);
  feed(core_event(fact));
}

void Supervisor::engine_fact(EngineReport& fact) {
  engine_report_ = std::move(fact);
  for (const auto& each : engine_report_.identities) {
    if (each.serving) addresses_.on_clients(each.identity, each.clients);
  }
}

void Supervisor::engine_fact(LogFact& fact) {
  note(static_cast<ha::Severity>(fact.severity), std::move(fact.phase), std::move(fact.text));
}

// The core publishes it before the engine hears that it may take what is not among them (C9).
void Supervisor::engine_fact(FreeSparesFact& fact) {
  const bool news = std::exchange(panic_.free_spares, fact.disks) != fact.disks;
  feed(ha::FreeSpares{fact.disks});
  to_engine(FreeSparesHeardNote{fact.number});
  if (!news) return;
  std::string names;
  const auto& own = ports_.disks[config_.self.value()];
  for (std::size_t i = 0; i < own.size(); ++i) {
    if ((fact.disks >> i & 1U) != 0) names += (names.empty() ? "" : ", ") + own[i]->name();
  }
  note(ha::Severity::info, "coredump.spares",
       names.empty() ? "no spare is free for a dump" : "free for a dump: " + names);
}

void Supervisor::engine_fact(LunAnswer& fact) {
  engine_answered(fact);
}

void Supervisor::engine_fact(PoolAnswer& fact) {
  engine_answered(fact);
}

void Supervisor::engine_fact(CoreAnswer& fact) {
  engine_answered(fact);
}

template <class Answer>
void Supervisor::engine_answered(const Answer& answer) {
  auto it = engine_requests_.find(answer.request);
  if (it == engine_requests_.end()) return;  // gave up waiting
  auto request = std::move(it->second);
  engine_requests_.erase(it);
  ports_.scheduler.cancel(request.limit);
  const auto* done = std::get_if<std::function<void(const Answer&)>>(&request.done);
  if (done == nullptr) return refuse(request.done, answer.request, "the engine answered nonsense");
  (*done)(answer);
}

void Supervisor::refuse(const EngineDone& done, std::uint64_t request, const std::string& why) {
  if (const auto* luns = std::get_if<LunDone>(&done)) {
    LunAnswer answer;
    answer.request = request;
    answer.why = why;
    return (*luns)(answer);
  }
  if (const auto* cores = std::get_if<CoreDone>(&done)) {
    CoreAnswer answer;
    answer.request = request;
    answer.reply.why = why;
    return (*cores)(answer);
  }
  PoolAnswer answer;
  answer.request = request;
  answer.reply.why = why;
  std::get<PoolDone>(done)(answer);
}

void Supervisor::ask_engine(std::uint64_t request, ToEngine message, EngineDone done) {
  auto give_up = [this, request](const std::string& why) {
    auto node = engine_requests_.extract(request);
    if (node.empty()) return;
    ports_.scheduler.cancel(node.mapped().limit);
    refuse(node.mapped().done, request, why);
  };
  if (engine_requests_.size() >= max_engine_requests) {
    ports_.scheduler.post([done = std::move(done), request] {
      refuse(done, request, "too many questions to the engine are open");
    });
    return;
  }
  const char* look = "`duet pool status` and the lists";
  if (std::holds_alternative<LunDone>(done)) look = "`duet lun list`";
  if (std::holds_alternative<CoreDone>(done)) look = "`duet core list`";
  auto limit = ports_.scheduler.at(ports_.scheduler.now() + engine_answer_limit, [give_up, look] {
    give_up(std::string("the engine does not answer; the change may still happen: see ") + look);
  });
  engine_requests_.emplace(request, EngineRequest{std::move(done), limit});
  if (!ports_.engine.running()) {
    ports_.scheduler.post([give_up] { give_up("the engine of this node does not run"); });
    return;
  }
  to_engine(message);
}

void Supervisor::drop_engine_requests(const std::string& why) {
  for (auto& [number, request] : std::exchange(engine_requests_, {})) {
    ports_.scheduler.cancel(request.limit);
    refuse(request.done, number, why);
  }
}

void Supervisor::engine_ended(const std::string& how) {
  addresses_.withdraw_all();  // clients must not stay on the corpse
  watchdog_.ended();
  engine_report_ = {};
  health_.engine_ready = false;
  drop_engine_requests("the engine ended");
  if (on_engine_gone_) return ports_.scheduler.post(std::exchange(on_engine_gone_, nullptr));
  if (panic_.under_way) return panicked_engine_ended();
  bool expected = std::exchange(engine_stop_expected_, false);
  feed(ha::EngineEnded{expected, engine_kill_reason_.empty() ? how : engine_kill_reason_});
}

void Supervisor::watch_engine() {
  auto now = ports_.scheduler.now();
  auto progress = ports_.engine.shared().engine_progress.load(std::memory_order_relaxed);
  if (watchdog_.stalled(progress, now) && ports_.engine.running()) {
    watchdog_.ended();
    engine_hangs(fmt::format("no progress for {} ms", config_.progress_limit / milliseconds(1)));
  }
  watchdog_timer_ = ports_.scheduler.at(now + watchdog_.interval(), [this] { watch_engine(); });
}

// ---- for people ----

void Supervisor::operate(ha::OperatorRequest request, OperatorDone done) {
  if (operator_requests_.size() >= max_operator_requests) {
    done({0, ha::OperatorAnswer::Outcome::refused, {"too many operator commands under way"}});
    return;
  }
  if (between_boots_ && request.verb == ha::OperatorVerb::halt && request.node == config_.self &&
      !halted_between_boots_) {
    MARK(operator_halted_between_boots);
    done({0, ha::OperatorAnswer::Outcome::accepted, {}});
    halted_between_boots_ = std::move(done);
    return;
  }
  if (between_boots_) {  // nobody would ever answer
    MARK(operator_refused_between_boots);
    done({0, ha::OperatorAnswer::Outcome::refused, {"this node is rebooting"}});
    return;
  }
  request.request = ++last_request_;
  operator_requests_.emplace(request.request, std::move(done));
  feed(std::move(request));
}

void Supervisor::note(ha::Severity severity, std::string phase, std::string text) {
  admin::EventItem event;
  event.boottime_ns = ports_.scheduler.now().time_since_epoch().count();
  event.wall_ns = ports_.wall_clock_ns();
  event.severity = severity_name(severity);
  event.phase = std::move(phase);
  event.text = std::move(text);
  events_.add(event);
  ports_.log(events_.kept().back());
}

}  // namespace duet::node
