// The serialized form: whatever parses serializes to the same bytes. The first byte says whether
// the checksum is made right first, so that the fields behind it are reached.
#include "base/crc32c.h"
#include "scsi/reservations.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const Bytes given = std::as_bytes(std::span(data + 1, size - 1));
  std::vector<std::byte> bytes(given.begin(), given.end());
  if ((data[0] & 1) != 0 && bytes.size() >= 4)
    store_le(&bytes[bytes.size() - 4], crc32c(Bytes(bytes).first(bytes.size() - 4)));
  if (auto parsed = scsi::Reservations::parse(bytes)) ASSERT(parsed->serialize() == bytes);
  return 0;
}
