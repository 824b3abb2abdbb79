#include "node/control_service.h"

#include <gtest/gtest.h>

#include "node/supervisor_bench.h"
#include "simulation/fake_channel.h"

namespace duet::node {
namespace {

class Bench : public SupervisorBench {
 public:
  using Peer = std::shared_ptr<simulation::FakeChannel::Peer>;
  Bench() { come_up(); }

  Peer connect() {
    auto peer = std::make_shared<simulation::FakeChannel::Peer>();
    control->add_client(std::make_unique<simulation::FakeChannel>(peer));
    return peer;
  }
  static void ask(const Peer& peer, const admin::Request& request) {
    peer->say(admin::to_message(request));
  }
  // The replies of one kind that have come, and no others.
  template <class Reply>
  static std::vector<Reply> replies(const Peer& peer) {
    std::vector<Reply> found;
    for (auto& bytes : peer->take()) {
      auto reply = admin::from_message<admin::Reply>(bytes);
      EXPECT_TRUE(reply && std::holds_alternative<Reply>(*reply));
      if (reply) found.push_back(std::get<Reply>(*reply));
    }
    return found;
  }

  std::optional<ControlService> control{std::in_place, *supervisor, 42};
};

TEST(ControlService, StatusSaysWhatIsKnownAtOnce) {
  Bench b;
  EngineReport report;
  report.identities.resize(1);
  report.identities[0].identity = Bench::red;
  report.identities[0].luns = 3;
  report.identities[0].log_size = 4096;
  b.say(report);
  auto client = b.connect();
  Bench::ask(client, admin::StatusQuery{});
  auto status = Bench::replies<admin::StatusReport>(client);
  ASSERT_EQ(status.size(), 1u);
  EXPECT_EQ(status[0].name, "red");
  EXPECT_EQ(status[0].state, "up");
  EXPECT_EQ(status[0].supervisor_pid, 42);
  EXPECT_EQ(status[0].engine_pid, 4711);
  EXPECT_EQ(status[0].partner_state, "unknown");
  EXPECT_EQ(status[0].boot_nonce, Bench::first_nonce.value());
  ASSERT_EQ(status[0].identities.size(), 2u);
  EXPECT_TRUE(status[0].identities[0].served_here);
  EXPECT_EQ(status[0].identities[0].luns, 3u);
  EXPECT_EQ(status[0].identities[0].address, "127.0.0.11:3260");
  EXPECT_FALSE(status[0].identities[1].served_here);
  EXPECT_EQ(status[0].identities[1].durability, "");
  EXPECT_FALSE(status[0].giveback.possible);
  EXPECT_FALSE(status[0].giveback.vetoes.empty());
}

TEST(ControlService, AMalformedMessageDropsItsClientAlone) {
  Bench b;
  auto good = b.connect(), bad = b.connect(), empty = b.connect();
  std::vector<std::byte> nonsense(5, std::byte{0xff});
  nonsense[0] = std::byte{admin::control_version};
  bad->say(nonsense);
  empty->say({});
  EXPECT_TRUE(bad->open()) << "it is the caller: it goes a turn later";
  b.run(milliseconds(1));
  EXPECT_FALSE(bad->open());
  EXPECT_FALSE(empty->open());
  EXPECT_TRUE(bad->take().empty());
  Bench::ask(good, admin::StatusQuery{});
  EXPECT_EQ(Bench::replies<admin::StatusReport>(good).size(), 1u);
}

TEST(ControlService, AClientOfAnotherVersionIsTold) {
  Bench b;
  auto client = b.connect();
  auto request = admin::to_message(admin::Request(admin::StatusQuery{}));
  request[0] = std::byte{admin::control_version + 1};
  client->say(request);
  auto answers = client->take();
  ASSERT_EQ(answers.size(), 1u);
  auto reply = admin::from_message<admin::Reply>(answers[0]);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::unsupported_version);
  b.run(milliseconds(1));
  EXPECT_FALSE(client->open());
}

TEST(ControlService, HealthIsToldWithWhatClearsIt) {
  Bench b;
  b.run(seconds(1));
  auto client = b.connect();
  Bench::ask(client, admin::HealthQuery{});
  auto reports = Bench::replies<admin::HealthReport>(client);
  ASSERT_EQ(reports.size(), 1u);
  ASSERT_EQ(reports[0].nodes.size(), 1u) << "the partner has said nothing";
  const auto& red = reports[0].nodes[0];
  EXPECT_EQ(red.name, "red");
  EXPECT_EQ(red.source, "now");
  EXPECT_EQ(red.modules.size(), ha::module_kinds);
  auto link = std::ranges::find(red.modules, "interconnect", &admin::ModuleItem::module);
  ASSERT_NE(link, red.modules.end());
  EXPECT_EQ(link->health, "failed");
  EXPECT_NE(link->cure, "");
}

// Kept by an engine of an earlier boot, and shown until there is something newer.
TEST(ControlService, AKeptRecordOfThePartnerIsShownAsOld) {
  Bench b;
  ha::HealthRecord blue;
  blue.cluster = b.config.cluster;
  blue.node = Bench::blue;
  blue.boot = BootNonce(9);
  blue.health = ha::Health::degraded;
  b.say(HealthKeptFact{{}, ha::encode(blue)});
  auto client = b.connect();
  Bench::ask(client, admin::HealthQuery{});
  auto reports = Bench::replies<admin::HealthReport>(client);
  ASSERT_EQ(reports.at(0).nodes.size(), 2u);
  EXPECT_EQ(reports[0].nodes[1].name, "blue");
  EXPECT_EQ(reports[0].nodes[1].health, "degraded");
  EXPECT_EQ(reports[0].nodes[1].source, "kept in NVRAM");
  auto damaged = ha::encode(blue);
  damaged[100] ^= std::byte{1};
  b.say(HealthKeptFact{{}, damaged});
  Bench::ask(client, admin::HealthQuery{});
  EXPECT_EQ(Bench::replies<admin::HealthReport>(client).at(0).nodes.size(), 1u);
}

TEST(ControlService, ACheckRehearsesAndAnswersForBothNodes) {
  Bench b;
  b.run(seconds(1));
  b.blue_shelf.media[1]->fault = [](auto, auto, auto) {
    return std::optional<ErrorCode>(ErrorCode::io_error);
  };
  auto client = b.connect();
  Bench::ask(client, admin::CheckQuery{});
  b.run(milliseconds(100));
  auto reports = Bench::replies<admin::CheckReport>(client);
  ASSERT_EQ(reports.size(), 1u);
  ASSERT_EQ(reports[0].takeovers.size(), 2u);
  const auto& blue = reports[0].takeovers[0];
  EXPECT_EQ(blue.node, Bench::blue);
  EXPECT_TRUE(blue.rehearsed);
  EXPECT_FALSE(blue.possible.possible);
  auto found =
      std::ranges::find(blue.possible.vetoes, "partner_disks_unreachable", &admin::Veto::name);
  ASSERT_NE(found, blue.possible.vetoes.end());
  EXPECT_TRUE(found->hard);
  EXPECT_NE(found->cure, "");
  const auto& red = reports[0].takeovers[1];
  EXPECT_EQ(red.node, Bench::red);
  ASSERT_EQ(red.possible.vetoes.size(), 1u) << "a partner that says nothing";
  EXPECT_EQ(red.possible.vetoes[0].name, "health_unknown");
  EXPECT_TRUE(reports[0].givebacks.empty());
}

TEST(ControlService, ChecksAreBounded) {
  Bench b;
  auto client = b.connect();
  for (std::size_t i = 0; i <= ControlService::max_checks; ++i) {
    Bench::ask(client, admin::CheckQuery{});
  }
  auto at_once = Bench::replies<admin::CheckReport>(client);
  ASSERT_EQ(at_once.size(), 1u);
  EXPECT_FALSE(at_once[0].takeovers.at(0).rehearsed);
  b.run(milliseconds(100));
  EXPECT_EQ(Bench::replies<admin::CheckReport>(client).size(), ControlService::max_checks);
}

TEST(ControlService, CancelWithoutANodeFindsTheMove) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::Operate{admin::Verb::cancel, NodeId(0), false});
  auto replies = Bench::replies<admin::OperateReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].outcome, admin::OperateOutcome::refused);
}

