#include "platform/shared_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace duet::platform {

Result<SharedMemory> SharedMemory::create() {
  int descriptor = ::memfd_create("duet-shared", MFD_CLOEXEC);
  if (descriptor < 0 || ::ftruncate(descriptor, sizeof(SharedState)) != 0) {
    auto why = std::string(std::strerror(errno));
    if (descriptor >= 0) ::close(descriptor);
    return fail(ErrorCode::io_error, "no shared memory: " + why);
  }
  return map(descriptor);
}

Result<SharedMemory> SharedMemory::map(int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0 ||
      static_cast<std::size_t>(status.st_size) < sizeof(SharedState)) {
    ::close(descriptor);
    return fail(ErrorCode::invalid, "the shared memory is not the supervisor's");
  }
  void* p = ::mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (p == MAP_FAILED) {
    auto why = std::string(std::strerror(errno));
    ::close(descriptor);
    return fail(ErrorCode::io_error, "cannot map the shared memory: " + why);
  }
  // One page; best effort, a page fault here costs no more than a page fault.
  [[maybe_unused]] int locked = ::mlock(p, sizeof(SharedState));
  return SharedMemory(descriptor, static_cast<SharedState*>(p));
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      state_(std::exchange(other.state_, nullptr)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(state_, other.state_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (state_) ::munmap(state_, sizeof(SharedState));
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace duet::platform
