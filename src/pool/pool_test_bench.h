// For tests: a pool on fake disks, a log that never forgets, and a model that says what
// every LUN must hold. The bench applies each record to both and compares what it reads.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/sanitized.h"
#include "pool/checker.h"
#include "pool/pool.h"
#include "simulation/fake_disk.h"
#include "simulation/scheduler.h"

namespace duet::pool {

// Operations of a model test, of each seed.
inline constexpr std::uint64_t model_operations = sanitized ? 400 : 5'000;

// Runs a model test with other seeds than the usual ones for DUET_MODEL_MINUTES; how many
// operations that were.
inline std::uint64_t run_for_model_minutes(
    const std::function<std::uint64_t(std::uint64_t seed, std::uint64_t operations)>& run) {
  const char* wish = std::getenv("DUET_MODEL_MINUTES");
  if (wish == nullptr) return 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(std::atoi(wish));
  std::uint64_t operations = 0;
  for (std::uint64_t seed = 1000;
       std::chrono::steady_clock::now() < end && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    operations += run(seed, model_operations);
  }
  return operations;
}

using filesystem::decode;
using filesystem::encode;
using filesystem::LunCreateRecord;
using filesystem::LunDeleteRecord;
using filesystem::ReservationsRecord;
using filesystem::WriteRecord;
using filesystem::ZeroRecord;

struct ModelLun {
  std::string name;
  std::vector<std::byte> bytes;
  std::vector<std::byte> reservations;
};
using Model = std::map<LunNumber, ModelLun>;

class PoolTestBench {
 public:
  // Of files; looks first, changes then. The same in a replay.
  using Operation = std::function<Status(filesystem::View&)>;

  struct Options {
    std::size_t disks = 4;
    raid::Protection protection = raid::Protection::single;
    std::size_t spares = 0;
    std::uint64_t disk_size = 8 << 20;
    std::uint64_t dirty_limit = 4 << 20;
    std::uint64_t read_cache = 256 << 10;
    std::uint64_t metadata_cache = 64 << 20;
    Duration point_age = seconds(10);
    bool volatile_cache = true;
    bool nvram = false;  // takes the records of the stripe journal
    std::uint64_t seed = 1;
    std::vector<simulation::DiskImage> images;  // what is on the disks; none: a new pool
    std::set<std::size_t> absent;               // disks that are not at hand
  };
  explicit PoolTestBench(const Options& options) : options_(options), random_(options.seed) {
    // Let the next bench have the memory of the last.
    static const int reuse =
        mallopt(M_MMAP_THRESHOLD, 64 << 20) + mallopt(M_TRIM_THRESHOLD, 1 << 30);
    static_cast<void>(reuse);
    for (std::size_t i = 0; i < options_.disks; ++i) {
      simulation::FakeMedium::Options medium;
      medium.name = "disk" + std::to_string(i);
      medium.size = options_.disk_size;
      medium.volatile_cache = options_.volatile_cache;
      medium.seed = options_.seed * 100 + i;
      media.push_back(std::make_unique<simulation::FakeMedium>(scheduler, medium, &power));
    }
    for (std::size_t i = 0; i < pool_id.size(); ++i) pool_id[i] = static_cast<std::uint8_t>(i);
    connect();
    for (std::size_t i = 0; i < options_.images.size(); ++i) media[i]->load(options_.images[i]);
    if (!options_.images.empty()) return;
    auto layout = plan_layout(disks(), options_.protection, options_.spares);
    EXPECT_TRUE(layout) << layout.error().message;
    EXPECT_TRUE(wait(
        [&](auto done) { format_pool(scheduler, pool_id, disks(), *layout, std::move(done)); }));
  }
  ~PoolTestBench() { pool.reset(); }

