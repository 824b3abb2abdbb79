// For tests: a supervisor of node red with both shelves, without a partner, whose engine the test
// plays.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/supervisor.h"
#include "node/test_shelf.h"
#include "simulation/fake_addresses.h"
#include "simulation/fake_engine.h"
#include "simulation/fake_interconnect.h"

namespace duet::node {

class SupervisorBench {
 public:
  static constexpr NodeId red{1}, blue{2};
  static constexpr BootNonce first_nonce{100};

  // `managed`: the service addresses are. `dump_disk`: red has a fourth disk, of this role;
  // `dumps`: it may be dumped to.
  explicit SupervisorBench(bool managed = false, bool dump_disk = false,
                           disk::Role role = disk::Role::coredump, bool dumps = true)
      : red_shelf(scheduler, red, dump_disk ? 3 : 2) {
    config.cluster = TestShelf::cluster;
    config.self = red;
    config.dump = dumps;
    config.node_names = {"", "red", "blue"};
    config.services[1] = {"iqn.2026-11.org.duet:red", "127.0.0.11", 3260};
    config.services[2] = {"iqn.2026-11.org.duet:blue", "127.0.0.12", 3260};
    if (managed) {
      config.services[1] = {"iqn.2026-11.org.duet:red", "192.0.2.11", 3260, "eth0", 24};
      config.services[2] = {"iqn.2026-11.org.duet:blue", "192.0.2.12", 3260, "eth0", 24};
    }
    config.shelves[1].luns = {0, 1};
    if (dump_disk) config.shelves[1].luns = {0, 1, 2, 3};
    config.shelves[2].luns = {0, 1};
    Supervisor::Ports ports{scheduler,
                            link,
                            engine,
                            {},
                            first_nonce,
                            [this] { return BootNonce(++last_nonce); },
                            [] { return std::int64_t{1}; },
                            [this](const admin::EventItem& event) { logged.push_back(event); }};
    ports.addresses = &kernel;
    for (auto* shelf : {&red_shelf, &blue_shelf}) {
      auto identity = shelf == &red_shelf ? red : blue;
      std::vector<DiskId> ids;
      for (const auto& label : shelf->labels) ids.push_back(label.id);
      auto mailbox = ha::encode(ha::first_mailbox(config.cluster, identity, std::move(ids)));
      for (auto& medium : shelf->media) {
        for (int copy : {0, 1}) medium->poke(disk::mailbox_copy(copy).offset, mailbox);
        paths.push_back(medium->connect());
        ports.disks[identity.value()].push_back(paths.back().get());
      }
    }
    if (dump_disk) {
      add_dump_disk(role);
      ports.disks[1].push_back(paths.back().get());
    }
    supervisor.emplace(config, std::move(ports));
    supervisor->on_halted([this] { ++halted; });
    // An engine that lives, until a test says otherwise.
    turn_engine();
  }
  void start() { supervisor->start(); }

  // What the engine would say.
  void say(const FromEngine& fact) { engine.say(archive(fact)); }
  // What the engine was told, of one kind, since the last call.
  template <class Order>
  std::vector<Order> told() {
    for (auto& bytes : engine.take_sent()) {
      auto order = unarchive<ToEngine>(bytes);
      EXPECT_TRUE(order);
      if (order) orders.push_back(*order);
    }
    std::vector<Order> found;
    std::erase_if(orders, [&](const ToEngine& order) {
      if (!std::holds_alternative<Order>(order)) return false;
      found.push_back(std::get<Order>(order));
      return true;
    });
    return found;
  }
  // Boots until the node serves its own identity.
  void come_up() {
    start();
    ASSERT_TRUE(run_until([&] { return engine.running(); }));
    say(ReadyFact{1, true, 7002});
    std::vector<AssumeOrder> assume;
    ASSERT_TRUE(run_until([&] { return !(assume = told<AssumeOrder>()).empty(); }));
    EXPECT_EQ(assume[0].identity, red);
    say(AssumedFact{red, 0});
    ASSERT_TRUE(run_until([&] { return state() == interconnect::NodeState::up; }));
  }
  interconnect::NodeState state() const {
    return supervisor->core().snapshot(scheduler.now()).state;
  }
  std::int64_t lease(NodeId identity) {
    return engine.shared().lease_until[identity.value()].load();
  }
  bool run_until(const std::function<bool()>& condition) {
    return scheduler.run_until(condition, seconds(20));
  }
  void run(Duration time = seconds(1)) { scheduler.run_for(time); }
  // The text of the last event of this phase; empty: none.
  std::string event(const std::string& phase) const {
    for (auto it = logged.rbegin(); it != logged.rend(); ++it) {
      if (it->phase == phase) return it->text.empty() ? "(no text)" : it->text;
    }
    return {};
  }

  simulation::SimulatedScheduler scheduler;
  simulation::FakeInterconnect link{scheduler};
  simulation::FakeEngine engine{scheduler};
  simulation::FakeAddresses kernel{scheduler};
  TestShelf red_shelf, blue_shelf{scheduler, blue};
  std::vector<std::unique_ptr<simulation::FakeDisk>> paths;
  Config config;
  std::uint64_t last_nonce = 200;
  bool engine_turns = true;
  int halted = 0;
  std::vector<admin::EventItem> logged;
  std::vector<ToEngine> orders;
  std::optional<Supervisor> supervisor;

 private:
  void add_dump_disk(disk::Role role) {
    simulation::FakeMedium::Options options;
    options.name = "red/3";
    options.size = 24 << 20;
    options.seed = 103;
    red_shelf.media.push_back(std::make_unique<simulation::FakeMedium>(scheduler, options));
    auto label = red_shelf.labels.front();
    label.id.bytes[0] = 0x77;
    label.role = role;
    label.mailbox = false;
    label.position = label.disks_in_pool = 0;
    label.redundancy = 0;
    label.size = options.size;
    red_shelf.labels.push_back(label);
    red_shelf.write_label(3);
    paths.push_back(red_shelf.media[3]->connect());
  }
  void turn_engine() {
    if (engine_turns) ++engine.shared().engine_progress;
    scheduler.at(scheduler.now() + milliseconds(100), [this] { turn_engine(); });
  }
};

}  // namespace duet::node
