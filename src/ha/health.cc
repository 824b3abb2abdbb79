#include "ha/health.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"

namespace duet::ha {
namespace {

constexpr std::uint32_t version = 1;
constexpr std::array<char, 8> magic{'D', 'U', 'E', 'T', 'H', 'L', 'T', 'H'};
constexpr std::size_t crc_offset = 12;
constexpr std::size_t modules_offset = 128;
constexpr std::size_t module_size = 4 + module_detail_size;
constexpr std::size_t obstacles_offset = modules_offset + max_modules * module_size;
constexpr std::size_t obstacle_size = 4 + obstacle_detail_size;
constexpr std::size_t serials_offset = obstacles_offset + max_obstacles * obstacle_size;
constexpr std::size_t reserved_offset = serials_offset + 2 * max_inventory * 4;
static_assert(reserved_offset == 2944);

enum Flags : std::uint8_t { takeover_judged = 1, giveback_judged = 2, nvram_persistent = 4 };

std::uint32_t checksum(Bytes bytes) {
  constexpr std::array<std::byte, 4> zero{};
  auto crc = crc32c(bytes.first(crc_offset));
  crc = crc32c_extend(crc, zero);
  return crc32c_extend(crc, bytes.subspan(crc_offset + 4));
}

bool is_node(NodeId node) {
  return node == NodeId(1) || node == NodeId(2);
}
bool printable(std::byte b) {
  return b >= std::byte{0x20} && b <= std::byte{0x7e};
}

void put_text(std::byte* to, std::string_view text, std::size_t size) {
  for (std::size_t i = 0; i < std::min(size, text.size()); ++i) {
    auto b = static_cast<std::byte>(text[i]);
    to[i] = printable(b) ? b : std::byte{'?'};
  }
}

std::optional<std::string> get_text(Bytes field) {
  auto end = std::ranges::find(field, std::byte{0});
  std::string text;
  for (auto it = field.begin(); it != end; ++it) {
    if (!printable(*it)) return {};
    text += static_cast<char>(*it);
  }
  if (!std::all_of(end, field.end(), [](std::byte b) { return b == std::byte{0}; })) return {};
  return text;
}

std::uint64_t bits_of(std::uint8_t disks) {
  return disks >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << disks) - 1;
}

const char* broken_rule(const HealthRecord& r) {
  if (!is_node(r.node)) return "node";
  if (r.boot == BootNonce(0)) return "boot nonce 0";
  if (r.health > Health::failed) return "health";
  if (r.modules.size() > max_modules) return "modules";
  if (r.obstacles.size() > max_obstacles) return "obstacles";
  for (auto it = r.modules.begin(); it != r.modules.end(); ++it) {
    if (it->health > Health::failed) return "health of a module";
    if (std::any_of(r.modules.begin(), it, [&](const auto& m) { return m.module == it->module; })) {
      return "a module twice";
    }
  }
  for (const auto& o : r.obstacles) {
    if (o.move != Move::takeover && o.move != Move::giveback) return "move";
    if (o.reason == Reason::none) return "obstacle without a reason";
  }
  for (const auto& inventory : r.inventories) {
    if (inventory.disks > max_inventory) return "disks";
    if ((inventory.connected & ~bits_of(inventory.disks)) != 0) return "connected disks";
    for (std::size_t i = inventory.disks; i < max_inventory; ++i) {
      if (inventory.serial[i] != 0) return "serial of no disk";
    }
  }
  return nullptr;
}

// Modules without which the node's own clients are not served.
bool vital(Module module) {
  return module == Module::disks || module == Module::engine || module == Module::network ||
         module == Module::addresses || module == Module::pool;
}

}  // namespace

const ModuleHealth* HealthRecord::find(Module module) const {
  auto it = std::ranges::find(modules, module, &ModuleHealth::module);
  return it == modules.end() ? nullptr : &*it;
}

Health HealthRecord::of(Module module) const {
  const auto* found = find(module);
  return found ? found->health : Health::unknown;
}

