#include "ha/readiness.h"

#include <gtest/gtest.h>

#include <functional>

namespace duet::ha {
namespace {

HealthRecord healthy(NodeId node) {
  HealthRecord r;
  r.node = node;
  r.boot = BootNonce(node.value());
  r.modules = {{Module::disks, Health::good, Finding::none, ""},
               {Module::network, Health::good, Finding::none, ""}};
  for (auto& inventory : r.inventories) {
    inventory.disks = 2;
    inventory.connected = 3;
    inventory.serial[0] = 11, inventory.serial[1] = 12;
  }
  return r;
}

// A pair in which everything is well: red can take blue over.
ReadinessFacts well() {
  ReadinessFacts f;
  f.link = ports::LinkState::ready;
  f.partner = Verdict::alive;
  f.own_health = healthy(NodeId(1));
  f.partner_health = healthy(NodeId(2));
  return f;
}

Vetoes takeover(const ReadinessFacts& facts) {
  Vetoes vetoes = takeover_vetoes({});
  complete_takeover(vetoes, facts);
  return vetoes;
}

void fail_module(std::optional<HealthRecord>& record, std::size_t module) {
  record->modules[module].health = Health::failed;
}

TEST(readiness, nothing_in_the_way) {
  EXPECT_TRUE(takeover(well()).empty());
  auto f = well();
  f.own_health.reset(), f.partner_health.reset();
  EXPECT_TRUE(takeover(f).empty()) << "nobody monitors";
}

TEST(readiness, each_veto_has_its_name_and_its_cure) {
  struct Row {
    std::string what;
    std::function<void(ReadinessFacts&)> change;
    Veto veto;
  };
  const Row rows[] = {
      {"version",
       [](auto& f) { f.link = ports::LinkState::incompatible_version; },
       {Reason::version_mismatch, true, ""}},
      {"number of disks",
       [](auto& f) { f.partner_health->inventories[1].disks = 3; },
       {Reason::inventory_mismatch, true, "shelf 2: configured 2 disks here, 3 at the partner"}},
      {"another disk",
       [](auto& f) { f.partner_health->inventories[0].serial[1] = 99; },
       {Reason::inventory_mismatch, true, "shelf 1: disk 1 is another one at the partner"}},
      {"own disks",
       [](auto& f) { fail_module(f.own_health, 0); },
       {Reason::survivor_unwell, false, "disks"}},
      {"own network",
       [](auto& f) { fail_module(f.own_health, 1); },
       {Reason::survivor_unwell, false, "network"}},
      {"no report", [](auto& f) { f.partner_health.reset(); }, {Reason::health_unknown, false, ""}},
  };
  for (const auto& row : rows) {
    auto f = well();
    row.change(f);
    EXPECT_EQ(takeover(f), Vetoes{row.veto}) << row.what;
    EXPECT_FALSE(sentence(row.veto.reason).empty()) << row.what;
    EXPECT_FALSE(cure(row.veto.reason).empty()) << row.what;
    EXPECT_NE(name(row.veto.reason), "unknown") << row.what;
    if (!row.veto.hard) {
      EXPECT_TRUE(parse_overrides({std::string(name(row.veto.reason))}));
    }
  }
}

TEST(readiness, unreachable_disks_are_named) {
  auto f = well();
  for (auto [disks, text] :
       {std::pair<std::vector<std::uint8_t>, std::string>{{1}, "disk 1"}, {{0, 1}, "disks 0, 1"}}) {
    f.unreachable = disks;
    auto vetoes = takeover_vetoes({.disks_connected = false});
    complete_takeover(vetoes, f);
    EXPECT_EQ(vetoes, Vetoes({{Reason::partner_disks_unreachable, true, text}}));
  }
}

TEST(readiness, unknown_is_no_difference_and_no_veto) {
  auto f = well();
  f.partner_health->inventories[0].serial[1] = 0;
  EXPECT_TRUE(takeover(f).empty());
  f.partner_health.reset();
  for (auto verdict : {Verdict::dead, Verdict::gone, Verdict::absent, Verdict::suspect}) {
    f.partner = verdict;
    EXPECT_TRUE(takeover(f).empty()) << "a dead partner reports nothing";
  }
}

TEST(readiness, giveback) {
  auto f = well();
  auto with = [&](GivebackView view) {
    auto vetoes = giveback_vetoes(view);
    complete_giveback(vetoes, f);
    return vetoes;
  };
  EXPECT_TRUE(with({}).empty());
  f.link = ports::LinkState::incompatible_version;
  fail_module(f.partner_health, 1);
  EXPECT_EQ(with({.serves_partner = false}), Vetoes({{Reason::not_taken_over, true, ""}}));
  EXPECT_EQ(with({.partner_waits = false}), Vetoes({{Reason::partner_not_waiting, true, ""},
                                                    {Reason::version_mismatch, true, ""},
                                                    {Reason::partner_unwell, false, "network"}}));
}

TEST(readiness, obstacles_are_bounded_hard_ones_first) {
  Vetoes vetoes;
  for (int i = 0; i < 10; ++i) vetoes.push_back({Reason::health_unknown, false, ""});
  vetoes.push_back({Reason::no_lease, true, "x"});
  auto list = obstacles(Move::takeover, vetoes);
  ASSERT_EQ(list.size(), max_obstacles / 2);
  EXPECT_EQ(list[0], (Obstacle{Move::takeover, Reason::no_lease, true, "x"}));
  EXPECT_FALSE(list[1].hard);
}

// Whatever stands in the way, people are told what clears it.
TEST(readiness, every_veto_of_a_move_has_a_cure) {
  auto vetoes = takeover_vetoes({.up = false,
                                 .busy = true,
                                 .departing = true,
                                 .engine = false,
                                 .disks_connected = false,
                                 .mailbox_known = false});
  auto more = takeover_vetoes(
      {.serves_partner = true, .lease = false, .log_here = false, .halted_for_maintenance = true});
  vetoes.insert(vetoes.end(), more.begin(), more.end());
  for (auto view :
       {GivebackView{.serves_partner = false}, GivebackView{.giving = true, .partner_waits = false},
        GivebackView{.partner_advances = false}}) {
    more = giveback_vetoes(view);
    vetoes.insert(vetoes.end(), more.begin(), more.end());
  }
  EXPECT_GE(vetoes.size(), 13u);
  for (const auto& veto : vetoes) EXPECT_FALSE(cure(veto.reason).empty()) << name(veto.reason);
}

}  // namespace
}  // namespace duet::ha
