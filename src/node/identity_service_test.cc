#include "node/identity_service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "node/test_client.h"
#include "node/test_shelf.h"
#include "nvlog/control_block.h"
#include "simulation/fake_mirror.h"
#include "simulation/fake_network.h"
#include "simulation/fake_nvram.h"

namespace duet::node {
namespace {

constexpr NodeId red{1}, blue{2};
constexpr const char* address = "127.0.0.11";
constexpr std::uint64_t lun_size = 1 << 20;

Config config_of(NodeId self) {
  Config config;
  config.cluster = TestShelf::cluster;
  config.self = self;
  config.node_names = {"", "red", "blue"};
  config.services[1] = {iscsi::testing::target_name, address, 3260};
  config.services[2] = {"iqn.2026-11.org.duet:blue", "127.0.0.12", 3260};
  return config;
}

// Identity red in an engine of one of the nodes; the shelf, the NVRAM of both nodes and the network
// outlive engines.
class Bench {
 public:
  Bench() {
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
    IdentityService::Ports ports{
        scheduler,
        node == red ? nvram : partner,
        layout,
        mirror,
        network,
        shelf.disks(),
        [this](LabelledPool pool) -> std::unique_ptr<filesystem::Storage> {
          filesystem::ExtentPool::Options options;
          options.pool = pool.pool;
          options.disks = std::move(pool.disks);
          options.read_cache = 0;  // so that reads of what is on disk go there
          auto made = std::make_unique<filesystem::ExtentPool>(scheduler, std::move(options));
          storage = made.get();
          return made;
        },
        [this](const FromEngine& fact) { hear(fact); },
        [this] { return lease; },
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
    o.holder = shelf.reserve(self, o.epoch);
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
  std::uint32_t last_client = 0;
  std::uint64_t epoch = 0;
  std::pair<Durability, LogSequence> mark{Durability::write_through, {}};  // in the mailbox
  std::vector<FromEngine> told;
  filesystem::ExtentPool* storage = nullptr;
  std::unique_ptr<IdentityService> service;

 private:
  void hear(const FromEngine& fact) {
    told.push_back(fact);
    const auto* wanted = std::get_if<DurabilityWantedFact>(&fact);
    if (wanted == nullptr) return;
    scheduler.post([this, w = *wanted] {  // the supervisor writes the mailbox and grants
      mark = {w.mode, w.since};
      if (service) service->grant({red, w.mode, w.since});
    });
  }
};

// ---- assume ----

TEST(IdentityService, AssumesAnIdentityWithoutALog) {
  Bench b;
  EXPECT_TRUE(b.service->idle());
  b.assume(false);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.last<AssumedFact>()->replayed, 0u);
  EXPECT_TRUE(b.service->serving());
  EXPECT_TRUE(b.listening());
  EXPECT_EQ(b.shelf.registrations(0), 2u);
  auto report = b.service->report();
  EXPECT_TRUE(report.serving);
  EXPECT_GT(report.log_size, 0u);
}

TEST(IdentityService, EverythingAcknowledgedIsReplayedFromTheOwnRing) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  {
    auto client = b.client();
    ASSERT_TRUE(client.logged_in());
    for (std::uint32_t i = 0; i < 8; ++i) {
      auto written = client.write(i * 8, static_cast<char>('a' + i));
      ASSERT_TRUE(written && written->good()) << i;
    }
  }
  b.start_engine(red);
  EXPECT_FALSE(b.listening());
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_GE(b.last<AssumedFact>()->replayed, 8u);
  auto client = b.client();
  ASSERT_TRUE(client.logged_in());
  for (std::uint32_t i = 0; i < 8; ++i) {
    auto read = client.read(i * 8);
    ASSERT_TRUE(read && read->good()) << i;
    EXPECT_EQ(read->data, std::string(4096, static_cast<char>('a' + i)));
  }
}

TEST(IdentityService, DyingInTheReplayReplaysFromTheBeginning) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  ASSERT_TRUE(b.client().write(0, 'x')->good());
  for (int attempt = 0; attempt < 3; ++attempt) {
    b.start_engine(red);
    b.assume(true);  // its consistency point cannot end
    EXPECT_FALSE(b.last<AssumedFact>());
    EXPECT_FALSE(b.listening()) << "nothing is served before what was replayed is on disk";
  }
  b.start_engine(red);
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'x'));
}

