// A dump never delays a takeover: the same seed with the dump and without it.
#include <gtest/gtest.h>

#include <vector>

#include "base/sanitized.h"
#include "simulator/checkers.h"
#include "simulator/sim_node.h"
#include "simulator/workload.h"

namespace duet::simulator {
namespace {

const NodeId red(1), blue(2);

// What befalls red's coredump disks as it panics.
enum class Accident { none, slow, errors, hang, no_path, no_power };

struct Panic {
  bool dumps = false;
  Accident accident = Accident::none;
};
struct Seen {
  std::optional<Duration> served;  // by blue, since the panic
  bool stood_still = false;        // red's engine, when blue began to serve
};

void befall(World& world, Accident accident) {
  const Instant end = world.now() + seconds(60);
  for (auto& unit : world.shelf(red)) {
    if (!is_dump_disk(unit->options().index)) continue;
    switch (accident) {
      case Accident::none:
        break;
      case Accident::slow:
        unit->faults.slow_until = end;
        unit->faults.slow_max = milliseconds(1500);
        break;
      case Accident::errors:
        unit->faults.errors_until = end;
        unit->faults.errors_per_100 = 60;
        break;
      case Accident::hang:
        unit->hang(true);
        break;
      case Accident::no_path:
        unit->cut_path(blue, end, true);
        break;
      case Accident::no_power:
        unit->power_off();
        break;
    }
  }
}

Seen takeover(std::uint64_t seed, Panic panic) {
  WorldOptions options;
  options.seed = seed;
  World world(options);
  for (NodeId n : {red, blue}) world.node(n).power_on();
  Workload load(world, {});
  Checkers checkers(world, load);
  load.prepare();
  const Instant limit = world.now() + seconds(60);
  while (!load.prepared() && world.step(limit)) {
  }
  load.start();
  world.run_for(seconds(5));
  const Instant panicked = world.now();
  Seen seen;
  befall(world, panic.accident);
  world.node(red).kill_engine("signal 6 (Aborted)", panic.dumps);
  while (!seen.served && world.violation() == nullptr && world.step(panicked + seconds(30))) {
    if (!world.node(blue).served(red).serving) continue;
    seen.served = world.now() - panicked;
    seen.stood_still = world.node(red).engine_stands_still();
  }
  if (world.violation() != nullptr) {
    ADD_FAILURE() << "seed " << seed << ": " << world.violation()->invariant << ": "
                  << world.violation()->what;
  }
  return seen;
}

TEST(DumpTakeover, IsNotLaterThanWithoutADump) {
  // Of one run to the next chance moves it by so much; a wait for anything of a dump is far longer.
  constexpr Duration slack = milliseconds(50);
  constexpr int seeds = sanitized ? 2 : 8;
  constexpr std::array accidents{Accident::none, Accident::slow,    Accident::errors,
                                 Accident::hang, Accident::no_path, Accident::no_power};
  int compared = 0, side_by_side = 0;
  for (std::uint64_t seed = 1; compared < seeds; ++seed) {
    if (shape_of(seed).dump_disks == 0) continue;
    const Seen without = takeover(seed, {.dumps = false});
    ASSERT_TRUE(without.served) << "seed " << seed;
    for (Accident accident : accidents) {
      const Seen with = takeover(seed, {.dumps = true, .accident = accident});
      ASSERT_TRUE(with.served) << "seed " << seed << ", accident " << static_cast<int>(accident);
      EXPECT_LE(*with.served, *without.served + slack)
          << "seed " << seed << ", accident " << static_cast<int>(accident);
      if (with.stood_still) ++side_by_side;
    }
    ++compared;
  }
  EXPECT_GT(side_by_side, seeds) << "blue serves while red dumps";
}

}  // namespace
}  // namespace duet::simulator
