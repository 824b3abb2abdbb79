// Random requests against a reference, through records and replays, with parts out of memory.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "files/look.h"
#include "files/random_requests_fixture.h"
#include "files/read_directory.h"
#include "files/reference_fixture.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

class Model : public testing::Test, protected RandomRequests {
 protected:
  // A live request: prepared, recorded, committed.
  Reply live(const Record& record) {
    Reply reply = view->commit(record);
    if (reply.outcome == Outcome::ok && !reply.changes.empty()) {
      Record logged = record;
      if (reply.created) logged.created = reply.file.inode;
      log.push_back(encode(logged));
      expected.push_back(reply);
    }
    return reply;
  }

  void compare_names(FileKey directory, const Reference::Node& node) {
    std::map<std::string, std::uint64_t> names;
    ListRequest request{.directory = directory, .limit = 7, .dots = false};
    for (bool end = false; !end;) {
      auto part = view->run([&] { return list(*view, request); });
      ASSERT_TRUE(part);
      end = part->end;
      for (const ListedName& name : part->names) {
        ASSERT_TRUE(names.emplace(name.name, name.inode.value()).second) << name.name;
        request.cookie = name.cookie;
      }
    }
    ASSERT_EQ(names, node.children);
  }
  void compare_all() {
    for (const auto& [number, node] : reference.nodes) {
      const FileKey file{test_volume, InodeNumber(number)};
      auto inode = view->run([&] { return get_inode(*view, file); });
      ASSERT_TRUE(inode);
      compare_inode(*inode, number);
      if (node.type == FileType::directory) {
        compare_names(file, node);
      } else if (node.type == FileType::symlink) {
        ASSERT_EQ(*view->run([&] { return read_symlink(*view, file); }), node.data);
      } else {
        // Zeros beyond the end, too.
        std::string content = node.data + std::string(24'000 - node.data.size(), '\0');
        ASSERT_EQ(view->content(file, 0, content.size()), content) << number;
      }
      auto names = view->run([&] { return list_attributes(*view, file); });
      ASSERT_TRUE(names);
      ASSERT_EQ(names->size(), node.attributes.size());
      for (const auto& [name, value] : node.attributes) {
        auto read = view->run([&] { return get_attribute(*view, file, name); });
        ASSERT_TRUE(read);
        ASSERT_TRUE(std::ranges::equal(*read, std::as_bytes(std::span(value)))) << name;
      }
      ASSERT_LE(view->files.at(file).blocks.size(), (inode->size + 4095) / 4096);
    }
    // Nothing is left of what is gone.
    ASSERT_EQ(view->files.size(), reference.nodes.size() + reference.inodes_of_attributes);
  }
  // A crash: what was at the last checkpoint, and the records since, make the same volume, with the
  // same replies.
  void crash_and_replay() {
    for (std::size_t i = 0; i < log.size(); ++i) {
      auto applied = checkpoint->run([&] { return apply(*checkpoint, log[i]); });
      ASSERT_TRUE(applied) << applied.error().message;
      ASSERT_EQ(applied->reply.file, expected[i].file);
      ASSERT_EQ(applied->reply.created, expected[i].created);
      ASSERT_EQ(applied->reply.changes.size(), expected[i].changes.size());
      for (std::size_t c = 0; c < expected[i].changes.size(); ++c) {
        ASSERT_EQ(applied->reply.changes[c].before, expected[i].changes[c].before);
        ASSERT_EQ(applied->reply.changes[c].after, expected[i].changes[c].after);
      }
    }
    ASSERT_TRUE(checkpoint->same(*view));
    reruns += view->reruns;
    view = std::move(checkpoint);
    take_checkpoint();
  }
  void take_checkpoint() {
    checkpoint = view->remount();
    log.clear();
    expected.clear();
  }

  std::unique_ptr<MemoryView> view = std::make_unique<MemoryView>();
  std::unique_ptr<MemoryView> checkpoint;
  std::vector<filesystem::LogRecord> log;
  std::vector<Reply> expected;  // of the log
  std::uint64_t reruns = 0;
};

TEST_F(Model, RandomRequests) {
  constexpr int requests = sanitized ? 20'000 : 400'000;
  std::map<Outcome, int> outcomes;
  std::map<std::size_t, int> done;
  view->evict_every = 7;
  take_checkpoint();
  for (int i = 0; i < requests && !HasFatalFailure(); ++i) {
    ++now;
    Record record{some_request(), now, {}, {}};
    SCOPED_TRACE(testing::Message() << "request " << i << ", kind " << record.request.index());
    Reply reply = live(record);
    const Outcome outcome = reference.run(record.request, now);
    ASSERT_EQ(name(reply.outcome), name(outcome)) << reply.message;
    ++outcomes[outcome];
    if (outcome == Outcome::ok) {
      ++done[record.request.index()];
      ASSERT_EQ(reply.file.inode.value(), reference.number);
    }
    for (const InodeChange& change : reply.changes) {
      if (change.after.type == FileType::none || change.after.type == FileType::attributes)
        continue;
      compare_inode(change.after, change.file.inode.value());
    }
    if (one_in(1000)) {
      compare_all();
      crash_and_replay();
    } else if (one_in(2000)) {
      view = view->remount();
      take_checkpoint();
    }
  }
  compare_all();
  EXPECT_GT(reruns + view->reruns, requests / 4u);
  EXPECT_EQ(done.size(), std::variant_size_v<Request>);
  for (Outcome outcome : {Outcome::ok, Outcome::exists, Outcome::no_entry, Outcome::not_directory,
                          Outcome::is_directory, Outcome::not_empty, Outcome::stale,
                          Outcome::invalid, Outcome::not_sync}) {
    EXPECT_GT(outcomes[outcome], requests / 4000) << name(outcome);
  }
}

}  // namespace
}  // namespace duet::files
