// Which files a client may name, and the hidden directory of snapshots: in the root of a volume,
// looked up and never listed; in it the snapshots of the volume by their names.
#include <algorithm>

#include "node/file_service_impl.h"

namespace duet::node {

using files::Outcome;
using filesystem::FileKey;
using filesystem::FileType;
using filesystem::Inode;
using pool::VolumeKind;

// A LUN is made by a record without a time, so this is the one thing that tells its vdisk from one
// that was made as a file.
files::Attempt<void> check_inode(const Inode& inode, const files::Handle& handle) {
  const bool lun = inode.type == FileType::vdisk && inode.created == 0;
  const bool hidden = inode.type == FileType::attributes || inode.type == FileType::system;
  if (lun || hidden || inode.created != handle.generation) return files::refuse(Outcome::stale);
  return {};
}

files::Attempt<Inode> check_handle(filesystem::View& view, const files::Handle& handle) {
  if (handle.file.inode == files::snapshot_directory) return files::refuse(Outcome::read_only);
  auto inode = files::get_inode(view, handle.file);
  if (!inode) return inode;
  if (auto good = check_inode(*inode, handle); !good) return std::unexpected(good.error());
  return inode;
}

files::Attempt<void> check_no_lun(filesystem::View& view, const files::Request& request) {
  return std::visit(
      [&](const auto& r) -> files::Attempt<void> {
        if constexpr (requires { r.file.inode; }) {
          auto inode = files::get_inode(view, r.file);
          if (inode && inode->type == FileType::vdisk && inode->created == 0) {
            return files::refuse(Outcome::stale);
          }
          if (!inode && inode.error().outcome != Outcome::stale) {
            return std::unexpected(inode.error());
          }
        }
        return {};
      },
      request);
}

files::Changed repeated(const files::LoggedReply& reply) {
  files::Changed changed;
  changed.file = reply.file;
  changed.created = reply.created;
  changed.repeated = true;
  changed.time = reply.time;
  for (const auto& directory : reply.directories) {
    if (directory.directory != filesystem::no_inode) changed.directories.push_back(directory);
  }
  return changed;
}

void FileService::Reading::take(std::vector<Slice> data, std::uint64_t from, std::uint64_t begin,
                                std::uint64_t end) {
  files::Contents contents;
  contents.inode = inode;
  std::uint64_t at = from;
  for (Slice& slice : data) {
    const std::uint64_t size = slice.bytes.size();
    const std::uint64_t first = std::max(at, begin);
    const std::uint64_t last = std::min(at + size, end);
    if (first < last) {
      slice.bytes = slice.bytes.subspan(first - at, last - first);
      contents.data.push_back(std::move(slice));
    }
    at += size;
  }
  result = std::move(contents);
}

// ---- the hidden directory ----

bool FileService::is_root(FileKey file, VolumeKind kind) const {
  if (file.inode != filesystem::root_directory) return false;
  auto volume = pool_.find_volume(file.volume);
  return volume && volume->kind == kind;
}

FileService::Attempt<files::Found> FileService::snapshots_of(filesystem::VolumeId id) const {
  auto volume = pool_.find_volume(id);
  if (!volume || volume->kind != VolumeKind::volume) return files::refuse(Outcome::stale);
  files::Found found;
  found.file.file = {id, files::snapshot_directory};
  Inode& inode = found.inode;
  inode.type = FileType::directory;
  inode.mode = 040555;
  inode.links = 2;
  inode.parent = filesystem::root_directory;
  for (const auto& each : pool_.volumes()) {
    if (each.kind != VolumeKind::snapshot || each.parent != id || each.deleting) continue;
    ++inode.entries;
    ++inode.links;
    inode.modified = inode.changed = std::max(inode.modified, each.created);
    inode.change_count = std::max<std::uint64_t>(inode.change_count, each.id.value());
  }
  // A snapshot that comes has a higher number, one that goes is one less.
  inode.change_count = (inode.change_count << 17) - inode.entries;
  return found;
}

FileService::Attempt<files::Found> FileService::look_up_snapshot(View& view,
                                                                 filesystem::VolumeId volume,
                                                                 const std::string& name) const {
  auto hidden = snapshots_of(volume);
  if (!hidden || name == ".") return hidden;
  FileKey root{volume, filesystem::root_directory};
  if (name != "..") {
    const auto all = pool_.volumes();
    auto found = std::ranges::find_if(all, [&](const pool::VolumeReport& v) {
      return v.kind == VolumeKind::snapshot && v.parent == volume && !v.deleting && v.name == name;
    });
    if (found == all.end()) return files::refuse(Outcome::no_entry);
    root.volume = found->id;
  }
  auto inode = files::get_inode(view, root);
  if (!inode) return std::unexpected(inode.error());
  return files::Found{{root, inode->created}, *inode};
}

// The cookie behind a snapshot is its number: those are given in order, once.
FileService::Attempt<files::Listing> FileService::list_snapshots(
    const files::ListRequest& request) const {
  auto hidden = snapshots_of(request.directory.volume);
  if (!hidden) return std::unexpected(hidden.error());
  constexpr std::uint64_t first = files::cookie_dot_dot + 1;
  if (request.cookie > first + ~std::uint32_t{0}) return files::refuse(Outcome::invalid, "cookie");
  files::Listing listing;
  auto& names = listing.names;
  const std::size_t limit =
      std::min(request.limit, request.inodes ? files::max_listed_with_inodes : files::max_listed);
  if (request.dots && request.cookie < files::cookie_dot && names.size() < limit) {
    names.push_back({files::cookie_dot, files::snapshot_directory, FileType::directory, ".", {}});
  }
  if (request.dots && request.cookie < files::cookie_dot_dot && names.size() < limit) {
    names.push_back(
        {files::cookie_dot_dot, filesystem::root_directory, FileType::directory, "..", {}});
  }
  listing.end = true;
  for (const auto& each : pool_.volumes()) {
    const std::uint64_t cookie = first + each.id.value();
    if (each.kind != VolumeKind::snapshot || each.parent != request.directory.volume ||
        each.deleting || cookie <= request.cookie) {
      continue;
    }
    if (names.size() == limit) {
      listing.end = false;
      break;
    }
    names.push_back({cookie, filesystem::root_directory, FileType::directory, each.name, {}});
  }
  return listing;
}

// The name belongs to the hidden directory, and nothing in that changes.
std::optional<files::Failure> FileService::hidden_name(const files::Request& request) const {
  const auto is_hidden = [this](FileKey directory, const std::string& name) {
    return name == files::snapshot_directory_name && is_root(directory, VolumeKind::volume);
  };
  return std::visit(
      [&](const auto& r) -> std::optional<files::Failure> {
        using R = std::remove_cvref_t<decltype(r)>;
        std::optional<files::Failure> failure;
        if constexpr (std::is_same_v<R, files::CreateVdisk>) {
          if (is_hidden({r.volume, r.directory}, r.name)) failure = {Outcome::exists, ""};
        } else {
          if constexpr (requires { r.directory; }) {
            if (r.directory.inode == files::snapshot_directory) return {{Outcome::read_only, ""}};
          }
          if constexpr (requires { r.file.inode; }) {
            if (r.file.inode == files::snapshot_directory) return {{Outcome::read_only, ""}};
          }
          if constexpr (std::is_same_v<R, files::Rename>) {
            if (r.to_directory.inode == files::snapshot_directory) {
              return {{Outcome::read_only, ""}};
            }
            if (is_hidden(r.to_directory, r.to_name)) failure = {Outcome::exists, ""};
            if (is_hidden(r.directory, r.name)) failure = {Outcome::read_only, ""};
          } else if constexpr (std::is_same_v<R, files::Remove>) {
            if (is_hidden(r.directory, r.name)) failure = {Outcome::read_only, ""};
          } else if constexpr (requires { r.directory; }) {
            if (is_hidden(r.directory, r.name)) failure = {Outcome::exists, ""};
          }
        }
        return failure;
      },
      request);
}

}  // namespace duet::node
