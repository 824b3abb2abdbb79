// One block of a directory: a leaf with names, or an interior one with children. Format:
// docs/formats/directory.md. check_block() takes foreign bytes; everything else requires a block
// that it has passed, or that was made here.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "filesystem/inode.h"

namespace duet::files {

using filesystem::block_size;
using filesystem::FileType;
using filesystem::InodeNumber;

inline constexpr std::size_t max_name = 255;  // bytes
inline constexpr std::size_t directory_header_size = 32;
inline constexpr std::size_t directory_room = block_size - directory_header_size;  // bytes
inline constexpr std::size_t entry_fixed_size = 18;                                // and the name
inline constexpr std::size_t child_size = 12;
inline constexpr std::uint8_t max_directory_level = 7;
inline constexpr std::uint64_t no_upper_bound = ~std::uint64_t{0};

// 1 to max_name bytes without '/' and 0; neither . nor ..
bool valid_name(std::string_view name);

struct Entry {
  std::uint64_t key = 0;    // also the cookie of readdir
  std::uint64_t value = 0;  // directory: inode number; attributes: where the value lies
  FileType type = FileType::none;
  std::string_view name;
};
inline std::size_t entry_size(std::string_view name) {
  return entry_fixed_size + name.size();
}
struct Child {
  std::uint64_t low = 0;  // keys below are in the child before
  std::uint32_t number = 0;
};

// What a block must say of itself, from the block that led to it.
struct Expected {
  InodeNumber owner;
  std::uint32_t number = 0;
  std::uint64_t blocks = 0;             // of the directory: bound of the numbers of children
  std::uint64_t low = 0;                // keys of the block are at least
  std::uint64_t high = no_upper_bound;  // and below
  std::uint8_t level = any_level;       // 0: leaf
  static constexpr std::uint8_t any_level = 255;
};
// Errors: invalid (the message names field and block), unsupported_version.
Status check_block(Bytes block, const Expected& expected);

std::uint8_t level(Bytes block);
std::uint16_t count(Bytes block);
std::size_t used(Bytes block);  // bytes behind the header
std::uint64_t low_key(Bytes block);

void format_block(MutableBytes block, InodeNumber owner, std::uint32_t number, std::uint8_t level,
                  std::uint64_t low);
void set_number(MutableBytes block, std::uint32_t number);

// ---- leaves: entries by their offset in the block ----
std::size_t first_entry();
std::size_t end_of_entries(Bytes leaf);
std::size_t next_entry(Bytes leaf, std::size_t offset);
Entry entry_at(Bytes leaf, std::size_t offset);
std::size_t lower_bound(Bytes leaf, std::uint64_t key);  // first entry with at least this key
// Requires: room for it, and `offset` is the lower bound of its key.
void insert_entry(MutableBytes leaf, std::size_t offset, const Entry& entry);
void remove_entry(MutableBytes leaf, std::size_t offset);
void set_entry(MutableBytes leaf, std::size_t offset, std::uint64_t value, FileType type);

// ---- interior blocks: children by index ----
Child child_at(Bytes block, std::size_t index);
std::size_t child_for(Bytes block, std::uint64_t key);  // index
void insert_child(MutableBytes block, std::size_t index, const Child& child);
void remove_child(MutableBytes block, std::size_t index);
void set_child(MutableBytes block, std::size_t index, std::uint32_t number);

// Moves the upper half into `right`, which gets this number. Requires: at least two items.
void split_block(MutableBytes left, MutableBytes right, std::uint32_t number);
// Moves everything of `right` behind what is in `left`. Requires: room for it.
void append_block(MutableBytes left, Bytes right);

}  // namespace duet::files
