// The array against a map: random consistency points, reads, frees, failures, damage, power cuts,
// disks that go and come back, spares. Whatever happens within the redundancy, every live block
// reads right.
#include "raid/array_fixture.h"
#include "simulation/random.h"

namespace duet::raid {
namespace {

constexpr std::uint64_t row_count = 60;
constexpr std::uint64_t blocks_per_seed = 12'000;

class Model {
 public:
  Model(std::uint32_t data, Protection protection, std::uint64_t seed)
      : data_(data),
        parity_(parity_count(protection)),
        random_(seed),
        pool_(data, protection, row_count, 1, seed) {
    const Nvram kinds[] = {Nvram::absent, Nvram::takes, Nvram::refuses};
    pool_.nvram = kinds[seed % 3];
    pool_.automatic_spares = seed % 2 == 0;
    pool_.create();
  }

  std::uint64_t run(std::uint64_t blocks) {
    while (blocks_ < blocks && !testing::Test::HasFailure()) step();
    return blocks_;
  }

 private:
  void step() {
    switch (random_.below(16)) {
      case 0:
        return power_cut();
      case 1:
        return damage();
      case 2:
        return lose_disk();
      case 3:
        return mend();
      case 4:
        return blink();
      case 5:
        return pool_.scheduler.run_for(milliseconds(random_.below(3000)));
      case 6:
      case 7:
        return check();
      case 8:
        return free_some();
      default:
        return consistency_point();
    }
  }

  std::vector<BlockAddress> choose() {
    std::vector<BlockAddress> chosen;
    std::set<BlockAddress> seen;
    const auto take = [&](std::uint32_t member, std::uint64_t row) {
      const BlockAddress address = pool_.at(member, row);
      const bool free = !pool_.committed.contains(address) && !pool_.pending.contains(address);
      if (free && seen.insert(address).second) chosen.push_back(address);
    };
    for (std::uint64_t i = random_.below(4); i > 0; --i) {  // whole stripes
      const std::uint64_t first = random_.below(row_count);
      for (std::uint64_t row = first; row < std::min(first + 6, row_count); ++row) {
        for (std::uint32_t member = 0; member < data_; ++member) take(member, row);
      }
    }
    for (std::uint64_t i = random_.below(12); i > 0; --i) {
      take(static_cast<std::uint32_t>(random_.below(data_)), random_.below(row_count));
    }
    return chosen;
  }

  void consistency_point() {
    for (std::uint64_t calls = random_.below(4); calls > 0; --calls) {
      const auto blocks = choose();
      if (blocks.empty()) continue;
      blocks_ += blocks.size();
      EXPECT_TRUE(pool_.write(blocks)) << state();
      if (random_.chance(1, 4)) EXPECT_TRUE(pool_.flush()) << state();
    }
    commit();
  }
  void commit() {
    const auto status = pool_.commit();
    EXPECT_TRUE(status) << status.error().message << state();
  }
  void free_some() {
    for (const auto& [address, content] : pool_.committed) {
      if (random_.chance(1, 3)) pool_.freed.insert(address);
    }
    commit();
  }

  void power_cut() {
    pool_.power.cut_at(1 + random_.below(40));
    for (int i = 0; i < 5 && pool_.power.on(); ++i) {
      const auto blocks = choose();
      blocks_ += blocks.size();
      (void)pool_.write(blocks);
      if (pool_.power.on() && random_.chance(1, 2)) (void)pool_.flush();
      if (pool_.power.on() && random_.chance(1, 3)) (void)pool_.commit();
    }
    pool_.power.cut();
    pool_.power.restore();
    // One more disk is lost with the power, now and then.
    if (random_.chance(1, 3) && spare_room() > 0) lose_one();
    pool_.boot();
    if (random_.chance(1, 3)) {
      pool_.power.cut_at(1 + random_.below(10));
      (void)pool_.recover();
      pool_.power.cut();
      pool_.power.restore();
      pool_.boot();
    }
    const auto status = pool_.recover();
    EXPECT_TRUE(status) << status.error().message << state();
    check();
  }

  // How many members more may go: neither the layout in force nor the one on the disks may lack
  // more than the protection bears.
  std::uint32_t spare_room() const {
    std::uint32_t out = 0;
    const Layout& now = pool_.array->layout();
    for (std::uint32_t i = 0; i < now.members.size(); ++i) {
      const auto in = [&](const Member& member) {
        return member.state == MemberState::in_sync &&
               !pool_.absent.contains(member.disk.bytes[0] - 1u);
      };
      if (!in(now.members[i]) || !in(pool_.layout.members[i])) ++out;
    }
    return out < parity_ ? parity_ - out : 0;
  }
  std::uint32_t any_member() { return static_cast<std::uint32_t>(random_.below(data_ + parity_)); }

