// duet-fsck: checks a pool whose node does not run, from its disks or images of them. A pool that
// crashed is checked as its next recovery would leave it; nothing is written.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>

#include "disk/label.h"
#include "image_disk.h"
#include "nvlog/region.h"
#include "nvlog/replay.h"
#include "platform/event_loop.h"
#include "pool/checker.h"
#include "pool/directory_names.h"
#include "pool/pool.h"

namespace duet {
namespace {

constexpr int clean = 0;
constexpr int errors_found = 1;
constexpr int could_not_check = 2;
constexpr Duration patience = std::chrono::hours(24 * 7);

constexpr std::string_view help = R"(NAME
    duet-fsck - check a pool whose node does not run

SYNOPSIS
    duet-fsck [--data] [--parity] [--log FILE] [--in-use] DISK...

DESCRIPTION
    Reads the disks of one pool, as image files (of an embedded shelf: disk-*.img) or as block
    devices, in any order. As many are needed as the protection of the pool asks for; each must
    have its label, and any of them the superblock.

    If the pool has crashed, its stripe journal is laid over the disks in memory, as the next
    start of its node would write it: what a crash may leave is no error. Nothing is written.

    Every block must be reachable or free, exactly once; maps, counts, snapshots, clones, dead
    lists, LUNs, directories and link counts must agree. Each problem is a line that names the
    object.

OPTIONS
    --data      reads the data of all files, too, and verifies their checksums
    --parity    compares parity with data, in all stripes that are in use
    --log FILE  the NVRAM of the node, or of its partner after a takeover: the stripe journal is
                there, if the interconnect was up when the pool crashed. Without it, --parity may
                report stripes that the next start makes right
    --in-use    checks although a disk is mounted, locked or reserved: what changes meanwhile
                is reported as damage
    --help      this text

EXIT STATUS
    0  clean
    1  errors found
    2  could not check: usage, a disk that is missing, in use or no disk of the pool
)";

struct Options {
  bool data = false;
  bool parity = false;
  bool in_use = false;
  std::string log;
  std::vector<std::string> paths;
};

int give_up(const std::string& why) {
  fmt::print(stderr, "duet-fsck: {}\n", why);
  return could_not_check;
}

template <class T>
Result<T> wait(platform::EventLoop& loop, const std::function<void(ports::Done<T>)>& start) {
  std::optional<Result<T>> result;
  start([&](Result<T> r) { result = std::move(r); });
  loop.run_until([&] { return result.has_value(); }, patience);
  if (!result) return fail(ErrorCode::timed_out, "no answer");
  return *result;
}

// The disks of one pool, by their labels.
struct Disks {
  std::vector<std::unique_ptr<ImageDisk>> images;
  std::vector<pool::Pool::Disk> disks;
  std::optional<disk::Label> first;
};

Status add_disk(platform::EventLoop& loop, const std::string& path, bool in_use, Disks& disks) {
  auto opened = ImageDisk::open(loop, path, in_use);
  if (!opened) return std::unexpected(opened.error());
  ImageDisk& image = **opened;
  OwnedBuffer buffer = make_buffer(disk::label_area.size);
  auto read = wait<void>(loop, [&](auto done) { image.read(0, buffer.bytes, std::move(done)); });
  if (!read) return std::unexpected(read.error());
  const Bytes bytes = buffer.bytes;
  auto label =
      disk::choose_label(bytes.first(disk::area_block_size), bytes.subspan(disk::area_block_size));
  if (!label) return fail(label.error().code, path + ": " + label.error().message);
  auto area = disk::data_area(label->label.size);
  if (!area) return fail(area.error().code, path + ": " + area.error().message);
  if (image.geometry().size < label->label.size) {
    return fail(ErrorCode::invalid, path + " is shorter than its label says");
  }
  if (!disks.first) disks.first = label->label;
  if (disks.first->pool != label->label.pool) {
    return fail(ErrorCode::invalid, path + " is of another pool");
  }
  disks.disks.push_back({&image, label->label.id, *area});
  disks.images.push_back(std::move(*opened));
  return {};
}

// The stripe journal records of a log, from a position on.
class Log {
 public:
  static Result<Log> read(const std::string& path, NodeId identity) {
    Log log;
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error) return fail(ErrorCode::not_found, path + ": " + error.message());
    auto layout = nvlog::RegionLayout::of_size(size);
    if (!layout) return fail(ErrorCode::invalid, path + ": " + layout.error().message);
    const auto extent = layout->ring(identity);
    log.ring_ = make_buffer(extent.length);
    std::ifstream file(path, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(extent.offset));
    file.read(reinterpret_cast<char*>(log.ring_.bytes.data()),
              static_cast<std::streamsize>(extent.length));
    if (!file) return fail(ErrorCode::io_error, path + " cannot be read");
    log.identity_ = identity;
    return log;
  }
  std::vector<Slice> stripe_records(const nvlog::LogPosition& position) const {
    std::vector<Slice> records;
    auto plan = nvlog::plan_replay(ring_.bytes, identity_, position, {});
    for (std::size_t i = 0; plan && i < plan->size(); ++i) {
      auto view = plan->record(ring_.bytes, i);
      if (view.header.kind == nvlog::RecordKind::stripe_journal) {
        records.push_back({ring_.owner, view.payload});
      }
    }
    return records;
  }

