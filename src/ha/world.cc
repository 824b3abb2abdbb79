#include "ha/world.h"

#include "base/assert.h"
#include "ha/readiness.h"

namespace duet::ha {

DiskSet World::missing(NodeId identity) const {
  DiskSet disks;
  const auto& paths = connected[identity.value()];
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (!paths[i]) disks.push_back(static_cast<std::uint8_t>(i));
  }
  return disks;
}

std::optional<HealthRecord> World::fresh_partner_health(Instant now) const {
  if (!partner_health || partner_health->boot != monitor.nonce()) return {};
  if (now - partner_health_at > health_record_life) return {};
  return partner_health;
}

ReplayDecision decide_replay(const Mailbox& mailbox, std::uint64_t nvram) {
  switch (mailbox.durability) {
    case Durability::write_through:
      return {.possible = true, .replay = false};
    case Durability::local: {
      bool here = mailbox.nvram_server == nvram;
      return {.possible = here, .replay = here, .own_log = here};
    }
    case Durability::mirrored: {
      bool own = mailbox.nvram_server == nvram;
      bool here = own || mailbox.nvram_mirror == nvram;
      return {.possible = here, .replay = here, .own_log = own};
    }
  }
  UNREACHABLE();
}

}  // namespace duet::ha
