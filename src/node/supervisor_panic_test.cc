// A panic whose engine can still be dumped.
#include <gtest/gtest.h>

#include "ha/messages.h"
#include "node/control_status.h"
#include "node/core_source_fixture.h"
#include "node/supervisor_bench.h"

namespace duet::node {
namespace {

using interconnect::NodeState;

const IpAddress red_address = IpAddress::parse("192.0.2.11").value();

class PanicBench : public SupervisorBench {
 public:
  explicit PanicBench(bool dump_disk = true, disk::Role role = disk::Role::coredump,
                      bool dumps = true)
      : SupervisorBench(true, dump_disk, role, dumps) {
    engine.source = &source;
  }
  // Serves, beside a partner that does the same.
  void come_up_with_partner() {
    come_up();
    link.partner_state = [this] {
      interconnect::StateStructure s;
      s.cluster = config.cluster;
      s.node = blue;
      s.state = partner_shows;
      s.nonce = BootNonce(500);
      s.boot_epoch = s.own_epoch = Epoch(1);
      s.progress = 1;
      s.heartbeat = ++heartbeat;
      const auto bytes = interconnect::encode(s);
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    };
    link.become(ports::LinkState::ready, "");
    ASSERT_TRUE(run_until([&] {
      auto core = supervisor->core().snapshot(scheduler.now());
      return core.partner_known && core.interconnect == ha::Channel::fresh &&
             core.partner_verdict == ha::Verdict::suspect;  // its disks are silent
    }));
    run();  // labels are read
    link.sent.clear();
  }
  NodeState published() const {
    auto s = interconnect::decode_state_structure(link.published);
    return s ? s->state : NodeState::booting;
  }
  std::size_t notices() const {
    std::size_t n = 0;
    for (const auto& bytes : link.sent) {
      auto message = ha::decode_message(bytes);
      if (message && std::holds_alternative<ha::PanicNotice>(message->body)) ++n;
    }
    return n;
  }
  const simulation::FakeMedium& dump_medium() const { return *red_shelf.media[3]; }
  bool rebooted() {
    return run_until([&] { return engine.starts.size() == 2; });
  }

