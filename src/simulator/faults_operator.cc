// What operators do, wisely or not.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "disk/areas.h"
#include "ha/mailbox.h"
#include "simulator/durations.h"
#include "simulator/faults.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_node.h"

namespace duet::simulator {

namespace {

constexpr Duration stays_away = seconds(40);  // longer than a disk or a path is

}  // namespace

void Faults::by_operator(const FaultEvent& event, Random& random) {
  using ha::OperatorVerb;
  const NodeId at = event.node, partner = partner_of(at);
  const auto timeout = log_uniform(random, milliseconds(500), seconds(60));
  world_.trace("operator", describe(event));
  switch (event.fault) {
    case Fault::operator_takeover:
      return order(at, {.verb = OperatorVerb::takeover,
                        .node = partner,
                        .force = random.chance(1, 4),
                        .timeout = timeout});
    case Fault::operator_takeover_self:
      return order(at, {.verb = OperatorVerb::takeover,
                        .node = at,
                        .force = random.chance(1, 4),
                        .timeout = timeout});
    case Fault::operator_takeover_both: {
      const bool force = random.chance(1, 2), go = random.chance(1, 4);
      for (NodeId node : {at, partner}) {
        order(node, {.verb = OperatorVerb::takeover,
                     .node = go ? node : partner_of(node),
                     .force = force,
                     .timeout = timeout});
      }
      return;
    }
    case Fault::operator_takeover_forced:
      return order(at, {.verb = OperatorVerb::takeover,
                        .node = partner,
                        .force = true,
                        .overrides = {"log_not_here", "halt_without_takeover", "not_prepared"},
                        .timeout = timeout});
    case Fault::operator_cancel:
      return order(at, {.verb = OperatorVerb::cancel,
                        .node = NodeId(static_cast<std::uint8_t>(1 + random.below(2)))});
    case Fault::operator_giveback:
      return order(at, {.verb = OperatorVerb::giveback,
                        .node = partner,
                        .force = random.chance(1, 4),
                        .uncoordinated = random.chance(1, 8)});
    case Fault::operator_boot_forced:
      // The way out when the partner is gone for good (docs/protocols/boot.md), and stays away.
      if (world_.node(partner).daemon_running() || world_.node(at).standing_still()) return;
      world_.node(partner).keep_off(world_.now() + stays_away);
      return order(at, {.verb = OperatorVerb::giveback, .node = at, .force = true});
    case Fault::operator_halt:
      order(at, {.verb = OperatorVerb::halt,
                 .node = at,
                 .force = random.chance(1, 4),
                 .no_takeover = random.chance(1, 3)});
      return later(event.lasts, [&node = world_.node(at)] { node.start_again(); });
    default:
      return;
  }
}

void Faults::order(NodeId at, ha::OperatorRequest request) {
  world_.node(at).operate(std::move(request), [world = &world_](const ha::OperatorAnswer& answer) {
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

}  // namespace duet::simulator
