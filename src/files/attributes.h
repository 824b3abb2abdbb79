// Extended attributes of a file: an inode of type attributes with a tree of their names, and a slot
// of 64 KiB of the same file for each value (docs/formats/directory.md, "Extended attributes").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "files/directory_tree.h"
#include "files/draft.h"
#include "files/record.h"

namespace duet::files {

inline constexpr std::size_t max_attributes = 128;  // of a file
inline constexpr std::uint64_t value_blocks = max_value / filesystem::block_size;
inline constexpr std::uint64_t attribute_file_blocks =
    attribute_tree_blocks + max_attributes * value_blocks;

// Where the value of an attribute lies, from the value of its entry in the tree.
struct ValuePlace {
  std::uint64_t slot = 0;    // below max_attributes
  std::uint64_t length = 0;  // bytes, at most max_value
  std::uint64_t first_block() const { return attribute_tree_blocks + slot * value_blocks; }
};
std::uint64_t encode(const ValuePlace& place);
Result<ValuePlace> decode_value_place(std::uint64_t value);

// Failures of both: stale, busy, io; of the first: no_entry.
Attempt<std::vector<std::byte>> get_attribute(Draft& draft, FileKey file, std::string_view name);
Attempt<std::vector<std::string>> list_attributes(Draft& draft, FileKey file);

}  // namespace duet::files
