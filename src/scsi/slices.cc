#include "scsi/slices.h"

#include <algorithm>

namespace duet::scsi {

std::uint64_t total_size(const std::vector<Slice>& slices) {
  std::uint64_t size = 0;
  for (const auto& slice : slices) size += slice.bytes.size();
  return size;
}

std::vector<Slice> sub_slices(const std::vector<Slice>& slices, std::uint64_t offset,
                              std::uint64_t size) {
  std::vector<Slice> part;
  for (const auto& slice : slices) {
    if (size == 0) break;
    if (offset >= slice.bytes.size()) {
      offset -= slice.bytes.size();
      continue;
    }
    const auto take = std::min<std::uint64_t>(size, slice.bytes.size() - offset);
    part.push_back({slice.owner, slice.bytes.subspan(offset, take)});
    offset = 0;
    size -= take;
  }
  ASSERT(size == 0);
  return part;
}

std::vector<std::byte> flatten(const std::vector<Slice>& slices) {
  std::vector<std::byte> out;
  out.reserve(total_size(slices));
  for (const auto& slice : slices) out.insert(out.end(), slice.bytes.begin(), slice.bytes.end());
  return out;
}

std::optional<std::uint64_t> first_difference(const std::vector<Slice>& a,
                                              const std::vector<Slice>& b) {
  std::uint64_t at = 0;
  Bytes x, y;
  for (auto i = a.begin(), j = b.begin();;) {
    while (x.empty() && i != a.end()) x = (i++)->bytes;
    while (y.empty() && j != b.end()) y = (j++)->bytes;
    if (x.empty() || y.empty()) break;
    const auto n = std::min(x.size(), y.size());
    if (std::memcmp(x.data(), y.data(), n) != 0)
      return at +
             static_cast<std::uint64_t>(
                 std::mismatch(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n), y.begin())
                     .first -
                 x.begin());
    at += n;
    x = x.subspan(n);
    y = y.subspan(n);
  }
  if (x.empty() && y.empty()) return std::nullopt;
  return at;
}

bool all_zero(const std::vector<Slice>& slices) {
  return std::ranges::all_of(slices, [](const Slice& slice) {
    return std::ranges::all_of(slice.bytes, [](std::byte b) { return b == std::byte{0}; });
  });
}

}  // namespace duet::scsi
