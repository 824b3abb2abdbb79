#include "ha/health_exchange.h"

#include <gtest/gtest.h>

namespace duet::ha {
namespace {

constexpr BootNonce our_boot{11}, their_boot{22};

class health_exchange : public ::testing::Test {
 protected:
  health_exchange() : world_(config(), our_boot) {
    world_.link = ports::LinkState::ready;
    // Two equal reads make the partner known.
    StateStructure s;
    s.cluster = ClusterId(5);
    s.node = NodeId(2);
    s.state = NodeState::up;
    s.nonce = their_boot;
    for (std::uint64_t i = 1; i <= 2; ++i) {
      s.progress = s.heartbeat = i;
      auto bytes = interconnect::encode(s);
      world_.monitor.on_state_read(std::vector<std::byte>(bytes.begin(), bytes.end()), now_);
    }
    EXPECT_EQ(world_.monitor.nonce(), their_boot);
  }
  static Config config() {
    Config c;
    c.self = NodeId(1);
    c.cluster = ClusterId(5);
    c.shelves[1].disks = c.shelves[2].disks = 1;
    return c;
  }
  static HealthRecord report(Health health) {
    HealthRecord r;
    r.health = health;
    r.modules = {{Module::disks, health, Finding::none, ""}};
    return r;
  }
  void advance(std::vector<Obstacle> takeover = {}) {
    actions_.clear();
    Output out(now_, actions_, command_);
    if (exchange_.due(now_)) exchange_.advance(takeover, {}, world_, out);
  }
  std::optional<HealthMessage> sent() const {
    for (const auto& action : actions_) {
      if (const auto* m = std::get_if<SendMessage>(&action)) {
        return decode_health_message(m->bytes).value();
      }
    }
    return {};
  }
  const KeepHealthRecords* kept() const {
    for (const auto& action : actions_) {
      if (const auto* k = std::get_if<KeepHealthRecords>(&action)) return k;
    }
    return nullptr;
  }
  HealthRecord from_partner(std::uint64_t number, Health health) {
    auto r = report(health);
    r.cluster = ClusterId(5);
    r.node = NodeId(2);
    r.boot = their_boot;
    r.number = number;
    return r;
  }
  void receive(HealthRecord record) {
    Output out(now_, actions_, command_);
    exchange_.on_partner(std::move(record), world_, out);
  }

