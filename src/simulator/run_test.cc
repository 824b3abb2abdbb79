#include "simulator/run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "base/sanitized.h"
#include "simulator/minimize.h"

namespace duet::simulator {
namespace {

void expect_clean(std::uint64_t seed) {
  RunOptions options;
  options.seed = seed;
  auto result = run(options);
  if (!result.violation) return;
  std::string lines;
  for (const auto& line : result.last_lines) lines += line + "\n";
  ADD_FAILURE() << result.violation->invariant << ": " << result.violation->what << "\n"
                << lines << "replay: " << command_line(options);
}

TEST(Run, TheSameSeedIsTheSameRun) {
  for (std::uint64_t seed : {5, 11}) {
    RunOptions options;
    options.seed = seed;
    options.length = seconds(40);
    auto first = run(options), second = run(options);
    EXPECT_EQ(first.hash, second.hash);
    EXPECT_EQ(first.steps, second.steps);
    EXPECT_EQ(first.operations, second.operations);
    options.seed += 1;
    EXPECT_NE(first.hash, run(options).hash);
  }
}

// Sanitizers make a run about fifteen times as long: they see less of them.
constexpr std::uint64_t smoke_seeds = sanitized ? 8 : 30;

TEST(Run, Smoke) {
  for (std::uint64_t seed = 1000; seed < 1000 + smoke_seeds; ++seed) expect_clean(seed);
}

TEST(Run, SeedsThatWereRed) {
  std::ifstream file(std::string(DUET_CORPUS) + "/simulator/seeds.txt");
  std::size_t seeds = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::uint64_t seed = 0;
    if (line.starts_with('#') || !(words >> seed)) continue;
    ++seeds;
    expect_clean(seed);
  }
  EXPECT_GT(seeds, 0u);
}

TEST(Run, ASafeguardLeftOutIsSeen) {
  // Two that are seen early; `duet-sim --sabotage all` does each.
  for (auto safeguard : {Safeguard::mirror_landed, Safeguard::mailbox_durable}) {
    bool caught = false;
    for (std::uint64_t seed = 1; seed <= 60 && !caught; ++seed) {
      RunOptions options;
      options.seed = seed;
      options.sabotage.left_out = safeguard;
      caught = run(options).violation.has_value();
    }
    EXPECT_TRUE(caught) << static_cast<int>(safeguard);
  }
}

TEST(Run, LeavingOutKindsAndEventsKeepsTheRestOfThePlan) {
  RunOptions options;
  options.seed = 5;
  auto plan = plan_of(options);
  ASSERT_GT(plan.events.size(), 4u);
  options.without.insert(plan.events[0].fault);
  options.left_out.insert(2);
  auto same = plan_of(options);
  ASSERT_EQ(same.events.size(), plan.events.size());
  for (std::size_t i = 0; i < plan.events.size(); ++i) {
    EXPECT_EQ(same.events[i].at, plan.events[i].at);
    EXPECT_EQ(same.events[i].chance, plan.events[i].chance);
  }
}

TEST(Run, AFaultMayWaitForAnEvent) {
  // Of all plans of some seeds: every kind waits for something somewhere, and says for what.
  std::set<Fault> waiting;
  std::set<std::string_view> events;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    RunOptions options;
    options.seed = seed;
    Duration last{};
    for (const auto& event : plan_of(options).events) {
      EXPECT_GE(event.at, last);
      last = event.at;
      if (!event.trigger) continue;
      waiting.insert(event.fault);
      events.insert(event.trigger->event);
      EXPECT_NE(std::string::npos, describe(event).find(event.trigger->event));
    }
  }
  EXPECT_EQ(static_cast<std::size_t>(Fault::count), waiting.size());
  EXPECT_EQ(trigger_names().size(), events.size());
}

TEST(Run, WhatAFaultWaitedForIsInTheTrace) {
  for (std::uint64_t seed = 1;; ++seed) {
    ASSERT_LT(seed, 20u);
    RunOptions options;
    options.seed = seed;
    const auto result = run(options);
    if (std::ranges::any_of(result.last_lines, [](const std::string& line) {
          return line.find("fault") != std::string::npos && line.find(" ms after ") != line.npos;
        })) {
      return;
    }
  }
}

TEST(Minimize, KeepsWhatIsNeeded) {
  RunOptions options;
  options.seed = 5;
  auto plan = plan_of(options);
  ASSERT_GT(plan.events.size(), 8u);
  // Fails as long as these two faults happen.
  std::size_t first = 3, second = 6;
  auto happens = [&](const RunOptions& o, std::size_t i) {
    return !o.left_out.contains(i) && !o.without.contains(plan.events[i].fault);
  };
  auto attempt = [&](const RunOptions& o) {
    return happens(o, first) && happens(o, second) ? std::string("I1") : std::string();
  };
  auto minimized = minimize(options, plan, plan.length, "I1", attempt);
  EXPECT_EQ(minimized.events, 2u);
  EXPECT_EQ(attempt(minimized.options), "I1");
  EXPECT_NE(command_line(minimized.options).find("--seed 5"), std::string::npos);
}

}  // namespace
}  // namespace duet::simulator
