// Health and readiness: what the core knows of it, and what it concludes.
#include "ha/core.h"

namespace duet::ha {

void Core::on(const HealthChanged& event, Output&) {
  health_.on_health(event.record, world_);
}

void Core::on_health_message(HealthMessage message, Output& out) {
  const auto& record = message.record;
  if (record.cluster != world_.config.cluster || record.node != world_.partner()) {
    ++invalid_messages_;
  } else if (message.addressee != world_.nonce || record.boot != world_.monitor.nonce()) {
    ++stale_messages_;
  } else {
    health_.on_partner(std::move(message.record), world_, out);
  }
}

void Core::exchange_health(Output& out) {
  if (!started_ || ending_ || !health_.due(out.now())) return;
  health_.advance(obstacles(Move::takeover, takeover_vetoes(out.now())),
                  obstacles(Move::giveback, giveback_vetoes(out.now())), world_, out);
}

ReadinessFacts Core::readiness_facts(Instant now) const {
  ReadinessFacts f;
  const auto& connected = world_.connected[world_.partner().value()];
  for (std::size_t i = 0; i < connected.size(); ++i) {
    if (!connected[i]) f.unreachable.push_back(static_cast<std::uint8_t>(i));
  }
  f.link = world_.link;
  f.partner = world_.verdict(now);
  f.own_health = world_.own_health;
  f.partner_health = world_.fresh_partner_health(now);
  return f;
}

}  // namespace duet::ha
