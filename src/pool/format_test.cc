// Golden bytes of docs/formats/pool.md, and decoders that meet foreign bytes.
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "pool/superblock.h"
#include "pool/tables.h"
#include "pool/volume.h"

namespace duet::pool {
namespace {

const char* const golden_superblock =
    "445545545741465301000000be54791a\n"
    "00100000000000000001020304050607\n"
    "08090a0b0c0d0e0f0200000000000000\n"
    "07000000000000000700000000000000\n"
    "29000000000000000010000000000000\n"
    "01000000000000002c01000000000200\n"
    "00000000443322110000000000000000\n"
    "00000000000000000000000000000000\n"
    "00000000000000002d01000000000200\n"
    "00000000443322110000000000000000\n"
    "10000000000000000100000000000000\n"
    "02000000000000000100010002000000\n";
const char* const golden_volume =
    "02000000020000000100000000000000\n"
    "02000000000000000500000000000000\n"
    "10000000000000002000000000000000\n"
    "00000000000000000000000000000000\n"
    "00000000000000000000000000000000\n"
    "00804e8d0fbfe9180000000000000000\n";
const char* const golden_lun =
    "445545544c554e318f12608603000202\n"
    "00000000010000000900000000000000\n"
    "00001000000000000100000000000030\n"
    "00000000646253310000000000000000\n";
const char* const golden_zombie =
    "90010000100003000000000044332211\n"
    "02030000050000000400000000000000\n"
    "09000000000000000000000000000000\n";

std::string hex(Bytes bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 16) {
    text += to_hex(bytes.subspan(i, std::min<std::size_t>(16, bytes.size() - i))) + "\n";
  }
  return text;
}

BlockPointer pointer(std::uint32_t member, std::uint64_t block, Generation birth) {
  return {raid::BlockAddress(member, block), birth, 0x11223344};
}

Superblock example() {
  Superblock s;
  for (std::size_t i = 0; i < s.pool.size(); ++i) s.pool[i] = static_cast<std::uint8_t>(i);
  s.generation = 2;
  s.epoch = Epoch(7);
  s.position = {Epoch(7), LogSequence(41), 4096, 1};
  s.maps = {pointer(0, 300, 2), 0};
  s.inodes = {pointer(0, 301, 2), 0};
  s.luns_created = 1;
  s.layout.groups.push_back({raid::Protection::single, 2000});
  for (std::uint8_t i = 0; i < 2; ++i) {
    raid::Member member;
    member.disk.bytes.fill(static_cast<std::uint8_t>(0xd1 + i));
    member.parity = i == 1;
    s.layout.members.push_back(member);
  }
  return s;
}

Volume daily() {
  Volume v;
  v.kind = VolumeKind::snapshot;
  v.id = VolumeId(2);
  v.parent = VolumeId(1);
  v.birth = 2;
  v.next_inode = 5;
  v.dead_list = InodeNumber(16);
  v.dead_size = 32;
  v.created = 1'795'176'000'000'000'000;
  v.inodes.type = filesystem::FileType::system;
  v.inodes.root = pointer(0, 302, 2);
  v.name = "daily";
  return v;
}

TEST(PoolFormatTest, BlockPointer) {
  std::byte bytes[16];
  filesystem::store_pointer(bytes, pointer(2, 300, 7));
  EXPECT_EQ(hex(bytes), "2c010000200007000000000044332211\n");
  EXPECT_EQ(filesystem::load_pointer(bytes), pointer(2, 300, 7));
  filesystem::store_pointer(bytes, pointer(1023, raid::max_member_blocks - 1, (1ull << 48) - 1));
  EXPECT_EQ(filesystem::load_pointer(bytes),
            pointer(1023, raid::max_member_blocks - 1, (1ull << 48) - 1));
}

TEST(PoolFormatTest, Superblock) {
  auto bytes = encode(example());
  ASSERT_TRUE(bytes);
  EXPECT_EQ(bytes->size(), block_size);
  EXPECT_EQ(hex(Bytes(*bytes).first(192)), golden_superblock);
  auto back = decode_superblock(*bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, example());
  EXPECT_EQ(superblock_slot(2), 0u);
  EXPECT_EQ(superblock_slot(3), 8u);
}

TEST(PoolFormatTest, SuperblockRefusesWhatIsImpossible) {
  const auto good = *encode(example());
  const auto changed = [&](std::size_t at, std::uint8_t value, bool right) {
    auto bytes = good;
    bytes[at] = static_cast<std::byte>(value);
    if (right) {
      store_le(&bytes[12], std::uint32_t{0});
      store_le(&bytes[12], crc32c(bytes));
    }
    auto decoded = decode_superblock(bytes);
    return decoded ? std::optional<ErrorCode>() : decoded.error().code;
  };
  for (std::size_t at = 0; at < 400; ++at) {  // the checksum sees everything
    EXPECT_TRUE(changed(at, static_cast<std::uint8_t>(good[at]) ^ 0x10, false)) << at;
  }
  EXPECT_EQ(changed(0, 1, true), ErrorCode::not_found);
  EXPECT_EQ(changed(8, 2, true), ErrorCode::unsupported_version);
  EXPECT_EQ(changed(17, 0, true), ErrorCode::invalid);     // size 0
  EXPECT_EQ(changed(17, 0x20, true), ErrorCode::invalid);  // larger than the slot
  EXPECT_EQ(changed(40, 0, true), ErrorCode::invalid);     // generation 0
  EXPECT_EQ(changed(46, 1, true), ErrorCode::invalid);     // beyond 48 bits
  EXPECT_EQ(changed(94, 3, true), ErrorCode::invalid);     // maps born later than the superblock
  EXPECT_EQ(changed(104, 6, true), ErrorCode::invalid);    // levels
  EXPECT_FALSE(changed(160, 17, true));
  for (std::size_t size = 0; size < good.size(); size += 61) {
    EXPECT_FALSE(decode_superblock(Bytes(good).first(size))) << size;
  }
}

TEST(PoolFormatTest, VolumeRecord) {
  std::byte bytes[volume_record_size];
  encode(daily(), bytes);
  EXPECT_EQ(hex(Bytes(bytes).first(96)), golden_volume);
  EXPECT_EQ(hex(Bytes(bytes).subspan(384, 16)), "056461696c7900000000000000000000\n");
  auto back = decode_volume(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, daily());
  const auto refused = [&](std::size_t at, std::uint8_t value) {
    std::byte other[volume_record_size];
    std::ranges::copy(bytes, other);
    other[at] = static_cast<std::byte>(value);
    return !decode_volume(other);
  };
  EXPECT_TRUE(refused(0, 3));
  EXPECT_TRUE(refused(0, 0));  // free, and not empty
  EXPECT_TRUE(refused(1, 2));
  EXPECT_TRUE(refused(48, 33));   // done with more than there is
  EXPECT_TRUE(refused(128, 99));  // the type of its inode file
  EXPECT_TRUE(refused(384, 64));
  EXPECT_TRUE(refused(385, ' '));
}

TEST(PoolFormatTest, LunSlot) {
  LunInfo info;
  info.number = LunNumber(3);
  info.name = "db";
  info.serial = "S1";
  info.size = 1 << 20;
  info.naa = 0x3000000000000001;
  auto bytes = encode_lun(info, {VolumeId(1), InodeNumber(9)});
  EXPECT_EQ(hex(Bytes(bytes).first(64)), golden_lun);
  auto back = decode_lun(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->info.name, "db");
  EXPECT_EQ(back->file, (FileKey{VolumeId(1), InodeNumber(9)}));
  for (std::size_t at = 0; at < 64; ++at) {
    auto other = bytes;
    other[at] ^= std::byte{1};
    EXPECT_FALSE(decode_lun(other)) << at;
  }
}

TEST(PoolFormatTest, RemovedTrees) {
  const std::vector<Zombie> zombies{
      {pointer(1, 400, 3), 2, true, true, VolumeId(5), 4, 9},
      {pointer(0, 401, 3), 0, false, false, VolumeId(0), 0, 9},
  };
  auto bytes = encode_zombies(zombies);
  EXPECT_EQ(hex(Bytes(bytes).first(48)), golden_zombie);
  EXPECT_EQ(*decode_zombies(bytes), zombies);
  bytes[16] = std::byte{6};
  EXPECT_FALSE(decode_zombies(bytes));
  bytes[16] = std::byte{0};
  bytes[17] = std::byte{4};
  EXPECT_FALSE(decode_zombies(bytes));
  EXPECT_FALSE(decode_zombies(Bytes(bytes).first(47)));
}

}  // namespace
}  // namespace duet::pool
