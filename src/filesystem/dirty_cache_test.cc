#include "filesystem/dirty_cache.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "filesystem/clean_cache.h"

namespace duet::filesystem {
namespace {

const LunInstance lun(1);
constexpr std::uint32_t extent_size = 512 << 10;  // chunks of two blocks

OwnedBuffer filled(std::size_t size, int value) {
  auto buffer = make_buffer(size);
  std::ranges::fill(buffer.bytes, static_cast<std::byte>(value));
  return buffer;
}

TEST(DirtyCache, HoldsWholeBlocksWithoutACopy) {
  DirtyCache cache(extent_size);
  auto data = filled(12288, 1);
  cache.write(lun, 4096, {data.slice()});
  const DirtyExtent* extent = cache.find(lun, 0);
  ASSERT_NE(extent, nullptr);
  EXPECT_EQ(extent->blocks.size(), 3u);
  EXPECT_EQ(extent->blocks.at(2).slice.bytes.data(), data.bytes.data() + 4096);
  EXPECT_EQ(cache.bytes(), 3 * 4096u + DirtyCache::extent_cost);
  EXPECT_LE(cache.bytes(), cache.write_cost(12288));
}

TEST(DirtyCache, MergesSectorsAndNeverChangesASliceItGaveOut) {
  DirtyCache cache(extent_size);
  auto client = filled(4096, 1);
  cache.write(lun, 0, {client.slice()});
  cache.write(lun, 512, {filled(512, 2).slice()});
  EXPECT_EQ(client.bytes[512], std::byte{1});
  const DirtyBlock& block = cache.find(lun, 0)->blocks.at(0);
  EXPECT_EQ(block.valid, 0xff);
  EXPECT_EQ(block.slice.bytes[512], std::byte{2});
  EXPECT_EQ(block.slice.bytes[0], std::byte{1});
  Slice reply = block.slice;
  cache.write(lun, 512, {filled(512, 3).slice()});
  EXPECT_EQ(reply.bytes[512], std::byte{2});
  EXPECT_EQ(block.slice.bytes[512], std::byte{3});
  reply = {};
  const std::byte* own = block.slice.bytes.data();
  cache.write(lun, 512, {filled(512, 4).slice()});
  EXPECT_EQ(block.slice.bytes.data(), own);  // nobody else sees it: no copy
}

TEST(DirtyCache, WritesCrossBlocksAndExtentsInOddPieces) {
  DirtyCache cache(extent_size);
  auto data = filled(8192, 7);
  std::vector<Slice> pieces{{data.owner, Bytes(data.bytes).first(100)},
                            {},
                            {data.owner, Bytes(data.bytes).subspan(100, 1)},
                            {data.owner, Bytes(data.bytes).subspan(101)}};
  cache.write(lun, extent_size - 512, pieces);
  EXPECT_EQ(cache.find(lun, 0)->blocks.at(127).valid, 0x80);
  EXPECT_EQ(cache.find(lun, 1)->blocks.at(0).valid, 0xff);
  EXPECT_EQ(cache.find(lun, 1)->blocks.at(1).valid, 0x7f);
  EXPECT_EQ(cache.blocks(), 3u);
  EXPECT_LE(cache.bytes(), cache.write_cost(8192));
}

TEST(DirtyCache, ZeroingTakesWholeChunksAndWritesTheEdges) {
  DirtyCache cache(extent_size);
  cache.write(lun, 0, {filled(40960, 1).slice()});
  cache.zero(lun, 4096 + 512, 20480);  // chunks of 8192: whole ones are 1 and 2
  const DirtyExtent* extent = cache.find(lun, 0);
  EXPECT_EQ(extent->zeroed, 0b110u);
  EXPECT_EQ(cache.blocks(), 10u - 4u);
  EXPECT_EQ(extent->blocks.at(1).slice.bytes[511], std::byte{1});
  EXPECT_EQ(extent->blocks.at(1).slice.bytes[512], std::byte{0});
  EXPECT_EQ(extent->blocks.at(6).slice.bytes[511], std::byte{0});
  EXPECT_EQ(extent->blocks.at(6).slice.bytes[512], std::byte{1});
  cache.drop(lun);
  EXPECT_TRUE(cache.empty());
  EXPECT_EQ(cache.bytes(), 0u);
  cache.zero(lun, 512, max_zero_length);
  EXPECT_LE(cache.bytes(), cache.zero_cost(max_zero_length));
}

TEST(CleanCache, KeepsABoundedNumberAndPrefersTheUsed) {
  CleanCache cache(4 * block_size);
  for (std::uint64_t block = 0; block < 4; ++block) cache.insert(lun, block, filled(4096, 1).bytes);
  EXPECT_NE(cache.find(lun, 2).owner, nullptr);
  for (std::uint64_t block = 10; block < 13; ++block)
    cache.insert(lun, block, filled(4096, 1).bytes);
  EXPECT_EQ(cache.size(), 4u);
  EXPECT_NE(cache.find(lun, 2).owner, nullptr);
  EXPECT_EQ(cache.find(lun, 0).owner, nullptr);
  EXPECT_EQ(cache.find(LunInstance(2), 2).owner, nullptr);
  cache.erase(lun, 2);
  EXPECT_EQ(cache.find(lun, 2).owner, nullptr);
  cache.clear();
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_EQ(cache.find(lun, 12).owner, nullptr);
}

TEST(CleanCache, DoesNotChangeWhatAReplyShows) {
  CleanCache cache(block_size);
  cache.insert(lun, 0, filled(4096, 1).bytes);
  Slice reply = cache.find(lun, 0);
  cache.insert(lun, 0, filled(4096, 2).bytes);
  cache.insert(lun, 1, filled(4096, 3).bytes);
  cache.insert(lun, 1, filled(4096, 4).bytes);
  EXPECT_EQ(reply.bytes[0], std::byte{1});
  EXPECT_EQ(cache.find(lun, 1).bytes[0], std::byte{4});
  CleanCache none(0);
  none.insert(lun, 0, filled(4096, 1).bytes);
  EXPECT_EQ(none.size(), 0u);
}

}  // namespace
}  // namespace duet::filesystem
