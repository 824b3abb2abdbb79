// Every workload of one and two operations against power cuts: at every write of the disks, with
// what is not durable there, not there, in part and out of order; and a second cut on the way up;
// then a check, and a comparison. Sanitizers see some of the cuts; DUET_POOL_CRASHES=all takes all.
#include <cstdlib>

#include "pool/pool_crash_bench.h"

namespace duet::pool {
namespace {

struct Step {
  const char* name;
  std::function<Status(PoolTestWorld&)> make;
};

VolumeId named(PoolTestWorld& world, VolumeKind kind, bool last) {
  VolumeId found;
  for (const auto& [id, copy] : world.volumes) {
    if (copy.kind == kind && id != first_volume && (last || found == VolumeId{})) found = id;
  }
  return found;
}
// Files are of the second volume, if there is one.
FileKey some_file(PoolTestWorld& world) {
  const VolumeId volume = named(world, VolumeKind::volume, false);
  const auto& files = world.volumes.at(volume).files;
  return {volume, files.empty() ? no_inode : files.begin()->first};
}

const std::vector<Step>& steps() {
  using W = PoolTestWorld;
  const LunNumber lun(0);
  static const std::vector<Step> all{
      {"write", [=](W& w) { return w.write_lun(lun, 0, 16384); }},
      {"part", [=](W& w) { return w.write_lun(lun, 4608, 1024); }},
      {"far", [=](W& w) { return w.write_lun(lun, 299 * 4096, 4096); }},
      {"zero", [=](W& w) { return w.zero_lun(lun, 2048, 270 * 4096); }},
      {"create lun", [](W& w) { return w.create_lun(8); }},
      {"remove lun", [=](W& w) { return w.luns.contains(lun) ? w.remove_lun(lun) : Status(); }},
      {"create file", [](W& w) { return w.create_file(some_file(w).volume); }},
      {"write file", [](W& w) { return w.write_file(some_file(w), 3 * 512, 9 * 512); }},
      {"cut file", [](W& w) { return w.truncate(some_file(w), 1); }},
      {"remove file", [](W& w) { return w.remove_file(some_file(w)); }},
      {"point",
       [](W& w) {
         w.bench.pool->start_consistency_point();
         return Status();
       }},
      {"snapshot",
       [](W& w) {
         w.create_snapshot(named(w, VolumeKind::volume, false));
         return Status();
       }},
      {"snapshot of luns",
       [](W& w) {
         w.create_snapshot(first_volume);
         return Status();
       }},
      {"delete snapshot",
       [](W& w) {
         w.remove_snapshot(named(w, VolumeKind::snapshot, false));
         return Status();
       }},
      {"clone",
       [](W& w) {
         w.create_clone(named(w, VolumeKind::snapshot, true));
         return Status();
       }},
      {"restore",
       [](W& w) {
         w.restore(named(w, VolumeKind::volume, false), named(w, VolumeKind::snapshot, true));
         return Status();
       }},
  };
  return all;
}

// What every workload finds: LUNs and files with data, snapshots of both volumes, changes since.
void prepare(PoolTestWorld& world) {
  ASSERT_TRUE(world.create_lun(300));
  ASSERT_TRUE(world.write_lun(LunNumber(0), 0, 40960));
  world.create_volume();
  world.wait();
  const VolumeId volume = named(world, VolumeKind::volume, false);
  ASSERT_TRUE(world.create_file(volume));
  ASSERT_TRUE(world.write_file(some_file(world), 0, 20480));
  world.create_snapshot(first_volume);
  world.wait();
  world.create_snapshot(volume);
  world.wait();
  ASSERT_TRUE(world.write_lun(LunNumber(0), 4096, 8192));
  ASSERT_TRUE(world.write_file(some_file(world), 4096, 4096));
}

void run(PoolTestWorld& world, Recorder& recorder, const std::vector<const Step*>& workload,
         bool in_the_middle) {
  for (std::size_t i = 0; i < workload.size(); ++i) {
    const bool orders = world.has_orders();
    recorder.step([&] {
      const Status status = workload[i]->make(world);
      // What the first step has removed is missing to the second; what goes back is held.
      EXPECT_TRUE(status || orders || status.error().code == ErrorCode::not_found)
          << workload[i]->name << ": " << status.error().message;
    });
    if (!in_the_middle || i + 1 == workload.size()) continue;
    // The second step comes while a consistency point has the first.
    world.bench.pool->start_consistency_point();
    world.bench.scheduler.run_for(milliseconds(6));
    world.collect();
    recorder.remember();
  }
  world.bench.pool->start_consistency_point();
  world.bench.scheduler.run_for(milliseconds(300));
}

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
                           prepare);
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
      explorer.explore([&](PoolTestWorld& world,
                           Recorder& recorder) { run(world, recorder, workload, in_the_middle); },
                       how, seed);
      ++workloads;
      if (HasFailure()) return;
    }
    cuts += explorer.cuts;
    states += explorer.states;
  }
  std::printf("%llu workloads, %llu cuts, %llu states of the disks\n",
              static_cast<unsigned long long>(workloads), static_cast<unsigned long long>(cuts),
              static_cast<unsigned long long>(states));
  EXPECT_GT(cuts, workloads);
}

INSTANTIATE_TEST_SUITE_P(First, PoolCrashTest, testing::Range(0, static_cast<int>(steps().size())));

}  // namespace
}  // namespace duet::pool