TEST(IdentityService, ThePartnerReplaysTheMirror) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  ASSERT_TRUE(b.client().write(8, 'm')->good());
  b.start_engine(blue);
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_GE(b.last<AssumedFact>()->replayed, 1u);
  auto client = b.client();
  EXPECT_EQ(client.read(8)->data, std::string(4096, 'm'));
  // Its own writes go without a mirror, and are safe on disk.
  EXPECT_TRUE(client.write(16, 'n')->good());
  EXPECT_EQ(b.service->report().mode, Durability::write_through);
}

TEST(IdentityService, ADamagedLogIsNamedAndNotServed) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  {
    auto client = b.client();
    for (std::uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(client.write(i * 8, 'a')->good());
  }
  b.start_engine(red);
  // In the data of the first write.
  auto ring = b.ring(b.nvram);
  std::string pattern(64, 'a');
  auto needle = std::as_bytes(std::span(pattern));
  auto found = std::ranges::search(ring, needle);
  ASSERT_FALSE(found.empty());
  found.front() ^= std::byte{1};
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("acknowledged writes may be lost"),
            std::string::npos)
      << b.last<AssumeFailedFact>()->why;
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("records"), std::string::npos);
  b.expect_nothing_left();
  // It may be tried again, with the same answer; and without the log, when the operator says so.
  b.told.clear();
  b.assume(true);
  EXPECT_TRUE(b.last<AssumeFailedFact>());
  b.told.clear();
  b.assume(false);
  EXPECT_FALSE(b.last<AssumeFailedFact>());
}

TEST(IdentityService, AHoleInTheMirrorIsDamageThoughNothingProvesALoss) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  b.mirror.hold();
  auto client = b.client();
  client.patience = milliseconds(1);
  EXPECT_FALSE(client.write(0, '1'));
  EXPECT_FALSE(client.write(8, '2'));
  EXPECT_FALSE(client.write(16, '3'));
  // All three reached the partner's NVRAM in the end, but for the second, torn.
  auto ours = b.ring(b.nvram), theirs = b.ring(b.partner);
  std::ranges::copy(ours, theirs.begin());
  std::string pattern(64, '2');
  auto found = std::ranges::search(theirs, std::as_bytes(std::span(pattern)));
  ASSERT_FALSE(found.empty());
  found.front() = std::byte{0};
  b.start_engine(blue);
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("damaged"), std::string::npos);
  b.expect_nothing_left();
}

// A valid record of a kind that nobody knows.
TEST(IdentityService, AnUnknownRecordFailsTheReplayInsteadOfHangingIt) {
  Bench b;
  b.serve();
  b.append_to_log({static_cast<nvlog::RecordKind>(99), {}, {}});
  b.assume(true);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("cannot be applied"), std::string::npos)
      << b.last<AssumeFailedFact>()->why;
  b.expect_nothing_left();
}

TEST(IdentityService, AWrongHolderFailsAndLeavesNoRegistration) {
  Bench b;
  auto order = b.order(false);
  b.shelf.reserve(blue, Epoch(9));  // took it in between
  b.service->assume(order, false);
  b.run();
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("disk shelf1/"), std::string::npos);
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("node 2 supervisor"), std::string::npos)
      << b.last<AssumeFailedFact>()->why;
  EXPECT_FALSE(b.last<AssumedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, AShelfOfSomebodyElseFails) {
  Bench b;
  b.shelf.labels[1].owner = blue;
  b.shelf.write_label(1);
  b.assume(false);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("shelf1/1"), std::string::npos);
  b.expect_nothing_left();
}

TEST(IdentityService, AnAddressThatCannotBeHadFailsAndMayBeTriedAgain) {
  Bench b;
  b.network.refuse_to_listen = true;
  b.assume(false);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find(address), std::string::npos);
  b.expect_nothing_left();
  b.network.refuse_to_listen = false;
  b.assume(false);
  EXPECT_TRUE(b.last<AssumedFact>());
  EXPECT_TRUE(b.listening());
}

TEST(IdentityService, WhatIsServedCannotBeAssumedAgain) {
  Bench b;
  b.assume(false);
  b.assume(false);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("already"), std::string::npos);
  EXPECT_TRUE(b.service->serving());
}

