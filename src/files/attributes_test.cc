#include "files/attributes.h"

#include <gtest/gtest.h>

#include <map>

#include "files/look.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

class Attributes : public testing::Test {
 protected:
  Attributes() { file = view.commit(Create{test_root, "f", {}, CreateMode::guarded, 0, {}}).file; }
  Outcome set(const std::string& name, std::string_view value, SetMode how = SetMode::either) {
    return view.commit(SetAttribute{file, name, how, bytes_of(value)}, 9).outcome;
  }
  Outcome remove(const std::string& name) {
    return view.commit(RemoveAttribute{file, name}, 9).outcome;
  }
  std::optional<std::string> get(const std::string& name) {
    return view.run([&]() -> std::optional<std::string> {
      auto value = get_attribute(view, file, name);
      if (!value) return std::nullopt;
      return std::string(reinterpret_cast<const char*>(value->data()), value->size());
    });
  }

  MemoryView view;
  FileKey file;
};

TEST_F(Attributes, AreSetReplacedAndRemoved) {
  EXPECT_EQ(get("a"), std::nullopt);
  EXPECT_EQ(set("a", "1", SetMode::replace), Outcome::no_entry);
  EXPECT_TRUE(list_attributes(view, file)->empty());
  EXPECT_EQ(set("a", "1", SetMode::create), Outcome::ok);
  EXPECT_EQ(view.at(file).changed, 9);
  EXPECT_EQ(view.at(file).change_count, 2u);
  EXPECT_EQ(set("a", "2", SetMode::create), Outcome::exists);
  EXPECT_EQ(set("a", "22", SetMode::replace), Outcome::ok);
  EXPECT_EQ(set("b", "", SetMode::replace), Outcome::no_entry);
  EXPECT_EQ(set("b", ""), Outcome::ok);
  EXPECT_EQ(get("a"), "22");
  EXPECT_EQ(get("b"), "");
  EXPECT_EQ(list_attributes(view, file)->size(), 2u);
  EXPECT_EQ(remove("c"), Outcome::no_entry);
  EXPECT_EQ(remove("a"), Outcome::ok);
  EXPECT_EQ(get("a"), std::nullopt);
  EXPECT_EQ(remove("b"), Outcome::ok);
  EXPECT_EQ(view.at(file).attributes, filesystem::no_inode);
  EXPECT_EQ(view.files.size(), 2u);
  EXPECT_EQ(set(std::string(max_name + 1, 'x'), ""), Outcome::name_too_long);
  EXPECT_EQ(set("a/b", ""), Outcome::invalid);
}

TEST_F(Attributes, TheirInodeIsNoFileOfClients) {
  set("a", "1");
  FileKey beside{test_volume, view.at(file).attributes};
  EXPECT_EQ(view.at(beside).parent, file.inode);
  EXPECT_EQ(get_inode(view, beside).error().outcome, Outcome::stale);
  EXPECT_EQ(view.commit(Write{beside, 0, {bytes_of("x")}}).outcome, Outcome::stale);
  EXPECT_EQ(view.commit(Link{beside, test_root, "x"}).outcome, Outcome::stale);
}

TEST_F(Attributes, HaveBounds) {
  const std::string longest(max_value, 'v');
  EXPECT_EQ(set("big", longest), Outcome::ok);
  EXPECT_EQ(get("big"), longest);
  EXPECT_EQ(set("big", longest + "v"), Outcome::invalid);
  auto name = [](std::size_t i) {
    std::string s = std::to_string(i);
    return s + std::string(max_name - s.size(), 'n');
  };
  for (std::size_t i = 1; i < max_attributes; ++i) ASSERT_EQ(set(name(i), "v"), Outcome::ok);
  EXPECT_EQ(set("more", "v"), Outcome::no_space);
  EXPECT_EQ(set(name(5), longest), Outcome::ok);
  EXPECT_EQ(list_attributes(view, file)->size(), max_attributes);
  EXPECT_EQ(remove("big"), Outcome::ok);
  EXPECT_EQ(set("more", "v"), Outcome::ok);
  const FileKey beside{test_volume, view.at(file).attributes};
  EXPECT_LE(view.files[beside].blocks.size(), 16 + 127 + attribute_tree_blocks);
}

TEST_F(Attributes, AgainstAMap) {
  view.evict_every = 3;
  std::map<std::string, std::string> model;
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    std::string name = std::string(random() % 2 * 200 + 1, 'k') + std::to_string(random() % 70);
    if (random() % 3 == 0) {
      EXPECT_EQ(remove(name), model.erase(name) ? Outcome::ok : Outcome::no_entry);
    } else {
      std::string value(random() % 5 == 0 ? random() % (max_value + 1) : random() % 600, 'v');
      for (char& c : value) c = static_cast<char>(random());
      EXPECT_EQ(set(name, value), Outcome::ok);
      model[name] = value;
    }
    if (i % 50 != 0) continue;
    for (const auto& [k, v] : model) ASSERT_EQ(get(k), v);
    std::size_t blocks = 0;
    for (const auto& [k, v] : model) blocks += (v.size() + 4095) / 4096;
    if (model.empty()) continue;
    const FileKey beside{test_volume, view.at(file).attributes};
    ASSERT_LE(view.files[beside].blocks.size(), blocks + view.at(beside).device);
    ASSERT_EQ(view.at(beside).entries, model.size());
  }
}

TEST_F(Attributes, DamageIsAnAnswer) {
  set("a", "1");
  FileKey beside{test_volume, view.at(file).attributes};
  auto saved = view.remount();
  view.files[beside].inode.parent = InodeNumber(77);
  EXPECT_EQ(set("a", "2"), Outcome::io);
  EXPECT_EQ(view.commit(Remove{test_root, "f"}).outcome, Outcome::ok);  // leaves the other's alone
  EXPECT_TRUE(view.files.contains(beside));
  for (std::uint64_t value :
       {std::uint64_t{5}, (max_attributes + 1) << 32, std::uint64_t{1} << 32 | (max_value + 1)}) {
    EXPECT_FALSE(decode_value_place(value));
    auto& block = *saved->files[beside].blocks[0];
    store_le<std::uint64_t>(block.data() + directory_header_size + 8, value);
    EXPECT_EQ((saved->commit(SetAttribute{file, "a", SetMode::either, {}}).outcome), Outcome::io);
    EXPECT_EQ((saved->commit(SetAttribute{file, "b", SetMode::either, {}}).outcome), Outcome::io);
  }
}

}  // namespace
}  // namespace duet::files
