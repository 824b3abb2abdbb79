#include "node/control_status.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/ip_address.h"
#include "ha/readiness.h"

namespace duet::node {

namespace {

std::string text_of(ha::Reason reason) {
  return reason == ha::Reason::none ? "" : std::string(ha::sentence(reason));
}

admin::Veto veto_item(ha::Reason reason, bool hard, const std::string& detail) {
  return {std::string(ha::name(reason)), hard, std::string(ha::sentence(reason)), detail,
          std::string(ha::cure(reason))};
}

admin::Possible possible(const ha::Vetoes& vetoes) {
  admin::Possible p;
  for (const auto& v : vetoes) {
    auto& list = v.reason == ha::Reason::disk_done_without ? p.notes : p.vetoes;
    list.push_back(veto_item(v.reason, v.hard, v.detail));
  }
  p.possible = p.vetoes.empty();
  return p;
}

// What the partner says of a move that it would make.
admin::Possible possible(const ha::HealthRecord& record, ha::Move move) {
  admin::Possible p;
  for (const auto& o : record.obstacles) {
    if (o.move == move) p.vetoes.push_back(veto_item(o.reason, o.hard, o.detail));
  }
  p.possible = p.vetoes.empty();
  return p;
}

admin::Possible unknown() {
  return {false, {veto_item(ha::Reason::health_unknown, true, "")}, {}};
}

std::string plan_text(const ha::AutoGivebackPlan& plan, Instant present) {
  using Why = ha::AutoGivebackPlan::Why;
  auto in = [&] {
    auto left = std::max(Duration{}, plan.at - present);
    return fmt::format("in {:.1f} s", std::chrono::duration<double>(left).count());
  };
  switch (plan.why) {
    case Why::off:
      return "off";
    case Why::not_taken_over:
      return "on; nothing to give back";
    case Why::by_order:
      return "not after a takeover by order: 'duet giveback' when the work on the partner is done";
    case Why::not_ready:
      return "when the partner waits for it";
    case Why::vetoed:
      return "held back by the vetoes of the giveback";
    case Why::delay:
      return "gives back " + in();
    case Why::resting:
      return fmt::format("tries again {}, after {} failures", in(), plan.failures);
    case Why::failed_often:
      return fmt::format("stopped after {} failures; goes on {}, or at once after 'duet giveback'",
                         plan.failures, in());
    case Why::ping_pong:
      return fmt::format(
          "stopped after {} takeovers in a short time; goes on {}, or at once after "
          "'duet giveback'",
          plan.takeovers, in());
    case Why::now:
      return "gives back now";
  }
  UNREACHABLE();
}

std::string dump_text(const PanicDump::Progress& dump) {
  constexpr double mib = 1 << 20;
  if (dump.disk.empty()) return "the engine's memory is to be dumped";
  if (dump.total == 0) return "the engine's memory is being dumped to " + dump.disk;
  return fmt::format(
      "the engine's memory is being dumped to {}: {:.0f} of {:.0f} MiB, {} %, {:.0f} s left",
      dump.disk, static_cast<double>(dump.done) / mib, static_cast<double>(dump.total) / mib,
      100 * dump.done / dump.total, std::chrono::duration<double>(dump.left).count());
}

const ha::HealthRecord* fresh(const ha::Snapshot& core) {
  bool known = core.partner_health && core.partner_health->boot == core.partner_nonce &&
               core.partner_health_age <= ha::health_record_life;
  return known ? &*core.partner_health : nullptr;
}

std::string left_text(const ha::DumpSnapshot& left, Instant now) {
  auto in_seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
  auto text =
      fmt::format("left to the dump of its node since {:.1f} s", in_seconds(now - left.since));
  if (left.total > 0) {
    text += fmt::format(", {} of {} bytes", left.done, left.total);
  }
  if (left.until == Instant::max()) return text;
  return text + fmt::format("; taken in {:.1f} s at the latest",
                            in_seconds(std::max(left.until - now, Duration{})));
}

admin::IdentityStatus identity_status(const ha::IdentitySnapshot& i, const Config& config,
                                      const EngineReport& engine, const ServiceAddresses& addresses,
                                      Instant now) {
  const auto& service = config.services[i.identity.value()];
  admin::IdentityStatus s;
  s.identity = i.identity;
  s.name = config.name_of(i.identity);
  s.served_here = i.served_here;
  s.epoch = i.epoch.value();
  s.target = service.iqn;
  s.address = host_and_port(service.address, service.port);
  s.network = addresses.report(i.identity).text;
  s.lease_valid = now < i.lease_until;
  if (!i.served_here) return s;
  s.durability = duet::name(i.durability);
  s.absent = absent_disks(i, config, now);
  for (const auto& e : engine.identities) {
    if (e.identity != i.identity) continue;
    s.luns = e.luns;
    s.sessions = e.sessions;
    s.log_used = e.log_used;
    s.log_size = e.log_size;
    s.consistency_points = e.consistency_points;
  }
  return s;
}

}  // namespace

std::vector<admin::AbsentDisk> absent_disks(const ha::IdentitySnapshot& identity,
                                            const Config& config, Instant now) {
  std::vector<admin::AbsentDisk> disks;
  for (auto index : identity.absent_disks) {
    auto left = std::ranges::find(identity.left_to_dump, index, &ha::DumpSnapshot::disk);
    if (left != identity.left_to_dump.end()) {
      disks.push_back({config.disk_name(identity.identity, index), left_text(*left, now)});
      continue;
    }
    bool path = std::ranges::find(identity.missing_disks, index) == identity.missing_disks.end();
    disks.push_back({config.disk_name(identity.identity, index),
                     path ? "it did not answer when it was to be fenced; tried again"
                          : "there is no path to it from here"});
  }
  return disks;
}

admin::StatusReport status_report(Supervisor& supervisor, std::int64_t supervisor_pid) {
  auto now = supervisor.ports().scheduler.now();
  const auto& config = supervisor.config();
  const auto& engine = supervisor.engine_report();
  auto core = supervisor.core().snapshot(now);
  admin::StatusReport s;
  s.node = config.self;
  s.name = config.name_of(config.self);
  s.cluster = config.cluster_name;
  s.supervisor_pid = supervisor_pid;
  s.engine_pid = supervisor.ports().engine.pid();
  s.state = interconnect::name(core.state);
  s.why = text_of(core.why);
  s.next = core.next;
  if (auto dump = supervisor.dump_progress()) s.next = dump_text(*dump);
  s.boot_nonce = core.nonce.value();
  s.partner_name = config.name_of(config.partner());
  s.partner_state = core.partner_known ? interconnect::name(core.partner_state) : "unknown";
  s.partner_verdict = ha::name(core.partner_verdict);
  s.link = ports::name(core.link);
  s.link_why = supervisor.link_why();
  s.mirror_outgoing = engine.mirror_outgoing;
  s.mirror_incoming = engine.mirror_incoming;
  s.nvram_persistent = supervisor.nvram_persistent();
  s.auto_giveback = config.auto_giveback;
  for (const auto& i : core.identities) {
    s.identities.push_back(identity_status(i, config, engine, supervisor.addresses(), now));
  }
  s.health = core.own_health ? ha::name(core.own_health->health) : "unknown";
  const auto* partner = fresh(core);
  s.partner_health = partner ? ha::name(partner->health) : "unknown";
  s.takeover_step = core.takeover_step;
  s.departure_step = core.departure_step;
  s.giveback_step = core.giveback_step;
  if (core.countdown_left) s.countdown_left_ms = *core.countdown_left / milliseconds(1);
  s.may_cancel = core.may_cancel;
  s.auto_giveback_plan = plan_text(core.auto_giveback, now);
  s.takeover = possible(core.takeover_vetoes);
  s.giveback = possible(core.giveback_vetoes);
  s.counters = {{"progress", core.progress},
                {"stale_messages", core.stale_messages},
                {"invalid_messages", core.invalid_messages},
                {"invalid_states", core.invalid_states},
                {"illegal_states", core.illegal_states},
                {"dump_disks", supervisor.dump_disks().size()},
                {"partner_dump_disks", core.partner_dump_disks}};
  if (auto dump = supervisor.dump_progress()) {
    s.counters.push_back({"dump_bytes", dump->done});
    s.counters.push_back({"dump_bytes_total", dump->total});
    s.counters.push_back(
        {"dump_left_ms", static_cast<std::uint64_t>(dump->left / milliseconds(1))});
  }
  return s;
}

namespace {

admin::NodeHealth node_health(const ha::HealthRecord& record, const Config& config,
                              std::string source, std::int64_t age_ms) {
  admin::NodeHealth n;
  n.node = record.node;
  n.name = config.name_of(record.node);
  n.health = ha::name(record.health);
  n.source = std::move(source);
  n.age_ms = age_ms;
  n.software = record.software;
  for (const auto& m : record.modules) {
    n.modules.push_back({std::string(ha::name(m.module)), std::string(ha::name(m.health)),
                         std::string(ha::name(m.finding)), m.detail,
                         std::string(ha::cure(m.finding))});
  }
  return n;
}

// A record from before this boot: better than nothing, and said to be old.
void add_kept(admin::HealthReport& report, Bytes bytes, NodeId node, Supervisor& supervisor) {
  auto record = ha::decode_health_record(bytes);
  const auto& config = supervisor.config();
  if (!record || record->cluster != config.cluster || record->node != node) return;
  auto age = (supervisor.ports().wall_clock_ns() - record->wall_ns) / 1'000'000;
  report.nodes.push_back(
      node_health(*record, config, "kept in NVRAM", std::max<std::int64_t>(age, 0)));
}

}  // namespace

admin::HealthReport health_report(Supervisor& supervisor) {
  const auto& config = supervisor.config();
  auto core = supervisor.core().snapshot(supervisor.ports().scheduler.now());
  admin::HealthReport report;
  if (core.own_health) report.nodes.push_back(node_health(*core.own_health, config, "now", 0));
  const auto& kept = supervisor.kept_health();
  if (!core.own_health) add_kept(report, kept.own, config.self, supervisor);
  if (core.partner_health) {
    report.nodes.push_back(node_health(*core.partner_health, config, "reported",
                                       core.partner_health_age / milliseconds(1)));
  } else {
    add_kept(report, kept.partner, config.partner(), supervisor);
  }
  return report;
}

admin::CheckReport check_report(Supervisor& supervisor,
                                const std::optional<ha::Vetoes>& rehearsed) {
  const auto& config = supervisor.config();
  auto core = supervisor.core().snapshot(supervisor.ports().scheduler.now());
  const auto* partner = fresh(core);
  admin::CheckReport report;

  auto vetoes = core.takeover_vetoes;
  for (const auto& found : rehearsed.value_or(ha::Vetoes{})) {
    bool named = std::ranges::any_of(core.takeover_vetoes,
                                     [&](const auto& v) { return v.reason == found.reason; });
    if (!named) vetoes.push_back(found);
  }
  report.takeovers.push_back(
      {config.partner(), config.self, rehearsed.has_value(), possible(vetoes)});
  report.takeovers.push_back(
      {config.self, config.partner(), false,
       partner && partner->takeover_judged ? possible(*partner, ha::Move::takeover) : unknown()});

  auto nothing = [](const admin::Possible& p) {
    return std::ranges::any_of(
        p.vetoes, [](const auto& v) { return v.name == ha::name(ha::Reason::not_taken_over); });
  };
  admin::MoveCheck ours{config.partner(), config.self, false, possible(core.giveback_vetoes)};
  if (!nothing(ours.possible)) report.givebacks.push_back(std::move(ours));
  if (partner && partner->giveback_judged) {
    admin::MoveCheck theirs{config.self, config.partner(), false,
                            possible(*partner, ha::Move::giveback)};
    if (!nothing(theirs.possible)) report.givebacks.push_back(std::move(theirs));
  }
  return report;
}

}  // namespace duet::node
