// What the pool itself costs, on disks in memory: figures as lines of JSON, one for each
// {"name", "value", "unit"}. `./dev bench storage` joins them with those of the whole pair.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <optional>
#include <random>

#include "files/apply.h"
#include "files/look.h"
#include "files/operations.h"
#include "instant_disk.h"
#include "pool/pool.h"

namespace duet::load {
namespace {

constexpr std::uint64_t block = filesystem::block_size;

void figure(const std::string& name, double value, const std::string& unit) {
  fmt::print("{{\"name\":\"{}\",\"value\":{:.4g},\"unit\":\"{}\"}}\n", name, value, unit);
  std::fflush(stdout);
}

double seconds_since(Instant start) {
  return std::chrono::duration<double>(now() - start).count();
}

// A pool of 3 + 1 disks, a log that only counts, and a LUN.
class Bench {
 public:
  explicit Bench(std::uint64_t disk_size) {
    for (int i = 0; i < 4; ++i) {
      disks.push_back(std::make_unique<InstantDisk>(loop, fmt::format("disk{}", i), disk_size));
    }
    auto layout = pool::plan_layout(pool_disks(), raid::Protection::single, 0);
    wait([&](auto done) { pool::format_pool(loop, {}, pool_disks(), *layout, std::move(done)); });
    start();
  }
  std::vector<pool::Pool::Disk> pool_disks() {
    std::vector<pool::Pool::Disk> all;
    for (std::size_t i = 0; i < disks.size(); ++i) {
      DiskId id;
      id.bytes[0] = static_cast<std::uint8_t>(i + 1);
      const std::uint64_t size = disks[i]->geometry().size;
      all.push_back({disks[i].get(), id, *disk::data_area(size)});
    }
    return all;
  }
  // As after a crash: nothing in memory.
  double start() {
    pool.reset();
    pool::Pool::Options options;
    options.disks = pool_disks();
    options.dirty_limit = 128 << 20;
    pool = std::make_unique<pool::Pool>(loop, std::move(options));
    const Instant begin = now();
    wait([&](auto done) { pool->activate(Epoch(++epoch), std::move(done)); });
    return seconds_since(begin);
  }
  template <class Start>
  void wait(Start begin) {
    std::optional<Status> result;
    begin([&](Status status) { result = std::move(status); });
    loop.run_until([&] { return result.has_value(); });
    if (!*result) throw std::runtime_error(result->error().message);
  }
  nvlog::LogPosition next() { return {Epoch(1), LogSequence(++sequence), 0, 0}; }
  void submit(const filesystem::LogRecord& record) {
    Status admitted;
    while (!(admitted = pool->admit(record))) {
      if (admitted.error().code != ErrorCode::busy) {
        throw std::runtime_error(admitted.error().message);
      }
      pool->start_consistency_point();
      const auto before = pool->figures().consistency_points;
      loop.run_until([&] { return pool->figures().consistency_points != before; });
    }
    if (auto applied = pool->apply(next(), record); !applied) {
      throw std::runtime_error(applied.error().message);
    }
    if (pool->needs_consistency_point()) pool->start_consistency_point();
    loop.step();
  }
  void write(LunNumber lun, std::uint64_t offset, std::uint64_t size) {
    static const Slice data = random_data(1 << 20);
    submit(encode(filesystem::WriteRecord{lun, offset, {{data.owner, data.bytes.first(size)}}}));
  }
  static Slice random_data(std::size_t size) {
    OwnedBuffer buffer = make_buffer(size);
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i < size; i += 8) store_le<std::uint64_t>(&buffer.bytes[i], random());
    return buffer.slice();
  }
  LunNumber create(const std::string& name, std::uint64_t size) {
    auto record = pool->prepare_create(name, size);
    if (!record) throw std::runtime_error(record.error().message);
    submit(*record);
    return LunNumber(static_cast<std::uint16_t>(record->words[0]));
  }
  void flush() {
    pool->start_consistency_point();
    loop.run_until(
        [&] { return pool->position().sequence.value() == sequence && pool->dirty_bytes() == 0; });
  }
  std::uint64_t written() const {
    std::uint64_t sum = 0;
    for (const auto& disk : disks) sum += disk->written();
    return sum;
  }