  Instant now_{seconds(100)};
  World world_;
  HealthExchange exchange_;
  Actions actions_;
  std::uint64_t command_ = 0;
};

TEST_F(health_exchange, silent_until_the_monitor_reports) {
  EXPECT_FALSE(exchange_.due(now_));
  EXPECT_EQ(exchange_.next_time(), never);
}

TEST_F(health_exchange, tells_changes_at_once_and_the_rest_every_second) {
  exchange_.on_health(report(Health::good), world_);
  advance();
  ASSERT_TRUE(sent());
  EXPECT_EQ(sent()->addressee, their_boot);
  EXPECT_EQ(sent()->record.node, NodeId(1));
  EXPECT_EQ(sent()->record.boot, our_boot);
  EXPECT_EQ(sent()->record.number, 1u);
  EXPECT_TRUE(sent()->record.takeover_judged);

  now_ += HealthExchange::change_interval;
  advance();
  EXPECT_FALSE(sent()) << "nothing new";
  exchange_.on_health(report(Health::failed), world_);
  now_ += milliseconds(1);
  advance();
  EXPECT_FALSE(sent()) << "changes are told together";
  now_ += HealthExchange::change_interval;
  advance();
  ASSERT_TRUE(sent());
  EXPECT_EQ(sent()->record.health, Health::failed);

  now_ += HealthExchange::change_interval;
  advance({{Move::takeover, Reason::no_lease, true, ""}});
  ASSERT_TRUE(sent()) << "a new judgement is news";
  EXPECT_EQ(sent()->record.obstacles.size(), 1u);

  now_ = exchange_.next_time();
  advance({{Move::takeover, Reason::no_lease, true, ""}});
  EXPECT_TRUE(sent()) << "every second";
}

TEST_F(health_exchange, the_judgement_stands_while_the_monitor_reports) {
  exchange_.on_health(report(Health::good), world_);
  advance({{Move::takeover, Reason::no_lease, true, ""}});
  exchange_.on_health(report(Health::failed), world_);
  EXPECT_EQ(world_.own_health->obstacles.size(), 1u);
  EXPECT_TRUE(world_.own_health->takeover_judged);
}

TEST_F(health_exchange, nobody_to_tell) {
  world_.link = ports::LinkState::down;
  exchange_.on_health(report(Health::good), world_);
  advance();
  EXPECT_FALSE(sent());
}

TEST_F(health_exchange, both_records_are_kept_when_one_says_something_new) {
  exchange_.on_health(report(Health::good), world_);
  advance();
  EXPECT_EQ(kept(), nullptr) << "no engine, no NVRAM";
  world_.engine = EngineReady{.nvram = 1, .persistent = true, .mirror_port = 1};
  auto step = [&] {
    now_ += HealthExchange::change_interval;
    advance();
  };
  step();
  ASSERT_NE(kept(), nullptr);
  EXPECT_EQ(decode_health_record(kept()->own)->health, Health::good);
  EXPECT_TRUE(kept()->partner.empty());
  step();
  EXPECT_EQ(kept(), nullptr);

  receive(from_partner(1, Health::good));
  step();
  ASSERT_NE(kept(), nullptr);
  EXPECT_EQ(decode_health_record(kept()->partner)->node, NodeId(2));
  receive(from_partner(2, Health::good));
  step();
  EXPECT_EQ(kept(), nullptr) << "the same again";
  receive(from_partner(3, Health::degraded));
  step();
  EXPECT_NE(kept(), nullptr);

  world_.engine.reset();
  step();
  world_.engine = EngineReady{.nvram = 1, .persistent = true, .mirror_port = 1};
  step();
  EXPECT_NE(kept(), nullptr) << "another engine";
}

TEST_F(health_exchange, an_older_record_of_the_partner_is_dropped) {
  receive(from_partner(5, Health::good));
  receive(from_partner(4, Health::failed));
  EXPECT_EQ(world_.partner_health->health, Health::good);
  EXPECT_TRUE(world_.fresh_partner_health(now_));
  EXPECT_FALSE(world_.fresh_partner_health(now_ + seconds(6)));
  auto other_boot = from_partner(1, Health::failed);
  other_boot.boot = BootNonce(23);
  receive(other_boot);
  EXPECT_FALSE(world_.fresh_partner_health(now_)) << "not of the boot that we know";
}

TEST(health_message, round_trip_and_rules) {
  HealthMessage m;
  m.record.cluster = ClusterId(5);
  m.record.node = NodeId(2);
  m.record.boot = their_boot;
  m.sender_epoch = Epoch(3);
  m.addressee = our_boot;
  auto good = encode(m);
  ASSERT_EQ(good.size(), health_message_size);
  EXPECT_EQ(to_hex(Bytes(good).first(40)),
            "01002102280c0000"
            "0500000000000000"
            "1600000000000000"
            "0300000000000000"
            "0b00000000000000");
  EXPECT_EQ(decode_health_message(good).value(), m);
  for (std::size_t i : {2u, 3u, 4u, 8u, 16u, 40u, 1000u}) {
    auto broken = good;
    broken[i] ^= std::byte{0x40};
    EXPECT_FALSE(decode_health_message(broken)) << i;
  }
  auto nobody = good;
  std::fill_n(nobody.begin() + 32, 8, std::byte{0});
  EXPECT_FALSE(decode_health_message(nobody));
  for (std::size_t size : {0u, 1u, 39u, 64u, 3111u}) {
    EXPECT_FALSE(decode_health_message(Bytes(good).first(size)));
  }
  auto newer = good;
  newer[0] = std::byte{2};
  EXPECT_EQ(decode_health_message(newer).error().code, ErrorCode::unsupported_version);
}

}  // namespace
}  // namespace duet::ha
