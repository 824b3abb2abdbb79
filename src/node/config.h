// The configuration of a node: docs/configuration.md. Parsed and checked once; what is wrong is
// named with its key and the cure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "ports/addresses.h"

namespace duet::node {

struct ShelfConfig {  // our path to the shelf of one identity
  std::string portal;
  std::string iqn;
  std::vector<std::uint16_t> luns;  // its disks, in the order of DiskRef::index
};
struct ServiceConfig {  // what the clients of one identity see
  std::string iqn;
  std::string address;
  std::uint16_t port = 3260;
  std::string interface{};  // that gets the address; empty: not managed, it is local on both nodes
  std::uint8_t prefix = 0;  // of its network, when managed

  bool managed() const { return !interface.empty(); }
  // Requires: managed(), and checked by parse_config().
  ports::ServiceAddress managed_address() const;
};
struct SnapshotSchedule {  // of one volume; carried out by who serves the identity
  NodeId identity;
  std::string volume = "vol0";
  Duration interval{};  // whole minutes
  std::size_t keep = 0;
};
inline constexpr std::size_t max_snapshot_schedules = 64;
struct TimerConfig {
  Duration state_read = milliseconds(50);
  Duration heartbeat = milliseconds(100);
  Duration interconnect_silence = milliseconds(500);
  Duration mailbox_silence = milliseconds(800);
  Duration cold_start_wait = milliseconds(10000);
  // Shorter than the partner's patience, so that a silent node stops answering before it is
  // replaced.
  Duration lease() const { return mailbox_silence - milliseconds(200); }
};

// A log takes records of a quarter of its size, and a client may write 1 MiB with one command.
inline constexpr std::uint64_t min_nvram_size = 16ull << 20;

struct Config {
  std::string cluster_name;
  ClusterId cluster;
  std::string secret_file;
  NodeId self;
  std::array<std::string, 3> node_names;  // by node number; [0] unused
  std::string runtime_dir;
  std::string provider = "tcp";
  std::string address, partner_address;
  std::uint16_t port = 0, partner_port = 0, mirror_port = 0;
  std::string nvram_path;
  std::uint64_t nvram_size = 64ull << 20;  // at least min_nvram_size
  bool allow_volatile_nvram = false;
  std::array<ShelfConfig, 3> shelves;     // by home node
  std::array<ServiceConfig, 3> services;  // by identity
  std::vector<SnapshotSchedule> snapshots;
  std::uint64_t cache_size = 256ull << 20;  // this and the next two: of each pool that is served
  std::uint64_t metadata_cache = 64ull << 20;
  std::uint64_t dirty_limit = 256ull << 20;
  Duration progress_limit = milliseconds(5000);
  Duration point_age = milliseconds(10000);    // of a pool's changes; 0: no points by time
  Duration dump_limit = milliseconds(60'000);  // of a coredump
  bool dump = true;                            // after a panic, if there is a disk for it
  bool dump_cache = false;   // with the block cache and what clients read and write
  bool test_panics = false;  // `duet node panic`
  TimerConfig timers;
  std::int64_t core_keep = 4;            // core files in each root volume; 0: none
  std::int64_t core_space_percent = 10;  // of the root volume, for all of them
  bool auto_giveback = false;
  Duration auto_giveback_delay{};
  // In a row, within the window; 0: no limit.
  std::int64_t auto_giveback_attempts = 3, auto_giveback_takeovers = 5;
  Duration auto_giveback_window = seconds(600);
  bool auto_giveback_after_order = false;  // also after `duet takeover`

  // Management from a third machine (duet-apid); without an address: off.
  std::string management_address, management_secret_file;
  std::uint16_t management_port = 7003;

  NodeId partner() const { return partner_of(self); }
  const std::string& name_of(NodeId node) const { return node_names[node.value()]; }
  // For people: blue/1. Requires: index < shelves[identity].luns.size().
  std::string disk_name(NodeId identity, std::size_t index) const;
  // By name or number. Error: not_found.
  Result<NodeId> find_node(std::string_view name_or_number) const;
  std::string control_socket() const { return runtime_dir + "/duetd.sock"; }
};

// Errors: invalid; the message names the key. `origin` is for messages.
Result<Config> parse_config(std::string_view toml, const std::string& origin);
Result<Config> load_config(const std::string& path);

// What a management console knows of a pair: docs/configuration.md.
struct ConsoleConfig {
  std::string secret_file;
  std::array<std::string, 3> names;      // by node number; [0] unused
  std::array<std::string, 3> addresses;  // of its duet-apid, numeric
  std::array<std::uint16_t, 3> ports{};
};
Result<ConsoleConfig> parse_console(std::string_view toml, const std::string& origin);
Result<ConsoleConfig> load_console(const std::string& path);

// By name or number. Error: not_found. `names`: by node number.
Result<NodeId> find_node(const std::array<std::string, 3>& names, std::string_view name_or_number);

// "64MiB" and the like, or a plain number of bytes.
Result<std::uint64_t> parse_size(std::string_view text);

ClusterId cluster_id(std::string_view cluster_name);

}  // namespace duet::node
