// One node: a machine with NVRAM, a supervisor process and an engine process, which can be powered,
// killed, stopped and booted.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "admin/control.h"
#include "ha/events.h"
#include "node/engine_channel.h"
#include "node/supervisor.h"
#include "simulator/sim_nvram.h"
#include "simulator/sim_scheduler.h"

namespace duet::simulator {

class World;
class SimAddresses;
class SimDisk;
struct DumpedMemory;  // sim_core_source.h
class SimEngineProcess;
class SimInterconnect;

class SimNode {
 public:
  SimNode(World& world, NodeId self, bool persistent_nvram, std::uint64_t seed);
  ~SimNode();

  NodeId self() const { return self_; }
  const std::string& name() const;

  // ---- what checkers see ----
  bool powered() const { return powered_; }
  // Null: the daemon does not run (power off, booting, halted).
  const node::Supervisor* supervisor() const { return supervisor_.get(); }
  bool engine_running() const;
  bool engine_stands_still() const;  // it has crashed, and is there
  // Its engine has panicked, and its threads are stopped: from here on it may be dumped.
  bool stopped_for_dump() const;
  // As of the engine that runs now.
  struct Served {
    bool serving = false;  // its target listens
    Epoch epoch;           // of the last order to assume
  };
  Served served(NodeId identity) const;
  // Replies for this identity may leave now.
  bool lease_valid(NodeId identity) const;
  // The state structure as the partner would read it now; empty: none.
  Bytes published_state() const;
  SimNvram& nvram() { return nvram_; }
  bool halted() const { return halted_; }
  bool daemon_running() const { return supervisor_ != nullptr; }
  // What it is told now it hears much later.
  bool standing_still() const { return process_ != nullptr && process_->paused(); }
  // Both run as they should.
  bool awake() const;
  SimInterconnect* interconnect() { return interconnect_.get(); }

  // ---- what faults and operators do ----
  void power_on();               // boots after a while
  void power_off();              // everything at once
  void keep_off(Instant until);  // no daemon starts before
  void kill_supervisor();        // and the engine with it; both start again after a while
  // `tells`: it crashes, and is there to be dumped; else it is gone.
  void kill_engine(const std::string& how, bool tells = false);
  void pause(Instant until);  // the whole machine
  void pause_engine(Instant until);
  void pause_supervisor(Instant until);
  void starve(Instant until, Duration most);
  void heal();
  // A message that the supervisor has had before arrives once more.
  void repeat_message(std::uint64_t which);
  // Until then the partner reads the state that this node shows now.
  void freeze_state(Instant until);
  // Its engine takes its lease for valid until then.
  void falsify_lease(NodeId identity, Instant until);
  // Starts a halted node again.
  void start_again();
  // From now on an operator starts it again whenever it has halted.
  void keep_running() { keep_running_ = true; }
  // Refused at once when no daemon runs.
  void operate(ha::OperatorRequest request, node::Supervisor::OperatorDone done);
  // Like `duet core`.
  void ask_cores(admin::CoreOrder order, node::Supervisor::CoreDone done);
  // Like `duet lun create`.
  void create_lun(NodeId identity, const std::string& name, std::uint64_t size,
                  node::Supervisor::LunDone done);
  // Called when its memory is dumped.
  std::function<void(const std::shared_ptr<DumpedMemory>&)> on_dump;
  Duration wall_clock_step{};  // what this node's wall clock is wrong by

 private:
  void boot();
  void boot_soon(Duration delay);
  void kill_supervisor_after_panic();
  void end_daemon(bool announce);
  BootNonce new_nonce();

  World& world_;
  NodeId self_;
  SimNvram nvram_;
  bool powered_ = false;
  bool halted_ = false;
  bool keep_running_ = false;
  Instant off_until_{};
  std::uint64_t starts_ = 0;
  std::unique_ptr<Process> process_;  // the supervisor
  std::unique_ptr<SimEngineProcess> engine_;
  std::unique_ptr<SimInterconnect> interconnect_;
  std::unique_ptr<SimAddresses> addresses_;
  std::vector<std::unique_ptr<SimDisk>> disks_;
  std::unique_ptr<node::Supervisor> supervisor_;
  Random random_;
};

}  // namespace duet::simulator
