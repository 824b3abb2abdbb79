// A whole raw dump as the pieces that are written one after the other: the information, the core as
// it is read, the end (docs/formats/coredump.md). A piece has several chunks: disks like few large
// writes.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "coredump/chunk_writer.h"
#include "coredump/information.h"
#include "ports/core_source.h"

namespace duet::coredump {

// The next bytes of a core, as many as fit; 0 at its end (CoreStream::next).
using ReadCore = std::function<std::size_t(MutableBytes)>;
// Of one that lies in memory, which must stay.
ReadCore read_from(Bytes core);

// What the node that orders a dump knows of it.
Information information_of(const ports::CoreSource::Dump& order);

class DumpWriter {
 public:
  using Piece = ports::CoreSource::Piece;
  // A piece ends behind the chunk that fills one of these.
  struct Limits {
    std::size_t chunk = 256 * 1024;  // bytes of core in a chunk: what caches hold
    std::size_t size = 1024 * 1024;  // bytes of blocks, not counting the last chunk
    int chunks = 64;                 // so that progress shows where much becomes little
  };

  // `room`: bytes of the disk's data area that may be used. `core`: bytes that `read` will give.
  // Error: no_space.
  static Result<std::unique_ptr<DumpWriter>> make(const Information& information,
                                                  std::uint64_t room, std::uint64_t core,
                                                  ReadCore read, Limits limits);
  static auto make(const Information& information, std::uint64_t room, std::uint64_t core,
                   ReadCore read) {
    return make(information, room, core, std::move(read), Limits{});
  }

  // `effort` as ChunkWriter::put takes it; where little room is left, small comes before quick.
  // The slice may outlive us, and be dropped by any thread. Error: no_space (the room is used up;
  // what came before is a truncated core), from then on always. No call after the last piece.
  Result<Piece> next(int effort);

 private:
  class Buffers;
  DumpWriter(std::unique_ptr<ChunkWriter> writer, std::vector<std::byte> information,
             std::uint64_t room, std::uint64_t core, ReadCore read, Limits limits);
  Result<std::size_t> chunk(MutableBytes out, int effort, bool& last);
  std::unique_ptr<ChunkWriter> writer_;
  const std::uint64_t room_, core_;
  ReadCore read_;
  const Limits limits_;
  std::vector<std::byte> information_;  // empty: it has been laid out
  std::vector<std::byte> plain_;
  std::shared_ptr<Buffers> buffers_;
  std::optional<Error> failed_;
};

}  // namespace duet::coredump
