#include "files/names.h"

#include <string>

#include "files/name_hash.h"

namespace duet::files {

Attempt<const Inode*> look_file(Draft& draft, FileKey file) {
  auto inode = draft.inode(file);
  if (!inode) return inode;
  if ((*inode)->type == FileType::attributes || (*inode)->type == FileType::system) {
    return refuse(Outcome::stale);
  }
  return inode;
}

Attempt<const Inode*> look_directory(Draft& draft, FileKey file) {
  auto inode = look_file(draft, file);
  if (inode && (*inode)->type != FileType::directory) return refuse(Outcome::not_directory);
  return inode;
}

Attempt<void> check_name(std::string_view name, Outcome dots) {
  if (name.size() > max_name) return refuse(Outcome::name_too_long);
  if (name == "." || name == "..") return refuse(dots);
  if (!valid_name(name)) return refuse(Outcome::invalid);
  return {};
}

Attempt<Place> find_name(Draft& draft, FileKey directory, std::string_view name) {
  auto slot = DirectoryTree(draft, directory).find(name);
  if (!slot) return std::unexpected(slot.error());
  Place place{slot->key, {}};
  if (slot->entry) {
    place.named = Named{slot->key, InodeNumber(slot->entry->value), slot->entry->type};
  }
  return place;
}

Attempt<const Inode*> look_named(Draft& draft, FileKey directory, const Named& named) {
  const FileKey file{directory.volume, named.inode};
  auto inode = look_file(draft, file);
  if (inode && (*inode)->type == named.type) return inode;
  if (!inode && inode.error().outcome != Outcome::stale) return inode;
  return refuse(Outcome::io, "directory " + std::to_string(directory.inode.value()) +
                                 ": a name leads to inode " + std::to_string(named.inode.value()) +
                                 (inode ? ", which has another type" : ", which is free"));
}

namespace {
Attempt<void> touch_directory(Draft& draft, FileKey directory, std::int64_t time) {
  auto inode = draft.change_inode(directory);
  if (!inode) return std::unexpected(inode.error());
  touch_contents(**inode, time);
  return {};
}
}  // namespace

Attempt<void> add_name(Draft& draft, FileKey directory, const Place& place, std::string_view name,
                       InodeNumber inode, FileType type, std::int64_t time) {
  auto added = DirectoryTree(draft, directory).insert({place.key, inode.value(), type, name});
  if (!added) return added;
  return touch_directory(draft, directory, time);
}

Attempt<void> remove_name(Draft& draft, FileKey directory, const Named& named, std::int64_t time) {
  auto removed = DirectoryTree(draft, directory).remove(named.key);
  if (!removed) return removed;
  return touch_directory(draft, directory, time);
}

Attempt<void> replace_name(Draft& draft, FileKey directory, const Named& named, InodeNumber inode,
                           FileType type, std::int64_t time) {
  auto replaced = DirectoryTree(draft, directory).replace(named.key, inode.value(), type);
  if (!replaced) return replaced;
  return touch_directory(draft, directory, time);
}

Attempt<void> drop_link(Draft& draft, FileKey file, std::int64_t time) {
  auto inode = draft.change_inode(file);
  if (!inode) return std::unexpected(inode.error());
  if ((*inode)->type != FileType::directory && (*inode)->links > 1) {
    --(*inode)->links;
    touch(**inode, time);
    return {};
  }
  if ((*inode)->attributes != filesystem::no_inode) {
    const FileKey attributes{file.volume, (*inode)->attributes};
    auto beside = draft.inode(attributes);
    if (!beside && beside.error().outcome == Outcome::busy) return std::unexpected(beside.error());
    // One that is damaged, or another's, is left to the checker: what is removed must go.
    if (beside && (*beside)->type == FileType::attributes && (*beside)->parent == file.inode) {
      draft.free_inode(attributes);
    }
  }
  draft.free_inode(file);
  return {};
}

void touch(Inode& inode, std::int64_t time) {
  inode.changed = time;
  ++inode.change_count;
}

void touch_contents(Inode& inode, std::int64_t time) {
  inode.modified = time;
  touch(inode, time);
}

Inode make_inode(FileType type, const NewFile& file, std::uint16_t type_bits, std::int64_t time) {
  Inode inode;
  inode.type = type;
  inode.mode = static_cast<std::uint16_t>(type_bits | (file.mode & permission_bits));
  inode.links = 1;
  inode.owner = file.owner;
  inode.group = file.group;
  inode.accessed = inode.modified = inode.changed = inode.created = time;
  inode.change_count = 1;
  return inode;
}

}  // namespace duet::files
