#include "files/operations.h"

#include <gtest/gtest.h>

#include "files/directory_block.h"
#include "files/look.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

class Operations : public testing::Test {
 protected:
  FileKey made(const Reply& reply) {
    EXPECT_EQ(name(reply.outcome), name(Outcome::ok)) << reply.message;
    EXPECT_TRUE(reply.created);
    return reply.file;
  }
  FileKey create(FileKey directory, const std::string& file) {
    return made(view.commit(Create{directory, file, {0644, 1, 2}, CreateMode::guarded, 0, {}}));
  }
  FileKey make_directory(FileKey directory, const std::string& file) {
    return made(view.commit(MakeDirectory{directory, file, {0755, 1, 2}}));
  }
  Outcome write(FileKey file, std::uint64_t offset, std::string_view text, std::int64_t time = 1) {
    return view.commit(Write{file, offset, {bytes_of(text)}}, time).outcome;
  }
  Outcome resize(FileKey file, std::uint64_t size) {
    SetInode request;
    request.file = file;
    request.size = size;
    return view.commit(request).outcome;
  }
  Outcome rename(FileKey from, const std::string& name, FileKey to, const std::string& to_name,
                 std::int64_t time = 1) {
    return view.commit(Rename{from, name, to, to_name}, time).outcome;
  }
  Outcome remove(FileKey directory, const std::string& name, RemoveWhat what = RemoveWhat::any) {
    return view.commit(Remove{directory, name, what}).outcome;
  }
  Outcome link(FileKey file, FileKey directory, const std::string& name) {
    return view.commit(Link{file, directory, name}).outcome;
  }
  InodeNumber find(FileKey directory, std::string_view name) {
    auto found = lookup(view, directory, name);
    return found ? found->file.inode : filesystem::no_inode;
  }
  bool gone(FileKey file) {
    auto inode = get_inode(view, file);
    return !inode && inode.error().outcome == Outcome::stale;
  }

  MemoryView view;
};

TEST_F(Operations, WhatIsCreatedSaysWhatWasAsked) {
  Reply reply = view.commit(Create{test_root, "f", {04755, 10, 20}, CreateMode::guarded, 0, 5}, 77);
  FileKey file = made(reply);
  const Inode& inode = view.at(file);
  EXPECT_EQ(inode.type, FileType::regular);
  EXPECT_EQ(inode.mode, 0104755);
  EXPECT_EQ(inode.owner, 10u);
  EXPECT_EQ(inode.group, 20u);
  EXPECT_EQ(inode.links, 1u);
  EXPECT_EQ(inode.size, 5u);
  for (auto time : {inode.accessed, inode.modified, inode.changed, inode.created}) {
    EXPECT_EQ(time, 77);
  }
  const InodeChange* directory = reply.change_of(test_root);
  ASSERT_TRUE(directory);
  EXPECT_EQ(directory->before.entries, 0u);
  EXPECT_EQ(directory->after, view.at(test_root));
  EXPECT_EQ(directory->after.modified, 77);
  EXPECT_EQ(directory->after.change_count, directory->before.change_count + 1);
  ASSERT_TRUE(reply.change_of(file));
  EXPECT_EQ(reply.change_of(file)->before.type, FileType::none);
  EXPECT_EQ(reply.change_of({test_volume, InodeNumber(99)}), nullptr);
}

TEST_F(Operations, CreateModes) {
  Create request{test_root, "f", {0644, 0, 0}, CreateMode::unchecked, 0, {}};
  FileKey file = made(view.commit(request));
  write(file, 0, "hello");
  Reply again = view.commit(request);
  EXPECT_EQ(again.outcome, Outcome::ok);
  EXPECT_FALSE(again.created);
  EXPECT_TRUE(again.changes.empty());
  EXPECT_EQ(again.file, file);
  request.size = 2;
  EXPECT_EQ(view.commit(request).outcome, Outcome::ok);
  EXPECT_EQ(view.at(file).size, 2u);
  request.how = CreateMode::guarded;
  EXPECT_EQ(view.commit(request).outcome, Outcome::exists);
  request.how = CreateMode::exclusive;
  request.verifier = 42;
  EXPECT_EQ(view.commit(request).outcome, Outcome::exists);
  request.name = "g";
  FileKey exclusive = made(view.commit(request));
  Reply repeated = view.commit(request);
  EXPECT_EQ(repeated.outcome, Outcome::ok);
  EXPECT_EQ(repeated.file, exclusive);
  EXPECT_TRUE(repeated.changes.empty());
  request.verifier = 43;
  EXPECT_EQ(view.commit(request).outcome, Outcome::exists);
  make_directory(test_root, "d");
  EXPECT_EQ(view.commit(Create{test_root, "d", {}, CreateMode::unchecked, 0, {}}).outcome,
            Outcome::is_directory);
  made(view.commit(MakeSymlink{test_root, "l", {0777, 0, 0}, "f"}));
  EXPECT_EQ(view.commit(Create{test_root, "l", {}, CreateMode::unchecked, 0, {}}).outcome,
            Outcome::exists);
}

