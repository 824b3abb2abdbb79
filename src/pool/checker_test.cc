// Each kind of damage is planted, with checksums that are right, and named by the checker.
#include <algorithm>

#include "base/crc32c.h"
#include "pool/pool_test_world.h"
#include "pool/superblock.h"
#include "pool/tables.h"

namespace duet::pool {
namespace {

using testing::Test;

PoolTestBench::Options two_plain_disks() {
  PoolTestBench::Options options;
  options.disks = 2;
  options.protection = raid::Protection::none;
  return options;
}

class CheckerTest : public Test {
 protected:
  using Edit = std::function<void(MutableBytes)>;

  CheckerTest() {
    world.bench.start();
    EXPECT_TRUE(world.create_lun(1));
    EXPECT_TRUE(world.create_lun(300));
    EXPECT_TRUE(world.write_lun(LunNumber(0), 0, block_size));
    EXPECT_TRUE(world.write_lun(LunNumber(1), 0, 80 << 10));
    world.create_snapshot(first_volume);
    world.wait();
    EXPECT_TRUE(world.write_lun(LunNumber(1), 8192, 8192));
    EXPECT_TRUE(world.bench.flush());
    EXPECT_EQ(world.bench.check(), "");
    world.bench.crash();
    auto found = decode_superblock(world.bench.media[0]->peek(8192, superblock_size_max));
    auto other = decode_superblock(
        world.bench.media[0]->peek(8192 + superblock_size_max, superblock_size_max));
    superblock = other && other->generation > found->generation ? *other : *found;
  }

  std::vector<std::byte> block(const BlockPointer& pointer) {
    return world.bench.media[pointer.address.member()]->peek(
        8192 + pointer.address.block() * block_size, block_size);
  }
  // Changes the block and its checksum in the pointer.
  void edit(BlockPointer& pointer, const Edit& change) {
    auto bytes = block(pointer);
    change(bytes);
    pointer.crc = crc32c(bytes);
    world.bench.media[pointer.address.member()]->poke(8192 + pointer.address.block() * block_size,
                                                      bytes);
  }
  // Block 0 of a file of the pool's own (of one block, or the first of many).
  void edit_own(InodeNumber number, const Edit& change) {
    const std::uint64_t at = number.value() / filesystem::inodes_per_block;
    edit_tree(superblock.inodes.pointer, superblock.inodes.levels, at, [&](MutableBytes inodes) {
      auto slot =
          inodes.subspan(number.value() % filesystem::inodes_per_block * filesystem::inode_size,
                         filesystem::inode_size);
      auto inode = filesystem::decode_inode(slot);
      ASSERT_TRUE(inode);
      edit_tree(inode->root, inode->levels, 0, change);
      filesystem::encode(*inode, slot);
    });
  }
  // Block `number` of a tree.
  void edit_tree(BlockPointer& pointer, std::uint8_t level, std::uint64_t number,
                 const Edit& change) {
    if (level == 0) return edit(pointer, change);
    edit(pointer, [&](MutableBytes node) {
      const auto below = static_cast<std::uint8_t>(level - 1);
      std::byte* slot = &node[(number >> 8 * below & 0xff) * filesystem::pointer_size];
      BlockPointer child = filesystem::load_pointer(slot);
      edit_tree(child, below, number, change);
      filesystem::store_pointer(slot, child);
    });
  }
  void edit_volume(std::uint32_t id, const std::function<void(Volume&)>& change) {
    edit_own(volume_table, [&](MutableBytes table) {
      auto record = table.subspan(id * volume_record_size, volume_record_size);
      auto volume = decode_volume(record);
      ASSERT_TRUE(volume);
      change(*volume);
      encode(*volume, record);
    });
  }
  void edit_inode(std::uint32_t id, std::uint64_t number,
                  const std::function<void(Inode&)>& change) {
    edit_volume(id, [&](Volume& volume) {
      edit(volume.inodes.root, [&](MutableBytes inodes) {
        auto slot = inodes.subspan(number * filesystem::inode_size, filesystem::inode_size);
        auto inode = filesystem::decode_inode(slot);
        ASSERT_TRUE(inode);
        change(*inode);
        filesystem::encode(*inode, slot);
      });
    });
  }
  std::string check(Checker::Options how = {0, true, false, nullptr}) {
    auto bytes = encode(superblock);
    for (auto& medium : world.bench.media) {
      medium->poke(8192 + superblock_slot(superblock.generation) * block_size, *bytes);
    }
    auto opened = world.bench.open();
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? world.bench.check(std::move(how)) : "";
  }
  void expect(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in:\n" << text;
  }

