// Places of the reply log, and file handles: what decodes must encode to the same bytes.
#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "files/reply_log.h"

using namespace duet;
using namespace duet::files;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in = std::as_bytes(std::span(data, size));
  if (auto handle = decode_handle(in)) {
    ASSERT(std::ranges::equal(files::encode(*handle), in));
  }
  for (; in.size() >= reply_size; in = in.subspan(reply_size)) {
    std::array<std::byte, reply_size> place;
    std::ranges::copy(in.first(reply_size), place.begin());
    auto replies = decode_replies(place);
    ASSERT(replies.replies.size() + replies.damaged <= 1);
    // The checksum keeps almost everything out: make it right.
    store_le(place.data(), crc32c(Bytes(place).subspan(4)));
    replies = decode_replies(place);
    if (replies.replies.empty()) continue;
    std::array<std::byte, reply_size> out;
    files::encode(replies.replies.front(), out);
    ASSERT(out == place);
  }
  return 0;
}