TEST_F(Operations, NamesThatMayNotBe) {
  FileKey file = create(test_root, "f");
  for (const char* dots : {".", ".."}) {
    EXPECT_EQ(view.commit(MakeDirectory{test_root, dots, {}}).outcome, Outcome::exists);
    EXPECT_EQ(link(file, test_root, dots), Outcome::exists);
    EXPECT_EQ(remove(test_root, dots), Outcome::invalid);
    EXPECT_EQ(rename(test_root, dots, test_root, "x"), Outcome::invalid);
    EXPECT_EQ(rename(test_root, "f", test_root, dots), Outcome::invalid);
  }
  const std::string with_zero("a\0b", 3);
  for (const std::string& bad : {std::string(), std::string("a/b"), with_zero}) {
    EXPECT_EQ(view.commit(MakeDirectory{test_root, bad, {}}).outcome, Outcome::invalid);
    EXPECT_EQ(link(file, test_root, bad), Outcome::invalid);
    EXPECT_EQ(rename(test_root, "f", test_root, bad), Outcome::invalid);
  }
  const std::string longest(max_name, 'x');
  create(test_root, longest);
  EXPECT_NE(find(test_root, longest), filesystem::no_inode);
  EXPECT_EQ(view.commit(MakeDirectory{test_root, longest + "x", {}}).outcome,
            Outcome::name_too_long);
  EXPECT_EQ(remove(test_root, longest + "x"), Outcome::name_too_long);
  EXPECT_EQ(rename(test_root, "f", test_root, longest + "x"), Outcome::name_too_long);
  EXPECT_EQ(lookup(view, test_root, longest + "x").error().outcome, Outcome::name_too_long);
  create(test_root, "\xff\xfe any byte \n");
  EXPECT_NE(find(test_root, "\xff\xfe any byte \n"), filesystem::no_inode);
}

TEST_F(Operations, HandlesOfOtherThings) {
  FileKey file = create(test_root, "f");
  EXPECT_EQ(view.commit(MakeDirectory{file, "x", {}}).outcome, Outcome::not_directory);
  EXPECT_EQ(lookup(view, file, "x").error().outcome, Outcome::not_directory);
  EXPECT_EQ(remove(file, "x"), Outcome::not_directory);
  EXPECT_EQ(rename(test_root, "f", file, "x"), Outcome::not_directory);
  EXPECT_EQ(rename(file, "x", test_root, "x"), Outcome::not_directory);
  EXPECT_EQ(write(test_root, 0, "x"), Outcome::is_directory);
  EXPECT_EQ(resize(test_root, 0), Outcome::is_directory);
  EXPECT_EQ(remove(test_root, "f", RemoveWhat::directory), Outcome::not_directory);
  EXPECT_EQ(remove(test_root, "no"), Outcome::no_entry);
  EXPECT_EQ(rename(test_root, "no", test_root, "f"), Outcome::no_entry);
  EXPECT_EQ(lookup(view, test_root, "no").error().outcome, Outcome::no_entry);
  const FileKey never{test_volume, InodeNumber(1000)};
  EXPECT_EQ(write(never, 0, "x"), Outcome::stale);
  EXPECT_EQ(view.commit(MakeDirectory{never, "x", {}}).outcome, Outcome::stale);
  const FileKey elsewhere{VolumeId(9), filesystem::root_directory};
  EXPECT_EQ(rename(test_root, "f", elsewhere, "f"), Outcome::cross_volume);
  EXPECT_EQ(link(file, elsewhere, "f"), Outcome::cross_volume);
  EXPECT_EQ(view.commit(CreateVdisk{VolumeId(9), 4096, {}, {}, ""}).outcome, Outcome::stale);
}

