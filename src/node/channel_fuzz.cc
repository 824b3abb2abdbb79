// First byte: which of the four messages between processes of a node. What decodes must encode to
// bytes that decode and encode to themselves.
#include "admin/control.h"
#include "base/assert.h"
#include "node/engine_channel.h"

using namespace duet;

namespace {

template <class T>
void check(Bytes bytes) {
  auto message = unarchive<T>(bytes);
  if (!message) return;
  auto once = archive(*message);
  ASSERT(once.size() == bytes.size());  // only flags have more than one encoding
  auto again = unarchive<T>(once);
  ASSERT(again.has_value());
  ASSERT(archive(*again) == once);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Bytes bytes = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0] % 4) {
    case 0:
      check<node::ToEngine>(bytes);
      break;
    case 1:
      check<node::FromEngine>(bytes);
      break;
    case 2:
      check<admin::Request>(bytes);
      if (auto request = admin::from_message<admin::Request>(bytes)) {
        ASSERT(admin::from_message<admin::Request>(admin::to_message(*request)).has_value());
      }
      break;
    default:
      check<admin::Reply>(bytes);
      break;
  }
  return 0;
}
