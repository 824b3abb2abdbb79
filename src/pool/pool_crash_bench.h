// For tests: runs a workload once, and makes of it every state in which a power cut may leave disks
// and log; brings the pool up from each, twice, and compares.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "pool/pool_test_world.h"
#include "simulation/disk_trace.h"

namespace duet::pool {

// What somebody knows of a pool whose power may fail at any moment of the trace.
class Recorder {
 public:
  explicit Recorder(PoolTestWorld& world) : world_(world), trace(world.bench.media) {
    note();
    world.bench.on_progress = [this] { note(); };
    world.on_answer = [this](int order, bool done) { answers_[order] = {trace.size(), done}; };
  }
  ~Recorder() { stop(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  void stop() {
    trace.stop();
    world_.bench.on_progress = nullptr;
    world_.on_answer = nullptr;
  }

  // Runs a step: what the world knows after it counts from when the step reached the log, or, if it
  // does not, from its beginning.
  void step(const std::function<void()>& make) {
    const std::size_t begin = trace.size();
    const std::size_t logged = world_.bench.log.size();
    make();
    remember();
    memories_.back().first = begin;
    for (const Progress& p : progress_) {
      if (p.log > logged) {
        memories_.back().first = p.moment;
        break;
      }
    }
  }
  void remember() { memories_.emplace_back(trace.size(), world_.memory()); }

  // As of a moment.
  PoolTestWorld::Memory& memory(std::size_t moment) {
    auto after = std::ranges::find_if(memories_, [&](auto& m) { return m.first > moment; });
    PoolTestWorld::Memory& memory = std::prev(after)->second;
    recall_progress(moment, memory);
    for (auto& order : memory.orders) {
      auto answer = answers_.find(order.number);
      order.required =
          answer != answers_.end() && answer->second.first <= moment && answer->second.second;
    }
    return memory;
  }
  void recall_progress(std::size_t moment, PoolTestWorld::Memory& memory) const {
    const auto later = std::ranges::find_if(progress_, [&](auto& p) { return p.moment > moment; });
    const Progress& progress = *std::prev(later);
    memory.contained = progress.contained;
    memory.stripe_records.assign(
        world_.bench.stripe_records.begin(),
        world_.bench.stripe_records.begin() + static_cast<std::ptrdiff_t>(progress.records));
  }
  // Tells moments apart that differ in more than the disks.
  std::uint64_t knowledge(std::size_t moment) const {
    std::uint64_t number = 0;
    for (const auto& [from, memory] : memories_) number += from <= moment ? 1 : 0;
    for (const Progress& p : progress_) number += p.moment <= moment ? 1u << 8 : 0;
    for (const auto& [order, answer] : answers_) number += answer.first <= moment ? 1u << 16 : 0;
    return number;
  }

 private:
  struct Progress {
    std::size_t moment;
    LogSequence contained;
    std::size_t records;
    std::size_t log;
  };
  void note() {
    progress_.push_back({trace.size(), world_.bench.contained, world_.bench.stripe_records.size(),
                         world_.bench.log.size()});
  }

  PoolTestWorld& world_;
  std::vector<std::pair<std::size_t, PoolTestWorld::Memory>> memories_;
  std::vector<Progress> progress_;
  std::map<int, std::pair<std::size_t, bool>> answers_;

 public:
  simulation::DiskTrace trace;
};

// Where a pool is when its power fails, and what is lost with it.
struct CrashCase {
  raid::Protection protection = raid::Protection::single;
  std::size_t disks = 3;
  bool nvram = false;            // keeps the stripe journal
  std::set<std::size_t> failed;  // before
  std::set<std::size_t> lost;    // with the power; they are back after the second cut, or not
  std::string name() const {
    std::string text = std::to_string(disks) + " disks, protection " +
                       std::to_string(static_cast<int>(protection)) + (nvram ? ", NVRAM" : "");
    for (auto i : failed) text += ", failed " + std::to_string(i);
    for (auto i : lost) text += ", lost " + std::to_string(i);
    return text;
  }
};

// Explores the crashes of workloads that all begin with the same pool.
class CrashExplorer {
 public:
  using Prepare = std::function<void(PoolTestWorld&)>;
  using Workload = std::function<void(PoolTestWorld&, Recorder&)>;
  struct Options {
    std::uint64_t stride = 1;     // of cuts
    std::uint64_t first_cut = 0;  // < stride
    std::uint64_t random_states =
        1;  // of each cut, beside all of what is not durable and none of it
  };
  std::uint64_t cuts = 0;
  std::uint64_t states = 0;  // of the disks that differ, from which the pool was brought up
  std::uint64_t second_cuts = 0;

  CrashExplorer(CrashCase about, const Prepare& prepare) : case_(std::move(about)) {
    PoolTestWorld world(options());
    world.bench.start(Epoch(1));
    prepare(world);
    for (const std::size_t i : case_.failed) {
      EXPECT_TRUE(world.bench.pool->array()->fail_member(static_cast<std::uint32_t>(i)));
    }
    EXPECT_TRUE(world.bench.flush());
    world.crash();
    for (auto& medium : world.bench.media) start_.push_back(medium->image());
    memory_ = world.memory();
    absent_ = case_.failed;
  }

  void explore(const Workload& workload, const Options& how, std::uint64_t seed) {
    PoolTestBench::Options o = options();
    o.images = start_;
    o.absent = absent_;
    o.seed = seed;
    PoolTestWorld world(o);
    auto memory = memory_;
    world.recall(memory);
    world.bench.start(Epoch(2));
    if (testing::Test::HasFatalFailure()) return;
    Recorder recorder(world);
    recorder.remember();
    workload(world, recorder);
    recorder.stop();
    if (testing::Test::HasFatalFailure()) return;
    simulation::Random random(seed);
    simulation::DiskTrace::Cursor cursor(recorder.trace);
    std::uint64_t number = how.first_cut;
    while (cursor.moment() < recorder.trace.size()) {
      cursor.advance();
      const bool last = cursor.moment() == recorder.trace.size();
      if (!recorder.trace.begins(cursor.moment()) && !last) continue;
      if (++number % how.stride != 0 && !last) continue;
      ++cuts;
      for (std::uint64_t kind = 0; kind < 2 + how.random_states; ++kind) {
        SCOPED_TRACE("moment " + std::to_string(cursor.moment()) + " of " +
                     std::to_string(recorder.trace.size()) + ", state " + std::to_string(kind));
        come_up(recorder, cursor.moment(), cursor.images(choice(kind, random)), random.next());
        if (testing::Test::HasFailure()) return;
        if (cursor.loose() == 0) break;
      }
    }
  }

 private:
  PoolTestBench::Options options() const {
    PoolTestBench::Options o;
    o.protection = case_.protection;
    o.disks = case_.disks;
    o.disk_size = 6 << 20;
    o.nvram = case_.nvram;
    return o;
  }
  // 0: nothing of what is not durable is there; 1: all of it; else by chance.
  static simulation::DiskTrace::Choose choice(std::uint64_t kind, simulation::Random& random) {
    using simulation::DiskTrace;
    if (kind == 0) return [] { return std::uint64_t{0}; };
    if (kind == 1) return [] { return DiskTrace::all_sectors; };
    return [&random]() -> std::uint64_t {
      switch (random.below(4)) {
        case 0:
          return 0;
        case 1:
          return DiskTrace::all_sectors;
        case 2:
          return (std::uint64_t{1} << random.below(64)) - 1;  // torn
        default:
          return random.next();
      }
    };
  }

  // Brings up a pool as a moment has left it; cuts its power once more on the way; again.
  void come_up(Recorder& recorder, std::size_t moment, std::vector<simulation::DiskImage> images,
               std::uint64_t seed) {
    std::uint64_t state = recorder.knowledge(moment);
    for (const auto& image : images) state = state * 0x9e3779b97f4a7c15 + image.fingerprint();
    if (!seen_.insert(state).second) return;
    ++states;
    PoolTestBench::Options o = options();
    o.images = std::move(images);
    o.absent = absent_;
    o.absent.insert(case_.lost.begin(), case_.lost.end());
    o.seed = seed;
    auto& memory = recorder.memory(moment);
    PoolTestWorld world(o);
    world.recall(memory);
    Recorder again(world);
    const std::size_t settled = up(world, Epoch(3), &again);
    if (!testing::Test::HasFailure()) {
      EXPECT_TRUE(world.bench.flush()) << world.bench.pool->health();
      again.stop();
      world.exchange(memory);
      come_up_again(again, settled, world, memory, seed);
      return;
    }
    world.exchange(memory);
  }
  // `settled`: the moment from which it was certain what of the orders has happened: a disk that
  // was lost may know of more, and may be back, before.
  void come_up_again(Recorder& recorder, std::size_t settled, const PoolTestWorld& before,
                     PoolTestWorld::Memory& memory, std::uint64_t seed) {
    std::vector<std::size_t> moments;
    for (std::size_t i = 1; i <= recorder.trace.size(); ++i) {
      if (recorder.trace.begins(i)) moments.push_back(i);
    }
    if (moments.empty()) return;
    ++second_cuts;
    simulation::Random random(seed);
    const std::size_t moment = moments[seed % moments.size()];
    SCOPED_TRACE("second cut at " + std::to_string(moment) + " of " +
                 std::to_string(recorder.trace.size()));
    simulation::DiskTrace::Cursor cursor(recorder.trace);
    while (cursor.moment() < moment) cursor.advance();
    PoolTestBench::Options o = options();
    o.images = cursor.images(choice(random.below(4), random));
    o.absent = absent_;
    if (random.chance(1, 2)) o.absent.insert(case_.lost.begin(), case_.lost.end());
    o.seed = seed;
    PoolTestWorld world(o);
    auto orders = memory.orders;
    auto volumes = memory.volumes;
    recorder.recall_progress(moment, memory);
    if (moment >= settled) {
      memory.volumes = before.volumes;
      memory.orders.clear();
    }
    world.recall(memory);
    up(world, Epoch(4), nullptr);
    world.exchange(memory);
    memory.orders = std::move(orders);
    memory.volumes = std::move(volumes);
  }
  // At which moment the pool was active.
  static std::size_t up(PoolTestWorld& world, Epoch epoch, const Recorder* recorder) {
    world.bench.start(epoch);
    const std::size_t active = recorder == nullptr ? 0 : recorder->trace.size();
    if (!testing::Test::HasFatalFailure()) world.look_what_happened();
    if (!testing::Test::HasFatalFailure()) world.verify();
    if (!testing::Test::HasFatalFailure()) {
      EXPECT_EQ(world.bench.check({0, true, true, nullptr}), "");
    }
    return active;
  }

  CrashCase case_;
  std::vector<simulation::DiskImage> start_;
  std::set<std::size_t> absent_;
  PoolTestWorld::Memory memory_;
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace duet::pool