  // New paths to the disks; what was under way on the old ones may have happened.
  void connect() {
    for (auto& path : paths) path->disconnect();
    paths.clear();
    for (auto& medium : media) paths.push_back(medium->connect());
  }
  std::vector<Pool::Disk> disks() {
    std::vector<Pool::Disk> all;
    for (std::size_t i = 0; i < paths.size(); ++i) {
      if (!options_.absent.contains(i)) all.push_back(disk(i));
    }
    return all;
  }
  Pool::Disk disk(std::size_t i) {
    DiskId id;
    id.bytes[0] = static_cast<std::uint8_t>(i + 1);
    return {paths[i].get(), id, {8192, options_.disk_size - 8192}};
  }

  // A disk goes away, and is not there at the next opens; and is back, as it was.
  void lose(std::size_t i) {
    options_.absent.insert(i);
    paths[i]->disconnect();
  }
  void bring_back(std::size_t i) {
    options_.absent.erase(i);
    paths[i]->reconnect();
    if (pool) pool->disk_returned(*paths[i], disk(i).id, disk(i).data);
  }

  // What is contained needs no log.
  void free_log() {
    const auto needed = std::ranges::find_if(log, [&](const auto& entry) {
      return entry.first.sequence > contained || entry.first == log.back().first;
    });
    log.erase(log.begin(), needed);
    operations.erase(operations.begin(), operations.upper_bound(contained));
  }

  // Waits for an operation with a Done<void>.
  template <class Start>
  Status wait(Start start) {
    // An answer that comes too late, at the end of the pool, is nobody's.
    auto result = std::make_shared<std::optional<Status>>();
    start([result](Status status) { *result = std::move(status); });
    EXPECT_FALSE(*result) << "completed from inside the call";
    if (!scheduler.run_until([&] { return result->has_value(); })) {
      return fail(ErrorCode::timed_out, "no answer");
    }
    return **result;
  }

  Status open() {
    Pool::Options pool_options;
    pool_options.pool = pool_id;
    pool_options.disks = disks();
    pool_options.dirty_limit = options_.dirty_limit;
    pool_options.read_cache = options_.read_cache;
    pool_options.metadata_cache = options_.metadata_cache;
    pool_options.point_age = options_.point_age;
    if (options_.nvram) {
      pool_options.journal = [this](DataBytes record, ports::Done<void> done) {
        stripe_records.push_back(copy_to_slice(record));
        note_progress();
        scheduler.post([done = std::move(done)]() mutable { done({}); });
      };
    }
    pool = std::make_unique<Pool>(scheduler, std::move(pool_options));
    pool->on_stripe_records([this](const LogPosition&) { return stripe_records; });
    pool->on_consistency_point([this](const LogPosition& position) {
      EXPECT_GE(position.sequence, contained);
      contained = position.sequence;
      note_progress();
    });
    pool->on_fenced([this](const std::string&) { fenced = true; });
    return wait([&](auto done) { pool->open(std::move(done)); });
  }
  Status activate(Epoch epoch) {
    return wait([&](auto done) { pool->activate(epoch, std::move(done)); });
  }
  // Everything after the record the log was last freed to: records in the superblock are among
  // them.
  void replay() {
    for (const auto& [position, record] : log) {
      if (position.sequence <= contained) continue;
      if (auto found = operations.find(position.sequence); found != operations.end()) {
        if (position.sequence > pool->position().sequence)
          replay_operation(found->second, position);
        continue;
      }
      auto status = pool->apply(position, record);
      EXPECT_TRUE(status) << status.error().message;
    }
  }
  void replay_operation(const Operation& operation, const LogPosition& position) {
    const auto start = [&](auto done) {
      pool->run(
          [&](filesystem::View& view) {
            Status status = operation(view);
            if (status) pool->skip(position);
            return status;
          },
          std::move(done));
    };
    auto status = wait(start);
    for (int i = 0; i < 5 && !status && status.error().code == ErrorCode::busy && power.on(); ++i) {
      pool->start_consistency_point();
      scheduler.run_for(milliseconds(200));
      status = wait(start);
    }
    EXPECT_TRUE(status || !power.on()) << status.error().message;
  }
  // Runs an operation on files and logs it; the error is that of the operation.
  Status run(const Operation& operation) {
    const auto start = [&](auto done) {
      pool->run(
          [&](filesystem::View& view) {
            Status status = operation(view);
            if (!status) return status;
            const LogPosition position = next_position();
            log.emplace_back(position, LogRecord{});
            operations[position.sequence] = operation;
            note_progress();
            pool->skip(position);
            return status;
          },
          std::move(done));
    };
    return wait(start);
  }
  // Opens, replays, and is ready for more.
  void start(Epoch epoch = Epoch(1)) {
    auto status = open();
    ASSERT_TRUE(status) << status.error().message;
    status = activate(epoch);
    ASSERT_TRUE(status) << status.error().message;
    replay();
  }
  void crash() {
    pool.reset();
    connect();
  }

