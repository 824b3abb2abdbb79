// For the benchmark of panics: writes the bytes of a raw dump again, to a disk of the same kind in
// the same way as the node that dumped (platform/iscsi_disk.h, so many writes in flight, one flush
// at the end), and says how long the disk takes when nobody has to read memory and compress it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string>

#include "disk/areas.h"
#include "platform/event_loop.h"
#include "platform/iscsi_disk.h"

namespace {

using namespace duet;

constexpr std::size_t piece = std::size_t{1} << 20;    // bytes of a write
constexpr std::size_t sample = std::size_t{64} << 20;  // bytes of the dump that are kept in memory
constexpr int writes_in_flight = 2;
constexpr Duration limit = seconds(600);

class Writer {
 public:
  Writer(const std::string& portal, const std::string& target)
      : disk_(loop_, options(portal, target)) {}

  bool connect() {
    return disk_.start() && loop_.run_until([&] { return disk_.connected(); }, seconds(10));
  }
  // Milliseconds; nothing: it failed.
  std::optional<double> write(const Slice& data, std::uint64_t size) {
    const Instant begin = loop_.now();
    data_ = data;
    size_ = size;
    for (int i = 0; i < writes_in_flight; ++i) next();
    if (!loop_.run_until([&] { return under_way_ == 0; }, limit) || failed_) return {};
    bool flushed = false;
    disk_.flush([&](Result<void> r) {
      flushed = true;
      failed_ = !r;
    });
    if (!loop_.run_until([&] { return flushed; }, limit) || failed_) return {};
    return std::chrono::duration<double, std::milli>(loop_.now() - begin).count();
  }

 private:
  static platform::IscsiDiskOptions options(const std::string& portal, const std::string& target) {
    platform::IscsiDiskOptions o;
    o.session.portal = portal;
    o.session.target = target;
    o.session.initiator = "iqn.2026-11.org.duet:dump-writer";
    o.name = target;
    o.command_timeout = seconds(60);
    return o;
  }

  void next() {
    if (at_ == size_ || failed_) return;
    const std::size_t from = at_ % data_.bytes.size();
    const auto n =
        std::min({piece, data_.bytes.size() - from, static_cast<std::size_t>(size_ - at_)});
    const auto offset = disk::data_offset + at_;
    at_ += n;
    ++under_way_;
    disk_.write(offset, {{data_.owner, data_.bytes.subspan(from, n)}}, false,
                [this](Result<void> r) {
                  --under_way_;
                  failed_ = failed_ || !r;
                  next();
                });
  }

  platform::EventLoop loop_;
  platform::IscsiDisk disk_;
  Slice data_;
  std::uint64_t size_ = 0, at_ = 0;
  int under_way_ = 0;
  bool failed_ = false;
};

// The front of the raw dump on a disk's image. Empty: it cannot be read.
Slice front_of_dump(const char* image, std::size_t size) {
  const int file = ::open(image, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  OwnedBuffer buffer = make_buffer(size);
  const auto n = ::pread(file, buffer.bytes.data(), size, static_cast<off_t>(disk::data_offset));
  ::close(file);
  return n == static_cast<ssize_t>(size) ? buffer.slice() : Slice{};
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t size = 0;
  const std::string text = argc == 5 ? argv[4] : "";
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (error != std::errc() || size == 0 || size % 4096 != 0) {
    std::fprintf(stderr, "dump_writer PORTAL TARGET IMAGE BYTES\n");
    return 2;
  }
  Slice data = front_of_dump(argv[3], std::min<std::uint64_t>(size, sample));
  Writer writer(argv[1], argv[2]);
  if (data.bytes.empty() || !writer.connect()) {
    std::fprintf(stderr, "dump_writer: %s\n", data.bytes.empty() ? argv[3] : "no disk");
    return 1;
  }
  auto took = writer.write(data, size);
  if (!took) {
    std::fprintf(stderr, "dump_writer: a write failed\n");
    return 1;
  }
  std::printf("{\"ms\": %.3f}\n", *took);
  return 0;
}
