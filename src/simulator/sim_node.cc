#include "simulator/sim_node.h"

#include <algorithm>
#include <utility>

#include "disk/reservation_key.h"
#include "simulator/sim_addresses.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_engine_process.h"
#include "simulator/sim_interconnect.h"
#include "simulator/world.h"

namespace duet::simulator {

namespace {

constexpr Duration machine_boot_min = milliseconds(500), machine_boot_max = seconds(6);
constexpr Duration daemon_start_min = milliseconds(50), daemon_start_max = milliseconds(800);
// A supervisor decides within a second: it learns early that a disk does not answer (duetd).
constexpr Duration supervisor_disk_limit = seconds(2);

Duration between(Random& random, Duration low, Duration high) {
  return low + Duration(random.below(static_cast<std::uint64_t>((high - low).count()) + 1));
}

}  // namespace

SimNode::SimNode(World& world, NodeId self, bool persistent_nvram, std::uint64_t seed)
    : world_(world),
      self_(self),
      nvram_(world.config(self).nvram_size, persistent_nvram),
      random_(seed) {}

SimNode::~SimNode() {
  end_daemon(false);
}

// ---- life ----

void SimNode::power_on() {
  if (std::exchange(powered_, true)) return;
  world_.interconnects().set_powered(self_, true);
  world_.clients().set_machine_up(self_, true);
  world_.trace(name(), "power on");
  boot_soon(between(random_, machine_boot_min, machine_boot_max));
}

void SimNode::power_off() {
  if (!std::exchange(powered_, false)) return;
  world_.trace(name(), "power off");
  world_.interconnects().set_powered(self_, false);
  world_.clients().set_machine_up(self_, false);
  halted_ = false;
  ++starts_;
  end_daemon(false);
  nvram_.lose_power(random_);
}

void SimNode::keep_off(Instant until) {
  off_until_ = std::max(off_until_, until);
}

void SimNode::kill_supervisor() {
  if (!supervisor_) return;
  world_.trace(name(), "the supervisor dies");
  end_daemon(true);
  boot_soon(between(random_, daemon_start_min, daemon_start_max));
}

void SimNode::kill_engine(const std::string& how, bool tells) {
  if (!engine_running() && !engine_stands_still()) return;
  world_.trace(name(), "the engine dies: " + how);
  if (tells && engine_running()) return engine_->crash(how);
  engine_->die(how, true);
}

void SimNode::start_again() {
  if (!powered_ || !std::exchange(halted_, false)) return;
  world_.trace(name(), "started again");
  boot_soon(between(random_, daemon_start_min, daemon_start_max));
}

void SimNode::boot_soon(Duration delay) {
  const Instant when = std::max(world_.now() + delay, off_until_);
  world_.outside().at(when, [this, start = ++starts_] {
    if (start == starts_ && world_.now() < off_until_) return boot_soon({});
    if (start == starts_ && powered_ && !supervisor_) boot();
  });
}

BootNonce SimNode::new_nonce() {
  return BootNonce(random_.next() | 1);
}

// As duetd's main().
void SimNode::boot() {
  const auto& config = world_.config(self_);
  process_ = std::make_unique<Process>(world_.clock(), world_.random(), name());
  process_->execute = [this](ports::Task& task) {
    try {
      InNodeProcess here;
      task();
    } catch (const SimulatedPanic& panic) {
      world_.panicked(self_, "supervisor", panic.what);
      (void)supervisor_.release();
      world_.outside().post([this] { kill_supervisor_after_panic(); });
    }
  };
  auto nonce = new_nonce();
  interconnect_ = std::make_unique<SimInterconnect>(world_.interconnects(), *process_,
                                                    config.cluster, self_, nonce);
  engine_ = std::make_unique<SimEngineProcess>(world_, *process_, nvram_, self_);
  engine_->on_dump = [this](const auto& memory) {
    if (on_dump) on_dump(memory);
  };
  node::Supervisor::Ports ports{
      *process_,
      *interconnect_,
      *engine_,
      {},
      nonce,
      [this] { return new_nonce(); },
      [this] { return (world_.now().time_since_epoch() + wall_clock_step).count(); },
      [this](const admin::EventItem& event) {
        world_.trace(name(), event.phase + ": " + event.text);
      }};
  if (world_.shape().managed_addresses) {
    addresses_ =
        std::make_unique<SimAddresses>(world_.clients(), *process_, world_.random(), self_);
    ports.addresses = addresses_.get();
  }
  for (std::uint8_t n : {1, 2}) {
    for (auto& unit : world_.shelf(NodeId(n))) {
      SimDisk::Options options;
      options.node = self_;
      options.role = static_cast<std::uint8_t>(disk::KeyRole::supervisor);
      options.command_timeout = supervisor_disk_limit;
      disks_.push_back(std::make_unique<SimDisk>(*process_, *unit, world_.sabotage(), options));
      ports.disks[n].push_back(disks_.back().get());
    }
  }
  supervisor_ = std::make_unique<node::Supervisor>(config, std::move(ports));
  supervisor_->on_halted([this] {
    world_.outside().post([this, start = starts_] {
      if (start != starts_) return;
      world_.trace(name(), "halted");
      halted_ = true;
      end_daemon(true);
      if (keep_running_) start_again();
    });
  });
  process_->post([this] {
    for (auto& disk : disks_) disk->start();
    supervisor_->start();
    interconnect_->start();
  });
}

void SimNode::kill_supervisor_after_panic() {
  if (!process_) return;
  end_daemon(true);
  boot_soon(between(random_, daemon_start_min, daemon_start_max));
}

// The engine goes with its supervisor.
void SimNode::end_daemon(bool announce) {
  if (!process_) return;
  ++starts_;
  process_->kill();
  if (engine_) engine_->die("orphaned", announce);
  if (interconnect_) interconnect_->end(announce);
  for (auto& disk : disks_) disk->end(announce);
  supervisor_.reset();
  engine_.reset();
  interconnect_.reset();
  addresses_.reset();
  disks_.clear();
  process_.reset();
}

// ---- what is seen ----

const std::string& SimNode::name() const {
  return world_.config(self_).name_of(self_);
}

bool SimNode::engine_running() const {
  return engine_ != nullptr && engine_->process() != nullptr;
}

bool SimNode::awake() const {
  const auto well = [](const Process& p) { return !p.paused() && !p.starved(); };
  return supervisor_ && engine_running() && well(*process_) && well(*engine_->process());
}

bool SimNode::engine_stands_still() const {
  return engine_ != nullptr && engine_->stands_still() != nullptr;
}

bool SimNode::stopped_for_dump() const {
  return engine_stands_still() && engine_->stands_still()->stopped();
}

SimNode::Served SimNode::served(NodeId identity) const {
  Served served;
  if (!engine_running()) return served;
  const auto& service = world_.config(self_).services[identity.value()];
  served.serving = world_.clients().listening(self_, service.address, service.port);
  served.epoch = engine_->assumed_epoch(identity);
  return served;
}

bool SimNode::lease_valid(NodeId identity) const {
  return engine_ != nullptr && engine_->shared().lease_valid(identity, world_.now());
}

Bytes SimNode::published_state() const {
  return interconnect_ ? interconnect_->published() : Bytes{};
}

// ---- faults and operators ----

void SimNode::pause(Instant until) {
  pause_supervisor(until);
  pause_engine(until);
}

void SimNode::pause_engine(Instant until) {
  if (engine_running()) engine_->process()->pause(until);
}

void SimNode::pause_supervisor(Instant until) {
  if (process_) process_->pause(until);
}

void SimNode::starve(Instant until, Duration most) {
  if (process_) process_->starve(until, most);
  if (engine_running()) engine_->process()->starve(until, most);
}

void SimNode::heal() {
  if (process_) process_->heal();
  if (engine_running()) engine_->process()->heal();
  wall_clock_step = {};
  if (world_.now() < off_until_) {
    off_until_ = {};
    if (powered_ && !supervisor_ && !halted_) boot_soon({});
  }
  freeze_state(world_.now());
}

void SimNode::repeat_message(std::uint64_t which) {
  if (!interconnect_ || interconnect_->delivered.empty()) return;
  auto message = interconnect_->delivered[which % interconnect_->delivered.size()];
  process_->post([this, message = std::move(message)] { interconnect_->deliver_again(message); });
}

void SimNode::falsify_lease(NodeId identity, Instant until) {
  if (!engine_) return;
  engine_->shared().lease_until[identity.value()].store(until.time_since_epoch().count());
}

void SimNode::freeze_state(Instant until) {
  if (interconnect_) interconnect_->freeze_state(until);
}

void SimNode::operate(ha::OperatorRequest request, node::Supervisor::OperatorDone done) {
  if (!supervisor_) {
    return done({0, ha::OperatorAnswer::Outcome::refused, {"no daemon runs on this node"}});
  }
  // Through the control socket: when the daemon runs.
  process_->post([this, request = std::move(request), done = std::move(done)]() mutable {
    supervisor_->operate(std::move(request), std::move(done));
  });
}

void SimNode::ask_cores(admin::CoreOrder order, node::Supervisor::CoreDone done) {
  if (!supervisor_) {
    node::CoreAnswer answer;
    answer.reply.why = "no daemon runs on this node";
    return done(answer);
  }
  process_->post([this, order = std::move(order), done = std::move(done)]() mutable {
    supervisor_->ask_engine(node::CoreAsk{.request = 0, .order = std::move(order)},
                            std::move(done));
  });
}

void SimNode::create_lun(NodeId identity, const std::string& name, std::uint64_t size,
                         node::Supervisor::LunDone done) {
  if (!supervisor_) {
    node::LunAnswer answer;
    answer.why = "no daemon runs on this node";
    return done(answer);
  }
  process_->post([this, identity, name, size, done = std::move(done)]() mutable {
    node::LunCreateOrder order;
    order.identity = identity;
    order.name = name;
    order.size = size;
    supervisor_->ask_engine(std::move(order), std::move(done));
  });
}

}  // namespace duet::simulator
