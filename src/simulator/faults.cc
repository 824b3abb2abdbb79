#include "simulator/faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "disk/areas.h"
#include "ha/mailbox.h"
#include "nvlog/region.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_interconnect.h"
#include "simulator/sim_node.h"

namespace duet::simulator {

namespace {

constexpr std::size_t fault_count = static_cast<std::size_t>(Fault::count);
constexpr std::array<std::string_view, fault_count> names{
    "engine_crash",
    "supervisor_crash",
    "power_loss",
    "pause_node",
    "pause_engine",
    "pause_supervisor",
    "starve",
    "clock_step",
    "link_cut",
    "link_cut_one_way",
    "link_slow",
    "state_torn",
    "state_stale",
    "completion_lost",
    "mirror_write_late",
    "message_again",
    "disk_errors",
    "disk_slow",
    "disk_hang",
    "path_cut",
    "path_reset",
    "shelf_blip",
    "disk_blip",
    "unit_attention",
    "mailbox_write_lost",
    "mailbox_write_misdirected",
    "mailbox_lost",
    "mailbox_rolled_back",
    "mirror_bit_flip",
    "client_cut",
    "client_reset",
    "operator_takeover",
    "operator_takeover_self",
    "operator_cancel",
    "operator_giveback",
    "operator_halt",
};

// Between the two, and as likely to be short as long: each order of magnitude has the same chance.
Duration log_uniform(Random& random, Duration low, Duration high) {
  constexpr std::uint64_t steps = 1 << 20;
  double share = static_cast<double>(random.below(steps)) / steps;
  double ratio = static_cast<double>(high.count()) / static_cast<double>(low.count());
  return Duration(
      static_cast<std::int64_t>(static_cast<double>(low.count()) * std::pow(ratio, share)));
}

Duration how_long(Fault fault, Random& random) {
  switch (fault) {
    case Fault::pause_node:
    case Fault::pause_engine:
    case Fault::pause_supervisor:
      return log_uniform(random, milliseconds(1), seconds(600));
    case Fault::power_loss:
      return log_uniform(random, milliseconds(10), seconds(60));
    case Fault::operator_halt:
      return log_uniform(random, milliseconds(500), seconds(60));
    case Fault::disk_hang:
    case Fault::path_cut:
      return log_uniform(random, milliseconds(20), seconds(20));
    default:
      return log_uniform(random, milliseconds(5), seconds(15));
  }
}

}  // namespace

std::string_view name(Fault fault) {
  return names[static_cast<std::size_t>(fault)];
}

std::optional<Fault> find_fault(std::string_view text) {
  auto it = std::ranges::find(names, text);
  if (it == names.end()) return std::nullopt;
  return static_cast<Fault>(it - names.begin());
}

std::string describe(const FaultEvent& event) {
  return fmt::format("{} (node {}, {} ms)", name(event.fault), event.node.value(),
                     event.lasts / milliseconds(1));
}

FaultPlan make_plan(std::uint64_t seed, const Shape& shape, Duration length) {
  Random random(seed * 0xd1342543de82ef95 + 7);
  FaultPlan plan;
  plan.length = length;
  plan.double_failures = shape.persistent_nvram && random.chance(1, 2);
  auto out_of = 2 + random.below(6);
  for (std::size_t i = 0; i < fault_count; ++i) {
    if (random.chance(1, out_of)) plan.kinds.insert(static_cast<Fault>(i));
  }
  if (!shape.persistent_nvram) plan.kinds.erase(Fault::mirror_bit_flip);
  if (plan.kinds.empty()) plan.kinds.insert(static_cast<Fault>(random.below(fault_count)));
  std::vector<Fault> kinds(plan.kinds.begin(), plan.kinds.end());
  auto mean = log_uniform(random, milliseconds(700), seconds(20));
  for (Duration at{};;) {
    at += Duration(random.below(static_cast<std::uint64_t>(mean.count()) * 2));
    if (at >= length) break;
    FaultEvent event;
    event.at = at;
    event.fault = kinds[random.below(kinds.size())];
    event.node = NodeId(static_cast<std::uint8_t>(1 + random.below(2)));
    event.lasts = how_long(event.fault, random);
    event.chance = random.next();
    plan.events.push_back(event);
    // Disasters come in company: something else during what this one set off.
    if (random.chance(1, 3)) at += log_uniform(random, milliseconds(1), seconds(2)) - mean;
    at = std::max(at, event.at);
  }
  return plan;
}

Faults::Faults(World& world, FaultPlan plan) : world_(world), plan_(std::move(plan)) {
  world_.on_trace = [this](std::string_view who, std::string_view text) { hear(who, text); };
  Random random(world.options().seed + 99);
  for (std::uint8_t n : {1, 2}) {
    victims_[n] = static_cast<std::uint8_t>(random.below(disks_per_shelf));
  }
}

void Faults::start(const std::set<std::size_t>& left_out) {
  for (std::size_t i = 0; i < plan_.events.size(); ++i) {
    if (!left_out.contains(i)) {
      later(plan_.events[i].at, [this, i] { happen(plan_.events[i]); });
    }
  }
}

void Faults::later(Duration after, std::function<void()> what) {
  world_.outside().at(world_.now() + after, [this, what = std::move(what)] {
    if (!over_) what();
  });
}

void Faults::happen(const FaultEvent& event) {
  Random random(event.chance);
  ++happened_;
  if (event.fault <= Fault::clock_step) {
    to_node(event, random);
  } else if (event.fault <= Fault::message_again) {
    to_link(event, random);
  } else if (event.fault <= Fault::unit_attention) {
    to_disks(event, random);
  } else if (event.fault <= Fault::mirror_bit_flip) {
    to_mailbox(event, random);
  } else if (event.fault <= Fault::client_reset) {
    to_clients(event);
  } else {
    by_operator(event, random);
  }
}

// A log that the survivor finds damaged is not served by half: it waits for an operator, and
// rightly so if we damaged it.
void Faults::hear(std::string_view who, std::string_view text) {
  if (text.find("the log is damaged") == std::string_view::npos) return;
  for (std::uint8_t n : {1, 2}) {
    bool survivor = who == world_.node(partner_of(NodeId(n))).name();
    if (flipped_[n] && survivor) world_.excuse(NodeId(n)) = "the mirror of its log was damaged";
  }
}

bool Faults::settled() const {
  for (std::uint8_t n : {1, 2}) {
    NodeId self(n);
    const auto* supervisor = world_.node(self).supervisor();
    if (supervisor == nullptr || !world_.node(self).served(self).serving) return false;
    auto snapshot = supervisor->core().snapshot(world_.now());
    if (snapshot.state != interconnect::NodeState::up) return false;
    const auto& own = snapshot.identities[n - 1];
    if (!own.served_here || own.durability != Durability::mirrored) return false;
  }
  return true;
}

// What is lost with power may be lost at one node only, until both have everything again.
bool Faults::may_lose_power(NodeId node) const {
  if (world_.shape().persistent_nvram) {
    return plan_.double_failures || world_.node(partner_of(node)).powered();
  }
  return settled();
}

void Faults::to_node(const FaultEvent& event, Random& random) {
  auto& node = world_.node(event.node);
  auto until = world_.now() + event.lasts;
  auto say = [&] { world_.trace("fault", describe(event)); };
  switch (event.fault) {
    case Fault::engine_crash:
      if (!node.engine_running()) return;
      say();
      return node.kill_engine(random.chance(1, 2) ? "signal 6 (Aborted)" : "signal 9 (Killed)");
    case Fault::supervisor_crash:
      if (!node.daemon_running()) return;
      return node.kill_supervisor();
    case Fault::power_loss:
      if (!node.powered() || !may_lose_power(event.node)) return;
      node.power_off();
      return later(event.lasts, [&node] { node.power_on(); });
    case Fault::pause_node:
      say();
      return node.pause(until);
    case Fault::pause_engine:
      say();
      return node.pause_engine(until);
    case Fault::pause_supervisor:
      say();
      return node.pause_supervisor(until);
    case Fault::starve:
      say();
      return node.starve(until,
                         log_uniform(random, std::chrono::microseconds(50), milliseconds(60)));
    case Fault::clock_step:
      say();
      node.wall_clock_step = seconds(3600) * (random.chance(1, 2) ? 1 : -1);
      return;
    default:
      return;
  }
}

void Faults::to_link(const FaultEvent& event, Random& random) {
  auto& cables = world_.interconnects();
  auto until = world_.now() + event.lasts;
  world_.trace("fault", describe(event));
  auto& faults = cables.faults;
  switch (event.fault) {
    case Fault::link_cut:
      cables.cut(NodeId(1), until);
      return cables.cut(NodeId(2), until);
    case Fault::link_cut_one_way:
      return cables.cut(event.node, until);
    case Fault::link_slow: {
      faults.latency_max = log_uniform(random, milliseconds(1), milliseconds(400));
      return later(event.lasts,
                   [&faults] { faults.latency_max = Interconnects::Faults().latency_max; });
    }
    case Fault::state_torn:
      faults.torn_reads_per_1000 = 100;
      return later(event.lasts, [&faults] { faults.torn_reads_per_1000 = 0; });
    case Fault::state_stale:
      faults.stale_reads_per_1000 = 100;
      return later(event.lasts, [&faults] { faults.stale_reads_per_1000 = 0; });
    case Fault::completion_lost:
      faults.lost_completions_per_10000 = 300;
      return later(event.lasts, [&faults] { faults.lost_completions_per_10000 = 0; });
    case Fault::mirror_write_late:
      faults.late_writes_per_10000 = 300;
      return later(event.lasts, [&faults] { faults.late_writes_per_10000 = 0; });
    case Fault::message_again:
      return world_.node(event.node).repeat_message(random.next());
    default:
      return;
  }
}

void Faults::to_disks(const FaultEvent& event, Random& random) {
  auto& shelf = world_.shelf(event.node);
  // One disk, or all of the shelf.
  std::vector<SimUnit*> units;
  bool all = random.chance(1, 3) || event.fault == Fault::shelf_blip;
  auto one = random.below(shelf.size());
  for (std::size_t i = 0; i < shelf.size(); ++i) {
    if (all || i == one) units.push_back(shelf[i].get());
  }
  NodeId who(static_cast<std::uint8_t>(1 + random.below(2)));
  auto until = world_.now() + event.lasts;
  world_.trace("fault", fmt::format("{}: {} disks, path of node {}", describe(event), units.size(),
                                    who.value()));
  for (auto* unit : units) {
    switch (event.fault) {
      case Fault::disk_errors:
        unit->faults.errors_until = until;
        unit->faults.errors_per_100 = 1 + static_cast<unsigned>(random.below(40));
        break;
      case Fault::disk_slow:
        unit->faults.slow_until = until;
        unit->faults.slow_max = log_uniform(random, milliseconds(2), milliseconds(1500));
        break;
      case Fault::disk_hang:
        unit->hang(true);
        later(event.lasts, [unit] { unit->hang(false); });
        break;
      case Fault::path_cut:
        unit->cut_path(who, until, false);
        break;
      case Fault::path_reset:
        unit->cut_path(who, until, true);
        break;
      case Fault::shelf_blip:
      case Fault::disk_blip:
        unit->power_off();
        later(event.lasts, [unit] { unit->power_on(); });
        break;
      case Fault::unit_attention: {
        using enum scsi::UnitAttention;
        constexpr std::array kinds{
            power_on,         unit_reset,       nexus_loss,           mode_parameters_changed,
            capacity_changed, commands_cleared, reported_luns_changed};
        unit->add_attention(kinds[random.below(kinds.size())]);
        break;
      }
      default:
        break;
    }
  }
}

SimUnit& Faults::victim(NodeId identity) {
  return *world_.shelf(identity)[victims_[identity.value()]];
}

// Always the same disk of an identity: what is kept on three survives the loss of one.
void Faults::to_mailbox(const FaultEvent& event, Random& random) {
  auto& unit = victim(event.node);
  auto area = disk::mailbox_area;
  if (event.fault != Fault::mirror_bit_flip) world_.trace("fault", describe(event));
  switch (event.fault) {
    case Fault::mailbox_write_lost:
      unit.faults.lost_writes = 1 + static_cast<unsigned>(random.below(3));
      return;
    case Fault::mailbox_write_misdirected:
      unit.faults.misdirected_writes = 1;
      return;
    case Fault::mailbox_lost:
      unit.poke(area.offset, std::vector<std::byte>(area.size));
      return;
    case Fault::mailbox_rolled_back: {
      auto& old = old_mailbox_[event.node.value()];
      if (!old.empty()) unit.poke(area.offset, old);
      old = unit.peek(area.offset, area.size);
      return;
    }
    case Fault::mirror_bit_flip: {
      // The copy of this identity's log at the partner. Only while the log itself is there.
      if (!settled()) return;
      world_.trace("fault", describe(event));
      auto& nvram = world_.node(partner_of(event.node)).nvram();
      auto layout = nvlog::RegionLayout::of_size(nvram.visible().size());
      if (!layout) return;
      auto ring = layout->ring(event.node);
      flipped_[event.node.value()] = true;
      nvram.flip_bit(ring.offset + random.below(ring.length),
                     static_cast<unsigned>(random.below(8)));
      return;
    }
    default:
      return;
  }
}

void Faults::to_clients(const FaultEvent& event) {
  world_.trace("fault", describe(event));
  if (event.fault == Fault::client_reset) return world_.clients().reset_all(no_node);
  world_.clients().faults.cut_until = world_.now() + event.lasts;
}

void Faults::by_operator(const FaultEvent& event, Random& random) {
  ha::OperatorRequest request;
  NodeId at = event.node;
  switch (event.fault) {
    case Fault::operator_takeover:
      request.verb = ha::OperatorVerb::takeover;
      request.node = partner_of(at);
      request.timeout = log_uniform(random, milliseconds(500), seconds(60));
      break;
    case Fault::operator_takeover_self:
      request.verb = ha::OperatorVerb::takeover;
      request.node = at;
      request.timeout = log_uniform(random, milliseconds(500), seconds(60));
      break;
    case Fault::operator_cancel:
      request.verb = ha::OperatorVerb::cancel;
      request.node = NodeId(static_cast<std::uint8_t>(1 + random.below(2)));
      break;
    case Fault::operator_giveback:
      request.verb = ha::OperatorVerb::giveback;
      request.node = partner_of(at);
      request.force = random.chance(1, 4);
      request.uncoordinated = random.chance(1, 8);
      break;
    default:
      request.verb = ha::OperatorVerb::halt;
      request.node = at;
      request.no_takeover = random.chance(1, 3);
      later(event.lasts, [&node = world_.node(at)] { node.start_again(); });
      break;
  }
  world_.trace("operator", describe(event));
  world_.node(at).operate(request, [world = &world_](const ha::OperatorAnswer& answer) {
    constexpr std::array outcomes{"accepted", "done", "failed", "refused"};
    world->trace("operator",
                 fmt::format("{} {}", outcomes[static_cast<std::size_t>(answer.outcome)],
                             answer.reasons.empty() ? "" : answer.reasons[0]));
  });
}

// A mailbox disk that was lost or went back in time has been replaced by the operator, who brings
// what the others of the identity say.
void Faults::repair_mailbox(NodeId identity) {
  auto copy_of = [](SimUnit& unit, int copy) {
    return unit.peek(disk::mailbox_copy(copy).offset, ha::mailbox_block_size);
  };
  std::uint64_t newest = 0;
  std::vector<std::byte> best;
  for (auto& unit : world_.shelf(identity)) {
    for (int copy : {0, 1}) {
      auto block = copy_of(*unit, copy);
      auto mailbox = ha::decode_mailbox(block);
      if (!mailbox || mailbox->generation < newest) continue;
      newest = mailbox->generation;
      best = block;
    }
  }
  auto& unit = victim(identity);
  bool answers = false;
  for (int copy : {0, 1}) answers = answers || ha::decode_mailbox(copy_of(unit, copy)).has_value();
  if (answers || best.empty()) return;
  world_.trace("operator", "writes the mailbox of " + unit.options().name);
  for (int copy : {0, 1}) unit.poke(disk::mailbox_copy(copy).offset, best);
}

void Faults::heal() {
  over_ = true;
  world_.trace("fault", "all is healed");
  world_.interconnects().heal();
  world_.interconnects().faults = {};
  world_.clients().faults = {};
  for (std::uint8_t n : {1, 2}) {
    for (auto& unit : world_.shelf(NodeId(n))) {
      unit->heal();
      unit->faults = {};
    }
  }
  for (std::uint8_t n : {1, 2}) {
    repair_mailbox(NodeId(n));
    auto& node = world_.node(NodeId(n));
    node.heal();
    node.power_on();
    node.start_again();
    node.keep_running();  // an order of before may be carried out only now
  }
}

}  // namespace duet::simulator
