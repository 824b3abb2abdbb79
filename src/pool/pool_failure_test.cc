// Disks that fail, and what crash and damage do to a pool without them: any one (dual parity: two)
// gone before, gone with the power, or failing at any of their writes, x power cut; and damage to
// any single block of a small pool: repaired, or told, and never returned.
#include <fmt/format.h>

#include "pool/pool_crash_workloads.h"

namespace duet::pool {
namespace {

// ---- failed and lost disks, x every cut ----

std::vector<CrashCase> failure_cases() {
  std::vector<CrashCase> cases;
  const auto single = [&](bool nvram, std::set<std::size_t> failed, std::set<std::size_t> lost) {
    cases.push_back({raid::Protection::single, 3, nvram, std::move(failed), std::move(lost)});
  };
  for (std::size_t i = 0; i < 3; ++i) {
    single(false, {i}, {});
    single(false, {}, {i});
    single(true, {}, {i});
  }
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      if (i != j) cases.push_back({raid::Protection::dual, 4, i < j, {i}, {j}});
      if (i >= j) continue;
      cases.push_back({raid::Protection::dual, 4, (i + j) % 2 == 0, {}, {i, j}});
      cases.push_back({raid::Protection::dual, 4, (i + j) % 2 != 0, {i, j}, {}});
    }
  }
  return cases;
}

class PoolWithoutDisksTest : public testing::TestWithParam<std::size_t> {};

TEST_P(PoolWithoutDisksTest, EveryCutOfEveryOperation) {
  const CrashCase about = failure_cases()[GetParam()];
  SCOPED_TRACE(about.name());
  CrashExplorer explorer(about, prepare_pool);
  // Every case sees every cut of some of the operations.
  for (std::size_t i = GetParam() % 2; i < steps().size() && !HasFailure(); i += 2) {
    SCOPED_TRACE(steps()[i].name);
    CrashExplorer::Options how;
    if (sanitized) how.stride = 23;
    how.first_cut = (i + GetParam()) % how.stride;
    explorer.explore(
        [&](PoolTestWorld& world, Recorder& recorder) {
          // The second of two points writes beside what the first has made.
          run_workload(world, recorder, {&steps()[i], steps().data()}, true);
        },
        how, i);
  }
  fmt::print("{}: {} cuts, {} states of the disks\n", about.name(), explorer.cuts, explorer.states);
  EXPECT_GT(explorer.states, steps().size());
}
INSTANTIATE_TEST_SUITE_P(Cases, PoolWithoutDisksTest,
                         testing::Range<std::size_t>(0, failure_cases().size()));

// ---- a disk that fails in the middle ----

class FailingDiskTest : public testing::TestWithParam<std::size_t> {};

TEST_P(FailingDiskTest, AtAnyWriteAndThePowerAfterIt) {
  const bool dual = GetParam() >= 3;
  const std::size_t disk = dual ? GetParam() - 3 : GetParam();
  // It is there again after the cut, with what it has missed; or it is not.
  std::uint64_t cuts = 0;
  for (const bool stays_away : {false, true}) {
    CrashCase about{
        dual ? raid::Protection::dual : raid::Protection::single, dual ? 4u : 3u, false, {}, {}};
    if (stays_away) about.lost.insert(disk);
    CrashExplorer explorer(about, prepare_pool);
    for (const std::size_t step : {0u, 13u}) {
      bool failed = true;
      for (std::uint64_t at = 1; failed && !HasFailure(); ++at) {
        SCOPED_TRACE(
            fmt::format("{}, {}, failing {} at {}", about.name(), steps()[step].name, disk, at));
        failed = false;
        CrashExplorer::Options how;
        how.stride = sanitized ? 41 : 7;
        how.first_cut = at % how.stride;
        explorer.explore(
            [&](PoolTestWorld& world, Recorder& recorder) {
              world.bench.media[disk]->fault = [&, left = at](simulation::DiskOperation operation,
                                                              auto, auto) mutable {
                if (left > 0 && operation != simulation::DiskOperation::read) --left;
                failed = failed || left == 0;
                return left == 0 ? std::optional(ErrorCode::disconnected) : std::nullopt;
              };
              run_workload(world, recorder, {&steps()[step], steps().data()}, true, seconds(8));
            },
            how, at);
      }
    }
    cuts += explorer.cuts;
    EXPECT_GT(explorer.states, sanitized ? 5u : 20u);
  }
  fmt::print("{} cuts\n", cuts);
}
INSTANTIATE_TEST_SUITE_P(Disks, FailingDiskTest, testing::Range<std::size_t>(0, 7));

// ---- damage ----

