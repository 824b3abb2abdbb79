// Requests that only look. Failures of all: stale, busy (as in apply.h), io.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "files/outcome.h"
#include "filesystem/view.h"

namespace duet::files {

struct FileAndInode {
  filesystem::FileKey file;
  filesystem::Inode inode;
};

// . and .. among the names. Failures: not_directory, no_entry, name_too_long, invalid.
Attempt<FileAndInode> lookup(filesystem::View& view, filesystem::FileKey directory,
                             std::string_view name);
Attempt<filesystem::Inode> get_inode(filesystem::View& view, filesystem::FileKey file);
// Failure: invalid (not a symlink).
Attempt<std::string> read_symlink(filesystem::View& view, filesystem::FileKey file);

// What a read of `length` bytes gets: the bytes themselves are the pool's business.
struct ReadRange {
  std::uint64_t length = 0;  // from the offset on
  bool end_of_file = false;  // nothing follows
  filesystem::Inode inode;
};
// Failures: is_directory, invalid (neither regular nor vdisk).
Attempt<ReadRange> read_range(filesystem::View& view, filesystem::FileKey file,
                              std::uint64_t offset, std::uint64_t length);

// Failure: no_entry.
Attempt<std::vector<std::byte>> get_attribute(filesystem::View& view, filesystem::FileKey file,
                                              std::string_view name);
Attempt<std::vector<std::string>> list_attributes(filesystem::View& view, filesystem::FileKey file);

}  // namespace duet::files
