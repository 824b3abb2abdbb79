// Has both nodes know both health records: completes what the failover monitor reports with the
// core's own judgement, sends it to the partner at every change and every second, and has both
// records kept in our NVRAM whenever one of them says something new.
#pragma once

#include <vector>

#include "ha/health_message.h"
#include "ha/world.h"

namespace duet::ha {

class HealthExchange {
 public:
  static constexpr Duration send_interval = seconds(1);
  // Changes that come faster are sent and kept together.
  static constexpr Duration change_interval = milliseconds(100);

  // From our failover monitor: cluster, node, boot and number are filled in here.
  void on_health(HealthRecord record, World& world);
  // Requires: from the partner's present boot to this boot.
  void on_partner(HealthRecord record, World& world, Output& out);
  // A change may be told of now.
  bool due(Instant now) const { return reported_ && now >= not_before_; }
  // Requires: due(). The core's judgement, and what follows.
  void advance(const std::vector<Obstacle>& takeover, const std::vector<Obstacle>& giveback,
               World& world, Output& out);
  Instant next_time() const;

 private:
  void keep(World& world, Output& out);

  std::uint64_t number_ = 0;
  bool reported_ = false;
  std::optional<HealthRecord> sent_, kept_own_, kept_partner_;
  Instant send_at_ = never, not_before_{};
  bool engine_ = false;  // the one that keeps the records
};

}  // namespace duet::ha
