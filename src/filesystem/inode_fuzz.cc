// An inode that decodes encodes to the same bytes.
#include <algorithm>
#include <array>

#include "base/assert.h"
#include "filesystem/inode.h"

using namespace duet;
using namespace duet::filesystem;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in = std::as_bytes(std::span(data, size));
  auto inode = decode_inode(in);
  if (!inode) return 0;
  std::array<std::byte, inode_size> out;
  encode(*inode, out);
  ASSERT(std::ranges::equal(out, in));
  return 0;
}
