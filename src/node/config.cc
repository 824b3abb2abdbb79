#include "node/config.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <toml++/toml.h>
#include <charconv>
#include <fstream>
#include <initializer_list>
#include <sstream>

#include "base/assert.h"
#include "base/bytes.h"

namespace duet::node {
namespace {

constexpr std::size_t max_disks_of_identity = 64;

// Reads one table; remembers the first error, and that every key was known.
class Table {
 public:
  Table(const toml::table* table, std::string name, std::string* error)
      : table_(table), name_(std::move(name)), error_(error) {}

  void known(std::initializer_list<std::string_view> keys) {
    if (!table_) return;
    for (const auto& [key, value] : *table_) {
      bool found = false;
      for (auto k : keys) found = found || k == key.str();
      if (!found) complain("unknown key '" + path(key.str()) + "'");
    }
  }
  bool has(std::string_view key) const { return table_ && table_->contains(key); }
  void text(std::string_view key, std::string& into, bool required = true) {
    const auto* v = find(key, required);
    if (!v) return;
    if (auto s = v->value_exact<std::string>(); s && !s->empty()) {
      into = *s;
    } else {
      complain("'" + path(key) + "' must be a non-empty string");
    }
  }
  void number(std::string_view key, std::int64_t low, std::int64_t high, std::int64_t& into,
              bool required = true) {
    const auto* v = find(key, required);
    if (!v) return;
    auto n = v->value_exact<std::int64_t>();
    if (!n || *n < low || *n > high) {
      complain("'" + path(key) + "' must be a number from " + std::to_string(low) + " to " +
               std::to_string(high));
    } else {
      into = *n;
    }
  }
  void port(std::string_view key, std::uint16_t& into, bool may_be_zero = false,
            bool required = true) {
    std::int64_t n = into;
    number(key, may_be_zero ? 0 : 1, 65535, n, required);
    into = static_cast<std::uint16_t>(n);
  }
  void interval(std::string_view key, std::int64_t low_ms, std::int64_t high_ms, Duration& into) {
    std::int64_t n = into / milliseconds(1);
    number(key, low_ms, high_ms, n, false);
    into = milliseconds(n);
  }
  void boolean(std::string_view key, bool& into) {
    const auto* v = find(key, false);
    if (!v) return;
    if (auto b = v->value_exact<bool>()) {
      into = *b;
    } else {
      complain("'" + path(key) + "' must be true or false");
    }
  }
  void size(std::string_view key, std::uint64_t low, std::uint64_t& into) {
    const auto* v = find(key, false);
    if (!v) return;
    auto s = v->value_exact<std::string>();
    auto n = s ? parse_size(*s) : Result<std::uint64_t>(fail(ErrorCode::invalid, ""));
    if (!n || *n < low) {
      complain("'" + path(key) + "' must be a size such as \"64MiB\", at least " +
               std::to_string(low >> 20) + "MiB");
    } else {
      into = *n;
    }
  }
  void luns(std::string_view key, std::vector<std::uint16_t>& into) {
    const auto* v = find(key, true);
    if (!v) return;
    const auto* list = v->as_array();
    bool good = list && !list->empty() && list->size() <= max_disks_of_identity;
    for (std::size_t i = 0; good && i < list->size(); ++i) {
      auto n = list->get(i)->value_exact<std::int64_t>();
      good = n && *n >= 0 && *n < 256;
      if (!good) break;
      auto lun = static_cast<std::uint16_t>(*n);
      for (auto other : into) good = good && other != lun;
      into.push_back(lun);
    }
    if (!good) {
      complain("'" + path(key) + "' must list different LUN numbers from 0 to 255, at most " +
               std::to_string(max_disks_of_identity));
    }
  }
  void complain(std::string what) {
    if (error_->empty()) *error_ = std::move(what);
  }

