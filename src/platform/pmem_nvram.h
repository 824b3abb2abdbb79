// The NVRAM region in a file or DAX device, mapped with libpmem. Says truthfully what survives
// power loss:
//   persistent memory (DAX)  persist = cache line flush; persistent
//   file on a disk           persist = msync, about a millisecond; persistent
//   file in memory (tmpfs)   persist = fence; not persistent, refused unless allowed
// Locked exclusively for as long as the object lives, so that two engines never share a region.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ports/nvram.h"

namespace duet::platform {

enum class NvramMedium { persistent_memory, disk_file, volatile_memory };
std::string_view name(NvramMedium medium);

class PmemNvram final : public ports::Nvram {
 public:
  // Creates the file (zeroed, all of its space allocated) if it does not exist. `size`: bytes, a
  // multiple of 4096; 0 with a DAX device or an existing file: as large as it is. Errors: refused
  // (volatile and not allowed; exists with another size), busy (another process has it), invalid
  // (size), io_error, no_space.
  static Result<std::unique_ptr<PmemNvram>> open(const std::string& path, std::uint64_t size,
                                                 bool allow_volatile);
  ~PmemNvram() override;
  PmemNvram(const PmemNvram&) = delete;
  PmemNvram& operator=(const PmemNvram&) = delete;

  MutableBytes region() override { return region_; }
  bool persistent() const override { return medium_ != NvramMedium::volatile_memory; }
  void copy(MutableBytes to, Bytes from) override;
  void persist(Bytes range) override;

  NvramMedium medium() const { return medium_; }
  // Bytes from the start that are locked in memory; less than all of them when RLIMIT_MEMLOCK is
  // low.
  std::uint64_t locked_bytes() const { return locked_bytes_; }
  // A sentence for the log: path, size, medium, locking.
  std::string description() const;

 private:
  PmemNvram(std::string path, int fd, MutableBytes region, NvramMedium medium);
  void lock_in_memory();
  void touch();

  std::string path_;
  int fd_;
  MutableBytes region_;
  NvramMedium medium_;
  std::uint64_t locked_bytes_ = 0;
};

}  // namespace duet::platform
