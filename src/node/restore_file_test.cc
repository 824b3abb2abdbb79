// A file that goes back to a snapshot of its volume.
#include "files/restore_file.h"

#include "files/directory_block.h"

#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "node/file_bench.h"

namespace duet::node {
namespace {

using files::Handle;
using files::Outcome;

class RestoreFileTest : public testing::Test, protected FileBench {
 protected:
  void SetUp() override {
    serve_files();
    auto made = change(files::MakeDirectory{root.file, "d", {0755, 0, 0}});
    ASSERT_TRUE(made);
    directory = made->file;
    made =
        change(files::Create{directory.file, "f", {0640, 7, 8}, files::CreateMode::guarded, 0, {}});
    ASSERT_TRUE(made);
    file = made->file;
    ASSERT_TRUE(change(write_of(file, 0, "as it was")));
    ASSERT_TRUE(change(write_of(file, 3 << 20, "the end")));
    ASSERT_TRUE(
        change(files::SetAttribute{file.file, "a", files::SetMode::either, slice_of("value")}));
    ASSERT_TRUE(change(files::SetInode{file.file, {}, {}, {}, {}, {}, 12345, {}}));
    snapshot("then");
  }
  void snapshot(const std::string& name) {
    bool made = false;
    storage->create_snapshot(root.file.volume, name, 0,
                             [&](Result<pool::VolumeId> r) { made = r.has_value(); });
    ASSERT_TRUE(scheduler.run_until([&] { return made; }));
  }
  Status restore(const std::string& path, const std::string& from = "then") {
    std::optional<Status> status;
    files::restore_file(store(), {"files", from, path}, [&](Status s) { status = std::move(s); });
    scheduler.run_until([&] { return status.has_value(); });
    return status ? *status : fail(ErrorCode::timed_out, "no answer");
  }
  Handle restored(const std::string& name = "f") {
    auto found = look_up(directory, name);
    EXPECT_TRUE(found);
    return found ? found->file : Handle{};
  }
  void expect_as_it_was() {
    const Handle now = restored();
    EXPECT_EQ(content(now, 0, 9), "as it was");
    EXPECT_EQ(content(now, (3 << 20) - 2, 100), std::string("\0\0the end", 9));
    auto inode = get(now);
    ASSERT_TRUE(inode);
    EXPECT_EQ(inode->size, (3u << 20) + 7);
    EXPECT_EQ(inode->mode & 07777, 0640);
    EXPECT_EQ(inode->owner, 7u);
    EXPECT_EQ(inode->group, 8u);
    EXPECT_EQ(inode->modified, 12345);
    EXPECT_LE(inode->blocks, 4u) << "holes stay holes";
    auto value = ask<std::vector<std::byte>>(
        [&](auto done) { store().get_attribute(now, "a", std::move(done)); });
    ASSERT_TRUE(value);
    EXPECT_EQ(value->size(), 5u);
    EXPECT_EQ(look_up(directory, files::copy_name("f")).error().outcome, Outcome::no_entry);
  }

  Handle directory, file;
};

TEST_F(RestoreFileTest, DataAttributesAndTimes) {
  ASSERT_TRUE(change(write_of(file, 0, "something else")));
  ASSERT_TRUE(change(files::SetInode{file.file, 0600, 1, 1, 20, {}, {}, {}}));
  snapshot("later");
  ASSERT_TRUE(restore("/d//f"));
  expect_as_it_was();
  ASSERT_TRUE(restore("d/f", "later")) << "and forth";
  EXPECT_EQ(content(restored(), 0, 14), "something else");
}

TEST_F(RestoreFileTest, AFileThatWasRemovedComesBack) {
  ASSERT_TRUE(change(files::Remove{directory.file, "f", files::RemoveWhat::any}));
  ASSERT_TRUE(restore("d/f"));
  expect_as_it_was();
  reboot();
  open_root();
  directory = look_up(root, "d")->file;
  expect_as_it_was();
}

TEST_F(RestoreFileTest, WhatAnInterruptionLeftIsRemoved) {
  EXPECT_MARK(file_restore_begun_before);
  auto status = std::make_shared<std::optional<Status>>();
  files::restore_file(store(), {"files", "then", "d/f"},
                      [status](Status s) { *status = std::move(s); });
  for (int i = 0; i < 10'000 && !look_up(directory, files::copy_name("f")); ++i) {
    run(std::chrono::microseconds(10));
  }
  ASSERT_FALSE(*status);
  reboot();
  EXPECT_TRUE(*status && (*status)->error().code == ErrorCode::cancelled);
  open_root();
  directory = look_up(root, "d")->file;
  EXPECT_EQ(content(restored(), 0, 9), "as it was");
  ASSERT_TRUE(restore("d/f"));
  expect_as_it_was();
}

TEST_F(RestoreFileTest, WhatCannotBeRestored) {
  const auto code = [&](const std::string& path, const std::string& from = "then") {
    auto status = restore(path, from);
    return status ? ErrorCode{} : status.error().code;
  };
  EXPECT_EQ(code(""), ErrorCode::invalid);
  EXPECT_EQ(code("//"), ErrorCode::invalid);
  EXPECT_EQ(code("d/../d/f"), ErrorCode::invalid);
  EXPECT_EQ(code("d"), ErrorCode::invalid);
  EXPECT_EQ(code("d/g"), ErrorCode::not_found);
  EXPECT_EQ(code("d/f/g"), ErrorCode::not_found);
  EXPECT_EQ(code("d/f", "never"), ErrorCode::not_found);
  ASSERT_TRUE(change(files::Remove{directory.file, "f", files::RemoveWhat::any}));
  ASSERT_TRUE(change(files::Remove{root.file, "d", files::RemoveWhat::any}));
  auto gone = restore("d/f");
  ASSERT_FALSE(gone);
  EXPECT_NE(gone.error().message.find("directory 'd'"), std::string::npos) << gone.error().message;
}

TEST(CopyName, IsAName) {
  EXPECT_EQ(files::copy_name("f"), ".restore.f");
  EXPECT_EQ(files::copy_name(std::string(255, 'x')).size(), files::max_name);
}

}  // namespace
}  // namespace duet::node