TEST(IdentityService, BeingFencedIsTold) {
  Bench b;
  b.serve();
  b.shelf.reserve(blue, Epoch(9));  // preempts the engine's registration, too
  auto client = b.client();
  client.write(0, 'x');
  b.mirror.disconnect();  // write-through: a consistency point must come
  b.run();
  EXPECT_TRUE(b.last<FencedFact>());
}

TEST(IdentityService, WithoutALeaseNoReplyLeaves) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'x')->good());
  b.lease = false;
  EXPECT_FALSE(client.read(0));
  EXPECT_TRUE(client.closed());
}

// ---- release ----

TEST(IdentityService, ReleaseBringsEverythingToDiskAndLeavesNothing) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'r')->good());
  b.service->release();
  b.run();
  EXPECT_TRUE(b.last<ReleasedFact>());
  EXPECT_FALSE(b.last<ReleaseFailedFact>());
  EXPECT_TRUE(client.closed());
  b.expect_nothing_left();
  // Without any log all is there, at the other node.
  b.start_engine(blue);
  b.assume(false);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'r'));
}

TEST(IdentityService, WhatWasReleasedCanBeAssumedAgainByTheSameEngine) {
  Bench b;
  b.serve();
  ASSERT_TRUE(b.client().write(0, 'r')->good());
  b.service->release();
  b.run();
  ASSERT_TRUE(b.last<ReleasedFact>());
  b.assume(false);
  EXPECT_EQ(b.count<AssumedFact>(), 2u);
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'r'));
}

TEST(IdentityService, WhileItDrainsNewCommandsAreBusy) {
  Bench b;
  b.serve();
  auto client = b.client();
  b.start_slow_read(client, seconds(3));
  b.service->release();
  b.run();
  EXPECT_FALSE(b.listening());
  EXPECT_FALSE(b.last<ReleasedFact>());
  auto refused = client.write(0, 'e');
  ASSERT_TRUE(refused);
  EXPECT_TRUE(refused->busy());
  EXPECT_FALSE(client.closed());
  b.run(seconds(4));
  EXPECT_TRUE(b.last<ReleasedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, ACommandThatHangsMakesTheReleaseFailAndServiceGoesOn) {
  Bench b;
  b.serve();
  auto client = b.client();
  b.start_slow_read(client, seconds(30));
  b.service->release();
  b.run(IdentityService::drain_limit + seconds(1));
  ASSERT_TRUE(b.last<ReleaseFailedFact>());
  EXPECT_FALSE(b.last<ReleasedFact>());
  EXPECT_TRUE(b.service->serving());
  EXPECT_TRUE(b.listening());
  b.slow_reads({});
  EXPECT_TRUE(client.write(0, 'w')->good());
  EXPECT_TRUE(b.client().logged_in());
  // What hung has ended: now it works.
  b.run(seconds(30));
  b.service->release();
  b.run(seconds(10));
  EXPECT_TRUE(b.last<ReleasedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, DisksThatTakeNoConsistencyPointMakeTheReleaseFail) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'w')->good());
  b.refuse_writes(true);
  b.service->release();
  b.run();
  EXPECT_TRUE(client.write(8, 'x')->good()) << "served while it flushes";
  b.run(IdentityService::release_limit);
  ASSERT_TRUE(b.last<ReleaseFailedFact>());
  EXPECT_TRUE(b.service->serving());
  EXPECT_TRUE(b.listening());
  // The next one drains as the first would have: nobody gets in.
  b.refuse_writes(false);
  b.start_slow_read(client, seconds(2));
  b.service->release();
  b.run(milliseconds(500));
  EXPECT_FALSE(b.last<ReleasedFact>());
  EXPECT_FALSE(b.listening());
  b.run(seconds(10));
  EXPECT_TRUE(b.last<ReleasedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, ReleasingTwiceReleasesOnce) {
  Bench b;
  b.serve();
  ASSERT_TRUE(b.client().write(0, 'w')->good());
  b.service->release();
  b.service->release();
  EXPECT_EQ(b.count<ReleaseFailedFact>(), 1u);
  b.run();
  EXPECT_EQ(b.count<ReleasedFact>(), 1u);
  b.service->release();
  EXPECT_EQ(b.count<ReleaseFailedFact>(), 2u);
  b.run();
  EXPECT_EQ(b.count<ReleasedFact>(), 1u);
  b.expect_nothing_left();
}

