#include "node/supervisor.h"

#include <gtest/gtest.h>

#include "node/supervisor_bench.h"

namespace duet::node {
namespace {

using Bench = SupervisorBench;
using interconnect::NodeState;
using Outcome = ha::OperatorAnswer::Outcome;

TEST(Supervisor, BootsWithoutLeasesAndStartsTheEngine) {
  Bench b;
  b.engine.shared().lease_until[1] = 1 << 30;  // of a daemon before
  b.start();
  EXPECT_EQ(b.lease(Bench::red), 0);
  ASSERT_EQ(b.engine.starts.size(), 1u);
  EXPECT_EQ(b.engine.starts[0], Bench::first_nonce);
  auto published = interconnect::decode_state_structure(b.link.published);
  ASSERT_TRUE(published);
  EXPECT_EQ(published->nonce, Bench::first_nonce);
  EXPECT_EQ(published->state, NodeState::booting);
  EXPECT_TRUE(b.link.restarts.empty()) << "the interconnect was opened under the first nonce";
  ASSERT_EQ(b.link.clients.size(), 2u);
  EXPECT_EQ(b.link.clients[1].tcp_port, 0);
}

TEST(Supervisor, ActionsBecomeOrdersAndFactsBecomeEvents) {
  Bench b;
  b.come_up();
  EXPECT_EQ(b.link.clients[1].tcp_port, 7002) << "the mirror's port is known once it is ready";
  EXPECT_TRUE(b.supervisor->nvram_persistent());
  EXPECT_TRUE(b.run_until([&] {
    return b.lease(Bench::red) > b.scheduler.now().time_since_epoch().count();
  })) << "the first heartbeat in the mailbox makes the lease";
  EXPECT_EQ(b.lease(Bench::blue), 0);
  // The engine's wish goes through the mailbox and comes back as a grant.
  b.say(DurabilityWantedFact{Bench::red, Durability::local, LogSequence(9)});
  std::vector<GrantOrder> grants;
  ASSERT_TRUE(b.run_until([&] { return !(grants = b.told<GrantOrder>()).empty(); }));
  EXPECT_EQ(grants[0].mode, Durability::local);
  EXPECT_EQ(grants[0].since, LogSequence(9));
  auto block = b.red_shelf.media[0]->peek(disk::mailbox_copy(0).offset, ha::mailbox_block_size);
  auto mailbox = ha::decode_mailbox(block);
  ASSERT_TRUE(mailbox);
  EXPECT_EQ(mailbox->durability, Durability::local);
  // What it has to say to people is an event.
  b.say(LogFact{3, "pool.health", "a disk is slow"});
  EXPECT_EQ(b.event("pool.health"), "a disk is slow");
  EXPECT_EQ(b.logged.back().severity, "error");
}

TEST(Supervisor, AnEngineThatEndsIsAPanicAndANewBoot) {
  Bench b;
  b.come_up();
  b.engine.end("signal 6 (Aborted)");
  EXPECT_EQ(b.lease(Bench::red), 0) << "N1: at once";
  EXPECT_EQ(b.state(), NodeState::panic);
  EXPECT_NE(b.event("node.panic").find("signal 6"), std::string::npos);
  ASSERT_TRUE(b.run_until([&] { return b.engine.starts.size() == 2; }));
  EXPECT_EQ(b.engine.starts[1], BootNonce(201));
  EXPECT_EQ(b.link.restarts, std::vector{BootNonce(201)});
  EXPECT_EQ(b.supervisor->nonce(), BootNonce(201));
  EXPECT_NE(b.event("node.reboot"), "");
  // And it comes up again.
  b.say(ReadyFact{1, true, 7002});
  ASSERT_TRUE(b.run_until([&] { return !b.told<AssumeOrder>().empty(); }));
  b.say(AssumedFact{Bench::red, 0});
  EXPECT_TRUE(b.run_until([&] { return b.state() == NodeState::up; }));
}

TEST(Supervisor, AnEngineThatStallsIsKilledAndNamed) {
  Bench b;
  b.come_up();
  b.engine_turns = false;
  b.run(b.config.progress_limit / 2);
  EXPECT_EQ(b.engine.kills, 0u);
  ASSERT_TRUE(b.run_until([&] { return b.engine.starts.size() == 2; }));
  EXPECT_GE(b.engine.kills, 1u);
  EXPECT_NE(b.event("node.panic").find("no progress for 5000 ms"), std::string::npos)
      << b.event("node.panic");
}

TEST(Supervisor, AnEngineThatCannotBeStartedIsTriedAgain) {
  Bench b;
  b.engine.cannot_start = "no such file";
  b.start();
  b.run();
  EXPECT_NE(b.event("node.panic").find("no such file"), std::string::npos);
  b.engine.cannot_start.clear();
  EXPECT_TRUE(b.run_until([&] { return b.engine.running(); }));
}

TEST(Supervisor, AMessageOfTheEngineThatCannotBeReadKillsIt) {
  Bench b;
  b.come_up();
  std::vector<std::byte> nonsense(3, std::byte{0xff});
  b.engine.say(nonsense);
  EXPECT_NE(b.event("engine.malformed"), "");
  EXPECT_EQ(b.engine.kills, 1u);
  EXPECT_TRUE(b.run_until([&] { return b.engine.starts.size() == 2; }));
}

// ---- ends of boots ----

TEST(Supervisor, ARebootWaitsForTheEndOfTheOldEngine) {
  Bench b;
  b.come_up();
  b.engine.survives_kill = true;
  b.say(FencedFact{Bench::red});
  b.run(seconds(10));
  EXPECT_NE(b.event("node.reboot"), "");
  EXPECT_GE(b.engine.kills, 1u);
  EXPECT_EQ(b.lease(Bench::red), 0);
  EXPECT_EQ(b.engine.starts.size(), 1u);
  EXPECT_TRUE(b.link.restarts.empty()) << "the partner must not take us for new";
  // What the old engine says now is said to nobody.
  b.say(ReadyFact{1, true, 7002});
  b.say(AssumedFact{Bench::red, 0});
  b.run();
  EXPECT_EQ(b.engine.starts.size(), 1u);
  b.engine.survives_kill = false;
  b.engine.end("signal 9 (Killed)");
  ASSERT_TRUE(b.run_until([&] { return b.engine.starts.size() == 2; }));
  EXPECT_EQ(b.link.restarts.size(), 1u);
  // The end of the next one is seen again.
  b.engine.end("exit 1");
  EXPECT_TRUE(b.run_until([&] { return b.engine.starts.size() == 3; }));
}

TEST(Supervisor, LateCompletionsOfAnOldBootAreDropped) {
  Bench b;
  b.link.hold_reads = true;
  b.come_up();
  ASSERT_FALSE(b.link.reads.empty());
  auto late = std::move(b.link.reads);
  b.link.reads.clear();
  for (auto& path : b.red_shelf.media) {
    path->latency = [](auto, auto, auto) { return std::optional<Duration>(seconds(2)); };
  }
  b.run(milliseconds(500));
  b.say(FencedFact{Bench::red});
  ASSERT_TRUE(b.run_until([&] { return b.engine.starts.size() == 2; }));
  // The new core would count these as read by itself.
  for (auto& read : late) read(std::vector<std::byte>(128, std::byte{0xee}));
  EXPECT_EQ(b.supervisor->core().snapshot(b.scheduler.now()).invalid_states, 0u);
  b.run(seconds(5));  // disk commands of the old boot end
  EXPECT_EQ(b.state(), NodeState::booting);
}

Supervisor::OperatorDone into(std::vector<Outcome>& answers) {
  return [&answers](const ha::OperatorAnswer& a) { answers.push_back(a.outcome); };
}

TEST(Supervisor, HaltEndsTheDaemon) {
  Bench b;
  b.come_up();
  std::vector<Outcome> answers;
  b.supervisor->operate({.verb = ha::OperatorVerb::halt, .node = Bench::red}, into(answers));
  EXPECT_EQ(b.halted, 0);
  b.run(seconds(5));
  EXPECT_EQ(b.halted, 1);
  EXPECT_EQ(answers, (std::vector{Outcome::accepted, Outcome::done}));
  EXPECT_FALSE(b.engine.running());
  EXPECT_EQ(b.lease(Bench::red), 0);
  EXPECT_EQ(b.engine.starts.size(), 1u);
  EXPECT_NE(b.event("node.halted"), "");
}

TEST(Supervisor, HaltWaitsForTheEngineToo) {
  Bench b;
  b.come_up();
  b.engine.survives_kill = true;
  b.supervisor->operate({.verb = ha::OperatorVerb::halt, .node = Bench::red}, [](const auto&) {});
  b.run(seconds(10));
  EXPECT_EQ(b.halted, 0);
  b.engine.end("signal 9 (Killed)");
  b.run();
  EXPECT_EQ(b.halted, 1);
}

// ---- operator ----

TEST(Supervisor, EveryOperatorCommandIsAnsweredOnce) {
  Bench b;
  b.come_up();
  b.engine.survives_kill = true;
  struct Command {
    std::vector<Outcome> outcomes;
  };
  std::vector<Command> commands(Supervisor::max_operator_requests + 4);
  for (auto& command : commands) {
    b.supervisor->operate(
        {.verb = ha::OperatorVerb::halt, .node = Bench::red, .force = true},
        [&](const ha::OperatorAnswer& a) { command.outcomes.push_back(a.outcome); });
  }
  b.run(seconds(5));
  EXPECT_EQ(commands[0].outcomes.front(), Outcome::accepted);
  EXPECT_EQ(commands[0].outcomes.size(), 2u);
  for (std::size_t i = 1; i < commands.size(); ++i) {
    EXPECT_EQ(commands[i].outcomes, std::vector{Outcome::refused}) << i;
  }
  b.engine.end("signal 9 (Killed)");
  b.run();
  EXPECT_EQ(b.halted, 1);
}

TEST(Supervisor, BetweenTwoBootsAnOperatorIsTurnedAway) {
  Bench b;
  b.come_up();
  b.engine.survives_kill = true;
  b.say(FencedFact{Bench::red});
  b.run();
  ASSERT_NE(b.event("node.reboot"), "");
  std::optional<ha::OperatorAnswer> answer;
  b.supervisor->operate({.verb = ha::OperatorVerb::takeover, .node = Bench::blue},
                        [&](const ha::OperatorAnswer& a) { answer = a; });
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->outcome, Outcome::refused);
  EXPECT_FALSE(answer->reasons.empty());
  b.engine.end("signal 9 (Killed)");
  b.run();
}

TEST(Supervisor, AHaltBetweenTwoBootsIsTheEnd) {
  Bench b;
  b.come_up();
  b.engine.survives_kill = true;
  b.say(FencedFact{Bench::red});
  b.run();
  ASSERT_NE(b.event("node.reboot"), "");
  std::vector<Outcome> first, second;
  b.supervisor->operate({.verb = ha::OperatorVerb::halt, .node = Bench::red}, into(first));
  b.supervisor->operate({.verb = ha::OperatorVerb::halt, .node = Bench::red}, into(second));
  EXPECT_EQ(second, std::vector{Outcome::refused});
  EXPECT_EQ(b.halted, 0);
  b.engine.end("signal 9 (Killed)");
  b.run();
  EXPECT_EQ(b.halted, 1);
  EXPECT_EQ(first, (std::vector{Outcome::accepted, Outcome::done}));
  EXPECT_EQ(b.engine.starts.size(), 1u);
}

TEST(Supervisor, AHaltWhileABootEndsIsTheEnd) {
  Bench b;
  b.come_up();
  b.engine.end("signal 9 (Killed)");
  std::vector<Outcome> first, second;
  b.supervisor->operate({.verb = ha::OperatorVerb::halt, .node = Bench::red}, into(first));
  b.supervisor->operate({.verb = ha::OperatorVerb::halt, .node = Bench::red}, into(second));
  EXPECT_EQ(second, std::vector{Outcome::refused});
  ASSERT_TRUE(b.run_until([&] { return b.halted == 1; }));
  EXPECT_EQ(first, (std::vector{Outcome::accepted, Outcome::done}));
  EXPECT_EQ(b.engine.starts.size(), 1u);
}

TEST(Supervisor, AnOperatorHearsOfAReboot) {
  Bench b;
  b.come_up();
  b.run(seconds(3));
  std::vector<ha::OperatorAnswer> answers;
  b.supervisor->operate({.verb = ha::OperatorVerb::takeover, .node = Bench::blue, .force = true},
                        [&](const ha::OperatorAnswer& a) { answers.push_back(a); });
  ASSERT_TRUE(b.run_until([&] { return answers.size() == 1; }));
  ASSERT_EQ(answers[0].outcome, Outcome::accepted)
      << (answers[0].reasons.empty() ? "" : answers[0].reasons[0]);
  b.say(FencedFact{Bench::red});
  b.run(milliseconds(1));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].outcome, Outcome::failed);
  EXPECT_NE(answers[1].reasons.at(0).find("rebooted"), std::string::npos);
}

