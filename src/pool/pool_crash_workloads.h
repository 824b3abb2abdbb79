// For tests: what crash tests do to a pool, in steps that make workloads.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "pool/pool_crash_bench.h"

namespace duet::pool {

struct Step {
  const char* name;
  std::function<Status(PoolTestWorld&)> make;
};

inline VolumeId named(PoolTestWorld& world, VolumeKind kind, bool last) {
  VolumeId found;
  for (const auto& [id, copy] : world.volumes) {
    if (copy.kind == kind && id != first_volume && (last || found == VolumeId{})) found = id;
  }
  return found;
}
// Files are of the second volume, if there is one.
inline FileKey some_file(PoolTestWorld& world) {
  const VolumeId volume = named(world, VolumeKind::volume, false);
  const auto& files = world.volumes.at(volume).files;
  return {volume, files.empty() ? no_inode : files.begin()->first};
}

inline const std::vector<Step>& steps() {
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
      {"limits",
       [](W& w) {
         w.set_limits(named(w, VolumeKind::volume, false), 64 << 20);
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
inline void prepare_pool(PoolTestWorld& world) {
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

inline void run_workload(PoolTestWorld& world, Recorder& recorder,
                         const std::vector<const Step*>& workload, bool in_the_middle,
                         Duration time = milliseconds(300)) {
  for (std::size_t i = 0; i < workload.size(); ++i) {
    const bool orders = world.has_orders();
    recorder.step([&] {
      const Status status = workload[i]->make(world);
      // What the first step has removed is missing to the second; what goes back is held.
      EXPECT_TRUE(status || orders || status.error().code == ErrorCode::not_found ||
                  status.error().code == ErrorCode::busy)
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
  world.bench.scheduler.run_for(time);
}

}  // namespace duet::pool
