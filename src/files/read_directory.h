// The names of a directory, some at a time. A cookie names a place between names, not a count: it
// stays good for ever, through inserts, removals, restarts and takeovers. A name that is there all
// the time is returned exactly once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "files/outcome.h"
#include "filesystem/view.h"

namespace duet::files {

inline constexpr std::uint64_t cookie_start = 0;
inline constexpr std::uint64_t cookie_dot = 1;      // behind .
inline constexpr std::uint64_t cookie_dot_dot = 2;  // behind ..
inline constexpr std::size_t max_listed = 1024;
inline constexpr std::size_t max_listed_with_inodes = 128;

struct ListedName {
  std::uint64_t cookie = 0;  // behind this name; below 2^63
  filesystem::InodeNumber inode;
  filesystem::FileType type = filesystem::FileType::none;
  std::string name;
  std::optional<filesystem::Inode> attributes;  // if asked for; none: damaged
};
struct Listing {
  std::vector<ListedName> names;
  bool end = false;  // nothing follows
};

struct ListRequest {
  filesystem::FileKey directory{};
  std::uint64_t cookie = cookie_start;
  std::size_t limit = max_listed;  // names; not more than the bounds above are returned
  bool inodes = false;
  bool dots = true;  // . and .. too; NFSv4 wants none
};
// Failures: stale, not_directory, invalid (a cookie that was never given), busy, io.
Attempt<Listing> list(filesystem::View& view, const ListRequest& request);

}  // namespace duet::files
