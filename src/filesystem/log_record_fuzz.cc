// Kind (1 byte), words (4 x 8), payload: what decodes must encode to the same record.
#include <algorithm>

#include "base/assert.h"
#include "filesystem/log_record.h"

using namespace duet;
using namespace duet::filesystem;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ByteReader reader(std::as_bytes(std::span(data, size)));
  LogRecord in;
  in.kind = static_cast<nvlog::RecordKind>(reader.get<std::uint8_t>());
  for (auto& word : in.words) word = reader.get<std::uint64_t>();
  if (!reader.ok()) return 0;
  Bytes payload = reader.get_bytes(reader.remaining());
  std::size_t half = payload.size() / 2;
  if (half > 0)
    in.payload = {copy_to_slice(payload.first(half)), copy_to_slice(payload.subspan(half))};
  else if (!payload.empty())
    in.payload = {copy_to_slice(payload)};
  auto record = decode(in);
  if (!record) return 0;
  LogRecord out = encode(*record);
  ASSERT(out.kind == in.kind && out.words == in.words);
  std::vector<std::byte> bytes;
  for (const Slice& slice : out.payload)
    bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
  ASSERT(std::ranges::equal(bytes, payload));
  return 0;
}
