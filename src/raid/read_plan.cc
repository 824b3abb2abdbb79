#include "raid/read_plan.h"

namespace duet::raid {

std::vector<ReadRun> plan_reads(std::span<const BlockRead> blocks) {
  std::vector<ReadRun> runs;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const bool next = i > 0 && blocks[i].address.member() == blocks[i - 1].address.member() &&
                      blocks[i].address.block() == blocks[i - 1].address.block() + 1;
    if (next && runs.back().count < max_disk_read_blocks) {
      ++runs.back().count;
    } else {
      runs.push_back({i, 1});
    }
  }
  return runs;
}

}  // namespace duet::raid
