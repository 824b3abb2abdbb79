// Every workload of one and two operations against power cuts: at every write of the disks, with
// what is not durable there, not there, in part and out of order; and a second cut on the way up;
// then a check, and a comparison. Sanitizers see some of the cuts; DUET_POOL_CRASHES=all takes all.
#include <fmt/format.h>

#include <cstdlib>

#include "pool/pool_crash_workloads.h"

namespace duet::pool {
namespace {

class PoolCrashTest : public testing::TestWithParam<int> {};

TEST_P(PoolCrashTest, WhateverWasCutIsThereOrIsNot) {
  const char* wish = std::getenv("DUET_POOL_CRASHES");
  const bool all = wish != nullptr ? std::string(wish) == "all" : !sanitized;
  const auto first = static_cast<std::size_t>(GetParam());
  std::uint64_t workloads = 0;
  std::uint64_t cuts = 0;
  std::uint64_t states = 0;
  for (const raid::Protection protection :
       {raid::Protection::none, raid::Protection::single, raid::Protection::dual}) {
    CrashExplorer explorer({protection, 2 + raid::parity_count(protection), false, {}, {}},
                           prepare_pool);
    if (HasFailure()) return;
    for (std::size_t second = 0; second <= steps().size(); ++second) {  // the last: none
      std::vector<const Step*> workload{&steps()[first]};
      if (second < steps().size()) workload.push_back(&steps()[second]);
      std::string trace;
      for (const Step* step : workload) trace += std::string(" ") + step->name;
      const std::uint64_t seed = first * 1009 + second * 31 + static_cast<unsigned>(protection);
      const bool in_the_middle = seed % 2 == 0;
      SCOPED_TRACE("protection " + std::to_string(static_cast<int>(protection)) +
                   (in_the_middle ? ", in the middle:" : ":") + trace);
      CrashExplorer::Options how;
      if (!all) how.stride = 67;
      how.first_cut = seed % how.stride;
      explorer.explore(
          [&](PoolTestWorld& world, Recorder& recorder) {
            run_workload(world, recorder, workload, in_the_middle);
          },
          how, seed);
      ++workloads;
      if (HasFailure()) return;
    }
    cuts += explorer.cuts;
    states += explorer.states;
  }
  fmt::print("{} workloads, {} cuts, {} states of the disks\n", workloads, cuts, states);
  EXPECT_GT(cuts, workloads);
}

INSTANTIATE_TEST_SUITE_P(First, PoolCrashTest, testing::Range(0, static_cast<int>(steps().size())));

}  // namespace
}  // namespace duet::pool
