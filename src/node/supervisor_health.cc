// What the supervisor shows its failover monitor.
#include <fmt/format.h>

#include "node/supervisor.h"

namespace duet::node {
namespace {

constexpr Duration look_interval = milliseconds(250);
constexpr Duration memory_interval = seconds(1);

ha::Severity severity_of(ha::Health health) {
  switch (health) {
    case ha::Health::failed:
      return ha::Severity::error;
    case ha::Health::degraded:
      return ha::Severity::warning;
    case ha::Health::unknown:
    case ha::Health::good:
      return ha::Severity::info;
  }
  UNREACHABLE();
}

}  // namespace

void Supervisor::watch_health() {
  look_at_health();
  health_.timer =
      ports_.scheduler.at(ports_.scheduler.now() + look_interval, [this] { watch_health(); });
}

void Supervisor::track(ha::DiskRef ref, Instant started, const Result<ha::DiskReply>& reply) {
  // A lost path or a reservation says nothing of the disk.
  bool of_the_disk = !reply && (reply.error().code == ErrorCode::io_error ||
                                reply.error().code == ErrorCode::timed_out);
  auto now = ports_.scheduler.now();
  health_.tracks[ref.identity.value()][ref.index].completed(
      now - started, of_the_disk ? reply.error().message : std::string(), now);
}

HealthFacts Supervisor::health_facts(Instant now) {
  HealthFacts f;
  for (std::uint8_t n : {1, 2}) {
    for (std::size_t i = 0; i < ports_.disks[n].size(); ++i) {
      const auto& disk = *ports_.disks[n][i];
      f.disks[n].push_back(
          {config_.disk_name(NodeId(n), i), disk.geometry().serial, health_.tracks[n][i]});
    }
    f.addresses[n] = addresses_.report(NodeId(n));
  }
  auto core = core_->snapshot(now);
  f.link = core.link;
  f.link_why = link_why_;
  f.partner = health_.partner;
  if (core.partner_health && core.partner_health_age <= ha::health_record_life) {
    f.partner_health = core.partner_health;
  }
  f.engine_running = ports_.engine.running();
  f.engine_ready = health_.engine_ready;
  auto progress = ports_.engine.shared().engine_progress.load(std::memory_order_relaxed);
  if (progress != health_.progress || !f.engine_running) {
    health_.progress = progress;
    health_.progress_at = now;
  }
  f.engine_silence = now - health_.progress_at;
  f.engine = engine_report_;
  f.nvram_persistent = nvram_persistent_;
  if (ports_.memory && now >= health_.memory_at) {
    health_.memory = ports_.memory();
    health_.memory_at = now + memory_interval;
  }
  f.memory = health_.memory;
  for (const auto& identity : core.identities) {
    f.served[identity.identity.value()] = identity.served_here;
  }
  f.wall_ns = ports_.wall_clock_ns();
  return f;
}

void Supervisor::look_at_health() {
  if (between_boots_) return;
  auto now = ports_.scheduler.now();
  for (std::uint8_t n : {1, 2}) {
    for (std::size_t i = 0; i < ports_.disks[n].size(); ++i) {
      health_.tracks[n][i].connection(ports_.disks[n][i]->connected(), now);
    }
  }
  auto record = evaluate_health(config_, health_facts(now), now);
  if (health_.reported && health_.reported->same_as(record)) return;
  if (health_.reported) note_health(*health_.reported, record);
  health_.reported = record;
  feed(ha::HealthChanged{std::move(record)});
}

// An alarm for each module that got worse or well again.
void Supervisor::note_health(const ha::HealthRecord& before, const ha::HealthRecord& after) {
  for (const auto& m : after.modules) {
    const auto* old = before.find(m.module);
    if (old && old->health == m.health && old->finding == m.finding) continue;
    if (m.health == ha::Health::unknown ||
        (old && old->health == ha::Health::unknown && m.health == ha::Health::good)) {
      continue;
    }
    note(severity_of(m.health), fmt::format("health.{}", ha::name(m.module)),
         fmt::format("{}{}{}", ha::name(m.health), m.detail.empty() ? "" : ": ", m.detail));
  }
  if (before.health == after.health) return;
  note(severity_of(after.health), "health.node", std::string(ha::name(after.health)));
}

}  // namespace duet::node
