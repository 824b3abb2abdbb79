// A pool against a model: random changes and reads, consistency points under way, disk
// errors, crashes of the engine and power cuts at any write, replay, crashes during the replay. And
// every crash point of a small workload, with the log and without.
#include <fmt/format.h>

#include <list>
#include <set>

#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

using simulation::Random;

// A read under way: right if every sector is one the LUN had since it was asked for.
struct PendingRead {
  LunNumber lun;
  std::uint64_t offset;
  std::vector<std::vector<std::byte>> seen;  // contents of the range, the first as of the start
  std::optional<Result<std::vector<Slice>>> result;
};

class RandomRun {
 public:
  RandomRun(std::uint64_t seed, PoolTestBench::Options options)
      : bench_(with_seed(options, seed)), random_(seed * 7919) {}

  void run(std::uint64_t wanted) {
    bench_.start(epoch_);
    while (operations < wanted && !testing::Test::HasFatalFailure()) {
      step();
      if (!bench_.power.on()) recover();
    }
    settle();
    if (lost_) bring_back();
    bench_.verify();
    ASSERT_TRUE(bench_.flush()) << bench_.pool->health();
    recover();
    bench_.verify();
    ASSERT_EQ(bench_.check(), "");
  }

 private:
  static PoolTestBench::Options with_seed(PoolTestBench::Options options, std::uint64_t seed) {
    options.seed = seed;
    return options;
  }

  void step() {
    ++operations;
    switch (random_.below(40)) {
      case 0:
        create();
        break;
      case 1:
        if (random_.chance(1, 3)) remove();
        break;
      case 2:
        reservations();
        break;
      case 3:
      case 4:
        zero();
        break;
      case 5:
      case 6:
      case 7:
        bench_.pool->start_consistency_point();
        break;
      case 8:
      case 9:
      case 10:
      case 11:
        read();
        break;
      case 12:
        bench_.scheduler.run_for(milliseconds(random_.below(20)));
        break;
      case 13:
        if (random_.chance(1, 10)) recover();
        break;
      case 14:
        if (random_.chance(1, 5)) bench_.power.cut_at(1 + random_.below(40));
        break;
      case 15:
        toggle_errors();
        if (random_.chance(1, 4)) lose_or_bring_back();
        break;
      case 16:
      case 17:
      case 18:
      case 19:
      case 20:
      case 21:
        read();
        break;
      default:
        write();
        break;
    }
    for (std::uint64_t i = random_.below(4); i > 0; --i) bench_.scheduler.step();
    check_reads();
  }

  std::optional<LunNumber> some_lun() {
    if (bench_.model.empty()) return {};
    auto it = bench_.model.begin();
    std::advance(it, random_.below(bench_.model.size()));
    return it->first;
  }
  // A range of sectors, often at block or chunk borders.
  std::pair<std::uint64_t, std::uint64_t> some_range(std::uint64_t size, std::uint64_t length_max) {
    const std::uint64_t units[] = {512, 512, 4096, 8192};
    std::uint64_t unit = units[random_.below(4)];
    std::uint64_t offset = random_.below(size / unit + (size % unit != 0)) * unit;
    std::uint64_t max = std::min(length_max, size - offset);
    std::uint64_t length = std::min(max, (1 + random_.below(1 + max / unit)) * unit);
    return {offset, length};
  }
  void changed(Status status, LunNumber lun) {
    if (!status) {
      ASSERT_TRUE(status.error().code == ErrorCode::busy ||
                  status.error().code == ErrorCode::no_space)
          << status.error().message;
      bench_.pool->start_consistency_point();
      return;
    }
    for (PendingRead& read : reads_) {
      if (read.lun == lun && !read.result)
        read.seen.push_back(content(read.lun, read.offset, read.seen[0].size()));
    }
  }
  std::vector<std::byte> content(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    auto found = bench_.model.find(lun);
    if (found == bench_.model.end() || offset + size > found->second.bytes.size())
      return std::vector<std::byte>(size);
    auto begin = found->second.bytes.begin() + static_cast<std::ptrdiff_t>(offset);
    return {begin, begin + static_cast<std::ptrdiff_t>(size)};
  }

