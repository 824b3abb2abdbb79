// What a node's failover monitor knows of its modules, and whether the node could take over or give
// back: kept in its own and its partner's NVRAM, and sent to the partner. A report, never a
// promise: every move checks anew. Format: docs/formats/health_record.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "ha/reason.h"

namespace duet::ha {

enum class Health : std::uint8_t { unknown = 0, good = 1, degraded = 2, failed = 3 };

// Values are stored: append only.
enum class Module : std::uint8_t {
  disks = 0,      // of our own shelf
  paths = 1,      // to the disks of the partner's shelf
  inventory = 2,  // both shelves: as configured, and as the partner sees them
  interconnect = 3,
  mirror = 4,
  nvram = 5,
  memory = 6,
  engine = 7,
  network = 8,    // link to the clients
  addresses = 9,  // service addresses
  pool = 10,
  version = 11,  // of the partner
};
inline constexpr std::uint8_t module_kinds = 12;

// What is the matter with a module. Values are stored: append only.
enum class Finding : std::uint8_t {
  none = 0,
  not_known_yet = 1,
  not_managed = 2,  // not Duet's business by configuration
  disk_unreachable = 10,
  disk_errors = 11,
  disk_slow = 12,
  path_lost = 13,
  inventory_differs = 14,
  link_down = 20,
  link_refused = 21,
  mirror_off = 22,
  mirror_one_way = 23,
  nvram_volatile = 24,
  nvram_size_differs = 25,
  memory_not_locked = 30,
  memory_low = 31,
  engine_down = 32,
  engine_stalls = 33,
  network_down = 40,
  address_missing = 41,
  address_contested = 42,
  pool_not_served = 50,
  version_differs = 60,
  version_refused = 61,
  alone = 62,  // the partner has told nothing (yet): nothing to compare with
};

// Details are printable ASCII; longer ones are cut, other characters become '?'.
inline constexpr std::size_t module_detail_size = 92;
inline constexpr std::size_t obstacle_detail_size = 60;
inline constexpr std::size_t software_size = 32;
inline constexpr std::size_t max_modules = 16;
inline constexpr std::size_t max_obstacles = 12;
inline constexpr std::size_t max_inventory = 64;  // disks of one shelf

struct ModuleHealth {
  Module module{};
  Health health = Health::unknown;
  Finding finding = Finding::not_known_yet;
  std::string detail;
  bool operator==(const ModuleHealth&) const = default;
};

enum class Move : std::uint8_t { takeover = 1, giveback = 2 };  // of the partner; to the partner
// Why a move is not possible now. Hard: nobody can override it. Soft: a veto, by the name of its
// reason.
struct Obstacle {
  Move move{};
  Reason reason = Reason::none;
  bool hard = true;
  std::string detail;
  bool operator==(const Obstacle&) const = default;
};

// The disks of one shelf as this node sees them, by index.
struct Inventory {
  std::uint8_t disks = 0;                             // configured
  std::uint64_t connected = 0;                        // a bit for each
  std::array<std::uint32_t, max_inventory> serial{};  // CRC32C of its serial number; 0: not known
  bool operator==(const Inventory&) const = default;
};

struct HealthRecord {
  ClusterId cluster;
  NodeId node;  // 1 or 2: whose health
  BootNonce boot;
  std::uint64_t number = 0;  // grows with every record of this boot
  std::int64_t wall_ns = 0;  // since 1970, for people only
  Health health = Health::unknown;
  // Whether the core has judged: no obstacle of a move means "possible" only then.
  bool takeover_judged = false, giveback_judged = false;
  bool nvram_persistent = false;
  std::uint64_t nvram_size = 0;  // bytes; 0: not known
  std::string software;
  std::array<Inventory, 2> inventories;  // of the shelves of node 1 and 2
  std::vector<ModuleHealth> modules;
  std::vector<Obstacle> obstacles;
  bool operator==(const HealthRecord&) const = default;

  const ModuleHealth* find(Module module) const;
  Health of(Module module) const;  // unknown if it is not reported
  // Whether both say the same of the node: everything but number and time.
  bool same_as(const HealthRecord& other) const;
};

inline constexpr std::size_t health_record_size = 3072;

// Requires: node 1 or 2, boot not 0, at most max_modules, max_obstacles and max_inventory.
std::vector<std::byte> encode(const HealthRecord& record);
// Errors: invalid, unsupported_version. Accepts modules, findings and reasons that this build does
// not know: their names are then "unknown".
Result<HealthRecord> decode_health_record(Bytes bytes);

// The node's health from that of its modules: failed if one fails that its own clients need;
// degraded if any other is failed or degraded; unknown before the first report.
Health overall(const std::vector<ModuleHealth>& modules);

// Whether the node's clients are without service, and a takeover would help them: its own disks, or
// the network of its clients, have failed.
bool cannot_serve(const HealthRecord& record);
// Whether `own` asks to be taken over (graceful_takeover.md): it cannot serve, and `partner` can
// and says that it could take over.
bool asks_to_be_taken_over(const HealthRecord& own, const std::optional<HealthRecord>& partner);

std::string_view name(Health health);
std::string_view name(Module module);
std::string_view name(Finding finding);
std::string_view cure(Finding finding);  // what clears it; empty: nothing to clear

}  // namespace duet::ha
