#include "shelf/disk_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace duet::shelf {

namespace {

constexpr std::size_t max_parts = 256;  // slices per system call, below IOV_MAX
constexpr std::size_t max_small_file = 1u << 20;

std::unexpected<Error> system_error(const std::string& what) {
  const auto code = errno == ENOSPC ? ErrorCode::no_space : ErrorCode::io_error;
  return fail(code, what + ": " + std::strerror(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status write_all(int fd, Bytes content) {
  while (!content.empty()) {
    const auto n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("write");
    content = content.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Result<DiskFile> DiskFile::open(const std::filesystem::path& path, std::uint64_t size) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return system_error(path.string());
  DiskFile file(fd, size);
  struct stat info{};
  if (::fstat(fd, &info) != 0) return system_error(path.string());
  if (info.st_size == 0 && ::ftruncate(fd, static_cast<off_t>(size)) != 0)
    return system_error(path.string());
  if (info.st_size != 0 && static_cast<std::uint64_t>(info.st_size) != size)
    return fail(ErrorCode::invalid, path.string() + " has " + std::to_string(info.st_size) +
                                        " bytes, not " + std::to_string(size) +
                                        ": give its size with --size, or remove it");
  return file;
}

DiskFile::DiskFile(DiskFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
DiskFile::~DiskFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status DiskFile::read(std::uint64_t offset, MutableBytes into) const {
  ASSERT(offset <= size_ && into.size() <= size_ - offset);
  while (!into.empty()) {
    const auto n = ::pread(fd_, into.data(), into.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("read");
    if (n == 0) return fail(ErrorCode::io_error, "the disk's file has become shorter");
    into = into.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

bool DiskFile::read_if_cached(std::uint64_t offset, MutableBytes into) const {
  ASSERT(offset <= size_ && into.size() <= size_ - offset);
  iovec part{into.data(), into.size()};
  const auto n = ::preadv2(fd_, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  return n == static_cast<ssize_t>(into.size());
}

Status DiskFile::write(std::uint64_t offset, const std::vector<Slice>& data) const {
  std::vector<iovec> parts;
  std::uint64_t total = 0;
  for (const auto& slice : data) {
    if (slice.bytes.empty()) continue;
    parts.push_back({const_cast<std::byte*>(slice.bytes.data()), slice.bytes.size()});
    total += slice.bytes.size();
  }
  ASSERT(offset <= size_ && total <= size_ - offset);
  std::size_t first = 0;
  while (first < parts.size()) {
    const auto count = std::min(parts.size() - first, max_parts);
    auto n = ::pwritev(fd_, &parts[first], static_cast<int>(count), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("write");
    offset += static_cast<std::uint64_t>(n);
    for (auto left = static_cast<std::size_t>(n); left > 0;) {
      const auto used = std::min(left, parts[first].iov_len);
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + used;
      parts[first].iov_len -= used;
      left -= used;
      if (parts[first].iov_len == 0) ++first;
    }
  }
  return {};
}

Status DiskFile::zero(std::uint64_t offset, std::uint64_t length) const {
  ASSERT(offset <= size_ && length <= size_ - offset);
  while (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                     static_cast<off_t>(length)) != 0)
    if (errno != EINTR) return system_error("punch a hole");
  return {};
}

Status DiskFile::sync() const {
  if (::fdatasync(fd_) != 0) return system_error("fdatasync");
  return {};
}

Result<std::optional<std::vector<std::byte>>> load_file(const std::filesystem::path& path) {
  using Content = std::optional<std::vector<std::byte>>;
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) {
    if (errno == ENOENT) return Content{};
    return system_error(path.string());
  }
  std::vector<std::byte> content(max_small_file);
  std::size_t size = 0;
  while (size < content.size()) {
    const auto n = ::read(fd.get(), content.data() + size, content.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path.string());
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  content.resize(size);
  return Content(std::move(content));
}

Status replace_file(const std::filesystem::path& path, Bytes content) {
  auto temporary = path;
  temporary += ".new";
  {
    Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (fd.get() < 0) return system_error(temporary.string());
    if (auto written = write_all(fd.get(), content); !written) return written;
    if (::fsync(fd.get()) != 0) return system_error(temporary.string());
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error(path.string());
  Descriptor directory(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0)
    return system_error(path.parent_path().string());
  return {};
}

}  // namespace duet::shelf
