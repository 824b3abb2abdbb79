#include "simulator/fault_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "simulator/durations.h"

namespace duet::simulator {

namespace {

constexpr std::size_t fault_count = static_cast<std::size_t>(Fault::count);
constexpr std::array<std::string_view, fault_count> names{
    "engine_crash",
    "supervisor_crash",
    "power_loss",
    "nvram_lost",
    "pause_node",
    "pause_engine",
    "pause_supervisor",
    "pause_both",
    "starve",
    "clock_step",
    "link_cut",
    "link_cut_one_way",
    "link_slow",
    "state_torn",
    "state_stale",
    "state_frozen",
    "completion_lost",
    "mirror_write_late",
    "mirror_write_held",
    "messages_reordered",
    "messages_duplicated",
    "message_again",
    "disk_errors",
    "disk_slow",
    "disk_hang",
    "path_cut",
    "path_reset",
    "shelf_blip",
    "disk_blip",
    "disk_forgets",
    "unit_attention",
    "mailbox_write_lost",
    "mailbox_write_misdirected",
    "mailbox_lost",
    "mailbox_rolled_back",
    "pool_write_lost",
    "pool_write_misdirected",
    "mirror_bit_flip",
    "client_cut",
    "client_reset",
    "operator_takeover",
    "operator_takeover_self",
    "operator_takeover_both",
    "operator_takeover_forced",
    "operator_cancel",
    "operator_giveback",
    "operator_boot_forced",
    "operator_halt",
};

constexpr std::size_t dump_triggers = 6;  // the last of them
constexpr std::array<std::string_view, 43 + dump_triggers> triggers{
    "boot.booting",
    "boot.givewait",
    "boot.mbwait",
    "boot.claimed",
    "node.up",
    "node.panic",
    "node.reboot",
    "node.halting",
    "engine.ready",
    "mirror.up",  // the resync begins
    "mirror.down",
    "durability.changed",  // the mark is written
    "partner.suspect",
    "partner.departed",
    "takeover.asked",
    "takeover.checking",
    "takeover.warming",
    "takeover.counting_down",
    "takeover.window_closed",
    "takeover.fenced",
    "takeover.marked",
    "takeover.serving",
    "takeover.handing_back",
    "replay.applied",
    "departure.asking",
    "departure.handing_over",
    "departure.handed_over",
    "handover.draining",
    "release.draining",
    "giveback.released",
    "giveback.stopping",
    "giveback.stopped",
    "giveback.mailbox_written",
    "giveback.done",
    "giveback.re_reserving",
    "giveback.retake",
    // A copy of a mailbox lands on the first of its disks, and says something new:
    "seen.mark_mirrored",
    "seen.mark_local",
    "seen.mark_write_through",
    "seen.taken_over",
    "seen.handed_back",
    "seen.claimed",
    // What a node writes into its partner's NVRAM stays on its way (mirror_write_held).
    "seen.mirror_write_held",
    "takeover.disk_left",
    "takeover.disk_taken",
    "node.dumping",
    "node.dumped",
    "dump.collecting",
    "coredump.saved",
};

Duration how_long(Fault fault, Random& random) {
  switch (fault) {
    case Fault::pause_node:
    case Fault::pause_engine:
    case Fault::pause_supervisor:
      return log_uniform(random, milliseconds(1), seconds(600));
    case Fault::power_loss:
    case Fault::nvram_lost:
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

// Several faults that meet: what random ones would find after millions of seeds. Each event is left
// out like any other.
class Stories {
 public:
  Stories(Random& random, const Shape& shape, std::vector<FaultEvent>& events)
      : random_(random), shape_(shape), events_(events) {}

  void tell(Duration at) {
    at_ = at;
    const NodeId node(static_cast<std::uint8_t>(1 + random_.below(2)));
    switch (random_.below(shape_.dump_disks > 0 ? 15 : 11)) {
      case 0:
        return unmirrored_and_alone(node);
      case 1:
        return both_take_over(node);
      case 2:
        return late_mirror_write(node);
      case 3:
        return forced_boot(node);
      case 4:
        return power_fails_everywhere(node);
      case 5:
        return damaged_mirror(node);
      case 6:
        return race_for_the_disks(node);
      case 7:
        return cancelled_move(node);
      case 8:
        return giveback_goes_wrong(node);
      case 9:
        return late_mirror_write(node);
      case 10:
        return partner_in_the_middle(node);
      default:
        return dump_goes_wrong(node);
    }
  }

 private:
  FaultEvent& add(Fault fault, NodeId node, Duration after, Duration lasts) {
    FaultEvent event;
    event.at = at_ + after;
    event.fault = fault;
    event.node = node;
    event.lasts = lasts;
    event.chance = random_.next();
    return events_.emplace_back(event);
  }
  void add_after(std::string_view what, NodeId who, Fault fault, NodeId node, Duration delay,
                 Duration lasts) {
    auto& event = add(fault, node, {}, lasts);
    event.trigger = Trigger{what, who};
    event.delay = delay;
  }
  Duration between(Duration low, Duration high) { return log_uniform(random_, low, high); }
  Fault end_of_node() {
    constexpr std::array ends{Fault::power_loss, Fault::supervisor_crash, Fault::engine_crash,
                              Fault::pause_node};
    return ends[random_.below(ends.size())];
  }

  // `node` answers alone, unmirrored; its partner comes back, cannot be reached, and is left alone
  // with a mirror of long ago.
  void unmirrored_and_alone(NodeId node) {
    const NodeId partner = partner_of(node);
    add(random_.chance(1, 2) ? Fault::operator_halt : Fault::power_loss, partner, {},
        between(seconds(1), seconds(4)));
    if (random_.chance(1, 2)) {
      add_after("seen.claimed", partner, Fault::link_cut, node,
                between(milliseconds(1), seconds(1)), between(seconds(2), seconds(10)));
    }
    add_after("node.up", partner, end_of_node(), node, between(milliseconds(1), milliseconds(500)),
              between(seconds(1), seconds(10)));
  }

  void both_take_over(NodeId node) {
    add(Fault::link_cut, node, {}, between(seconds(3), seconds(10)));
    if (random_.chance(1, 2)) {
      add(Fault::pause_both, node, between(milliseconds(1), seconds(1)),
          between(milliseconds(700), seconds(3)));
    }
    add(Fault::operator_takeover_both, node, between(milliseconds(600), seconds(3)), {});
  }

  // What a node wrote into its partner's NVRAM arrives when the partner has long taken over, and
  // then the partner needs its NVRAM.
  void late_mirror_write(NodeId node) {
    const NodeId partner = partner_of(node);
    add(Fault::mirror_write_held, node, {}, between(seconds(5), seconds(15)));
    add_after("seen.mirror_write_held", node, end_of_node(), node,
              between(std::chrono::microseconds(10), milliseconds(100)),
              between(seconds(3), seconds(10)));
    add_after("takeover.serving", partner,
              random_.chance(1, 2) ? Fault::engine_crash : Fault::supervisor_crash, partner,
              between(milliseconds(20), seconds(3)), {});
  }

  void forced_boot(NodeId node) {
    const NodeId partner = partner_of(node);
    add(Fault::power_loss, node, {}, between(milliseconds(100), seconds(3)));
    add_after("takeover.serving", partner, Fault::power_loss, partner,
              between(milliseconds(1), seconds(2)), between(seconds(10), seconds(40)));
    add_after("boot.givewait", node, Fault::operator_boot_forced, node,
              between(milliseconds(100), seconds(4)), {});
  }

  void power_fails_everywhere(NodeId node) {
    if (!shape_.persistent_nvram) return;
    add(Fault::power_loss, node, {}, between(milliseconds(10), seconds(10)));
    add(Fault::power_loss, partner_of(node),
        random_.chance(1, 2) ? Duration{} : between(std::chrono::microseconds(1), milliseconds(1)),
        between(milliseconds(10), seconds(10)));
  }

  void damaged_mirror(NodeId node) {
    if (!shape_.persistent_nvram) return;
    add(Fault::mirror_bit_flip, node, {}, {});
    add(end_of_node(), node, between(std::chrono::microseconds(10), milliseconds(100)),
        between(seconds(1), seconds(10)));
  }

  // A node boots while its partner, which cannot reach it, makes up its mind to take over.
  void race_for_the_disks(NodeId node) {
    const NodeId partner = partner_of(node);
    add(Fault::link_cut, node, {}, between(seconds(3), seconds(10)));
    add(Fault::supervisor_crash, node, between(std::chrono::microseconds(1), milliseconds(500)),
        {});
    const bool slow = random_.chance(2, 3);
    if (slow) add(Fault::disk_slow, node, {}, between(seconds(2), seconds(5)));
    if (random_.chance(1, 2)) {
      add_after(random_.chance(1, 2) ? "takeover.window_closed" : "takeover.fenced", partner,
                random_.chance(1, 2) ? Fault::disk_slow : Fault::pause_supervisor,
                random_.chance(1, 2) ? node : partner,
                between(std::chrono::microseconds(10), milliseconds(20)),
                between(milliseconds(20), seconds(1)));
    }
    // An operator who is in a hurry hits the very moment of the boot.
    if (random_.chance(1, 2)) {
      add_after("engine.ready", node, Fault::operator_takeover, partner,
                between(std::chrono::microseconds(10), milliseconds(400)), {});
    }
  }

  void cancelled_move(NodeId node) {
    const NodeId partner = partner_of(node);
    add(random_.chance(1, 2) ? Fault::operator_takeover_self : Fault::operator_takeover,
        random_.chance(1, 2) ? node : partner, {}, {});
    for (NodeId who : {node, partner}) {
      constexpr std::array<std::string_view, 4> steps{"takeover.counting_down",
                                                      "departure.handing_over", "handover.draining",
                                                      "departure.handed_over"};
      add_after(steps[random_.below(steps.size())], who, Fault::operator_cancel,
                random_.chance(1, 2) ? node : partner,
                between(std::chrono::microseconds(10), milliseconds(10)), {});
    }
  }

  void giveback_goes_wrong(NodeId node) {
    const NodeId partner = partner_of(node);
    constexpr std::array<std::string_view, 4> steps{"giveback.stopping", "giveback.stopped",
                                                    "giveback.mailbox_written", "giveback.retake"};
    constexpr std::array accidents{Fault::disk_hang, Fault::disk_errors, Fault::path_cut,
                                   Fault::disk_slow};
    add(Fault::supervisor_crash, node, {}, {});
    add_after(steps[random_.below(3)], partner, accidents[random_.below(accidents.size())], node,
              between(std::chrono::microseconds(10), milliseconds(5)),
              between(milliseconds(100), seconds(25)));
    if (random_.chance(1, 2)) {
      add_after(steps[random_.below(3)], partner, end_of_node(), node,
                between(std::chrono::microseconds(10), milliseconds(20)),
                between(milliseconds(500), seconds(10)));
    }
    if (random_.chance(1, 2)) {
      add_after(steps[1 + random_.below(3)], partner, Fault::pause_engine, partner,
                between(std::chrono::microseconds(10), milliseconds(20)),
                between(milliseconds(500), seconds(10)));
    }
  }

  // A planned move, and an accident at one of its steps.
  void partner_in_the_middle(NodeId node) {
    const NodeId partner = partner_of(node);
    constexpr std::array<std::string_view, 8> steps{
        "takeover.warming", "departure.handing_over", "departure.handed_over", "takeover.fenced",
        "takeover.marked",  "giveback.stopping",      "giveback.stopped",      "giveback.released"};
    add(Fault::operator_takeover_self, node, {}, {});
    for (auto many = 1 + random_.below(2); many > 0; --many) {
      const auto step = random_.below(steps.size());
      const NodeId who = step == 1 || step == 2 ? node : partner;
      constexpr std::array accidents{
          Fault::disk_slow,        Fault::disk_errors,     Fault::disk_hang,
          Fault::pause_supervisor, Fault::pause_engine,    Fault::operator_cancel,
          Fault::engine_crash,     Fault::link_cut,        Fault::operator_halt,
          Fault::path_cut,         Fault::supervisor_crash};
      add_after(steps[step], who, accidents[random_.below(accidents.size())],
                random_.chance(1, 2) ? node : partner,
                between(std::chrono::microseconds(10), milliseconds(20)),
                between(milliseconds(5), seconds(6)));
    }
  }

  // A panic, and accidents at the steps of its dump; or none, and it runs to its end.
  void dump_goes_wrong(NodeId node) {
    const NodeId partner = partner_of(node);
    auto& panic = add(Fault::engine_crash, node, {}, {});
    for (;; panic.chance = random_.next()) {
      Random left_open(panic.chance);
      if (engine_tells(left_open)) break;
    }
    struct Step {
      std::string_view event;
      NodeId who;
    };
    const std::array steps{Step{"node.panic", node},
                           Step{"node.dumping", node},
                           Step{"node.dumping", node},
                           Step{"node.dumped", node},
                           Step{"takeover.disk_left", partner},
                           Step{"takeover.fenced", partner},
                           Step{"takeover.serving", partner},
                           Step{"takeover.disk_taken", partner},
                           Step{"dump.collecting", partner},
                           Step{"giveback.released", partner}};
    constexpr std::array accidents{
        Fault::disk_slow,    Fault::disk_errors,       Fault::disk_hang,
        Fault::path_cut,     Fault::disk_blip,         Fault::supervisor_crash,
        Fault::engine_crash, Fault::power_loss,        Fault::pause_supervisor,
        Fault::link_cut,     Fault::operator_giveback, Fault::operator_takeover_self,
        Fault::pause_engine, Fault::unit_attention};
    for (auto many = random_.below(4); many > 0; --many) {
      const auto& step = steps[random_.below(steps.size())];
      const Fault accident = accidents[random_.below(accidents.size())];
      const bool of_disks = accident >= Fault::disk_errors && accident <= Fault::unit_attention;
      const bool dump_disks = of_disks && random_.chance(2, 3);
      add_after(step.event, step.who, accident, dump_disks || random_.chance(2, 3) ? node : partner,
                between(std::chrono::microseconds(10), seconds(4)),
                between(milliseconds(5), seconds(10)));
      events_.back().dump_disks = dump_disks;
    }
  }

  Random& random_;
  const Shape& shape_;
  std::vector<FaultEvent>& events_;
  Duration at_{};
};

// A copy of the superblock that cannot be read is taken for no newer than the others
// (docs/protocols/consistency_point.md, C5): with errors, a lost write would be one broken disk too
// many.
void drop_impossible(std::vector<FaultEvent>& events) {
  if (std::ranges::find(events, Fault::disk_errors, &FaultEvent::fault) == events.end()) return;
  std::erase_if(events, [](const FaultEvent& event) {
    return event.fault == Fault::pool_write_lost || event.fault == Fault::pool_write_misdirected;
  });
}

}  // namespace

bool engine_tells(Random& random) {
  return random.chance(1, 2);
}

std::string_view name(Fault fault) {
  return names[static_cast<std::size_t>(fault)];
}

std::optional<Fault> find_fault(std::string_view text) {
  auto it = std::ranges::find(names, text);
  if (it == names.end()) return std::nullopt;
  return static_cast<Fault>(it - names.begin());
}

std::span<const std::string_view> trigger_names() {
  return triggers;
}

std::string describe(const FaultEvent& event) {
  auto text = fmt::format("{} (node {}, {} ms)", name(event.fault), event.node.value(),
                          event.lasts / milliseconds(1));
  if (event.dump_disks) text += of_coredump_disks;
  if (event.trigger) {
    text += fmt::format(" {:.3f} ms after {} of node {}",
                        std::chrono::duration<double, std::milli>(event.delay).count(),
                        event.trigger->event, event.trigger->node.value());
  }
  return text;
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
  if (!shape.persistent_nvram) {
    plan.kinds.erase(Fault::mirror_bit_flip);
    plan.kinds.erase(Fault::nvram_lost);  // as any loss of power
  }
  if (plan.kinds.empty()) plan.kinds.insert(Fault::supervisor_crash);
  std::vector<Fault> kinds(plan.kinds.begin(), plan.kinds.end());
  auto mean = log_uniform(random, milliseconds(700), seconds(20));
  // Of four faults so many wait for something; of sixteen times so many begin a story.
  auto triggered = random.below(3), stories = random.below(4);
  Stories storyteller(random, shape, plan.events);
  for (Duration at{};;) {
    at += Duration(random.below(static_cast<std::uint64_t>(mean.count()) * 2));
    if (at >= length) break;
    if (random.chance(stories, 16)) {
      storyteller.tell(at);
      continue;
    }
    FaultEvent event;
    event.at = at;
    event.fault = kinds[random.below(kinds.size())];
    event.node = NodeId(static_cast<std::uint8_t>(1 + random.below(2)));
    event.lasts = how_long(event.fault, random);
    event.chance = random.next();
    if (random.chance(triggered, 4)) {
      // Runs without dumps wait for what they have always waited for.
      const auto events = shape.dump_disks > 0 ? triggers.size() : triggers.size() - dump_triggers;
      event.trigger = Trigger{triggers[random.below(events)],
                              NodeId(static_cast<std::uint8_t>(1 + random.below(2)))};
      event.delay = log_uniform(random, std::chrono::microseconds(10), milliseconds(500));
    }
    plan.events.push_back(event);
    // Disasters come in company: something else during what this one set off.
    if (random.chance(1, 3)) at += log_uniform(random, milliseconds(1), seconds(2)) - mean;
    at = std::max(at, event.at);
  }
  drop_impossible(plan.events);
  std::ranges::sort(plan.events, {}, [](const FaultEvent& e) { return std::pair(e.at, e.chance); });
  for (const auto& event : plan.events) plan.kinds.insert(event.fault);
  return plan;
}

}  // namespace duet::simulator
