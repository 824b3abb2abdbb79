// Reads a raw dump back, chunk by chunk: says what to read next, takes the bytes, gives out what
// they hold. Whatever stands on the disk, what it gives out is the exact front part of what was
// written, and only an end chunk makes it complete (invariant C8). One chunk of memory.
#pragma once

#include <memory>
#include <optional>

#include "coredump/chunk.h"
#include "disk/areas.h"

namespace duet::coredump {

class ChunkReader {
 public:
  enum class Phase {
    reading,
    complete,   // the end chunk was found
    truncated,  // the dump ends without one; reason() says how
  };
  struct Part {
    ChunkKind kind = ChunkKind::core;
    Bytes plain;  // valid until the next call
  };

  static Result<std::unique_ptr<ChunkReader>> make(DumpName dump, std::uint64_t room);
  ~ChunkReader();
  ChunkReader(const ChunkReader&) = delete;
  ChunkReader& operator=(const ChunkReader&) = delete;

  // While reading: what to hand to on_bytes, as offset from the front of the raw dump; blocks.
  disk::Area next() const { return next_; }
  // Bytes of exactly next(). A part, if they completed one.
  std::optional<Part> on_bytes(Bytes bytes);
  // They cannot be read: the dump ends here.
  void on_unreadable(std::string why);

  Phase phase() const { return phase_; }
  const std::string& reason() const { return reason_; }
  std::uint64_t core_done() const { return core_done_; }  // bytes of core given out
  std::uint64_t raw_done() const { return raw_done_; }    // bytes of the raw dump that hold them

 private:
  struct Decompressor;
  ChunkReader(DumpName dump, std::uint64_t room, std::unique_ptr<Decompressor> decompressor);
  Status check(const ChunkHeader& header) const;
  std::optional<Part> on_chunk(Bytes bytes);
  void ask(std::uint64_t size);
  DumpName dump_;
  std::uint64_t room_;
  std::unique_ptr<Decompressor> decompressor_;
  std::vector<std::byte> plain_;
  Phase phase_ = Phase::reading;
  std::string reason_;
  std::optional<ChunkHeader> header_;  // of a chunk of which the first block was read
  std::uint32_t index_ = 0;
  std::uint64_t core_done_ = 0;
  std::uint64_t raw_done_ = 0;
  disk::Area next_;
};

}  // namespace duet::coredump