TEST(IdentityService, AnEngineThatEndsInTheMiddleIsNotCalledBack) {
  for (int steps = 0; steps < 60; ++steps) {
    Bench b;
    b.service->assume(b.order(false), false);
    for (int i = 0; i < steps; ++i) b.scheduler.step();
    b.service.reset();
    b.run();
    EXPECT_FALSE(b.listening());
  }
}

// ---- LUNs ----

TEST(IdentityService, LunsAreCreatedAndDeleted) {
  Bench b;
  b.serve();
  EXPECT_NE(b.create("data", lun_size).find("data"), std::string::npos);
  EXPECT_NE(b.create("bad name", lun_size), "");
  EXPECT_NE(b.create("huge", 1ull << 40), "");
  EXPECT_EQ(b.create("more", 8192), "");
  ASSERT_EQ(b.service->luns().size(), 2u);
  EXPECT_EQ(b.service->luns()[1].name, "more");
  EXPECT_EQ(b.service->report().luns, 2u);
  EXPECT_EQ(b.service->luns()[1].naa.size(), 16u);

  auto client = b.client();
  client.lun = 1;
  EXPECT_TRUE(client.write(0, 'm')->good() || client.write(0, 'm')->good());  // attention first
  EXPECT_EQ(b.remove("more"), "");
  EXPECT_NE(b.remove("more"), "");
  EXPECT_NE(b.remove("none"), "");
  EXPECT_EQ(b.service->luns().size(), 1u);
  EXPECT_FALSE(client.read(0)->good());
}

TEST(IdentityService, SpaceIsUsedAgainAfterADeletion) {
  Bench b;
  b.serve();
  int made = 0;
  while (b.create("fill" + std::to_string(made), lun_size).empty()) ASSERT_LT(++made, 100);
  EXPECT_GT(made, 0);
  EXPECT_EQ(b.remove("fill0"), "");
  b.mirror.disconnect();  // write-through: each change is in a consistency point
  b.run();
  EXPECT_EQ(b.create("again", lun_size), "");
}

TEST(IdentityService, DeletingALunTwiceAtOnceDeletesItOnce) {
  Bench b;
  b.serve();
  auto client = b.client();
  b.start_slow_read(client, seconds(2));  // keeps the LUN in use
  std::vector<std::string> answers;
  auto answer = [&](Result<std::vector<LunInfo>> r) {
    answers.push_back(r ? "" : r.error().message);
  };
  b.service->delete_lun("data", answer);
  b.service->delete_lun("data", answer);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_NE(answers[0].find("already"), std::string::npos);
  b.run(seconds(5));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1], "");
  EXPECT_TRUE(b.service->luns().empty());
  EXPECT_EQ(b.create("data", lun_size), "");
}

TEST(IdentityService, TwoLunsOfOneNameAtOnceAreOne) {
  Bench b;
  b.serve();
  std::vector<bool> created;
  auto answer = [&](const Result<std::vector<LunInfo>>& r) { created.push_back(r.has_value()); };
  b.service->create_lun("twin", 4096, answer);
  b.service->create_lun("twin", 4096, answer);
  b.run();
  EXPECT_EQ(std::ranges::count(created, true), 1);
  EXPECT_EQ(b.service->luns().size(), 2u);
}

// A record in the log that breaks the rules takes its LUN offline: it is not exported then.
TEST(IdentityService, ALunThatIsOfflineCanBeDeleted) {
  Bench b;
  b.serve();
  auto poison = filesystem::encode(filesystem::ZeroRecord{b.service->luns()[0].number, 0, 4096});
  poison.words[2] = 1;
  b.append_to_log(poison);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  ASSERT_EQ(b.storage->luns().size(), 1u);
  ASSERT_FALSE(b.storage->luns()[0].offline.empty());
  EXPECT_EQ(b.remove("data"), "");
  EXPECT_TRUE(b.service->luns().empty());
}

TEST(IdentityService, WhoIsNotServingRefuses) {
  Bench b;
  EXPECT_NE(b.create("data", lun_size), "");
  EXPECT_NE(b.remove("data"), "");
  EXPECT_TRUE(b.service->luns().empty());
  EXPECT_FALSE(b.service->report().serving);
  b.service->release();
  EXPECT_TRUE(b.last<ReleaseFailedFact>());
  // And orders that come too late do no harm.
  b.service->grant({red, Durability::mirrored, {}});
  b.service->on_mirror(true);
  b.service->on_partner_down(true);
}

}  // namespace
}  // namespace duet::node
