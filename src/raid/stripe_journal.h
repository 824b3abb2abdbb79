// What a partial stripe write leaves behind before it begins, so that a crash in its middle cannot
// make the parity of the blocks it does not touch useless; and which members have missed writes.
// Docs: docs/formats/stripe_journal.md.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/data_memory.h"
#include "base/ids.h"
#include "base/result.h"
#include "raid/parity.h"

namespace duet::raid {

struct JournalStripe {
  std::uint16_t group = 0;
  std::uint64_t stripe = 0;
  ColumnMask written = 0;  // data columns
  // Parity of the data columns that are not written; q is empty unless the group is dual.
  Slice p;
  Slice q;
};

// This disk has missed writes as this member: it is out, whatever the superblock says.
struct JournalFailure {
  std::uint32_t member = 0;
  DiskId disk;
};

struct JournalRecord {
  std::uint64_t generation = 0;  // of the consistency point
  std::uint64_t sequence = 0;    // of two records for a stripe the later one is right
  std::vector<JournalFailure> failures;
  std::vector<JournalStripe> stripes;
};

inline constexpr std::size_t max_record_stripes = 7;
inline constexpr std::size_t max_record_failures = 4;
inline constexpr std::size_t max_record_bytes = std::size_t{15} * block_size;

// Requires: within the bounds; each p and q that is there has block_size bytes.
DataBytes encode(const JournalRecord& record);
// Slices of the result are part of `record`; bytes after it are ignored. Errors: invalid.
Result<JournalRecord> decode_journal(const Slice& record);
// How many blocks of the ring the record at the beginning of `bytes` takes; 0: none begins here.
// Not yet checked: decode_journal does.
std::uint64_t journal_blocks(Bytes bytes);

}  // namespace duet::raid
