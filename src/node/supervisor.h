// The supervisor of a node: turns the actions of the HA core into I/O and its outcomes into events.
// It decides nothing: what has to be decided is in ha/. One object for the life of the daemon; a
// "reboot" of the node is a new HA core with a new boot nonce, and a new engine process.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ha/core.h"
#include "node/config.h"
#include "node/engine_channel.h"
#include "node/engine_watchdog.h"
#include "node/event_log.h"
#include "node/health_monitor.h"
#include "node/panic_dump.h"
#include "node/service_addresses.h"
#include "node/test_panic.h"
#include "ports/disk.h"
#include "ports/engine_process.h"
#include "ports/interconnect.h"
#include "ports/scheduler.h"

namespace duet::node {

class Supervisor {
 public:
  struct Ports {
    ports::Scheduler& scheduler;
    ports::Interconnect& interconnect;
    ports::EngineProcess& engine;
    // By home node, in the order of the configuration's LUNs.
    std::array<std::vector<ports::Disk*>, 3> disks;
    BootNonce first_nonce;                        // under which the interconnect was opened
    std::function<BootNonce()> new_nonce;         // random, never 0
    std::function<std::int64_t()> wall_clock_ns;  // since 1970, for people only
    std::function<void(const admin::EventItem&)> log;
    std::function<MemoryFacts()> memory{};  // none: not known
    ports::Addresses* addresses = nullptr;  // null: service addresses are not managed
  };
  Supervisor(const Config& config, Ports ports);
  ~Supervisor();

  void start();
  // Called once when the operator has halted the node: the daemon ends.
  void on_halted(std::function<void()> callback) { on_halted_ = std::move(callback); }

  // ---- for the control socket (node/control_service.h) ----
  using LunDone = std::function<void(const LunAnswer&)>;
  using PoolDone = std::function<void(const PoolAnswer&)>;
  using CoreDone = std::function<void(const CoreAnswer&)>;
  using OperatorDone = std::function<void(ha::OperatorAnswer)>;  // `accepted` first, then the end
  // `request.request` is filled in.
  void operate(ha::OperatorRequest request, OperatorDone done);
  // `request` is filled in. Fails when the engine does not answer in time, or too many wait.
  template <class Order, class Done>
  void ask_engine(Order order, Done done) {
    auto request = ++last_request_;
    order.request = request;
    ask_engine(request, ToEngine(std::move(order)), EngineDone(std::move(done)));
  }
  // For tests: the engine crashes on purpose.
  void panic_engine(PanicKind kind) { to_engine(TestPanicOrder{static_cast<std::uint8_t>(kind)}); }
  const ha::Core& core() const { return *core_; }
  const Config& config() const { return config_; }
  EventLog& events() { return events_; }
  const EngineReport& engine_report() const { return engine_report_; }
  bool nvram_persistent() const { return nvram_persistent_; }
  BootNonce nonce() const { return nonce_; }
  const ServiceAddresses& addresses() const { return addresses_; }
  // Health records that our NVRAM held when the engine of this boot started.
  const HealthKeptFact& kept_health() const { return kept_health_; }
  const std::string& link_why() const { return link_why_; }
  Ports& ports() { return ports_; }
  void note(ha::Severity severity, std::string phase, std::string text);
  // The node's own disks that a panic would be dumped to, as far as is known now.
  std::vector<PanicDump::Disk> dump_disks() const;
  // Of the dump under way, if any.
  std::optional<PanicDump::Progress> dump_progress() const;

  static constexpr std::size_t max_operator_requests = 16;
  static constexpr std::size_t max_engine_requests = 64;
  static constexpr Duration engine_answer_limit = seconds(10);
  static constexpr Duration interrupt_limit = milliseconds(200);

 private:
  void boot();
  void end_boot(const ha::EndBoot& order);
  void feed(ha::Event event);
  void run_queue();
  ports::Disk* disk(ha::DiskRef ref);
  void attach_disks();
  void announce_clients(std::uint16_t mirror_port);
  void greet(const ports::Partner& partner);
  // A callback that feeds an event only if the boot it was made in still runs.
  template <class F>
  auto in_this_boot(F f) {
    return [this, boot = boot_, f = std::move(f)](auto&&... arguments) mutable {
      if (boot == boot_) f(std::forward<decltype(arguments)>(arguments)...);
    };
  }

