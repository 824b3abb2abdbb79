#include "nvlog/ring.h"

#include <algorithm>

#include "base/crc32c.h"

namespace duet::nvlog {

Ring::Ring(ports::Nvram& nvram, Extent ring, NodeId identity, const ReplayPlan& plan)
    : nvram_(nvram),
      extent_(ring),
      identity_(identity),
      epoch_(plan.end.epoch),
      freed_epoch_(plan.from.epoch),
      freed_(plan.from.sequence),
      tail_(plan.from.lap * ring.length + plan.from.offset),
      head_(plan.end.lap * ring.length + plan.end.offset),
      ends_(plan.ends.begin(), plan.ends.end()),
      epochs_(plan.epochs) {
  ASSERT(ring.length % record_alignment == 0 && ring.length >= min_ring_size);
  ASSERT(ring.offset + ring.length <= nvram.region().size());
  ASSERT(last() == plan.end.sequence && head_ - tail_ <= ring.length);
}

std::size_t Ring::max_payload() const {
  return std::min<std::size_t>(nvlog::max_payload, extent_.length / 4 - record_header_size);
}

Result<LogSequence> Ring::append(RecordKind kind, const Words& words,
                                 std::span<const Slice> payload, LogSequence acknowledged) {
  std::uint64_t size = 0;
  for (const Slice& slice : payload) size += slice.bytes.size();
  if (size > max_payload())
    return fail(ErrorCode::invalid,
                "log record larger than " + std::to_string(max_payload()) + " bytes");
  std::uint64_t stored = stored_size(size);
  std::uint64_t to_end = extent_.length - head_ % extent_.length;
  std::uint64_t skip = stored > to_end ? to_end : 0;
  std::uint64_t reserve = kind == RecordKind::epoch_start ? 0 : marker_reserve;
  if (live_bytes() + skip + stored + reserve > extent_.length)
    return fail(ErrorCode::no_space, "NVRAM log is full");
  if (skip > 0) put(RecordKind::wrap, {}, {}, 0, acknowledged);
  if (kind == RecordKind::epoch_start) {
    ASSERT(words[0] > epoch_.value());
    epoch_ = Epoch(words[0]);
    epochs_.push_back({last().next(), epoch_});
  }
  put(kind, words, payload, size, acknowledged);
  return last();
}

void Ring::put(RecordKind kind, const Words& words, std::span<const Slice> payload,
               std::uint64_t size, LogSequence acknowledged) {
  LogSequence sequence = last().next();
  std::uint64_t open = sequence.value() - 1 - acknowledged.value();
  ASSERT(acknowledged < sequence);
  HeaderBytes header = encode(RecordHeader{
      kind, identity_, static_cast<std::uint16_t>(std::min<std::uint64_t>(open, 0xffff)),
      static_cast<std::uint32_t>(size), epoch_, sequence, words});
  MutableBytes region = nvram_.region();
  std::uint64_t lap = head_ / extent_.length;
  std::uint64_t at = region_offset(head_);
  std::uint32_t crc = start_crc(header);
  std::uint64_t to = at + record_header_size;
  for (const Slice& slice : payload) {
    if (slice.bytes.empty()) continue;
    // Checksum first: it brings the bytes into the cache for the copy.
    crc = crc32c_extend(crc, slice.bytes);
    nvram_.copy(region.subspan(to, slice.bytes.size()), slice.bytes);
    to += slice.bytes.size();
  }
  seal(header, crc, lap);
  nvram_.copy(region.subspan(at, header.size()), header);
  head_ = kind == RecordKind::wrap ? (lap + 1) * extent_.length : head_ + stored_size(size);
  ASSERT(head_ - tail_ <= extent_.length);
  ends_.push_back(head_);
}

void Ring::free_through(LogSequence sequence) {
  ASSERT(sequence <= last());
  if (sequence <= freed_) return;
  LogPosition position = position_after(sequence);
  tail_ = position.lap * extent_.length + position.offset;
  std::uint64_t count = sequence.value() - freed_.value();
  ends_.erase(ends_.begin(), ends_.begin() + static_cast<std::ptrdiff_t>(count));
  freed_ = sequence;
  freed_epoch_ = position.epoch;
  std::erase_if(epochs_, [&](const EpochStart& start) { return start.first <= freed_; });
}

LogSequence Ring::sequence_through(std::uint64_t address) const {
  ASSERT(tail_ <= address && address <= head_);
  auto it = std::upper_bound(ends_.begin(), ends_.end(), address);
  return LogSequence(freed_.value() + static_cast<std::uint64_t>(it - ends_.begin()));
}

LogPosition Ring::position_after(LogSequence sequence) const {
  ASSERT(freed_ <= sequence && sequence <= last());
  std::uint64_t address = sequence == freed_ ? tail_ : ends_[sequence.value() - freed_.value() - 1];
  Epoch epoch = freed_epoch_;
  for (const EpochStart& start : epochs_)
    if (start.first <= sequence) epoch = start.epoch;
  return {epoch, sequence, address % extent_.length, address / extent_.length};
}

}  // namespace duet::nvlog
