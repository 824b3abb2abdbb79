#include "simulator/core_sweep.h"

#include <fmt/format.h>

#include <algorithm>

#include "simulator/sim_node.h"

namespace duet::simulator {

void CoreSweep::start() {
  if (world_.shape().dump_disks == 0) return;
  for (std::uint8_t n : {1, 2}) {
    open_.insert(NodeId(n));
    sweeps_[n].expected = dumps_.saved(NodeId(n));
    list(NodeId(n));
  }
}

void CoreSweep::violate(NodeId identity, const std::string& what) {
  open_.erase(identity);
  if (world_.excused(identity, "I1")) return;
  world_.violate(
      "I11", fmt::format("C8: cores of {}: {}", world_.config(NodeId(1)).name_of(identity), what));
}

// Of whoever serves it; again until there is an answer.
void CoreSweep::ask(NodeId identity, admin::CoreOrder order, Use use) {
  order.identity = identity;
  const bool away = world_.node(partner_of(identity)).served(identity).serving;
  auto answered = [this, alive = alive_, identity, order, use](const node::CoreAnswer& answer) {
    world_.outside().at(world_.now() + (answer.reply.ok ? Duration{} : retry_delay),
                        [this, alive, identity, order, use, reply = answer.reply] {
                          if (!*alive || !open_.contains(identity)) return;
                          if (!reply.ok) return ask(identity, order, use);
                          use(reply);
                        });
  };
  world_.node(away ? partner_of(identity) : identity).ask_cores(order, std::move(answered));
}

void CoreSweep::list(NodeId identity) {
  ask(identity, {.verb = admin::CoreVerb::list, .identity = identity},
      [this, identity](const admin::CoreReply& reply) {
        auto& sweep = sweeps_[identity.value()];
        for (const auto& item : reply.cores) {
          if (item.collecting || item.details.empty()) continue;
          sweep.expected.erase(item.id);
          sweep.cores.push_back(item);
        }
        if (!sweep.expected.empty()) {
          return violate(identity,
                         fmt::format("{} was saved, and is not there", *sweep.expected.begin()));
        }
        next(identity);
      });
}

void CoreSweep::next(NodeId identity) {
  auto& sweep = sweeps_[identity.value()];
  sweep.bytes.clear();
  if (sweep.cores.empty()) {
    open_.erase(identity);
    return;
  }
  read(identity);
}

void CoreSweep::read(NodeId identity) {
  auto& sweep = sweeps_[identity.value()];
  ask(identity,
      {.verb = admin::CoreVerb::read,
       .identity = identity,
       .id = sweep.cores.back().id,
       .offset = sweep.bytes.size()},
      [this, identity](const admin::CoreReply& reply) {
        auto& bytes = sweeps_[identity.value()].bytes;
        bytes.insert(bytes.end(), reply.data.begin(), reply.data.end());
        if (!reply.end) return read(identity);
        compare(identity);
      });
}

// A truncated one is the front part.
void CoreSweep::compare(NodeId identity) {
  auto& sweep = sweeps_[identity.value()];
  const auto& core = sweep.cores.back();
  const DumpedMemory* dumped = dumps_.memory(core.id);
  const bool complete = core.details.find(R"("complete":true)") != std::string::npos ||
                        core.details.find(R"("complete": true)") != std::string::npos;
  const bool right = dumped != nullptr && dumped->node == identity &&
                     sweep.bytes.size() == core.size && core.size <= dumped->bytes.size() &&
                     (!complete || core.size == dumped->bytes.size()) &&
                     std::ranges::equal(sweep.bytes, Bytes(dumped->bytes).first(core.size));
  if (!right) {
    return violate(identity,
                   fmt::format("{}, {} of {} bytes, {}, is not what was in memory", core.id,
                               sweep.bytes.size(), core.size, complete ? "complete" : "truncated"));
  }
  ++compared_;
  sweep.cores.pop_back();
  next(identity);
}

}  // namespace duet::simulator
