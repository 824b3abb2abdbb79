// Makes the raw dump: bytes in, blocks out, in the order in which they are written one behind the
// other. Holds one chunk; all memory it needs while dumping is taken when it is made.
#pragma once

#include <memory>

#include "coredump/chunk.h"

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

  // The next chunk, of 1..max_plain_size bytes, the first one of kind information. The blocks
  // belong at offset stored() as it was before, and are valid until the next call. Error: no_space
  // (the room is used up, but for the end chunk; nothing has changed).
  // Requires: 0 <= effort < efforts; 0 makes the fewest bytes, the last one takes the least time.
  Result<Bytes> put(ChunkKind kind, Bytes plain, int effort = 0);
  // The last one; no call after it.
  Bytes end();

  std::uint64_t stored() const { return stored_; }        // bytes of the room laid out so far
  std::uint64_t core_done() const { return core_done_; }  // bytes of core in them

 private:
  struct Compressor;
  ChunkWriter(DumpName dump, std::uint64_t room, std::unique_ptr<Compressor> compressor);
  Result<std::size_t> compress(Bytes plain, int effort);  // bytes, behind the chunk's header
  Bytes lay_out(ChunkHeader header);
  DumpName dump_;
  std::uint64_t room_;
  std::unique_ptr<Compressor> compressor_;
  std::vector<std::byte> blocks_;
  std::uint32_t index_ = 0;
  std::uint64_t stored_ = 0;
  std::uint64_t core_done_ = 0;
  bool ended_ = false;
};

}  // namespace duet::coredump
