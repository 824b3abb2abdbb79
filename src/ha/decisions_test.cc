// Tables of the pure decisions of boot, replay and durability.
#include <gtest/gtest.h>

#include "ha/boot.h"
#include "ha/durability.h"

namespace duet::ha {
namespace {

Mailbox mailbox(Durability mode, std::uint64_t server, std::uint64_t mirror, bool taken = false) {
  auto m = first_mailbox(ClusterId(1), NodeId(1), {});
  m.epoch = Epoch(3);
  m.log_epoch = Epoch(3);
  m.server = NodeId(taken ? 2 : 1);
  m.taken_over_by = NodeId(taken ? 2 : 0);
  m.durability = mode;
  m.nvram_server = server;
  m.nvram_mirror = mirror;
  return m;
}

TEST(decide_replay, table) {
  constexpr std::uint64_t here = 1, there = 2, elsewhere = 3;
  struct Row {
    Durability mode;
    std::uint64_t server, mirror;
    ReplayDecision expected;
  };
  for (const auto& row : {
           Row{Durability::write_through, there, 0, {true, false}},
           Row{Durability::write_through, here, 0, {true, false}},
           Row{Durability::local, here, 0, {true, true, true}},
           Row{Durability::local, there, 0, {false, false}},
           Row{Durability::mirrored, here, there, {true, true, true}},
           Row{Durability::mirrored, there, here, {true, true, false}},
           Row{Durability::mirrored, there, elsewhere, {false, false}},
       }) {
    EXPECT_EQ(decide_replay(mailbox(row.mode, row.server, row.mirror), here), row.expected);
  }
}

TEST(decide_mark, table) {
  for (bool persistent : {false, true}) {
    for (bool known : {false, true}) {
      EXPECT_EQ(decide_mark(Durability::write_through, persistent, known), MarkDecision::mark);
      EXPECT_EQ(decide_mark(Durability::mirrored, persistent, known),
                known ? MarkDecision::mark : MarkDecision::wait);
      EXPECT_EQ(decide_mark(Durability::local, persistent, known),
                persistent ? MarkDecision::mark : MarkDecision::decline);
    }
  }
}

std::string words(const BootDecision& decision) {
  if (std::holds_alternative<BootClaim>(decision)) return "claim";
  const auto& wait = std::get<BootWait>(decision);
  return std::string(interconnect::name(wait.shown)) + "/" + std::string(name(wait.why));
}

TEST(decide_boot, table) {
  auto free = mailbox(Durability::write_through, 1, 0);
  auto taken = mailbox(Durability::local, 2, 0, true);
  auto logged_here = mailbox(Durability::mirrored, 1, 2);
  auto logged_there = mailbox(Durability::local, 9, 0);
  BootView ready{.disks_connected = true, .holding = Holding::none, .mailbox = free, .nvram = 1};
  auto with = [&](auto change) {
    auto view = ready;
    change(view);
    return words(decide_boot(view, NodeId(1)));
  };
  EXPECT_EQ(with([](auto&) {}), "claim");
  EXPECT_EQ(with([](auto& v) { v.disks_connected = false; }), "booting/disks_missing");
  EXPECT_EQ(with([](auto& v) { v.holding = Holding::unreadable; }), "booting/disks_missing");
  EXPECT_EQ(with([](auto& v) { v.holding = Holding::exclusive; }), "givewait/taken_over");
  EXPECT_EQ(with([](auto& v) { v.mailbox.reset(), v.mailbox_kept_out = true; }),
            "givewait/taken_over");
  EXPECT_EQ(with([](auto& v) { v.mailbox.reset(); }), "booting/mailbox_unknown");
  EXPECT_EQ(with([](auto& v) { v.mailbox.reset(), v.forced = true; }), "booting/mailbox_unknown");
  EXPECT_EQ(with([](auto& v) { v.mailbox.reset(), v.mailbox_of_other_version = true; }),
            "booting/version_mismatch");
  EXPECT_EQ(with([](auto& v) { v.nvram.reset(); }), "booting/awaiting_engine");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = taken, v.holding = Holding::shared_all; }),
            "mbwait/awaiting_giveback");
  EXPECT_EQ(
      with([&](auto& v) { v.mailbox = taken, v.holding = Holding::shared_all, v.nvram.reset(); }),
      "givewait/awaiting_engine");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = taken, v.holding = Holding::shared_some; }),
            "givewait/partner_absent_taken_over");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = taken; }), "givewait/partner_absent_taken_over");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = taken, v.forced = true; }), "claim");
  EXPECT_EQ(with([&](auto& v) { v.holding = Holding::exclusive, v.forced = true; }), "claim");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = logged_here; }), "claim");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = logged_there; }), "booting/nvram_lost");
  EXPECT_EQ(with([&](auto& v) { v.mailbox = logged_there, v.forced = true; }), "claim");
  EXPECT_EQ(with([](auto& v) { v.partner_watches_earlier_boot = true; }),
            "booting/awaiting_partner");
  EXPECT_EQ(with([](auto& v) { v.link_may_come = true; }), "booting/awaiting_partner");
  EXPECT_EQ(
      with([](auto& v) { v.partner_watches_earlier_boot = true, v.partner_wait_over = true; }),
      "claim");
  EXPECT_EQ(with([](auto& v) { v.partner_watches_earlier_boot = true, v.coordinated = true; }),
            "claim");
  EXPECT_EQ(with([](auto& v) { v.holding = Holding::shared_all; }), "claim");
}

// I7, B1, B3: over everything that can be seen.
TEST(decide_boot, never_claims_without_a_known_free_mailbox) {
  for (unsigned bits = 0; bits < 1U << 9; ++bits) {
    for (auto holding : {Holding::unreadable, Holding::exclusive, Holding::shared_all,
                         Holding::shared_some, Holding::none}) {
      for (int box = 0; box < 4; ++box) {
        auto bit = [&](int i) { return (bits >> i & 1) != 0; };
        BootView view{.disks_connected = bit(0),
                      .holding = holding,
                      .mailbox = {},
                      .mailbox_kept_out = bit(1),
                      .mailbox_of_other_version = bit(7),
                      .partner_watches_earlier_boot = bit(2),
                      .link_may_come = bit(3),
                      .coordinated = bit(4),
                      .partner_wait_over = bit(5),
                      .nvram = bit(6) ? std::optional<std::uint64_t>(1) : std::nullopt,
                      .forced = false};
        if (box == 1) view.mailbox = mailbox(Durability::write_through, 1, 0);
        if (box == 2) view.mailbox = mailbox(Durability::local, 2, 0, true);
        if (box == 3) view.mailbox = mailbox(Durability::local, 9, 0);
        auto decision = decide_boot(view, NodeId(1));
        if (!std::holds_alternative<BootClaim>(decision)) continue;
        EXPECT_EQ(box, 1);
        EXPECT_TRUE(view.disks_connected && view.nvram);
        EXPECT_NE(holding, Holding::exclusive);
        EXPECT_NE(holding, Holding::unreadable);
      }
    }
  }
}

}  // namespace
}  // namespace duet::ha