// ---- questions to the engine ----

struct Asked {
  std::vector<LunAnswer> answers;
  Supervisor::LunDone into() {
    return [this](const LunAnswer& a) { answers.push_back(a); };
  }
};

TEST(Supervisor, TheEngineAnswersQuestions) {
  Bench b;
  b.come_up();
  Asked first, second;
  b.supervisor->ask_engine(LunListOrder{}, first.into());
  b.supervisor->ask_engine(LunListOrder{}, second.into());
  auto orders = b.told<LunListOrder>();
  ASSERT_EQ(orders.size(), 2u);
  EXPECT_NE(orders[0].request, orders[1].request);
  LunAnswer answer;
  answer.request = orders[1].request;
  answer.ok = true;
  b.say(answer);
  EXPECT_EQ(second.answers.size(), 1u);
  EXPECT_TRUE(second.answers.at(0).ok);
  EXPECT_TRUE(first.answers.empty());
  b.say(answer);  // again: nobody asked
  EXPECT_EQ(second.answers.size(), 1u);
}

TEST(Supervisor, AQuestionWithoutAnswerEndsAfterItsTime) {
  Bench b;
  b.come_up();
  Asked asked;
  b.supervisor->ask_engine(LunListOrder{}, asked.into());
  auto request = b.told<LunListOrder>().at(0).request;
  b.run(Supervisor::engine_answer_limit - milliseconds(1));
  EXPECT_TRUE(asked.answers.empty());
  b.run(milliseconds(2));
  ASSERT_EQ(asked.answers.size(), 1u);
  EXPECT_FALSE(asked.answers[0].ok);
  EXPECT_NE(asked.answers[0].why.find("does not answer"), std::string::npos);
  LunAnswer late;
  late.request = request;
  b.say(late);
  EXPECT_EQ(asked.answers.size(), 1u);
}

