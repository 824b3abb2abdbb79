// The ring of an identity in this node's NVRAM: space, appending, freeing. Continues where a replay
// plan ended, and keeps the replayed records until a consistency point has freed them.
// Never overwrites a live record: append answers no_space instead.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "nvlog/record.h"
#include "nvlog/region.h"
#include "nvlog/replay.h"
#include "ports/nvram.h"

namespace duet::nvlog {

// Kept free of everything but epoch_start records, so that a survivor whose log is full, and that
// dies again and again while replaying, can always start its epoch.
inline constexpr std::uint64_t marker_reserve = 4096;

class Ring {
 public:
  // Requires: `plan` was made from this ring, or is empty_plan(); a region opened by open_region.
  Ring(ports::Nvram& nvram, Extent ring, NodeId identity, const ReplayPlan& plan);

  // Copies the record into the ring; durable in this region on return. The payload is copied once.
  // `acknowledged`: what the record may claim (open before). An epoch_start begins `words[0]` as
  // epoch. Errors: invalid (larger than max_payload()), no_space.
  Result<LogSequence> append(RecordKind kind, const Words& words, std::span<const Slice> payload,
                             LogSequence acknowledged);
  // Frees the records through `sequence`. Requires: they are contained in a consistency point.
  // Sequences that are free already have no effect.
  void free_through(LogSequence sequence);

  std::size_t max_payload() const;  // a quarter of the ring, if that is less than the constant
  std::uint64_t capacity() const { return extent_.length; }
  std::uint64_t live_bytes() const { return head_ - tail_; }
  std::uint64_t head() const { return head_; }  // address of the next record
  std::uint64_t tail() const { return tail_; }  // address of the oldest live record
  Epoch epoch() const { return epoch_; }
  LogSequence last() const { return LogSequence(freed_.value() + ends_.size()); }  // newest record
  LogSequence freed() const { return freed_; }
  // The newest record that ends at or before `address`. Requires: tail <= address <= head.
  LogSequence sequence_through(std::uint64_t address) const;
  // The place after `sequence`, for a superblock. Requires: freed <= sequence <= last.
  LogPosition position_after(LogSequence sequence) const;
  // Where [address, ...) lies in the region.
  std::uint64_t region_offset(std::uint64_t address) const {
    return extent_.offset + address % extent_.length;
  }

 private:
  void put(RecordKind kind, const Words& words, std::span<const Slice> payload, std::uint64_t size,
           LogSequence acknowledged);

  ports::Nvram& nvram_;
  Extent extent_;
  NodeId identity_;
  Epoch epoch_;
  Epoch freed_epoch_;  // of record freed_
  LogSequence freed_;
  std::uint64_t tail_;
  std::uint64_t head_;
  std::deque<std::uint64_t> ends_;  // address after record freed_ + 1 + index
  std::vector<EpochStart> epochs_;  // that start after freed_
};

}  // namespace duet::nvlog
