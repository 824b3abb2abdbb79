#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json.hpp>
#include <chrono>

#include "render.h"

namespace duet::cli {
namespace {

namespace json = boost::json;

json::object work_json(const admin::PoolWork& work) {
  return {
      {"running", work.running}, {"done", work.done}, {"total", work.total}, {"last", work.last}};
}

std::string work_text(const char* what, const admin::PoolWork& work) {
  if (work.running) {
    const auto percent = work.total == 0 ? 0 : 100 * work.done / work.total;
    return fmt::format("  {:<9} running: {} of {} ({} %)\n", what, human_size(work.done),
                       human_size(work.total), percent);
  }
  return work.last.empty() ? "" : fmt::format("  {:<9} {}\n", what, work.last);
}

std::string limit_text(std::uint64_t limit) {
  return limit == 0 ? "-" : human_size(limit);
}

std::string time_text(std::int64_t ns) {
  if (ns == 0) return "-";
  auto wall = std::chrono::sys_time<std::chrono::seconds>(std::chrono::seconds(ns / 1'000'000'000));
  return fmt::format("{:%F %T}", wall);
}

std::string more_text(const admin::PoolReply& reply) {
  return reply.more == 0 ? "" : fmt::format("and {} more\n", reply.more);
}

}  // namespace

std::string pool_text(const admin::PoolReport& r) {
  std::string out = fmt::format("pool of {}: {}\n", r.name, r.health.empty() ? "well" : r.health);
  out += fmt::format("  capacity  {}, used {}, free {}; {} wait for the next consistency point\n",
                     human_size(r.size), human_size(r.used), human_size(r.free),
                     human_size(r.waiting));
  out += fmt::format("  {} consistency points since it is served here{}\n", r.consistency_points,
                     r.consistency_point_under_way ? ", one under way" : "");
  for (const auto& g : r.groups) {
    out += fmt::format("  group {}   {}, {}\n", g.number, g.protection, human_size(g.size));
  }
  out +=
      work_text("rebuild", r.rebuild) + work_text("scrub", r.scrub) + work_text("check", r.check);
  for (const auto& problem : r.problems) out += "    " + problem + "\n";
  out += fmt::format("  {:<7} {:>4} {:>5} {:<7} {:<11} {:<5} {:>6} {:>8}  {}\n", "member", "disk",
                     "group", "role", "state", "path", "errors", "repaired", "where");
  for (const auto& d : r.disks) {
    const bool member = !d.role.empty();
    out += fmt::format("  {:<7} {:>4} {:>5} {:<7} {:<11} {:<5} {:>6} {:>8}  {}{}\n", d.member,
                       d.lun.empty() ? "?" : d.lun, member ? std::to_string(d.group) : "", d.role,
                       d.state, d.present ? "up" : "DOWN", d.read_errors, d.repaired,
                       d.path.empty() ? d.disk : d.path, d.slow ? ", SLOW" : "");
  }
  return out;
}

std::string pool_json(const admin::PoolReport& r) {
  json::array groups, disks, problems;
  for (const auto& g : r.groups) {
    groups.push_back({{"number", g.number}, {"protection", g.protection}, {"size", g.size}});
  }
  for (const auto& d : r.disks) {
    disks.push_back({{"member", d.member},
                     {"group", d.group},
                     {"role", d.role},
                     {"state", d.state},
                     {"disk", d.disk},
                     {"path", d.path},
                     {"lun", d.lun},
                     {"present", d.present},
                     {"slow", d.slow},
                     {"read_errors", d.read_errors},
                     {"repaired", d.repaired},
                     {"rebuilt", d.rebuilt}});
  }
  for (const auto& problem : r.problems) problems.push_back(json::value(problem));
  return json::serialize(
             json::object{{"identity", r.identity.value()},
                          {"name", r.name},
                          {"health", r.health},
                          {"size", r.size},
                          {"used", r.used},
                          {"free", r.free},
                          {"waiting", r.waiting},
                          {"consistency_points", r.consistency_points},
                          {"consistency_point_under_way", r.consistency_point_under_way},
                          {"groups", std::move(groups)},
                          {"disks", std::move(disks)},
                          {"rebuild", work_json(r.rebuild)},
                          {"scrub", work_json(r.scrub)},
                          {"check", work_json(r.check)},
                          {"problems", std::move(problems)}}) +
         "\n";
}

std::string volumes_text(const admin::PoolReply& reply) {
  std::string out = fmt::format("{:<24} {:>10} {:>10} {:>10} {}\n", "volume", "used", "quota",
                                "reserved", "clone of");
  for (const auto& v : reply.volumes) {
    out += fmt::format("{:<24} {:>10} {:>10} {:>10} {}\n", v.name, human_size(v.used),
                       limit_text(v.quota), limit_text(v.reservation), v.origin);
  }
  return out + more_text(reply);
}

std::string snapshots_text(const admin::PoolReply& reply) {
  if (reply.volumes.empty()) return "no snapshots\n";
  std::string out =
      fmt::format("{:<24} {:<32} {:<20} {:>6}\n", "volume", "snapshot", "created (UTC)", "clones");
  for (const auto& v : reply.volumes) {
    out += fmt::format("{:<24} {:<32} {:<20} {:>6}{}\n", v.volume, v.name, time_text(v.created),
                       v.clones, v.deleting ? "  being deleted" : "");
  }
  return out + more_text(reply);
}

std::string volumes_json(const admin::PoolReply& reply) {
  json::array volumes;
  for (const auto& v : reply.volumes) {
    volumes.push_back({{"identity", v.identity.value()},
                       {"name", v.name},
                       {"volume", v.volume},
                       {"origin", v.origin},
                       {"used", v.used},
                       {"quota", v.quota},
                       {"reservation", v.reservation},
                       {"created", v.created},
                       {"clones", v.clones},
                       {"deleting", v.deleting}});
  }
  return json::serialize(json::object{{"volumes", std::move(volumes)}, {"more", reply.more}}) +
         "\n";
}

}  // namespace duet::cli
