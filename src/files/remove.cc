// Requests that take names away: remove, rename, and the deletion of vdisks.
#include "files/names.h"
#include "files/operations.h"

namespace duet::files {
namespace {

Attempt<Named> find_existing(Draft& draft, FileKey directory, std::string_view name) {
  if (auto inode = look_directory(draft, directory); !inode) return std::unexpected(inode.error());
  if (auto good = check_name(name, Outcome::invalid); !good) return std::unexpected(good.error());
  auto place = find_name(draft, directory, name);
  if (!place) return std::unexpected(place.error());
  if (!place->named) return refuse(Outcome::no_entry);
  return *place->named;
}

// A directory that goes, or comes, changes the links of the one above by its `..`.
Attempt<void> count_parent(Draft& draft, FileKey directory, bool more) {
  auto inode = draft.change_inode(directory);
  if (!inode) return std::unexpected(inode.error());
  if (more) {
    if ((*inode)->links >= max_links) return refuse(Outcome::too_many_links);
    ++(*inode)->links;
  } else if ((*inode)->links > 2) {
    --(*inode)->links;
  }
  return {};
}

// Whether `inner` is `outer` or below it. Failure: invalid (deeper than max_depth), io.
Attempt<bool> is_within(Draft& draft, FileKey inner, FileKey outer) {
  for (unsigned depth = 0; depth < max_depth; ++depth) {
    if (inner == outer) return true;
    if (inner.inode == filesystem::root_directory) return false;
    auto inode = draft.inode(inner);
    if (!inode || (*inode)->type != FileType::directory) {
      if (!inode && inode.error().outcome == Outcome::busy) return std::unexpected(inode.error());
      return refuse(Outcome::io, "a directory above another is none");
    }
    inner.inode = (*inode)->parent;
  }
  return refuse(Outcome::invalid, "a directory is too deep to be moved into");
}

// Whether `moved` may take the place of `target`.
Attempt<void> check_replace(const Inode& moved, const Inode& target) {
  if (moved.type == FileType::directory) {
    if (target.type != FileType::directory) return refuse(Outcome::not_directory);
    if (target.entries > 0) return refuse(Outcome::not_empty);
  } else if (target.type == FileType::directory) {
    return refuse(Outcome::is_directory);
  }
  return {};
}

// The rest of a rename, once everything is found to be allowed. `replaced`: what had the new name.
Attempt<Drafted> move(Draft& draft, const Rename& request, const Named& from, const Place& to,
                      std::int64_t time) {
  const VolumeId volume = request.directory.volume;
  const bool same = request.directory == request.to_directory;
  const bool directory = from.type == FileType::directory;
  const bool replaces_directory = to.named && to.named->type == FileType::directory;
  if (to.named) {
    auto replaced =
        replace_name(draft, request.to_directory, *to.named, from.inode, from.type, time);
    if (!replaced) return std::unexpected(replaced.error());
    if (auto gone = drop_link(draft, {volume, to.named->inode}, time); !gone) {
      return std::unexpected(gone.error());
    }
  } else {
    auto added =
        add_name(draft, request.to_directory, to, request.to_name, from.inode, from.type, time);
    if (!added) return std::unexpected(added.error());
  }
  if (auto gone = remove_name(draft, request.directory, from, time); !gone) {
    return std::unexpected(gone.error());
  }
  if (replaces_directory) {
    auto counted = count_parent(draft, request.to_directory, false);
    if (!counted) return std::unexpected(counted.error());
  }
  auto moved = draft.change_inode({volume, from.inode});
  if (!moved) return std::unexpected(moved.error());
  touch(**moved, time);
  if (directory && !same) {
    (*moved)->parent = request.to_directory.inode;
    for (bool more : {false, true}) {
      auto counted = count_parent(draft, more ? request.to_directory : request.directory, more);
      if (!counted) return std::unexpected(counted.error());
    }
  }
  return Drafted{{volume, from.inode}, false};
}

}  // namespace

Attempt<Drafted> draft(Draft& draft, const Remove& request, std::int64_t time) {
  auto named = find_existing(draft, request.directory, request.name);
  if (!named) return std::unexpected(named.error());
  auto inode = look_named(draft, request.directory, *named);
  if (!inode) return std::unexpected(inode.error());
  const FileKey file{request.directory.volume, named->inode};
  const bool directory = (*inode)->type == FileType::directory;
  if (directory) {
    if (request.what == RemoveWhat::file) return refuse(Outcome::is_directory);
    if ((*inode)->entries > 0) return refuse(Outcome::not_empty);
  } else if (request.what == RemoveWhat::directory) {
    return refuse(Outcome::not_directory);
  }
  if (auto gone = remove_name(draft, request.directory, *named, time); !gone) {
    return std::unexpected(gone.error());
  }
  if (directory) {
    auto counted = count_parent(draft, request.directory, false);
    if (!counted) return std::unexpected(counted.error());
  }
  if (auto gone = drop_link(draft, file, time); !gone) return std::unexpected(gone.error());
  return Drafted{file, false, Asks::for_nothing};
}

Attempt<Drafted> draft(Draft& draft, const Rename& request, std::int64_t time) {
  if (request.directory.volume != request.to_directory.volume) {
    return refuse(Outcome::cross_volume);
  }
  auto from = find_existing(draft, request.directory, request.name);
  if (!from) return std::unexpected(from.error());
  if (auto inode = look_directory(draft, request.to_directory); !inode) {
    return std::unexpected(inode.error());
  }
  if (auto good = check_name(request.to_name, Outcome::invalid); !good) {
    return std::unexpected(good.error());
  }
  auto to = find_name(draft, request.to_directory, request.to_name);
  if (!to) return std::unexpected(to.error());
  auto moved = look_named(draft, request.directory, *from);
  if (!moved) return std::unexpected(moved.error());
  const FileKey file{request.directory.volume, from->inode};
  if (to->named && to->named->inode == from->inode) return Drafted{file, false};
  if ((*moved)->type == FileType::directory && request.directory != request.to_directory) {
    auto within = is_within(draft, request.to_directory, file);
    if (!within) return std::unexpected(within.error());
    if (*within) return refuse(Outcome::invalid, "a directory cannot be moved into itself");
  }
  if (to->named) {
    auto target = look_named(draft, request.to_directory, *to->named);
    if (!target) return std::unexpected(target.error());
    if (auto good = check_replace(**moved, **target); !good) return std::unexpected(good.error());
  }
  return move(draft, request, *from, *to, time);
}

Attempt<Drafted> draft(Draft& draft, const DeleteVdisk& request, std::int64_t time) {
  auto inode = look_file(draft, request.file);
  if (!inode) return std::unexpected(inode.error());
  if ((*inode)->type != FileType::vdisk) return refuse(Outcome::invalid, "not a vdisk");
  if ((*inode)->device != vdisk_held) return refuse(Outcome::stale, "a vdisk that was deleted");
  auto changed = draft.change_inode(request.file);
  if (!changed) return std::unexpected(changed.error());
  (*changed)->device = 0;
  if (auto gone = drop_link(draft, request.file, time); !gone) return std::unexpected(gone.error());
  return Drafted{request.file, false, Asks::for_nothing};
}

}  // namespace duet::files