  BusyLoop loop;
  std::vector<std::unique_ptr<InstantDisk>> disks;
  std::unique_ptr<pool::Pool> pool;
  std::uint64_t epoch = 0;
  std::uint64_t sequence = 0;
};

// Random overwrites of a pool that is half full, until every block was overwritten about twice.
void random_overwrites(std::uint64_t disk_size) {
  Bench b(disk_size);
  const std::uint64_t size = b.pool->capacity().size / 2 / (1 << 20) * (1 << 20);
  const LunNumber lun = b.create("half", size);
  for (std::uint64_t at = 0; at < size; at += 1 << 20) b.write(lun, at, 1 << 20);
  b.flush();
  std::mt19937_64 random(7);
  const std::uint64_t blocks = size / block;
  const auto overwrite = [&](std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) b.write(lun, random() % blocks * block, block);
  };
  overwrite(blocks);  // the sequential beginning is forgotten
  b.flush();
  const std::uint64_t before = b.written();
  const auto stripes = b.pool->array()->write_figures();
  const Instant begin = now();
  overwrite(blocks);
  b.flush();
  const double took = seconds_since(begin);
  const auto after = b.pool->array()->write_figures();
  const double full = static_cast<double>(after.full_stripes - stripes.full_stripes);
  const double filled = static_cast<double>(after.filled_stripes - stripes.filled_stripes);
  const double partial = static_cast<double>(after.partial_stripes - stripes.partial_stripes);
  figure("random_overwrites", static_cast<double>(blocks) / took, "1/s");
  figure("full_stripe_share", 100 * full / (full + filled + partial), "%");
  figure("filled_stripe_share", 100 * filled / (full + filled + partial), "%");
  figure("write_amplification",
         static_cast<double>(b.written() - before) / static_cast<double>(blocks * block), "");
  const double open = b.start();
  figure("open_half_full", open * 1e3, "ms");
}

// 256 MiB of records after the last consistency point.
void replay() {
  Bench b(512 << 20);
  const LunNumber lun = b.create("log", 512 << 20);
  b.flush();
  b.start();
  const Slice data = Bench::random_data(64 << 10);
  const std::uint64_t total = 100 << 20;
  std::mt19937_64 random(3);
  const Instant begin = now();
  for (std::uint64_t done = 0; done < total; done += data.bytes.size()) {
    const std::uint64_t at = random() % (512 << 4) * data.bytes.size();
    auto applied = b.pool->apply(b.next(), encode(filesystem::WriteRecord{lun, at, {data}}));
    if (!applied) throw std::runtime_error(applied.error().message);
  }
  b.flush();
  figure("replay", static_cast<double>(total) / seconds_since(begin) / 1e6, "MB/s");
}

void snapshots(int others) {
  Bench b(256 << 20);
  const LunNumber lun = b.create("data", 64 << 20);
  for (std::uint64_t at = 0; at < 64u << 20; at += 1 << 20) b.write(lun, at, 1 << 20);
  b.flush();
  const auto create = [&](int number) {
    const Instant begin = now();
    std::optional<bool> made;
    b.pool->create_snapshot(pool::Pool::first_volume, fmt::format("s{}", number), 0,
                            [&](auto result) { made = result.has_value(); });
    b.loop.run_until([&] { return made.has_value(); });
    if (!*made) throw std::runtime_error("no snapshot");
    return seconds_since(begin);
  };
  const double first = create(0);
  for (int i = 1; i < others; ++i) {
    b.write(lun, static_cast<std::uint64_t>(i) % (64 << 8) * block, block);
    create(i);
  }
  const auto points = b.pool->figures().consistency_points;
  const double last = create(others);
  figure("snapshot_create_first", first * 1e3, "ms");
  figure(fmt::format("snapshot_create_with_{}", others), last * 1e3, "ms");
  figure("snapshot_create_points",
         static_cast<double>(b.pool->figures().consistency_points - points), "");
}

