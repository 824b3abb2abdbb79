// A raw dump from the fuzzer's bytes: for each byte of the front part that is odd, the checksums of
// the next chunk are made right, so that mutated fields and frames get past them.
#include "base/crc32c.h"
#include "coredump/chunk_reader.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t switches = 8;
  constexpr std::uint64_t room = 8 * disk::area_block_size;
  if (size < switches) return 0;
  const auto* from = reinterpret_cast<const std::byte*>(data) + switches;
  std::vector<std::byte> raw(from, from + std::min<std::size_t>(size - switches, room));
  raw.resize(room);
  auto reader = coredump::ChunkReader::make({BootNonce(0xb1), Epoch(7)}, room);
  ASSERT(reader.has_value());
  std::size_t chunk = 0;
  std::uint64_t core = 0;
  while ((*reader)->phase() == coredump::ChunkReader::Phase::reading) {
    auto [offset, length] = (*reader)->next();
    ASSERT(offset % disk::area_block_size == 0 && length > 0 && offset + length <= room);
    std::byte* at = raw.data() + offset;
    if (length == disk::area_block_size && (data[chunk++ % switches] & 1) != 0) {
      std::size_t stored = load_le<std::uint32_t>(at + 44);
      if (stored <= room - offset - coredump::chunk_header_size) {
        store_le(at + 48, crc32c(Bytes(at + coredump::chunk_header_size, stored)));
      }
      store_le(at + 56, crc32c(Bytes(at, 56)));
    }
    if (auto part = (*reader)->on_bytes(Bytes(at, length))) {
      ASSERT(!part->plain.empty() && part->plain.size() <= coredump::max_plain_size);
      if (part->kind == coredump::ChunkKind::core) core += part->plain.size();
    }
    ASSERT((*reader)->core_done() == core && (*reader)->raw_done() <= room);
  }
  return 0;
}