TEST(ControlService, ClientsAreBounded) {
  Bench b;
  std::vector<Bench::Peer> clients;
  for (std::size_t i = 0; i < ControlService::max_clients; ++i) clients.push_back(b.connect());
  EXPECT_TRUE(clients.back()->open());
  EXPECT_FALSE(b.connect()->open());
  clients[0]->close();
  EXPECT_FALSE(clients[0]->open());
  EXPECT_TRUE(b.connect()->open());
}

TEST(ControlService, EventsAreToldAndFollowed) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::EventsQuery{false});
  auto all = client->take();
  ASSERT_GE(all.size(), 2u);
  auto first = admin::from_message<admin::Reply>(all.front());
  ASSERT_TRUE(first && std::holds_alternative<admin::EventItem>(*first));
  EXPECT_EQ(std::get<admin::EventItem>(*first).number, 1u);
  auto last = admin::from_message<admin::Reply>(all.back());
  EXPECT_TRUE(last && std::holds_alternative<admin::EventsEnd>(*last));

  Bench::ask(client, admin::EventsQuery{true});
  EXPECT_EQ(client->take().size(), all.size() - 1) << "no end";
  Bench::ask(client, admin::EventsQuery{true});  // again: still once each
  client->take();
  b.supervisor->note(ha::Severity::info, "test", "something happened");
  auto news = Bench::replies<admin::EventItem>(client);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].text, "something happened");
  client->close();
  b.supervisor->note(ha::Severity::info, "test", "nobody hears");
  EXPECT_TRUE(client->take().empty());
}

