#include "files/directory_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "files/name_hash.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

// A tree changed by hashes that the test chooses.
class Trees : public testing::Test {
 protected:
  template <class F>
  void change(F&& f) {
    view.run([&] {
      Draft draft(view);
      DirectoryTree tree(draft, test_root);
      Attempt<void> done = f(tree);
      if (done) draft.commit();
      last = done ? Outcome::ok : done.error().outcome;
      message = done ? "" : done.error().message;
      return 0;
    });
  }
  void insert(std::uint64_t hash, const std::string& name, std::uint64_t value = 7) {
    change([&](DirectoryTree& tree) -> Attempt<void> {
      auto slot = tree.find(hash, name);
      if (!slot) return std::unexpected(slot.error());
      EXPECT_FALSE(slot->entry);
      key = slot->key;
      return tree.insert({slot->key, value, FileType::regular, name});
    });
  }
  void remove(std::uint64_t hash, const std::string& name) {
    change([&](DirectoryTree& tree) -> Attempt<void> {
      auto slot = tree.find(hash, name);
      if (!slot) return std::unexpected(slot.error());
      EXPECT_TRUE(slot->entry) << name;
      return tree.remove(slot->key);
    });
  }
  std::optional<std::uint64_t> find(std::uint64_t hash, const std::string& name) {
    return view.run([&]() -> std::optional<std::uint64_t> {
      Draft draft(view);
      auto slot = DirectoryTree(draft, test_root).find(hash, name);
      last = slot ? Outcome::ok : slot.error().outcome;
      if (!slot || !slot->entry) return std::nullopt;
      return slot->entry->value;
    });
  }
  std::map<std::uint64_t, std::string> all() {
    std::map<std::uint64_t, std::string> names;
    view.run([&] {
      names.clear();
      Draft draft(view);
      DirectoryTree tree(draft, test_root);
      for (std::uint64_t from = 0;;) {
        auto entry = tree.next(from);
        if (!entry || !*entry) break;
        names[(*entry)->key] = (*entry)->name;
        from = (*entry)->key + 1;
      }
      return 0;
    });
    return names;
  }
  std::uint64_t blocks() { return view.at(test_root).size / block_size; }

  MemoryView view;
  Outcome last = Outcome::ok;
  std::string message;
  std::uint64_t key = 0;
};

TEST(NameHash, IsSipHash) {
  std::array<std::byte, 15> in;
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::byte>(i);
  // The example of the paper, appendix A.
  EXPECT_EQ(siphash(0x0706050403020100, 0x0f0e0d0c0b0a0908, in), 0xa129ca6149be45e5u);
}

TEST(NameHash, KeysAreAboveTheCookiesOfDotsAndFitASignedNumber) {
  EXPECT_GT(std::uint64_t{1} << ordinal_bits, 2u);
  EXPECT_LT((max_name_hash << ordinal_bits) + 0xffff, std::uint64_t{1} << 63);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t hash = name_hash(InodeNumber(2), std::to_string(i));
    EXPECT_GE(hash, 1u);
    EXPECT_LE(hash, max_name_hash);
  }
}

TEST_F(Trees, NamesOfOneHashKeepTheirKeys) {
  for (int i = 0; i < 600; ++i) insert(5, "name" + std::to_string(i), 100 + i);
  EXPECT_GT(blocks(), 3u);  // the names of one hash lie in several leaves
  EXPECT_EQ(key, (5u << ordinal_bits) + 599);
  EXPECT_EQ(find(5, "name333"), 433u);
  EXPECT_EQ(find(5, "name600"), std::nullopt);
  EXPECT_EQ(find(6, "name333"), std::nullopt);
  remove(5, "name17");
  remove(5, "name3");
  EXPECT_EQ(find(5, "name599"), 699u);
  insert(5, "again");
  EXPECT_EQ(key, (5u << ordinal_bits) + 3);  // the lowest that is free
  EXPECT_EQ(all().size(), 599u);
}

TEST_F(Trees, ThereAreEnoughKeysForOneHashOrItIsFull) {
  for (unsigned i = 0; i < 1u << ordinal_bits; ++i) {
    const std::uint64_t k = (std::uint64_t{9} << ordinal_bits) + i;
    change([&](DirectoryTree& tree) {
      return tree.insert({k, 1, FileType::regular, std::to_string(i)});
    });
  }
  EXPECT_EQ(find(9, "65535"), 1u);
  EXPECT_EQ(last, Outcome::ok);
  EXPECT_EQ(find(9, "65536"), std::nullopt);
  EXPECT_EQ(last, Outcome::no_space);
}

TEST_F(Trees, ADirectoryHasABound) {
  insert(5, "first");
  view.files[test_root].inode.size = max_directory_blocks * block_size;
  for (int i = 0; last == Outcome::ok; ++i) {
    ASSERT_LT(i, 100);
    insert(5, std::string(200, 'x') + std::to_string(i));
  }
  EXPECT_EQ(last, Outcome::no_space);
  EXPECT_EQ(blocks(), max_directory_blocks);
}