  // Of one block at a time, and repaired before the next. With members missing, parity cannot be
  // compared: then only blocks that are read.
  void damage() {
    const std::uint32_t member = any_member();
    const std::uint64_t row = random_.below(row_count);
    const bool live = pool_.committed.contains(pool_.at(member, row));
    // A rebuild takes blocks as they are; their checksums are known to the owner only.
    if (pool_.array->rebuild_progress().running) return;
    if (spare_room() == 0 || (spare_room() < parity_ && !live)) return;
    const Member& now = pool_.array->layout().members[member];
    if (now.state != MemberState::in_sync || pool_.absent.contains(now.disk.bytes[0] - 1u)) return;
    pool_.damage(member, row);
    check();
    EXPECT_TRUE(pool_.wait([&](ports::Done<void> done) {
      pool_.array->scrub(
          0, [done = std::move(done)](const Result<std::uint64_t>&) mutable { done({}); });
    }));
    EXPECT_TRUE(pool_.flush());
  }

  void lose_one() {
    const std::uint32_t member = any_member();
    pool_.absent.insert(pool_.array->layout().members[member].disk.bytes[0] - 1u);
  }
  void lose_disk() {
    if (spare_room() == 0) return;
    const std::uint32_t member = any_member();
    const std::size_t number = pool_.array->layout().members[member].disk.bytes[0] - 1u;
    if (pool_.absent.contains(number)) return;
    if (random_.chance(1, 2)) {
      EXPECT_TRUE(pool_.array->fail_member(member)) << state();
    } else {
      pool_.paths[number]->disconnect();
      pool_.absent.insert(number);
    }
  }
  // Disks come back, and take a place that is free.
  void mend() {
    for (const std::size_t number : pool_.absent) {
      pool_.paths[number]->reconnect();
      pool_.array->disk_returned(pool_.disk(number));
    }
    pool_.absent.clear();
    const Layout layout = pool_.array->layout();
    for (std::uint32_t i = 0; i < layout.members.size(); ++i) {
      const Member& member = layout.members[i];
      if (member.state != MemberState::failed) continue;
      const DiskId disk = layout.spares.empty() ? member.disk : layout.spares.front();
      (void)pool_.array->replace_member(i, disk);
      break;
    }
    // A disk that no one uses any more is a spare.
    for (std::size_t i = 0; i < pool_.media.size(); ++i) {
      const Layout& now = pool_.array->layout();
      const DiskId id = pool_.disk(i).id;
      const bool used = std::ranges::any_of(now.members, [&](auto& m) { return m.disk == id; }) ||
                        std::ranges::find(now.spares, id) != now.spares.end();
      if (!used) EXPECT_TRUE(pool_.array->add_spare(pool_.disk(i)));
    }
    if (random_.chance(1, 2)) {
      EXPECT_TRUE(pool_.scheduler.run_until(
          [&] { return !pool_.array->rebuild_progress().running; }, seconds(600)))
          << state();
      commit();
    }
  }
  // A path is away for a moment while a consistency point runs.
  void blink() {
    const std::size_t number = pool_.array->layout().members[any_member()].disk.bytes[0] - 1u;
    if (pool_.absent.contains(number)) return;
    pool_.paths[number]->disconnect();
    pool_.scheduler.at(pool_.scheduler.now() + milliseconds(random_.below(1000)),
                       [path = pool_.paths[number].get(), boot = pool_.boots, this] {
                         if (boot == pool_.boots) path->reconnect();
                       });
    consistency_point();
    pool_.scheduler.run_for(seconds(1));
    pool_.paths[number]->reconnect();
  }

  void check() {
    blocks_ += pool_.committed.size();
    const auto status = pool_.check_all();
    EXPECT_TRUE(status) << status.error().message << state();
  }

  std::string state() const {
    std::string text = "\n";
    for (const Member& member : pool_.array->layout().members) {
      text += std::to_string(static_cast<int>(member.state));
      text += pool_.absent.contains(member.disk.bytes[0] - 1u) ? "- " : " ";
    }
    const std::size_t from = pool_.events.size() > 12 ? pool_.events.size() - 12 : 0;
    for (std::size_t i = from; i < pool_.events.size(); ++i) text += "\n" + pool_.events[i];
    return text + "\n";
  }

  std::uint32_t data_;
  std::uint32_t parity_;
  simulation::Random random_;
  Pool pool_;
  std::uint64_t blocks_ = 0;
};

struct Shape {
  std::uint32_t data;
  Protection protection;
};
constexpr Shape shapes[] = {{1, Protection::single}, {3, Protection::single},
                            {4, Protection::dual},   {1, Protection::dual},
                            {6, Protection::single}, {3, Protection::dual}};

class ArrayModel : public testing::TestWithParam<std::uint64_t> {};

TEST_P(ArrayModel, EveryLiveBlockReadsRight) {
  const Shape& shape = shapes[GetParam() % std::size(shapes)];
  Model model(shape.data, shape.protection, GetParam());
  EXPECT_GE(model.run(blocks_per_seed), blocks_per_seed);
}

// 18 seeds of 12,000 blocks written and read.
INSTANTIATE_TEST_SUITE_P(Seeds, ArrayModel, testing::Range<std::uint64_t>(1, 19));

}  // namespace
}  // namespace duet::raid
