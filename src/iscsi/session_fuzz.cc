// The bytes as they are, and with the CRC put right, so that the rules behind it are reached. What
// decodes must encode to the same bytes, and a connection must go on with it.
#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "iscsi/test_initiator.h"

using namespace duet;
using namespace duet::iscsi;

namespace {

void check(Bytes bytes) {
  auto session = decode_session_state(bytes);
  if (!session) return;
  ASSERT(std::ranges::equal(encode(*session), bytes));
  testing::OneTarget directory;
  Connection connection(3, directory, *session, Instant(seconds(1)));
  ASSERT(connection.at_boundary() && connection.session() == *session);
  Actions actions;
  connection.request_logout(Instant(seconds(1)), actions);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto given = std::as_bytes(std::span(data, size));
  check(given);
  if (size < 4) return 0;
  std::vector<std::byte> bytes(given.begin(), given.end());
  store_le(bytes.data() + size - 4, crc32c(Bytes(bytes).first(size - 4)));
  check(bytes);
  return 0;
}
