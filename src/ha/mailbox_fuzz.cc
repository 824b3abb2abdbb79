// A mailbox block from the fuzzer's bytes; the first byte says whether its checksum is made right.
#include <algorithm>

#include "base/crc32c.h"
#include "ha/mailbox.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> block(ha::mailbox_block_size);
  std::memcpy(block.data(), data + 1, std::min(size - 1, block.size()));
  if ((data[0] & 1) != 0) {
    store_le<std::uint32_t>(block.data() + 12, 0);
    store_le(block.data() + 12, crc32c(block));
  }
  if (auto read = ha::decode_mailbox(block)) ASSERT(ha::encode(*read) == block);
  return 0;
}
