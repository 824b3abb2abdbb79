// What the server's owner may do to it while its connections live on. Everything clients can do:
// tests/iscsi, with a real initiator.
#include "services/iscsi_server.h"

#include <gtest/gtest.h>

#include <memory>

#include "simulation/fake_network.h"
#include "simulation/scheduler.h"

namespace duet::services {
namespace {

struct NoBackend final : TargetBackend {
  void submit(std::optional<LunNumber>, scsi::Command&&) override {}
  void task_management(std::uint64_t, const scsi::Nexus&, scsi::TaskManagement,
                       std::optional<LunNumber>, std::optional<scsi::CommandTag>) override {}
  void nexus_established(const scsi::Nexus&) override {}
  void nexus_lost(const scsi::Nexus&) override {}
};

// A stream says that it is closed in a later turn, when the server may be gone (giveback: the last
// session ends, and so does the service).
TEST(IscsiServer, MayGoBeforeTheStreamsOfItsLastSessions) {
  constexpr auto name = "iqn.2026-11.org.duet:test";
  simulation::SimulatedScheduler scheduler;
  simulation::FakeNetwork network(scheduler);
  NoBackend backend;
  for (bool drop : {true, false}) {
    auto server = std::make_unique<IscsiServer>(scheduler, network);
    ASSERT_TRUE(server->add_target({name, "test", &backend}).has_value());
    server->set_ready(name, true);
    PortalConfig portal;
    portal.address = "127.0.0.1";
    ASSERT_TRUE(server->add_portal(name, portal).has_value());
    auto client = network.connect("127.0.0.1", 3260);
    ASSERT_TRUE(client);
    EXPECT_EQ(server->sessions().size(), 0U);
    if (drop) server->drop_sessions(name);
    server.reset();
    scheduler.run_for(seconds(1));
  }
}

}  // namespace
}  // namespace duet::services