  PoolTestWorld world{two_plain_disks()};
  Superblock superblock;
};

TEST_F(CheckerTest, ABlockInUseThatIsMarkedFree) {
  BlockPointer lun;
  edit_inode(1, 3, [&](Inode& inode) { lun = inode.root; });
  ASSERT_EQ(superblock.maps.levels, 1);
  edit(superblock.maps.pointer, [&](MutableBytes node) {
    const std::size_t slot = lun.address.member() * filesystem::pointer_size;
    BlockPointer map = filesystem::load_pointer(&node[slot]);
    edit(map, [&](MutableBytes bits) {
      bits[lun.address.block() / 8] ^= std::byte{1} << lun.address.block() % 8;
    });
    filesystem::store_pointer(&node[slot], map);
  });
  const std::string text = check();
  expect(text, "block 0 of inode 3 of snapshot v3 of volume vol0 (LUN lun1)");
  expect(text, "which is marked free");
  expect(text, "the count of map block");
}

TEST_F(CheckerTest, ALostBlock) {
  edit_tree(superblock.maps.pointer, superblock.maps.levels, 0,
            [](MutableBytes bits) { bits[150] |= std::byte{4}; });  // block 1202
  const std::string text = check();
  expect(text, "block 1202 of member 0 is lost");
}

TEST_F(CheckerTest, AWrongCount) {
  edit(superblock.counts.pointer, [](MutableBytes counts) { counts[0] ^= std::byte{1}; });
  expect(check(), "the count of map block 0 (of member 0) says");
}

TEST_F(CheckerTest, ABlockOfTwoOwners) {
  BlockPointer lun;
  edit_inode(1, 3, [&](Inode& inode) { lun = inode.root; });
  edit_volume(1, [&](Volume& v) {
    edit(v.inodes.root, [&](MutableBytes inodes) {
      auto slot = inodes.subspan(4 * filesystem::inode_size, filesystem::inode_size);
      auto inode = *filesystem::decode_inode(slot);
      inode.root = lun;
      inode.levels = 0;
      filesystem::encode(inode, slot);
    });
  });
  const std::string text = check();
  expect(text, "inode 4 of volume vol0 (LUN lun2)");
  expect(text, "which belongs to something else, too");
}

TEST_F(CheckerTest, ABlockThatCannotBeRead) {
  BlockPointer lun;
  edit_inode(1, 3, [&](Inode& inode) { lun = inode.root; });
  std::vector<std::byte> junk(100, std::byte{1});
  world.bench.media[lun.address.member()]->poke(8192 + lun.address.block() * block_size, junk);
  const std::string text = check();
  expect(text, "block 0 of inode 3 of snapshot v3 of volume vol0 (LUN lun1) cannot be read");
  world.bench.crash();
  EXPECT_EQ(check({0, false, false, nullptr}), "");  // only who reads data finds it
}

TEST_F(CheckerTest, AWrongDeadList) {
  InodeNumber list;
  edit_volume(1, [&](Volume& v) { list = v.dead_list; });
  ASSERT_NE(list, no_inode);
  edit_own(list, [](MutableBytes entries) {
    BlockPointer pointer = filesystem::load_pointer(entries.data());
    pointer.address = raid::BlockAddress(1, 1300);
    filesystem::store_pointer(entries.data(), pointer);
  });
  const std::string text = check();
  expect(text, "the dead list of volume vol0 names block 1300 of member 1");
  expect(text, "in no dead list");
}

TEST_F(CheckerTest, WrongRecordsOfVolumes) {
  edit_volume(1, [](Volume& v) { v.used += 3; });
  edit_volume(2, [](Volume& v) { v.clones = 1; });
  const std::string text = check();
  expect(text, "volume vol0 says that it uses");
  expect(text, "snapshot v3 of volume vol0 says that it has 1 clones, and has 0");
}

TEST_F(CheckerTest, ALunWithoutItsVdisk) {
  edit_inode(1, 3, [](Inode& inode) { inode.size += block_size; });
  expect(check(), "LUN lun1: inode 3 of volume vol0 is not a vdisk of its size");
}

TEST_F(CheckerTest, DirectoriesAndLinkCounts) {
  Checker::Options how{
      0, false, false, [](filesystem::View& view, FileKey directory, std::uint64_t) {
        EXPECT_TRUE(view.inode(directory) || view.inode(directory).error().code == ErrorCode::busy);
        Checker::Names names;
        names.names.emplace_back("ghost", InodeNumber(77));
        names.names.emplace_back("loop", filesystem::root_directory);
        names.end = true;
        return Result<Checker::Names>(names);
      }};
  const std::string text = check(how);
  expect(text, "directory inode 2 of volume vol0 names \"ghost\", inode 77, which is free");
  expect(text, "says that it has 0 names, and has 2");
  expect(text, "has the link count 2 and 1 directories in it");
}

TEST_F(CheckerTest, GoesOnWhileThePoolChangesAndCanBeCancelled) {
  world.bench.start(Epoch(2));
  Checker checker(world.bench.scheduler, *world.bench.pool, {1 << 20, true, false, nullptr});
  std::optional<Result<CheckReport>> result;
  checker.start([&](auto r) { result = std::move(r); });
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(world.write_lun(LunNumber(1), 4096u * static_cast<unsigned>(i), 8192));
    ASSERT_TRUE(world.bench.flush());
  }
  EXPECT_TRUE(checker.progress().running);
  ASSERT_TRUE(world.bench.scheduler.run_until([&] { return result.has_value(); }));
  ASSERT_TRUE(*result) << result->error().message;
  EXPECT_TRUE((*result)->clean()) << (*result)->problems.front();

