#include "simulator/faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "disk/areas.h"
#include "ha/mailbox.h"
#include "nvlog/control_block.h"
#include "nvlog/record.h"
#include "nvlog/region.h"
#include "simulator/durations.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_interconnect.h"
#include "simulator/sim_node.h"

namespace duet::simulator {

namespace {

// A forgetful disk is not without power for so long that a survivor would want it.
constexpr Duration forgetful_blip_max = milliseconds(300);

}  // namespace

Faults::Faults(World& world, FaultPlan plan) : world_(world), plan_(std::move(plan)) {
  world_.on_trace.emplace_back([this, alive = alive_](std::string_view who, std::string_view text) {
    if (*alive) hear(who, text);
  });
  world_.interconnects().on_write_held = [this](NodeId node) {
    on_event(node, "seen.mirror_write_held");
  };
  Random random(world.options().seed + 99);
  for (std::uint8_t n : {1, 2}) {
    victims_[n] = static_cast<std::uint8_t>(random.below(disks_per_shelf));
    auto& unit = *world_.shelf(NodeId(n))[0];
    unit.on_landed = [this, alive = alive_, before = std::move(unit.on_landed)](
                         const SimUnit& u, const SimUnit::Landed& landed) {
      if (before) before(u, landed);
      if (*alive) see_mailbox(u, landed);
    };
  }
}

Faults::~Faults() {
  *alive_ = false;
  world_.interconnects().on_write_held = nullptr;
}

void Faults::start(const std::set<std::size_t>& left_out) {
  for (std::size_t i = 0; i < plan_.events.size(); ++i) {
    if (!left_out.contains(i)) later(plan_.events[i].at, [this, i] { arm(i); });
  }
}

void Faults::later(Duration after, std::function<void()> what) {
  world_.outside().at(world_.now() + after, [this, what = std::move(what)] {
    if (!over_) what();
  });
}

// ---- what faults wait for ----

void Faults::arm(std::size_t index) {
  if (!plan_.events[index].trigger) return happen(plan_.events[index]);
  armed_.push_back(index);
}

void Faults::on_event(NodeId node, std::string_view event) {
  std::erase_if(armed_, [&](std::size_t index) {
    const auto& waiting = plan_.events[index];
    if (waiting.trigger->node != node || waiting.trigger->event != event) return false;
    later(waiting.delay, [this, index] { happen(plan_.events[index]); });
    return true;
  });
}

// The first copy on the first disk: the others are still to be written.
void Faults::see_mailbox(const SimUnit& unit, const SimUnit::Landed& landed) {
  auto area = disk::mailbox_copy(0);
  if (armed_.empty() || landed.offset != area.offset) return;
  auto mailbox = ha::decode_mailbox(
      landed.bytes.first(std::min<std::size_t>(landed.bytes.size(), ha::mailbox_block_size)));
  if (!mailbox || mailbox->identity != unit.options().owner) return;
  auto before = std::exchange(seen_mailbox_[mailbox->identity.value()], *mailbox);
  NodeId writer(static_cast<std::uint8_t>(landed.nexus.relative_target_port));
  if (mailbox->taken_over_by != before.taken_over_by) {
    on_event(writer, mailbox->taken_over_by == no_node ? "seen.handed_back" : "seen.taken_over");
  } else if (mailbox->epoch != before.epoch) {
    on_event(writer, "seen.claimed");
  } else if (mailbox->durability != before.durability) {
    constexpr std::array marks{"seen.mark_mirrored", "seen.mark_local", "seen.mark_write_through"};
    on_event(writer, mailbox->durability == Durability::mirrored ? marks[0]
                     : mailbox->durability == Durability::local  ? marks[1]
                                                                 : marks[2]);
  }
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
    to_area(event, random);
  } else if (event.fault <= Fault::client_reset) {
    to_clients(event);
  } else {
    by_operator(event, random);
  }
}

