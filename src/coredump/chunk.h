// A chunk of the raw dump: a header of 64 bytes, one zstd frame, zeros to the next block
// (docs/formats/coredump.md). Index and position make the row of chunks its own index.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace duet::coredump {

inline constexpr std::size_t chunk_header_size = 64;
inline constexpr std::size_t max_plain_size = 1024 * 1024;  // bytes in one chunk
inline constexpr std::size_t max_stored_size = max_plain_size + 4096;

enum class ChunkKind : std::uint8_t { information = 1, core = 2, end = 3 };

// Names a dump: a boot dumps once.
struct DumpName {
  BootNonce boot_nonce;
  Epoch epoch;
  bool operator==(const DumpName&) const = default;
};

struct ChunkHeader {
  DumpName dump;
  std::uint32_t index = 0;
  ChunkKind kind = ChunkKind::core;
  std::uint64_t position = 0;  // bytes of core before this chunk
  std::uint32_t plain_size = 0;
  std::uint32_t stored_size = 0;
  std::uint32_t stored_crc = 0;
  bool operator==(const ChunkHeader&) const = default;
};

// With header and padding: a multiple of disk::area_block_size.
std::uint64_t chunk_size(const ChunkHeader& header);
// The most that a chunk of so many plain bytes takes while it is being made.
std::size_t chunk_bound(std::size_t plain_size);

// chunk_header_size bytes.
std::vector<std::byte> encode_chunk_header(const ChunkHeader& header);
// Takes foreign bytes, at least chunk_header_size of them. Errors: not_found (no magic), invalid.
Result<ChunkHeader> decode_chunk_header(Bytes bytes);

}  // namespace duet::coredump
