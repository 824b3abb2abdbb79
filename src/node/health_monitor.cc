#include "node/health_monitor.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"
#include "ha/readiness.h"
#include "node/credentials.h"

namespace duet::node {

using ha::Finding;
using ha::Health;
using ha::Module;
using ha::ModuleHealth;

void DiskTrack::connection(bool connected, Instant now) {
  if (connected == connected_ && since_ != Instant{}) return;
  connected_ = connected;
  since_ = now;
}

void DiskTrack::completed(Duration took, const std::string& error, Instant now) {
  if (!error.empty()) {
    errors_ = now - error_at_ < memory ? errors_ + 1 : 1;
    error_ = error;
    error_at_ = now;
  }
  if (took >= slow) {
    slowest_ = now - slow_at_ < memory ? std::max(slowest_, took) : took;
    slow_at_ = now;
  }
}

std::string DiskTrack::trouble(Instant now) const {
  if (erring(now)) return fmt::format("{} errors, the last: {}", errors_, error_);
  if (slow_lately(now)) return fmt::format("took {} ms", slowest_ / milliseconds(1));
  return {};
}

namespace {

constexpr std::uint64_t least_memory = 64ull << 20;

ModuleHealth good(Module module, std::string detail) {
  return {module, Health::good, Finding::none, std::move(detail)};
}

std::string names(const std::vector<const DiskFacts*>& disks) {
  std::string text;
  for (const auto* disk : disks) text += (text.empty() ? "" : ", ") + disk->name;
  return text;
}

// The disks of one shelf, over our path.
ModuleHealth shelf(Module module, Finding lost_finding, const std::vector<DiskFacts>& disks,
                   Instant now) {
  std::vector<const DiskFacts*> lost, shaky, erring, slow;
  for (const auto& disk : disks) {
    if (disk.track.lost(now)) lost.push_back(&disk);
    if (disk.track.shaky(now)) shaky.push_back(&disk);
    if (disk.track.erring(now)) erring.push_back(&disk);
    if (disk.track.slow_lately(now)) slow.push_back(&disk);
  }
  auto troubled = [&](Finding finding, const DiskFacts& disk) {
    return ModuleHealth{module, Health::degraded, finding,
                        disk.name + ": " + disk.track.trouble(now)};
  };
  if (!lost.empty()) return {module, Health::failed, lost_finding, names(lost) + " unreachable"};
  if (!shaky.empty()) return {module, Health::degraded, lost_finding, names(shaky) + " just lost"};
  if (!erring.empty()) return troubled(Finding::disk_errors, *erring.front());
  if (!slow.empty()) return troubled(Finding::disk_slow, *slow.front());
  return good(module, fmt::format("{} of {} disks", disks.size(), disks.size()));
}

ModuleHealth interconnect(const HealthFacts& f) {
  using enum ports::LinkState;
  std::string detail(ports::name(f.link));
  if (f.link == ready) return good(Module::interconnect, detail);
  if (!f.link_why.empty()) detail += ": " + f.link_why;
  bool refused = f.link != down && f.link != connecting && f.link != partner_not_ready;
  return {Module::interconnect, Health::failed,
          refused ? Finding::link_refused : Finding::link_down, detail};
}

ModuleHealth mirror(const HealthFacts& f) {
  bool out = f.engine.mirror_outgoing, in = f.engine.mirror_incoming;
  if (out && in) return good(Module::mirror, "both directions");
  if (out || in) {
    return {Module::mirror, Health::degraded, Finding::mirror_one_way,
            out ? "the partner's log does not arrive here" : "our log does not reach the partner"};
  }
  return {Module::mirror, Health::failed, Finding::mirror_off, "neither direction"};
}

ModuleHealth nvram(const Config& config, const HealthFacts& f) {
  if (!f.engine_ready) return {Module::nvram, Health::unknown, Finding::not_known_yet, ""};
  auto size = fmt::format("{} MiB", config.nvram_size >> 20);
  auto theirs = f.partner ? f.partner->nvram_size : 0;
  if (theirs != 0 && theirs != config.nvram_size) {
    return {Module::nvram, Health::failed, Finding::nvram_size_differs,
            fmt::format("{}, the partner's {} MiB", size, theirs >> 20)};
  }
  if (!f.nvram_persistent) {
    return {Module::nvram, Health::degraded, Finding::nvram_volatile, size + ", volatile"};
  }
  return good(Module::nvram, size + ", persistent");
}

ModuleHealth memory(const Config& config, const HealthFacts& f) {
  if (!f.memory.known) return {Module::memory, Health::unknown, Finding::not_known_yet, ""};
  auto bound = std::max(least_memory, config.cache_size / 4);
  auto free = fmt::format("{} MiB available", f.memory.available >> 20);
  if (f.memory.available < bound) {
    return {Module::memory, Health::degraded, Finding::memory_low,
            fmt::format("{}, less than {}", free, bound >> 20)};
  }
  if (!f.memory.locked) {
    return {Module::memory, Health::degraded, Finding::memory_not_locked,
            "the supervisor's memory is not locked"};
  }
  return good(Module::memory, "locked");
}

ModuleHealth engine(const Config& config, const HealthFacts& f) {
  if (!f.engine_running) return {Module::engine, Health::failed, Finding::engine_down, "ended"};
  if (f.engine_silence >= config.progress_limit / 2) {
    return {Module::engine, Health::failed, Finding::engine_stalls,
            fmt::format("no progress for {} ms", f.engine_silence / milliseconds(1))};
  }
  if (!f.engine_ready) {
    return {Module::engine, Health::degraded, Finding::engine_down, "starting"};
  }
  return good(Module::engine, "running");
}

// The worst of our own identity's interface, and of what we serve besides.
ModuleHealth network(const Config& config, const HealthFacts& f) {
  for (auto identity : {config.self, config.partner()}) {
    const auto& a = f.addresses[identity.value()];
    if (!a.managed || a.kernel.link) continue;
    return {Module::network, Health::failed, Finding::network_down,
            fmt::format("{}: {}", config.services[identity.value()].address,
                        a.kernel.interface_exists ? "no link" : "no such interface")};
  }
  if (!f.addresses[1].managed && !f.addresses[2].managed) {
    return {Module::network, Health::good, Finding::not_managed, "not managed"};
  }
  return good(Module::network, "link up");
}

ModuleHealth addresses(const Config& config, const HealthFacts& f) {
  std::string text;
  for (std::uint8_t n : {1, 2}) {
    const auto& a = f.addresses[n];
    if (!a.managed) continue;
    const auto& address = config.services[n].address;
    if (f.served[n] && !a.up) {  // it may be on its way up
      return {Module::addresses, a.trouble.empty() ? Health::degraded : Health::failed,
              Finding::address_missing,
              address + (a.trouble.empty() ? " is not up" : ": " + a.trouble)};
    }
    if (a.up && a.contested) {
      return {Module::addresses, Health::degraded, Finding::address_contested,
              address + " is used by another machine too"};
    }
    if (a.up) text += (text.empty() ? "" : ", ") + address;
  }
  if (!f.addresses[1].managed && !f.addresses[2].managed) {
    return {Module::addresses, Health::good, Finding::not_managed, "not managed"};
  }
  return good(Module::addresses, text.empty() ? "none due here" : text + " up");
}

ModuleHealth pool(const Config& config, const HealthFacts& f) {
  std::string served;
  for (auto identity : {config.self, config.partner()}) {
    if (!f.served[identity.value()]) continue;
    bool serving = std::ranges::any_of(
        f.engine.identities, [&](const auto& e) { return e.identity == identity && e.serving; });
    // The report comes every half second: silence about a fresh start is no failure.
    if (!serving && !f.engine.identities.empty()) {
      return {Module::pool, Health::degraded, Finding::pool_not_served,
              "pool of " + config.name_of(identity) + " is not open"};
    }
    served += (served.empty() ? "pool of " : ", pool of ") + config.name_of(identity);
  }
  if (!served.empty()) return good(Module::pool, served);
  return {Module::pool, Health::unknown, Finding::pool_not_served, "this node serves no pool"};
}

ModuleHealth version(const HealthFacts& f) {
  if (f.link == ports::LinkState::incompatible_version) {
    return {Module::version, Health::failed, Finding::version_refused, f.link_why};
  }
  if (!f.partner) return {Module::version, Health::unknown, Finding::alone, ""};
  if (f.partner->software != software_version) {
    return {Module::version, Health::degraded, Finding::version_differs,
            fmt::format("{} here, {} at the partner", software_version, f.partner->software)};
  }
  return good(Module::version, f.partner->software + " on both nodes");
}

void fill_inventories(ha::HealthRecord& record, const HealthFacts& f) {
  for (std::size_t n : {1, 2}) {
    auto& inventory = record.inventories[n - 1];
    inventory.disks = static_cast<std::uint8_t>(std::min(f.disks[n].size(), ha::max_inventory));
    for (std::size_t i = 0; i < inventory.disks; ++i) {
      const auto& disk = f.disks[n][i];
      if (disk.track.connected()) inventory.connected |= std::uint64_t{1} << i;
      if (disk.serial.empty()) continue;
      // 0 stands for "not known".
      inventory.serial[i] = std::max(1u, crc32c(std::as_bytes(std::span(disk.serial))));
    }
  }
}

ModuleHealth inventory(const ha::HealthRecord& own, const HealthFacts& f) {
  if (!f.partner_health) return {Module::inventory, Health::unknown, Finding::alone, ""};
  for (std::size_t shelf = 0; shelf < 2; ++shelf) {
    auto difference =
        ha::inventory_difference(own.inventories[shelf], f.partner_health->inventories[shelf]);
    if (difference.empty()) continue;
    return {Module::inventory, Health::failed, Finding::inventory_differs,
            fmt::format("shelf {}: {}", shelf + 1, difference)};
  }
  return good(Module::inventory, "both nodes see the same disks");
}

}  // namespace

ha::HealthRecord evaluate_health(const Config& config, const HealthFacts& f, Instant now) {
  ha::HealthRecord r;
  r.wall_ns = f.wall_ns;
  r.nvram_persistent = f.engine_ready && f.nvram_persistent;
  r.nvram_size = config.nvram_size;
  r.software = software_version;
  fill_inventories(r, f);
  auto own = config.self.value(), partner = config.partner().value();
  r.modules = {shelf(Module::disks, Finding::disk_unreachable, f.disks[own], now),
               shelf(Module::paths, Finding::path_lost, f.disks[partner], now),
               inventory(r, f),
               interconnect(f),
               mirror(f),
               nvram(config, f),
               memory(config, f),
               engine(config, f),
               network(config, f),
               addresses(config, f),
               pool(config, f),
               version(f)};
  r.health = ha::overall(r.modules);
  return r;
}

}  // namespace duet::node
