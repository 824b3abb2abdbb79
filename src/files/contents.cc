#include "files/contents.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/zero.h"
#include "filesystem/log_record.h"

namespace duet::files {
namespace {

using filesystem::block_size;
using filesystem::sector_size;

constexpr std::uint64_t down(std::uint64_t n, std::uint64_t unit) {
  return n / unit * unit;
}
constexpr std::uint64_t up(std::uint64_t n, std::uint64_t unit) {
  return down(n + unit - 1, unit);
}

// A copy of the sector at `offset`.
Attempt<OwnedBuffer> sector(Draft& draft, FileKey file, const Inode& inode, std::uint64_t offset) {
  OwnedBuffer buffer = make_buffer(sector_size);
  if (offset >= inode.size) return buffer;
  auto block = draft.block(file, offset / block_size);
  if (!block) return std::unexpected(block.error());
  std::ranges::copy(block->subspan(offset % block_size, sector_size), buffer.bytes.begin());
  return buffer;
}

// Bytes [from, from + length) of the data.
void append(std::vector<Slice>& to, const std::vector<Slice>& data, std::uint64_t from,
            std::uint64_t length) {
  for (const Slice& slice : data) {
    const std::uint64_t skip = std::min<std::uint64_t>(from, slice.bytes.size());
    const std::uint64_t take = std::min<std::uint64_t>(length, slice.bytes.size() - skip);
    if (take > 0) to.push_back({slice.owner, slice.bytes.subspan(skip, take)});
    from -= skip;
    length -= take;
  }
}
void copy(MutableBytes to, const std::vector<Slice>& data, std::uint64_t from,
          std::uint64_t length) {
  std::vector<Slice> parts;
  append(parts, data, from, length);
  for (const Slice& part : parts) {
    std::ranges::copy(part.bytes, to.begin());
    to = to.subspan(part.bytes.size());
  }
}

// Zeros from `from` to `to` in one sector; nothing is drafted if it is so already.
Attempt<void> zero_part(Draft& draft, FileKey file, const Inode& inode, std::uint64_t from,
                        std::uint64_t to) {
  const std::uint64_t at = down(from, sector_size);
  auto buffer = sector(draft, file, inode, at);
  if (!buffer) return std::unexpected(buffer.error());
  MutableBytes part = buffer->bytes.subspan(from - at, to - from);
  if (all_zero(part)) return {};
  std::ranges::fill(part, std::byte{0});
  draft.write(file, at, {buffer->slice()});
  return {};
}

}  // namespace

Attempt<void> write_bytes(Draft& draft, FileKey file, const Inode& inode, std::uint64_t offset,
                          const std::vector<Slice>& data) {
  std::uint64_t length = 0;
  for (const Slice& slice : data) length += slice.bytes.size();
  ASSERT(length > 0 && offset + length <= filesystem::max_file_size);
  const std::uint64_t end = offset + length;
  const std::uint64_t begin = down(offset, sector_size);
  std::vector<Slice> sectors;
  std::uint64_t done = offset;  // up to here the data is in `sectors`
  if (begin != offset) {
    auto head = sector(draft, file, inode, begin);
    if (!head) return std::unexpected(head.error());
    done = std::min(end, begin + sector_size);
    copy(head->bytes.subspan(offset - begin), data, 0, done - offset);
    sectors.push_back(head->slice());
  }
  const std::uint64_t tail_at = std::max(done, down(end, sector_size));
  if (tail_at > done) append(sectors, data, done - offset, tail_at - done);
  if (tail_at < end) {
    // What is beyond the end is zeros, without a look.
    auto tail = end < inode.size ? sector(draft, file, inode, tail_at) : make_buffer(sector_size);
    if (!tail) return std::unexpected(tail.error());
    copy(tail->bytes, data, tail_at - offset, end - tail_at);
    sectors.push_back(tail->slice());
  }
  draft.write(file, begin, std::move(sectors));
  return {};
}

Attempt<void> zero_bytes(Draft& draft, FileKey file, const Inode& inode, std::uint64_t offset,
                         std::uint64_t length) {
  if (offset >= inode.size) return {};
  std::uint64_t end = std::min(inode.size, offset + length);
  if (end == inode.size) end = up(end, block_size);  // what is beyond is zeros anyway
  const std::uint64_t first = up(offset, sector_size);
  const std::uint64_t last = down(end, sector_size);
  if (first > last) return zero_part(draft, file, inode, offset, end);  // within one sector
  if (offset < first) {
    if (auto part = zero_part(draft, file, inode, offset, first); !part) return part;
  }
  if (last < end) {
    if (auto part = zero_part(draft, file, inode, last, end); !part) return part;
  }
  draft.zero(file, first, last - first);
  return {};
}

Attempt<void> resize(Draft& draft, FileKey file, std::uint64_t size) {
  auto inode = draft.change_inode(file);
  if (!inode) return std::unexpected(inode.error());
  if (size < (*inode)->size) {
    auto cut = zero_bytes(draft, file, **inode, size, (*inode)->size - size);
    if (!cut) return cut;
  }
  (*inode)->size = size;
  return {};
}

}  // namespace duet::files
