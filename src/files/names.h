// What the operations have in common: names in directories, links, times of inodes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "files/directory_tree.h"
#include "files/draft.h"
#include "files/record.h"

namespace duet::files {

inline constexpr std::uint16_t type_bits_fifo = 0010000;
inline constexpr std::uint16_t type_bits_directory = 0040000;
inline constexpr std::uint16_t type_bits_regular = 0100000;
inline constexpr std::uint16_t type_bits_symlink = 0120000;
inline constexpr std::uint16_t permission_bits = 07777;

// A file that clients may name by its handle; failure stale: for extended attributes and the
// pool's own files, too.
Attempt<const Inode*> look_file(Draft& draft, FileKey file);
// Failure: not_directory.
Attempt<const Inode*> look_directory(Draft& draft, FileKey file);

// . and .. exist everywhere, so they are refused with `dots`. Failures: invalid, name_too_long.
Attempt<void> check_name(std::string_view name, Outcome dots);

struct Named {
  std::uint64_t key = 0;
  InodeNumber inode;
  FileType type = FileType::none;
};
// A name in a directory, or the key where it would go.
struct Place {
  std::uint64_t key = 0;
  std::optional<Named> named;
};
Attempt<Place> find_name(Draft& draft, FileKey directory, std::string_view name);
// What a name leads to; failure io, if it leads nowhere.
Attempt<const Inode*> look_named(Draft& draft, FileKey directory, const Named& named);

// These three touch the directory.
Attempt<void> add_name(Draft& draft, FileKey directory, const Place& place, std::string_view name,
                       InodeNumber inode, FileType type, std::int64_t time);
Attempt<void> remove_name(Draft& draft, FileKey directory, const Named& named, std::int64_t time);
Attempt<void> replace_name(Draft& draft, FileKey directory, const Named& named, InodeNumber inode,
                           FileType type, std::int64_t time);

// One link less; without any, the file and its attributes are freed. Directories: always freed.
Attempt<void> drop_link(Draft& draft, FileKey file, std::int64_t time);

void touch(Inode& inode, std::int64_t time);           // changed
void touch_contents(Inode& inode, std::int64_t time);  // changed and modified
Inode make_inode(FileType type, const NewFile& file, std::uint16_t type_bits, std::int64_t time);

}  // namespace duet::files