  void perform(ha::PublishState& action);
  void perform(ha::SetTimer& action);
  void perform(ha::CancelTimer& action);
  void perform(ha::DiskCommand& action);
  void perform(ha::ReadPartnerState& action);
  void perform(ha::SendMessage& action);
  void perform(ha::RenewLease& action);
  void perform(ha::StartEngine& action);
  void perform(ha::StopEngine& action);
  void perform(ha::StopDump& action);
  void perform(ha::DialMirror& action);
  void perform(ha::HangUpMirror& action);
  void perform(ha::OpenMirrorWindow& action);
  void perform(ha::CloseMirrorWindow& action);
  void perform(ha::CheckLog& action);
  void perform(ha::AssumeIdentity& action);
  void perform(ha::DiskReturned& action);
  void perform(ha::CollectDump& action);
  void perform(ha::CancelCollect& action);
  void perform(ha::ReleaseIdentity& action);
  void perform(ha::PrepareIdentity& action);
  void perform(ha::DropPrepared& action);
  void perform(ha::HandOverIdentity& action);
  void perform(ha::CancelHandOver& action);
  void perform(ha::GrantDurability& action);
  void perform(ha::PartnerFenced& action);
  void perform(ha::KeepHealthRecords& action);
  void perform(ha::OperatorAnswer& action);
  void perform(ha::LogEvent& action);
  void perform(ha::EndBoot& action);

  void to_engine(const ToEngine& message) { ports_.engine.send(archive(message)); }
  using EngineDone = std::variant<LunDone, PoolDone, CoreDone>;
  void ask_engine(std::uint64_t request, ToEngine message, EngineDone done);
  static void refuse(const EngineDone& done, std::uint64_t request, const std::string& why);
  template <class Answer>
  void engine_answered(const Answer& answer);
  void engine_said(Bytes bytes);
  void engine_fact(HealthKeptFact& fact) { kept_health_ = std::move(fact); }
  void engine_fact(ReadyFact& fact);
  void engine_fact(LunAnswer& fact);
  void engine_fact(PoolAnswer& fact);
  void engine_fact(CoreAnswer& fact);
  void engine_fact(AssumedFact& fact);
  void engine_fact(ReleasedFact& fact);
  void engine_fact(HandedOverFact& fact);
  void engine_fact(EngineReport& fact);
  void engine_fact(LogFact& fact);
  void engine_fact(FreeSparesFact& fact);
  template <class Fact>
  void engine_fact(Fact& fact);
  void engine_ended(const std::string& how);
  void watch_engine();
  // supervisor_panic.cc
  void engine_panicked(const ports::EnginePanic& panic);
  void engine_hangs(const std::string& how);
  std::optional<std::string> why_no_dump();
  bool may_dump(const std::string& how);
  bool boot_is_ending() const;
  void begin_panic(const std::string& how, bool dumped);
  void begin_dump();
  void dump_over(const PanicDump::Outcome& outcome);
  void panicked_engine_ended();
  void note_label(ha::DiskRef ref, std::uint64_t offset, Bytes block);
  // supervisor_health.cc
  void watch_health();
  void look_at_health();
  HealthFacts health_facts(Instant now);
  void track(ha::DiskRef ref, Instant started, const Result<ha::DiskReply>& reply);
  void note_health(const ha::HealthRecord& before, const ha::HealthRecord& after);
  void drop_engine_requests(const std::string& why);
  void drop_leases();

  const Config config_;
  Ports ports_;
  std::unique_ptr<ha::Core> core_;
  BootNonce nonce_;
  std::uint64_t boot_ = 0;  // counts boots, so that late completions are told apart
  std::vector<ha::Event> queue_;
  bool running_queue_ = false;
  std::unordered_map<std::uint64_t, ports::TimerId> timers_;
  bool between_boots_ = false;
  std::function<void()> on_engine_gone_;  // the next boot waits for it
  bool engine_stop_expected_ = false;
  std::string engine_kill_reason_;
  EngineWatchdog watchdog_;
  // What a panic needs, noted before: of each own disk the label's copies as last read, and how our
  // own identity is served.
  struct PanicState {
    std::vector<std::array<std::vector<std::byte>, disk::label_copies>> labels;
    Epoch epoch;                    // 0: not served in this boot
    ReservationKey holder;          // if served
    std::uint64_t free_spares = 0;  // by index; RAID leaves them to a dump
    bool under_way = false;
    bool announced = false;  // that it is dumped
    std::string how;
    ports::TimerId interrupt_timer{};
    std::unique_ptr<PanicDump> dump;
  };
  PanicState panic_;
  ports::TimerId watchdog_timer_{};
  EngineReport engine_report_;
  struct HealthState {
    std::array<std::vector<DiskTrack>, 3> tracks;  // by home node
    bool engine_ready = false;
    std::uint64_t progress = 0;
    Instant progress_at{};
    std::optional<PartnerFacts> partner;
    MemoryFacts memory;
    Instant memory_at{};
    std::optional<ha::HealthRecord> reported;  // in this boot
    ports::TimerId timer{};
  };
  HealthState health_;
  HealthKeptFact kept_health_;
  bool nvram_persistent_ = false;
  std::string link_why_;
  struct EngineRequest {
    EngineDone done;
    ports::TimerId limit;
  };
  std::unordered_map<std::uint64_t, EngineRequest> engine_requests_;
  std::unordered_map<std::uint64_t, OperatorDone> operator_requests_;
  std::uint64_t last_request_ = 0;
  EventLog events_;
  ServiceAddresses addresses_;
  std::function<void()> on_halted_;
  OperatorDone halted_between_boots_;  // instead of the boot that would follow
};

}  // namespace duet::node