 private:
  OwnedBuffer ring_;
  NodeId identity_;
};

// As far as a start of the node goes; then it only looks.
Status bring_up(platform::EventLoop& loop, pool::Pool& pool) {
  const Epoch last(std::numeric_limits<std::uint64_t>::max());
  auto up = wait<void>(loop, [&](auto done) { pool.activate(last, std::move(done)); });
  if (!up) return up;
  pool.array()->set_automatic_spares(false);
  return wait<void>(loop, [&](auto done) { pool.deactivate(std::move(done)); });
}

// What had to be made from redundancy: the pool has it, a disk does not.
std::uint64_t report_disks(const raid::Array& array) {
  std::uint64_t problems = 0;
  for (const raid::MemberReport& member : array.report()) {
    if (member.read_errors == 0) continue;
    ++problems;
    fmt::print(
        "disk {}, member {}: {} blocks were wrong or could not be read; the others have them\n",
        to_string(member.member.disk), member.number, member.read_errors);
  }
  return problems;
}

int check(const Options& options) {
  platform::EventLoop loop;
  Disks disks;
  for (const std::string& path : options.paths) {
    if (auto added = add_disk(loop, path, options.in_use, disks); !added) {
      const bool busy = added.error().code == ErrorCode::busy;
      return give_up(added.error().message + (busy ? "; stop it first, or give --in-use" : ""));
    }
  }
  pool::Pool::Options pool_options;
  pool_options.pool = disks.first->pool;
  pool_options.disks = disks.disks;
  pool_options.raid.rebuild_rate = 1;  // nothing but memory would be written
  pool::Pool pool(loop, std::move(pool_options));
  std::optional<Log> log;
  if (!options.log.empty()) {
    auto read = Log::read(options.log, disks.first->owner);
    if (!read) return give_up(read.error().message);
    log = std::move(*read);
    pool.on_stripe_records(
        [&log](const nvlog::LogPosition& position) { return log->stripe_records(position); });
  }
  std::uint64_t problems = 0;
  pool.on_health([&](const std::string& text) {
    if (!text.empty()) fmt::print("{}\n", text);
  });
  if (auto status = bring_up(loop, pool); !status) {
    return give_up("the pool cannot be opened: " + status.error().message);
  }
  pool::Checker checker(loop, pool, {0, options.data, options.parity, pool::directory_names});
  auto report = wait<pool::CheckReport>(loop, [&](auto done) { checker.start(std::move(done)); });
  if (!report) return give_up(report.error().message);
  for (const std::string& problem : report->problems) fmt::print("{}\n", problem);
  if (report->problem_count > report->problems.size()) {
    fmt::print("... and {} more\n", report->problem_count - report->problems.size());
  }
  problems += report->problem_count + report_disks(*pool.array());
  fmt::print("consistency point {}: {} blocks, {} files, {} errors\n", report->generation,
             report->blocks, report->files, problems);
  if (problems > 0) {
    fmt::print(
        "Nothing was written. What says that it was repaired was so in memory; a node that "
        "serves the pool repairs it on the disks: duet pool scrub, pool check --data\n");
  }
  return problems == 0 ? clean : errors_found;
}

int usage(const std::string& why) {
  return give_up(why + "\nusage: duet-fsck [--data] [--parity] [--log FILE] [--in-use] DISK...");
}

int run(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help") {
      fmt::print("{}", help);
      return clean;
    }
    if (argument == "--data") {
      options.data = true;
    } else if (argument == "--parity") {
      options.parity = true;
    } else if (argument == "--in-use") {
      options.in_use = true;
    } else if (argument == "--log" && i + 1 < arguments.size()) {
      options.log = arguments[++i];
    } else if (argument.starts_with("-")) {
      return usage("what is " + argument + "?");
    } else {
      options.paths.push_back(argument);
    }
  }
  if (options.paths.empty()) return usage("no disk is given");
  return check(options);
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  return duet::run({argv + 1, argv + argc});
}
