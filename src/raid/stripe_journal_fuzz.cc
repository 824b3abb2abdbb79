// A journal record from the fuzzer's bytes: if the first byte is odd, its checksum is made right,
// so that changed fields get past it.
#include "base/crc32c.h"
#include "raid/stripe_journal.h"

using namespace duet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(data) + 1,
                               reinterpret_cast<const std::byte*>(data) + size);
  if ((data[0] & 1) != 0 && bytes.size() >= 16) {
    const std::size_t length = load_le<std::uint32_t>(bytes.data() + 8);
    if (length >= 16 && length <= bytes.size()) {
      store_le(bytes.data() + 12, std::uint32_t{0});
      store_le(bytes.data() + 12, crc32c(Bytes(bytes).first(length)));
    }
  }
  auto record = raid::decode_journal(copy_to_slice(bytes));
  if (!record) return 0;
  const auto again = raid::encode(*record);
  ASSERT(again.size() <= bytes.size());
  ASSERT(raid::decode_journal(copy_to_slice(again)).has_value());
  return 0;
}
