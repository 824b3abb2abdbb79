// For tests: identity red in an engine of one of the nodes. Shelf, NVRAM of both nodes and network
// outlive engines.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "node/identity_service.h"
#include "node/test_client.h"
#include "node/test_shelf.h"
#include "nvlog/control_block.h"
#include "nvlog/replay.h"
#include "simulation/fake_mirror.h"
#include "simulation/fake_network.h"
#include "simulation/fake_nvram.h"

namespace duet::node {

class IdentityBench {
 public:
  static constexpr NodeId red{1}, blue{2};
  static constexpr const char* address = "127.0.0.11";
  static constexpr std::uint64_t lun_size = 1 << 20;

  static Config config_of(NodeId self) {
    Config config;
    config.cluster = TestShelf::cluster;
    config.self = self;
    config.node_names = {"", "red", "blue"};
    config.services[1] = {iscsi::testing::target_name, address, 3260};
    config.services[2] = {"iqn.2026-11.org.duet:blue", "127.0.0.12", 3260};
    return config;
  }

  IdentityBench() {
    for (auto* each : {&nvram, &partner}) {
      auto node = each == &nvram ? red : blue;
      EXPECT_TRUE(nvlog::format_region(*each, TestShelf::cluster, node, {}));
    }
    start_engine(red);
  }

  // The engine before, if any, is gone without a word: all of its memory is lost.
  void start_engine(NodeId node) {
    service.reset();
    told.clear();
    shelf.connect_engine();
    self = node;
    config = std::make_unique<Config>(config_of(node));
    disks.clear();
    std::vector<WatchedDisk*> paths;
    for (ports::Disk* disk : shelf.disks()) {
      disks.push_back(std::make_unique<WatchedDisk>(scheduler, *disk));
      paths.push_back(disks.back().get());
    }
    IdentityService::Ports ports{
        scheduler,
        node == red ? nvram : partner,
        layout,
        mirror,
        network,
        std::move(paths),
        [this](LabelledPool labelled,
               IdentityService::PoolHooks hooks) -> std::unique_ptr<pool::Pool> {
          pool::Pool::Options options;
          options.pool = labelled.pool;
          options.disks = std::move(labelled.disks);
          options.journal = std::move(hooks.journal);
          options.claim = std::move(hooks.claim);
          options.spare_missed = std::move(hooks.spare_missed);
          options.read_cache = 0;  // so that reads of what is on disk go there
          auto made = std::make_unique<pool::Pool>(scheduler, std::move(options));
          storage = made.get();
          return made;
        },
        [this](const FromEngine& fact) { hear(fact); },
        [this] { return lease; },
        [this] { return scheduler.now().time_since_epoch() / std::chrono::nanoseconds(1); },
    };
    service = std::make_unique<IdentityService>(*config, red, std::move(ports));
    if (node == red) mirror.on_outgoing([this](bool up) { service->on_mirror(up); });
  }
  AssumeOrder order(bool replay) {
    ++epoch;
    AssumeOrder o;
    o.identity = red;
    o.epoch = Epoch(epoch);
    o.replay = replay;
    o.log_epoch = Epoch(epoch - 1);
    o.durability = mark.first;
    o.since = mark.second;
    o.own_log = self == red;
    o.holder = shelf.reserve(self, o.epoch, reservation);
    o.key = disk::make_key(TestShelf::cluster, self, disk::KeyRole::engine, o.epoch);
    return o;
  }
  void assume(bool replay) {
    auto o = order(replay);
    if (!replay) mark = {Durability::write_through, {}};
    service->assume(o, false);
    run();
  }
  void serve() {  // the usual beginning: serving, mirrored, one LUN
    mirror.connect();
    assume(false);
    ASSERT_TRUE(last<AssumedFact>());
    ASSERT_EQ(create("data", lun_size), "");
    run();
    ASSERT_EQ(service->report().mode, Durability::mirrored);
  }

  std::string create(const std::string& name, std::uint64_t size) {
    return lun_answer([&](auto done) { service->create_lun(name, size, done); });
  }
  std::string remove(const std::string& name) {
    return lun_answer([&](auto done) { service->delete_lun(name, done); });
  }
  // Empty: done; else why not.
  template <class Ask>
  std::string lun_answer(Ask ask) {
    std::string why = "no answer";
    ask([&](Result<std::vector<LunInfo>> r) { why = r ? "" : r.error().message; });
    run();
    return why;
  }