TEST_F(Operations, LinksAreCountedAndTheLastOneFrees) {
  FileKey file = create(test_root, "a");
  write(file, 0, "data");
  view.commit(SetAttribute{file, "user.x", SetMode::either, bytes_of("value")});
  EXPECT_EQ(link(file, test_root, "b"), Outcome::ok);
  EXPECT_EQ(link(file, test_root, "b"), Outcome::exists);
  EXPECT_EQ(view.at(file).links, 2u);
  EXPECT_EQ(link(make_directory(test_root, "d"), test_root, "e"), Outcome::is_directory);
  EXPECT_EQ(remove(test_root, "a"), Outcome::ok);
  EXPECT_EQ(view.at(file).links, 1u);
  EXPECT_EQ(remove(test_root, "b"), Outcome::ok);
  EXPECT_TRUE(gone(file));
  EXPECT_EQ(view.files.size(), 2u);  // root and d
  EXPECT_EQ(view.blocks_in_use(), 1u);
  EXPECT_EQ(write(file, 0, "x"), Outcome::stale);
}

TEST_F(Operations, LinksHaveABound) {
  FileKey file = create(test_root, "a");
  view.files[file].inode.links = max_links;
  EXPECT_EQ(link(file, test_root, "b"), Outcome::too_many_links);
  FileKey full = make_directory(test_root, "full");
  make_directory(test_root, "d");
  view.files[full].inode.links = max_links;
  EXPECT_EQ(view.commit(MakeDirectory{full, "x", {}}).outcome, Outcome::too_many_links);
  EXPECT_EQ(rename(test_root, "d", full, "d"), Outcome::too_many_links);
}

TEST_F(Operations, DirectoriesKnowWhatIsAbove) {
  FileKey a = make_directory(test_root, "a");
  FileKey b = make_directory(a, "b");
  EXPECT_EQ(view.at(test_root).links, 3u);
  EXPECT_EQ(view.at(a).links, 3u);
  EXPECT_EQ(find(b, ".."), a.inode);
  EXPECT_EQ(find(b, "."), b.inode);
  EXPECT_EQ(find(test_root, ".."), test_root.inode);
  EXPECT_EQ(remove(test_root, "a"), Outcome::not_empty);
  EXPECT_EQ(remove(a, "b", RemoveWhat::file), Outcome::is_directory);
  EXPECT_EQ(remove(a, "b", RemoveWhat::directory), Outcome::ok);
  EXPECT_TRUE(gone(b));
  EXPECT_EQ(view.at(a).links, 2u);
  EXPECT_EQ(remove(test_root, "a"), Outcome::ok);
  EXPECT_EQ(view.at(test_root).links, 2u);
  EXPECT_EQ(view.blocks_in_use(), 0u);
}

// Every pair of what is moved and what has the new name, in one directory and between two.
TEST_F(Operations, RenameOverEverything) {
  enum What { nothing, file, link_of_it, empty_directory, full_directory };
  for (bool same : {true, false}) {
    for (What moved : {file, empty_directory, full_directory}) {
      for (What target : {nothing, file, link_of_it, empty_directory, full_directory}) {
        if (target == link_of_it && moved != file) continue;
        MemoryView fresh;
        view.files.swap(fresh.files);
        view.give_next(InodeNumber(3));
        FileKey from = make_directory(test_root, "from");
        FileKey to = same ? from : make_directory(test_root, "to");
        auto make = [&](What what, FileKey directory, const std::string& name) {
          if (what == file) return create(directory, name);
          FileKey d = make_directory(directory, name);
          if (what == full_directory) create(d, "inside");
          return d;
        };
        FileKey old = make(moved, from, "old");
        FileKey victim;
        if (target == link_of_it) {
          link(old, to, "new");
        } else if (target != nothing) {
          victim = make(target, to, "new");
        }
        const bool directory = moved != file;
        Outcome expected = Outcome::ok;
        if (directory && target == file) expected = Outcome::not_directory;
        if (directory && target == full_directory) expected = Outcome::not_empty;
        if (!directory && (target == empty_directory || target == full_directory)) {
          expected = Outcome::is_directory;
        }
        auto before = view.remount();
        SCOPED_TRACE(testing::Message() << same << moved << target);
        EXPECT_EQ(rename(from, "old", to, "new", 50), expected);
        if (expected != Outcome::ok || target == link_of_it) {
          EXPECT_TRUE(view.same(*before));
          continue;
        }
        EXPECT_EQ(find(to, "new"), old.inode);
        EXPECT_EQ(find(from, "old"), filesystem::no_inode);
        EXPECT_EQ(view.at(old).changed, 50);
        EXPECT_EQ(view.at(from).modified, 50);
        EXPECT_EQ(view.at(to).modified, 50);
        EXPECT_EQ(view.at(from).entries, same ? 1u : 0u);
        EXPECT_EQ(view.at(to).entries, 1u);
        EXPECT_EQ(view.at(to).links, directory ? 3u : 2u);
        if (!same) EXPECT_EQ(view.at(from).links, 2u);
        if (directory) EXPECT_EQ(view.at(old).parent, to.inode);
        if (target != nothing) EXPECT_TRUE(gone(victim));
      }
    }
  }
}