  void create() {
    std::uint64_t size = (1 + random_.below(400)) * 4096;
    auto made = bench_.create("lun" + std::to_string(++names_), size);
    if (!made) {
      ASSERT_TRUE(made.error().code == ErrorCode::no_space || made.error().code == ErrorCode::busy)
          << made.error().message;
    }
  }
  void remove() {
    if (auto lun = some_lun()) changed(bench_.remove(*lun), *lun);
  }
  void reservations() {
    auto lun = some_lun();
    if (!lun) return;
    std::vector<std::byte> state(random_.below(100), static_cast<std::byte>(random_.next()));
    changed(bench_.submit(encode(ReservationsRecord{*lun, state})), *lun);
  }
  void zero() {
    auto lun = some_lun();
    if (!lun) return;
    auto [offset, length] = some_range(bench_.model[*lun].bytes.size(), 300 << 10);
    changed(bench_.zero(*lun, offset, length), *lun);
  }
  void write() {
    auto lun = some_lun();
    if (!lun) return;
    auto [offset, length] =
        some_range(bench_.model[*lun].bytes.size(), random_.chance(1, 8) ? 200 << 10 : 10 << 10);
    changed(bench_.write(*lun, offset, length), *lun);
  }
  void read() {
    auto lun = some_lun();
    if (!lun) return;
    auto [offset, length] =
        some_range(bench_.model[*lun].bytes.size(), random_.chance(1, 8) ? 200 << 10 : 10 << 10);
    PendingRead& read = reads_.emplace_back(*lun, offset);
    read.seen.push_back(content(*lun, offset, length));
    bench_.pool->read(*lun, offset, length,
                      [&read](auto result) { read.result = std::move(result); });
  }
  void toggle_errors() {
    for (auto& medium : bench_.media) {
      medium->fault = nullptr;
      if (random_.chance(1, 3)) {
        medium->fault = [this](auto, auto, auto) {
          return random_.chance(1, 20) ? std::optional(ErrorCode::io_error) : std::nullopt;
        };
      }
    }
  }
  bool bears_loss(const raid::Layout& layout, std::size_t disk) {
    std::uint32_t out = 1;
    for (const raid::Member& member : layout.members) {
      if (member.disk != bench_.disk(disk).id && member.state != raid::MemberState::in_sync) ++out;
    }
    return out <= raid::parity_count(bench_.options().protection);
  }
  // A member of a group that bears it goes, or comes back; a power cut may be in between.
  void lose_or_bring_back() {
    if (lost_) return bring_back();
    if (bench_.options().protection == raid::Protection::none || !bench_.power.on()) return;
    const std::size_t disk = random_.below(bench_.media.size());
    if (!bears_loss(bench_.pool->array()->layout(), disk)) return;
    // And by what the next one to open finds on the disks.
    for (std::size_t i = 0; i < bench_.media.size(); ++i) {
      for (std::uint32_t slot = 0; slot < superblock_slots; ++slot) {
        const auto found = decode_superblock(bench_.media[i]->peek(
            8192 + std::uint64_t{slot} * superblock_size_max, superblock_size_max));
        if (found && !bears_loss(found->layout, disk)) return;
      }
    }
    ++losses;
    lost_ = disk;
    bench_.lose(disk);
  }
  void bring_back() { bench_.bring_back(*std::exchange(lost_, std::nullopt)); }
  void no_errors() {
    for (auto& medium : bench_.media) medium->fault = nullptr;
  }

  void check_reads() {
    for (auto it = reads_.begin(); it != reads_.end();) {
      if (!it->result) {
        ++it;
        continue;
      }
      check_read(*it);
      it = reads_.erase(it);
    }
  }
  void check_read(const PendingRead& read) {
    const auto& result = *read.result;
    if (!result) return;  // an injected error, a deleted LUN, a crash
    auto bytes = PoolTestBench::join(*result);
    ASSERT_EQ(bytes.size(), read.seen[0].size());
    ++reads_checked;
    for (std::size_t at = 0; at < bytes.size(); at += sector_size) {
      Bytes sector = Bytes(bytes).subspan(at, sector_size);
      bool right = std::ranges::any_of(read.seen, [&](const std::vector<std::byte>& seen) {
        return std::ranges::equal(Bytes(seen).subspan(at, sector_size), sector);
      });
      ASSERT_TRUE(right) << "LUN " << read.lun.value() << " at " << read.offset + at;
    }
  }

