#include "filesystem/pool_format.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"

namespace duet::filesystem {
namespace {

// The example of docs/formats/pool.md.
struct Example {
  Superblock superblock;
  std::vector<LunEntry> luns;
  std::vector<std::byte> table;

  Example() {
    for (std::uint8_t i = 0; i < 16; ++i) superblock.geometry.pool[i] = i;
    DiskId id;
    id.bytes.fill(0xd1);
    superblock.geometry.table_slot_size = 1 << 20;
    superblock.geometry.extents_offset = 65536 + (2 << 20);
    superblock.geometry.disks = {{id, 10}};
    superblock.generation = 2;
    superblock.epoch = Epoch(7);
    superblock.position = {Epoch(7), LogSequence(41), 4096, 1};
    superblock.table_generation = 2;
    superblock.table_slot = 1;
    superblock.luns_created = 1;
    LunEntry lun;
    lun.info = {LunNumber(0), "db", 4096, "S1", 0x3000000000000001, {std::byte{9}}, {}};
    lun.extents = {{0, 3, 5}};
    luns.push_back(lun);
    encode();
  }
  void encode() {
    std::vector<const LunEntry*> entries;
    for (const LunEntry& lun : luns) entries.push_back(&lun);
    table = encode_lun_table(superblock, entries);
    seal();
  }
  void seal() {
    superblock.table_size = table.size();
    superblock.table_crc = crc32c(table);
  }
};

void reseal(std::vector<std::byte>& block) {
  store_le(&block[12], std::uint32_t{0});
  store_le(&block[12], crc32c(block));
}

TEST(PoolFormat, SuperblockHasTheDocumentedBytes) {
  Example example;
  auto block = encode_superblock(example.superblock);
  ASSERT_EQ(block.size(), 4096u);
  EXPECT_EQ(to_hex(Bytes(block).first(8)), "44554554504f4f4c");
  EXPECT_EQ(load_le<std::uint32_t>(&block[8]), 1u);
  EXPECT_EQ(load_le<std::uint32_t>(&block[12]), 0x287e8d0cu);
  EXPECT_EQ(to_hex(Bytes(block).subspan(16, 32)),
            "000102030405060708090a0b0c0d0e0f"
            "02000000000000000700000000000000");
  EXPECT_EQ(to_hex(Bytes(block).subspan(48, 32)),
            "07000000000000002900000000000000"
            "00100000000000000100000000000000");
  EXPECT_EQ(to_hex(Bytes(block).subspan(80, 12)), "020000000000000001000000");
  EXPECT_EQ(load_le<std::uint32_t>(&block[92]), 0x234f420du);
  EXPECT_EQ(to_hex(Bytes(block).subspan(96, 48)),
            "5d00000000000000"
            "0100000000000000"
            "00004000"
            "01000000"
            "0000100000000000"
            "0000210000000000"
            "0000000000000000");
  EXPECT_EQ(to_hex(Bytes(block).subspan(144, 24)),
            "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d10a00000000000000");
  auto decoded = decode_superblock(block);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(*decoded, example.superblock);
}

TEST(PoolFormat, LunTableHasTheDocumentedBytes) {
  Example example;
  EXPECT_EQ(to_hex(example.table),
            "445545544c554e53010000000100000002000000000000000001020304050607"
            "08090a0b0c0d0e0f000002020000010000100000000000000100000000000030"
            "0100000000000000646253310900000000030000000500000000000000");
  auto luns = decode_lun_table(example.superblock, example.table);
  ASSERT_TRUE(luns) << luns.error().message;
  ASSERT_EQ(luns->size(), 1u);
  EXPECT_EQ(luns->at(0).info.name, "db");
  EXPECT_EQ(luns->at(0).info.reservations, std::vector{std::byte{9}});
  EXPECT_EQ(luns->at(0).extents, example.luns[0].extents);
  EXPECT_EQ(example.table.size(), table_header_size() + table_entry_size(example.luns[0].info, 1));
}

TEST(PoolFormat, EveryDamagedBitOfASuperblockIsFound) {
  auto block = encode_superblock(Example().superblock);
  for (std::size_t bit = 0; bit < 200 * 8; ++bit) {
    block[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(decode_superblock(block)) << bit;
    block[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  EXPECT_FALSE(decode_superblock(Bytes(block).first(4095)));
  EXPECT_TRUE(decode_superblock(block));
}

TEST(PoolFormat, SuperblockFieldsAreChecked) {
  struct Case {
    std::size_t offset;
    std::uint64_t value;
    int size;
    ErrorCode code = ErrorCode::invalid;
  };
  const Case cases[] = {
      {8, 2, 4, ErrorCode::unsupported_version},
      {0, 0, 8, ErrorCode::not_found},
      {32, 0, 8},  // generation
      {64, 7, 8},  // ring offset
      {80, 3, 8},  // table generation beyond the generation
      {80, 0, 8},
      {88, 2, 4},   // table slot
      {96, 39, 8},  // table size
      {96, (1 << 20) + 1, 8},
      {112, 3 << 20, 4},  // extent size
      {112, 128 << 10, 4},
      {112, 128 << 20, 4},
      {116, 0, 4},  // disks
      {116, 65, 4},
      {116, 3, 4},  // two disks without an id
      {120, 0, 8},  // table slot size
      {120, 4095, 8},
      {120, ~0ull << 12, 8},
      {128, 65536 + (1 << 20), 8},
      {128, 65537 + (2 << 20), 8},
      {136, 1, 8},
      {160, max_pool_extents + 1, 4},
      {164, 1, 4},
  };
  const auto good = encode_superblock(Example().superblock);
  for (const Case& c : cases) {
    auto block = good;
    if (c.size == 4)
      store_le(&block[c.offset], static_cast<std::uint32_t>(c.value));
    else
      store_le(&block[c.offset], c.value);
    reseal(block);
    auto result = decode_superblock(block);
    ASSERT_FALSE(result) << c.offset << " = " << c.value;
    EXPECT_EQ(result.error().code, c.code) << c.offset << " = " << c.value;
  }
}

TEST(PoolFormat, LunTableFieldsAreChecked) {
  struct Case {
    std::size_t offset;
    std::uint8_t value;
  };
  const Case cases[] = {
      {0, 0},                                              // magic
      {8, 2},                                              // version
      {12, 0},                                             // fewer LUNs than there are
      {12, 2},   {13, 8},  {16, 1},                        // generation
      {24, 1},                                             // pool
      {41, 4},                                             // LUN number
      {42, 0},   {42, 64}, {43, 0},   {43, 32},  {44, 1},  // lengths that do not fit
      {45, 1},   {46, 0},  {47, 255}, {48, 1},             // size
      {50, 128}, {55, 1},  {64, 2},                        // extents
      {67, 255}, {68, 1},  {72, '/'}, {74, ' '}, {77, 1},  // disk
      {79, 1},   {81, 10},                                 // extent
  };
  for (const Case& c : cases) {
    Example example;
    ASSERT_NE(example.table[c.offset], static_cast<std::byte>(c.value)) << c.offset;
    example.table[c.offset] = static_cast<std::byte>(c.value);
    EXPECT_FALSE(decode_lun_table(example.superblock, example.table));
    example.seal();
    EXPECT_FALSE(decode_lun_table(example.superblock, example.table))
        << c.offset << " = " << int{c.value};
  }
}

TEST(PoolFormat, LunsOfATableDoNotClash) {
  auto second = [](auto change) {
    Example example;
    LunEntry lun = example.luns[0];
    lun.info.number = LunNumber(1);
    lun.info.name = "other";
    lun.extents[0].extent = 4;
    change(lun);
    example.luns.push_back(lun);
    example.encode();
    return decode_lun_table(example.superblock, example.table).has_value();
  };
  EXPECT_TRUE(second([](LunEntry&) {}));
  EXPECT_FALSE(second([](LunEntry& lun) { lun.info.number = LunNumber(0); }));
  EXPECT_FALSE(second([](LunEntry& lun) { lun.info.name = "db"; }));
  EXPECT_FALSE(second([](LunEntry& lun) { lun.extents[0].extent = 3; }));
}

}  // namespace
}  // namespace duet::filesystem
