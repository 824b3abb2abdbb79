#include "raid/write_plan.h"

#include <algorithm>
#include <string>

namespace duet::raid {
namespace {

struct Target {
  StripeKey key;
  std::uint32_t column;
  std::size_t index;  // in the batch
};

std::unexpected<Error> misplaced(const BlockAddress& address) {
  return fail(ErrorCode::invalid, "block " + std::to_string(address.block()) + " of member " +
                                      std::to_string(address.member()) +
                                      " is no data block of the pool, or is given twice");
}

}  // namespace

Result<std::vector<StripeWrite>> plan_writes(const Layout& layout,
                                             const std::vector<Columns>& groups,
                                             std::vector<BlockWrite> blocks) {
  std::vector<Target> targets;
  targets.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const BlockAddress address = blocks[i].address;
    if (address.member() >= layout.members.size()) return misplaced(address);
    const Member& member = layout.members[address.member()];
    const GroupColumns& group = *groups[member.group];
    if (member.parity || address.block() < reserved_blocks || address.block() >= group.blocks ||
        blocks[i].data.bytes.size() != block_size) {
      return misplaced(address);
    }
    targets.push_back({stripe_key(member.group, address.block()), member.role, i});
  }
  std::ranges::sort(targets, {}, [](const Target& t) { return std::pair(t.key, t.column); });
  std::vector<StripeWrite> stripes;
  for (const Target& target : targets) {
    if (stripes.empty() || stripes.back().key != target.key) {
      const Geometry& geometry = groups[group_of(target.key)]->geometry;
      stripes.push_back({target.key, 0, std::vector<Slice>(geometry.columns())});
    }
    StripeWrite& stripe = stripes.back();
    const ColumnMask bit = ColumnMask{1} << target.column;
    if ((stripe.written & bit) != 0) return misplaced(blocks[target.index].address);
    stripe.written |= bit;
    stripe.columns[target.column] = std::move(blocks[target.index].data);
  }
  return stripes;
}

std::vector<ColumnWrite> merge_writes(std::span<const StripeWrite> stripes, ColumnMask skip) {
  std::vector<ColumnWrite> writes;
  const std::size_t columns = stripes.empty() ? 0 : stripes.front().columns.size();
  for (std::uint32_t column = 0; column < columns; ++column) {
    if ((skip >> column & 1) != 0) continue;
    bool open = false;  // writes.back() ends right before the next stripe
    for (const StripeWrite& stripe : stripes) {
      const Slice& block = stripe.columns[column];
      if (block.bytes.empty()) continue;
      const std::uint64_t at = stripe_of(stripe.key);
      if (!open || writes.back().data.size() == max_disk_write_blocks ||
          writes.back().block + writes.back().data.size() != at) {
        writes.push_back({column, at, {}});
        open = true;
      }
      writes.back().data.push_back(block);
    }
  }
  return writes;
}

}  // namespace duet::raid
