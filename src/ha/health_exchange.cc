#include "ha/health_exchange.h"

namespace duet::ha {

void HealthExchange::on_health(HealthRecord record, World& world) {
  record.cluster = world.config.cluster;
  record.node = world.self();
  record.boot = world.nonce;
  if (world.own_health) {  // the judgement stands until the next one
    record.number = number_;
    record.takeover_judged = record.giveback_judged = world.own_health->takeover_judged;
    record.obstacles = std::move(world.own_health->obstacles);
  }
  world.own_health = std::move(record);
  reported_ = true;
}

void HealthExchange::on_partner(HealthRecord record, World& world, Output& out) {
  // At most once does not mean in order after a reconnection.
  if (world.partner_health && world.partner_health->boot == record.boot &&
      world.partner_health->number >= record.number) {
    return;
  }
  world.partner_health = std::move(record);
  world.partner_health_at = out.now();
}

void HealthExchange::advance(const std::vector<Obstacle>& takeover,
                             const std::vector<Obstacle>& giveback, World& world, Output& out) {
  ASSERT(due(out.now()));
  not_before_ = out.now() + change_interval;
  auto& own = *world.own_health;
  own.takeover_judged = own.giveback_judged = true;
  own.obstacles = takeover;
  own.obstacles.insert(own.obstacles.end(), giveback.begin(), giveback.end());
  if (own.obstacles.size() > max_obstacles) own.obstacles.resize(max_obstacles);
  if (!sent_ || !own.same_as(*sent_) || send_at_ <= out.now()) {
    own.number = ++number_;
    sent_ = own;
    send_at_ = out.now() + send_interval;
    auto addressee = world.monitor.nonce();
    if (addressee != BootNonce(0) && world.link == ports::LinkState::ready) {
      out.act(SendMessage{encode(
          HealthMessage{.sender_epoch = world.boot_epoch, .addressee = addressee, .record = own})});
    }
  }
  keep(world, out);
}

// The engine has the NVRAM; a new one is told everything.
void HealthExchange::keep(World& world, Output& out) {
  if (!world.engine) {
    engine_ = false;
    return;
  }
  auto same = [](const std::optional<HealthRecord>& a, const std::optional<HealthRecord>& b) {
    return a.has_value() == b.has_value() && (!a || (a->boot == b->boot && a->same_as(*b)));
  };
  if (engine_ && same(kept_own_, world.own_health) && same(kept_partner_, world.partner_health)) {
    return;
  }
  engine_ = true;
  kept_own_ = world.own_health;
  kept_partner_ = world.partner_health;
  KeepHealthRecords order{encode(*world.own_health), {}};
  if (world.partner_health) order.partner = encode(*world.partner_health);
  out.act(std::move(order));
}

Instant HealthExchange::next_time() const {
  return reported_ ? send_at_ : never;
}

}  // namespace duet::ha