  // The engine dies, perhaps with the power; the next one replays the log, and may die of it as
  // well.
  void recover() {
    ++recoveries;
    for (int attempt = 0; attempt < 3; ++attempt) {
      bench_.free_log();
      bench_.crash();
      if (!bench_.power.on()) bench_.power.restore();
      if (lost_ && random_.chance(1, 8)) bring_back();
      no_errors();
      bench_.scheduler.run_all();
      check_reads();
      epoch_ = epoch_.next();
      Status up = bench_.open();
      // Before the journal is applied a stripe may be torn, and lack a disk: the way up is open.
      if (up || bench_.power.on()) up = bench_.activate(epoch_);
      if (!up) {  // the power failed on the way up
        ASSERT_FALSE(bench_.power.on()) << up.error().message;
        ++failed_starts;
        --attempt;
        continue;
      }
      bench_.replay();
      if (testing::Test::HasFatalFailure()) return;
      if (attempt == 2 || random_.chance(1, 2)) break;
      bench_.power.cut_at(1 + random_.below(20));
      bench_.pool->start_consistency_point();
      bench_.scheduler.run_for(milliseconds(random_.below(40)));
    }
    if (!bench_.power.on()) return recover();
    bench_.power.cut_at(0);
    bench_.verify();
    ASSERT_EQ(bench_.check(), "");
  }
  void settle() {
    bench_.power.cut_at(0);
    no_errors();
    // Not until nothing is left to do: members that are away are looked for forever.
    ASSERT_TRUE(bench_.scheduler.run_until([&] {
      return std::ranges::all_of(reads_, [](const PendingRead& r) { return r.result.has_value(); });
    }));
    check_reads();
    ASSERT_TRUE(reads_.empty());
  }

 public:
  int reads_checked = 0;
  int recoveries = 0;
  int failed_starts = 0;
  int losses = 0;
  std::uint64_t operations = 0;

 private:
  PoolTestBench bench_;
  Random random_;
  Epoch epoch_{1};
  int names_ = 0;
  std::list<PendingRead> reads_;
  std::optional<std::size_t> lost_;
};

std::uint64_t run_model(std::uint64_t seed, std::uint64_t operations) {
  PoolTestBench::Options options;
  options.disks = 3 + seed % 3;
  options.protection = static_cast<raid::Protection>(seed % 3);
  options.disk_size = seed % 4 == 0 ? 24 << 20 : 12 << 20;
  options.read_cache = seed % 5 == 0 ? 0 : 128 << 10;
  options.dirty_limit = seed % 2 == 0 ? 1 << 20 : 4 << 20;
  options.volatile_cache = seed % 7 != 0;
  options.nvram = seed % 8 < 2;
  RandomRun run(seed, options);
  run.run(operations);
  EXPECT_GT(run.reads_checked, static_cast<int>(operations / 60));
  EXPECT_GT(run.recoveries, sanitized ? 0 : 3);
  if (options.protection != raid::Protection::none) {
    EXPECT_GT(run.losses, sanitized ? -1 : 2);
  }
  return run.operations;
}

class PoolModelTest : public testing::TestWithParam<std::uint64_t> {};

TEST_P(PoolModelTest, HoldsWhatWasApplied) {
  fmt::print("{} operations\n", run_model(GetParam(), model_operations));
}
INSTANTIATE_TEST_SUITE_P(Seeds, PoolModelTest, testing::Range<std::uint64_t>(1, 33));

TEST(LongPoolModelTest, OtherSeedsAsLongAsIsWished) {
  const std::uint64_t all = run_for_model_minutes(run_model);
  if (all == 0) GTEST_SKIP() << "DUET_MODEL_MINUTES says for how long";
  fmt::print("{} operations\n", all);
}

// ---- every crash point ----

