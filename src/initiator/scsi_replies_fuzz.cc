// The first byte chooses the decoder, the rest is the reply.
#include "initiator/scsi_replies.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // A copy of exact size, so that the sanitizer sees each byte read beyond it.
  std::vector<std::byte> reply(size - 1);
  for (std::size_t i = 1; i < size; ++i) reply[i - 1] = std::byte{data[i]};
  switch (data[0] % 7) {
    case 0:
      if (auto c = initiator::parse_read_capacity16(reply)) ASSERT(c->size >= c->block_size);
      break;
    case 1:
      if (auto s = initiator::parse_unit_serial_number(reply)) ASSERT(!s->empty());
      break;
    case 2:
      (void)initiator::parse_max_transfer_length(reply);
      break;
    case 3:
      (void)initiator::parse_write_cache_enabled(reply);
      break;
    case 4:
      if (auto l = initiator::parse_report_luns(reply)) ASSERT(l->size() <= 256);
      break;
    case 5:
      if (auto k = initiator::parse_read_keys(reply)) ASSERT(k->keys.size() * 8 <= reply.size());
      break;
    case 6:
      (void)initiator::parse_read_reservation(reply);
      break;
  }
  return 0;
}
