// Makes the chunks of a raw dump, in the order in which they are written one behind the other. All
// memory it needs while dumping is taken when it is made.
#pragma once

#include <memory>

#include "coredump/chunk.h"
#include "disk/areas.h"

namespace duet::coredump {

class ChunkWriter {
 public:
  // `room`: bytes of the disk's data area that may be used. Error: no_space (no memory for the
  // compressor, or a room that cannot even hold the end chunk).
  static Result<std::unique_ptr<ChunkWriter>> make(DumpName dump, std::uint64_t room);
  ~ChunkWriter();
  ChunkWriter(const ChunkWriter&) = delete;
  ChunkWriter& operator=(const ChunkWriter&) = delete;

  // How hard to compress: from small to quick.
  static constexpr int efforts = 5;

  // The next chunk, of 1..max_plain_size bytes, the first one of kind information, at the front of
  // `out`: how many bytes it takes there. It belongs at offset stored() as it was before. Error:
  // no_space (the room is used up, but for the end chunk; nothing has changed).
  // Requires: out.size() >= chunk_bound(plain.size()); 0 <= effort < efforts, where 0 makes the
  // fewest bytes and the last one takes the least time.
  Result<std::size_t> put(ChunkKind kind, Bytes plain, MutableBytes out, int effort = 0);
  // The last one, of end_size bytes; no call after it.
  std::size_t end(MutableBytes out);
  static constexpr std::size_t end_size = disk::area_block_size;

  std::uint64_t stored() const { return stored_; }        // bytes of the room laid out so far
  std::uint64_t core_done() const { return core_done_; }  // bytes of core in them

 private:
  struct Compressor;
  ChunkWriter(DumpName dump, std::uint64_t room, std::unique_ptr<Compressor> compressor);
  // To the place behind the chunk's header; the bytes it takes.
  Result<std::size_t> compress(Bytes plain, MutableBytes chunk, int effort);
  std::size_t lay_out(ChunkHeader header, MutableBytes out);
  DumpName dump_;
  std::uint64_t room_;
  std::unique_ptr<Compressor> compressor_;
  std::uint32_t index_ = 0;
  std::uint64_t stored_ = 0;
  std::uint64_t core_done_ = 0;
  bool ended_ = false;
};

}  // namespace duet::coredump
