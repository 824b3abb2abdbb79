// What a partner may send: decoding is exact, or refuses.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/assert.h"
#include "node/client_list.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (auto list = node::decode_client_list(bytes)) {
    ASSERT(std::ranges::equal(node::encode(*list), bytes));
  }
  node::ClientLists lists(ClusterId(0x1122334455664d2a), NodeId(1));
  lists.on_message(bytes);
  ASSERT(lists.of_partner(NodeId(2)).size() <= node::max_listed_clients);
  return 0;
}
