#include "simulator/sim_engine_process.h"

#include <utility>

#include "disk/reservation_key.h"
#include "nvlog/region.h"
#include "simulator/sim_node.h"

namespace duet::simulator {

namespace {

// fork, exec, opening devices
constexpr Duration start_min = milliseconds(5), start_max = milliseconds(60);
constexpr Duration end_min = std::chrono::microseconds(100), end_max = milliseconds(8);
constexpr Duration channel_max = std::chrono::microseconds(50);

Duration between(Random& random, Duration low, Duration high) {
  return low + Duration(random.below(static_cast<std::uint64_t>((high - low).count()) + 1));
}

}  // namespace

// The engine's end of its socket pair.
class SimEngineProcess::Channel final : public ports::MessageChannel {
 public:
  explicit Channel(SimEngineProcess& owner) : owner_(owner), run_(owner.run_->number) {}

  void send(std::vector<std::byte> message) override {
    auto& owner = owner_;
    if (!owner.run_ || owner.run_->number != run_ || !owner.run_->process->alive()) return;
    auto& last = owner.run_->last_to_supervisor;
    last =
        std::max(last, owner.supervisor_.now() + between(owner.world_.random(), {}, channel_max));
    owner.supervisor_.at(last, [&owner, run = run_, message = std::move(message)] {
      if (owner.runs_ == run && owner.running_ && owner.on_message_) owner.on_message_(message);
    });
  }
  void on_message(std::move_only_function<void(Bytes)> callback) override {
    on_message_ = std::move(callback);
  }
  void on_closed(std::move_only_function<void()>) override {}  // it dies with its supervisor

  void receive(Bytes message) {
    if (on_message_) on_message_(message);
  }

