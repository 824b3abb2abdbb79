// The engines of the cluster in a planned move: warming up, handing over, and being cancelled.
#include <algorithm>

#include "disk/areas.h"
#include "ha/cluster.h"

namespace duet::ha::testing {

void Cluster::prepare(Node& node, NodeId identity) {
  node.engine.prepared = true;
  DiskRef last{identity, static_cast<std::uint8_t>(options_.disks - 1)};
  at_engine(node, random(options_.prepare / 2, options_.prepare * 2),
            [this, &node, identity, last] {
              command(node, true, last, ReadBlock{data_block}, [this, &node, identity](auto reply) {
                bool ok = reply && !random_.chance(options_.prepare_fails_per_100, 100);
                if (!ok) node.engine.prepared = false;
                deliver(node, IdentityPrepared{identity, ok, ok ? "" : "the pool cannot be read"});
              });
            });
}

void Cluster::hand_over(Node& node, NodeId identity) {
  auto it = node.engine.serving.find(identity);
  if (it == node.engine.serving.end() || !it->second.assumed) {
    at_engine(node, milliseconds(1),
              [this, &node, identity] { deliver(node, HandOverFailed{identity, "not served"}); });
    return;
  }
  auto run = ++it->second.hand_over_run;
  // The consistency point, while clients are served.
  at_engine(node, random(milliseconds(1), milliseconds(20)), [this, &node, identity, run] {
    auto& s = node.engine.serving[identity];
    if (s.hand_over_run != run) return;
    s.handing_over = true;
    at_engine(node, random(options_.hand_over / 2, options_.hand_over * 2),
              [this, &node, identity, run] { drain(node, identity, run); });
  });
}

void Cluster::drain(Node& node, NodeId identity, std::uint64_t run) {
  auto& s = node.engine.serving[identity];
  if (s.hand_over_run != run || options_.hand_over_hangs) return;
  if (s.busy || s.flushing > 0) {  // complete what has begun
    at_engine(node, milliseconds(1), [this, &node, identity, run] { drain(node, identity, run); });
    return;
  }
  if (random_.chance(options_.hand_over_fails_per_100, 100)) {
    s.handing_over = false;
    ++s.hand_over_run;
    deliver(node, HandOverFailed{identity, "a consistency point failed"});
    return;
  }
  s.handed_over = true;
  deliver(node, IdentityHandedOver{identity, random_.below(4)});
}

void Cluster::cancel_hand_over(Node& node, NodeId identity) {
  at_engine(node, random(Duration(20000), milliseconds(2)), [this, &node, identity] {
    auto it = node.engine.serving.find(identity);
    bool too_late = it == node.engine.serving.end() || it->second.handed_over;
    if (too_late || options_.hand_over_hangs) return;
    ++it->second.hand_over_run;
    it->second.handing_over = false;
    deliver(node, HandOverFailed{identity, "cancelled"});
  });
}

// P2: who says that it has left answers nobody. P3: never both.
void Cluster::check_published(Node& node, const StateStructure& said) {
  if (said.state != NodeState::halted) return;
  if (node.lease[node.id.value()] > now_) {
    violation("P2: node " + std::to_string(node.id.value()) + " says halted while its lease runs");
  }
  if (said.reason != static_cast<std::uint8_t>(Reason::handed_over)) return;
  const auto& other = node_of(partner_of(node.id));
  if (other.published && other.published->state == NodeState::halted &&
      other.published->reason == static_cast<std::uint8_t>(Reason::handed_over)) {
    violation("P3: both nodes have left");
  }
}

}  // namespace duet::ha::testing