void many_files(std::uint64_t count) {
  Bench b(1ull << 30);
  const filesystem::FileKey root{pool::Pool::first_volume, filesystem::root_directory};
  const auto run = [&](const std::function<Status(filesystem::View&)>& operation) {
    std::optional<Status> result;
    b.pool->run(operation, [&](Status status) { result = std::move(status); });
    while (!result) b.loop.step();
    if (!*result && result->error().code != ErrorCode::busy) {
      throw std::runtime_error(result->error().message);
    }
    if (b.pool->needs_consistency_point()) b.pool->start_consistency_point();
  };
  const auto change = [&](files::Request request) {
    files::Record record;
    record.request = std::move(request);
    record.time = 1;
    for (;;) {  // until there is room in memory
      bool made = false;
      run([&](filesystem::View& view) -> Status {
        auto prepared = files::prepare(view, record);
        const files::Outcome outcome = prepared.reply().outcome;
        if (outcome == files::Outcome::ok) {
          prepared.commit();
          b.pool->skip(b.next());
          made = true;
        }
        if (outcome == files::Outcome::ok) return {};
        const bool busy = outcome == files::Outcome::busy;
        return fail(busy ? ErrorCode::busy : ErrorCode::refused, prepared.reply().message);
      });
      if (made) return;
      b.pool->start_consistency_point();
      const auto before = b.pool->figures().consistency_points;
      b.loop.run_until([&] { return b.pool->figures().consistency_points != before; });
    }
  };
  const auto rate = [&](const std::string& name, const std::function<void(std::uint64_t)>& one) {
    const Instant begin = now();
    for (std::uint64_t i = 0; i < count; ++i) one(i);
    figure(name, static_cast<double>(count) / seconds_since(begin), "1/s");
  };
  const auto name_of = [](std::uint64_t i) {
    return fmt::format("file{:08}", i * 2654435761 % 100000000);
  };
  rate("file_create", [&](std::uint64_t i) {
    files::Create request;
    request.directory = root;
    request.name = name_of(i);
    change(request);
  });
  b.flush();
  figure("open_with_files", b.start() * 1e3, "ms");
  rate("file_stat", [&](std::uint64_t i) {
    run([&](filesystem::View& view) -> Status {
      auto found = files::lookup(view, root, name_of(i));
      if (!found && found.error().outcome == files::Outcome::busy) return fail(ErrorCode::busy, "");
      return found ? Status{} : fail(ErrorCode::not_found, "a file is gone");
    });
  });
  rate("file_remove", [&](std::uint64_t i) { change(files::Remove{root, name_of(i)}); });
  b.flush();
}

int main(int argc, char** argv) {
  std::uint64_t files = 1'000'000, disk_mib = 512;
  int others = 1000;
  std::string only;
  CLI::App app("What the pool costs, on disks in memory.", "duet-storage-bench");
  app.add_option("--files", files, "in one directory")->check(CLI::Range(1, 100'000'000));
  app.add_option("--disk-mib", disk_mib, "size of each of four disks")->check(CLI::Range(64, 4096));
  app.add_option("--snapshots", others, "that are there before the measured one");
  app.add_option("--only", only, "overwrites, replay, snapshots or files");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    if (only.empty() || only == "overwrites") random_overwrites(disk_mib << 20);
    if (only.empty() || only == "replay") replay();
    if (only.empty() || only == "snapshots") snapshots(others);
    if (only.empty() || only == "files") many_files(files);
  } catch (const std::exception& e) {
    fmt::print(stderr, "duet-storage-bench: {}\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace duet::load

int main(int argc, char** argv) {
  return duet::load::main(argc, argv);
}
