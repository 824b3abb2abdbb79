#include "simulator/run.h"

#include <utility>

#include "simulator/checkers.h"
#include "simulator/core_sweep.h"
#include "simulator/sim_node.h"
#include "simulator/workload.h"

namespace duet::simulator {

namespace {

constexpr Duration slice = milliseconds(50);

class Run {
 public:
  explicit Run(const RunOptions& options)
      : options_(options),
        random_(options.seed ^ 0x5eed),
        world_({options.seed, options.sabotage, options.print_trace}),
        load_(world_, make_load()),
        checkers_(world_, load_),
        faults_(world_, plan()) {}

  RunResult go() {
    bring_up() && hurt() && recover() && verify();
    RunResult result;
    if (world_.violation() != nullptr) {
      result.violation = *world_.violation();
      result.violated_after = result.violation->when - hurt_since_;
    }
    result.hash = world_.clock().hash();
    result.steps = world_.clock().steps();
    result.simulated = world_.now() - began_;
    result.takeovers = takeovers_;
    result.operations = load_.operations();
    result.faults = faults_.happened();
    result.cores = cores_;
    result.plan = plan_;
    result.last_lines = world_.last_lines();
    return result;
  }

 private:
  WorkloadOptions make_load() {
    WorkloadOptions load;
    load.clients = 1 + static_cast<unsigned>(random_.below(3));
    load.depth_max = 1 + static_cast<unsigned>(random_.below(8));
    load.pause = milliseconds(100 + random_.below(900));
    return load;
  }

  FaultPlan plan() {
    plan_ = plan_of(options_);
    // Kinds that are left out leave the times of the others alone.
    for (std::size_t i = 0; i < plan_.events.size(); ++i) {
      if (options_.without.contains(plan_.events[i].fault)) left_out_.insert(i);
    }
    left_out_.insert(options_.left_out.begin(), options_.left_out.end());
    return plan_;
  }

  // Steps until then, or until the condition holds, or something is violated.
  template <class Condition>
  bool until(Condition condition, Duration limit) {
    auto end = world_.now() + limit;
    while (world_.violation() == nullptr && world_.now() < end) {
      world_.run_for(std::min(slice, end - world_.now()));
      count_takeovers();
      if (condition()) break;
    }
    return world_.violation() == nullptr;
  }

  bool serves_all() {
    for (std::uint8_t n : {1, 2}) {
      if (!world_.node(NodeId(n)).served(NodeId(n)).serving) return false;
    }
    return true;
  }

  void count_takeovers() {
    for (std::uint8_t n : {1, 2}) {
      bool taken = world_.node(partner_of(NodeId(n))).served(NodeId(n)).serving;
      if (taken && !taken_[n]) ++takeovers_;
      taken_[n] = taken;
    }
  }

  bool bring_up() {
    auto first = NodeId(static_cast<std::uint8_t>(1 + random_.below(2)));
    world_.node(first).power_on();
    world_.run_for(milliseconds(random_.below(3000)));
    world_.node(partner_of(first)).power_on();
    load_.prepare();
    if (!until([&] { return serves_all() && load_.prepared(); }, bring_up_limit)) return false;
    if (!serves_all() || !load_.prepared()) {
      world_.violate("I18", "the pair does not come up");
      return false;
    }
    return true;
  }

  bool hurt() {
    hurt_since_ = world_.now();
    load_.start();
    faults_.start(left_out_);
    return until([] { return false; }, plan_.length);
  }

  bool recover() {
    faults_.heal();
    auto since = world_.now();
    if (!until([&] { return load_.unserved_since(since).empty(); }, liveness_limit)) return false;
    checkers_.check_liveness(since);
    return world_.violation() == nullptr;
  }

  bool excused() { return !world_.excuse(NodeId(1)).empty() || !world_.excuse(NodeId(2)).empty(); }

  bool verify() {
    if (excused()) return true;  // what is not served cannot be read
    load_.stop();
    if (!until([&] { return load_.quiet(); }, verify_limit)) return false;
    load_.sweep();
    if (!until([&] { return load_.quiet(); }, verify_limit)) return false;
    if (!load_.quiet()) {
      world_.violate("I18", "what clients asked for at the end is never answered");
      return false;
    }
    load_.judge();
    return world_.violation() == nullptr && verify_cores();
  }

  bool verify_cores() {
    CoreSweep sweep(world_, checkers_.dumps());
    sweep.start();
    if (!until([&] { return sweep.over(); }, verify_limit)) return false;
    if (!sweep.over()) world_.violate("I18", "the core files cannot be read");
    cores_ = sweep.compared();
    return world_.violation() == nullptr;
  }

  RunOptions options_;
  Random random_;
  World world_;
  Workload load_;
  Checkers checkers_;
  FaultPlan plan_;
  std::set<std::size_t> left_out_;
  Faults faults_;
  Instant began_ = world_.now();
  Instant hurt_since_ = began_;
  std::uint64_t takeovers_ = 0;
  std::array<bool, 3> taken_{};
  std::uint64_t cores_ = 0;
};

}  // namespace

FaultPlan plan_of(const RunOptions& options) {
  auto by_seed = seconds(60 + Random(options.seed + 17).below(120));
  return make_plan(options.seed, shape_of(options.seed), options.length.value_or(by_seed));
}

RunResult run(const RunOptions& options) {
  return Run(options).go();
}

}  // namespace duet::simulator
