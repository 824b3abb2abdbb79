// Reads under way.
#pragma once

#include "raid/array_impl.h"

namespace duet::raid {

// A member that was slow is no longer so after this many prompt answers.
inline constexpr unsigned prompt_to_be_trusted = 16;
inline constexpr unsigned asides_per_try = 16;

struct Array::Impl::ReadBatch {
  std::uint64_t id = 0;
  std::vector<BlockRead> blocks;
  std::vector<ReadRun> runs;
  std::size_t next = 0;
  std::size_t under_way = 0;
  Status status;  // of the first block that cannot be had
};

// Neighbours on one disk. Read into a buffer of its own: a slow disk may still fill it when others
// have long answered.
struct Array::Impl::RunRead {
  std::shared_ptr<ReadBatch> batch;
  std::size_t first = 0;
  std::uint16_t group = 0;
  Columns of;
  std::uint32_t column = 0;
  std::uint64_t block = 0;
  OwnedBuffer buffer;
  ports::TimerId hedge;
  bool hedged = false;
  std::vector<bool> answered;
  std::size_t settled = 0;
};

// One block from the rest of its stripe, whose lock is held.
struct Array::Impl::Rescue {
  std::shared_ptr<RunRead> run;
  std::size_t index = 0;
  Trouble trouble{};
  bool hedged = false;  // the disk itself may still answer
  StripeKey key = 0;
  std::uint32_t crc = 0;

  ColumnMask column() const { return ColumnMask{1} << run->column; }
};

}  // namespace duet::raid
