#include "simulation/disk_image.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::simulation {
namespace {

constexpr std::array<std::byte, DiskImage::page_size> zeros{};

std::uint64_t mixed(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

DiskImage::DiskImage(std::uint64_t size)
    : size_(size), pages_((size + page_size - 1) / page_size) {}

void DiskImage::read(std::uint64_t offset, MutableBytes into) const {
  ASSERT(offset <= size_ && into.size() <= size_ - offset);
  while (!into.empty()) {
    const std::uint64_t at = offset % page_size;
    const std::size_t part = std::min<std::size_t>(into.size(), page_size - at);
    const auto& page = pages_[offset / page_size];
    if (page == nullptr) {
      std::memset(into.data(), 0, part);
    } else {
      std::memcpy(into.data(), page->bytes.data() + at, part);
    }
    offset += part;
    into = into.subspan(part);
  }
}

void DiskImage::write(std::uint64_t offset, Bytes bytes) {
  ASSERT(offset <= size_ && bytes.size() <= size_ - offset);
  while (!bytes.empty()) {
    const std::uint64_t at = offset % page_size;
    const std::size_t part = std::min<std::size_t>(bytes.size(), page_size - at);
    write_page(offset / page_size, at, bytes.first(part));
    offset += part;
    bytes = bytes.subspan(part);
  }
}

void DiskImage::write_page(std::uint64_t number, std::uint64_t at, Bytes bytes) {
  std::shared_ptr<Page>& page = pages_[number];
  const bool nothing = std::memcmp(bytes.data(), zeros.data(), bytes.size()) == 0;
  if (nothing && (page == nullptr || bytes.size() == page_size)) return page.reset();
  if (page == nullptr || page.use_count() > 1) {
    auto copy = std::make_shared_for_overwrite<Page>();
    if (bytes.size() < page_size) copy->bytes = page == nullptr ? zeros : page->bytes;
    page = std::move(copy);
  }
  std::memcpy(page->bytes.data() + at, bytes.data(), bytes.size());
  page->fingerprint = 0;
}

std::uint64_t DiskImage::fingerprint() const {
  std::uint64_t all = size_;
  for (std::size_t i = 0; i < pages_.size(); ++i) {
    const Page* page = pages_[i].get();
    if (page == nullptr) continue;
    if (page->fingerprint == 0) {
      const Bytes bytes(page->bytes);
      const std::uint64_t left = crc32c(bytes.first(page_size / 2));
      const std::uint64_t right = crc32c(bytes.subspan(page_size / 2));
      page->fingerprint = mixed(left << 32 | right) | 1;
    }
    all += mixed(page->fingerprint + i);
  }
  return all;
}

}  // namespace duet::simulation