  Checker second(world.bench.scheduler, *world.bench.pool, {1 << 20, true, false, nullptr});
  result.reset();
  second.start([&](auto r) { result = std::move(r); });
  world.bench.scheduler.run_for(milliseconds(10));
  second.cancel();
  ASSERT_TRUE(world.bench.scheduler.run_until([&] { return result.has_value(); }));
  EXPECT_EQ(result->error().code, ErrorCode::cancelled);
}

// Any bytes under right checksums: an error, or it works; no crash, no hang.
class ForeignBytesTest : public CheckerTest, public testing::WithParamInterface<std::uint64_t> {};

TEST_P(ForeignBytesTest, AreRefusedOrTold) {
  simulation::Random random(GetParam());
  const Edit damage = [&](MutableBytes bytes) {
    const std::uint64_t places = 1 + random.below(3);
    for (std::uint64_t i = 0; i < places; ++i) {
      const std::uint64_t end = random.chance(1, 2) ? 600 : bytes.size();
      bytes[random.below(end)] = static_cast<std::byte>(random.next());
    }
  };
  switch (random.below(7)) {
    case 0:
      edit_tree(superblock.maps.pointer, superblock.maps.levels, 0, damage);
      break;
    case 1:
      edit(superblock.counts.pointer, damage);
      break;
    case 2:
      edit(superblock.inodes.pointer, damage);
      break;
    case 3:
      edit_tree(superblock.inodes.pointer, superblock.inodes.levels, 0, damage);
      break;
    case 4:
      edit_own(volume_table, damage);
      break;
    case 5:
      edit_own(lun_catalogue, damage);
      break;
    default:
      edit_volume(1, [&](Volume& v) { edit(v.inodes.root, damage); });
      break;
  }
  auto bytes = encode(superblock);
  for (auto& medium : world.bench.media) {
    medium->poke(8192 + superblock_slot(superblock.generation) * block_size, *bytes);
  }
  if (!world.bench.open()) return;
  static_cast<void>(world.bench.check());
  if (!world.bench.activate(Epoch(5))) return;
  static_cast<void>(world.bench.write(LunNumber(1), 0, 4096));
  world.bench.pool->start_consistency_point();
  world.bench.scheduler.run_for(seconds(2));
}
INSTANTIATE_TEST_SUITE_P(Seeds, ForeignBytesTest, testing::Range<std::uint64_t>(1, 201));

TEST_F(CheckerTest, NeedsAnOpenPool) {
  ASSERT_TRUE(world.bench.open());
  world.bench.pool->close();
  EXPECT_NE(world.bench.check().find("the pool is not open"), std::string::npos);
}

}  // namespace
}  // namespace duet::pool
