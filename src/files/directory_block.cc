#include "files/directory_block.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/assert.h"

namespace duet::files {
namespace {

constexpr std::uint32_t magic = 0x52494444;  // "DDIR"
constexpr std::uint8_t version = 1;

constexpr std::size_t version_at = 4;
constexpr std::size_t level_at = 5;
constexpr std::size_t count_at = 6;
constexpr std::size_t used_at = 8;
constexpr std::size_t unused_at = 10;
constexpr std::size_t number_at = 12;
constexpr std::size_t owner_at = 16;
constexpr std::size_t low_at = 24;

// Of an entry: key, value, type, length of the name, name.
constexpr std::size_t value_at = 8;
constexpr std::size_t type_at = 16;
constexpr std::size_t length_at = 17;

std::unexpected<Error> damaged(const Expected& expected, const char* field) {
  return fail(ErrorCode::invalid, "directory " + std::to_string(expected.owner.value()) +
                                      ", block " + std::to_string(expected.number) + ": " + field);
}

template <class T>
T get(Bytes block, std::size_t at) {
  return load_le<T>(block.data() + at);
}
template <class T>
void put(MutableBytes block, std::size_t at, std::uint64_t v) {
  store_le(block.data() + at, static_cast<T>(v));
}

void set_fill(MutableBytes block, std::size_t count, std::size_t used) {
  put<std::uint16_t>(block, count_at, count);
  put<std::uint16_t>(block, used_at, used);
}

// Shifts what is from `offset` on by `by` bytes, and keeps the rest of the block zero.
void open_gap(MutableBytes block, std::size_t offset, std::size_t by) {
  std::size_t end = directory_header_size + used(block);
  ASSERT(offset <= end && end + by <= block.size());
  std::memmove(block.data() + offset + by, block.data() + offset, end - offset);
}
void close_gap(MutableBytes block, std::size_t offset, std::size_t by) {
  std::size_t end = directory_header_size + used(block);
  ASSERT(offset + by <= end);
  std::memmove(block.data() + offset, block.data() + offset + by, end - offset - by);
  std::memset(block.data() + end - by, 0, by);
}

Status check_leaf(Bytes block, const Expected& expected) {
  std::size_t offset = directory_header_size;
  const std::size_t end = offset + used(block);
  std::uint64_t least = expected.low;
  for (std::size_t i = count(block); i > 0; --i) {
    if (end - offset < entry_fixed_size) return damaged(expected, "an entry is cut off");
    Bytes fixed = block.subspan(offset, entry_fixed_size);
    const auto key = get<std::uint64_t>(fixed, 0);
    if (key < least || key >= expected.high) return damaged(expected, "key out of order");
    least = key + 1;
    const auto type = std::to_integer<unsigned>(fixed[type_at]);
    if (type == 0 || type > static_cast<unsigned>(FileType::special)) {
      return damaged(expected, "type of an entry");
    }
    if (get<std::uint64_t>(fixed, value_at) == 0) return damaged(expected, "entry without inode");
    const auto length = std::to_integer<std::size_t>(fixed[length_at]);
    offset += entry_fixed_size;
    if (end - offset < length) return damaged(expected, "an entry is cut off");
    if (!valid_name({reinterpret_cast<const char*>(block.data()) + offset, length})) {
      return damaged(expected, "name of an entry");
    }
    offset += length;
  }
  if (offset != end) return damaged(expected, "entries and their number do not agree");
  return {};
}

Status check_interior(Bytes block, const Expected& expected) {
  const std::size_t n = count(block);
  if (n == 0 || used(block) != n * child_size) return damaged(expected, "number of children");
  std::uint64_t least = expected.low;
  for (std::size_t i = 0; i < n; ++i) {
    Child child = child_at(block, i);
    if (i == 0 ? child.low != expected.low : child.low < least) {
      return damaged(expected, "key out of order");
    }
    if (child.low >= expected.high) return damaged(expected, "key out of order");
    least = child.low + 1;
    if (child.number == 0 || child.number >= expected.blocks) {
      return damaged(expected, "number of a child");
    }
  }
  return {};
}

}  // namespace

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > max_name) return false;
  if (name[0] == '.' && (name.size() == 1 || (name.size() == 2 && name[1] == '.'))) return false;
  return std::memchr(name.data(), '/', name.size()) == nullptr &&
         std::memchr(name.data(), 0, name.size()) == nullptr;
}

