#include "files/check.h"

#include <gtest/gtest.h>

#include "files/directory_tree.h"
#include "files/name_hash.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

class Check : public testing::Test {
 protected:
  Check() {
    d = view.commit(MakeDirectory{test_root, "d", {}}).file;
    inner = view.commit(MakeDirectory{d, "inner", {}}).file;
    file = view.commit(Create{d, "file", {}, CreateMode::guarded, 0, {}}).file;
    view.commit(Link{file, test_root, "again"});
    view.commit(SetAttribute{file, "a", SetMode::either, bytes_of("1")});
    view.commit(SetAttribute{file, "b", SetMode::either, bytes_of("2")});
    lun = view.commit(CreateVdisk{test_volume, 4096, {}, {}, ""}).file;
    for (int i = 0; i < 400; ++i) {
      view.commit(Create{inner, "name" + std::to_string(i), {}, CreateMode::guarded, 0, {}});
    }
  }
  CheckReport check(std::uint64_t max_counted = VolumeCheck::default_counted) {
    VolumeCheck volume(test_volume, max_counted);
    CheckReport report;
    for (int i = 0; i < 1'000'000; ++i) {
      auto done = view.run([&] { return volume.step(view, report); });
      EXPECT_TRUE(done);
      if (!done || *done) return report;
    }
    ADD_FAILURE() << "runs for ever";
    return report;
  }
  // Exactly this one is found, in this file.
  void finds(FileKey where, const std::string& what, std::uint64_t times = 1) {
    CheckReport report = check();
    EXPECT_EQ(report.found, times);
    bool found = false;
    for (const Finding& finding : report.findings) {
      found = found || (finding.file == where && finding.what.find(what) != std::string::npos);
      if (report.found != times) ADD_FAILURE() << finding.file.inode.value() << finding.what;
    }
    EXPECT_TRUE(found) << what << (report.findings.empty() ? "" : report.findings[0].what);
  }
  // Changes the tree of a directory behind the back of the operations.
  void edit(FileKey directory, const std::function<Attempt<void>(DirectoryTree&)>& f) {
    Draft draft(view);
    DirectoryTree tree(draft, directory);
    EXPECT_TRUE(f(tree));
    draft.commit();
    view.run([] { return 0; });
  }
  Inode& inode(FileKey of) { return view.files.at(of).inode; }

  MemoryView view;
  FileKey d, inner, file, lun;
};

TEST_F(Check, NothingIsWrong) {
  CheckReport report = check();
  EXPECT_EQ(report.found, 0u) << report.findings[0].what;
  EXPECT_EQ(report.directories, 3u);
  EXPECT_EQ(report.names, 2u + 2u + 400u + 2u);
  EXPECT_EQ(report.inodes, view.files.size());
}

TEST_F(Check, InPartsOfMemoryItFindsTheSame) {
  view.evict_every = 20;
  inode(file).links = 7;
  CheckReport report = check(50);  // inodes at a time
  EXPECT_EQ(report.found, 1u);
  EXPECT_EQ(report.inodes, view.files.size());
}

TEST_F(Check, OneDirectoryAlone) {
  CheckReport report;
  EXPECT_TRUE(check_directory(view, inner, report));
  EXPECT_EQ(report.found, 0u);
  EXPECT_EQ(report.names, 400u);
  inode(inner).entries = 5;
  EXPECT_TRUE(check_directory(view, inner, report));
  EXPECT_EQ(report.found, 1u);
  view.evict_every = 1;
  view.run([] { return 0; });
  auto missing = check_directory(view, inner, report);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().outcome, Outcome::busy);
}

