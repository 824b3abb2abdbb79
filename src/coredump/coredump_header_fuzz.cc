// Two copies of a coredump header from the fuzzer's bytes: the first byte says for which of them
// the checksum is made right, so that mutated fields get past it.
#include "base/crc32c.h"
#include "coredump/header.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> copies[2];
  Bytes rest(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  for (int i = 0; i < 2; ++i) {
    auto half = i == 0 ? rest.first(rest.size() / 2) : rest.subspan(rest.size() / 2);
    half = half.first(std::min<std::size_t>(half.size(), disk::area_block_size));
    copies[i].assign(half.begin(), half.end());
    copies[i].resize(disk::area_block_size);
    if ((data[0] >> i & 1) != 0) {
      store_le<std::uint32_t>(copies[i].data() + 12, 0);
      store_le(copies[i].data() + 12, crc32c(copies[i]));
    }
  }
  if (auto chosen = coredump::choose_header(copies[0], copies[1])) {
    // What is accepted can be written again, and is one of the copies byte for byte.
    auto block = coredump::encode_header(*chosen);
    ASSERT(block.has_value());
    ASSERT(*block == copies[0] || *block == copies[1]);
  }
  return 0;
}
