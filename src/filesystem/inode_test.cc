#include "filesystem/inode.h"

#include <gtest/gtest.h>

#include <array>

namespace duet::filesystem {
namespace {

using InodeBytes = std::array<std::byte, inode_size>;

InodeBytes encoded(const Inode& inode) {
  InodeBytes bytes;
  bytes.fill(std::byte{0xee});
  encode(inode, bytes);
  return bytes;
}

Inode full() {
  Inode inode;
  inode.type = FileType::special;
  inode.levels = max_levels;
  inode.mode = 0xffff;
  inode.links = 0x11223344;
  inode.owner = ~0u;
  inode.group = 7;
  inode.size = max_file_size;
  inode.blocks = max_file_blocks;
  inode.accessed = -1;
  inode.modified = INT64_MIN;
  inode.changed = INT64_MAX;
  inode.created = 1;
  inode.change_count = ~std::uint64_t{0};
  inode.attributes = InodeNumber(~std::uint64_t{0});
  inode.parent = InodeNumber(3);
  inode.device = 4;
  inode.entries = 5;
  inode.root = {BlockAddress((std::uint64_t{1} << 48) - 1), generation_limit - 1, ~0u};
  inode.inlined = std::string(max_inline, 'x');
  return inode;
}

TEST(Inode, IsTheExampleOfTheDocument) {
  Inode inode;
  inode.type = FileType::symlink;
  inode.mode = 0120777;
  inode.links = 1;
  inode.owner = 1000;
  inode.group = 100;
  inode.size = 9;
  inode.accessed = inode.modified = inode.changed = inode.created =
      1'795'176'000 * std::int64_t{1'000'000'000};
  inode.change_count = 1;
  inode.inlined = "../target";
  InodeBytes bytes = encoded(inode);
  EXPECT_EQ(to_hex(Bytes(bytes).first(168)),
            "0300ffa101000000e803000064000000"
            "09000000000000000000000000000000"
            "00804e8d0fbfe91800804e8d0fbfe918"
            "00804e8d0fbfe91800804e8d0fbfe918"
            "01000000000000000000000000000000"
            "00000000000000000000000000000000"
            "00000000000000000000000000000000"
            "00000000000000000109000000000000"
            "00000000000000000000000000000000"
            "00000000000000002e2e2f7461726765"
            "7400000000000000");
  EXPECT_EQ(to_hex(Bytes(bytes).subspan(168)), std::string(176, '0'));
  auto again = decode_inode(bytes);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, inode);
}

TEST(Inode, EveryFieldComesBack) {
  auto again = decode_inode(encoded(full()));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, full());
}

TEST(Inode, AFreeOneIsZeros) {
  Inode inode = full();
  inode.type = FileType::none;
  EXPECT_EQ(encoded(inode), InodeBytes{});
  auto again = decode_inode(InodeBytes{});
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, Inode{});
}

TEST(Inode, EveryRuleIsChecked) {
  struct Change {
    std::size_t offset;
    std::uint8_t value;
    ErrorCode code = ErrorCode::invalid;
  };
  const Change changes[] = {
      {0, 0},                                            // free, but not empty
      {0, 8},                                            // type
      {1, max_levels + 1},                               // levels
      {16, 1},                                           // size
      {24, 1},                                           // blocks
      {120, 0, ErrorCode::unsupported_version},          // version
      {120, 2, ErrorCode::unsupported_version},          // version
      {121, static_cast<std::uint8_t>(max_inline + 1)},  // length
      {121, static_cast<std::uint8_t>(max_inline - 1)},  // a byte behind the end
      {122, 1},                                          // unused
      {151, 1},                                          // unused
  };
  for (const Change& change : changes) {
    InodeBytes bytes = encoded(full());
    bytes[change.offset] = std::byte{change.value};
    auto result = decode_inode(bytes);
    ASSERT_FALSE(result) << change.offset;
    EXPECT_EQ(result.error().code, change.code) << change.offset;
  }
  Inode hole = full();
  hole.root = {};
  InodeBytes bytes = encoded(hole);
  bytes[104] = std::byte{1};  // an address without a generation
  EXPECT_FALSE(decode_inode(bytes));
  EXPECT_FALSE(decode_inode(Bytes(bytes).first(255)));
  EXPECT_FALSE(decode_inode({}));
}

}  // namespace
}  // namespace duet::filesystem
