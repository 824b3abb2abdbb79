#include "render.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json.hpp>
#include <boost/json/src.hpp>
#include <chrono>

namespace duet::cli {
namespace {

namespace json = boost::json;

// Each veto with its name, and what clears it.
std::string vetoes_text(const admin::Possible& p, const char* indent) {
  std::string out;
  auto list = [&](const std::vector<admin::Veto>& vetoes, const char* soft) {
    for (const auto& v : vetoes) {
      out += fmt::format("{}- {} ({}{}){}{}\n", indent, v.text, v.name, v.hard ? "" : soft,
                         v.detail.empty() ? "" : ": ", v.detail);
      if (!v.cure.empty()) out += fmt::format("{}    clears: {}\n", indent, v.cure);
    }
  };
  list(p.vetoes, ", soft");
  list(p.notes, ", stops nothing");
  return out;
}

std::string possible_text(const char* what, const admin::Possible& p) {
  if (p.possible) return fmt::format("  {:<10} possible\n", what);
  if (p.vetoes.size() == 1 && p.vetoes[0].name == "not_taken_over") {
    return fmt::format("  {:<10} nothing to give back\n", what);
  }
  return fmt::format("  {:<10} not possible\n", what) + vetoes_text(p, "    ");
}

json::object possible_json(const admin::Possible& p) {
  json::array reasons, vetoes, notes;
  auto item = [](const admin::Veto& v) {
    return json::object{{"name", v.name},
                        {"hard", v.hard},
                        {"text", v.text},
                        {"detail", v.detail},
                        {"clears", v.cure}};
  };
  for (const auto& v : p.vetoes) {
    reasons.push_back(json::value(v.detail.empty() ? v.text : v.text + ": " + v.detail));
    vetoes.push_back(item(v));
  }
  for (const auto& v : p.notes) notes.push_back(item(v));
  return {{"possible", p.possible},
          {"reasons", std::move(reasons)},
          {"vetoes", std::move(vetoes)},
          {"notes", std::move(notes)}};
}

bool moving(const std::string& step) {
  return !step.empty() && step != "idle" && step != "serving" && step != "holding";
}

std::string identity_text(const admin::IdentityStatus& i) {
  if (!i.served_here) {
    return fmt::format("  {:<8} not served here   {}\n", i.name, i.target);
  }
  auto out = fmt::format(
      "  {:<8} served here, epoch {}, {}{}   {} at {}\n"
      "  {:<8} address {}\n"
      "  {:<8} {} LUN(s), {} session(s), log {} of {} used, {} consistency points\n",
      i.name, i.epoch, i.durability, i.lease_valid ? "" : ", LEASE EXPIRED: not answering",
      i.target, i.address, "", i.network, "", i.luns, i.sessions, human_size(i.log_used),
      human_size(i.log_size), i.consistency_points);
  for (const auto& disk : i.absent) {
    out += fmt::format("  {:<8} without disk {}: {}\n", "", disk.name, disk.why);
  }
  return out;
}

std::string hex(std::uint64_t n) {
  return fmt::format("{:016x}", n);
}

}  // namespace

std::string human_size(std::uint64_t bytes) {
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 5) value /= 1024, ++unit;
  return value == static_cast<double>(static_cast<std::uint64_t>(value))
             ? fmt::format("{:.0f} {}", value, units[unit])
             : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string status_text(const admin::StatusReport& s) {
  std::string out =
      fmt::format("{} (node {} of cluster {}): {}\n", s.name, s.node.value(), s.cluster, s.state);
  if (!s.why.empty()) out += fmt::format("  why        {}\n", s.why);
  out +=
      fmt::format("  health     {}{}\n", s.health, s.health == "good" ? "" : ": see 'duet health'");
  if (!s.next.empty()) out += fmt::format("  next       {}\n", s.next);
  for (const auto& [what, step] : {std::pair{"takeover", s.takeover_step},
                                   {"departure", s.departure_step},
                                   {"giveback", s.giveback_step}}) {
    if (moving(step)) out += fmt::format("  moving     {}: {}\n", what, step);
  }
  if (s.countdown_left_ms >= 0) {
    out += fmt::format("  countdown  {:.1f} s left{}\n",
                       static_cast<double>(s.countdown_left_ms) / 1000,
                       s.may_cancel ? "; 'duet cancel' stops it" : "");
  }
  out += fmt::format("partner {}: {}{}, health {}\n", s.partner_name, s.partner_state,
                     s.partner_verdict.empty() ? "" : " (" + s.partner_verdict + ")",
                     s.partner_health);
  out += fmt::format("  link       {}{}\n", s.link, s.link_why.empty() ? "" : ": " + s.link_why);
  out += fmt::format("  mirror     to partner {}, from partner {}; NVRAM {}\n",
                     s.mirror_outgoing ? "up" : "down", s.mirror_incoming ? "up" : "down",
                     s.nvram_persistent ? "persistent" : "VOLATILE: does not survive power loss");
  out += possible_text("takeover", s.takeover);
  out += possible_text("giveback", s.giveback);
  out += fmt::format("  automatic  giveback {}\n", s.auto_giveback_plan);
  out += "identities\n";
  for (const auto& i : s.identities) out += identity_text(i);
  bool heading = false;
  for (const auto& c : s.counters) {
    if (c.value == 0) continue;
    out += heading ? ", " : "counters\n  ";
    heading = true;
    out += fmt::format("{} {}", c.name, c.value);
  }
  if (heading) out += "\n";
  return out;
}

std::string status_json(const admin::StatusReport& s) {
  json::array identities;
  for (const auto& i : s.identities) {
    json::array absent;
    for (const auto& disk : i.absent) absent.push_back({{"disk", disk.name}, {"why", disk.why}});
    identities.push_back({{"identity", i.identity.value()},
                          {"name", i.name},
                          {"served_here", i.served_here},
                          {"epoch", i.epoch},
                          {"durability", i.durability},
                          {"target", i.target},
                          {"address", i.address},
                          {"network", i.network},
                          {"lease_valid", i.lease_valid},
                          {"luns", i.luns},
                          {"sessions", i.sessions},
                          {"log_used", i.log_used},
                          {"log_size", i.log_size},
                          {"consistency_points", i.consistency_points},
                          {"absent_disks", std::move(absent)}});
  }
  json::object counters;
  for (const auto& c : s.counters) counters[c.name] = c.value;
  return json::serialize(json::object{{"node", s.node.value()},
                                      {"name", s.name},
                                      {"cluster", s.cluster},
                                      {"supervisor_pid", s.supervisor_pid},
                                      {"engine_pid", s.engine_pid},
                                      {"state", s.state},
                                      {"why", s.why},
                                      {"next", s.next},
                                      {"boot_nonce", hex(s.boot_nonce)},
                                      {"partner_name", s.partner_name},
                                      {"partner_state", s.partner_state},
                                      {"partner_verdict", s.partner_verdict},
                                      {"link", s.link},
                                      {"link_why", s.link_why},
                                      {"mirror_outgoing", s.mirror_outgoing},
                                      {"mirror_incoming", s.mirror_incoming},
                                      {"nvram_persistent", s.nvram_persistent},
                                      {"auto_giveback", s.auto_giveback},
                                      {"auto_giveback_plan", s.auto_giveback_plan},
                                      {"health", s.health},
                                      {"partner_health", s.partner_health},
                                      {"takeover_step", s.takeover_step},
                                      {"departure_step", s.departure_step},
                                      {"giveback_step", s.giveback_step},
                                      {"countdown_left_ms", s.countdown_left_ms},
                                      {"may_cancel", s.may_cancel},
                                      {"identities", std::move(identities)},
                                      {"takeover", possible_json(s.takeover)},
                                      {"giveback", possible_json(s.giveback)},
                                      {"counters", std::move(counters)}}) +
         "\n";
}

std::string event_text(const admin::EventItem& e) {
  auto wall = std::chrono::sys_time<std::chrono::milliseconds>(
      std::chrono::milliseconds(e.wall_ns / 1'000'000));
  return fmt::format("{:%F %T} {:<7} {:<26} {}\n", wall, e.severity, e.phase, e.text);
}

std::string event_json(const admin::EventItem& e) {
  return json::serialize(json::object{{"number", e.number},
                                      {"boottime_ns", e.boottime_ns},
                                      {"wall_ns", e.wall_ns},
                                      {"severity", e.severity},
                                      {"phase", e.phase},
                                      {"text", e.text}}) +
         "\n";
}

std::string luns_text(const admin::LunReply& reply) {
  if (reply.luns.empty()) return "no LUNs on the identities served here\n";
  std::string out = fmt::format("{:<8} {:>4} {:<24} {:>10} {:<20} {}\n", "identity", "LUN", "name",
                                "size", "serial", "NAA");
  for (const auto& l : reply.luns) {
    out += fmt::format("{:<8} {:>4} {:<24} {:>10} {:<20} {}\n", l.identity.value(),
                       l.number.value(), l.name, human_size(l.size), l.serial,
                       l.naa + (l.reserved ? "  space kept" : ""));
  }
  return out;
}

std::string luns_json(const admin::LunReply& reply) {
  json::array luns;
  for (const auto& l : reply.luns) {
    luns.push_back({{"identity", l.identity.value()},
                    {"lun", l.number.value()},
                    {"name", l.name},
                    {"size", l.size},
                    {"serial", l.serial},
                    {"naa", l.naa},
                    {"reserved", l.reserved}});
  }
  return json::serialize(json::object{{"luns", std::move(luns)}}) + "\n";
}

std::string disks_text(const admin::DiskReport& report) {
  std::string out = fmt::format("{:<5} {:>4} {:<5} {:>10} {:<32} {}\n", "owner", "LUN", "path",
                                "size", "label", "reservation");
  for (const auto& d : report.disks) {
    out += fmt::format("{:<5} {:>4} {:<5} {:>10} {:<32} {}\n", d.owner.value(), d.lun,
                       d.connected ? "up" : "DOWN", human_size(d.size), d.label, d.reservation);
  }
  return out;
}

std::string disks_json(const admin::DiskReport& report) {
  json::array disks;
  for (const auto& d : report.disks) {
    disks.push_back({{"owner", d.owner.value()},
                     {"lun", d.lun},
                     {"path", d.path},
                     {"connected", d.connected},
                     {"size", d.size},
                     {"serial", d.serial},
                     {"label", d.label},
                     {"reservation", d.reservation}});
  }
  return json::serialize(json::object{{"disks", std::move(disks)}}) + "\n";
}

std::string health_text(const admin::HealthReport& report) {
  std::string out;
  for (const auto& n : report.nodes) {
    out += fmt::format("{} (node {}, {}): {}{}\n", n.name, n.node.value(), n.software, n.health,
                       n.source == "now" ? ""
                                         : fmt::format(" ({} {:.1f} s ago)", n.source,
                                                       static_cast<double>(n.age_ms) / 1000));
    for (const auto& m : n.modules) {
      out += fmt::format("  {:<13} {:<9} {}\n", m.module, m.health, m.detail);
      bool well = m.health == "good" || m.cure.empty();
      if (!well) out += fmt::format("  {:<13} {:<9} clears: {}\n", "", "", m.cure);
    }
  }
  return out.empty() ? "nothing is known yet\n" : out;
}

std::string health_json(const admin::HealthReport& report) {
  json::array nodes;
  for (const auto& n : report.nodes) {
    json::array modules;
    for (const auto& m : n.modules) {
      modules.push_back({{"module", m.module},
                         {"health", m.health},
                         {"finding", m.finding},
                         {"detail", m.detail},
                         {"clears", m.cure}});
    }
    nodes.push_back({{"node", n.node.value()},
                     {"name", n.name},
                     {"health", n.health},
                     {"source", n.source},
                     {"age_ms", n.age_ms},
                     {"software", n.software},
                     {"modules", std::move(modules)}});
  }
  return json::serialize(json::object{{"nodes", std::move(nodes)}}) + "\n";
}

std::string check_text(const admin::CheckReport& report, const NodeName& name) {
  std::string out;
  auto line = [&](const char* what, const admin::MoveCheck& c) {
    out += fmt::format("{:<9} {:<12} by {:<12} {}{}\n", what, name(c.node), name(c.by),
                       c.possible.possible ? "yes" : "NO",
                       c.rehearsed ? ", rehearsed: disks, labels, reservations, mailbox" : "");
    out += vetoes_text(c.possible, "  ");
  };
  for (const auto& c : report.takeovers) line("takeover", c);
  for (const auto& c : report.givebacks) line("giveback", c);
  return out;
}

std::string check_json(const admin::CheckReport& report) {
  auto list = [](const std::vector<admin::MoveCheck>& checks) {
    json::array out;
    for (const auto& c : checks) {
      auto item = possible_json(c.possible);
      item["node"] = c.node.value();
      item["by"] = c.by.value();
      item["rehearsed"] = c.rehearsed;
      out.push_back(std::move(item));
    }
    return out;
  };
  return json::serialize(json::object{{"takeovers", list(report.takeovers)},
                                      {"givebacks", list(report.givebacks)}}) +
         "\n";
}

}  // namespace duet::cli
