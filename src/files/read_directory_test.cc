#include "files/read_directory.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <set>

#include "files/look.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

class ReadDirectory : public testing::Test {
 protected:
  void create(const std::string& name) {
    Reply reply = view.commit(Create{test_root, name, {}, CreateMode::guarded, 0, {}});
    ASSERT_EQ(reply.outcome, Outcome::ok) << name;
  }
  void remove(const std::string& name) {
    ASSERT_EQ(view.commit(Remove{test_root, name}).outcome, Outcome::ok) << name;
  }
  Listing read(ListRequest request) {
    request.directory = test_root;
    auto listing = view.run([&] { return list(view, request); });
    EXPECT_TRUE(listing);
    return listing ? *listing : Listing{{}, true};
  }

  MemoryView view;
};

TEST_F(ReadDirectory, AnEmptyOneHasDots) {
  Listing all = read({});
  ASSERT_EQ(all.names.size(), 2u);
  EXPECT_TRUE(all.end);
  EXPECT_EQ(all.names[0].name, ".");
  EXPECT_EQ(all.names[1].name, "..");
  EXPECT_EQ(all.names[1].inode, filesystem::root_directory);
  EXPECT_TRUE(read({.dots = false}).names.empty());
  Listing one = read({.limit = 1});
  EXPECT_FALSE(one.end);
  one = read({.cookie = cookie_dot, .limit = 1});
  EXPECT_EQ(one.names[0].name, "..");
  EXPECT_TRUE(read({.cookie = cookie_dot_dot}).end);
}

TEST_F(ReadDirectory, CookiesThatWereNeverGiven) {
  for (std::uint64_t cookie : {std::uint64_t{3}, std::uint64_t{65535}, std::uint64_t{1} << 63}) {
    auto listing = list(view, {.directory = test_root, .cookie = cookie});
    ASSERT_FALSE(listing);
    EXPECT_EQ(listing.error().outcome, Outcome::invalid);
  }
}

TEST_F(ReadDirectory, BoundsHold) {
  for (std::size_t i = 0; i < max_listed + 10; ++i) create(std::to_string(i));
  EXPECT_EQ(read({.limit = ~std::size_t{0}}).names.size(), max_listed);
  EXPECT_EQ(read({.limit = ~std::size_t{0}, .inodes = true}).names.size(), max_listed_with_inodes);
}

TEST_F(ReadDirectory, WithInodesAllAtOnceAndDamageIsLeftOut) {
  for (int i = 0; i < 50; ++i) create(std::to_string(i));
  view.evict_every = 1;
  view.reruns = 0;
  Listing all = read({.inodes = true});
  EXPECT_LE(view.reruns, 4u);  // what is missing is noted together
  ASSERT_EQ(all.names.size(), 52u);
  for (const ListedName& name : all.names) {
    ASSERT_TRUE(name.attributes);
    EXPECT_EQ(*name.attributes, view.at({test_volume, name.inode}));
  }
  view.files.erase({test_volume, all.names[10].inode});
  all = read({.inodes = true});
  EXPECT_FALSE(all.names[10].attributes);
  EXPECT_TRUE(all.names[11].attributes);
}

// Names that are there all the time are returned once, whatever happens around them, over remounts.
TEST_F(ReadDirectory, StableUnderChanges) {
  std::mt19937 random(4);
  for (int round = 0; round < (sanitized ? 4 : 20); ++round) {
    std::set<std::string> there;   // from the beginning of this walk to its end
    std::set<std::string> others;  // come and go
    for (const ListedName& name : read({.dots = false}).names) remove(name.name);
    while (view.at(test_root).entries > 0) remove(read({.dots = false}).names[0].name);
    for (int i = 0; i < 1500; ++i) {
      const std::string name = std::to_string(random());
      if (there.contains(name) || others.contains(name)) continue;
      create(name);
      (random() % 2 == 0 ? there : others).insert(name);
    }
    std::map<std::string, int> seen;
    ListRequest request{.limit = 1 + random() % 60, .dots = false};
    for (bool end = false; !end;) {
      Listing part = read(request);
      end = part.end;
      for (const ListedName& name : part.names) {
        ++seen[name.name];
        EXPECT_GT(name.cookie, request.cookie);
        request.cookie = name.cookie;
      }
      for (unsigned n = random() % 120; n > 0; --n) {
        if (random() % (round % 2 ? 4 : 2) == 0) {
          const std::string name = "new" + std::to_string(random());
          if (others.insert(name).second) create(name);
        } else if (!others.empty()) {
          auto victim = others.lower_bound(std::to_string(random()));
          if (victim == others.end()) victim = others.begin();
          remove(*victim);
          others.erase(victim);
        }
      }
      if (random() % 10 == 0) view.files = std::move(view.remount()->files);
    }
    for (const std::string& name : there) ASSERT_EQ(seen[name], 1) << name;
    for (const auto& [name, times] : seen) ASSERT_EQ(times, 1) << name;
  }
}

TEST_F(ReadDirectory, AMillionNames) {
  constexpr int names = sanitized ? 20'000 : 1'000'000;
  using Clock = std::chrono::steady_clock;
  auto start = Clock::now();
  auto elapsed = [&] {
    auto now = Clock::now();
    auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - start).count();
    start = now;
    return static_cast<int>(ms);
  };
  auto name = [](int i) { return "file-" + std::to_string(i); };
  FileKey file = view.commit(Create{test_root, "file", {}, CreateMode::guarded, 0, {}}).file;
  for (int i = 0; i < names; ++i) {
    ASSERT_EQ(view.commit(Link{file, test_root, name(i)}).outcome, Outcome::ok);
  }
  RecordProperty("insert_ms", elapsed());
  EXPECT_LE(view.looked_at, 16u);  // blocks
  EXPECT_EQ(view.at(test_root).entries, names + 1u);
  const std::uint64_t blocks = view.at(test_root).size / filesystem::block_size;
  RecordProperty("blocks", static_cast<int>(blocks));
  EXPECT_LT(blocks, 1.6 * names * (18 + 11.0) / filesystem::block_size);
  std::mt19937 random(1);
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_TRUE(lookup(view, test_root, name(static_cast<int>(random() % names))));
  }
  RecordProperty("lookup_100000_ms", elapsed());
  // Half of them go while the directory is read.
  std::uint64_t count = 0;
  int removed = 0;
  ListRequest request{.dots = false};
  for (bool end = false; !end;) {
    Listing part = read(request);
    end = part.end;
    for (const ListedName& listed : part.names) {
      if (listed.name.size() == 4 || std::stoi(listed.name.substr(5)) % 2 == 1) ++count;
      request.cookie = listed.cookie;
    }
    for (int n = 0; n < 512 && removed < names; ++n, removed += 2) remove(name(removed));
  }
  EXPECT_EQ(count, names / 2 + 1u);
  for (; removed < names; removed += 2) remove(name(removed));
  RecordProperty("remove_half_ms", elapsed());
  for (int i = 1; i < names; i += 2) remove(name(i));
  RecordProperty("remove_ms", elapsed());
  EXPECT_EQ(view.at(test_root).size, filesystem::block_size);
  EXPECT_EQ(view.blocks_in_use(), 1u);
}

}  // namespace
}  // namespace duet::files
