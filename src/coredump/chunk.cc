#include "coredump/chunk.h"

#include <zstd.h>

#include "base/crc32c.h"
#include "disk/areas.h"

namespace duet::coredump {
namespace {

constexpr std::string_view magic = "DUETCHNK";
constexpr std::size_t crc_offset = 56;

bool sizes_fit(const ChunkHeader& h) {
  if (h.kind == ChunkKind::end) return h.plain_size == 0 && h.stored_size == 0;
  return h.plain_size >= 1 && h.plain_size <= max_plain_size && h.stored_size >= 1 &&
         h.stored_size <= max_stored_size;
}

constexpr std::uint64_t blocks_of(std::uint64_t size) {
  return (size + disk::area_block_size - 1) / disk::area_block_size * disk::area_block_size;
}

}  // namespace

std::uint64_t chunk_size(const ChunkHeader& header) {
  return blocks_of(chunk_header_size + header.stored_size);
}

std::size_t chunk_bound(std::size_t plain_size) {
  ASSERT(plain_size <= max_plain_size);
  return blocks_of(chunk_header_size + ZSTD_COMPRESSBOUND(plain_size));
}

std::vector<std::byte> encode_chunk_header(const ChunkHeader& h) {
  ASSERT(sizes_fit(h));
  ByteWriter w;
  w.put_bytes(std::as_bytes(std::span(magic)));
  w.put(h.dump.boot_nonce.value());
  w.put(h.dump.epoch.value());
  w.put(h.index);
  w.put(static_cast<std::uint8_t>(h.kind));
  w.put_bytes(std::array<std::byte, 3>{});
  w.put(h.position);
  w.put(h.plain_size);
  w.put(h.stored_size);
  w.put(h.stored_crc);
  w.put(std::uint32_t{0});
  ASSERT(w.size() == crc_offset);
  auto bytes = w.take();
  std::uint32_t crc = crc32c(bytes);
  bytes.resize(chunk_header_size);
  store_le(bytes.data() + crc_offset, crc);
  return bytes;
}

Result<ChunkHeader> decode_chunk_header(Bytes bytes) {
  if (bytes.size() < chunk_header_size) return fail(ErrorCode::invalid, "chunk header is cut off");
  if (std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
    return fail(ErrorCode::not_found, "no chunk");
  }
  ByteReader reader(bytes.subspan(magic.size(), chunk_header_size - magic.size()));
  ChunkHeader h;
  h.dump.boot_nonce = BootNonce(reader.get<std::uint64_t>());
  h.dump.epoch = Epoch(reader.get<std::uint64_t>());
  h.index = reader.get<std::uint32_t>();
  auto kind = reader.get<std::uint32_t>();  // with the three reserved bytes
  h.position = reader.get<std::uint64_t>();
  h.plain_size = reader.get<std::uint32_t>();
  h.stored_size = reader.get<std::uint32_t>();
  h.stored_crc = reader.get<std::uint32_t>();
  auto reserved = reader.get<std::uint32_t>();
  auto crc = reader.get<std::uint32_t>();
  auto last = reader.get<std::uint32_t>();
  if (crc != crc32c(bytes.first(crc_offset))) {
    return fail(ErrorCode::invalid, "chunk header: checksum is wrong");
  }
  if (reserved != 0 || last != 0 || kind < 1 || kind > 3) {
    return fail(ErrorCode::invalid, "chunk header: unknown kind, or reserved bytes are not zero");
  }
  h.kind = static_cast<ChunkKind>(kind);
  if (!sizes_fit(h)) return fail(ErrorCode::invalid, "chunk header: sizes are out of range");
  return h;
}

}  // namespace duet::coredump