  LogPosition next_position() const {
    LogSequence last = log.empty() ? LogSequence(0) : log.back().first.sequence;
    return {Epoch(1), last.next(), 64 * last.value(), 1};
  }
  // As a service does it.
  Status submit(const LogRecord& record) {
    if (auto status = pool->admit(record); !status) return status;
    log.emplace_back(next_position(), record);
    note_progress();
    apply_to_model(record);
    return pool->apply(log.back().first, record);
  }
  Result<LunNumber> create(const std::string& name, std::uint64_t size) {
    auto record = pool->prepare_create(name, size);
    if (!record) return std::unexpected(record.error());
    if (auto status = submit(*record); !status) return std::unexpected(status.error());
    return LunNumber(static_cast<std::uint16_t>(record->words[0]));
  }
  Status write(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    return submit(encode(WriteRecord{lun, offset, random_data(size)}));
  }
  Status zero(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    return submit(encode(ZeroRecord{lun, offset, size}));
  }
  Status remove(LunNumber lun) { return submit(encode(LunDeleteRecord{lun})); }
  // Takes consistency points until everything is contained.
  bool flush() {
    pool->start_consistency_point();
    LogSequence last = log.empty() ? LogSequence(0) : log.back().first.sequence;
    return scheduler.run_until(
        [&] { return pool->position().sequence == last && pool->dirty_bytes() == 0; });
  }

  // What a check says, as text; all disks must answer. Empty: all is well.
  std::string check(Checker::Options how = {0, true, false, nullptr}) {
    std::optional<Result<CheckReport>> result;
    Checker checker(scheduler, *pool, std::move(how));
    checker.start([&](auto r) { result = std::move(r); });
    EXPECT_FALSE(result) << "completed from inside the call";
    if (!scheduler.run_until([&] { return result.has_value(); })) return "no answer";
    if (!*result) return "could not check: " + result->error().message;
    last_check = **result;
    std::string text;
    for (const std::string& problem : last_check.problems) text += problem + "\n";
    return text;
  }