class DamageTest : public testing::TestWithParam<int> {
 protected:
  DamageTest() {
    PoolTestBench::Options o = options();
    PoolTestWorld world(o);
    world.bench.start();
    prepare_pool(world);
    EXPECT_TRUE(world.bench.flush());
    memory = world.memory();
    world.crash();
    for (auto& medium : world.bench.media) images.push_back(medium->image());
  }
  PoolTestBench::Options options() const {
    PoolTestBench::Options o;
    o.protection = static_cast<raid::Protection>(GetParam());
    o.disks = 2 + raid::parity_count(o.protection);
    o.disk_size = 6 << 20;
    return o;
  }
  // Some bits, all of it lost, or another block in its place.
  static std::vector<std::byte> damaged(const simulation::DiskImage& image, std::uint64_t offset,
                                        std::uint64_t kind) {
    std::vector<std::byte> bytes(block_size);
    image.read(offset, bytes);
    if (kind == 0) {
      bytes[offset / block_size * 37 % block_size] ^= std::byte{0x10};
    } else if (kind == 1) {
      std::ranges::fill(bytes, bytes[0] == std::byte{} ? std::byte{0xff} : std::byte{});
    } else {
      image.read(offset >= block_size ? offset - block_size : offset + block_size, bytes);
    }
    return bytes;
  }
  static bool in_use(const simulation::DiskImage& image, std::uint64_t offset) {
    std::vector<std::byte> bytes(block_size);
    image.read(offset, bytes);
    return std::ranges::any_of(bytes, [](std::byte b) { return b != std::byte{}; });
  }

  PoolTestWorld::Memory memory;
  std::vector<simulation::DiskImage> images;
};

// Every sector is read as it should be, or an error says that it cannot be.
void expect_right_or_told(PoolTestWorld& world, int& told) {
  for (const auto& [id, copy] : world.volumes) {
    for (const auto& [number, file] : copy.files) {
      for (std::size_t at = 0; at < file->bytes.size(); at += 16 * block_size) {
        const std::size_t size = std::min(file->bytes.size() - at, std::size_t{16} * block_size);
        std::optional<Result<std::vector<Slice>>> result;
        world.bench.pool->read_file({id, number}, at, size, [&](auto r) { result = std::move(r); });
        ASSERT_TRUE(world.bench.scheduler.run_until([&] { return result.has_value(); }));
        if (!*result) {
          EXPECT_EQ(result->error().code, ErrorCode::io_error) << result->error().message;
          ++told;
          continue;
        }
        const auto wrong = PoolTestBench::differs(**result, Bytes(file->bytes).subspan(at, size));
        ASSERT_FALSE(wrong) << copy.name << " inode " << number.value() << " at " << at + *wrong;
      }
    }
  }
}

TEST_P(DamageTest, OfAnySingleBlockIsRepairedOrTold) {
  const bool redundant = GetParam() != 0;
  int blocks = 0;
  int told = 0;
  int refused = 0;
  int repaired = 0;
  for (std::size_t disk = 0; disk < images.size(); ++disk) {
    // The data area begins at 8192; before it are labels, which others guard.
    for (std::uint64_t offset = 8192; offset < images[disk].size(); offset += block_size) {
      if (!in_use(images[disk], offset)) continue;
      ++blocks;
      for (std::uint64_t kind = 0; kind < 3; ++kind) {
        if (sanitized && (offset / block_size + kind) % 16 != 0) continue;
        SCOPED_TRACE(
            fmt::format("disk {}, block {}, damage {}", disk, (offset - 8192) / block_size, kind));
        PoolTestBench::Options o = options();
        o.images = images;
        o.images[disk].write(offset, damaged(images[disk], offset, kind));
        PoolTestWorld world(o);
        world.recall(memory);
        const Status opened = world.bench.open();
        int here = 0;
        if (!opened) {
          ASSERT_FALSE(redundant) << opened.error().message;
          ++refused;
        } else {
          expect_right_or_told(world, here);
          told += here;
          EXPECT_TRUE(here == 0 || !redundant);
        }
        if (opened && redundant) {
          world.verify();
          // What a check meets it repairs: the next one finds nothing.
          const std::string found = world.bench.check({0, true, true, nullptr});
          repaired += found.empty() ? 0 : 1;
          EXPECT_EQ(world.bench.check({0, true, true, nullptr}), "") << "before: " << found;
        } else if (opened && here > 0) {
          EXPECT_NE(world.bench.check({0, true, true, nullptr}), "");
        }
        world.exchange(memory);
        if (HasFailure()) return;
      }
    }
  }
  fmt::print("{} blocks, {} reads refused, {} pools not opened, {} parities mended\n", blocks, told,
             refused, repaired);
  EXPECT_GT(blocks, 40);
  EXPECT_EQ(redundant, told == 0);
}

INSTANTIATE_TEST_SUITE_P(Protections, DamageTest, testing::Range(0, 3));

}  // namespace
}  // namespace duet::pool
