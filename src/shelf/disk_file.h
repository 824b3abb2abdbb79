// Files of a shelf's disk: a sparse data file, and a small file that is replaced as a whole.
// Blocking calls; everything is checked against the size given at opening.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace duet::shelf {

class DiskFile {
 public:
  // Creates the file (sparse) if it is missing. Refuses one of another size.
  static Result<DiskFile> open(const std::filesystem::path& path, std::uint64_t size);
  DiskFile(DiskFile&& other) noexcept;
  DiskFile& operator=(DiskFile&&) = delete;
  ~DiskFile();

  Status read(std::uint64_t offset, MutableBytes into) const;
  // Only if it needs no waiting for the device; false: nothing usable in `into`.
  bool read_if_cached(std::uint64_t offset, MutableBytes into) const;
  Status write(std::uint64_t offset, const std::vector<Slice>& data) const;
  Status zero(std::uint64_t offset, std::uint64_t length) const;  // frees the space
  Status sync() const;  // survives a power loss of the machine
  std::uint64_t size() const { return size_; }

 private:
  DiskFile(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
  int fd_;
  std::uint64_t size_;
};

// Nothing if there is no such file.
Result<std::optional<std::vector<std::byte>>> load_file(const std::filesystem::path& path);
// Old or new content after a crash at any moment, never a mixture: temporary file, fsync, rename,
// fsync of the directory. Durable when it returns.
Status replace_file(const std::filesystem::path& path, Bytes content);

}  // namespace duet::shelf