Status check_block(Bytes block, const Expected& expected) {
  if (block.size() != block_size) return damaged(expected, "size");
  if (get<std::uint32_t>(block, 0) != magic) return damaged(expected, "magic");
  if (block[version_at] != std::byte{version}) {
    return fail(ErrorCode::unsupported_version,
                "directory " + std::to_string(expected.owner.value()) + ": version " +
                    std::to_string(std::to_integer<int>(block[version_at])));
  }
  if (get<std::uint64_t>(block, owner_at) != expected.owner.value()) {
    return damaged(expected, "belongs to another file");
  }
  if (get<std::uint32_t>(block, number_at) != expected.number) return damaged(expected, "number");
  if (get<std::uint16_t>(block, unused_at) != 0) return damaged(expected, "unused bytes");
  if (low_key(block) != expected.low) return damaged(expected, "lowest key");
  if (level(block) > max_directory_level ||
      (expected.level != Expected::any_level && level(block) != expected.level)) {
    return damaged(expected, "level");
  }
  if (used(block) > directory_room) return damaged(expected, "bytes used");
  return level(block) == 0 ? check_leaf(block, expected) : check_interior(block, expected);
}

std::uint8_t level(Bytes block) {
  return std::to_integer<std::uint8_t>(block[level_at]);
}
std::uint16_t count(Bytes block) {
  return get<std::uint16_t>(block, count_at);
}
std::size_t used(Bytes block) {
  return get<std::uint16_t>(block, used_at);
}
std::uint64_t low_key(Bytes block) {
  return get<std::uint64_t>(block, low_at);
}

void format_block(MutableBytes block, InodeNumber owner, std::uint32_t number, std::uint8_t level,
                  std::uint64_t low) {
  ASSERT(block.size() == block_size && level <= max_directory_level);
  std::ranges::fill(block, std::byte{0});
  put<std::uint32_t>(block, 0, magic);
  block[version_at] = std::byte{version};
  block[level_at] = std::byte{level};
  put<std::uint32_t>(block, number_at, number);
  put<std::uint64_t>(block, owner_at, owner.value());
  put<std::uint64_t>(block, low_at, low);
}
void set_number(MutableBytes block, std::uint32_t number) {
  put<std::uint32_t>(block, number_at, number);
}

