#include "platform/undumped_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <new>
#include <optional>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "coredump/core_layout.h"

namespace duet::platform {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

std::vector<coredump::Mapping> own_mappings() {
  std::stringstream text;
  text << std::ifstream("/proc/self/smaps").rdbuf();
  return coredump::parse_smaps(text.str());
}

std::optional<coredump::Mapping> mapping_of(const void* p) {
  auto address = reinterpret_cast<std::uint64_t>(p);
  for (auto& m : own_mappings()) {
    if (m.start <= address && address < m.end) return m;
  }
  return std::nullopt;
}

struct Block {
  void* p = nullptr;
  std::size_t size = 0;
};

// Blocks of a pattern that shows who wrote over whom.
class Blocks {
 public:
  explicit Blocks(UndumpedMemory& memory) : memory_(memory) {}
  ~Blocks() { clear(); }
  void add(std::size_t size) {
    blocks_.push_back({memory_.allocate(size), size});
    std::memset(blocks_.back().p, pattern(blocks_.back()), size);
  }
  void remove(std::size_t i) {
    const Block block = blocks_[i];
    const auto* bytes = static_cast<const unsigned char*>(block.p);
    ASSERT_TRUE(std::all_of(bytes, bytes + block.size,
                            [&](unsigned char b) { return b == pattern(block); }));
    memory_.deallocate(block.p, block.size);
    blocks_[i] = blocks_.back();
    blocks_.pop_back();
  }
  void clear() {
    while (!blocks_.empty()) remove(blocks_.size() - 1);
  }
  std::size_t count() const { return blocks_.size(); }

 private:
  static unsigned char pattern(const Block& b) {
    return static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(b.p) / 16 + b.size);
  }
  UndumpedMemory& memory_;
  std::vector<Block> blocks_;
};

TEST(UndumpedMemory, IsInACoreOnlyIfAskedFor) {
  UndumpedMemory memory;
  void* p = memory.allocate(1000);
  std::memset(p, 7, 1000);
  auto mapping = mapping_of(p);
  ASSERT_TRUE(mapping);
  EXPECT_TRUE(mapping->excluded) << "no flag dd in /proc/self/smaps";
  EXPECT_EQ(coredump::dumped_size(*mapping, false), 0U);
  EXPECT_EQ(coredump::dumped_size(*mapping, true), mapping->size());
  EXPECT_LE(mapping->size(), UndumpedMemory::growth) << "addresses without memory are in no core";
  memory.deallocate(p, 1000);
}

TEST(UndumpedMemory, GrowsAndStaysMarked) {
  UndumpedMemory memory;
  Blocks blocks(memory);
  for (int i = 0; i < 3; ++i) blocks.add(UndumpedMemory::growth - MiB);
  EXPECT_GE(memory.mapped(), 3 * UndumpedMemory::growth - 3 * MiB);
  std::uint64_t excluded = 0;
  for (const auto& m : own_mappings()) {
    if (m.excluded && m.read) excluded += m.size();
  }
  EXPECT_GE(excluded, memory.mapped());
  EXPECT_TRUE(memory.check());
}

TEST(UndumpedMemory, AlignsAsAsked) {
  UndumpedMemory memory;
  for (std::size_t alignment : {1, 8, 16, 64, 4096}) {
    void* p = memory.allocate(100, alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % alignment, 0U);
    std::memset(p, 1, 100);
    memory.deallocate(p, 100, alignment);
  }
  EXPECT_TRUE(memory.check());
}

TEST(UndumpedMemory, RefusesWhatDoesNotFit) {
  UndumpedMemory memory(2 * UndumpedMemory::growth);
  EXPECT_THROW((void)memory.allocate(3 * UndumpedMemory::growth), std::bad_alloc);
  EXPECT_THROW((void)memory.allocate(~std::size_t{0} - 100), std::bad_alloc);
  void* p = memory.allocate(UndumpedMemory::growth);
  EXPECT_THROW((void)memory.allocate(UndumpedMemory::growth), std::bad_alloc);
  memory.deallocate(p, UndumpedMemory::growth);
  p = memory.allocate(UndumpedMemory::growth);
  memory.deallocate(p, UndumpedMemory::growth);
}

