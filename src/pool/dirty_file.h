// The changes of one file that wait for one consistency point: blocks with a valid bit per sector,
// and ranges that became zero. Whole blocks hold the client's slice, without a copy; smaller pieces
// are merged into a block of our own. A slice handed out is never changed afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/bytes.h"
#include "filesystem/block_pointer.h"
#include "filesystem/log_record.h"

namespace duet::pool {

using filesystem::block_size;
using filesystem::sector_size;
inline constexpr std::uint32_t sectors_per_block = block_size / sector_size;
inline constexpr std::uint64_t group_blocks = filesystem::pointers_per_block;  // of one parent

struct DirtyBlock {
  std::uint8_t valid = 0;    // bit per sector
  Slice slice;               // block_size bytes
  std::byte* own = nullptr;  // start of the slice, if its buffer is ours

  bool whole() const { return valid == 0xff; }
  // Merges `bytes` at `at`, both multiples of the sector size.
  void merge(std::uint32_t at, Bytes bytes);
  // A buffer with the present content that nobody else sees.
  void make_own();
  // The whole block: its valid sectors, and what `base` has of the others. Empty: zeros.
  Slice over(const Slice& base) const;
};

class DirtyFile {
 public:
  using Group = std::map<std::uint32_t, DirtyBlock>;  // by number in the group

  // Offsets and lengths: multiples of the sector size. A block that is partly written where this
  // generation zeroed it becomes whole.
  void write(std::uint64_t offset, const std::vector<Slice>& data);
  void zero(std::uint64_t offset, std::uint64_t length);
  // The block, with `base` as its content if it was not here or not whole. Whole afterwards.
  MutableBytes change(std::uint64_t block, Bytes base);

  const DirtyBlock* find(std::uint64_t block) const;
  // Zeroed in this generation, apart from what was written since.
  bool zeroed(std::uint64_t block) const;
  bool empty() const { return groups_.empty() && zeroed_.empty(); }

  const std::map<std::uint64_t, Group>& groups() const { return groups_; }  // block / group_blocks
  const std::map<std::uint64_t, std::uint64_t>& zeroed_ranges() const { return zeroed_; }
  std::uint64_t blocks() const { return blocks_; }
  // Blocks that a consistency point writes for this at most, indirect ones below the top included.
  std::uint64_t cost() const { return blocks_ + groups_.size() + 2 * zeroed_.size(); }

 private:
  DirtyBlock& block(std::uint64_t number);
  void zero_blocks(std::uint64_t first, std::uint64_t end);

  std::map<std::uint64_t, Group> groups_;
  std::map<std::uint64_t, std::uint64_t> zeroed_;  // begin -> end, disjoint, not adjacent
  std::uint64_t blocks_ = 0;
};

// A block of zeros that is shared by all who need one.
const Slice& zero_block();

}  // namespace duet::pool
