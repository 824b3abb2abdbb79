#include "node/service_addresses.h"

#include <gtest/gtest.h>

#include <memory>

#include "simulation/fake_addresses.h"
#include "simulation/scheduler.h"

namespace duet::node {
namespace {

constexpr NodeId red{1}, blue{2};
const IpAddress red_address = IpAddress::parse("192.0.2.11").value();
const IpAddress blue_address = IpAddress::parse("2001:db8::12").value();

// A node whose lease is kept alive by the test.
struct Node {
  explicit Node(simulation::SimulatedScheduler& s, simulation::FakeSegment* segment = nullptr,
                NodeId self = red)
      : scheduler(s), kernel(s, segment) {
    config.self = self;
    config.services[1] = {"iqn.red", "192.0.2.11", 3260, "eth0", 24};
    config.services[2] = {"iqn.blue", "2001:db8::12", 3261, "eth1", 64};
    addresses = std::make_unique<ServiceAddresses>(
        config, scheduler, &kernel,
        ServiceAddresses::Hooks{
            [this](ha::Severity, std::string phase, std::string text) {
              notes.push_back(std::move(phase));
              last_text = std::move(text);
            },
            [this](std::vector<std::byte> m) { sent.push_back(std::move(m)); }});
  }
  void lease(NodeId identity, Duration time) {
    addresses->on_lease(identity, scheduler.now() + time);
  }
  // Serves with a lease that lasts.
  void serve(NodeId identity) {
    lease(identity, std::chrono::hours(1));
    addresses->serve(identity);
    scheduler.run_for(Duration(0));
  }
  std::size_t noted(const std::string& phase) const {
    return static_cast<std::size_t>(std::ranges::count(notes, phase));
  }
  std::vector<std::int64_t> announced_ms(Instant since) const {
    std::vector<std::int64_t> all;
    for (const auto& each : kernel.announced) all.push_back((each.when - since) / milliseconds(1));
    return all;
  }