TEST(UndumpedMemory, TakesWhatAddressesThereAre) {
  UndumpedMemory memory(~std::size_t{0} / 4);  // more than a process can have
  memory.deallocate(memory.allocate(100), 100);
}

TEST(UndumpedMemory, WhatOthersWroteStays) {
  UndumpedMemory memory;
  Blocks blocks(memory);
  std::mt19937 random(1);
  const auto before = memory.used();
  for (int i = 0; i < 20'000; ++i) {
    if (blocks.count() < 500 || random() % 2 == 0) {
      blocks.add(std::size_t{1} << random() % 15 | random() % 100);
    } else {
      blocks.remove(random() % blocks.count());
    }
  }
  EXPECT_TRUE(memory.check());
  blocks.clear();
  EXPECT_EQ(memory.used(), before);
  EXPECT_TRUE(memory.check());
}

// A cache of blocks, beside buffers that come and go, becomes a cache of other sizes, and again.
TEST(UndumpedMemory, AnotherSizeIsNotOtherMemory) {
  constexpr std::size_t limit = 96 * MiB;
  UndumpedMemory memory;
  std::mt19937 random(2);
  Blocks cache(memory);
  Blocks buffers(memory);
  std::size_t most = 0;
  for (std::size_t block : {4096UL, 262'144UL, 2048UL, 65'536UL, 4096UL, 12'288UL}) {
    const std::size_t count = limit / (block + 32);
    while (cache.count() > count) cache.remove(random() % cache.count());
    for (std::size_t i = 0; i < limit / block; ++i) {
      if (cache.count() >= count) cache.remove(random() % cache.count());
      // What is left of the last size makes room as this one comes.
      if (cache.count() > 0 && i % 2 == 0) cache.remove(random() % cache.count());
      cache.add(block);
      buffers.add(std::size_t{64} << random() % 11);
      if (buffers.count() > 200) buffers.remove(random() % 200);
    }
    cache.clear();
    most = std::max(most, memory.mapped());
  }
  EXPECT_LE(most, limit * 3 / 2);
  EXPECT_TRUE(memory.check());
}

TEST(UndumpedMemory, WhatIsFreeAtTheEndGoesBack) {
  UndumpedMemory memory;
  constexpr std::size_t size = 32 * MiB;
  constexpr std::size_t count = (UndumpedMemory::kept + 1024 * MiB) / size;
  std::vector<void*> blocks;
  for (std::size_t i = 0; i < count; ++i) blocks.push_back(memory.allocate(size));
  std::memset(blocks.back(), 1, size);
  const auto most = memory.mapped();
  void* last = blocks.back();
  while (!blocks.empty()) {
    memory.deallocate(blocks.back(), size);
    blocks.pop_back();
  }
  // No more than a step at a time, and so much is kept.
  EXPECT_LT(memory.mapped(), most);
  EXPECT_GE(memory.mapped(), UndumpedMemory::kept);
  EXPECT_LE(memory.mapped(), UndumpedMemory::kept + 2 * UndumpedMemory::growth);
  EXPECT_FALSE(mapping_of(last)->read);
  EXPECT_TRUE(memory.check());
  for (std::size_t i = 0; i < count; ++i) blocks.push_back(memory.allocate(size));
  EXPECT_TRUE(mapping_of(blocks.back())->excluded);
  EXPECT_EQ(memory.mapped(), most);
  for (void* p : blocks) memory.deallocate(p, size);
}

TEST(UndumpedMemory, ServesThreads) {
  UndumpedMemory memory;
  const auto before = memory.used();
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&memory, t] {
      Blocks blocks(memory);
      std::mt19937 random(t);
      for (int i = 0; i < 3000; ++i) {
        blocks.add(random() % 5000 + 1);
        if (blocks.count() > 100) blocks.remove(random() % 100);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(memory.used(), before);
  EXPECT_TRUE(memory.check());
}

}  // namespace
}  // namespace duet::platform