TEST_F(Operations, RenameOfANameToItselfIsNothing) {
  FileKey d = make_directory(test_root, "d");
  Reply reply = view.commit(Rename{test_root, "d", test_root, "d"});
  EXPECT_EQ(reply.outcome, Outcome::ok);
  EXPECT_TRUE(reply.changes.empty());
  EXPECT_EQ(find(test_root, "d"), d.inode);
}

TEST_F(Operations, ADirectoryIsNotMovedIntoItself) {
  FileKey a = make_directory(test_root, "a");
  FileKey b = make_directory(a, "b");
  FileKey c = make_directory(b, "c");
  EXPECT_EQ(rename(test_root, "a", a, "x"), Outcome::invalid);
  EXPECT_EQ(rename(test_root, "a", b, "x"), Outcome::invalid);
  EXPECT_EQ(rename(test_root, "a", c, "x"), Outcome::invalid);
  EXPECT_EQ(rename(a, "b", c, "x"), Outcome::invalid);
  EXPECT_EQ(rename(b, "c", test_root, "a"), Outcome::not_empty);  // over one that is above it
  EXPECT_EQ(rename(b, "c", a, "c"), Outcome::ok);
  EXPECT_EQ(rename(a, "b", c, "b"), Outcome::ok);
  EXPECT_EQ(find(b, ".."), c.inode);
}

TEST_F(Operations, HowDeepADirectoryMayBeMovedIntoHasABound) {
  FileKey deep = test_root;
  for (unsigned i = 0; i < max_depth; ++i) deep = make_directory(deep, "d");
  make_directory(test_root, "x");
  EXPECT_EQ(rename(test_root, "x", deep, "x"), Outcome::invalid);
  EXPECT_EQ(rename(test_root, "x", {test_volume, view.at(deep).parent}, "x"), Outcome::ok);
}

TEST_F(Operations, Symlinks) {
  for (std::size_t length :
       {std::size_t{1}, filesystem::max_inline, filesystem::max_inline + 1, max_target}) {
    const std::string target(length, 't');
    FileKey file = made(
        view.commit(MakeSymlink{test_root, "l" + std::to_string(length), {0777, 0, 0}, target}));
    auto read = read_symlink(view, file);
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, target);
    EXPECT_EQ(view.at(file).size, length);
    EXPECT_EQ(view.at(file).mode, 0120777);
    EXPECT_EQ(view.files[file].blocks.size(), length > filesystem::max_inline ? 1u : 0u);
    EXPECT_EQ(write(file, 0, "x"), Outcome::invalid);
    EXPECT_EQ(resize(file, 0), Outcome::invalid);
  }
  const std::string too_long(max_target + 1, 't');
  EXPECT_EQ(view.commit(MakeSymlink{test_root, "x", {}, too_long}).outcome, Outcome::name_too_long);
  EXPECT_EQ(view.commit(MakeSymlink{test_root, "x", {}, ""}).outcome, Outcome::invalid);
  EXPECT_EQ(read_symlink(view, test_root).error().outcome, Outcome::invalid);
}