 private:
  std::string path(std::string_view key) const { return name_ + "." + std::string(key); }
  const toml::node* find(std::string_view key, bool required) {
    const auto* v = table_ ? table_->get(key) : nullptr;
    if (!v && required) complain("'" + path(key) + "' is missing");
    return v;
  }
  const toml::table* table_;
  std::string name_;
  std::string* error_;
};

// Entries of an array of tables, each for one node number under `key`; both must be there.
template <class F>
void per_node(const toml::table& root, std::string_view name, std::string_view key,
              std::string* error, F&& read) {
  const auto* list = root.get_as<toml::array>(name);
  std::array<bool, 3> seen{};
  if (list) {
    for (const auto& element : *list) {
      Table t(element.as_table(), std::string(name), error);
      std::int64_t node = 0;
      t.number(key, 1, 2, node);
      if (node == 0) return;
      auto index = static_cast<std::size_t>(node);
      if (seen[index])
        t.complain("two [[" + std::string(name) + "]] for node " + std::to_string(node));
      seen[index] = true;
      read(t, index);
    }
  }
  if (error->empty() && !(seen[1] && seen[2])) {
    *error = "one [[" + std::string(name) + "]] with " + std::string(key) + " = 1 and one with " +
             std::string(key) + " = 2 are needed";
  }
}

void check_tables(const toml::table& root, std::string* error) {
  Table(&root, "file", error)
      .known({"cluster", "node", "interconnect", "nvram", "shelf", "service", "engine", "takeover",
              "management", "snapshots", "coredump"});
}

void read_cluster_and_node(const toml::table& root, Config& c, std::string* error) {
  Table cluster(root.get_as<toml::table>("cluster"), "cluster", error);
  cluster.known({"name", "secret_file"});
  cluster.text("name", c.cluster_name);
  cluster.text("secret_file", c.secret_file);
  c.cluster = cluster_id(c.cluster_name);

  Table node(root.get_as<toml::table>("node"), "node", error);
  node.known({"id", "name", "partner_name", "runtime_dir"});
  std::int64_t id = 0;
  node.number("id", 1, 2, id);
  if (id == 0) return;
  c.self = NodeId(static_cast<std::uint8_t>(id));
  node.text("name", c.node_names[c.self.value()]);
  node.text("partner_name", c.node_names[c.partner().value()]);
  node.text("runtime_dir", c.runtime_dir);
  if (error->empty() && c.node_names[1] == c.node_names[2]) {
    node.complain("'node.name' and 'node.partner_name' must differ");
  }
}

void read_interconnect_and_nvram(const toml::table& root, Config& c, std::string* error) {
  Table link(root.get_as<toml::table>("interconnect"), "interconnect", error);
  link.known({"provider", "address", "port", "partner_address", "partner_port", "mirror_port"});
  link.text("provider", c.provider, false);
  if (c.provider != "tcp" && c.provider != "verbs") {
    link.complain("'interconnect.provider' must be \"tcp\" or \"verbs\"");
  }
  link.text("address", c.address);
  link.port("port", c.port);
  link.text("partner_address", c.partner_address);
  link.port("partner_port", c.partner_port);
  link.port("mirror_port", c.mirror_port, true, false);

  Table nvram(root.get_as<toml::table>("nvram"), "nvram", error);
  nvram.known({"path", "size", "allow_volatile"});
  nvram.text("path", c.nvram_path);
  nvram.size("size", min_nvram_size, c.nvram_size);
  nvram.boolean("allow_volatile", c.allow_volatile_nvram);
}

void read_service(Table& t, ServiceConfig& service) {
  t.known({"identity", "iqn", "address", "port", "interface", "prefix"});
  t.text("iqn", service.iqn);
  t.text("address", service.address);
  t.port("port", service.port, false, false);
  t.text("interface", service.interface, false);
  if (!service.managed()) {
    if (t.has("prefix")) t.complain("'service.prefix' needs 'service.interface'");
    return;
  }
  auto address = IpAddress::parse(service.address);
  if (!address || !address->unicast()) {
    t.complain("'service.address' must be the numeric unicast address (no IPv6 link-local one) " +
               std::string("that service.interface gets, for example \"192.0.2.11\""));
    return;
  }
  constexpr std::size_t longest_name = 15;  // IFNAMSIZ - 1
  if (service.interface.size() > longest_name ||
      service.interface.find_first_of("/ \t\n") != std::string::npos) {
    t.complain("'service.interface' must be the name of a network interface");
  }
  std::int64_t prefix = address->bits();
  t.number("prefix", 1, address->bits(), prefix, false);
  service.prefix = static_cast<std::uint8_t>(prefix);
}

void read_snapshots(const toml::table& root, Config& c, std::string* error) {
  if (!root.get("snapshots")) return;
  const auto* list = root.get_as<toml::array>("snapshots");
  Table whole(nullptr, "snapshots", error);
  if (!list || list->size() > max_snapshot_schedules) {
    return whole.complain("'snapshots' must be [[snapshots]], at most " +
                          std::to_string(max_snapshot_schedules));
  }
  for (const auto& element : *list) {
    Table t(element.as_table(), "snapshots", error);
    t.known({"identity", "volume", "interval_minutes", "keep"});
    std::int64_t identity = 0, minutes = 0, keep = 0;
    SnapshotSchedule schedule;
    t.number("identity", 1, 2, identity);
    t.text("volume", schedule.volume, false);
    t.number("interval_minutes", 1, 525'600, minutes);
    t.number("keep", 1, 10'000, keep);
    schedule.identity = NodeId(static_cast<std::uint8_t>(identity));
    schedule.interval = std::chrono::minutes(minutes);
    schedule.keep = static_cast<std::size_t>(keep);
    for (const auto& other : c.snapshots) {
      if (other.identity == schedule.identity && other.volume == schedule.volume) {
        t.complain("two [[snapshots]] for volume " + schedule.volume + " of identity " +
                   std::to_string(identity));
      }
    }
    c.snapshots.push_back(std::move(schedule));
  }
}

void read_management(const toml::table& root, Config& c, std::string* error) {
  if (!root.get("management")) return;
  Table t(root.get_as<toml::table>("management"), "management", error);
  t.known({"address", "port", "secret_file"});
  t.text("address", c.management_address);
  t.port("port", c.management_port, false, false);
  t.text("secret_file", c.management_secret_file);
  if (error->empty() && !IpAddress::parse(c.management_address)) {
    t.complain("'management.address' must be a numeric address");
  }
}

void read_coredump(const toml::table& root, Config& c, std::string* error) {
  Table t(root.get_as<toml::table>("coredump"), "coredump", error);
  t.known({"enabled", "limit_ms", "include_cache", "test_panics", "keep", "space_limit_percent"});
  t.boolean("enabled", c.dump);
  t.interval("limit_ms", 100, 3'600'000, c.dump_limit);
  t.boolean("include_cache", c.dump_cache);
  t.boolean("test_panics", c.test_panics);
  t.number("keep", 0, 64, c.core_keep, false);
  t.number("space_limit_percent", 1, 90, c.core_space_percent, false);
}

void read_takeover(const toml::table& root, Config& c, std::string* error) {
  Table t(root.get_as<toml::table>("takeover"), "takeover", error);
  t.known({"state_read_ms", "heartbeat_ms", "interconnect_silence_ms", "mailbox_silence_ms",
           "cold_start_wait_ms", "auto_giveback", "auto_giveback_delay_ms",
           "auto_giveback_attempts", "auto_giveback_takeovers", "auto_giveback_window_ms",
           "auto_giveback_after_order"});
  auto& timers = c.timers;
  t.interval("state_read_ms", 2, 10000, timers.state_read);
  t.interval("heartbeat_ms", 10, 10000, timers.heartbeat);
  t.interval("interconnect_silence_ms", 20, 600000, timers.interconnect_silence);
  t.interval("mailbox_silence_ms", 250, 600000, timers.mailbox_silence);
  t.interval("cold_start_wait_ms", 0, 3600000, timers.cold_start_wait);
  t.boolean("auto_giveback", c.auto_giveback);
  t.interval("auto_giveback_delay_ms", 0, 86400000, c.auto_giveback_delay);
  t.number("auto_giveback_attempts", 0, 1000, c.auto_giveback_attempts, false);
  t.number("auto_giveback_takeovers", 0, 60, c.auto_giveback_takeovers, false);
  t.interval("auto_giveback_window_ms", 1000, 86400000, c.auto_giveback_window);
  t.boolean("auto_giveback_after_order", c.auto_giveback_after_order);
  if (timers.interconnect_silence < 3 * timers.state_read) {
    t.complain("'takeover.interconnect_silence_ms' must be at least 3 x state_read_ms");
  }
  if (timers.lease() < 3 * timers.heartbeat) {
    t.complain("'takeover.mailbox_silence_ms' must be at least 3 x heartbeat_ms + 200");
  }
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  int shift = suffix.empty()    ? 0
              : suffix == "KiB" ? 10
              : suffix == "MiB" ? 20
              : suffix == "GiB" ? 30
              : suffix == "TiB" ? 40
                                : -1;
  if (error != std::errc{} || shift < 0 || n > (UINT64_MAX >> shift)) {
    return fail(
        ErrorCode::invalid,
        "'" + std::string(text) + "' is no size; write for example 512MiB (KiB, MiB, GiB, TiB)");
  }
  return n << shift;
}

ClusterId cluster_id(std::string_view cluster_name) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(cluster_name.data()), cluster_name.size(),
         digest.data());
  return ClusterId(load_le<std::uint64_t>(reinterpret_cast<const std::byte*>(digest.data())));
}

ports::ServiceAddress ServiceConfig::managed_address() const {
  auto parsed = IpAddress::parse(address);
  ASSERT(managed() && parsed);
  return {interface, *parsed, prefix};
}

Result<NodeId> Config::find_node(std::string_view name_or_number) const {
  return node::find_node(node_names, name_or_number);
}

Result<NodeId> find_node(const std::array<std::string, 3>& node_names,
                         std::string_view name_or_number) {
  for (std::uint8_t n : {1, 2}) {
    bool named = !name_or_number.empty() && name_or_number == node_names[n];
    if (named || name_or_number == std::to_string(n)) return NodeId(n);
  }
  if (node_names[1].empty()) {
    return fail(ErrorCode::not_found,
                "no node '" + std::string(name_or_number) + "': say 1 or 2, or use --console");
  }
  return fail(ErrorCode::not_found, "no node '" + std::string(name_or_number) +
                                        "': the nodes are " + node_names[1] + " (1) and " +
                                        node_names[2] + " (2)");
}

std::string Config::disk_name(NodeId identity, std::size_t index) const {
  return fmt::format("{}/{}", name_of(identity), shelves[identity.value()].luns[index]);
}

Result<Config> parse_config(std::string_view text, const std::string& origin) {
  Config c;
  std::string error;
  try {
    toml::table root = toml::parse(text, origin);
    check_tables(root, &error);
    read_cluster_and_node(root, c, &error);
    read_interconnect_and_nvram(root, c, &error);
    per_node(root, "shelf", "owner", &error, [&](Table& t, std::size_t node) {
      t.known({"owner", "portal", "iqn", "luns"});
      t.text("portal", c.shelves[node].portal);
      t.text("iqn", c.shelves[node].iqn);
      t.luns("luns", c.shelves[node].luns);
    });
    per_node(root, "service", "identity", &error,
             [&](Table& t, std::size_t node) { read_service(t, c.services[node]); });
    Table engine(root.get_as<toml::table>("engine"), "engine", &error);
    engine.known(
        {"cache", "metadata_cache", "dirty_limit", "progress_limit_ms", "consistency_point_ms"});
    engine.size("cache", 1ull << 20, c.cache_size);
    engine.size("metadata_cache", 4ull << 20, c.metadata_cache);
    engine.size("dirty_limit", 16ull << 20, c.dirty_limit);
    engine.interval("progress_limit_ms", 500, 600000, c.progress_limit);
    engine.interval("consistency_point_ms", 0, 3600000, c.point_age);
    read_snapshots(root, c, &error);
    read_management(root, c, &error);
    read_coredump(root, c, &error);
    read_takeover(root, c, &error);
  } catch (const toml::parse_error& e) {
    std::ostringstream where;
    where << e.description() << " (" << e.source().begin << ")";
    error = where.str();
  }
  if (!error.empty()) return fail(ErrorCode::invalid, origin + ": " + error);
  return c;
}

Result<ConsoleConfig> parse_console(std::string_view text, const std::string& origin) {
  ConsoleConfig c;
  std::string error;
  try {
    toml::table root = toml::parse(text, origin);
    Table top(&root, "file", &error);
    top.known({"secret_file", "node"});
    top.text("secret_file", c.secret_file);
    per_node(root, "node", "id", &error, [&](Table& t, std::size_t node) {
      t.known({"id", "name", "address", "port"});
      t.text("name", c.names[node]);
      t.text("address", c.addresses[node]);
      c.ports[node] = Config{}.management_port;
      t.port("port", c.ports[node], false, false);
      if (!IpAddress::parse(c.addresses[node])) {
        t.complain("'node.address' must be a numeric address");
      }
    });
    if (error.empty() && c.names[1] == c.names[2]) error = "both nodes have the same name";
  } catch (const toml::parse_error& e) {
    std::ostringstream where;
    where << e.description() << " (" << e.source().begin << ")";
    error = where.str();
  }
  if (!error.empty()) return fail(ErrorCode::invalid, origin + ": " + error);
  return c;
}

namespace {

Result<std::string> read_text(const std::string& path, const std::string& cure) {
  std::ifstream file(path);
  std::stringstream text;
  if (!(text << file.rdbuf())) return fail(ErrorCode::not_found, "cannot read " + path + cure);
  return text.str();
}

}  // namespace

Result<Config> load_config(const std::string& path) {
  auto text = read_text(path, "; name another configuration with --config or DUET_CONFIG");
  if (!text) return std::unexpected(text.error());
  return parse_config(*text, path);
}

Result<ConsoleConfig> load_console(const std::string& path) {
  auto text = read_text(path, "; name another console file with --console or DUET_CONSOLE");
  if (!text) return std::unexpected(text.error());
  return parse_console(*text, path);
}

}  // namespace duet::node