bool HealthRecord::same_as(const HealthRecord& other) const {
  auto copy = other;
  copy.number = number;
  copy.wall_ns = wall_ns;
  return *this == copy;
}

std::vector<std::byte> encode(const HealthRecord& r) {
  ASSERT(broken_rule(r) == nullptr);
  std::vector<std::byte> out(health_record_size);
  auto* at = out.data();
  std::memcpy(at, magic.data(), magic.size());
  store_le(at + 8, version);
  store_le(at + 16, r.cluster.value());
  store_le(at + 24, r.node.value());
  store_le(at + 25, static_cast<std::uint8_t>(r.health));
  unsigned flags = (r.takeover_judged ? takeover_judged : 0u) |
                   (r.giveback_judged ? giveback_judged : 0u) |
                   (r.nvram_persistent ? nvram_persistent : 0u);
  store_le(at + 26, static_cast<std::uint8_t>(flags));
  store_le(at + 27, static_cast<std::uint8_t>(r.modules.size()));
  store_le(at + 28, static_cast<std::uint8_t>(r.obstacles.size()));
  store_le(at + 29, r.inventories[0].disks);
  store_le(at + 30, r.inventories[1].disks);
  store_le(at + 32, r.boot.value());
  store_le(at + 40, r.number);
  store_le(at + 48, static_cast<std::uint64_t>(r.wall_ns));
  store_le(at + 56, r.nvram_size);
  put_text(at + 64, r.software, software_size);
  store_le(at + 96, r.inventories[0].connected);
  store_le(at + 104, r.inventories[1].connected);
  auto* entry = at + modules_offset;
  for (const auto& m : r.modules) {
    store_le(entry, static_cast<std::uint8_t>(m.module));
    store_le(entry + 1, static_cast<std::uint8_t>(m.health));
    store_le(entry + 2, static_cast<std::uint8_t>(m.finding));
    put_text(entry + 4, m.detail, module_detail_size);
    entry += module_size;
  }
  entry = at + obstacles_offset;
  for (const auto& o : r.obstacles) {
    store_le(entry, static_cast<std::uint8_t>(o.move));
    store_le(entry + 1, static_cast<std::uint8_t>(o.hard));
    store_le(entry + 2, static_cast<std::uint8_t>(o.reason));
    put_text(entry + 4, o.detail, obstacle_detail_size);
    entry += obstacle_size;
  }
  entry = at + serials_offset;
  for (const auto& inventory : r.inventories) {
    for (auto serial : inventory.serial) store_le(entry, serial), entry += 4;
  }
  store_le(at + crc_offset, checksum(out));
  return out;
}