std::size_t first_entry() {
  return directory_header_size;
}
std::size_t end_of_entries(Bytes leaf) {
  return directory_header_size + used(leaf);
}
std::size_t next_entry(Bytes leaf, std::size_t offset) {
  return offset + entry_fixed_size + std::to_integer<std::size_t>(leaf[offset + length_at]);
}
Entry entry_at(Bytes leaf, std::size_t offset) {
  Entry entry;
  entry.key = get<std::uint64_t>(leaf, offset);
  entry.value = get<std::uint64_t>(leaf, offset + value_at);
  entry.type = static_cast<FileType>(leaf[offset + type_at]);
  entry.name = {reinterpret_cast<const char*>(leaf.data()) + offset + entry_fixed_size,
                std::to_integer<std::size_t>(leaf[offset + length_at])};
  return entry;
}
std::size_t lower_bound(Bytes leaf, std::uint64_t key) {
  std::size_t offset = first_entry();
  const std::size_t end = end_of_entries(leaf);
  while (offset < end && get<std::uint64_t>(leaf, offset) < key) offset = next_entry(leaf, offset);
  return offset;
}
void insert_entry(MutableBytes leaf, std::size_t offset, const Entry& entry) {
  ASSERT(level(leaf) == 0 && entry.name.size() <= max_name && entry.value != 0);
  const std::size_t size = entry_size(entry.name);
  open_gap(leaf, offset, size);
  put<std::uint64_t>(leaf, offset, entry.key);
  set_entry(leaf, offset, entry.value, entry.type);
  leaf[offset + length_at] = static_cast<std::byte>(entry.name.size());
  std::memcpy(leaf.data() + offset + entry_fixed_size, entry.name.data(), entry.name.size());
  set_fill(leaf, std::size_t{count(leaf)} + 1, used(leaf) + size);
}
void remove_entry(MutableBytes leaf, std::size_t offset) {
  const std::size_t size = next_entry(leaf, offset) - offset;
  close_gap(leaf, offset, size);
  set_fill(leaf, std::size_t{count(leaf)} - 1, used(leaf) - size);
}
void set_entry(MutableBytes leaf, std::size_t offset, std::uint64_t value, FileType type) {
  put<std::uint64_t>(leaf, offset + value_at, value);
  leaf[offset + type_at] = static_cast<std::byte>(type);
}

Child child_at(Bytes block, std::size_t index) {
  const std::size_t at = directory_header_size + index * child_size;
  return {get<std::uint64_t>(block, at), get<std::uint32_t>(block, at + 8)};
}
std::size_t child_for(Bytes block, std::uint64_t key) {
  std::size_t low = 0;
  std::size_t high = count(block);  // the child is in [low, high)
  while (high - low > 1) {
    std::size_t middle = (low + high) / 2;
    (child_at(block, middle).low <= key ? low : high) = middle;
  }
  return low;
}
void insert_child(MutableBytes block, std::size_t index, const Child& child) {
  ASSERT(level(block) > 0 && index <= count(block));
  const std::size_t at = directory_header_size + index * child_size;
  open_gap(block, at, child_size);
  put<std::uint64_t>(block, at, child.low);
  put<std::uint32_t>(block, at + 8, child.number);
  set_fill(block, std::size_t{count(block)} + 1, used(block) + child_size);
}
void remove_child(MutableBytes block, std::size_t index) {
  close_gap(block, directory_header_size + index * child_size, child_size);
  set_fill(block, std::size_t{count(block)} - 1, used(block) - child_size);
}
void set_child(MutableBytes block, std::size_t index, std::uint32_t number) {
  put<std::uint32_t>(block, directory_header_size + index * child_size + 8, number);
}

void split_block(MutableBytes left, MutableBytes right, std::uint32_t number) {
  std::size_t kept = count(left) / 2;  // items that stay
  std::size_t offset = directory_header_size + kept * child_size;
  if (level(left) == 0) {
    kept = 0;
    offset = first_entry();
    while (kept == 0 || (offset < directory_header_size + used(left) / 2 &&
                         next_entry(left, offset) < end_of_entries(left))) {
      offset = next_entry(left, offset);
      ++kept;
    }
  }
  const std::size_t moved = directory_header_size + used(left) - offset;
  ASSERT(kept > 0 && kept < count(left));
  format_block(right, InodeNumber(get<std::uint64_t>(left, owner_at)), number, level(left),
               get<std::uint64_t>(left, offset));
  std::memcpy(right.data() + directory_header_size, left.data() + offset, moved);
  set_fill(right, count(left) - kept, moved);
  std::memset(left.data() + offset, 0, moved);
  set_fill(left, kept, used(left) - moved);
}
void append_block(MutableBytes left, Bytes right) {
  ASSERT(level(left) == level(right) && used(left) + used(right) <= directory_room);
  std::memcpy(left.data() + directory_header_size + used(left),
              right.data() + directory_header_size, used(right));
  set_fill(left, std::size_t{count(left)} + count(right), used(left) + used(right));
}

}  // namespace duet::files