  void run(Duration time = seconds(1)) { scheduler.run_for(time); }
  template <class Fact>
  const Fact* last() const {
    for (auto it = told.rbegin(); it != told.rend(); ++it) {
      if (const auto* fact = std::get_if<Fact>(&*it)) return fact;
    }
    return nullptr;
  }
  template <class Fact>
  std::size_t count() const {
    return static_cast<std::size_t>(std::ranges::count_if(
        told, [](const FromEngine& fact) { return std::holds_alternative<Fact>(fact); }));
  }
  // A read of what only the disks have, which takes `time` there.
  void start_slow_read(TestClient& client, Duration time) {
    ASSERT_TRUE(client.write(1024, 's')->good());
    storage->start_consistency_point();
    run();
    slow_reads(time);
    client.start_read(1024);
    run(milliseconds(10));
  }
  bool listening() const { return network.listening(address, 3260); }
  TestClient client() { return {scheduler, network, address, ++last_client}; }
  // Writes and flushes fail as if the path were slow.
  void refuse_writes(bool refused) {
    for (auto& medium : shelf.media) {
      medium->fault = [refused](simulation::DiskOperation operation, std::uint64_t,
                                std::uint64_t) -> std::optional<ErrorCode> {
        if (!refused || operation == simulation::DiskOperation::read) return {};
        return ErrorCode::timed_out;
      };
    }
  }
  void slow_reads(std::optional<Duration> time) {
    for (auto& medium : shelf.media) {
      medium->latency = [time](simulation::DiskOperation operation, std::uint64_t,
                               std::uint64_t) -> std::optional<Duration> {
        if (operation == simulation::DiskOperation::read) return time;
        return {};
      };
    }
  }
  // A valid record that red's engine is not to survive; and a new engine, which will find it.
  void append_to_log(const filesystem::LogRecord& record) {
    service.reset();
    auto control = nvlog::read_control_block(nvram.region(), layout, red);
    auto plan = nvlog::plan_replay(ring(nvram), red, control.tail, {});
    ASSERT_TRUE(plan);
    nvlog::Log log(nvram, layout, red, *plan, {.persistent = true});
    nvlog::Actions actions;
    ASSERT_TRUE(log.start(Epoch(++epoch), red, true, actions));
    ASSERT_TRUE(log.append(record.kind, record.words, record.payload));
    start_engine(red);
  }
  void expect_nothing_left() {
    EXPECT_TRUE(service->idle());
    EXPECT_FALSE(listening());
    for (std::size_t i = 0; i < shelf.media.size(); ++i) {
      EXPECT_EQ(shelf.registrations(i), 1u) << "only the supervisor's";
    }
  }
  void expect_nothing_left_but(std::size_t registrations) {
    EXPECT_TRUE(service->idle());
    EXPECT_FALSE(listening());
    for (std::size_t i = 0; i < shelf.media.size(); ++i) {
      EXPECT_LE(shelf.registrations(i), registrations);
    }
  }
  MutableBytes ring(simulation::FakeNvram& of) {
    auto extent = layout.ring(red);
    return of.region().subspan(extent.offset, extent.length);
  }

  simulation::SimulatedScheduler scheduler;
  TestShelf shelf{scheduler, red};
  simulation::FakeNvram nvram{4 << 20}, partner{4 << 20};
  nvlog::RegionLayout layout = *nvlog::RegionLayout::of_size(4 << 20);
  simulation::FakeMirror mirror{scheduler, nvram, partner};
  simulation::FakeNetwork network{scheduler};
  std::unique_ptr<Config> config;
  NodeId self = red;
  bool lease = true;
  bool supervisor_hears = true;  // which spares are free
  std::uint32_t last_client = 0;
  std::uint64_t epoch = 0;
  ports::ReservationType reservation = ports::ReservationType::exclusive_access_registrants_only;
  std::pair<Durability, LogSequence> mark{Durability::write_through, {}};  // in the mailbox
  std::vector<FromEngine> told;
  pool::Pool* storage = nullptr;
  std::vector<std::unique_ptr<WatchedDisk>> disks;
  std::unique_ptr<IdentityService> service;

 private:
  void hear(const FromEngine& fact) {
    told.push_back(fact);
    const auto* spares = std::get_if<FreeSparesFact>(&fact);
    if (spares != nullptr && supervisor_hears) {
      scheduler.post([this, number = spares->number] {
        if (service) service->free_spares_heard(number);
      });
    }
    const auto* wanted = std::get_if<DurabilityWantedFact>(&fact);
    if (wanted == nullptr) return;
    scheduler.post([this, w = *wanted] {  // the supervisor writes the mailbox and grants
      mark = {w.mode, w.since};
      if (service) service->grant({red, w.mode, w.since});
    });
  }
};

}  // namespace duet::node
