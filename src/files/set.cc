// Requests that change a file without its names: attributes of the inode, contents, sizes.
#include "files/contents.h"
#include "files/names.h"
#include "files/operations.h"

namespace duet::files {
namespace {

Attempt<const Inode*> look_data(Draft& draft, FileKey file) {
  auto inode = look_file(draft, file);
  if (!inode) return inode;
  if ((*inode)->type == FileType::directory) return refuse(Outcome::is_directory);
  if ((*inode)->type != FileType::regular && (*inode)->type != FileType::vdisk) {
    return refuse(Outcome::invalid, "a file without data");
  }
  return inode;
}

}  // namespace

Attempt<Drafted> draft(Draft& draft, const SetInode& request, std::int64_t time) {
  auto present = look_file(draft, request.file);
  if (!present) return std::unexpected(present.error());
  if (request.guard && (*present)->changed != *request.guard) return refuse(Outcome::not_sync);
  if (request.size) {
    auto data = look_data(draft, request.file);
    if (!data) return std::unexpected(data.error());
    if ((*data)->type == FileType::vdisk) return refuse(Outcome::invalid, "size of a vdisk");
  }
  const Drafted drafted{request.file, false, Asks::for_nothing};
  if (!request.mode && !request.owner && !request.group && !request.size && !request.accessed &&
      !request.modified) {
    return drafted;
  }
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  if (request.size) {
    if (auto done = resize(draft, request.file, *request.size); !done) {
      return std::unexpected(done.error());
    }
    (*inode)->modified = time;
  }
  if (request.mode) {
    (*inode)->mode =
        static_cast<std::uint16_t>(((*inode)->mode & ~permission_bits) | *request.mode);
  }
  if (request.owner) (*inode)->owner = *request.owner;
  if (request.group) (*inode)->group = *request.group;
  if (request.accessed) (*inode)->accessed = *request.accessed;
  if (request.modified) (*inode)->modified = *request.modified;
  touch(**inode, time);
  return drafted;
}

Attempt<Drafted> draft(Draft& draft, const Write& request, std::int64_t time) {
  auto present = look_data(draft, request.file);
  if (!present) return std::unexpected(present.error());
  std::uint64_t length = 0;
  for (const Slice& slice : request.data) length += slice.bytes.size();
  if (length == 0) return Drafted{request.file, false};
  if (request.offset + length > filesystem::max_file_size) return refuse(Outcome::too_big);
  if ((*present)->type == FileType::vdisk && request.offset + length > (*present)->size) {
    return refuse(Outcome::invalid, "beyond the end of a vdisk");
  }
  auto written = write_bytes(draft, request.file, **present, request.offset, request.data);
  if (!written) return std::unexpected(written.error());
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  (*inode)->size = std::max((*inode)->size, request.offset + length);
  touch_contents(**inode, time);
  return Drafted{request.file, false};
}

Attempt<Drafted> draft(Draft& draft, const Zero& request, std::int64_t time) {
  auto present = look_data(draft, request.file);
  if (!present) return std::unexpected(present.error());
  auto zeroed = zero_bytes(draft, request.file, **present, request.offset, request.length);
  if (!zeroed) return std::unexpected(zeroed.error());
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  touch_contents(**inode, time);
  return Drafted{request.file, false, Asks::for_nothing};
}

Attempt<Drafted> draft(Draft& draft, const ResizeVdisk& request, std::int64_t time) {
  auto present = look_file(draft, request.file);
  if (!present) return std::unexpected(present.error());
  if ((*present)->type != FileType::vdisk) return refuse(Outcome::invalid, "not a vdisk");
  if (auto done = resize(draft, request.file, request.size); !done) {
    return std::unexpected(done.error());
  }
  auto inode = draft.change_inode(request.file);
  if (!inode) return std::unexpected(inode.error());
  touch_contents(**inode, time);
  return Drafted{request.file, false, Asks::for_nothing};
}

}  // namespace duet::files