TEST(Supervisor, QuestionsEndWithTheEngine) {
  Bench b;
  b.come_up();
  Asked asked, none;
  b.supervisor->ask_engine(LunListOrder{}, asked.into());
  b.engine.end("exit 1");
  ASSERT_EQ(asked.answers.size(), 1u);
  EXPECT_NE(asked.answers[0].why.find("ended"), std::string::npos);
  b.supervisor->ask_engine(LunListOrder{}, none.into());
  EXPECT_TRUE(none.answers.empty()) << "answered from inside the call";
  b.run(milliseconds(1));
  ASSERT_EQ(none.answers.size(), 1u);
  EXPECT_NE(none.answers[0].why.find("does not run"), std::string::npos);
  b.run(seconds(30));
  EXPECT_EQ(none.answers.size(), 1u);
}

TEST(Supervisor, QuestionsAreBounded) {
  Bench b;
  b.come_up();
  Asked asked, too_many;
  for (std::size_t i = 0; i < Supervisor::max_engine_requests; ++i) {
    b.supervisor->ask_engine(LunListOrder{}, asked.into());
  }
  b.told<LunListOrder>();
  b.supervisor->ask_engine(LunListOrder{}, too_many.into());
  b.run(milliseconds(1));
  ASSERT_EQ(too_many.answers.size(), 1u);
  EXPECT_NE(too_many.answers[0].why.find("too many"), std::string::npos);
  EXPECT_TRUE(b.told<LunListOrder>().empty());
  EXPECT_TRUE(asked.answers.empty());
  b.run(Supervisor::engine_answer_limit);
  EXPECT_EQ(asked.answers.size(), Supervisor::max_engine_requests);
}