TEST_F(Operations, SpecialFiles) {
  for (std::uint16_t bits : {0010000, 0020000, 0060000, 0140000}) {
    const auto mode = static_cast<std::uint16_t>(bits | 0600);
    FileKey file = made(view.commit(
        MakeSpecial{test_root, std::to_string(bits), {mode, 0, 0}, std::uint64_t{8} << 32 | 1}));
    EXPECT_EQ(view.at(file).mode, mode);
    EXPECT_EQ(view.at(file).device, std::uint64_t{8} << 32 | 1);
    EXPECT_EQ(write(file, 0, "x"), Outcome::invalid);
  }
  EXPECT_EQ(view.commit(MakeSpecial{test_root, "x", {0100600, 0, 0}, 0}).outcome, Outcome::invalid);
}

TEST_F(Operations, WritesOfAnyOffsetAndLength) {
  FileKey file = create(test_root, "f");
  std::string model;
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    const std::size_t offset = random() % 20'000;
    const std::size_t length = 1 + random() % (random() % 4 == 0 ? 9000 : 700);
    switch (random() % 4) {
      case 0: {
        const std::size_t end = std::min(model.size(), offset + length);
        EXPECT_EQ(view.commit(Zero{file, offset, length}).outcome, Outcome::ok);
        if (offset < end) std::fill(model.begin() + offset, model.begin() + end, '\0');
        break;
      }
      case 1:
        EXPECT_EQ(resize(file, offset), Outcome::ok);
        model.resize(offset);
        break;
      default: {
        std::string text(length, static_cast<char>('a' + i % 26));
        const std::size_t cut = random() % length;
        Write request{file, offset, {bytes_of(text.substr(0, cut)), bytes_of(text.substr(cut))}};
        EXPECT_EQ(view.commit(request).outcome, Outcome::ok);
        if (model.size() < offset + length) model.resize(offset + length);
        model.replace(offset, length, text);
      }
    }
    ASSERT_EQ(view.at(file).size, model.size());
    // Zeros beyond the end, too.
    ASSERT_EQ(view.content(file, 0, 40'000), model + std::string(40'000 - model.size(), '\0')) << i;
    ASSERT_LE(view.files[file].blocks.size(), (model.size() + 4095) / 4096);
  }
}

TEST_F(Operations, BoundsOfFiles) {
  FileKey file = create(test_root, "f");
  EXPECT_EQ(write(file, filesystem::max_file_size - 1, "x"), Outcome::ok);
  EXPECT_EQ(view.at(file).size, filesystem::max_file_size);
  EXPECT_EQ(write(file, filesystem::max_file_size - 1, "xy"), Outcome::too_big);
  EXPECT_EQ(write(file, filesystem::max_file_size, "x"), Outcome::too_big);
  EXPECT_EQ(write(file, ~std::uint64_t{0}, "x"), Outcome::invalid);
  EXPECT_EQ(write(file, 0, std::string(max_write, 'x')), Outcome::ok);
  EXPECT_EQ(write(file, 0, std::string(max_write + 1, 'x')), Outcome::invalid);
  EXPECT_EQ(view.commit(Zero{file, 0, max_zero}).outcome, Outcome::ok);
  EXPECT_EQ(view.commit(Zero{file, 0, max_zero + 1}).outcome, Outcome::invalid);
  EXPECT_EQ(resize(file, 1), Outcome::ok);
  EXPECT_EQ(view.files[file].blocks.size(), 0u);
  EXPECT_EQ(resize(file, filesystem::max_file_size + 1), Outcome::invalid);
  Reply nothing = view.commit(Write{file, 0, {}});
  EXPECT_EQ(nothing.outcome, Outcome::ok);
  EXPECT_TRUE(nothing.changes.empty());
}

TEST_F(Operations, ReadsEndWithTheFile) {
  FileKey file = create(test_root, "f");
  write(file, 0, "0123456789");
  auto range = [&](std::uint64_t offset, std::uint64_t length) {
    auto read = read_range(view, file, offset, length);
    return std::pair(read->length, read->end_of_file);
  };
  EXPECT_EQ(range(0, 4), std::pair(std::uint64_t{4}, false));
  EXPECT_EQ(range(6, 4), std::pair(std::uint64_t{4}, true));
  EXPECT_EQ(range(6, 400), std::pair(std::uint64_t{4}, true));
  EXPECT_EQ(range(10, 4), std::pair(std::uint64_t{0}, true));
  EXPECT_EQ(range(~std::uint64_t{0}, ~std::uint64_t{0}), std::pair(std::uint64_t{0}, true));
  EXPECT_EQ(read_range(view, test_root, 0, 1).error().outcome, Outcome::is_directory);
}

