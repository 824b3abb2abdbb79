// Volumes, snapshots, clones and files against copies in memory: random orders and changes,
// consistency points under way, power cuts, nearly full pools. A check after every recovery.
#include <cstdlib>

#include "pool/pool_test_world.h"

namespace duet::pool {
namespace {

using simulation::Random;

class RandomWorld {
 public:
  RandomWorld(std::uint64_t seed, const PoolTestBench::Options& options)
      : world_(options), random_(seed * 104729) {}

  void run(int steps) {
    world_.bench.start(epoch_);
    for (int i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) {
      step();
      world_.collect();
      if (!world_.bench.power.on()) recover();
    }
    if (testing::Test::HasFatalFailure()) return;
    world_.bench.power.cut_at(0);
    world_.wait();
    world_.verify();
    if (testing::Test::HasFatalFailure()) return;
    ASSERT_TRUE(world_.bench.flush()) << world_.bench.pool->health();
    check();
    recover();
    if (testing::Test::HasFatalFailure()) return;
    empty();
  }

  int recoveries = 0;
  int orders = 0;
  int full = 0;

 private:
  using Volumes = std::vector<VolumeId>;

  Volumes some(VolumeKind kind) {
    Volumes found;
    for (const auto& [id, copy] : world_.volumes) {
      if (copy.kind == kind && !world_.busy(id)) found.push_back(id);
    }
    return found;
  }
  std::optional<VolumeId> pick(const Volumes& from) {
    if (from.empty()) return {};
    return from[random_.below(from.size())];
  }
  // A file of a volume that is not a LUN.
  std::optional<FileKey> some_file() {
    auto volume = pick(some(VolumeKind::volume));
    if (!volume) return {};
    std::vector<InodeNumber> files;
    for (const auto& [number, copy] : world_.volumes.at(*volume).files) {
      const bool lun =
          *volume == first_volume &&
          std::ranges::any_of(world_.luns, [&](const auto& l) { return l.second == number; });
      if (!lun) files.push_back(number);
    }
    if (files.empty()) return {};
    return FileKey{*volume, files[random_.below(files.size())]};
  }
  std::optional<LunNumber> some_lun() {
    if (world_.luns.empty()) return {};
    return std::next(world_.luns.begin(),
                     static_cast<std::ptrdiff_t>(random_.below(world_.luns.size())))
        ->first;
  }
  void allowed(const Status& status) {
    if (status) return;
    const ErrorCode code = status.error().code;
    if (code == ErrorCode::no_space) ++full;
    if (!world_.bench.power.on()) return;
    ASSERT_TRUE(code == ErrorCode::busy || code == ErrorCode::no_space) << status.error().message;
    world_.bench.pool->start_consistency_point();
    if (code == ErrorCode::busy) world_.bench.scheduler.run_for(milliseconds(random_.below(30)));
  }
  std::uint64_t sectors(std::uint64_t max) { return (1 + random_.below(max)) * 512; }

  void step() {
    switch (random_.below(32)) {
      case 0:
        allowed(world_.create_lun(1 + random_.below(60)));
        break;
      case 1:
        if (auto lun = some_lun(); lun && random_.chance(1, 2)) allowed(world_.remove_lun(*lun));
        break;
      case 2:
      case 3:
      case 4:
      case 5:
        if (auto lun = some_lun()) {
          const std::uint64_t size = world_.bench.model.at(*lun).bytes.size();
          const std::uint64_t offset = random_.below(size / 512) * 512;
          const std::uint64_t length = std::min(size - offset, sectors(40));
          allowed(random_.chance(1, 5) ? world_.zero_lun(*lun, offset, length)
                                       : world_.write_lun(*lun, offset, length));
        }
        break;
      case 6:
      case 7:
        if (auto volume = pick(some(VolumeKind::volume))) allowed(world_.create_file(*volume));
        break;
      case 8:
        if (auto file = some_file(); file && random_.chance(1, 2)) {
          allowed(world_.remove_file(*file));
        }
        break;
      case 9:
        if (auto file = some_file()) {
          const auto& copy = *world_.volumes.at(file->volume).files.at(file->inode);
          allowed(world_.truncate(*file, random_.below(1 + copy.bytes.size() / block_size)));
        }
        break;
      case 10:
        if (auto file = some_file()) {
          const auto& copy = *world_.volumes.at(file->volume).files.at(file->inode);
          if (copy.bytes.size() >= block_size) {
            allowed(world_.change_block(*file, random_.below(copy.bytes.size() / block_size)));
          }
        }
        break;
      case 11:
        if (auto file = some_file()) {
          const auto& copy = *world_.volumes.at(file->volume).files.at(file->inode);
          if (copy.bytes.empty()) break;
          const std::uint64_t offset = random_.below(copy.bytes.size() / 512) * 512;
          allowed(
              world_.zero_file(*file, offset, std::min(copy.bytes.size() - offset, sectors(200))));
        }
        break;
      case 12:
      case 13:
      case 14:
      case 15:
      case 16:
      case 17:
        if (auto file = some_file()) {
          const std::uint64_t blocks = random_.chance(1, 10) ? PoolTestWorld::file_blocks_max : 20;
          allowed(world_.write_file(*file, random_.below(blocks * 8) * 512, sectors(60)));
        }
        break;
      case 18:
        if (volumes_ < 6) ordered([&] { world_.create_volume(); });
        break;
      case 19:
      case 20:
        if (auto volume = pick(some(VolumeKind::volume)); volume && world_.volumes.size() < 16) {
          ordered([&] { world_.create_snapshot(*volume); });
        }
        break;
      case 21:
        if (auto snapshot = pick(some(VolumeKind::snapshot))) {
          ordered([&] { world_.remove_snapshot(*snapshot); });
        }
        break;
      case 22:
        if (auto snapshot = pick(some(VolumeKind::snapshot));
            snapshot && world_.volumes.size() < 16) {
          ordered([&] { world_.create_clone(*snapshot); });
        }
        break;
      case 23:
        if (auto volume = pick(some(VolumeKind::volume)); volume && *volume != first_volume) {
          ordered([&] { world_.remove_volume(*volume); });
        }
        break;
      case 24:
        if (auto snapshot = pick(some(VolumeKind::snapshot))) {
          const VolumeId volume = world_.volumes.at(*snapshot).parent;
          // With LUNs it is restore_test.cc that knows what comes back.
          if (volume != first_volume && !world_.busy(volume))
            ordered([&] { world_.restore(volume, *snapshot); });
        }
        break;
      case 25:
      case 26:
        world_.bench.pool->start_consistency_point();
        break;
      case 27:
        world_.bench.scheduler.run_for(milliseconds(random_.below(40)));
        break;
      case 28:
        if (random_.chance(1, 8)) recover();
        break;
      case 29:
        if (random_.chance(1, 5)) world_.bench.power.cut_at(1 + random_.below(60));
        break;
      case 30:
        if (random_.chance(1, 10)) {
          world_.bench.power.cut_at(0);
          world_.wait();
          if (world_.bench.power.on()) world_.verify();
        }
        break;
      default:
        break;
    }
    for (std::uint64_t i = random_.below(4); i > 0; --i) world_.bench.scheduler.step();
  }
  template <class Make>
  void ordered(Make make) {
    ++orders;
    make();
    // Sometimes more of them in the same consistency point, sometimes other changes meanwhile.
    if (random_.chance(1, 3) && world_.bench.power.on())
      world_.bench.scheduler.run_for(milliseconds(20));
  }

