// When a supervisor has its service addresses up, and in which order it lets them go.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "node/client_list.h"
#include "node/supervisor.h"
#include "node/supervisor_bench.h"

namespace duet::node {
namespace {

using Bench = SupervisorBench;
const IpAddress red_address = IpAddress::parse("192.0.2.11").value();

struct Up {
  Up() {
    b.come_up();
    EXPECT_TRUE(b.run_until([&] { return b.supervisor->addresses().report(Bench::red).up; }));
  }
  bool has() const { return b.kernel.has(red_address); }
  Bench b{true};
};

ha::OperatorRequest halt() {
  ha::OperatorRequest request;
  request.verb = ha::OperatorVerb::halt;
  request.node = Bench::red;
  return request;
}

TEST(SupervisorAddresses, AreUpOnceTheEngineServes) {
  Bench b(true);
  b.kernel.leave_behind(red_address);
  b.start();
  EXPECT_FALSE(b.kernel.has(red_address)) << "an earlier daemon's";
  b.say(ReadyFact{1, true, 7002});
  ASSERT_TRUE(b.run_until([&] { return !b.told<AssumeOrder>().empty(); }));
  b.run();
  EXPECT_FALSE(b.kernel.has(red_address)) << "nobody listens yet";
  b.say(AssumedFact{Bench::red, 0});
  EXPECT_TRUE(b.run_until([&] { return b.kernel.has(red_address); }));
  EXPECT_FALSE(b.kernel.has(IpAddress::parse("192.0.2.12").value())) << "not served here";
  b.run(seconds(60));
  EXPECT_TRUE(b.kernel.has(red_address)) << "leases are renewed";
  EXPECT_TRUE(b.supervisor->addresses().report(Bench::red).up);
}

TEST(SupervisorAddresses, GoBeforeTheEndOfTheEngineIsTold) {
  Up up;
  up.b.engine.end("signal 6 (Aborted)");
  EXPECT_FALSE(up.has()) << "when the callback of the end returns";
  std::vector<std::string> phases;
  for (const auto& event : up.b.logged) phases.push_back(event.phase);
  auto down = std::ranges::find(phases, "address.down");
  auto panic = std::ranges::find(phases, "node.panic");
  EXPECT_LT(down - phases.begin(), panic - phases.begin()) << testing::PrintToString(phases);
  EXPECT_NE(panic, phases.end());
}

TEST(SupervisorAddresses, GoWhenTheNodeIsFenced) {
  Up up;
  up.b.engine.survives_kill = true;
  up.b.say(FencedFact{Bench::red});
  EXPECT_TRUE(up.b.run_until([&] { return up.b.engine.kills > 0; }));
  EXPECT_FALSE(up.has()) << "though the engine still runs";
  up.b.run(seconds(5));
  EXPECT_FALSE(up.has());
}

TEST(SupervisorAddresses, GoBeforeARelease) {
  Up up;
  up.b.say(ReleasedFact{Bench::red});
  EXPECT_FALSE(up.has());
  up.b.run(seconds(5));
  EXPECT_FALSE(up.has()) << "the lease alone does not bring it back";
}

TEST(SupervisorAddresses, GoWithAHandOver) {
  Up up;
  up.b.say(HandedOverFact{Bench::red, 0});
  EXPECT_FALSE(up.has());
}

TEST(SupervisorAddresses, GoWhenTheNodeHalts) {
  Up up;
  up.b.supervisor->operate(halt(), [](const ha::OperatorAnswer&) {});
  EXPECT_TRUE(up.b.run_until([&] { return up.b.halted == 1; }));
  EXPECT_FALSE(up.has());
}

TEST(SupervisorAddresses, AnEngineThatShallEndBringsNoneUp) {
  Bench b(true);
  b.start();
  b.say(ReadyFact{1, true, 7002});
  ASSERT_TRUE(b.run_until([&] { return !b.told<AssumeOrder>().empty(); }));
  b.engine.survives_kill = true;
  b.supervisor->operate(halt(), [](const ha::OperatorAnswer&) {});
  ASSERT_TRUE(b.run_until([&] { return b.engine.kills > 0; }));
  b.say(AssumedFact{Bench::red, 0});
  b.run(seconds(5));
  EXPECT_FALSE(b.kernel.has(red_address));
}

TEST(SupervisorAddresses, ThePartnerHearsWhoTheClientsAre) {
  Up up;
  EngineReport report;
  report.identities.resize(2);
  report.identities[0].identity = Bench::red;
  report.identities[0].serving = true;
  report.identities[0].clients = {"192.0.2.100:40000"};
  report.identities[1].identity = Bench::blue;
  up.b.link.sent.clear();
  up.b.say(report);
  std::erase_if(up.b.link.sent, [](const auto& m) { return !is_client_list(m); });
  ASSERT_EQ(up.b.link.sent.size(), 1u);
  auto list = decode_client_list(up.b.link.sent[0]);
  ASSERT_TRUE(list);
  EXPECT_EQ(list->sender, Bench::red);
  EXPECT_EQ(list->identity, Bench::red);
  ASSERT_EQ(list->clients.size(), 1u);
  EXPECT_EQ(to_string(list->clients[0]), "192.0.2.100:40000");
  up.b.say(report);
  EXPECT_EQ(up.b.link.sent.size(), 1u) << "it has not changed";
  // What the partner says goes to the addresses, not to the core.
  list->sender = Bench::blue;
  list->identity = Bench::blue;
  up.b.link.say(encode(*list));
  auto core = up.b.supervisor->core().snapshot(up.b.scheduler.now());
  EXPECT_EQ(core.invalid_messages + core.unknown_messages + core.stale_messages, 0u);
  EXPECT_EQ(up.b.supervisor->addresses().invalid_lists(), 0u);
}

}  // namespace
}  // namespace duet::node
