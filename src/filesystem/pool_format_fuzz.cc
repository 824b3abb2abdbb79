// First byte: 0 superblock, else LUN table of a fixed pool. The checksum is made right first, so
// that the fuzzer gets past it; what decodes must encode to the same bytes.
#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "filesystem/pool_format.h"

using namespace duet;
using namespace duet::filesystem;

namespace {

void fuzz_superblock(Bytes input) {
  static_cast<void>(decode_superblock(input));
  std::vector<std::byte> block(input.begin(), input.end());
  block.resize(block_size);
  store_le(&block[12], std::uint32_t{0});
  store_le(&block[12], crc32c(block));
  auto superblock = decode_superblock(block);
  if (!superblock) return;
  auto again = encode_superblock(*superblock);
  std::size_t used = 144 + 24 * superblock->geometry.disks.size();
  ASSERT(std::equal(again.begin() + 16, again.begin() + static_cast<std::ptrdiff_t>(used),
                    block.begin() + 16));
}

void fuzz_table(Bytes input) {
  Superblock superblock;
  superblock.geometry.table_slot_size = 1 << 20;
  superblock.geometry.extents_offset = 65536 + (2 << 20);
  superblock.geometry.disks = {{{}, 10}, {{}, 5}};
  superblock.table_size = input.size();
  superblock.table_crc = crc32c(input);
  auto luns = decode_lun_table(superblock, input);
  if (!luns) return;
  std::vector<const LunEntry*> entries;
  for (const LunEntry& lun : *luns) entries.push_back(&lun);
  ASSERT(std::ranges::equal(encode_lun_table(superblock, entries), input));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  if (input[0] == std::byte{0})
    fuzz_superblock(input.subspan(1));
  else
    fuzz_table(input.subspan(1));
  return 0;
}
