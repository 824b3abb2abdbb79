// Making a pool.
#include <algorithm>
#include <memory>
#include <utility>

#include "pool/pool.h"

namespace duet::pool {

Result<raid::Layout> plan_layout(const std::vector<Pool::Disk>& disks, raid::Protection protection,
                                 std::size_t spares) {
  const std::size_t parity = raid::parity_count(protection);
  if (disks.size() < 1 + parity + spares) {
    return fail(ErrorCode::invalid,
                "a pool needs at least " + std::to_string(1 + parity + spares) + " disks here");
  }
  const std::size_t members = disks.size() - spares;
  raid::Layout layout;
  raid::Group group;
  group.protection = protection;
  group.blocks = raid::max_member_blocks;
  for (std::size_t i = 0; i < members; ++i) {
    group.blocks = std::min(group.blocks, disks[i].data.size / block_size);
    raid::Member member;
    member.disk = disks[i].id;
    member.parity = i >= members - parity;
    member.role = static_cast<std::uint8_t>(member.parity ? i - (members - parity) : i);
    layout.members.push_back(member);
  }
  for (std::size_t i = members; i < disks.size(); ++i) layout.spares.push_back(disks[i].id);
  if (group.blocks < raid::reserved_blocks + 256) {
    return fail(ErrorCode::no_space, "a disk of the pool is too small");
  }
  layout.groups.push_back(group);
  if (auto status = raid::check(layout); !status) return std::unexpected(status.error());
  return layout;
}

void format_pool(ports::Scheduler& scheduler, const disk::PoolId& pool,
                 std::vector<Pool::Disk> disks, const raid::Layout& layout,
                 ports::Done<void> done) {
  Superblock superblock;
  superblock.pool = pool;
  superblock.layout = layout;
  auto bytes = encode(superblock);
  if (!bytes || disks.empty()) {
    scheduler.post([done = std::move(done), bytes = std::move(bytes)]() mutable {
      done(bytes ? fail(ErrorCode::invalid, "a pool needs disks") : std::unexpected(bytes.error()));
    });
    return;
  }
  struct Formatting {
    ports::Done<void> done;
    std::size_t left = 0;
    Status status;
  };
  auto formatting = std::make_shared<Formatting>();
  formatting->done = std::move(done);
  formatting->left = disks.size();
  const Slice data = copy_to_slice(*bytes);
  const Slice zeros = make_buffer(raid::reserved_blocks * block_size).slice();
  const auto ended = [formatting](Status status) {
    if (!status && formatting->status) formatting->status = std::move(status);
    if (--formatting->left == 0) formatting->done(std::move(formatting->status));
  };
  // What was there goes first, the stripe journals too: a superblock says that all is well.
  for (const Pool::Disk& disk : disks) {
    disk.disk->write(disk.data.offset, {zeros}, true,
                     [disk, data, ended, generation = superblock.generation](Status status) {
                       if (!status) return ended(std::move(status));
                       disk.disk->write(disk.data.offset + superblock_slot(generation) * block_size,
                                        {data}, true, ended);
                     });
  }
}

}  // namespace duet::pool
