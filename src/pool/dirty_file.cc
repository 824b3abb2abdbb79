#include "pool/dirty_file.h"

#include <algorithm>

#include "base/assert.h"
#include "base/data_memory.h"

namespace duet::pool {
namespace {

std::uint8_t sector_bits(std::uint32_t at, std::size_t size) {
  return static_cast<std::uint8_t>(((1u << (size / sector_size)) - 1) << (at / sector_size));
}

// Reads a list of slices from front to back.
class SliceReader {
 public:
  explicit SliceReader(const std::vector<Slice>& slices) : slices_(slices) { skip_empty(); }
  bool done() const { return index_ == slices_.size(); }
  // At most `size` bytes that lie together.
  Slice take(std::size_t size) {
    const Slice& slice = slices_[index_];
    Slice part{slice.owner, slice.bytes.subspan(at_, std::min(size, slice.bytes.size() - at_))};
    at_ += part.bytes.size();
    skip_empty();
    return part;
  }

 private:
  void skip_empty() {
    while (index_ < slices_.size() && at_ == slices_[index_].bytes.size()) {
      ++index_;
      at_ = 0;
    }
  }
  const std::vector<Slice>& slices_;
  std::size_t index_ = 0;
  std::size_t at_ = 0;
};

}  // namespace

const Slice& zero_block() {
  static const Slice zeros = make_buffer(block_size).slice();
  return zeros;
}

void DirtyBlock::make_own() {
  // A reply or a disk write under way may still show the buffer: it must not change under it.
  if (own != nullptr && slice.owner.use_count() == 1) return;
  OwnedBuffer buffer = make_buffer(block_size);
  if (valid != 0) std::ranges::copy(slice.bytes, buffer.bytes.begin());
  slice = buffer.slice();
  own = buffer.bytes.data();
}

void DirtyBlock::merge(std::uint32_t at, Bytes bytes) {
  ASSERT(at % sector_size == 0 && bytes.size() % sector_size == 0);
  ASSERT(at + bytes.size() <= block_size);
  make_own();
  std::ranges::copy(bytes, own + at);
  valid |= sector_bits(at, bytes.size());
}

Slice DirtyBlock::over(const Slice& base) const {
  if (whole()) return slice;
  OwnedBuffer buffer = make_buffer(block_size);
  std::ranges::copy(base.bytes, buffer.bytes.begin());
  for (std::uint32_t i = 0; i < sectors_per_block; ++i) {
    if ((valid >> i & 1) == 0) continue;
    std::ranges::copy(slice.bytes.subspan(i * sector_size, sector_size),
                      buffer.bytes.begin() + i * sector_size);
  }
  return buffer.slice();
}

DirtyBlock& DirtyFile::block(std::uint64_t number) {
  auto [it, added] =
      groups_[number / group_blocks].try_emplace(static_cast<std::uint32_t>(number % group_blocks));
  if (added) {
    ++blocks_;
    if (zeroed(number)) it->second = {0xff, zero_block(), nullptr};
  }
  return it->second;
}

void DirtyFile::write(std::uint64_t offset, const std::vector<Slice>& data) {
  SliceReader reader(data);
  while (!reader.done()) {
    const auto at = static_cast<std::uint32_t>(offset % block_size);
    DirtyBlock& target = block(offset / block_size);
    Slice part = reader.take(block_size - at);
    std::size_t taken = part.bytes.size();
    if (taken == block_size) {
      target = {0xff, std::move(part), nullptr};
    } else if (taken % sector_size == 0) {
      target.merge(at, part.bytes);
    } else {  // pieces of odd sizes, until a sector is full
      const OwnedBuffer joined = make_raw_buffer(block_size);
      std::ranges::copy(part.bytes, joined.bytes.begin());
      while (taken % sector_size != 0) {
        Slice more = reader.take(sector_size - taken % sector_size);
        std::ranges::copy(more.bytes, joined.bytes.begin() + static_cast<std::ptrdiff_t>(taken));
        taken += more.bytes.size();
      }
      target.merge(at, joined.bytes.first(taken));
    }
    offset += taken;
  }
}

void DirtyFile::zero(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  const std::uint64_t first_whole = (offset + block_size - 1) / block_size;
  const std::uint64_t end_whole = end / block_size;
  const auto part = [this](std::uint64_t from, std::uint64_t to) {
    if (from < to) {
      block(from / block_size)
          .merge(static_cast<std::uint32_t>(from % block_size),
                 zero_block().bytes.first(static_cast<std::size_t>(to - from)));
    }
  };
  if (first_whole > end_whole) return part(offset, end);  // inside one block
  part(offset, first_whole * block_size);
  if (first_whole < end_whole) zero_blocks(first_whole, end_whole);
  part(end_whole * block_size, end);
}

void DirtyFile::zero_blocks(std::uint64_t first, std::uint64_t end) {
  for (auto group = groups_.lower_bound(first / group_blocks);
       group != groups_.end() && group->first * group_blocks < end;) {
    const std::uint64_t base = group->first * group_blocks;
    const auto from = static_cast<std::uint32_t>(first > base ? first - base : 0);
    const auto to = static_cast<std::uint32_t>(std::min(end - base, group_blocks));
    auto begin = group->second.lower_bound(from);
    auto stop = group->second.lower_bound(to);
    blocks_ -= static_cast<std::uint64_t>(std::distance(begin, stop));
    group->second.erase(begin, stop);
    group = group->second.empty() ? groups_.erase(group) : std::next(group);
  }
  // Joins with the ranges that overlap or touch.
  auto it = zeroed_.upper_bound(first);
  if (it != zeroed_.begin() && std::prev(it)->second >= first) --it;
  while (it != zeroed_.end() && it->first <= end) {
    first = std::min(first, it->first);
    end = std::max(end, it->second);
    it = zeroed_.erase(it);
  }
  zeroed_[first] = end;
}

MutableBytes DirtyFile::change(std::uint64_t number, Bytes base) {
  DirtyBlock& target = block(number);
  if (!target.whole()) {
    OwnedBuffer buffer = make_buffer(block_size);
    std::ranges::copy(base, buffer.bytes.begin());  // `base` shows what is valid here, too
    target = {0xff, buffer.slice(), buffer.bytes.data()};
  }
  target.make_own();
  return {target.own, block_size};
}

const DirtyBlock* DirtyFile::find(std::uint64_t number) const {
  auto group = groups_.find(number / group_blocks);
  if (group == groups_.end()) return nullptr;
  auto it = group->second.find(static_cast<std::uint32_t>(number % group_blocks));
  return it == group->second.end() ? nullptr : &it->second;
}

bool DirtyFile::zeroed(std::uint64_t number) const {
  auto it = zeroed_.upper_bound(number);
  return it != zeroed_.begin() && std::prev(it)->second > number;
}

}  // namespace duet::pool
