// Who has a superblock, and when.
#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

bool is_superblock(const simulation::DiskEvent& event) {
  return !event.flush && event.offset >= 8192 && event.offset < 8192 + 16 * block_size;
}

TEST(AbsentDiskTest, WhoWasNotInSyncHasTheSuperblockAfterAllOthers) {
  PoolTestBench bench({});
  bench.start();
  ASSERT_TRUE(bench.create("a", 1 << 20));
  ASSERT_TRUE(bench.pool->array()->fail_member(0));
  bench.scheduler.run_for(seconds(1));
  ASSERT_TRUE(bench.flush());
  std::size_t others = 0;
  bool late = false;
  for (std::size_t i = 0; i < bench.media.size(); ++i) {
    bench.media[i]->watch = [&, i](const simulation::DiskEvent& event) {
      if (!is_superblock(event) || late) return;
      if (i != 0 && event.ended) ++others;
      if (i != 0) return;
      late = true;
      EXPECT_EQ(others, bench.media.size() - 1);
    };
  }
  ASSERT_TRUE(bench.pool->array()->replace_member(0, bench.disk(0).id));
  ASSERT_TRUE(bench.scheduler.run_until([&] { return late; }));
}

}  // namespace
}  // namespace duet::pool
