#include "node/health_monitor.h"

#include <gtest/gtest.h>

#include <functional>

#include "node/credentials.h"

namespace duet::node {
namespace {

using ha::Finding;
using ha::Health;
using ha::Module;

constexpr Instant now{seconds(1000)};

Config config() {
  Config c;
  c.self = NodeId(1);
  c.node_names = {"", "red", "blue"};
  c.services[1].address = "192.0.2.11";
  c.services[2].address = "192.0.2.12";
  return c;
}

DiskFacts disk(const std::string& name) {
  DiskFacts d{name, "serial of " + name, {}};
  d.track.connection(true, Instant(seconds(1)));
  return d;
}

// Red serves, blue is up, all is well.
HealthFacts well() {
  HealthFacts f;
  f.disks[1] = {disk("red/0"), disk("red/1")};
  f.disks[2] = {disk("blue/0"), disk("blue/1")};
  f.link = ports::LinkState::ready;
  f.partner = PartnerFacts{std::string(software_version), 64ull << 20};
  f.engine_running = f.engine_ready = f.nvram_persistent = true;
  f.engine.mirror_outgoing = f.engine.mirror_incoming = true;
  EngineReport::PerIdentity red;
  red.identity = NodeId(1);
  red.serving = true;
  f.engine.identities = {red};
  f.memory = {true, true, 8ull << 30};
  f.served[1] = true;
  for (auto n : {1, 2}) {
    f.addresses[static_cast<std::size_t>(n)].managed = true;
    f.addresses[static_cast<std::size_t>(n)].kernel = {true, true, n == 1};
  }
  f.addresses[1].up = true;
  // Blue sees the same disks.
  HealthFacts same = f;
  f.partner_health = evaluate_health(config(), same, now);
  return f;
}

TEST(health_monitor, all_is_well) {
  auto r = evaluate_health(config(), well(), now);
  EXPECT_EQ(r.health, Health::good);
  ASSERT_EQ(r.modules.size(), ha::module_kinds);
  for (std::uint8_t i = 0; i < ha::module_kinds; ++i) {
    const auto* m = r.find(static_cast<Module>(i));
    ASSERT_NE(m, nullptr) << int{i};
    EXPECT_EQ(m->health, Health::good) << ha::name(m->module);
    EXPECT_FALSE(m->detail.empty()) << ha::name(m->module);
  }
  EXPECT_EQ(r.inventories[1].disks, 2);
  EXPECT_EQ(r.inventories[1].connected, 3u);
  EXPECT_NE(r.inventories[1].serial[0], r.inventories[1].serial[1]);
  EXPECT_NE(r.inventories[1].serial[0], 0u);
  // What the core needs beside: it can be sent.
  r.node = NodeId(1);
  r.boot = BootNonce(1);
  EXPECT_TRUE(ha::decode_health_record(ha::encode(r)));
}

TEST(health_monitor, each_fault_has_its_finding) {
  struct Row {
    std::string what;
    std::function<void(HealthFacts&)> change;
    Module module;
    Health health;
    Finding finding;
    std::string detail;  // part of it
    Health node;
  };
  auto lose = [](DiskFacts& d, Duration ago) { d.track.connection(false, now - ago); };
  const Row rows[] = {
      {"own disk lost", [&](auto& f) { lose(f.disks[1][1], seconds(2)); }, Module::disks,
       Health::failed, Finding::disk_unreachable, "red/1 unreachable", Health::failed},
      {"own disk just lost", [&](auto& f) { lose(f.disks[1][1], milliseconds(10)); }, Module::disks,
       Health::degraded, Finding::disk_unreachable, "just lost", Health::degraded},
      {"errors",
       [](auto& f) { f.disks[1][0].track.completed(milliseconds(1), "medium error", now); },
       Module::disks, Health::degraded, Finding::disk_errors, "medium error", Health::degraded},
      {"slow", [](auto& f) { f.disks[1][0].track.completed(milliseconds(700), "", now); },
       Module::disks, Health::degraded, Finding::disk_slow, "700 ms", Health::degraded},
      {"path lost", [&](auto& f) { lose(f.disks[2][0], seconds(2)); }, Module::paths,
       Health::failed, Finding::path_lost, "blue/0 unreachable", Health::degraded},
      {"another disk", [](auto& f) { f.disks[2][0].serial = "x"; }, Module::inventory,
       Health::failed, Finding::inventory_differs, "disk 0", Health::degraded},
      {"fewer disks", [](auto& f) { f.disks[2].pop_back(); }, Module::inventory, Health::failed,
       Finding::inventory_differs, "configured 1 disks here, 2", Health::degraded},
      {"nothing told", [](auto& f) { f.partner_health.reset(); }, Module::inventory,
       Health::unknown, Finding::alone, "", Health::good},
      {"link down", [](auto& f) { f.link = ports::LinkState::down, f.link_why = "no answer"; },
       Module::interconnect, Health::failed, Finding::link_down, "no answer", Health::degraded},
      {"half-booted", [](auto& f) { f.link = ports::LinkState::partner_not_ready; },
       Module::interconnect, Health::failed, Finding::link_down, "", Health::degraded},
      {"wrong secret", [](auto& f) { f.link = ports::LinkState::authentication_failed; },
       Module::interconnect, Health::failed, Finding::link_refused, "", Health::degraded},
      {"mirror off", [](auto& f) { f.engine.mirror_outgoing = f.engine.mirror_incoming = false; },
       Module::mirror, Health::failed, Finding::mirror_off, "", Health::degraded},
      {"mirror one way", [](auto& f) { f.engine.mirror_outgoing = false; }, Module::mirror,
       Health::degraded, Finding::mirror_one_way, "our log", Health::degraded},
      {"volatile", [](auto& f) { f.nvram_persistent = false; }, Module::nvram, Health::degraded,
       Finding::nvram_volatile, "64 MiB", Health::degraded},
      {"sizes differ", [](auto& f) { f.partner->nvram_size = 1 << 20; }, Module::nvram,
       Health::failed, Finding::nvram_size_differs, "1 MiB", Health::degraded},
      {"not locked", [](auto& f) { f.memory.locked = false; }, Module::memory, Health::degraded,
       Finding::memory_not_locked, "", Health::degraded},
      {"memory low", [](auto& f) { f.memory.available = 10 << 20; }, Module::memory,
       Health::degraded, Finding::memory_low, "10 MiB", Health::degraded},
      {"memory unknown", [](auto& f) { f.memory.known = false; }, Module::memory, Health::unknown,
       Finding::not_known_yet, "", Health::good},
      {"no engine", [](auto& f) { f.engine_running = false; }, Module::engine, Health::failed,
       Finding::engine_down, "ended", Health::failed},
      {"stalled", [](auto& f) { f.engine_silence = seconds(3); }, Module::engine, Health::failed,
       Finding::engine_stalls, "3000 ms", Health::failed},
      {"no network", [](auto& f) { f.addresses[1].kernel.link = false; }, Module::network,
       Health::failed, Finding::network_down, "192.0.2.11: no link", Health::failed},
      {"no interface", [](auto& f) { f.addresses[2].kernel = {}; }, Module::network, Health::failed,
       Finding::network_down, "no such interface", Health::failed},
      {"address on its way", [](auto& f) { f.addresses[1].up = false; }, Module::addresses,
       Health::degraded, Finding::address_missing, "192.0.2.11", Health::degraded},
      {"address missing",
       [](auto& f) { f.addresses[1].up = false, f.addresses[1].trouble = "not permitted"; },
       Module::addresses, Health::failed, Finding::address_missing, "not permitted",
       Health::failed},
      {"contested", [](auto& f) { f.addresses[1].contested = true; }, Module::addresses,
       Health::degraded, Finding::address_contested, "192.0.2.11", Health::degraded},
      {"not managed", [](auto& f) { f.addresses[1].managed = f.addresses[2].managed = false; },
       Module::addresses, Health::good, Finding::not_managed, "", Health::good},
      {"pool closed", [](auto& f) { f.engine.identities[0].serving = false; }, Module::pool,
       Health::degraded, Finding::pool_not_served, "pool of red", Health::degraded},
      {"serves nothing", [](auto& f) { f.served[1] = false; }, Module::pool, Health::unknown,
       Finding::pool_not_served, "", Health::good},
      {"other version", [](auto& f) { f.partner->software = "duet 9"; }, Module::version,
       Health::degraded, Finding::version_differs, "duet 9", Health::degraded},
      {"alone", [](auto& f) { f.partner.reset(); }, Module::version, Health::unknown,
       Finding::alone, "", Health::good},
  };
  for (const auto& row : rows) {
    auto f = well();
    row.change(f);
    auto r = evaluate_health(config(), f, now);
    const auto* m = r.find(row.module);
    ASSERT_NE(m, nullptr) << row.what;
    EXPECT_EQ(m->health, row.health) << row.what;
    EXPECT_EQ(m->finding, row.finding) << row.what;
    EXPECT_NE(m->detail.find(row.detail), std::string::npos) << row.what << ": " << m->detail;
    EXPECT_EQ(r.health, row.node) << row.what;
  }
}

TEST(health_monitor, an_incompatible_partner_is_named) {
  auto f = well();
  f.link = ports::LinkState::incompatible_version;
  f.link_why = "it speaks 2";
  auto r = evaluate_health(config(), f, now);
  EXPECT_EQ(r.find(Module::version)->finding, Finding::version_refused);
  EXPECT_EQ(r.find(Module::interconnect)->finding, Finding::link_refused);
}

TEST(disk_track, a_short_loss_is_no_loss) {
  DiskTrack t;
  t.connection(false, now);
  EXPECT_TRUE(t.shaky(now)) << "a node that boots has not lost its disks";
  EXPECT_FALSE(t.lost(now));
  EXPECT_TRUE(t.lost(now + DiskTrack::grace));
  t.connection(false, now + seconds(5));
  EXPECT_TRUE(t.lost(now + DiskTrack::grace)) << "still the same loss";
  t.connection(true, now + seconds(6));
  EXPECT_TRUE(t.connected());
  EXPECT_FALSE(t.lost(now + seconds(9)) || t.shaky(now + seconds(9)));
}

TEST(disk_track, errors_and_slow_commands_are_forgotten) {
  DiskTrack t;
  t.connection(true, now);
  t.completed(DiskTrack::slow - Duration(1), "", now);
  EXPECT_EQ(t.trouble(now), "");
  t.completed(DiskTrack::slow, "", now);
  t.completed(seconds(1), "", now);
  EXPECT_EQ(t.trouble(now), "took 1000 ms");
  t.completed(milliseconds(1), "gone bad", now);
  t.completed(milliseconds(1), "worse", now);
  EXPECT_EQ(t.trouble(now), "2 errors, the last: worse");
  auto later = now + DiskTrack::memory;
  EXPECT_EQ(t.trouble(later), "");
  t.completed(milliseconds(1), "again", later);
  EXPECT_EQ(t.trouble(later), "1 errors, the last: again");
}

}  // namespace
}  // namespace duet::node