TEST(ControlService, FollowersAreBounded) {
  Bench b;
  std::vector<Bench::Peer> clients;
  for (std::size_t i = 0; i < EventLog::max_followers; ++i) {
    clients.push_back(b.connect());
    Bench::ask(clients.back(), admin::EventsQuery{true});
    clients.back()->take();
  }
  auto one_more = b.connect();
  Bench::ask(one_more, admin::EventsQuery{true});
  auto told = one_more->take();
  auto last = admin::from_message<admin::Reply>(told.back());
  EXPECT_TRUE(last && std::holds_alternative<admin::EventsEnd>(*last));
  b.supervisor->note(ha::Severity::info, "test", "news");
  EXPECT_TRUE(one_more->take().empty());
  EXPECT_EQ(clients[0]->take().size(), 1u);
}

TEST(ControlService, AnOperatorCommandIsAnswered) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::Operate{admin::Verb::giveback, Bench::blue, false});
  auto replies = Bench::replies<admin::OperateReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].outcome, admin::OperateOutcome::refused);
  EXPECT_FALSE(replies[0].reasons.empty());
  Bench::ask(client, admin::Operate{admin::Verb::halt, Bench::red, false});
  b.run(seconds(5));
  replies = Bench::replies<admin::OperateReply>(client);
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_EQ(replies[0].outcome, admin::OperateOutcome::accepted);
  EXPECT_EQ(replies[1].outcome, admin::OperateOutcome::done);
  EXPECT_EQ(b.halted, 1);
}

TEST(ControlService, CommandsThatDoNotExistAreRefused) {
  Bench b;
  auto client = b.connect();
  for (auto [verb, node] : {std::pair{admin::Verb{9}, Bench::red},
                            {admin::Verb::halt, NodeId(0)},
                            {admin::Verb::halt, NodeId(3)},
                            {admin::Verb::takeover, NodeId(255)}}) {
    Bench::ask(client, admin::Operate{verb, node, true});
    auto replies = Bench::replies<admin::OperateReply>(client);
    ASSERT_EQ(replies.size(), 1u);
    EXPECT_EQ(replies[0].outcome, admin::OperateOutcome::refused);
  }
  EXPECT_EQ(b.state(), interconnect::NodeState::up);
}

