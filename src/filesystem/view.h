// The files of a pool as an operation sees and changes them, everything applied included.
//
// Operations are plain functions that first look (calls that return Result) and then change (calls
// that cannot fail). What they look at must be in memory: a look that needs a block which is not
// returns an error (busy) and notes the block; the operation returns the error at once, having
// changed nothing. Whoever runs it finds that something was noted, brings it into memory and runs
// it again from its beginning. So no operation waits in the middle, and a replayed one takes the
// same way.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "filesystem/inode.h"

namespace duet::filesystem {

class View {
 public:
  virtual ~View() = default;

  // ---- looking ----
  // Errors: busy (not in memory), not_found (free inode), io_error (damaged: names it).
  virtual Result<Inode> inode(FileKey file) = 0;
  // A whole block of block_size bytes, zeros where it is a hole or beyond the end; valid until the
  // next change of this file. Errors: busy (not in memory), io_error.
  virtual Result<Bytes> block(FileKey file, std::uint64_t number) = 0;
  // The lowest block at or after `from` that may hold anything but zeros (a whole block of zeros
  // may be among them); max_file_blocks: none. Errors: busy (not in memory), io_error.
  virtual Result<std::uint64_t> next_block(FileKey file, std::uint64_t from) = 0;
  // Can so many more blocks (4 KiB each, metadata not counted) be dirtied in this volume? Errors:
  // no_space (the pool is full), refused (the volume's quota), busy (memory bound: after the next
  // consistency point). Changes that only free are made without asking.
  virtual Status space(VolumeId volume, std::uint64_t blocks) = 0;
  // The number that allocate_inode will give, its place in memory. Errors: not_found (no such
  // volume, or one that cannot be changed: a snapshot), busy, io_error, no_space.
  virtual Result<InodeNumber> next_inode(VolumeId volume) = 0;

  // ---- changing ----
  // The next inode number that was never given. Same in a replay. Requires: next_inode() has
  // succeeded in this run of the operation.
  virtual InodeNumber allocate_inode(VolumeId volume) = 0;
  // Everything but `root`, `levels` and `blocks`, which stay as they are. Type none frees the inode
  // and all its blocks.
  virtual void set_inode(FileKey file, const Inode& inode) = 0;
  // A block to change in place, whole, with its present contents. Requires: block() has succeeded
  // for it in this run of the operation.
  virtual MutableBytes change_block(FileKey file, std::uint64_t number) = 0;
  // Part of the data of a file: offset and length are multiples of sector_size. Does not change the
  // size. Blocks that are not covered as a whole need not be in memory.
  virtual void write(FileKey file, std::uint64_t offset, const std::vector<Slice>& data) = 0;
  // Zeros from `offset` on, `length` bytes, both multiples of sector_size, ending at max_file_size
  // at most; whole blocks become holes. Does not change the size.
  virtual void zero(FileKey file, std::uint64_t offset, std::uint64_t length) = 0;
};

}  // namespace duet::filesystem