TEST_F(Operations, SetInodeChangesWhatIsGiven) {
  FileKey file = create(test_root, "f");
  SetInode request;
  request.file = file;
  EXPECT_TRUE(view.commit(request, 5).changes.empty());
  request.mode = 0600;
  request.owner = 7;
  request.group = 8;
  request.accessed = 9;
  request.modified = 10;
  EXPECT_EQ(view.commit(request, 11).outcome, Outcome::ok);
  const Inode& inode = view.at(file);
  EXPECT_EQ(inode.mode, 0100600);
  EXPECT_EQ(inode.owner, 7u);
  EXPECT_EQ(inode.group, 8u);
  EXPECT_EQ(inode.accessed, 9);
  EXPECT_EQ(inode.modified, 10);
  EXPECT_EQ(inode.changed, 11);
  EXPECT_EQ(inode.created, 1);
  EXPECT_EQ(inode.change_count, 2u);
  SetInode guarded;
  guarded.file = file;
  guarded.owner = 1;
  guarded.guard = 10;
  EXPECT_EQ(view.commit(guarded, 12).outcome, Outcome::not_sync);
  guarded.guard = 11;
  EXPECT_EQ(view.commit(guarded, 12).outcome, Outcome::ok);
  request.mode = 0170000;
  EXPECT_EQ(view.commit(request, 12).outcome, Outcome::invalid);
  EXPECT_EQ(write(file, 0, "x", 13), Outcome::ok);
  EXPECT_EQ(inode.modified, 13);
  EXPECT_EQ(inode.accessed, 9);
}

TEST_F(Operations, Vdisks) {
  FileKey lun = made(view.commit(CreateVdisk{test_volume, 1 << 20, {0600, 0, 0}, {}, ""}));
  EXPECT_EQ(view.at(lun).type, FileType::vdisk);
  EXPECT_EQ(view.at(lun).links, 1u);
  EXPECT_EQ(write(lun, (1 << 20) - 4, "data"), Outcome::ok);
  EXPECT_EQ(write(lun, (1 << 20) - 3, "data"), Outcome::invalid);
  EXPECT_EQ(resize(lun, 0), Outcome::invalid);
  EXPECT_EQ(view.commit(ResizeVdisk{lun, 4095}).outcome, Outcome::invalid);
  EXPECT_EQ(view.commit(ResizeVdisk{lun, filesystem::max_lun_size}).outcome, Outcome::ok);
  EXPECT_EQ(view.commit(ResizeVdisk{lun, 8192}).outcome, Outcome::ok);
  EXPECT_EQ(view.blocks_in_use(), 0u);
  EXPECT_EQ(link(lun, test_root, "lun0"), Outcome::ok);
  EXPECT_EQ(remove(test_root, "lun0"), Outcome::ok);
  EXPECT_FALSE(gone(lun));  // the administrator still has it
  EXPECT_EQ(view.commit(DeleteVdisk{lun}).outcome, Outcome::ok);
  EXPECT_TRUE(gone(lun));

  FileKey named = made(view.commit(CreateVdisk{test_volume, 4096, {}, test_root.inode, "lun1"}));
  EXPECT_EQ(view.at(named).links, 2u);
  EXPECT_EQ(view.commit(DeleteVdisk{named}).outcome, Outcome::ok);
  EXPECT_FALSE(gone(named));  // it has a name
  EXPECT_EQ(view.commit(DeleteVdisk{named}).outcome, Outcome::stale);
  EXPECT_EQ(remove(test_root, "lun1"), Outcome::ok);
  EXPECT_TRUE(gone(named));
  FileKey file = create(test_root, "f");
  EXPECT_EQ(view.commit(DeleteVdisk{file}).outcome, Outcome::invalid);
  EXPECT_EQ(view.commit(ResizeVdisk{file, 4096}).outcome, Outcome::invalid);
}

