#include "ha/veto.h"

#include <gtest/gtest.h>

#include <functional>

namespace duet::ha {
namespace {

std::vector<Reason> reasons(const Vetoes& vetoes) {
  std::vector<Reason> r;
  for (const auto& v : vetoes) r.push_back(v.reason);
  return r;
}

TEST(takeover_vetoes, one_for_each_thing_that_is_missing) {
  EXPECT_TRUE(takeover_vetoes({}).empty());
  struct Row {
    std::function<void(TakeoverView&)> change;
    Reason reason;
    bool hard;
  };
  for (const auto& row : {
           Row{[](auto& v) { v.up = false; }, Reason::not_up, true},
           Row{[](auto& v) { v.serves_partner = v.busy = true; }, Reason::already_taken_over, true},
           Row{[](auto& v) { v.busy = true; }, Reason::busy, true},
           Row{[](auto& v) { v.departing = true; }, Reason::departing, true},
           Row{[](auto& v) { v.engine = false; }, Reason::awaiting_engine, true},
           Row{[](auto& v) { v.disks_connected = false; }, Reason::partner_disks_unreachable, true},
           Row{[](auto& v) { v.version_known = false; }, Reason::version_mismatch, true},
           Row{[](auto& v) { v.lease = false; }, Reason::no_lease, true},
           Row{[](auto& v) { v.mailbox_known = false; }, Reason::mailbox_unknown, true},
           Row{[](auto& v) { v.log_here = false; }, Reason::log_not_here, false},
           Row{[](auto& v) { v.halted_for_maintenance = true; }, Reason::halt_without_takeover,
               false},
       }) {
    TakeoverView view;
    row.change(view);
    auto vetoes = takeover_vetoes(view);
    ASSERT_EQ(vetoes.size(), 1U) << name(row.reason);
    EXPECT_EQ(vetoes[0].reason, row.reason);
    EXPECT_EQ(vetoes[0].hard, row.hard) << name(row.reason);
  }
}

TEST(takeover_vetoes, all_at_once_are_all_named) {
  auto vetoes = takeover_vetoes({.up = false,
                                 .busy = true,
                                 .engine = false,
                                 .disks_connected = false,
                                 .log_here = false,
                                 .halted_for_maintenance = true});
  EXPECT_EQ(reasons(vetoes),
            (std::vector{Reason::not_up, Reason::busy, Reason::awaiting_engine,
                         Reason::partner_disks_unreachable, Reason::halt_without_takeover}));
}

TEST(giveback_vetoes, table) {
  EXPECT_TRUE(giveback_vetoes({}).empty());
  EXPECT_EQ(reasons(giveback_vetoes({.serves_partner = false, .partner_waits = false})),
            std::vector{Reason::not_taken_over});
  EXPECT_EQ(reasons(giveback_vetoes({.giving = true})), std::vector{Reason::busy});
  EXPECT_EQ(reasons(giveback_vetoes({.partner_waits = false, .partner_advances = false})),
            std::vector{Reason::partner_not_waiting});
  EXPECT_EQ(reasons(giveback_vetoes({.version_known = false})),
            std::vector{Reason::version_mismatch});
  EXPECT_EQ(reasons(giveback_vetoes({.partner_advances = false})),
            std::vector{Reason::partner_makes_no_progress});
}

TEST(vetoes, force_and_names_override_soft_ones_only) {
  Vetoes all{{Reason::not_up, true, {}},
             {Reason::log_not_here, false, {}},
             {Reason::halt_without_takeover, false, {}}};
  EXPECT_EQ(standing(all, false, {}), all);
  EXPECT_EQ(reasons(standing(all, true, {})), std::vector{Reason::not_up});
  EXPECT_EQ(reasons(standing(all, false, {Reason::log_not_here})),
            (std::vector{Reason::not_up, Reason::halt_without_takeover}));
  EXPECT_EQ(reasons(standing(all, false, {Reason::not_up})), reasons(all)) << "hard";
}

TEST(vetoes, names) {
  EXPECT_EQ(parse_overrides({"log_not_here", "not_prepared"}).value(),
            (std::vector{Reason::log_not_here, Reason::not_prepared}));
  EXPECT_TRUE(parse_overrides({}).value().empty());
  for (const char* bad : {"not_up", "busy", "", "LOG_NOT_HERE"}) {
    auto parsed = parse_overrides({bad});
    ASSERT_FALSE(parsed) << bad;
    EXPECT_NE(parsed.error().message.find("halt_without_takeover"), std::string::npos);
  }
}

TEST(vetoes, described_with_detail_and_name) {
  auto text = describe({Reason::log_not_here, false, "since Tuesday"});
  EXPECT_NE(text.find(": since Tuesday"), std::string::npos);
  EXPECT_NE(text.find("[--override=log_not_here]"), std::string::npos);
  EXPECT_EQ(describe({Reason::not_up, true, {}}), sentence(Reason::not_up));
}

}  // namespace
}  // namespace duet::ha