// A workload of three consistency points: new chunks, overwritten chunks, zeroing, deletion,
// creation.
void small_workload(PoolTestBench& bench) {
  auto lun = bench.create("a", 1 << 20);
  ASSERT_TRUE(lun);
  ASSERT_TRUE(bench.write(*lun, 0, 16 << 10));
  ASSERT_TRUE(bench.write(*lun, 700 << 10, 4096));
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.write(*lun, 2048, 16 << 10));
  auto other = bench.create("b", 512 << 10);
  ASSERT_TRUE(other);
  ASSERT_TRUE(bench.write(*other, 8192, 80 << 10));
  bench.pool->start_consistency_point();
  bench.scheduler.run_for(milliseconds(20));
  if (!bench.power.on()) return;
  ASSERT_TRUE(bench.zero(*lun, 4096, 12 << 10));
  ASSERT_TRUE(bench.write(*lun, 5120, 512));
  ASSERT_TRUE(bench.submit(encode(ReservationsRecord{*lun, {std::byte{1}}})));
  ASSERT_TRUE(bench.remove(*other));
  bench.pool->start_consistency_point();
  ASSERT_TRUE(bench.write(*lun, 3072, 8192));
  auto third = bench.create("c", 512 << 10);
  ASSERT_TRUE(third);
  ASSERT_TRUE(bench.write(*third, 0, 4096));
  bench.scheduler.run_for(milliseconds(20));
  if (!bench.power.on()) return;
  bench.flush();
}

// Without the log: metadata exactly as of the superblock, each sector as of it or of a later
// record.
void verify_without_log(PoolTestBench& bench) {
  std::vector<Model> states(1);
  for (const auto& [position, record] : bench.log) {
    if (position.sequence > bench.pool->position().sequence) states.push_back(states.back());
    PoolTestBench::apply_to(states.back(), record);
  }
  auto luns = bench.pool->luns();
  ASSERT_EQ(luns.size(), states[0].size());
  for (const LunInfo& info : luns) {
    const ModelLun& base = states[0].at(info.number);
    ASSERT_EQ(info.name, base.name);
    ASSERT_EQ(info.reservations, base.reservations);
    auto bytes = bench.read(info.number, 0, info.size);
    ASSERT_TRUE(bytes) << bytes.error().message;
    for (std::size_t at = 0; at < bytes->size(); at += sector_size) {
      bool right = std::ranges::any_of(states, [&](const Model& state) {
        auto found = state.find(info.number);
        if (found == state.end() || found->second.name != info.name) return false;
        return std::ranges::equal(Bytes(found->second.bytes).subspan(at, sector_size),
                                  Bytes(*bytes).subspan(at, sector_size));
      });
      ASSERT_TRUE(right) << "LUN " << info.name << " at " << at;
    }
  }
}

class CrashPointTest : public testing::TestWithParam<std::uint64_t> {};

TEST_P(CrashPointTest, EveryWriteOfASmallWorkload) {
  std::set<std::uint64_t> positions;
  std::uint64_t point = 1;
  for (bool cut = true; cut; ++point) {
    SCOPED_TRACE("power cut at operation " + std::to_string(point));
    PoolTestBench::Options options;
    options.disks = 2;
    options.seed = GetParam() * 1000 + point;
    PoolTestBench bench(options);
    bench.start();
    bench.power.cut_at(point);
    small_workload(bench);
    cut = !bench.power.on();
    // Perhaps the engine only: then nothing tears, but writes under way may land or not.
    bench.crash();
    bench.power.restore();
    ASSERT_TRUE(bench.open());
    ASSERT_GE(bench.pool->position().sequence, bench.contained);  // C3
    positions.insert(bench.pool->position().sequence.value());
    verify_without_log(bench);
    if (HasFatalFailure()) return;
    ASSERT_EQ(bench.check(), "");
    ASSERT_TRUE(bench.activate(Epoch(2)));
    bench.replay();
    bench.verify();
    if (HasFatalFailure()) return;
    // Dies again in the consistency point after the replay.
    bench.power.cut_at(1 + point % 7);
    bench.pool->start_consistency_point();
    bench.scheduler.run_for(milliseconds(30));
    bench.crash();
    bench.power.restore();
    bench.start(Epoch(3));
    bench.verify();
    ASSERT_TRUE(bench.flush());
    bench.crash();
    ASSERT_TRUE(bench.open());
    bench.verify();
    ASSERT_EQ(bench.check(), "");
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(point, 25u);
  EXPECT_GE(positions.size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, CrashPointTest, testing::Range<std::uint64_t>(1, 9));

}  // namespace
}  // namespace duet::pool