Result<HealthRecord> decode_health_record(Bytes bytes) {
  if (bytes.size() != health_record_size) return fail(ErrorCode::invalid, "not a health record");
  if (std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
    return fail(ErrorCode::invalid, "no health record");
  }
  const auto* at = bytes.data();
  if (load_le<std::uint32_t>(at + crc_offset) != checksum(bytes)) {
    return fail(ErrorCode::invalid, "checksum wrong");
  }
  if (auto v = load_le<std::uint32_t>(at + 8); v != version) {
    return fail(ErrorCode::unsupported_version, "health record of version " + std::to_string(v));
  }
  auto byte = [](const std::byte* p) { return std::to_integer<std::uint8_t>(*p); };
  HealthRecord r;
  r.cluster = ClusterId(load_le<std::uint64_t>(at + 16));
  r.node = NodeId(byte(at + 24));
  r.health = static_cast<Health>(byte(at + 25));
  auto flags = byte(at + 26);
  r.takeover_judged = flags & takeover_judged;
  r.giveback_judged = flags & giveback_judged;
  r.nvram_persistent = flags & nvram_persistent;
  std::size_t modules = byte(at + 27), obstacles = byte(at + 28);
  r.boot = BootNonce(load_le<std::uint64_t>(at + 32));
  r.number = load_le<std::uint64_t>(at + 40);
  r.wall_ns = static_cast<std::int64_t>(load_le<std::uint64_t>(at + 48));
  r.nvram_size = load_le<std::uint64_t>(at + 56);
  auto software = get_text(bytes.subspan(64, software_size));
  if (!software || modules > max_modules || obstacles > max_obstacles) {
    return fail(ErrorCode::invalid, "a field breaks its rule");
  }
  r.software = *software;
  for (std::size_t shelf = 0; shelf < 2; ++shelf) {
    auto& inventory = r.inventories[shelf];
    inventory.disks = byte(at + 29 + shelf);
    inventory.connected = load_le<std::uint64_t>(at + 96 + 8 * shelf);
    for (std::size_t i = 0; i < max_inventory; ++i) {
      inventory.serial[i] =
          load_le<std::uint32_t>(at + serials_offset + 4 * (shelf * max_inventory + i));
    }
  }
  for (std::size_t i = 0; i < modules; ++i) {
    auto entry = bytes.subspan(modules_offset + i * module_size, module_size);
    auto detail = get_text(entry.subspan(4));
    if (!detail) return fail(ErrorCode::invalid, "detail of a module");
    r.modules.push_back({static_cast<Module>(byte(&entry[0])), static_cast<Health>(byte(&entry[1])),
                         static_cast<Finding>(byte(&entry[2])), *detail});
  }
  for (std::size_t i = 0; i < obstacles; ++i) {
    auto entry = bytes.subspan(obstacles_offset + i * obstacle_size, obstacle_size);
    auto detail = get_text(entry.subspan(4));
    if (!detail) return fail(ErrorCode::invalid, "detail of an obstacle");
    r.obstacles.push_back({static_cast<Move>(byte(&entry[0])), static_cast<Reason>(byte(&entry[2])),
                           byte(&entry[1]) != 0, *detail});
  }
  if (const char* rule = broken_rule(r)) return fail(ErrorCode::invalid, rule);
  // Nothing hides in unused bytes.
  if (!std::ranges::equal(encode(r), bytes)) return fail(ErrorCode::invalid, "unused bytes not 0");
  return r;
}

Health overall(const std::vector<ModuleHealth>& modules) {
  bool known = false, degraded = false;
  for (const auto& m : modules) {
    if (m.health == Health::failed && vital(m.module)) return Health::failed;
    known = known || m.health != Health::unknown;
    degraded = degraded || m.health == Health::failed || m.health == Health::degraded;
  }
  return degraded ? Health::degraded : known ? Health::good : Health::unknown;
}

bool cannot_serve(const HealthRecord& record) {
  return record.of(Module::disks) == Health::failed || record.of(Module::network) == Health::failed;
}

bool asks_to_be_taken_over(const HealthRecord& own, const std::optional<HealthRecord>& partner) {
  if (!cannot_serve(own) || !partner || cannot_serve(*partner)) return false;
  if (!partner->takeover_judged) return false;
  return std::ranges::none_of(partner->obstacles,
                              [](const auto& o) { return o.move == Move::takeover && o.hard; });
}

std::string_view name(Health health) {
  switch (health) {
    case Health::unknown:
      return "unknown";
    case Health::good:
      return "good";
    case Health::degraded:
      return "degraded";
    case Health::failed:
      return "failed";
  }
  return "unknown";
}

std::string_view name(Module module) {
  switch (module) {
    case Module::disks:
      return "disks";
    case Module::paths:
      return "paths";
    case Module::inventory:
      return "inventory";
    case Module::interconnect:
      return "interconnect";
    case Module::mirror:
      return "mirror";
    case Module::nvram:
      return "nvram";
    case Module::memory:
      return "memory";
    case Module::engine:
      return "engine";
    case Module::network:
      return "network";
    case Module::addresses:
      return "addresses";
    case Module::pool:
      return "pool";
    case Module::version:
      return "version";
  }
  return "unknown";
}

}  // namespace duet::ha
