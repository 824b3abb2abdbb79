#include "filesystem/inode.h"

#include <algorithm>

#include "base/assert.h"
#include "base/zero.h"

namespace duet::filesystem {
namespace {

constexpr std::uint8_t inode_version = 1;
constexpr std::size_t root_offset = 104;
constexpr std::size_t version_offset = 120;
constexpr std::size_t reserved_offset = 122;
constexpr std::size_t inline_offset = 152;
static_assert(inline_offset + max_inline == inode_size);

std::unexpected<Error> damaged(const char* field) {
  return fail(ErrorCode::invalid, std::string("inode: ") + field);
}

// The numbers between type and root, in their order; both directions.
template <class I, class F>
void numbers(I& inode, F&& field) {
  field(inode.mode);
  field(inode.links);
  field(inode.owner);
  field(inode.group);
  field(inode.size);
  field(inode.blocks);
  field(inode.accessed);
  field(inode.modified);
  field(inode.changed);
  field(inode.created);
  field(inode.change_count);
  field(inode.attributes);
  field(inode.parent);
  field(inode.device);
  field(inode.entries);
}

struct Put {
  std::byte* to;
  template <class T>
  void operator()(const T& v) {
    store_le(to, static_cast<std::make_unsigned_t<T>>(v));
    to += sizeof v;
  }
  void operator()(const InodeNumber& v) { (*this)(v.value()); }
};

struct Get {
  const std::byte* from;
  template <class T>
  void operator()(T& v) {
    v = static_cast<T>(load_le<std::make_unsigned_t<T>>(from));
    from += sizeof v;
  }
  void operator()(InodeNumber& v) {
    v = InodeNumber(load_le<std::uint64_t>(from));
    from += sizeof v;
  }
};

}  // namespace

void encode(const Inode& inode, MutableBytes to) {
  ASSERT(to.size() == inode_size);
  std::ranges::fill(to, std::byte{0});
  if (inode.type == FileType::none) return;
  ASSERT(inode.levels <= max_levels && inode.size <= max_file_size);
  ASSERT(inode.blocks <= max_file_blocks && inode.inlined.size() <= max_inline);
  ASSERT(!inode.root.hole() || inode.root == BlockPointer{});
  to[0] = static_cast<std::byte>(inode.type);
  to[1] = static_cast<std::byte>(inode.levels);
  Put put{to.data() + 2};
  numbers(inode, put);
  ASSERT(put.to == to.data() + root_offset);
  store_pointer(put.to, inode.root);
  to[version_offset] = std::byte{inode_version};
  to[version_offset + 1] = static_cast<std::byte>(inode.inlined.size());
  std::ranges::copy(std::as_bytes(std::span(inode.inlined)), to.begin() + inline_offset);
}

Result<Inode> decode_inode(Bytes from) {
  if (from.size() != inode_size) return damaged("length");
  Inode inode;
  auto type = std::to_integer<std::uint8_t>(from[0]);
  if (type == 0) {
    if (!all_zero(from)) return damaged("a free one that is not empty");
    return inode;
  }
  if (from[version_offset] != std::byte{inode_version}) {
    return fail(ErrorCode::unsupported_version,
                "inode: version " + std::to_string(std::to_integer<int>(from[version_offset])));
  }
  if (type > static_cast<std::uint8_t>(FileType::special)) return damaged("type");
  inode.type = static_cast<FileType>(type);
  inode.levels = std::to_integer<std::uint8_t>(from[1]);
  if (inode.levels > max_levels) return damaged("levels");
  numbers(inode, Get{from.data() + 2});
  if (inode.size > max_file_size) return damaged("size");
  if (inode.blocks > max_file_blocks) return damaged("blocks");
  inode.root = load_pointer(from.data() + root_offset);
  if (inode.root.hole() && inode.root != BlockPointer{}) return damaged("root");
  std::size_t length = std::to_integer<std::size_t>(from[version_offset + 1]);
  if (length > max_inline) return damaged("length of what is inlined");
  if (!all_zero(from.subspan(reserved_offset, inline_offset - reserved_offset)) ||
      !all_zero(from.subspan(inline_offset + length))) {
    return damaged("unused bytes");
  }
  inode.inlined.assign(reinterpret_cast<const char*>(from.data()) + inline_offset, length);
  return inode;
}

}  // namespace duet::filesystem
