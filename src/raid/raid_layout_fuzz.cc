// Layouts from the fuzzer's bytes: what is accepted keeps the rules and can be written again.
#include "raid/group_map.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  ByteReader in(bytes);
  auto layout = raid::decode_layout(in);
  if (!layout) return 0;
  ASSERT(raid::check(*layout).has_value());
  ByteWriter out;
  raid::encode(*layout, out);
  const auto again = out.take();
  ASSERT(std::ranges::equal(again, bytes.first(again.size())));
  for (const auto& group : raid::map_groups(*layout)) ASSERT(group->geometry.data > 0);
  return 0;
}
