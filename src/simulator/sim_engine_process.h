// The engine process of a node: a node::Engine with its own disks, mirror, network and channel,
// started and ended like a child process of the supervisor.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "node/engine.h"
#include "node/engine_channel.h"
#include "ports/engine_process.h"
#include "simulator/sim_core_source.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_mirror.h"
#include "simulator/sim_network.h"
#include "simulator/sim_nvram.h"
#include "simulator/world.h"

namespace duet::simulator {

class SimEngineProcess final : public ports::EngineProcess {
 public:
  SimEngineProcess(World& world, Process& supervisor, SimNvram& nvram, NodeId self);
  ~SimEngineProcess() override;

  // Crashes where it can tell: its sockets and disks are closed, and it stands still until it is
  // killed.
  void crash(const std::string& how);
  // Ends in the middle of whatever it does. `announce`: its kernel lives, and closes its sockets.
  void die(const std::string& how, bool announce);
  // What the last order to assume said, while this engine runs.
  Epoch assumed_epoch(NodeId identity) const { return assumed_[identity.value()]; }
  Process* process() { return run_ ? run_->process.get() : nullptr; }
  // Of one that stands still; else null.
  const SimCoreSource* stands_still() const { return standing_ ? core_.get() : nullptr; }
  // Called with its memory when that is dumped.
  std::function<void(const std::shared_ptr<DumpedMemory>&)> on_dump;

  // ---- ports::EngineProcess ----
  void on_message(std::function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void on_ended(std::function<void(const std::string&)> callback) override {
    on_ended_ = std::move(callback);
  }
  void on_panic(std::function<void(const ports::EnginePanic&)> callback) override {
    on_panic_ = std::move(callback);
  }
  void interrupt() override;
  ports::CoreSource* core() override { return core_.get(); }
  Status start(BootNonce nonce) override;
  bool running() const override { return running_; }
  void kill() override;
  void send(std::vector<std::byte> message) override;
  ports::SharedState& shared() override { return shared_; }
  std::int64_t pid() const override { return running_ ? 1000 + self_.value() : 0; }

 private:
  class Channel;
  // One life of the process.
  struct Run {
    std::uint64_t number = 0;
    BootNonce nonce;
    std::unique_ptr<Process> process;
    std::unique_ptr<NvramView> nvram;
    std::vector<std::unique_ptr<SimDisk>> disks;
    std::unique_ptr<SimMirror> mirror;
    std::unique_ptr<SimNetwork> network;
    std::unique_ptr<Channel> channel;
    std::unique_ptr<node::Engine> engine;
    Instant last_to_engine{}, last_to_supervisor{};
    std::vector<std::vector<std::byte>> early;  // sent before it was ready to read
  };

  void build();
  void end_run(bool announce);
  void stand_still(bool yes);
  void receive(const std::vector<std::byte>& message);
  void note_order(std::vector<std::byte>& message);
  void copy_shared();

  World& world_;
  Process& supervisor_;
  SimNvram& nvram_;
  NodeId self_;
  ports::SharedState shared_{};
  ports::SharedState endless_{};     // sabotage: lease
  std::array<Epoch, 3> replayed_{};  // sabotage: replay_restarted
  bool running_ = false;             // as the supervisor sees it
  std::uint64_t runs_ = 0;
  std::uint64_t killing_ = 0;  // the run that a SIGKILL is on its way to
  std::unique_ptr<Run> run_;
  bool standing_ = false;                // crashed, not killed yet
  std::unique_ptr<SimCoreSource> core_;  // until the supervisor has heard of its end
  std::array<Epoch, 3> assumed_{};
  std::function<void(Bytes)> on_message_;
  std::function<void(const std::string&)> on_ended_;
  std::function<void(const ports::EnginePanic&)> on_panic_;
  // What is on its way to it from outside outlives it: its supervisor may end meanwhile.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