  simulation::SimulatedScheduler& scheduler;
  simulation::FakeAddresses kernel;
  Config config;
  std::vector<std::string> notes;
  std::string last_text;
  std::vector<std::vector<std::byte>> sent;
  std::unique_ptr<ServiceAddresses> addresses;
};

struct Bench {
  simulation::SimulatedScheduler scheduler;
  Node node{scheduler};
};

TEST(ServiceAddresses, ComeUpWhenServedAndLeased) {
  Bench b;
  b.node.addresses->serve(red);
  b.scheduler.run_for(seconds(1));
  EXPECT_FALSE(b.node.kernel.has(red_address)) << "no lease";
  b.node.lease(red, milliseconds(600));
  b.scheduler.run_for(Duration(0));
  EXPECT_TRUE(b.node.kernel.has(red_address));
  EXPECT_EQ(b.node.noted("address.up"), 1u);
  // The other way round.
  b.node.lease(blue, milliseconds(600));
  b.scheduler.run_for(milliseconds(10));
  EXPECT_FALSE(b.node.kernel.has(blue_address)) << "not served";
  b.node.addresses->serve(blue);
  EXPECT_TRUE(b.node.kernel.has(blue_address));
}

TEST(ServiceAddresses, GoWithTheLeaseAndComeBackWithIt) {
  Bench b;
  b.node.addresses->serve(red);
  for (int i = 0; i < 20; ++i) {
    b.node.lease(red, milliseconds(600));
    b.scheduler.run_for(milliseconds(100));
    EXPECT_TRUE(b.node.kernel.has(red_address));
  }
  auto end = b.scheduler.now() + milliseconds(500);
  b.scheduler.run_until([&] { return !b.node.kernel.has(red_address); });
  EXPECT_EQ(b.scheduler.now(), end) << "at the end of the lease, not later";
  EXPECT_EQ(b.node.noted("address.down"), 1u);
  b.scheduler.run_for(seconds(10));
  b.node.lease(red, milliseconds(600));
  EXPECT_TRUE(b.node.kernel.has(red_address));
}

TEST(ServiceAddresses, ALeaseThatIsOverIsNoReasonToComeUp) {
  Bench b;
  b.node.addresses->serve(red);
  b.node.addresses->on_lease(red, b.scheduler.now());
  b.scheduler.run_for(seconds(2));
  EXPECT_EQ(b.node.kernel.ups, 0);
  b.node.serve(red);
  b.node.addresses->on_lease(red, b.scheduler.now());
  EXPECT_FALSE(b.node.kernel.has(red_address)) << "taken back";
}

TEST(ServiceAddresses, AreGoneWhenWithdrawReturns) {
  Bench b;
  b.node.serve(red);
  b.node.serve(blue);
  b.node.addresses->withdraw(red);
  EXPECT_FALSE(b.node.kernel.has(red_address));
  EXPECT_TRUE(b.node.kernel.has(blue_address));
  b.node.addresses->withdraw_all();
  EXPECT_FALSE(b.node.kernel.has(blue_address));
  auto downs = b.node.kernel.downs;
  b.node.addresses->withdraw_all();
  EXPECT_EQ(b.node.kernel.downs, downs) << "nothing to do";
  // The lease alone does not bring it back.
  b.node.lease(red, seconds(60));
  b.scheduler.run_for(seconds(5));
  EXPECT_FALSE(b.node.kernel.has(red_address));
}

TEST(ServiceAddresses, WithdrawnWhileTheKernelThinks) {
  Bench b;
  b.node.kernel.hold_up = true;
  b.node.serve(red);
  EXPECT_TRUE(b.node.kernel.has(red_address));
  b.node.addresses->withdraw(red);
  EXPECT_FALSE(b.node.kernel.has(red_address));
  b.node.kernel.answer();
  b.scheduler.run_for(seconds(5));
  EXPECT_FALSE(b.node.kernel.has(red_address));
  EXPECT_TRUE(b.node.kernel.announced.empty());
  EXPECT_EQ(b.node.noted("address.up"), 0u);
}

TEST(ServiceAddresses, TheLeaseEndsWhileTheKernelThinks) {
  Bench b;
  b.node.kernel.hold_up = true;
  b.node.lease(red, milliseconds(600));
  b.node.addresses->serve(red);
  b.scheduler.run_for(milliseconds(600));
  EXPECT_FALSE(b.node.kernel.has(red_address));
  b.node.kernel.answer();
  EXPECT_TRUE(b.node.kernel.announced.empty());
}

TEST(ServiceAddresses, AnEarlierDaemonsAreTakenDown) {
  Bench b;
  b.node.kernel.leave_behind(red_address);
  b.node.addresses->start();
  EXPECT_FALSE(b.node.kernel.has(red_address));
  EXPECT_EQ(b.node.kernel.downs, 2);
  EXPECT_EQ(b.node.noted("address.leftover"), 1u);
}

TEST(ServiceAddresses, OutliveTheirSupervisorByTheirLifetimeOnly) {
  Bench b;
  b.node.serve(red);
  b.scheduler.run_for(seconds(60));
  EXPECT_TRUE(b.node.kernel.has(red_address)) << "renewed";
  auto renewals = b.node.kernel.ups;
  EXPECT_LE(renewals, 122);
  b.node.addresses.reset();  // stands still
  b.scheduler.run_for(ServiceAddresses::lifetime);
  EXPECT_FALSE(b.node.kernel.has(red_address));
}

TEST(ServiceAddresses, AreAnnouncedInTwoSetsAndThenNowAndThen) {
  Bench b;
  auto since = b.scheduler.now();
  b.node.serve(red);
  b.scheduler.run_for(seconds(66));
  EXPECT_EQ(b.node.announced_ms(since),
            (std::vector<std::int64_t>{0, 100, 300, 700, 1500, 5000, 5100, 5300, 35300, 65300}));
  std::vector<std::int64_t> probed;
  for (const auto& each : b.node.kernel.probed) probed.push_back((each.when - since) / seconds(1));
  EXPECT_EQ(probed, (std::vector<std::int64_t>{0, 35, 65}));
}

TEST(ServiceAddresses, AreAnnouncedAgainWhenTheLinkIsBack) {
  Bench b;
  b.node.serve(red);
  b.scheduler.run_for(seconds(10));
  b.node.kernel.set_link(false);
  EXPECT_EQ(b.node.noted("address.link"), 1u);
  EXPECT_NE(b.node.addresses->report(red).text.find("LINK DOWN"), std::string::npos);
  EXPECT_TRUE(b.node.kernel.has(red_address)) << "the partner's link is not better for it";
  b.node.kernel.announced.clear();
  auto since = b.scheduler.now();
  b.node.kernel.set_link(true);
  b.node.kernel.set_link(true);  // told twice
  b.scheduler.run_for(seconds(2));
  EXPECT_EQ(b.node.announced_ms(since), (std::vector<std::int64_t>{0, 100, 300, 700, 1500}));
}

TEST(ServiceAddresses, ADuplicateIsNotedAndDrownedOutButNoVeto) {
  Bench b;
  auto claim = [&] {
    b.node.kernel.claim_elsewhere(b.node.config.services[1].managed_address(), "02:00:00:00:00:09");
  };
  claim();
  EXPECT_EQ(b.node.noted("address.duplicate"), 0u) << "it is not ours now";
  b.node.serve(red);
  b.scheduler.run_for(seconds(6));
  b.node.kernel.announced.clear();
  auto since = b.scheduler.now();
  for (int i = 0; i < 5; ++i) claim();
  EXPECT_EQ(b.node.noted("address.duplicate"), 1u) << "said once";
  EXPECT_TRUE(b.node.kernel.has(red_address));
  EXPECT_TRUE(b.node.addresses->report(red).contested);
  b.scheduler.run_for(seconds(30));
  // Four times a second, until ten seconds after the last sign of it.
  auto announced = b.node.announced_ms(since);
  EXPECT_GE(announced.size(), 40u);
  EXPECT_LE(announced.size(), 42u);
  for (std::size_t i = 1; i < announced.size(); ++i) {
    EXPECT_GE(announced[i] - announced[i - 1], 250);
  }
  EXPECT_FALSE(b.node.addresses->report(red).contested);
}

TEST(ServiceAddresses, WhatTheKernelRefusesIsSaidOnceAndTriedAgain) {
  Bench b;
  b.node.kernel.refuse_up = "no permission";
  b.node.serve(red);
  b.scheduler.run_for(seconds(5));
  EXPECT_EQ(b.node.noted("address.failed"), 1u);
  EXPECT_EQ(b.node.last_text, "no permission");
  EXPECT_GE(b.node.kernel.ups, 10);
  EXPECT_LE(b.node.kernel.ups, 12);
  EXPECT_NE(b.node.addresses->report(red).text.find("no permission"), std::string::npos);
  b.node.kernel.refuse_up.clear();
  b.scheduler.run_for(seconds(1));
  EXPECT_TRUE(b.node.addresses->report(red).up);
  EXPECT_EQ(b.node.addresses->report(red).trouble, "");
  // A renewal that fails, too: the interface went.
  b.node.kernel.refuse_up = "no such interface";
  b.scheduler.run_for(seconds(2));
  EXPECT_EQ(b.node.last_text, "no such interface");
  EXPECT_FALSE(b.node.addresses->report(red).up);
  b.node.kernel.refuse_up.clear();
  b.scheduler.run_for(seconds(1));
  EXPECT_TRUE(b.node.addresses->report(red).up);
  // What cannot be taken down is said; nothing waits for it, and nothing renews it.
  b.node.kernel.refuse_down = "the kernel does not answer";
  b.node.addresses->withdraw(red);
  b.scheduler.run_for(ServiceAddresses::lifetime);
  EXPECT_EQ(b.node.last_text, "the kernel does not answer");
  EXPECT_FALSE(b.node.kernel.has(red_address));
}

TEST(ServiceAddresses, WithoutInterfaceNothingHappens) {
  simulation::SimulatedScheduler scheduler;
  Node node(scheduler);
  node.config.services[1].interface.clear();
  ServiceAddresses unmanaged(node.config, scheduler, &node.kernel, {});
  unmanaged.start();
  EXPECT_EQ(node.kernel.downs, 1) << "the other one";
  unmanaged.on_lease(red, scheduler.now() + seconds(60));
  unmanaged.serve(red);
  unmanaged.on_clients(red, {"192.0.2.100:40000"});
  unmanaged.withdraw_all();
  scheduler.run_for(seconds(1));
  EXPECT_EQ(node.kernel.ups, 0);
  EXPECT_EQ(node.kernel.downs, 1);
  EXPECT_FALSE(unmanaged.report(red).managed);
  EXPECT_EQ(unmanaged.report(red).text, "not managed: must be local on both nodes");
  ServiceAddresses none(node.config, scheduler, nullptr, {});
  none.start();
  none.serve(blue);
  EXPECT_FALSE(none.report(blue).managed);
}

// ---- two nodes ----

struct PairBench {
  void deliver(Node& from, Node& to) {
    for (const auto& message : std::exchange(from.sent, {})) {
      EXPECT_TRUE(to.addresses->on_message(message));
    }
  }
  simulation::SimulatedScheduler scheduler;
  simulation::FakeSegment segment;
  Node red_node{scheduler, &segment, red};
  Node blue_node{scheduler, &segment, blue};
};

TEST(ServiceAddresses, TheSurvivorTicklesTheClientsOfTheOther) {
  PairBench b;
  b.red_node.serve(red);
  b.red_node.addresses->on_clients(
      red, {"192.0.2.100:40000", "[2001:db8::100]:40001", "nonsense", "192.0.2.101:0"});
  b.deliver(b.red_node, b.blue_node);
  b.red_node.addresses->withdraw_all();
  auto since = b.scheduler.now();
  b.blue_node.serve(red);
  b.scheduler.run_for(seconds(20));
  EXPECT_EQ(b.segment.holders(red_address), std::vector{&b.blue_node.kernel});
  ASSERT_EQ(b.blue_node.kernel.tickled.size(), ServiceAddresses::first_set);
  for (std::size_t i = 0; i < ServiceAddresses::first_set; ++i) {
    const auto& tickle = b.blue_node.kernel.tickled[i];
    EXPECT_EQ(tickle.when, since + ServiceAddresses::announcements[i]);
    EXPECT_EQ(tickle.address, red_address);
    EXPECT_EQ(tickle.port, 3260);
    EXPECT_EQ(tickle.clients, (std::vector{Endpoint::parse("[2001:db8::100]:40001").value(),
                                           Endpoint::parse("192.0.2.100:40000").value()}));
  }
  EXPECT_TRUE(b.red_node.kernel.tickled.empty());
  std::vector<std::byte> core_message(64);
  EXPECT_FALSE(b.blue_node.addresses->on_message(core_message));
}

TEST(ServiceAddresses, ANodeThatStoodStillIsNoticedAndGoes) {
  PairBench b;
  b.red_node.lease(red, milliseconds(600));
  b.red_node.addresses->serve(red);
  b.scheduler.run_for(milliseconds(1));
  // red stands still (its timers do not run: the object is gone, its kernel is not) and is fenced.
  b.red_node.addresses.reset();
  b.scheduler.run_for(seconds(1));
  b.blue_node.serve(red);
  EXPECT_EQ(b.segment.holders(red_address).size(), 2u) << "the residual: the kernel of red";
  b.scheduler.run_for(milliseconds(10));
  EXPECT_EQ(b.blue_node.noted("address.duplicate"), 1u);
  b.scheduler.run_for(ServiceAddresses::lifetime);
  EXPECT_EQ(b.segment.holders(red_address), std::vector{&b.blue_node.kernel});
}

}  // namespace
}  // namespace duet::node
