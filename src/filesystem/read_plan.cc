#include "filesystem/read_plan.h"

#include <algorithm>
#include <array>

#include "base/assert.h"

namespace duet::filesystem {
namespace {

// Puts the pieces of a read together; neighbours from one source become one slice or one disk read.
class Assembler {
 public:
  explicit Assembler(ReadPlan& plan) : plan_(plan) {}
  ~Assembler() { finish_run(); }

  void add(const Slice& block, std::uint64_t at, std::uint64_t size) {
    finish_run();
    Slice part{block.owner, block.bytes.subspan(at, size)};
    if (!plan_.data.empty()) {
      Slice& last = plan_.data.back();
      if (last.owner == part.owner && last.bytes.data() + last.bytes.size() == part.bytes.data()) {
        last.bytes = {last.bytes.data(), last.bytes.size() + size};
        return;
      }
    }
    plan_.data.push_back(std::move(part));
  }
  void add_zeros(std::uint64_t size) {
    if (zeros_ == 0) finish_run();
    zeros_ += size;
  }
  void add_disk(std::size_t disk, std::uint64_t offset, std::uint64_t lun_offset,
                std::uint64_t size) {
    if (disk_size_ == 0 || disk != disk_.disk || offset != disk_.offset + disk_size_) {
      finish_run();
      disk_ = {disk, offset, lun_offset, {}};
    }
    disk_size_ += size;
  }

 private:
  void finish_run() {
    if (zeros_ != 0) append_zeros(plan_.data, std::exchange(zeros_, 0));
    if (disk_size_ != 0) {
      disk_.into = make_buffer(std::exchange(disk_size_, 0));
      plan_.data.push_back(disk_.into.slice());
      plan_.reads.push_back(std::move(disk_));
    }
  }
  ReadPlan& plan_;
  std::uint64_t zeros_ = 0;
  std::uint64_t disk_size_ = 0;
  DiskRead disk_;
};

const Slice zero_source{};
const Slice disk_source{};

}  // namespace

ReadPlan plan_read(const PoolGeometry& geometry, const Lun& lun, std::uint64_t offset,
                   std::uint64_t length, std::span<const DirtyCache* const> generations,
                   CleanCache& clean) {
  ASSERT(offset % sector_size == 0 && length % sector_size == 0 &&
         offset + length <= lun.info.size);
  ReadPlan plan;
  Assembler out(plan);
  std::vector<const DirtyExtent*> dirty(generations.size());
  std::uint32_t extent = ~0u;
  while (length > 0) {
    auto new_extent = static_cast<std::uint32_t>(offset / geometry.extent_size);
    if (new_extent != extent) {
      extent = new_extent;
      std::ranges::transform(generations, dirty.begin(), [&](const DirtyCache* generation) {
        return generation->find(lun.instance, extent);
      });
    }
    const ExtentPlace& place = lun.extents[extent];
    std::uint64_t in_extent = offset % geometry.extent_size;
    auto block = static_cast<std::uint32_t>(in_extent / block_size);
    std::uint64_t chunk = std::uint64_t{1} << (in_extent / geometry.chunk_size());
    auto first = static_cast<std::uint32_t>(offset % block_size / sector_size);
    auto count = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(length / sector_size, sectors_per_block - first));

    std::array<const Slice*, sectors_per_block> sources{};
    auto fill = [&](std::uint32_t mask, const Slice* source) {
      bool all = true;
      for (std::uint32_t i = first; i < first + count; ++i) {
        if (sources[i] == nullptr && (mask >> i & 1) != 0) sources[i] = source;
        all &= sources[i] != nullptr;
      }
      return all;
    };
    bool all = false;
    for (const DirtyExtent* changes : dirty) {
      if (all || changes == nullptr) continue;
      auto found = changes->blocks.find(block);
      if (found != changes->blocks.end()) all = fill(found->second.valid, &found->second.slice);
      if (!all && (changes->zeroed & chunk) != 0) all = fill(0xff, &zero_source);
    }
    if (!all && (place.initialised & chunk) == 0) all = fill(0xff, &zero_source);
    Slice cached;
    if (!all) {
      cached = clean.find(lun.instance, offset / block_size);
      fill(0xff, cached.owner != nullptr ? &cached : &disk_source);
    }

    for (std::uint32_t i = first; i < first + count;) {
      std::uint32_t end = i + 1;
      while (end < first + count && sources[end] == sources[i]) ++end;
      std::uint64_t at = std::uint64_t{i} * sector_size,
                    size = std::uint64_t{end - i} * sector_size;
      if (sources[i] == &zero_source) {
        out.add_zeros(size);
      } else if (sources[i] == &disk_source) {
        std::uint64_t address =
            geometry.extent_address(place.extent) + std::uint64_t{block} * block_size + at;
        out.add_disk(place.disk, address, offset / block_size * block_size + at, size);
      } else {
        out.add(*sources[i], at, size);
      }
      i = end;
    }
    offset += std::uint64_t{count} * sector_size;
    length -= std::uint64_t{count} * sector_size;
  }
  return plan;
}

}  // namespace duet::filesystem
