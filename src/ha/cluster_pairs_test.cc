// Every pair of states that two nodes are in together while they boot and move: found by playing
// the moves, then in each of them a node dies, panics or hangs, or the link is cut. Nothing is lost
// and both come home. DUET_KILL_STRIDE=1 tries every way in every pair.
#include <gtest/gtest.h>

#include <map>

#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

struct Step {
  std::function<void(Cluster&)> act;
  Duration then{};  // before the next
};
struct Story {
  const char* name;
  bool from_cold;  // neither runs yet
  std::vector<Step> steps;
};

Step order(NodeId at, OperatorVerb verb, NodeId about, Duration then = {}) {
  return {[=](Cluster& c) { c.order(at, verb, about); }, then};
}

const std::vector<Story>& stories() {
  using enum OperatorVerb;
  auto panic = [](NodeId node) { return [node](Cluster& c) { c.panic_engine(node); }; };
  static const std::vector<Story> all{
      {"cold start", true, {}},
      {"panic", false, {{panic(red)}}},
      {"both panic", false, {{panic(red), milliseconds(700)}, {panic(blue)}}},
      {"power", false, {{[](Cluster& c) { c.power_off(red); }, seconds(2)}, {[](Cluster& c) {
                          c.power_on(red);
                        }}}},
      {"pause", false, {{[](Cluster& c) { c.pause(red); }, seconds(2)}, {[](Cluster& c) {
                          c.resume(red);
                        }}}},
      {"by order", false, {order(blue, takeover, red)}},
      {"by itself", false, {order(red, takeover, red)}},
      {"cancelled",
       false,
       {order(blue, takeover, red, milliseconds(25)), order(blue, cancel, red)}},
      {"both directions", false, {order(blue, takeover, red), order(red, takeover, blue)}},
      {"uncoordinated", false, {{panic(red), milliseconds(250)}, {[](Cluster& c) {
                                  c.order(blue,
                                          {.verb = giveback, .node = red, .uncoordinated = true});
                                }}}},
      {"giveback fails",
       false,
       {{panic(red), milliseconds(900)},
        {[](Cluster& c) { c.power_off(red); }, milliseconds(1500)},
        {[](Cluster& c) { c.power_on(red); }}}},
  };
  return all;
}

Options options_of(std::uint64_t seed) {
  Options o;
  o.seed = seed;
  o.auto_giveback = true;
  o.rules.after_order = true;
  o.rules.delay = milliseconds(150);
  return o;
}

// Until `look` says true (after which task: it counts), or both are home.
void play(Cluster& c, const Story& story, const std::function<bool()>& look) {
  c.power_on(red);
  c.power_on(blue);
  auto home = [&] { return both_mirrored(c); };
  if (!story.from_cold) {
    ASSERT_TRUE(c.run_until(home, seconds(10))) << c.describe();
  }
  for (const auto& step : story.steps) {
    step.act(c);
    bool seen = false;
    c.run_until([&] { return (seen = look()); }, step.then);
    if (seen) return;
  }
  auto settled = c.now() + milliseconds(100);
  c.run_until([&] { return look() || (c.now() > settled && home()); }, seconds(15));
}

std::string state_of(const Cluster& c, NodeId node) {
  if (!c.powered(node) || c.state(node) == NodeState::halted) return "halted or off";
  auto s = c.snapshot(node);
  std::string text(interconnect::name(s.state));
  for (auto step : {s.takeover_step, s.giveback_step, s.departure_step}) {
    text += "/" + std::string(step);
  }
  return text;
}

struct Moment {
  std::size_t story;
  std::uint64_t tasks;
};

// The first moment of every pair.
std::map<std::string, Moment> find_pairs() {
  std::map<std::string, Moment> pairs;
  for (std::size_t i = 0; i < stories().size(); ++i) {
    Cluster c(options_of(i + 1));
    std::uint64_t tasks = 0;
    play(c, stories()[i], [&] {
      pairs.try_emplace(state_of(c, red) + " | " + state_of(c, blue), Moment{i, tasks});
      ++tasks;
      return false;
    });
  }
  return pairs;
}

void hit_in(const std::string& pair, const Moment& moment, NodeId victim, How how) {
  SCOPED_TRACE(std::string(stories()[moment.story].name) + ", in " + pair + ", node " +
               std::to_string(victim.value()) + ", how " + std::to_string(static_cast<int>(how)));
  Cluster c(options_of(moment.story + 1));
  std::uint64_t tasks = 0;
  play(c, stories()[moment.story], [&] { return tasks++ == moment.tasks; });
  ASSERT_EQ(state_of(c, red) + " | " + state_of(c, blue), pair) << "the same seed, the same run";
  hit(c, victim, how);
  c.run_for(milliseconds(static_cast<std::int64_t>(moment.tasks * 37 % 3000)));
  for (auto node : {red, blue}) {
    c.resume(node);
    c.power_on(node);
  }
  c.restore_link();
  EXPECT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(40)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST(Pairs, in_each_of_them_a_node_fails) {
  auto pairs = find_pairs();
  EXPECT_GT(pairs.size(), 60U);
  const bool every_way = kill_stride(0) == 1;
  std::size_t number = 0;
  for (const auto& [pair, moment] : pairs) {
    for (auto victim : {red, blue}) {
      for (auto how : all_ways) {
        if (!every_way && number % 4 != static_cast<std::size_t>(how)) continue;
        hit_in(pair, moment, victim, how);
        if (::testing::Test::HasFailure()) return;
      }
      ++number;
    }
  }
  RecordProperty("pairs", static_cast<int>(pairs.size()));
}

}  // namespace
}  // namespace duet::ha::testing
