#include "image_disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <scsi/sg.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace duet {
namespace {

constexpr std::uint64_t block_size = 4096;

std::string reason() {
  return std::strerror(errno);
}

// Has somebody reserved this SCSI disk? (PERSISTENT RESERVE IN, READ RESERVATION; SPC-4 6.16.3.)
// False as well if that cannot be known.
bool reserved(int file) {
  std::array<std::uint8_t, 10> command{0x5e, 0x01, 0, 0, 0, 0, 0, 0, 24, 0};
  std::array<std::uint8_t, 24> answer{};
  std::array<std::uint8_t, 32> sense{};
  sg_io_hdr_t request{};
  request.interface_id = 'S';
  request.dxfer_direction = SG_DXFER_FROM_DEV;
  request.cmdp = command.data();
  request.cmd_len = command.size();
  request.dxferp = answer.data();
  request.dxfer_len = answer.size();
  request.sbp = sense.data();
  request.mx_sb_len = sense.size();
  request.timeout = 5000;  // ms
  if (::ioctl(file, SG_IO, &request) != 0 || request.status != 0 || request.host_status != 0) {
    return false;
  }
  const unsigned length = answer[6] * 256u + answer[7];  // of a list that never is longer
  return length >= 16;
}

}  // namespace

Result<std::unique_ptr<ImageDisk>> ImageDisk::open(ports::Scheduler& scheduler,
                                                   const std::string& path, bool in_use) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return fail(ErrorCode::not_found, path + ": " + reason());
  const bool device = S_ISBLK(status.st_mode);
  const int exclusive = device && !in_use ? O_EXCL : 0;  // refused while it is mounted
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | exclusive);
  if (file < 0) {
    const auto code = errno == EBUSY ? ErrorCode::busy : ErrorCode::io_error;
    return fail(code, path + " cannot be opened: " + reason());
  }
  std::unique_ptr<ImageDisk> disk(new ImageDisk(scheduler, path, file));
  if (!in_use && !device && ::flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return fail(ErrorCode::busy, path + " is in use: another process has locked it");
  }
  if (!in_use && device && reserved(file)) {
    return fail(ErrorCode::busy, path + " is reserved: a node may be using it");
  }
  if (auto measured = disk->measure(); !measured) return std::unexpected(measured.error());
  return disk;
}

Status ImageDisk::measure() {
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0) return fail(ErrorCode::io_error, path_ + ": " + reason());
  geometry_.size = static_cast<std::uint64_t>(status.st_size);
  geometry_.block_size = 512;
  if (!S_ISBLK(status.st_mode)) return {};
  int sector = 0;
  if (::ioctl(file_.get(), BLKGETSIZE64, &geometry_.size) != 0 ||
      ::ioctl(file_.get(), BLKSSZGET, &sector) != 0 || sector <= 0) {
    return fail(ErrorCode::io_error, path_ + " does not say its size: " + reason());
  }
  geometry_.block_size = static_cast<std::uint32_t>(sector);
  return {};
}

Status ImageDisk::read_now(std::uint64_t offset, MutableBytes into) const {
  for (std::size_t at = 0; at < into.size();) {
    const ssize_t got =
        ::pread(file_.get(), into.data() + at, into.size() - at, static_cast<off_t>(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return fail(ErrorCode::io_error, path_ + " cannot be read at " + std::to_string(offset + at) +
                                           ": " + (got < 0 ? reason() : "it ends"));
    }
    at += static_cast<std::size_t>(got);
  }
  const auto end = written_.lower_bound((offset + into.size() + block_size - 1) / block_size);
  for (auto it = written_.lower_bound(offset / block_size); it != end; ++it) {
    const std::uint64_t begin = it->first * block_size;
    const std::uint64_t from = std::max(begin, offset);
    const std::uint64_t to = std::min(begin + block_size, offset + into.size());
    std::memcpy(into.data() + (from - offset), it->second.data() + (from - begin), to - from);
  }
  return {};
}

void ImageDisk::read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) {
  scheduler_.post([done = std::move(done), status = read_now(offset, into)]() mutable {
    done(std::move(status));
  });
}

void ImageDisk::write(std::uint64_t offset, std::vector<Slice> data, bool, ports::Done<void> done) {
  Status status;
  for (const Slice& slice : data) {
    for (Bytes rest = slice.bytes; !rest.empty() && status;) {
      const std::uint64_t number = offset / block_size;
      const std::uint64_t at = offset % block_size;
      const std::size_t part = std::min<std::size_t>(rest.size(), block_size - at);
      auto [block, added] = written_.try_emplace(number, block_size);
      // The part of the block that stays as it is on the disk.
      if (added && part < block_size) {
        auto whole = std::move(block->second);
        written_.erase(block);
        status = read_now(number * block_size, whole);
        block = written_.emplace(number, std::move(whole)).first;
      }
      std::memcpy(block->second.data() + at, rest.data(), part);
      offset += part;
      rest = rest.subspan(part);
    }
  }
  scheduler_.post([done = std::move(done), status]() mutable { done(std::move(status)); });
}

void ImageDisk::flush(ports::Done<void> done) {
  scheduler_.post([done = std::move(done)]() mutable { done({}); });
}

}  // namespace duet