  NodeState partner_shows = NodeState::up;
  FakeCoreSource source{scheduler};
  std::uint64_t heartbeat = 0;
};

TEST(SupervisorPanic, TheNoticeGoesFirstAndTheDumpEndsTheBoot) {
  PanicBench b;
  b.come_up_with_partner();
  ASSERT_GT(b.lease(PanicBench::red), 0);
  EXPECT_EQ(b.supervisor->dump_disks().size(), 1u);
  b.engine.shared().log_written = 70;
  b.engine.shared().log_freed = 50;
  b.engine.panic({11, "signal 11 (Segmentation fault)"});
  // All of this before the first thread is stopped.
  EXPECT_EQ(b.lease(PanicBench::red), 0) << "N1";
  EXPECT_EQ(b.notices(), 1u);
  EXPECT_EQ(b.published(), NodeState::panic);
  EXPECT_FALSE(b.kernel.has(red_address)) << "addresses are down";
  EXPECT_EQ(b.engine.kills, 0u);
  ASSERT_TRUE(b.run_until([&] { return b.published() == NodeState::dumping; }));
  EXPECT_EQ(find_dump(b.dump_medium()).header->attribute, coredump::Attribute::active);
  auto status = status_report(*b.supervisor, 1);
  EXPECT_EQ(status.state, "dumping");
  EXPECT_NE(status.why.find("panicked"), std::string::npos) << status.why;
  EXPECT_NE(status.next.find("red/3"), std::string::npos) << status.next;
  ASSERT_TRUE(b.rebooted());
  EXPECT_EQ(b.published(), NodeState::booting);
  EXPECT_NE(b.event("node.dumped").find("red/3"), std::string::npos);
  EXPECT_NE(b.event("node.panic").find("signal 11"), std::string::npos);
  EXPECT_EQ(b.notices(), 1u);
  auto found = find_dump(b.dump_medium());
  ASSERT_TRUE(found.header);
  EXPECT_EQ(found.header->attribute, coredump::Attribute::completed);
  EXPECT_EQ(found.header->boot_nonce, PanicBench::first_nonce);
  EXPECT_TRUE(found.complete);
  EXPECT_EQ(found.core, b.source.memory);
  ASSERT_TRUE(found.information);
  EXPECT_EQ(found.information->reason, "signal 11 (Segmentation fault)");
  EXPECT_EQ(found.information->log_written, LogSequence(70));
  EXPECT_EQ(found.information->log_freed, LogSequence(50));
}

TEST(SupervisorPanic, WithoutADumpDiskTheEngineIsKilledAtOnce) {
  PanicBench b(false);
  b.come_up_with_partner();
  b.engine.panic({6, "signal 6 (Aborted)"});
  EXPECT_EQ(b.engine.kills, 1u);
  EXPECT_TRUE(b.rebooted());
  EXPECT_EQ(b.source.stopped, 0);
  EXPECT_NE(b.event("node.panic").find("signal 6 (Aborted)"), std::string::npos);
  EXPECT_NE(b.event("node.no_dump").find("no disk"), std::string::npos);
}

TEST(SupervisorPanic, ASpareTakesTheDumpIfRaidLeavesIt) {
  const auto spare = std::uint64_t{1} << 3;
  for (const auto free : {std::uint64_t{0}, std::uint64_t{0b110}, spare}) {
    PanicBench b(true, disk::Role::spare);
    b.come_up_with_partner();
    b.told<FreeSparesHeardNote>();
    b.say(FreeSparesFact{1, ~std::uint64_t{0}});
    b.say(FreeSparesFact{2, free});
    const auto heard = b.told<FreeSparesHeardNote>();
    ASSERT_EQ(heard.size(), 2u);
    EXPECT_EQ(heard[1].number, 2u);
    auto published = interconnect::decode_state_structure(b.link.published);
    ASSERT_TRUE(published);
    EXPECT_EQ(published->free_spares, free) << "before the engine hears of it";
    b.engine.panic({11, "signal 11"});
    ASSERT_TRUE(b.rebooted());
    const auto found = find_dump(b.dump_medium());
    EXPECT_EQ(found.complete, free == spare);
    EXPECT_EQ(b.source.stopped, free == spare ? 1 : 0);
    published = interconnect::decode_state_structure(b.link.published);
    EXPECT_EQ(published->free_spares, 0u) << "of another boot";
  }
}

TEST(SupervisorPanic, NorIsItDumpedIfTheConfigurationSaysNo) {
  PanicBench b(true, disk::Role::coredump, false);
  b.come_up_with_partner();
  b.engine.panic({6, "signal 6 (Aborted)"});
  EXPECT_EQ(b.engine.kills, 1u);
  EXPECT_TRUE(b.rebooted());
  EXPECT_EQ(b.source.stopped, 0);
  EXPECT_NE(b.event("node.no_dump").find("coredump.enabled"), std::string::npos);
}

TEST(SupervisorPanic, NobodyWaitsForTheEndOfALargeEngineButTheNextBoot) {
  PanicBench b(false);
  b.come_up_with_partner();
  b.engine.survives_kill = true;
  b.engine.panic({6, "signal 6 (Aborted)"});
  EXPECT_EQ(b.engine.kills, 1u);
  EXPECT_EQ(b.notices(), 1u);
  EXPECT_EQ(b.published(), NodeState::panic);
  EXPECT_EQ(b.lease(PanicBench::red), 0);
  EXPECT_FALSE(b.kernel.has(red_address));
  b.run(seconds(2));
  EXPECT_EQ(b.engine.starts.size(), 1u);
  b.engine.end("signal 9 (Killed)");
  EXPECT_TRUE(b.rebooted());
  EXPECT_EQ(b.notices(), 1u);
}

TEST(SupervisorPanic, WithoutAPartnerTheRebootComesFirst) {
  PanicBench b;
  b.come_up();
  b.run();
  b.engine.panic({6, "signal 6 (Aborted)"});
  EXPECT_EQ(b.engine.kills, 1u);
  EXPECT_TRUE(b.rebooted());
  EXPECT_NE(b.event("node.no_dump").find("the partner"), std::string::npos);
  EXPECT_EQ(b.source.stopped, 0);
}

TEST(SupervisorPanic, ADumpGoesOnWhileThePartnerServes) {
  PanicBench b;
  b.come_up_with_partner();
  b.source.piece_time = ha::dump_patience / 4;
  b.engine.panic({6, "signal 6 (Aborted)"});
  b.run(milliseconds(500));
  b.partner_shows = NodeState::taken_over_partner;
  ASSERT_TRUE(b.rebooted());
  EXPECT_TRUE(find_dump(b.dump_medium()).complete);
  EXPECT_EQ(b.event("node.dump_stopped"), "");
}

TEST(SupervisorPanic, ADumpEndsWhenNobodyServesMeanwhile) {
  for (bool served_before : {false, true}) {
    SCOPED_TRACE(served_before);
    PanicBench b;
    b.come_up_with_partner();
    b.source.piece_time = ha::dump_patience * 2;
    b.engine.panic({6, "signal 6 (Aborted)"});
    if (served_before) {
      b.partner_shows = NodeState::taken_over_partner;
      b.run(ha::dump_patience * 2);
      ASSERT_EQ(b.published(), NodeState::dumping);
      b.partner_shows = NodeState::up;
    }
    b.run(ha::dump_patience - milliseconds(500));
    EXPECT_EQ(b.published(), NodeState::dumping);
    b.run(seconds(2));
    EXPECT_EQ(b.engine.starts.size(), 2u) << "it has rebooted";
    EXPECT_NE(b.event("node.dump_stopped"), "");
    auto found = find_dump(b.dump_medium());
    ASSERT_TRUE(found.header);
    EXPECT_EQ(found.header->attribute, coredump::Attribute::aborted);
    EXPECT_EQ(found.header->abort_reason, coredump::AbortReason::cancelled);
  }
}

TEST(SupervisorPanic, AnEngineThatDoesNotServeYetIsNotDumped) {
  PanicBench b;
  b.start();
  ASSERT_TRUE(b.run_until([&] { return b.engine.running(); }));
  b.engine.panic({6, "signal 6 (Aborted)"});
  EXPECT_EQ(b.engine.kills, 1u);
  EXPECT_TRUE(b.rebooted());
  EXPECT_NE(b.event("node.no_dump").find("does not serve"), std::string::npos);
  EXPECT_EQ(b.source.stopped, 0);
}

TEST(SupervisorPanic, AHungEngineCrashesWhereItHangs) {
  PanicBench b;
  b.come_up_with_partner();
  b.engine_turns = false;
  ASSERT_TRUE(b.run_until([&] { return b.engine.interrupts == 1; }));
  EXPECT_EQ(b.published(), NodeState::panic) << "first of all";
  EXPECT_EQ(b.engine.kills, 0u);
  EXPECT_EQ(b.source.stopped, 0) << "its sockets are open";
  b.engine.panic({6, "signal 6 (Aborted)"});
  EXPECT_EQ(b.source.stopped, 1);
  b.engine_turns = true;
  ASSERT_TRUE(b.rebooted());
  auto found = find_dump(b.dump_medium());
  EXPECT_TRUE(found.complete);
  ASSERT_TRUE(found.information);
  EXPECT_NE(found.information->reason.find("no progress"), std::string::npos);
}

TEST(SupervisorPanic, AnEngineThatHangsInTheKernelIsKilledInTime) {
  PanicBench b;
  b.come_up_with_partner();
  b.engine_turns = false;
  ASSERT_TRUE(b.run_until([&] { return b.engine.interrupts == 1; }));
  b.run(Supervisor::interrupt_limit + milliseconds(1));
  EXPECT_GE(b.engine.kills, 1u);
  b.engine_turns = true;
  EXPECT_TRUE(b.rebooted());
  EXPECT_EQ(b.source.stopped, 0);
  EXPECT_EQ(b.notices(), 1u);
}

TEST(SupervisorPanic, AHungEngineThatEndsInstead) {
  PanicBench b;
  b.come_up_with_partner();
  b.engine_turns = false;
  ASSERT_TRUE(b.run_until([&] { return b.engine.interrupts == 1; }));
  b.engine.end("signal 6 (Aborted)");
  b.engine_turns = true;
  EXPECT_TRUE(b.rebooted());
  EXPECT_NE(b.event("node.dump_failed").find("has ended"), std::string::npos);
  EXPECT_EQ(b.notices(), 1u);
}

TEST(SupervisorPanic, ASecondPanicAndTheWordOfTheDeadChangeNothing) {
  PanicBench b;
  b.come_up_with_partner();
  b.engine.panic({11, "signal 11 (Segmentation fault)"});
  ASSERT_TRUE(b.run_until([&] { return b.published() == NodeState::dumping; }));
  b.say(FencedFact{PanicBench::red});
  b.say(LogFact{3, "pool.health", "it speaks"});
  EXPECT_EQ(b.event("pool.health"), "");
  b.engine.end("signal 9 (Killed)");
  ASSERT_TRUE(b.rebooted());
  EXPECT_EQ(b.notices(), 1u);
  EXPECT_EQ(find_dump(b.dump_medium()).header->abort_reason, coredump::AbortReason::process_gone);
  EXPECT_NE(b.event("node.dump_failed"), "");
}

TEST(SupervisorPanic, TheNextBootDumpsAgainUnderItsOwnName) {
  PanicBench b;
  b.come_up_with_partner();
  b.engine.panic({11, "first"});
  ASSERT_TRUE(b.rebooted());
  b.engine.source = nullptr;  // of another process
  FakeCoreSource second(b.scheduler);
  b.engine.source = &second;
  b.say(ReadyFact{1, true, 7002});
  ASSERT_TRUE(b.run_until([&] { return !b.told<AssumeOrder>().empty(); }));
  b.say(AssumedFact{PanicBench::red, 0});
  ASSERT_TRUE(b.run_until([&] { return b.state() == NodeState::up; }));
  b.run();
  b.engine.panic({11, "second"});
  ASSERT_TRUE(b.run_until([&] { return b.engine.starts.size() == 3; }));
  auto found = find_dump(b.dump_medium());
  EXPECT_EQ(found.header->boot_nonce, BootNonce(201));
  ASSERT_TRUE(found.information);
  EXPECT_EQ(found.information->reason, "second");
}

}  // namespace
}  // namespace duet::node
