#include "files/look.h"

#include <algorithm>

#include "files/attributes.h"
#include "files/names.h"

namespace duet::files {

Attempt<FileAndInode> lookup(filesystem::View& view, FileKey directory, std::string_view name) {
  Draft draft(view);
  auto above = look_directory(draft, directory);
  if (!above) return std::unexpected(above.error());
  if (name == ".") return FileAndInode{directory, **above};
  if (name == "..") {
    const FileKey parent{directory.volume, (*above)->parent};
    auto inode = look_directory(draft, parent);
    if (inode) return FileAndInode{parent, **inode};
    if (inode.error().outcome == Outcome::busy) return std::unexpected(inode.error());
    return refuse(Outcome::io, "the directory above is none");
  }
  if (auto good = check_name(name, Outcome::invalid); !good) return std::unexpected(good.error());
  auto place = find_name(draft, directory, name);
  if (!place) return std::unexpected(place.error());
  if (!place->named) return refuse(Outcome::no_entry);
  auto inode = look_named(draft, directory, *place->named);
  if (!inode) return std::unexpected(inode.error());
  return FileAndInode{{directory.volume, place->named->inode}, **inode};
}

Attempt<Inode> get_inode(filesystem::View& view, FileKey file) {
  Draft draft(view);
  auto inode = look_file(draft, file);
  if (!inode) return std::unexpected(inode.error());
  return **inode;
}

Attempt<std::string> read_symlink(filesystem::View& view, FileKey file) {
  Draft draft(view);
  auto inode = look_file(draft, file);
  if (!inode) return std::unexpected(inode.error());
  if ((*inode)->type != FileType::symlink) return refuse(Outcome::invalid, "not a symlink");
  if ((*inode)->size <= filesystem::max_inline) {
    if ((*inode)->inlined.size() != (*inode)->size) return refuse(Outcome::io, "a symlink");
    return (*inode)->inlined;
  }
  if ((*inode)->size > max_target) return refuse(Outcome::io, "size of a symlink");
  auto block = draft.block(file, 0);
  if (!block) return std::unexpected(block.error());
  return std::string(reinterpret_cast<const char*>(block->data()), (*inode)->size);
}

Attempt<ReadRange> read_range(filesystem::View& view, FileKey file, std::uint64_t offset,
                              std::uint64_t length) {
  auto inode = get_inode(view, file);
  if (!inode) return std::unexpected(inode.error());
  if (inode->type == FileType::directory) return refuse(Outcome::is_directory);
  if (inode->type != FileType::regular && inode->type != FileType::vdisk) {
    return refuse(Outcome::invalid, "a file without data");
  }
  const std::uint64_t left = inode->size - std::min(offset, inode->size);
  return ReadRange{std::min(left, length), length >= left, *std::move(inode)};
}

Attempt<std::vector<std::byte>> get_attribute(filesystem::View& view, FileKey file,
                                              std::string_view name) {
  Draft draft(view);
  return get_attribute(draft, file, name);
}

Attempt<std::vector<std::string>> list_attributes(filesystem::View& view, FileKey file) {
  Draft draft(view);
  return list_attributes(draft, file);
}

}  // namespace duet::files
