// duet-fsck: checks a pool whose node does not run, from images of its disks. Writes nothing.
// Exit codes: 0 clean, 1 errors found, 2 could not check.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string_view>

#include "disk/label.h"
#include "files/read_directory.h"
#include "platform/event_loop.h"
#include "pool/checker.h"
#include "pool/pool.h"

namespace duet {
namespace {

constexpr int clean = 0;
constexpr int errors_found = 1;
constexpr int could_not_check = 2;
constexpr Duration patience = std::chrono::hours(24 * 7);

// A file, or block device, that is only read.
class ImageDisk final : public ports::Disk {
 public:
  ImageDisk(ports::Scheduler& scheduler, std::string path)
      : scheduler_(scheduler), path_(std::move(path)), file_(::open(path_.c_str(), O_RDONLY)) {
    const off_t end = file_ < 0 ? -1 : ::lseek(file_, 0, SEEK_END);
    geometry_.size = end < 0 ? 0 : static_cast<std::uint64_t>(end);
    geometry_.block_size = 512;
  }
  ~ImageDisk() override {
    if (file_ >= 0) ::close(file_);
  }
  ImageDisk(const ImageDisk&) = delete;
  ImageDisk& operator=(const ImageDisk&) = delete;

  const std::string& name() const override { return path_; }
  bool connected() const override { return file_ >= 0; }
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)>) override {}
  void on_attention(std::move_only_function<void(ports::Attention)>) override {}
  void read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) override {
    Status status;
    for (std::size_t at = 0; at < into.size();) {
      const ssize_t got =
          ::pread(file_, into.data() + at, into.size() - at, static_cast<off_t>(offset + at));
      if (got <= 0) {
        status = fail(ErrorCode::io_error, path_ + " cannot be read");
        break;
      }
      at += static_cast<std::size_t>(got);
    }
    scheduler_.post([done = std::move(done), status]() mutable { done(std::move(status)); });
  }
  void write(std::uint64_t, std::vector<Slice>, bool, ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void flush(ports::Done<void> done) override { refuse(std::move(done)); }
  void register_key(ReservationKey, ports::Done<void> done) override { refuse(std::move(done)); }
  void reserve(ReservationKey, ports::ReservationType, ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void release(ReservationKey, ports::ReservationType, ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void preempt(ReservationKey, ReservationKey, ports::ReservationType, bool,
               ports::Done<void> done) override {
    refuse(std::move(done));
  }
  void read_keys(ports::Done<ports::RegisteredKeys> done) override { refuse(std::move(done)); }
  void read_reservation(ports::Done<ports::ReservationState> done) override {
    refuse(std::move(done));
  }

 private:
  template <class T>
  void refuse(ports::Done<T> done) {
    scheduler_.post([done = std::move(done)]() mutable {
      done(fail(ErrorCode::refused, "duet-fsck only reads"));
    });
  }
  ports::Scheduler& scheduler_;
  std::string path_;
  int file_;
  ports::DiskGeometry geometry_;
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

Result<pool::Checker::Names> read_directory(filesystem::View& view, filesystem::FileKey directory,
                                            std::uint64_t from) {
  files::ListRequest request;
  request.directory = directory;
  request.cookie = from;
  request.dots = false;
  auto listing = files::list(view, request);
  if (!listing) return fail(ErrorCode::io_error, listing.error().message);
  pool::Checker::Names names;
  names.end = listing->end || listing->names.empty();
  for (const files::ListedName& entry : listing->names) {
    names.names.emplace_back(entry.name, entry.inode);
    names.next = entry.cookie;
  }
  return names;
}

int check(const std::vector<std::string>& paths, bool data) {
  platform::EventLoop loop;
  std::vector<std::unique_ptr<ImageDisk>> images;
  pool::Pool::Options options;
  std::optional<disk::PoolId> pool_id;
  for (const std::string& path : paths) {
    images.push_back(std::make_unique<ImageDisk>(loop, path));
    ImageDisk& image = *images.back();
    if (!image.connected()) return give_up(path + " cannot be opened");
    OwnedBuffer buffer = make_buffer(disk::label_area.size);
    auto read = wait<void>(loop, [&](auto done) { image.read(0, buffer.bytes, std::move(done)); });
    if (!read) return give_up(read.error().message);
    const Bytes bytes = buffer.bytes;
    auto label = disk::choose_label(bytes.first(disk::area_block_size),
                                    bytes.subspan(disk::area_block_size));
    if (!label) return give_up(path + ": " + label.error().message);
    auto area = disk::data_area(label->label.size);
    if (!area) return give_up(path + ": " + area.error().message);
    if (!pool_id) pool_id = label->label.pool;
    if (*pool_id != label->label.pool) return give_up(path + " is of another pool");
    options.disks.push_back({&image, label->label.id, *area});
  }
  options.pool = *pool_id;
  pool::Pool opened(loop, std::move(options));
  if (auto status = wait<void>(loop, [&](auto done) { opened.open(std::move(done)); }); !status) {
    return give_up("the pool cannot be opened: " + status.error().message);
  }
  pool::Checker checker(loop, opened, {0, data, false, read_directory});
  auto report = wait<pool::CheckReport>(loop, [&](auto done) { checker.start(std::move(done)); });
  if (!report) return give_up(report.error().message);
  for (const std::string& problem : report->problems) fmt::print("{}\n", problem);
  if (report->problem_count > report->problems.size()) {
    fmt::print("... and {} more\n", report->problem_count - report->problems.size());
  }
  fmt::print("consistency point {}: {} blocks, {} files, {} errors\n", report->generation,
             report->blocks, report->files, report->problem_count);
  return report->clean() ? clean : errors_found;
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  std::vector<std::string> paths(argv + 1, argv + argc);
  const bool data = std::erase(paths, "--data") > 0;
  if (paths.empty() || paths.front().starts_with("-")) {
    fmt::print(stderr, "usage: duet-fsck [--data] IMAGE...\n");
    return duet::could_not_check;
  }
  return duet::check(paths, data);
}
