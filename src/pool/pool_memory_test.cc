// Metadata that does not fit into memory stays outside of it.
#include "pool/pool_test_bench.h"

namespace duet::pool {
namespace {

constexpr std::uint64_t bound = 48 << 10;                  // bytes
constexpr std::uint64_t step = group_blocks * block_size;  // of one indirect block
constexpr std::uint64_t indirect_blocks = sanitized ? 512 : 2048;
constexpr int files = sanitized ? 4000 : 20000;

class PoolMemory : public testing::Test {
 public:
  void SetUp() override {
    PoolTestBench::Options options;
    options.disks = 2;
    options.disk_size = 136 << 20;  // two map blocks, of which one has room
    options.metadata_cache = bound;
    options.dirty_limit = 1 << 20;
    options.read_cache = 64 << 10;
    bench = std::make_unique<PoolTestBench>(options);
    bench->start();
  }
  // Between points nothing is above the bound.
  void settle() {
    ASSERT_TRUE(bench->flush());
    bench->scheduler.run_for(seconds(1));
    EXPECT_LE(bench->pool->metadata_in_memory(), bound);
    EXPECT_EQ(bench->pool->dirty_bytes(), 0u);
  }
  template <class Try>
  Status patiently(Try attempt) {
    for (int i = 0; i < 10; ++i) {
      auto status = attempt();
      if (status || status.error().code != ErrorCode::busy) return status;
      settle();
    }
    return fail(ErrorCode::busy, "for ever");
  }

  std::unique_ptr<PoolTestBench> bench;
};

std::vector<Slice> stamp(std::uint64_t number) {
  OwnedBuffer block = make_buffer(block_size);
  store_le(block.bytes.data(), number + 1);
  return {block.slice()};
}

// One block under each indirect block, all over the disks.
TEST_F(PoolMemory, OfALargeLun) {
  auto record = bench->pool->prepare_create("large", indirect_blocks * step);
  ASSERT_TRUE(record);
  LunNumber lun(static_cast<std::uint16_t>(record->words[0]));
  const auto submit = [&](const LogRecord& change) {
    return patiently([&]() -> Status {
      if (auto room = bench->pool->admit(change); !room) return room;
      bench->log.emplace_back(bench->next_position(), LogRecord{change.kind, change.words, {}});
      return bench->pool->apply(bench->log.back().first, change);
    });
  };
  ASSERT_TRUE(submit(*record));
  for (std::uint64_t round = 0; round < 2; ++round) {  // the second gives up blocks of the first
    for (std::uint64_t i = 0; i < indirect_blocks; ++i) {
      const std::uint64_t at = i * 7919 % indirect_blocks;  // in no order
      auto status = submit(encode(WriteRecord{lun, at * step, stamp(at + 1000000 * round)}));
      ASSERT_TRUE(status) << status.error().message;
    }
    settle();
  }
  EXPECT_GT(indirect_blocks * block_size, 4 * bound) << "or nothing is shown";
  for (std::uint64_t i = 0; i < indirect_blocks; ++i) {
    const std::uint64_t at = i * 5003 % indirect_blocks;
    auto block = bench->read(lun, at * step, block_size);
    ASSERT_TRUE(block) << block.error().message;
    ASSERT_EQ(load_le<std::uint64_t>(block->data()), at + 1000001) << at;
    ASSERT_LE(bench->pool->metadata_in_memory(), bound);
  }
  EXPECT_EQ(bench->check(), "");
  // As somebody who opens it.
  bench->contained = bench->log.back().first.sequence;
  bench->crash();
  bench->start(Epoch(2));
  EXPECT_LE(bench->pool->metadata_in_memory(), bound);
  auto block = bench->read(lun, 0, block_size);
  ASSERT_TRUE(block);
  EXPECT_EQ(load_le<std::uint64_t>(block->data()), 1000001u);
}

TEST_F(PoolMemory, OfManyFiles) {
  constexpr VolumeId volume = Pool::first_volume;
  std::vector<InodeNumber> made;
  for (int i = 0; i < files; ++i) {
    auto status = patiently([&] {
      return bench->run([&](filesystem::View& view) -> Status {
        if (auto room = view.space(volume, 1); !room) return room;
        if (auto next = view.next_inode(volume); !next) return std::unexpected(next.error());
        made.push_back(view.allocate_inode(volume));
        Inode inode;
        inode.type = filesystem::FileType::regular;
        inode.links = 1;
        inode.mode = static_cast<std::uint16_t>(i % 512);
        view.set_inode({volume, made.back()}, inode);
        return {};
      });
    });
    ASSERT_TRUE(status) << status.error().message;
  }
  settle();
  bench->crash();  // what clean files there were are forgotten
  bench->start(Epoch(2));
  for (int i = 0; i < files; ++i) {
    const int at = static_cast<int>(static_cast<std::int64_t>(i) * 7919 % files);
    std::optional<Inode> seen;
    ASSERT_TRUE(bench->run([&](filesystem::View& view) -> Status {
      auto inode = view.inode({volume, made[static_cast<std::size_t>(at)]});
      if (!inode) return std::unexpected(inode.error());
      seen = *inode;
      return {};
    }));
    ASSERT_EQ(seen->mode, at % 512);
    ASSERT_LE(bench->pool->metadata_in_memory(), bound);
  }
  EXPECT_GT(static_cast<std::uint64_t>(files) * filesystem::inode_size, bound);
}

}  // namespace
}  // namespace duet::pool
