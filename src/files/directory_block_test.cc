#include "files/directory_block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "files/name_hash.h"

namespace duet::files {
namespace {

using Block = std::array<std::byte, block_size>;

std::uint64_t key_of(std::string_view name) {
  return name_hash(InodeNumber(2), name) << ordinal_bits;
}
// The leaf of the document.
Block example_leaf() {
  Block block;
  format_block(block, InodeNumber(2), 0, 0, 0);
  for (auto [name, inode, type] :
       {std::tuple("hello.txt", 3, FileType::regular), std::tuple("src", 4, FileType::directory)}) {
    insert_entry(block, lower_bound(block, key_of(name)),
                 {key_of(name), static_cast<std::uint64_t>(inode), type, name});
  }
  return block;
}
Block example_root() {
  Block block;
  format_block(block, InodeNumber(2), 0, 1, 0);
  insert_child(block, 0, {0, 1});
  insert_child(block, 1, {std::uint64_t{1} << 62, 2});
  return block;
}
Expected expected(std::uint64_t blocks = 3) {
  return {.owner = InodeNumber(2), .blocks = blocks};
}

TEST(DirectoryBlock, ALeafIsTheExampleOfTheDocument) {
  Block block = example_leaf();
  EXPECT_EQ(to_hex(Bytes(block).first(80)),
            "4444495201000200300000000000000002000000000000000000000000000000"
            "0000cc2bc990960e0300000000000000010968656c6c6f2e7478740000382e6a"
            "1e013604000000000000000203737263");
  EXPECT_TRUE(
      std::ranges::all_of(Bytes(block).subspan(80), [](auto b) { return b == std::byte{}; }));
  EXPECT_TRUE(check_block(block, expected()));
}

TEST(DirectoryBlock, AnInteriorBlockIsTheExampleOfTheDocument) {
  Block block = example_root();
  EXPECT_EQ(to_hex(Bytes(block).first(56)),
            "4444495201010200180000000000000002000000000000000000000000000000"
            "000000000000000001000000000000000000004002000000");
  EXPECT_TRUE(check_block(block, expected()));
  EXPECT_EQ(child_for(block, 0), 0u);
  EXPECT_EQ(child_for(block, (std::uint64_t{1} << 62) - 1), 0u);
  EXPECT_EQ(child_for(block, std::uint64_t{1} << 62), 1u);
}

TEST(DirectoryBlock, EveryRuleIsChecked) {
  struct Change {
    std::size_t offset;
    std::uint8_t value;
    const char* field;
  };
  auto refuse = [](Block block, const Change& change, Expected e = expected()) {
    block[change.offset] = std::byte{change.value};
    auto result = check_block(block, e);
    ASSERT_FALSE(result) << change.field;
    EXPECT_NE(result.error().message.find(change.field), std::string::npos)
        << result.error().message << ", expected " << change.field;
  };
  const Change of_both[] = {{0, 0, "magic"},       {4, 2, "version"},      {5, 8, "level"},
                            {10, 1, "unused"},     {12, 1, "number"},      {16, 3, "another file"},
                            {24, 1, "lowest key"}, {9, 0xff, "bytes used"}};
  for (const Change& change : of_both) {
    refuse(example_leaf(), change);
    refuse(example_root(), change);
  }
  const Change of_leaf[] = {{6, 3, "cut off"},        {6, 1, "do not agree"}, {39, 0x7f, "order"},
                            {40, 0, "without inode"}, {48, 0, "type"},        {48, 8, "type"},
                            {49, 0, "name"},          {49, 40, "cut off"},    {50, '/', "name"},
                            {50, 0, "name"}};
  for (const Change& change : of_leaf) refuse(example_leaf(), change);
  const Change of_root[] = {{6, 1, "children"}, {6, 0, "children"}, {32, 1, "order"},
                            {40, 0, "child"},   {40, 3, "child"},   {51, 0, "order"},
                            {52, 3, "child"}};
  for (const Change& change : of_root) refuse(example_root(), change);
  Expected e = expected();
  e.high = key_of("src");
  e.high = std::max(e.high, key_of("hello.txt"));
  EXPECT_FALSE(check_block(example_leaf(), e));
  e = expected();
  e.high = std::uint64_t{1} << 62;
  EXPECT_FALSE(check_block(example_root(), e));
  e = expected();
  e.level = 1;
  EXPECT_FALSE(check_block(example_leaf(), e));
  EXPECT_FALSE(check_block(Bytes(example_leaf()).first(100), expected()));
}

TEST(DirectoryBlock, NamesThatMayNotBe) {
  for (std::string_view bad : {"", ".", "..", "a/b"}) EXPECT_FALSE(valid_name(bad)) << bad;
  EXPECT_FALSE(valid_name(std::string_view("a\0b", 3)));
  EXPECT_FALSE(valid_name(std::string(256, 'x')));
  for (std::string_view good : {"a", "...", ".a", "..a", "\xff\x01 "})
    EXPECT_TRUE(valid_name(good));
  EXPECT_TRUE(valid_name(std::string(255, 'x')));
}

TEST(DirectoryBlock, HalvesAreJoinedToTheSameBlock) {
  Block left;
  format_block(left, InodeNumber(2), 0, 0, 0);
  for (std::uint64_t key = 1; used(left) + 300 < directory_room; ++key) {
    insert_entry(left, end_of_entries(left),
                 {key, 9, FileType::regular, std::string(1 + key * 37 % 255, 'x')});
  }
  const Block whole = left;
  Block right;
  split_block(left, right, 7);
  Expected e = expected();
  e.high = low_key(right);
  EXPECT_TRUE(check_block(left, e));
  e = {.owner = InodeNumber(2), .number = 7, .blocks = 8, .low = low_key(right)};
  EXPECT_TRUE(check_block(right, e));
  EXPECT_LE(used(left), directory_room / 2 + 300);
  EXPECT_LE(used(right), directory_room / 2 + 300);
  append_block(left, right);
  EXPECT_EQ(left, whole);
  remove_entry(left, first_entry());
  EXPECT_EQ(entry_at(left, first_entry()).key, 2u);
}

}  // namespace
}  // namespace duet::files
