#include "platform/pmem_nvram.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libpmem.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

namespace duet::platform {
namespace {

constexpr std::uint64_t page = 4096;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

std::unexpected<Error> system_error(const std::string& path, const char* what) {
  int error = errno;
  ErrorCode code = error == ENOSPC ? ErrorCode::no_space : ErrorCode::io_error;
  return fail(code, fmt::format("NVRAM {}: {}: {}", path, what, std::strerror(error)));
}

// Makes a new file as large as it shall be, with its space: a write into a mapped hole of a full
// file system would be a SIGBUS.
Status create(const std::string& path, int fd, std::uint64_t size, bool in_memory) {
  if (size == 0 || size % page != 0)
    return fail(
        ErrorCode::invalid,
        fmt::format("NVRAM {}: size {} is not a multiple of 4096 (key 'nvram.size')", path, size));
  if (int error = posix_fallocate(fd, 0, static_cast<off_t>(size)); error != 0) {
    errno = error;
    auto failure = system_error(path, "cannot allocate");
    // Empty again, or the next start would find a region of the wrong size.
    if (ftruncate(fd, 0) != 0) return system_error(path, "cannot allocate, nor truncate again");
    return failure;
  }
  if (in_memory) return {};
  std::string folder = std::filesystem::absolute(path).parent_path().string();
  Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fsync(fd) != 0 || directory.get() < 0 || fsync(directory.get()) != 0)
    return system_error(path, "cannot make the new file durable");
  return {};
}

}  // namespace

std::string_view name(NvramMedium medium) {
  switch (medium) {
    case NvramMedium::persistent_memory:
      return "persistent memory";
    case NvramMedium::disk_file:
      return "file on disk";
    case NvramMedium::volatile_memory:
      return "volatile memory";
  }
  return "?";
}

Result<std::unique_ptr<PmemNvram>> PmemNvram::open(const std::string& path, std::uint64_t size,
                                                   bool allow_volatile) {
  Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (fd.get() < 0) return system_error(path, "cannot open");
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return fail(ErrorCode::busy, fmt::format("NVRAM {}: in use by another process", path));
    return system_error(path, "cannot lock");
  }
  struct stat status;
  struct statfs file_system;
  if (fstat(fd.get(), &status) != 0 || fstatfs(fd.get(), &file_system) != 0)
    return system_error(path, "cannot examine");
  bool regular = S_ISREG(status.st_mode);
  if (!regular && !S_ISCHR(status.st_mode))
    return fail(ErrorCode::invalid, fmt::format("NVRAM {}: neither a file nor a DAX device", path));
  bool in_memory = regular && (file_system.f_type == TMPFS_MAGIC ||
                               file_system.f_type == static_cast<__fsword_t>(RAMFS_MAGIC));
  if (in_memory && !allow_volatile)
    return fail(
        ErrorCode::refused,
        fmt::format(
            "NVRAM {}: lies in ordinary memory and is lost with power; put it on persistent "
            "memory or a disk, or accept that with 'nvram.allow_volatile = true'",
            path));
  if (regular && status.st_size == 0)
    if (Status created = create(path, fd.get(), size, in_memory); !created)
      return std::unexpected(created.error());

  std::size_t mapped = 0;
  int is_pmem = 0;
  void* address = pmem_map_file(path.c_str(), 0, 0, 0, &mapped, &is_pmem);
  if (address == nullptr)
    return fail(ErrorCode::io_error,
                fmt::format("NVRAM {}: cannot map: {}", path, pmem_errormsg()));
  MutableBytes region(static_cast<std::byte*>(address), mapped);
  if ((size != 0 && mapped != size) || mapped % page != 0) {
    pmem_unmap(address, mapped);
    return fail(ErrorCode::refused,
                fmt::format("NVRAM {}: is {} bytes, the configuration says {} (key "
                            "'nvram.size'); a log may be in it, so it stays as it is",
                            path, mapped, size));
  }
  // libpmem can be told by its environment to take any mapping for persistent memory; then it would
  // flush nothing of a disk file.
  bool forced = regular && std::getenv("PMEM_IS_PMEM_FORCE") != nullptr;
  NvramMedium medium = in_memory            ? NvramMedium::volatile_memory
                       : is_pmem && !forced ? NvramMedium::persistent_memory
                                            : NvramMedium::disk_file;
  std::unique_ptr<PmemNvram> nvram(new PmemNvram(path, fd.release(), region, medium));
  nvram->lock_in_memory();
  nvram->touch();
  return nvram;
}

PmemNvram::PmemNvram(std::string path, int fd, MutableBytes region, NvramMedium medium)
    : path_(std::move(path)), fd_(fd), region_(region), medium_(medium) {}

PmemNvram::~PmemNvram() {
  pmem_unmap(region_.data(), region_.size());
  close(fd_);
}

void PmemNvram::lock_in_memory() {
  // As much of the start as the limit allows: headers and control blocks are there.
  for (std::uint64_t size = region_.size(); size >= page; size = size / 2 / page * page)
    if (mlock(region_.data(), size) == 0) {
      locked_bytes_ = size;
      return;
    }
}

// A first touch costs more than the copy that it holds up: all of them now, while nobody waits. No
// need of it: where the kernel does not know how (before 5.14), clients pay.
void PmemNvram::touch() {
  int how = medium_ == NvramMedium::disk_file ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
  static_cast<void>(madvise(region_.data(), region_.size(), how));
  // It is data of clients. Ours is the NVRAM's own file anyway, which no core holds.
  static_cast<void>(madvise(region_.data(), region_.size(), MADV_DONTDUMP));
}

std::string PmemNvram::description() const {
  std::string locked =
      locked_bytes_ == region_.size()
          ? "locked in memory"
          : fmt::format("only {} bytes locked in memory: raise RLIMIT_MEMLOCK", locked_bytes_);
  return fmt::format("NVRAM {}: {} bytes, {}{}, {}", path_, region_.size(), name(medium_),
                     persistent() ? "" : " (lost with power)", locked);
}

void PmemNvram::copy(MutableBytes to, Bytes from) {
  ASSERT(to.size() == from.size() && to.data() >= region_.data() &&
         to.data() + to.size() <= region_.data() + region_.size());
  switch (medium_) {
    case NvramMedium::persistent_memory:
      pmem_memcpy_persist(to.data(), from.data(), from.size());
      return;
    case NvramMedium::disk_file:
    case NvramMedium::volatile_memory:
      std::memcpy(to.data(), from.data(), from.size());
      persist(to);
      return;
  }
  UNREACHABLE();
}

void PmemNvram::persist(Bytes range) {
  switch (medium_) {
    case NvramMedium::persistent_memory:
      pmem_persist(range.data(), range.size());
      return;
    case NvramMedium::disk_file:
      // NVRAM that cannot keep what it was given cannot serve: a panic, and the partner takes over.
      ASSERT(pmem_msync(range.data(), range.size()) == 0);
      return;
    case NvramMedium::volatile_memory:
      std::atomic_thread_fence(std::memory_order_seq_cst);
      return;
  }
  UNREACHABLE();
}

}  // namespace duet::platform