// A log that the survivor finds damaged is not served by half: it waits for an operator, and
// rightly so if we damaged it.
void Faults::hear(std::string_view who, std::string_view text) {
  NodeId node;
  for (std::uint8_t n : {1, 2}) {
    if (who == world_.node(NodeId(n)).name()) node = NodeId(n);
  }
  if (node == no_node) return;
  auto event = text.substr(0, text.find(':'));
  // Forced by the operator, who was told that this loses writes.
  if (event == "boot.forced") world_.forgive_loss(node);
  if (event == "takeover.forced") world_.forgive_loss(partner_of(node));
  if (text.find("the log is damaged") != std::string_view::npos) {
    // Of a node's own identity it says so while it boots.
    const NodeId identity = event == "boot.assume_failed" ? node : partner_of(node);
    if (flipped_[identity.value()] && identity != node) {
      world_.excuse(identity) = "the mirror of its log was damaged";
    } else if (text.find("were acknowledged") != std::string_view::npos &&
               !world_.excused(identity, "I1")) {
      world_.violate("I1", fmt::format("{}: {}", who, text));
    }
  }
  if (!armed_.empty()) on_event(node, event);
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

// Both copies of no record may go, whatever was flipped in the other one.
bool Faults::may_lose_nvram(NodeId node) const {
  return settled() && !flipped_[node.value()] && world_.node(node).powered();
}

void Faults::to_node(const FaultEvent& event, Random& random) {
  auto& node = world_.node(event.node);
  auto until = world_.now() + event.lasts;
  auto say = [&] { world_.trace("fault", describe(event)); };
  switch (event.fault) {
    case Fault::engine_crash: {
      if (!node.engine_running() && !node.engine_stands_still()) return;
      say();
      const bool tells = engine_tells(random);
      return node.kill_engine(tells ? "signal 6 (Aborted)" : "signal 9 (Killed)", tells);
    }
    case Fault::supervisor_crash:
      if (!node.daemon_running()) return;
      say();
      return node.kill_supervisor();
    case Fault::power_loss:
      if (!node.powered() || !may_lose_power(event.node)) return;
      say();
      node.power_off();
      return later(event.lasts, [&node] { node.power_on(); });
    case Fault::nvram_lost:  // a board is replaced
      if (!may_lose_nvram(event.node)) return;
      say();
      node.power_off();
      if (node.nvram().persistent()) node.nvram().lose_everything();
      return later(event.lasts, [&node] { node.power_on(); });
    case Fault::pause_node:
      say();
      return node.pause(until);
    case Fault::pause_both:
      say();
      world_.node(partner_of(event.node)).pause(until);
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
    case Fault::state_frozen:
      return world_.node(event.node).freeze_state(until);
    case Fault::mirror_write_held:
      cables.hold_next_write(event.node);
      return later(event.lasts, [&cables, node = event.node] { cables.release_writes(node); });
    case Fault::messages_reordered:
      faults.reordered_per_1000 = 300;
      return later(event.lasts, [&faults] { faults.reordered_per_1000 = 0; });
    case Fault::messages_duplicated:
      faults.duplicated_per_1000 = 300;
      return later(event.lasts, [&faults] { faults.duplicated_per_1000 = 0; });
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
    const bool meant = event.dump_disks ? is_dump_disk(i) : all || i == one;
    if (meant) units.push_back(shelf[i].get());
  }
  // Whose registrations are gone has nothing but them to keep a fenced node out: such disks are
  // refused (docs/protocols/takeover.md); while nobody is fenced they do no harm.
  if (event.fault == Fault::disk_forgets && !settled()) return;
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
      case Fault::disk_forgets:
        unit->power_off();
        later(std::min(event.lasts, forgetful_blip_max), [unit] { unit->power_on(true); });
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
void Faults::to_area(const FaultEvent& event, Random& random) {
  if (event.fault == Fault::mirror_bit_flip) return flip_bit(event, random);
  auto& unit = victim(event.node);
  auto area = disk::mailbox_area;
  world_.trace("fault", describe(event));
  switch (event.fault) {
    case Fault::pool_write_lost:
      unit.faults.lost_pool_writes = 1 + static_cast<unsigned>(random.below(3));
      return;
    case Fault::pool_write_misdirected:
      unit.faults.misdirected_pool_writes = 1;
      return;
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
    default:
      return;
  }
}

// In the copy of this identity's log at the partner, only while the log itself is there: anywhere,
// or where a replay would read. Not in the last record: nothing tells one that was damaged from one
// that never arrived (docs/formats/nvlog.md).
void Faults::flip_bit(const FaultEvent& event, Random& random) {
  if (!settled()) return;
  auto& nvram = world_.node(partner_of(event.node)).nvram();
  auto layout = nvlog::RegionLayout::of_size(nvram.visible().size());
  if (!layout) return;
  auto extent = layout->ring(event.node);
  auto ring = nvram.visible().subspan(extent.offset, extent.length);
  auto control = nvlog::read_control_block(nvram.visible(), *layout, event.node);
  auto tail = control.tail.lap * extent.length + control.tail.offset;
  auto last = tail, head = tail;
  while (auto record = nvlog::read_record(ring, head)) {
    if (record->end <= head || record->end - tail > extent.length) break;
    last = std::exchange(head, record->end);
  }
  auto at = tail + random.below(random.chance(1, 2) && last > tail ? last - tail : extent.length);
  if (at >= last && at < head) return;
  world_.trace("fault", describe(event));
  flipped_[event.node.value()] = true;
  nvram.flip_bit(extent.offset + at % extent.length, static_cast<unsigned>(random.below(8)));
}

void Faults::to_clients(const FaultEvent& event) {
  world_.trace("fault", describe(event));
  if (event.fault == Fault::client_reset) return world_.clients().reset_all(no_node);
  world_.clients().faults.cut_until = world_.now() + event.lasts;
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