  // Compares all LUNs with the model.
  void verify() {
    auto luns = pool->luns();
    ASSERT_EQ(luns.size(), model.size());
    for (const LunInfo& info : luns) {
      const ModelLun& expected = model.at(info.number);
      EXPECT_EQ(info.name, expected.name);
      EXPECT_EQ(info.size, expected.bytes.size());
      EXPECT_EQ(info.reservations, expected.reservations);
      std::optional<Result<std::vector<Slice>>> result;
      pool->read(info.number, 0, info.size, [&](auto r) { result = std::move(r); });
      ASSERT_TRUE(scheduler.run_until([&] { return result.has_value(); })) << "no answer";
      ASSERT_TRUE(*result) << result->error().message;
      const auto difference = differs(**result, expected.bytes);
      ASSERT_FALSE(difference) << "LUN " << info.name << " differs at " << *difference;
    }
  }
  // Where what was read is not what it should be.
  static std::optional<std::size_t> differs(const std::vector<Slice>& slices, Bytes expected) {
    std::size_t at = 0;
    for (const Slice& slice : slices) {
      const Bytes part = slice.bytes;
      if (part.size() > expected.size() - at) return expected.size();
      if (std::memcmp(part.data(), expected.data() + at, part.size()) != 0) {
        return at + differs(part, expected.subspan(at, part.size()));
      }
      at += part.size();
    }
    return at == expected.size() ? std::optional<std::size_t>() : at;
  }
  static std::size_t differs(Bytes a, Bytes b) {
    return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  }
  Result<std::vector<std::byte>> read(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    std::optional<Result<std::vector<Slice>>> result;
    pool->read(lun, offset, size, [&](auto r) { result = std::move(r); });
    EXPECT_FALSE(result) << "completed from inside the call";
    if (!scheduler.run_until([&] { return result.has_value(); })) {
      return fail(ErrorCode::timed_out, "no answer");
    }
    if (!*result) return std::unexpected(result->error());
    return join(**result);
  }
  static std::vector<std::byte> join(const std::vector<Slice>& slices) {
    std::vector<std::byte> bytes;
    for (const Slice& slice : slices)
      bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
    return bytes;
  }

  // `size` random bytes in slices of odd sizes.
  std::vector<Slice> random_data(std::uint64_t size) {
    auto buffer = make_buffer(size);
    for (std::uint64_t i = 0; i < size; i += 8) store_le(&buffer.bytes[i], random_.next());
    std::vector<Slice> slices;
    for (std::uint64_t at = 0; at < size;) {
      std::uint64_t part = random_.chance(1, 2) ? size - at : 1 + random_.below(size - at);
      slices.push_back({buffer.owner, Bytes(buffer.bytes).subspan(at, part)});
      at += part;
    }
    return slices;
  }

  void apply_to_model(const LogRecord& log_record) { apply_to(model, log_record); }
  static void apply_to(Model& model, const LogRecord& log_record) {
    auto record = decode(log_record);
    ASSERT_TRUE(record) << record.error().message;
    if (auto* w = std::get_if<WriteRecord>(&*record)) {
      std::ranges::copy(join(w->data),
                        model[w->lun].bytes.begin() + static_cast<std::ptrdiff_t>(w->offset));
    } else if (auto* z = std::get_if<ZeroRecord>(&*record)) {
      auto begin = model[z->lun].bytes.begin() + static_cast<std::ptrdiff_t>(z->offset);
      std::fill(begin, begin + static_cast<std::ptrdiff_t>(z->length), std::byte{0});
    } else if (auto* c = std::get_if<LunCreateRecord>(&*record)) {
      model[c->lun] = {c->name, std::vector<std::byte>(c->size), {}};
    } else if (auto* d = std::get_if<LunDeleteRecord>(&*record)) {
      model.erase(d->lun);
    } else if (auto* r = std::get_if<ReservationsRecord>(&*record)) {
      model[r->lun].reservations = r->state;
    }
  }

  const Options& options() const { return options_; }

  simulation::SimulatedScheduler scheduler;
  simulation::PowerSupply power;
  std::vector<std::unique_ptr<simulation::FakeMedium>> media;
  std::vector<std::unique_ptr<simulation::FakeDisk>> paths;
  disk::PoolId pool_id{};
  std::unique_ptr<Pool> pool;
  std::vector<std::pair<LogPosition, LogRecord>> log;
  std::map<LogSequence, Operation> operations;  // what is not a record of a LUN
  Model model;
  LogSequence contained;              // the log is free up to here
  std::vector<Slice> stripe_records;  // in the NVRAM
  std::function<void()> on_progress;  // the log, or what is contained of it, has changed
  CheckReport last_check;
  bool fenced = false;

 private:
  void note_progress() {
    if (on_progress) on_progress();
  }

  Options options_;
  simulation::Random random_;
};

}  // namespace duet::pool