TEST(ControlService, LunsAreAskedOfTheEngine) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::LunCreate{Bench::blue, "data", 4096});
  auto create = b.told<LunCreateOrder>();
  ASSERT_EQ(create.size(), 1u);
  EXPECT_EQ(create[0].identity, Bench::blue);
  EXPECT_EQ(create[0].name, "data");
  EXPECT_EQ(create[0].size, 4096u);
  LunAnswer answer;
  answer.request = create[0].request;
  answer.ok = true;
  answer.luns = {{Bench::blue, LunNumber(0), "data", 4096, "serial", "naa"}};
  b.say(answer);
  auto replies = Bench::replies<admin::LunReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_TRUE(replies[0].ok);
  EXPECT_EQ(replies[0].luns.at(0).serial, "serial");

  Bench::ask(client, admin::LunDelete{NodeId(0), "data"});  // 0: our own
  auto remove = b.told<LunDeleteOrder>();
  ASSERT_EQ(remove.size(), 1u);
  EXPECT_EQ(remove[0].identity, Bench::red);
  Bench::ask(client, admin::LunList{});
  EXPECT_EQ(b.told<LunListOrder>().size(), 1u);
  // The client goes; its answers find nobody.
  client->close();
  answer.request = remove[0].request;
  b.say(answer);
  b.run(seconds(20));
  EXPECT_TRUE(client->take().empty());
}

TEST(ControlService, OrdersToAPoolAreAskedOfTheEngineThatServesIt) {
  Bench b;
  auto client = b.connect();
  admin::PoolOrder order{admin::PoolVerb::snapshot_create, NodeId(0)};
  order.name = "monday";
  Bench::ask(client, order);
  auto asked = b.told<PoolAsk>();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].order.identity, Bench::red) << "0: our own";
  EXPECT_EQ(asked[0].order.name, "monday");
  PoolAnswer answer;
  answer.request = asked[0].request;
  answer.reply.ok = true;
  b.say(answer);
  b.say(answer);  // twice: the second is nobody's
  auto replies = Bench::replies<admin::PoolReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_TRUE(replies[0].ok);

  Bench::ask(client, order);
  b.run(Supervisor::engine_answer_limit + seconds(1));
  replies = Bench::replies<admin::PoolReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_NE(replies[0].why.find("may still happen"), std::string::npos);
}

TEST(ControlService, OrdersToAPoolThatIsServedElsewhereAreRefusedWithWhereToAsk) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::PoolOrder{admin::PoolVerb::status, Bench::blue});
  Bench::ask(client, admin::PoolOrder{admin::PoolVerb::status, NodeId(3)});
  Bench::ask(client, admin::PoolOrder{static_cast<admin::PoolVerb>(200), Bench::red});
  admin::PoolOrder long_name{admin::PoolVerb::volume_create, Bench::red};
  long_name.name = std::string(1 << 20, 'x');
  Bench::ask(client, long_name);
  auto replies = Bench::replies<admin::PoolReply>(client);
  ASSERT_EQ(replies.size(), 4u);
  for (const auto& reply : replies) EXPECT_FALSE(reply.ok);
  EXPECT_NE(replies[0].why.find("ask blue"), std::string::npos) << replies[0].why;
  EXPECT_TRUE(b.told<PoolAsk>().empty());
}