 private:
  SimEngineProcess& owner_;
  std::uint64_t run_;
  std::move_only_function<void(Bytes)> on_message_;
};

SimEngineProcess::SimEngineProcess(World& world, Process& supervisor, SimNvram& nvram, NodeId self)
    : world_(world), supervisor_(supervisor), nvram_(nvram), self_(self) {}

SimEngineProcess::~SimEngineProcess() {
  *alive_ = false;
  die("orphaned", false);
}

Status SimEngineProcess::start(BootNonce nonce) {
  ASSERT(!running_);
  running_ = true;
  assumed_ = {};
  shared_.engine_progress.store(0);
  core_ = std::make_unique<SimCoreSource>(supervisor_, nonce.value());
  core_->on_begin = on_dump;
  run_ = std::make_unique<Run>();
  run_->number = ++runs_;
  run_->nonce = nonce;
  run_->process = std::make_unique<Process>(world_.clock(), world_.random(),
                                            self_ == NodeId(1) ? "red-engine" : "blue-engine");
  run_->process->execute = [this, run = runs_](ports::Task& task) {
    try {
      InNodeProcess here;
      task();
    } catch (const SimulatedPanic& panic) {
      world_.panicked(self_, "engine", panic.what);
      if (run_ && run_->number == run) {
        (void)run_->engine.release();  // what an assertion interrupted is in no state to be ended
        world_.outside().post([this, alive = alive_, run] {
          if (*alive && run_ && run_->number == run) die("signal 6 (Aborted)", true);
        });
      }
    }
  };
  run_->process->at(world_.now() + between(world_.random(), start_min, start_max),
                    [this] { build(); });
  return {};
}

void SimEngineProcess::build() {
  const auto& config = world_.config(self_);
  auto& run = *run_;
  run.nvram = std::make_unique<NvramView>(nvram_);
  auto region = nvlog::open_region(*run.nvram, config.cluster, self_);
  if (!region && region.error().code == ErrorCode::not_found) {
    std::array<std::uint8_t, 16> uuid{};
    for (auto& byte : uuid) byte = static_cast<std::uint8_t>(world_.random().below(256));
    if (nvlog::format_region(*run.nvram, config.cluster, self_, uuid)) {
      region = nvlog::open_region(*run.nvram, config.cluster, self_);
    }
  }
  if (!region) {
    world_.trace(config.name_of(self_), "NVRAM region: " + region.error().message);
    world_.outside().post([this, alive = alive_, number = run.number] {
      if (*alive && run_ && run_->number == number) die("exit 1", true);
    });
    return;
  }
  auto port = static_cast<std::uint16_t>(7000 + run.number * 2 + self_.value());
  run.mirror = std::make_unique<SimMirror>(world_.interconnects(), *run.process, nvram_, self_,
                                           run.nonce, port);
  run.network = std::make_unique<SimNetwork>(world_.clients(), *run.process, self_);
  run.channel = std::make_unique<Channel>(*this);
  bool endless = world_.sabotage().without(Safeguard::lease);
  if (endless) {
    for (auto& lease : endless_.lease_until) lease.store(0);
    copy_shared();
  }
  node::Engine::Ports ports{*run.process,
                            *run.nvram,
                            *run.mirror,
                            *run.network,
                            *run.channel,
                            endless ? endless_ : shared_,
                            {}};
  for (std::uint8_t n : {1, 2}) {
    for (auto& unit : world_.shelf(NodeId(n))) {
      SimDisk::Options options;
      options.node = self_;
      options.role = static_cast<std::uint8_t>(disk::KeyRole::engine);
      options.command_timeout = seconds(5);
      run.disks.push_back(
          std::make_unique<SimDisk>(*run.process, *unit, world_.sabotage(), options));
      run.disks.back()->start();
      ports.disks[n].push_back(run.disks.back().get());
    }
  }
  run.engine = std::make_unique<node::Engine>(config, *region, std::move(ports));
  run.engine->start([] {});
  for (auto& message : std::exchange(run.early, {})) receive(message);
}

void SimEngineProcess::send(std::vector<std::byte> message) {
  if (!running_ || !run_) return;
  note_order(message);
  auto& last = run_->last_to_engine;
  last = std::max(last, world_.now() + between(world_.random(), {}, channel_max));
  run_->process->at(last, [this, message = std::move(message)]() mutable {
    if (run_->engine) {
      receive(message);
    } else {
      run_->early.push_back(std::move(message));
    }
  });
}

void SimEngineProcess::receive(const std::vector<std::byte>& message) {
  run_->channel->receive(message);
}

void SimEngineProcess::note_order(std::vector<std::byte>& message) {
  auto order = unarchive<node::ToEngine>(message);
  if (!order) return;
  auto* assume = std::get_if<node::AssumeOrder>(&*order);
  if (assume == nullptr) return;
  assumed_[assume->identity.value()] = assume->epoch;
  if (world_.sabotage().without(Safeguard::replay_restarted) && assume->replay) {
    auto before = std::exchange(replayed_[assume->identity.value()], assume->log_epoch);
    if (before == assume->log_epoch) assume->replay = false;
    message = archive(*order);
  }
}

// Sabotage: the engine's leases never end, once begun.
void SimEngineProcess::copy_shared() {
  for (std::uint8_t n : {1, 2}) {
    if (shared_.lease_until[n].load() > 0) {
      endless_.lease_until[n].store(Instant::max().time_since_epoch().count());
    }
  }
  shared_.engine_progress.store(endless_.engine_progress.load());
  run_->process->at(world_.now() + milliseconds(20), [this] { copy_shared(); });
}

void SimEngineProcess::kill() {
  if (!running_ || killing_ == runs_ || (!run_ && !standing_)) return;
  killing_ = runs_;
  // A stopped process dies of SIGKILL, too.
  world_.outside().at(world_.now() + between(world_.random(), end_min, end_max),
                      [this, alive = alive_, number = runs_] {
                        if (*alive && runs_ == number) die("signal 9 (Killed)", true);
                      });
}

void SimEngineProcess::crash(const std::string& how) {
  if (!run_ || !on_panic_ || world_.shape().dump_disks == 0) return die(how, true);
  end_run(true);
  stand_still(true);
  supervisor_.at(world_.now() + between(world_.random(), end_min, end_max),
                 [this, how, number = runs_] {
                   if (runs_ == number && standing_) on_panic_({.signal = 6, .how = how});
                 });
}

// One that is stopped may as well hang in its kernel: nothing happens.
void SimEngineProcess::interrupt() {
  if (!run_ || Random(run_->nonce.value()).chance(1, 2)) return;
  crash("signal 6 (Aborted)");
}

void SimEngineProcess::stand_still(bool yes) {
  standing_ = yes;
  world_.sabotage().standing_still[self_.value()] = yes;
}

// What it had open is closed by its kernel, if that lives.
void SimEngineProcess::end_run(bool announce) {
  auto run = std::move(run_);
  if (!run) return;
  run->process->kill();
  if (run->nvram) run->nvram->end();
  if (run->network) world_.clients().process_ended(*run->network, announce);
  if (run->mirror) run->mirror->end(announce);
  for (auto& disk : run->disks) disk->end(announce);
  run->engine.reset();
}

void SimEngineProcess::die(const std::string& how, bool announce) {
  if (!run_ && !standing_) return;
  end_run(announce);
  stand_still(false);
  core_->process_ended();
  // The supervisor's child handler runs when the supervisor does.
  supervisor_.at(world_.now() + between(world_.random(), end_min, end_max),
                 [this, how, number = runs_] {
                   if (runs_ != number || !std::exchange(running_, false)) return;
                   auto callback = on_ended_;  // it may start another
                   if (callback) callback(how);
                   if (runs_ == number) core_.reset();
                 });
}

}  // namespace duet::simulator
