// First byte: 0 superblock, 1 volume record, 2 LUN slot, else list of removed trees. Checksums are
// made right first, so that the fuzzer gets past them; what decodes must encode to what decodes to
// the same.
#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "pool/superblock.h"
#include "pool/tables.h"
#include "pool/volume.h"

using namespace duet;
using namespace duet::pool;

namespace {

std::vector<std::byte> sized(Bytes input, std::size_t size) {
  std::vector<std::byte> bytes(input.begin(), input.end());
  bytes.resize(size);
  return bytes;
}

void fuzz_superblock(Bytes input) {
  static_cast<void>(decode_superblock(input));
  auto bytes = sized(input, 2 * filesystem::block_size);
  const auto size = load_le<std::uint64_t>(&bytes[16]) % 3 * filesystem::block_size;
  store_le(&bytes[16], std::uint64_t{size});
  store_le(&bytes[12], std::uint32_t{0});
  store_le(&bytes[12], crc32c(Bytes(bytes).first(size)));
  auto found = decode_superblock(bytes);
  if (!found) return;
  auto again = encode(*found);
  if (again) ASSERT(*decode_superblock(*again) == *found);
}

void fuzz_volume(Bytes input) {
  auto found = decode_volume(sized(input, volume_record_size));
  if (!found) return;
  std::vector<std::byte> again(volume_record_size);
  encode(*found, again);
  ASSERT(*decode_volume(again) == *found);
}

void fuzz_lun(Bytes input) {
  auto bytes = sized(input, filesystem::block_size);
  store_le(&bytes[8], std::uint32_t{0});
  store_le(&bytes[8], crc32c(bytes));
  auto found = decode_lun(bytes);
  if (found) ASSERT(decode_lun(encode_lun(found->info, found->file)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  const auto kind = static_cast<int>(input[0]);
  input = input.subspan(1);
  if (kind == 0) {
    fuzz_superblock(input);
  } else if (kind == 1) {
    fuzz_volume(input);
  } else if (kind == 2) {
    fuzz_lun(input);
  } else if (auto zombies = decode_zombies(input)) {
    ASSERT(*decode_zombies(encode_zombies(*zombies)) == *zombies);
  }
  return 0;
}
