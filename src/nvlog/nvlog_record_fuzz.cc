// Any bytes as a ring and a log position: planning ends, stays inside, and repeats itself. A second
// pass gives what looks like a record a right CRC, so that the rules behind the CRC are reached
// too.
#include <algorithm>
#include <vector>

#include "base/crc32c.h"
#include "nvlog/replay.h"

using namespace duet;
using namespace duet::nvlog;

namespace {

void check(Bytes ring, const LogPosition& from) {
  for (std::uint64_t required : {std::uint64_t{0}, from.sequence.value() + 3}) {
    auto plan = plan_replay(ring, NodeId(1), from, LogSequence(required));
    if (!plan) return;
    ASSERT(plan->end.sequence.value() == from.sequence.value() + plan->size());
    for (std::size_t i = 0; i < plan->size(); ++i) {
      RecordView record = plan->record(ring, i);
      ASSERT(record.header.sequence.value() == from.sequence.value() + 1 + i);
      ASSERT(record.payload.size() <= ring.size());
    }
    ASSERT(plan->reason != ReplayEnd::clean || required <= plan->end.sequence.value());
    // From any place within, the rest is found again.
    if (plan->size() > 0) {
      auto again = plan_replay(ring, NodeId(1), plan->end, LogSequence(0));
      ASSERT(again.has_value());
    }
  }
}

// Gives each plausible record in a row, from `from` on, a right CRC.
void reseal(std::vector<std::byte>& ring, const LogPosition& from) {
  std::uint64_t address = from.lap * ring.size() + from.offset;
  for (std::size_t steps = ring.size() / 64; steps > 0; --steps) {
    std::uint64_t offset = address % ring.size();
    if (auto header = peek_header(ring, address)) {
      HeaderBytes bytes;
      std::copy_n(ring.begin() + static_cast<std::ptrdiff_t>(offset), 64, bytes.begin());
      std::uint32_t crc =
          crc32c_extend(start_crc(bytes), Bytes(ring).subspan(offset + 64, header->length));
      seal(bytes, crc, address / ring.size());
      std::copy(bytes.begin(), bytes.end(), ring.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    address += 64;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input = std::as_bytes(std::span(data, size));
  if (input.size() < position_size + 128) return 0;
  auto from = decode_position(input.first(position_size));
  if (!from) return 0;
  input = input.subspan(position_size);
  std::vector<std::byte> ring(input.begin(),
                              input.begin() + static_cast<std::ptrdiff_t>(input.size() / 64 * 64));
  check(ring, *from);
  if (from->offset < ring.size() && from->lap < (1u << 20)) {
    reseal(ring, *from);
    check(ring, *from);
  }
  return 0;
}
