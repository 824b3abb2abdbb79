// Requests that make a name: create, directories, symlinks, special files, links, vdisks.
#include <algorithm>

#include "files/names.h"
#include "files/operations.h"

namespace duet::files {
namespace {

// Looks up where a new name would go. Failures: not_directory, exists (. and ..), name_too_long,
// ...
Attempt<Place> place_for(Draft& draft, FileKey directory, std::string_view name) {
  if (auto inode = look_directory(draft, directory); !inode) return std::unexpected(inode.error());
  if (auto good = check_name(name, Outcome::exists); !good) return std::unexpected(good.error());
  return find_name(draft, directory, name);
}
Attempt<Place> free_place_for(Draft& draft, FileKey directory, std::string_view name) {
  auto place = place_for(draft, directory, name);
  if (place && place->named) return refuse(Outcome::exists);
  return place;
}

// A new inode under a name.
Attempt<Drafted> make(Draft& draft, FileKey directory, const Place& place, std::string_view name,
                      Inode inode, std::int64_t time) {
  const FileType type = inode.type;
  auto file = draft.new_inode(directory.volume, std::move(inode));
  if (!file) return std::unexpected(file.error());
  auto added = add_name(draft, directory, place, name, file->inode, type, time);
  if (!added) return std::unexpected(added.error());
  return Drafted{*file, true};
}

Attempt<Drafted> open_existing(Draft& draft, const Create& request, const Named& named,
                               std::int64_t time) {
  const FileKey file{request.directory.volume, named.inode};
  auto inode = look_named(draft, request.directory, named);
  if (!inode) return std::unexpected(inode.error());
  switch (request.how) {
    case CreateMode::guarded:
      return refuse(Outcome::exists);
    case CreateMode::exclusive:
      if (named.type == FileType::regular && (*inode)->device == request.verifier) {
        return Drafted{file, false};
      }
      return refuse(Outcome::exists);
    case CreateMode::unchecked:
      break;
  }
  if (named.type == FileType::directory) return refuse(Outcome::is_directory);
  if (named.type != FileType::regular) return refuse(Outcome::exists);
  if (request.size) {
    SetInode cut;
    cut.file = file;
    cut.size = request.size;
    return files::draft(draft, cut, time);
  }
  return Drafted{file, false};
}

}  // namespace

Attempt<Drafted> draft(Draft& draft, const Create& request, std::int64_t time) {
  auto place = place_for(draft, request.directory, request.name);
  if (!place) return std::unexpected(place.error());
  if (place->named) return open_existing(draft, request, *place->named, time);
  Inode inode = make_inode(FileType::regular, request.file, type_bits_regular, time);
  inode.device = request.verifier;
  inode.size = request.size.value_or(0);
  return make(draft, request.directory, *place, request.name, std::move(inode), time);
}

Attempt<Drafted> draft(Draft& draft, const MakeDirectory& request, std::int64_t time) {
  auto place = free_place_for(draft, request.directory, request.name);
  if (!place) return std::unexpected(place.error());
  auto parent = draft.change_inode(request.directory);
  if (!parent) return std::unexpected(parent.error());
  if ((*parent)->links >= max_links) return refuse(Outcome::too_many_links);
  ++(*parent)->links;
  Inode inode = make_inode(FileType::directory, request.file, type_bits_directory, time);
  inode.links = 2;
  inode.parent = request.directory.inode;
  return make(draft, request.directory, *place, request.name, std::move(inode), time);
}

Attempt<Drafted> draft(Draft& draft, const MakeSymlink& request, std::int64_t time) {
  auto place = free_place_for(draft, request.directory, request.name);
  if (!place) return std::unexpected(place.error());
  Inode inode = make_inode(FileType::symlink, request.file, type_bits_symlink, time);
  inode.size = request.target.size();
  const bool inlined = request.target.size() <= filesystem::max_inline;
  if (inlined) inode.inlined = request.target;
  auto made = make(draft, request.directory, *place, request.name, std::move(inode), time);
  if (!made || inlined) return made;
  auto block = draft.change_block(made->file, 0);
  if (!block) return std::unexpected(block.error());
  std::ranges::copy(std::as_bytes(std::span(request.target)), block->begin());
  return made;
}

Attempt<Drafted> draft(Draft& draft, const MakeSpecial& request, std::int64_t time) {
  auto place = free_place_for(draft, request.directory, request.name);
  if (!place) return std::unexpected(place.error());
  const auto type_bits = static_cast<std::uint16_t>(request.file.mode & ~permission_bits);
  Inode inode = make_inode(FileType::special, request.file, type_bits, time);
  inode.device = request.device;
  return make(draft, request.directory, *place, request.name, std::move(inode), time);
}

Attempt<Drafted> draft(Draft& draft, const Link& request, std::int64_t time) {
  if (request.file.volume != request.directory.volume) return refuse(Outcome::cross_volume);
  auto file = look_file(draft, request.file);
  if (!file) return std::unexpected(file.error());
  if ((*file)->type == FileType::directory) return refuse(Outcome::is_directory);
  auto place = free_place_for(draft, request.directory, request.name);
  if (!place) return std::unexpected(place.error());
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  if ((*inode)->links >= max_links) return refuse(Outcome::too_many_links);
  ++(*inode)->links;
  touch(**inode, time);
  auto added = add_name(draft, request.directory, *place, request.name, request.file.inode,
                        (*inode)->type, time);
  if (!added) return std::unexpected(added.error());
  return Drafted{request.file, false};
}

Attempt<Drafted> draft(Draft& draft, const CreateVdisk& request, std::int64_t time) {
  Inode inode = make_inode(FileType::vdisk, request.file, type_bits_regular, time);
  inode.size = request.size;
  inode.device = vdisk_held;
  if (request.directory == filesystem::no_inode) {
    auto file = draft.new_inode(request.volume, std::move(inode));
    if (!file) return std::unexpected(file.error());
    return Drafted{*file, true};
  }
  const FileKey directory{request.volume, request.directory};
  auto place = free_place_for(draft, directory, request.name);
  if (!place) return std::unexpected(place.error());
  inode.links = 2;
  return make(draft, directory, *place, request.name, std::move(inode), time);
}

}  // namespace duet::files