// What frees asks for nothing, so it works when nothing is left; all else is refused unchanged.
TEST_F(Operations, AFullPoolLetsFilesGo) {
  FileKey d = make_directory(test_root, "d");
  for (int i = 0; i < 1000; ++i) create(d, "f" + std::to_string(i));
  FileKey file = create(test_root, "f");
  write(file, 0, std::string(10'000, 'x'));
  view.commit(SetAttribute{file, "a", SetMode::either, bytes_of("value")});
  view.space_left = 0;
  auto before = view.remount();
  EXPECT_EQ(write(file, 0, "y"), Outcome::no_space);
  EXPECT_EQ(view.commit(MakeDirectory{test_root, "e", {}}).outcome, Outcome::no_space);
  EXPECT_EQ(view.commit(SetAttribute{file, "a", SetMode::either, bytes_of("v")}).outcome,
            Outcome::no_space);
  EXPECT_EQ(rename(test_root, "f", d, "f"), Outcome::no_space);
  EXPECT_EQ(link(file, d, "f"), Outcome::no_space);
  EXPECT_TRUE(view.same(*before));
  view.space_left = {};
  view.quota_left = 0;
  EXPECT_EQ(write(file, 0, "y"), Outcome::quota);
  view.space_left = 0;
  EXPECT_EQ(resize(file, 5000), Outcome::ok);
  EXPECT_EQ(view.asked, 0u);
  EXPECT_EQ(view.commit(Zero{file, 0, 4096}).outcome, Outcome::ok);
  EXPECT_EQ(view.commit(RemoveAttribute{file, "a"}).outcome, Outcome::ok);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(remove(d, "f" + std::to_string(i)), Outcome::ok);
  EXPECT_EQ(remove(test_root, "d"), Outcome::ok);
  EXPECT_EQ(remove(test_root, "f"), Outcome::ok);
  EXPECT_EQ(view.blocks_in_use(), 0u);
}

TEST_F(Operations, ASnapshotIsReadOnly) {
  FileKey file = create(test_root, "f");
  FileKey lun = made(view.commit(CreateVdisk{test_volume, 4096, {}, {}, ""}));
  view.read_only = true;
  auto before = view.remount();
  EXPECT_EQ(write(file, 0, "x"), Outcome::read_only);
  EXPECT_EQ(resize(file, 7), Outcome::read_only);
  EXPECT_EQ(remove(test_root, "f"), Outcome::read_only);
  EXPECT_EQ(rename(test_root, "f", test_root, "g"), Outcome::read_only);
  EXPECT_EQ(link(file, test_root, "g"), Outcome::read_only);
  EXPECT_EQ(view.commit(MakeDirectory{test_root, "d", {}}).outcome, Outcome::read_only);
  EXPECT_EQ(view.commit(RemoveAttribute{file, "a"}).outcome, Outcome::read_only);
  EXPECT_EQ(view.commit(DeleteVdisk{lun}).outcome, Outcome::read_only);
  EXPECT_TRUE(view.same(*before));
  EXPECT_EQ(find(test_root, "f"), file.inode);
}

TEST_F(Operations, SpaceIsAskedForWhatIsDirtied) {
  FileKey file = create(test_root, "f");
  EXPECT_EQ(view.asked, 1u);  // the block of the directory
  write(file, 100, std::string(8192, 'x'));
  EXPECT_EQ(view.asked, 3u);
  write(file, 0, std::string(8192, 'x'));
  EXPECT_EQ(view.asked, 2u);
}

TEST_F(Operations, WhatCannotBeReadIsAnAnswer) {
  FileKey file = create(test_root, "f");
  write(file, 0, "data");
  view.unreadable = {{test_root, 0}, {file, 0}};
  EXPECT_EQ(lookup(view, test_root, "f").error().outcome, Outcome::io);
  EXPECT_EQ(view.commit(MakeDirectory{test_root, "d", {}}).outcome, Outcome::io);
  EXPECT_EQ(write(file, 1, "x"), Outcome::io);
  EXPECT_EQ(write(file, 0, std::string(512, 'x')), Outcome::ok);  // needs no look
  view.unreadable.clear();
  view.files.erase(file);
  EXPECT_EQ(lookup(view, test_root, "f").error().outcome, Outcome::io);
  EXPECT_EQ(remove(test_root, "f"), Outcome::io);
}

}  // namespace
}  // namespace duet::files
