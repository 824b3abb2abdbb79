#include "files/read_directory.h"

#include <algorithm>

#include "files/directory_tree.h"
#include "files/name_hash.h"
#include "files/names.h"

namespace duet::files {
namespace {

// All are looked at before any is reported missing, so that they come into memory together.
Attempt<void> add_inodes(Draft& draft, VolumeId volume, std::vector<ListedName>& names) {
  std::optional<Failure> failure;
  for (ListedName& name : names) {
    auto inode = draft.inode({volume, name.inode});
    if (inode) {
      if ((*inode)->type == name.type) name.attributes = **inode;
    } else if (inode.error().outcome == Outcome::busy) {
      failure = inode.error();
    }
  }
  if (failure) return std::unexpected(*failure);
  return {};
}

}  // namespace

Attempt<Listing> list(filesystem::View& view, const ListRequest& request) {
  Draft draft(view);
  auto inode = look_directory(draft, request.directory);
  if (!inode) return std::unexpected(inode.error());
  if (request.cookie > cookie_dot_dot &&
      (request.cookie >> ordinal_bits == 0 || request.cookie >> (ordinal_bits + 47) != 0)) {
    return refuse(Outcome::invalid, "cookie");
  }
  const std::size_t limit =
      std::min(request.limit, request.inodes ? max_listed_with_inodes : max_listed);
  Listing listing;
  auto& names = listing.names;
  if (request.dots && request.cookie < cookie_dot && names.size() < limit) {
    names.push_back({cookie_dot, request.directory.inode, FileType::directory, ".", {}});
  }
  if (request.dots && request.cookie < cookie_dot_dot && names.size() < limit) {
    names.push_back({cookie_dot_dot, (*inode)->parent, FileType::directory, "..", {}});
  }
  DirectoryTree tree(draft, request.directory);
  std::uint64_t key = std::max(request.cookie, cookie_dot_dot) + 1;
  while (names.size() < limit && !listing.end) {
    auto leaf = tree.leaf(key);
    if (!leaf) return std::unexpected(leaf.error());
    while (!leaf->bytes.empty() && leaf->offset < end_of_entries(leaf->bytes) &&
           names.size() < limit) {
      Entry entry = entry_at(leaf->bytes, leaf->offset);
      names.push_back(
          {entry.key, InodeNumber(entry.value), entry.type, std::string(entry.name), {}});
      leaf->offset = next_entry(leaf->bytes, leaf->offset);
    }
    const bool done = leaf->bytes.empty() || leaf->offset >= end_of_entries(leaf->bytes);
    listing.end = done && leaf->high == no_upper_bound;
    key = leaf->high;
  }
  if (request.inodes) {
    auto added = add_inodes(draft, request.directory.volume, names);
    if (!added) return std::unexpected(added.error());
  }
  return listing;
}

}  // namespace duet::files
