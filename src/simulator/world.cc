#include "simulator/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "coredump/dump_disk.h"
#include "disk/areas.h"
#include "disk/label.h"
#include "ha/mailbox.h"
#include "pool/pool.h"
#include "simulator/durations.h"
#include "simulator/sim_disk.h"
#include "simulator/sim_engine_process.h"
#include "simulator/sim_interconnect.h"
#include "simulator/sim_node.h"

namespace duet::simulator {

namespace {

constexpr std::uint64_t disk_size = 8u << 20;
// Room for the least raw dump that a node begins.
constexpr std::uint64_t dump_disk_size = disk::data_offset + coredump::min_dump_room;
constexpr Duration dump_limit_min = seconds(3), dump_limit_max = seconds(60);
constexpr std::uint64_t livelock_steps = 200'000;  // at one instant

}  // namespace

Shape shape_of(std::uint64_t seed) {
  Random random(seed * 0xbf58476d1ce4e5b9 + 3);
  Shape shape;
  shape.persistent_nvram = random.chance(3, 4);
  shape.hardware_rdma = random.chance(1, 2);
  shape.write_cache = random.chance(1, 3);
  shape.auto_giveback = random.chance(2, 3);
  shape.managed_addresses = random.chance(1, 2);
  shape.nvram_size = (256u << 10) << random.below(3);
  if (random.chance(1, 4)) shape.dump_disks = 1 + random.below(2);
  shape.dump_limit = log_uniform(random, dump_limit_min, dump_limit_max);
  return shape;
}

namespace {

void throw_panic(const char* expression, const char* file, int line) {
  if (InNodeProcess::depth == 0) return;
  throw SimulatedPanic{fmt::format("ASSERT({}) at {}:{}", expression, file, line)};
}

disk::Label make_label(const World& world, NodeId owner, std::size_t i) {
  disk::Label label;
  label.cluster = world.config(owner).cluster;
  label.id.bytes[0] = static_cast<std::uint8_t>(owner.value() * 16 + i);
  label.id.bytes[15] = 1;
  label.owner = owner;
  label.mailbox = true;
  label.position = static_cast<std::uint16_t>(i);
  label.disks_in_pool = static_cast<std::uint16_t>(disks_per_shelf);
  label.redundancy = 1;
  label.size = disk_size;
  label.pool[0] = owner.value();
  label.pool_name = "pool";
  if (is_dump_disk(i)) {
    label.role = disk::Role::coredump;
    label.mailbox = false;
    label.position = 0;
    label.redundancy = 0;
    label.size = dump_disk_size;
  }
  return label;
}

}  // namespace

World::World(WorldOptions options)
    : options_(options), random_(options_.seed * 0x9e3779b97f4a7c15 + 1) {
  set_assertion_handler(throw_panic);
  shape_ = shape_of(options_.seed);
  make_configs();
  outside_ = std::make_unique<Process>(clock_, random_, "outside");
  clients_ = std::make_unique<ClientNetwork>(*outside_, random_);
  if (shape_.managed_addresses) clients_->manage_addresses();
  interconnects_ = std::make_unique<Interconnects>(*outside_, random_, options_.sabotage);
  interconnects_->hardware = shape_.hardware_rdma;
  interconnects_->on_stray_write = [this](NodeId node) {
    violate("I3", fmt::format("the partner writes into the NVRAM of {}, whose window is closed",
                              config(node).name_of(node)));
  };
  for (std::uint8_t n : {1, 2}) make_shelf(NodeId(n));
  for (std::uint8_t n : {1, 2}) {
    nodes_[n] =
        std::make_unique<SimNode>(*this, NodeId(n), shape_.persistent_nvram, random_.next());
  }
}

World::~World() {
  for (auto& node : nodes_) node.reset();
  clients_.reset();
  outside_->kill();
}

void World::make_configs() {
  for (std::uint8_t self : {1, 2}) {
    auto& c = configs_[self];
    c.cluster_name = "simulated";
    c.cluster = node::cluster_id(c.cluster_name);
    c.self = NodeId(self);
    c.node_names = {"", "red", "blue"};
    c.partner_address = "partner";
    c.nvram_size = shape_.nvram_size;
    c.allow_volatile_nvram = true;
    c.cache_size = 1u << 20;
    c.auto_giveback = shape_.auto_giveback;
    c.dump_limit = std::chrono::ceil<milliseconds>(shape_.dump_limit);
    for (std::uint8_t n : {1, 2}) {
      auto& service = c.services[n];
      service = {n == 1 ? "iqn.2026-11.org.duet:red" : "iqn.2026-11.org.duet:blue",
                 n == 1 ? "10.0.0.11" : "10.0.0.12", 3260};
      if (shape_.managed_addresses) {
        service.interface = "eth0";
        service.prefix = 24;
      }
      c.shelves[n].iqn = n == 1 ? "shelf.red" : "shelf.blue";
      c.shelves[n].luns.clear();
      for (std::size_t i = 0; i < disks_of(shape_); ++i) {
        c.shelves[n].luns.push_back(static_cast<std::uint16_t>(i));
      }
    }
  }
}

void World::make_shelf(NodeId owner) {
  for (std::size_t i = 0; i < disks_of(shape_); ++i) {
    SimUnit::Options options;
    options.name = fmt::format("{}/{}", config(owner).name_of(owner), i);
    options.owner = owner;
    options.index = static_cast<std::uint8_t>(i);
    options.size = is_dump_disk(i) ? dump_disk_size : disk_size;
    options.write_cache = shape_.write_cache;
    if (!is_dump_disk(i)) {
      options.pool_metadata = {disk::data_offset, raid::reserved_blocks * raid::block_size};
    }
    options.seed = random_.next();
    shelves_[owner.value()].push_back(
        std::make_unique<SimUnit>(*outside_, options_.sabotage, options));
  }
  auto& shelf = shelves_[owner.value()];
  for (std::size_t i = disks_per_shelf; i < shelf.size(); ++i) {
    shelf[i]->data_disk = shelf[disks_per_shelf - 1].get();
  }
  format(owner);
}

// As `duet init` does it.
void World::format(NodeId owner) {
  std::vector<DiskId> ids;
  std::vector<pool::Pool::Disk> pool;
  Process formatter(clock_, random_, "init");
  std::vector<std::unique_ptr<SimDisk>> paths;
  for (std::size_t i = 0; i < disks_of(shape_); ++i) {
    auto& unit = *shelf(owner)[i];
    auto label = make_label(*this, owner, i);
    ids.push_back(label.id);
    auto block = disk::encode_label(label);
    ASSERT(block.has_value());
    for (int copy : {0, 1}) unit.poke(disk::label_copy(copy).offset, *block);
    if (is_dump_disk(i)) continue;
    SimDisk::Options options;
    options.node = owner;
    options.role = 0xff;
    paths.push_back(std::make_unique<SimDisk>(formatter, unit, options_.sabotage, options));
    paths.back()->start();
    pool.push_back({paths.back().get(), label.id, *disk::data_area(disk_size)});
  }
  auto mailbox = ha::encode(ha::first_mailbox(config(owner).cluster, owner, ids));
  for (std::size_t i = 0; i < disks_per_shelf; ++i) {
    for (int copy : {0, 1}) shelf(owner)[i]->poke(disk::mailbox_copy(copy).offset, mailbox);
  }
  auto limit = clock_.now() + seconds(60);
  auto connected = [&] {
    for (auto& path : paths) {
      if (!path->connected()) return false;
    }
    return true;
  };
  while (!connected() && clock_.step(limit)) {
  }
  auto layout = pool::plan_layout(pool, raid::Protection::single, 0);
  ASSERT(layout.has_value());
  std::optional<Status> done;
  pool::format_pool(formatter, make_label(*this, owner, 0).pool, pool, *layout,
                    [&](Status status) { done = std::move(status); });
  while (!done && clock_.step(limit)) {
  }
  ASSERT(done && done->has_value());
  for (auto& path : paths) path->end(true);
}

// ---- time ----

bool World::step(Instant limit) {
  if (!clock_.step(limit)) return false;
  if (clock_.now() != busy_at_) {
    busy_at_ = clock_.now();
    steps_at_ = 0;
  } else if (++steps_at_ > livelock_steps) {
    violate("livelock", "no end of things to do at one instant");
    steps_at_ = 0;
  }
  for (auto& check : after_step) check();
  return true;
}

void World::run_for(Duration time) {
  auto limit = now() + time;
  while (!violated_ && step(limit)) {
  }
}

// ---- findings ----

void World::violate(std::string_view invariant, std::string what) {
  if (std::exchange(violated_, true)) return;
  violation_ = {std::string(invariant), std::move(what), now()};
  trace("VIOLATION", violation_.invariant + ": " + violation_.what);
}

bool World::excused(NodeId identity, std::string_view invariant) const {
  constexpr std::array of_data{"I1", "I4", "I8", "I9", "I13", "I14", "I15"};
  if (!excuses_[identity.value()].empty()) return true;
  return forgiven_[identity.value()] && std::ranges::find(of_data, invariant) != of_data.end();
}

void World::panicked(NodeId node, std::string_view process, const std::string& what) {
  violate("assertion", fmt::format("{} {}: {}", config(node).name_of(node), process, what));
}

void World::trace(std::string_view who, std::string_view text) {
  auto ns = now().time_since_epoch().count();
  for (char c : text) clock_.mix(static_cast<std::uint8_t>(c));
  auto line = fmt::format("{:>5}.{:06} {:<6} {}", ns / 1'000'000'000 - 1000, ns / 1000 % 1'000'000,
                          who, text);
  if (options_.print_trace) std::fprintf(stderr, "%s\n", line.c_str());
  if (lines_.size() >= kept_lines) lines_.pop_front();
  lines_.push_back(std::move(line));
  for (auto& listener : on_trace) listener(who, text);
}

std::vector<std::string> World::last_lines() const {
  return {lines_.begin(), lines_.end()};
}

}  // namespace duet::simulator
