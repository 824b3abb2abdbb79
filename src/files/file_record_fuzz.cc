// Kind (1 byte), words (4 x 8), payload: what decodes must encode to the same record, and whatever
// it says can be tried on a volume.
#include <algorithm>

#include "base/assert.h"
#include "files/apply.h"
#include "files/view_fixture.h"

using namespace duet;
using namespace duet::files;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ByteReader reader(std::as_bytes(std::span(data, size)));
  filesystem::LogRecord in;
  in.kind = static_cast<nvlog::RecordKind>(reader.get<std::uint8_t>());
  for (auto& word : in.words) word = reader.get<std::uint64_t>();
  if (!reader.ok()) return 0;
  Bytes payload = reader.get_bytes(reader.remaining());
  const std::size_t half = payload.size() / 2;
  if (half > 0) in.payload.push_back(copy_to_slice(payload.first(half)));
  if (!payload.empty()) in.payload.push_back(copy_to_slice(payload.subspan(half)));
  auto record = decode_record(in);
  if (!record) return 0;
  filesystem::LogRecord out = files::encode(*record);
  ASSERT(out.kind == in.kind && out.words == in.words);
  std::vector<std::byte> bytes;
  for (const Slice& slice : out.payload) {
    bytes.insert(bytes.end(), slice.bytes.begin(), slice.bytes.end());
  }
  ASSERT(std::ranges::equal(bytes, payload));

  MemoryView view;
  view.commit(Create{test_root, "name", {}, CreateMode::guarded, 0, {}});
  view.commit(CreateVdisk{test_volume, 8192, {}, test_root.inode, "lun"});
  view.commit(MakeDirectory{test_root, "other", {}});
  auto before = view.remount();
  auto applied = view.run([&] { return apply(view, in); });
  ASSERT(applied || view.same(*before));
  return 0;
}
