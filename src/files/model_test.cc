// Random requests against a reference, through records and replays, with parts out of memory.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "files/look.h"
#include "files/read_directory.h"
#include "files/reference_fixture.h"
#include "files/view_fixture.h"

namespace duet::files {
namespace {

class Model : public testing::Test {
 protected:
  std::uint64_t pick(std::uint64_t n) { return random() % n; }
  bool one_in(std::uint64_t n) { return pick(n) == 0; }

  FileKey some_file() {
    if (one_in(30)) return {test_volume, InodeNumber(pick(reference.next + 2))};  // gone, perhaps
    auto node = reference.nodes.lower_bound(pick(reference.next));
    if (node == reference.nodes.end()) node = reference.nodes.begin();
    return {test_volume, InodeNumber(node->first)};
  }
  FileKey some_directory() {
    for (int i = 0; i < 6; ++i) {
      FileKey file = some_file();
      auto node = reference.nodes.find(file.inode.value());
      if (node != reference.nodes.end() && node->second.type == FileType::directory) return file;
    }
    return one_in(8) ? some_file() : test_root;
  }
  std::string some_name() {
    if (one_in(100)) return one_in(2) ? "." : "..";
    if (one_in(200)) return "a/b";
    std::string name(1, static_cast<char>('a' + pick(20)));
    return one_in(3) ? name + std::string(200 + pick(50), 'n') : name;
  }
  // One that exists in the directory, often.
  std::string some_name_of(FileKey directory) {
    auto node = reference.nodes.find(directory.inode.value());
    if (node == reference.nodes.end() || node->second.children.empty() || one_in(5)) {
      return some_name();
    }
    auto child = node->second.children.lower_bound(some_name());
    if (child == node->second.children.end()) child = node->second.children.begin();
    return child->first;
  }
  NewFile new_file() {
    return {static_cast<std::uint16_t>(pick(010000)), static_cast<std::uint32_t>(pick(5)),
            static_cast<std::uint32_t>(pick(5))};
  }
  Slice some_bytes(std::size_t length) {
    OwnedBuffer buffer = make_buffer(length);
    for (std::byte& b : buffer.bytes) b = static_cast<std::byte>(random());
    return buffer.slice();
  }
  template <class T>
  std::optional<T> maybe(T value) {
    return one_in(2) ? std::optional<T>(value) : std::nullopt;
  }

  Request some_request() {
    // More is removed the more there is.
    const bool crowded = reference.nodes.size() > 40 + pick(160);
    FileKey d = some_directory();
    switch (crowded ? 5 + pick(4) : pick(26)) {
      case 0: {
        Create create{d, some_name(), new_file(), CreateMode(pick(3)), 0, {}};
        if (create.how == CreateMode::exclusive) create.verifier = 1 + pick(2);
        if (one_in(3)) create.size = pick(9000);
        return create;
      }
      case 1:
      case 2:
        return MakeDirectory{d, some_name(), new_file()};
      case 3:
        return MakeSymlink{d, some_name(), new_file(), std::string(1 + pick(200), 't')};
      case 4: {
        NewFile file = new_file();
        file.mode = static_cast<std::uint16_t>(file.mode | (one_in(2) ? 0020000 : 0140000));
        return MakeSpecial{d, some_name(), file, pick(100)};
      }
      case 5:
      case 6:
        return Remove{d, some_name_of(d), RemoveWhat(pick(3))};
      case 7:
      case 8: {
        FileKey to = one_in(3) ? d : some_directory();
        return Rename{d, some_name_of(d), to, one_in(2) ? some_name_of(to) : some_name()};
      }
      case 9:
        return Rename{d, some_name_of(d), some_directory(), some_name()};
      case 10:
        return Link{some_file(), d, some_name()};
      case 11:
      case 12: {
        SetInode set{some_file(),
                     maybe<std::uint16_t>(07777 & random()),
                     maybe(7u),
                     maybe(8u),
                     {},
                     maybe<std::int64_t>(-5),
                     maybe<std::int64_t>(6),
                     {}};
        if (one_in(3)) set.size = pick(20'000);
        if (one_in(5)) set.guard = now - static_cast<std::int64_t>(pick(3));
        return set;
      }
      case 13:
      case 14:
      case 15:
      case 16: {
        Write write{some_file(), pick(16'000), {some_bytes(1 + pick(one_in(3) ? 6000 : 300))}};
        if (one_in(4)) write.data.push_back(some_bytes(pick(700)));
        return write;
      }
      case 17:
        return Zero{some_file(), pick(16'000), 1 + pick(9000)};
      case 18:
      case 19:
      case 20:
        return SetAttribute{some_file(), some_name(), SetMode(pick(3)),
                            some_bytes(pick(one_in(20) ? max_value : 700))};
      case 21:
      case 22:
        return RemoveAttribute{some_file(), some_name()};
      case 23:
        return CreateVdisk{test_volume, 4096 * (1 + pick(3)), new_file(),
                           one_in(2) ? InodeNumber() : d.inode, some_name()};
      case 24:
        return DeleteVdisk{some_vdisk()};
      default:
        return ResizeVdisk{some_vdisk(), 4096 * (1 + pick(3))};
    }
  }
  FileKey some_vdisk() {
    for (int i = 0; i < 20; ++i) {
      FileKey file = some_file();
      auto node = reference.nodes.find(file.inode.value());
      if (node != reference.nodes.end() && node->second.type == FileType::vdisk) return file;
    }
    return some_file();
  }

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

  void compare_inode(const Inode& inode, std::uint64_t number) {
    const Reference::Node& node = reference.nodes.at(number);
    ASSERT_EQ(inode.type, node.type);
    ASSERT_EQ(inode.mode, node.mode);
    ASSERT_EQ(inode.owner, node.owner);
    ASSERT_EQ(inode.group, node.group);
    ASSERT_EQ(inode.links, reference.links(number));
    ASSERT_EQ(inode.entries, node.children.size());
    ASSERT_EQ(inode.device, node.device);
    ASSERT_EQ(inode.parent.value(), node.parent);
    if (node.type != FileType::directory) ASSERT_EQ(inode.size, node.data.size());
    ASSERT_EQ(inode.accessed, node.accessed);
    ASSERT_EQ(inode.modified, node.modified);
    ASSERT_EQ(inode.changed, node.changed);
    ASSERT_EQ(inode.created, node.created);
    ASSERT_EQ(inode.change_count, node.changes);
    ASSERT_EQ(inode.attributes == filesystem::no_inode, node.attributes.empty());
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

  std::mt19937_64 random{2026};
  std::int64_t now = 100;
  Reference reference;
  std::unique_ptr<MemoryView> view = std::make_unique<MemoryView>();
  std::unique_ptr<MemoryView> checkpoint;
  std::vector<filesystem::LogRecord> log;
  std::vector<Reply> expected;  // of the log
  std::uint64_t reruns = 0;
};

TEST_F(Model, RandomRequests) {
  constexpr int requests = sanitized ? 20'000 : 250'000;
  std::map<Outcome, int> outcomes;
  std::map<std::size_t, int> done;
  view->evict_every = 7;
  take_checkpoint();
  for (int i = 0; i < requests && !HasFatalFailure(); ++i) {
    ++now;
    Record record{some_request(), now, {}, {}};
    if (auto* vdisk = std::get_if<CreateVdisk>(&record.request);
        vdisk && vdisk->directory == filesystem::no_inode) {
      vdisk->name.clear();
    }
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
