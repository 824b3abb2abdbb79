// What one request is going to change, collected over a View that stays as it is until commit():
// looks at the draft see what is drafted. A draft that is dropped has changed nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "files/outcome.h"
#include "filesystem/view.h"

namespace duet::files {

using filesystem::FileKey;
using filesystem::FileType;
using filesystem::Inode;
using filesystem::InodeNumber;
using filesystem::VolumeId;

// An inode that a request changes; `after` is free (type none) if it frees it, `before` if it makes
// it.
struct InodeChange {
  FileKey file;
  Inode before;
  Inode after;
};

class Draft {
 public:
  explicit Draft(filesystem::View& view) : view_(&view) {}

  // ---- looking; failures: stale, busy, io ----
  Attempt<const Inode*> inode(FileKey file);  // valid as long as the draft
  // Valid until the draft changes this block.
  Attempt<Bytes> block(FileKey file, std::uint64_t number);

  // ---- drafting ----
  Attempt<Inode*> change_inode(FileKey file);
  Attempt<MutableBytes> change_block(FileKey file, std::uint64_t number);
  // Whole blocks from `number` on, to `end`, become holes; drafted ones among them are forgotten.
  void drop_blocks(FileKey file, std::uint64_t number, std::uint64_t end);
  // One inode per draft. Failures: no_space, busy, io.
  Attempt<FileKey> new_inode(VolumeId volume, Inode inode);
  // One of the pool's own files, with its number; there is none yet. One per draft.
  void make_file(FileKey file, Inode inode);
  // With all its blocks. Requires: inode() has succeeded.
  void free_inode(FileKey file);
  // Data; not seen by block(). Offset and length: multiples of sector_size.
  void write(FileKey file, std::uint64_t offset, std::vector<Slice> data);
  void zero(FileKey file, std::uint64_t offset, std::uint64_t length);

  bool empty() const;
  // Asks for the room of all that is drafted. Failures: no_space, quota, busy.
  Attempt<void> reserve(VolumeId volume);
  std::vector<InodeChange> inodes() const;
  // Cannot fail. Once.
  void commit();

 private:
  using BlockKey = std::pair<FileKey, std::uint64_t>;
  struct DraftedInode {
    Inode before;
    Inode now;
    bool changed = false;
  };
  struct DataChange {
    FileKey file;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::vector<Slice> data;  // empty: zero
  };

  filesystem::View* view_;
  std::map<FileKey, DraftedInode> inodes_;
  std::map<BlockKey, std::unique_ptr<std::byte[]>> blocks_;
  std::vector<DataChange> data_;
  FileKey created_;  // inode number none: no new inode
  FileKey made_;     // by make_file(): the same
};

}  // namespace duet::files