TEST(ControlService, OrdersAboutCoresAreAskedOfTheEngineThatServesThem) {
  Bench b;
  auto client = b.connect();
  admin::CoreOrder order;
  order.verb = admin::CoreVerb::read;
  order.id = "0abc";
  order.offset = 512;
  Bench::ask(client, order);
  auto asked = b.told<CoreAsk>();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].order.identity, Bench::red) << "0: our own";
  EXPECT_EQ(asked[0].order.offset, 512u);
  CoreAnswer answer;
  answer.request = asked[0].request;
  answer.reply.ok = true;
  answer.reply.data.resize(admin::CoreOrder::max_piece);
  b.say(answer);
  auto replies = Bench::replies<admin::CoreReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].data.size(), admin::CoreOrder::max_piece);

  Bench::ask(client, order);
  b.run(Supervisor::engine_answer_limit + seconds(1));
  replies = Bench::replies<admin::CoreReply>(client);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_NE(replies[0].why.find("duet core list"), std::string::npos) << replies[0].why;

  (void)b.told<CoreAsk>();
  order.identity = Bench::blue;
  Bench::ask(client, order);
  order.identity = NodeId(3);
  Bench::ask(client, order);
  order.identity = Bench::red;
  order.id = std::string(1 << 20, 'x');
  Bench::ask(client, order);
  order.id = "0abc";
  order.verb = static_cast<admin::CoreVerb>(200);
  Bench::ask(client, order);
  replies = Bench::replies<admin::CoreReply>(client);
  ASSERT_EQ(replies.size(), 4u);
  for (const auto& reply : replies) EXPECT_FALSE(reply.ok);
  EXPECT_NE(replies[0].why.find("ask blue"), std::string::npos) << replies[0].why;
  EXPECT_TRUE(b.told<CoreAsk>().empty());
}

// The engine would end by an assertion, or the channel to it.
TEST(ControlService, ImpossibleLunsNeverReachTheEngine) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::LunCreate{NodeId(3), "data", 4096});
  Bench::ask(client, admin::LunDelete{NodeId(200), "data"});
  Bench::ask(client, admin::LunCreate{Bench::red, std::string(4 << 20, 'x'), 4096});
  Bench::ask(client, admin::LunCreate{Bench::red, "", 4096});
  Bench::ask(client, admin::LunDelete{Bench::red, std::string("\0", 1)});
  auto replies = Bench::replies<admin::LunReply>(client);
  ASSERT_EQ(replies.size(), 5u);
  for (const auto& reply : replies) {
    EXPECT_FALSE(reply.ok);
    EXPECT_NE(reply.why, "");
  }
  EXPECT_TRUE(b.told<LunCreateOrder>().empty());
  EXPECT_TRUE(b.told<LunDeleteOrder>().empty());
}

TEST(ControlService, DisksAreReadWhenAsked) {
  Bench b;
  b.blue_shelf.media[1]->fault = [](auto, auto, auto) {
    return std::optional<ErrorCode>(ErrorCode::io_error);
  };
  b.paths[2]->disconnect();
  auto client = b.connect();
  Bench::ask(client, admin::DiskList{});
  b.run(milliseconds(100));
  auto replies = Bench::replies<admin::DiskReport>(client);
  ASSERT_EQ(replies.size(), 1u);
  const auto& disks = replies[0].disks;
  ASSERT_EQ(disks.size(), 4u);
  EXPECT_EQ(disks[0].owner, Bench::red);
  EXPECT_EQ(disks[0].size, TestShelf::disk_size);
  EXPECT_NE(disks[0].label.find("data 0 of pool"), std::string::npos) << disks[0].label;
  EXPECT_NE(disks[0].reservation.find("node 1 supervisor"), std::string::npos);
  EXPECT_FALSE(disks[2].connected);
  EXPECT_NE(disks[2].reservation.find("no path"), std::string::npos);
  EXPECT_NE(disks[3].label.find("injected"), std::string::npos);
  EXPECT_EQ(disks[3].reservation, "none");
}

TEST(ControlService, WhenItGoesLateAnswersFindNobody) {
  Bench b;
  auto client = b.connect();
  Bench::ask(client, admin::DiskList{});
  Bench::ask(client, admin::LunList{});
  Bench::ask(client, admin::EventsQuery{true});
  client->take();
  b.control.reset();
  EXPECT_FALSE(client->open());
  b.supervisor->note(ha::Severity::info, "test", "news");
  b.run(seconds(20));
  EXPECT_TRUE(client->take().empty());
}

}  // namespace
}  // namespace duet::node