  void recover() {
    ++recoveries;
    for (int attempt = 0; attempt < 3; ++attempt) {
      world_.crash();
      if (!world_.bench.power.on()) world_.bench.power.restore();
      epoch_ = epoch_.next();
      if (!world_.bench.open() || !world_.bench.activate(epoch_)) {
        ASSERT_FALSE(world_.bench.power.on());
        --attempt;
        continue;
      }
      world_.bench.replay();
      if (testing::Test::HasFatalFailure()) return;
      if (attempt == 2 || random_.chance(1, 2)) break;
      world_.bench.power.cut_at(1 + random_.below(30));
      world_.bench.pool->start_consistency_point();
      world_.bench.scheduler.run_for(milliseconds(random_.below(40)));
    }
    if (!world_.bench.power.on()) return recover();
    world_.bench.power.cut_at(0);
    world_.look_what_happened();
    if (testing::Test::HasFatalFailure()) return;
    world_.verify();
    if (testing::Test::HasFatalFailure()) return;
    check();
  }
  void check() { ASSERT_EQ(world_.bench.check(), ""); }

  // Everything can be taken away, and is there again.
  void empty() {
    for (const auto& [lun, inode] : std::map(world_.luns)) ASSERT_TRUE(world_.remove_lun(lun));
    for (const auto& [number, copy] : FileCopies(world_.volumes.at(first_volume).files)) {
      ASSERT_TRUE(world_.remove_file({first_volume, number}));
    }
    for (int round = 0; world_.volumes.size() > 1; ++round) {
      ASSERT_LT(round, 40);
      for (const VolumeId id : some(VolumeKind::snapshot)) world_.remove_snapshot(id);
      world_.wait();
      for (const VolumeId id : some(VolumeKind::volume)) {
        if (id != first_volume) world_.remove_volume(id);
      }
      world_.wait();
    }
    ASSERT_TRUE(world_.bench.flush());
    world_.bench.scheduler.run_for(seconds(5));
    world_.verify();
    check();
    // The root directory, tables, maps: a handful.
    EXPECT_LT(world_.bench.last_check.blocks, 40u);
  }

  PoolTestWorld world_;
  Random random_;
  Epoch epoch_{1};
  std::size_t volumes_ = 0;
};

class VolumeModelTest : public testing::TestWithParam<std::uint64_t> {};

TEST_P(VolumeModelTest, ImagesHoldWhatTheyShow) {
  PoolTestBench::Options options;
  const std::uint64_t seed = GetParam();
  options.seed = seed;
  options.disks = 3 + seed % 2;
  options.protection = static_cast<raid::Protection>(seed % 3);
  // Every third pool is small enough to be full all the time.
  options.disk_size = seed % 3 == 0 ? 3 << 20 : 16 << 20;
  options.read_cache = seed % 5 == 0 ? 0 : 128 << 10;
  options.dirty_limit = seed % 2 == 0 ? 512 << 10 : 4 << 20;
  RandomWorld run(seed, options);
  run.run(sanitized ? 400 : 1500);
  EXPECT_GT(run.orders, sanitized ? 10 : 50);
}

std::uint64_t seeds() {
  const char* more = std::getenv("DUET_POOL_SEEDS");
  return more == nullptr ? 24 : std::strtoull(more, nullptr, 10);
}
INSTANTIATE_TEST_SUITE_P(Seeds, VolumeModelTest, testing::Range<std::uint64_t>(1, 1 + seeds()));

}  // namespace
}  // namespace duet::pool
