// Every workload of one and two operations against power cuts: at every write of the disks (torn
// and reordered), and a second one on the way up; then a check, and a comparison. By default some
// cuts of each workload, chosen by its number; DUET_POOL_CRASHES=all takes all of them.
#include <cstdlib>

#include "pool/pool_test_world.h"

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

class PoolCrashTest : public testing::TestWithParam<int> {
 protected:
  // What every workload finds: LUNs and files with data, snapshots of both volumes, changes since.
  static void prepare(PoolTestWorld& world) {
    world.bench.start();
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
    ASSERT_TRUE(world.bench.flush());
  }
  // The workload, cut at a write; then up again, perhaps cut once more. False: it was not cut.
  static bool run(const std::vector<const Step*>& workload, std::uint64_t cut, int kind) {
    PoolTestBench::Options options;
    options.protection = static_cast<raid::Protection>(kind % 3);
    options.disks = 2 + static_cast<std::size_t>(kind % 3 == 2);
    options.disk_size = 6 << 20;
    options.seed = cut * 1009 + static_cast<std::uint64_t>(kind);
    PoolTestWorld world(options);
    prepare(world);
    if (HasFatalFailure()) return false;
    world.bench.power.cut_at(cut);
    for (const Step* step : workload) {
      if (!world.bench.power.on()) break;
      const bool orders = world.has_orders();
      Status status = step->make(world);
      // What the first step has removed is missing to the second.
      EXPECT_TRUE(status || orders || !world.bench.power.on() ||
                  status.error().code == ErrorCode::not_found)
          << step->name << ": " << status.error().message;
    }
    world.bench.pool->start_consistency_point();
    world.bench.scheduler.run_for(milliseconds(200));
    const bool was_cut = !world.bench.power.on();
    Epoch epoch(2);
    up(world, epoch);
    if (HasFatalFailure()) return was_cut;
    // Again, in the point after the replay or on the way up from it.
    world.bench.power.cut_at(1 + cut % 11);
    world.bench.pool->start_consistency_point();
    world.bench.scheduler.run_for(milliseconds(100));
    up(world, epoch);
    return was_cut;
  }
  static void up(PoolTestWorld& world, Epoch& epoch) {
    world.crash();
    world.bench.power.restore();
    world.bench.power.cut_at(0);
    epoch = epoch.next();
    world.bench.start(epoch);
    if (HasFatalFailure()) return;
    world.look_what_happened();
    if (HasFatalFailure()) return;
    world.verify();
    if (HasFatalFailure()) return;
    ASSERT_EQ(world.bench.check(), "");
  }
};

TEST_P(PoolCrashTest, WhateverWasCutIsThereOrIsNot) {
  const char* wish = std::getenv("DUET_POOL_CRASHES");
  const bool all = wish != nullptr && std::string(wish) == "all";
  const auto first = static_cast<std::size_t>(GetParam());
  std::uint64_t cuts = 0;
  for (std::size_t second = 0; second <= steps().size(); ++second) {  // the last: none
    for (int kind = 0; kind < 3; ++kind) {
      std::vector<const Step*> workload{&steps()[first]};
      if (second < steps().size()) workload.push_back(&steps()[second]);
      const std::uint64_t stride = all ? 1 : sanitized ? 67 : 17;
      std::uint64_t cut =
          all ? 1 : 1 + (first * 7 + second * 3 + static_cast<std::uint64_t>(kind)) % stride;
      for (bool more = true; more; cut += stride) {
        std::string trace = "kind " + std::to_string(kind) + ", cut " + std::to_string(cut) + ":";
        for (const Step* step : workload) trace += std::string(" ") + step->name;
        SCOPED_TRACE(trace);
        more = run(workload, cut, kind);
        ++cuts;
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_GT(cuts, 3 * steps().size());
}

INSTANTIATE_TEST_SUITE_P(First, PoolCrashTest, testing::Range(0, static_cast<int>(steps().size())));

}  // namespace
}  // namespace duet::pool
