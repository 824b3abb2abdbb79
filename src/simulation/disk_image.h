// What is on a disk: pages of 4 KiB that copies share until one of them is written. Never written
// pages, and those that are all zeros, take no memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"

namespace duet::simulation {

class DiskImage {
 public:
  static constexpr std::uint64_t page_size = 4096;

  DiskImage() = default;
  explicit DiskImage(std::uint64_t size);  // bytes, all zero

  std::uint64_t size() const { return size_; }
  // Requires: offset + size of the bytes <= size().
  void read(std::uint64_t offset, MutableBytes into) const;
  void write(std::uint64_t offset, Bytes bytes);
  // Different contents have different ones, but for an accident; equal ones nearly always the same.
  std::uint64_t fingerprint() const;

 private:
  struct Page {
    std::array<std::byte, page_size> bytes;
    mutable std::uint64_t fingerprint = 0;  // 0: not known
  };
  using Pages = std::vector<std::shared_ptr<Page>>;  // null: zeros

  void write_page(std::uint64_t page, std::uint64_t at, Bytes bytes);

  std::uint64_t size_ = 0;
  Pages pages_;
};

}  // namespace duet::simulation