TEST_F(Trees, ALargeTreeGrowsAndShrinksToNothing) {
  // Ascending keys leave every leaf half full: with the longest names the tree is deep soon.
  auto name = [](int i) {
    std::string s = std::to_string(i);
    return s + std::string(max_name - s.size(), 'n');
  };
  constexpr int n = sanitized ? 6000 : 20'000;
  for (int i = 0; i < n; ++i) insert(100 + i, name(i));
  EXPECT_GT(blocks(), n / 14u);
  auto names = all();
  ASSERT_EQ(names.size(), std::size_t{n});
  std::mt19937 random(3);
  std::vector<int> order(n);
  for (int i = 0; i < n; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  for (int i : order) {
    remove(100 + i, name(i));
    ASSERT_EQ(view.files.at(test_root).blocks.size(), blocks());
  }
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(view.at(test_root).entries, 0u);
  EXPECT_EQ(view.blocks_in_use(), 0u);
}

TEST_F(Trees, RandomChangesAgainstAMapWithMisses) {
  view.evict_every = 5;
  std::mt19937_64 random(11);
  std::map<std::pair<std::uint64_t, std::string>, std::uint64_t> model;
  constexpr int changes = sanitized ? 3000 : 30'000;
  for (int i = 0; i < changes; ++i) {
    const bool grow = (i / (changes / 6)) % 2 == 0;
    const std::uint64_t hash = 1 + random() % 300;  // collisions all the time
    const std::string name =
        std::string(1 + random() % 3 * 80, 'a') + std::to_string(random() % 40);
    const bool there = model.contains({hash, name});
    EXPECT_EQ(find(hash, name).has_value(), there);
    if (there && (!grow || random() % 4 == 0)) {
      remove(hash, name);
      model.erase({hash, name});
    } else if (!there && (grow || random() % 4 == 0)) {
      insert(hash, name, i + 1);
      model[{hash, name}] = i + 1;
    }
    ASSERT_EQ(last, Outcome::ok);
    ASSERT_EQ(view.at(test_root).entries, model.size());
    ASSERT_EQ(view.files.at(test_root).blocks.size(), blocks());
  }
  EXPECT_GT(view.reruns, changes / 3u);
  EXPECT_EQ(all().size(), model.size());
  std::uint64_t bytes = 0;
  for (const auto& [at, value] : model) {
    EXPECT_EQ(find(at.first, at.second), value);
    bytes += entry_size(at.second);
  }
  EXPECT_LE(blocks(), 2 + 4 * bytes / directory_room);  // blocks are not left behind empty
}

// A path of blocks that are full, down from a root at the highest level: the next name would need
// one level more.
TEST_F(Trees, ATreeHasABoundOfLevels) {
  auto& stored = view.files.at(test_root).blocks;
  for (std::uint32_t number = 0; number <= max_directory_level; ++number) {
    auto& block = stored[number] = std::make_unique<MemoryView::Block>();
    const auto level = static_cast<std::uint8_t>(max_directory_level - number);
    format_block(*block, test_root.inode, number, level, 0);
    for (std::uint64_t i = 0; level > 0 && i < directory_room / child_size; ++i) {
      const std::uint64_t top =
          (std::uint64_t{1} << 62) - 1000 * number;  // the first child has nearly all
      insert_child(*block, i, {i == 0 ? 0 : top + i, number + 1});
    }
    while (level == 0 && used(*block) + 300 < directory_room) {
      insert_entry(*block, end_of_entries(*block),
                   {1u + count(*block), 1, FileType::regular, std::string(200, 'x')});
    }
  }
  view.files[test_root].inode.size = (max_directory_level + 1) * block_size;
  insert(1, std::string(max_name, 'a'));
  insert(1, std::string(max_name, 'b'));
  EXPECT_EQ(last, Outcome::no_space) << message;
}

TEST_F(Trees, DamageIsAnErrorWhereItIsMet) {
  for (int i = 0; i < 2000; ++i) insert(1000 + i, "name" + std::to_string(i));
  std::mt19937 random(5);
  auto& stored = view.files.at(test_root).blocks;
  for (int i = 0; i < 3000; ++i) {
    auto& block = *stored.at(random() % stored.size());
    const auto saved = block;
    for (int n = random() % 3; n >= 0; --n) {
      block[random() % (random() % 2 ? 64 : block_size)] ^= static_cast<std::byte>(random());
    }
    // Whatever is done to it: no crash, and what is refused has changed nothing.
    const auto before = view.at(test_root);
    const int j = random() % 2000;
    change([&](DirectoryTree& tree) -> Attempt<void> {
      auto slot = tree.find(1000 + j, "name" + std::to_string(j));
      if (!slot) return std::unexpected(slot.error());
      if (slot->entry) {
        if (auto gone = tree.remove(slot->key); !gone) return gone;
      }
      return refuse(Outcome::invalid);  // keep it as it is
    });
    EXPECT_EQ(view.at(test_root), before);
    block = saved;
  }
  EXPECT_EQ(all().size(), 2000u);
}

TEST_F(Trees, EachNameCostsAFewBlocksOnly) {
  for (int i = 0; i < (sanitized ? 10'000 : 50'000); ++i)
    insert(name_hash(InodeNumber(2), std::to_string(i)), "n");
  insert(name_hash(InodeNumber(2), "x"), "n");
  EXPECT_LE(view.looked_at, 12u);
  remove(name_hash(InodeNumber(2), "x"), "n");
  EXPECT_LE(view.looked_at, 16u);
}

}  // namespace
}  // namespace duet::files