TEST_F(Check, Links) {
  inode(file).links = 3;
  finds(file, "links: says 3, has 2 names");
}
TEST_F(Check, LinksOfADirectory) {
  inode(d).links = 2;
  finds(d, "links of a directory: says 2, has 3");
}
TEST_F(Check, Entries) {
  inode(inner).entries = 401;
  finds(inner, "entries: says 401, has 400");
}
TEST_F(Check, AFileWithoutNames) {
  const FileKey lost{test_volume, InodeNumber(700)};
  view.files[lost].inode = inode(file);
  inode(lost).attributes = {};
  inode(lost).links = 0;
  view.give_next(InodeNumber(701));
  finds(lost, "no name leads to it");
}
TEST_F(Check, AVdiskThatIsNotHeld) {
  inode(lun).device = 0;
  finds(lun, "links: says 1, has 0 names");
}
TEST_F(Check, ANameThatLeadsNowhere) {
  view.files.erase(file);
  CheckReport report = check();
  EXPECT_EQ(report.found, 3u);  // two names, and its attributes
}
TEST_F(Check, TypeOfAName) {
  inode(file).type = FileType::special;
  CheckReport report = check();
  EXPECT_EQ(report.found, 2u);
}
TEST_F(Check, Parent) {
  inode(inner).parent = test_root.inode;
  finds(inner, "its directory is not the one that names it");
}
TEST_F(Check, ACircle) {
  // d goes from the root into inner, which lies in it.
  edit(test_root, [&](DirectoryTree& tree) -> Attempt<void> {
    auto slot = tree.find("d");
    return tree.remove(slot->key);
  });
  edit(inner, [&](DirectoryTree& tree) -> Attempt<void> {
    auto slot = tree.find("d");
    return tree.insert({slot->key, d.inode.value(), FileType::directory, "d"});
  });
  inode(d).parent = inner.inode;
  inode(test_root).links = 2;
  inode(inner).links = 3;
  finds(d, "no way from it to the root", 2);
}
TEST_F(Check, ANameTwiceAndOneInTheWrongPlace) {
  edit(test_root, [&](DirectoryTree& tree) -> Attempt<void> {
    auto slot = tree.find("again");
    return tree.insert({slot->key + 1, file.inode.value(), FileType::regular, "again"});
  });
  inode(file).links = 3;
  finds(test_root, "twice");
  edit(test_root, [&](DirectoryTree& tree) -> Attempt<void> {
    auto slot = tree.find("again");
    auto gone = tree.remove(slot->key + 1);
    if (!gone) return gone;
    return tree.insert(
        {std::uint64_t{77} << ordinal_bits, file.inode.value(), FileType::regular, "elsewhere"});
  });
  finds(test_root, "not where its hash says");
}
TEST_F(Check, ExtendedAttributes) {
  const FileKey beside{test_volume, inode(file).attributes};
  edit(beside, [&](DirectoryTree& tree) -> Attempt<void> {
    auto slot = tree.find("b");
    return tree.replace(slot->key, encode(ValuePlace{0, 1}), FileType::attributes);
  });
  finds(beside, "place of the value of");
  inode(file).attributes = {};
  CheckReport report = check();
  EXPECT_EQ(report.found, 2u);
}
TEST_F(Check, ADirectoryTwice) {
  edit(d, [&](DirectoryTree& tree) -> Attempt<void> {
    auto slot = tree.find("x");
    return tree.insert({slot->key, inner.inode.value(), FileType::directory, "x"});
  });
  inode(d).links = 4;
  finds(inner, "a directory with 2 names");
}
TEST_F(Check, BlocksOfADirectory) {
  auto& blocks = view.files.at(inner).blocks;
  ASSERT_GT(blocks.size(), 2u);
  inode(inner).size += block_size;  // a block that nobody leads to
  blocks[blocks.size()] = std::make_unique<MemoryView::Block>(*blocks[1]);
  finds(inner, "no parent");
  inode(inner).size -= block_size;
  blocks[1]->at(0) = std::byte{0};
  CheckReport report = check();
  EXPECT_GE(report.found, 2u);  // the block, and the names that are lost with it
  inode(inner).size += 1;
  report = check();
  EXPECT_GE(report.found, 1u);
}
TEST_F(Check, FindingsHaveABound) {
  CheckReport report;
  for (std::size_t i = 0; i < max_findings + 5; ++i) report.add(file, "x");
  EXPECT_EQ(report.findings.size(), max_findings);
  EXPECT_EQ(report.found, max_findings + 5);
}

}  // namespace
}  // namespace duet::files