// ---- the partner ----

TEST(Supervisor, MirrorsOfDifferentSizeAreNamed) {
  Bench b;
  b.come_up();
  ports::Partner partner;
  partner.node = Bench::blue;
  partner.clients = {{"ha", 1, 128, 0}, {"nvram-mirror", 1, b.config.nvram_size, 7002}};
  b.link.arrive(partner);
  EXPECT_EQ(b.event("mirror.size"), "");
  partner.clients[1].memory = 4096;
  b.link.arrive(partner);
  EXPECT_NE(b.event("mirror.size").find("4096"), std::string::npos);
}

TEST(Supervisor, WhyThereIsNoLinkIsKept) {
  Bench b;
  b.come_up();
  b.link.become(ports::LinkState::wrong_cluster, "the partner says 'lab'");
  EXPECT_EQ(b.supervisor->link_why(), "the partner says 'lab'");
  EXPECT_EQ(b.supervisor->core().snapshot(b.scheduler.now()).link, ports::LinkState::wrong_cluster);
  std::vector<std::byte> nonsense(7);
  nonsense[0] = std::byte{1};  // of our version, but too short
  b.link.say(nonsense);
  EXPECT_EQ(b.supervisor->core().snapshot(b.scheduler.now()).invalid_messages, 1u);
}

}  // namespace
}  // namespace duet::node
