// For tests: an identity whose files are asked for, and answers waited for. Nodes may fail, and
// come back.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "node/identity_bench.h"

namespace duet::node {

class FileBench : public IdentityBench {
 public:
  template <class T>
  using Attempt = files::Attempt<T>;

  // Serving, mirrored, one LUN, one volume beside the first.
  void serve_files() {
    serve();
    bool made = false;
    storage->create_volume("files", [&](Result<pool::VolumeId> r) { made = r.has_value(); });
    ASSERT_TRUE(scheduler.run_until([&] { return made; }));
    open_root();
  }
  void open_root() {
    auto found =
        ask<files::Found>([&](auto done) { store().open_volume("files", std::move(done)); });
    ASSERT_TRUE(found) << found.error().message;
    root = found->file;
  }
  files::FileStore& store() { return *service->files(); }

  // ---- asking ----
  template <class T, class Ask>
  Attempt<T> ask(Ask question) {
    auto answer = std::make_shared<std::optional<Attempt<T>>>();
    question(files::FileStore::Done<T>([answer](Attempt<T> a) {
      EXPECT_FALSE(*answer) << "answered twice";
      *answer = std::move(a);
    }));
    EXPECT_FALSE(*answer) << "answered from inside the call";
    scheduler.run_until([&] { return answer->has_value(); });
    if (!*answer) return files::refuse(files::Outcome::io, "no answer");
    return std::move(**answer);
  }
  Attempt<files::Changed> change(files::Change c) {
    return ask<files::Changed>([&](auto done) { store().change(std::move(c), std::move(done)); });
  }
  Attempt<files::Changed> change(files::Request request, std::optional<files::RequestId> id = {}) {
    return change(files::Change{std::move(request), {}, id});
  }
  files::Outcome outcome_of(files::Request request, std::optional<files::RequestId> id = {}) {
    auto changed = change(std::move(request), id);
    return changed ? files::Outcome::ok : changed.error().outcome;
  }
  files::Handle create_file(const std::string& name) {
    auto made =
        change(files::Create{root.file, name, {0644, 1, 2}, files::CreateMode::guarded, 0, {}});
    EXPECT_TRUE(made) << files::name(made.error().outcome) << made.error().message;
    return made ? made->file : files::Handle{};
  }
  Attempt<files::Found> look_up(const files::Handle& directory, const std::string& name) {
    return ask<files::Found>([&](auto done) { store().look_up(directory, name, std::move(done)); });
  }
  files::Outcome there(const std::string& name) {
    auto found = look_up(root, name);
    return found ? files::Outcome::ok : found.error().outcome;
  }
  Attempt<filesystem::Inode> get(const files::Handle& file) {
    return ask<filesystem::Inode>([&](auto done) { store().get(file, std::move(done)); });
  }
  Attempt<files::Contents> read_file(const files::Handle& file, std::uint64_t offset,
                                     std::uint64_t length) {
    return ask<files::Contents>(
        [&](auto done) { store().read(file, offset, length, std::move(done)); });
  }
  std::string content(const files::Handle& file, std::uint64_t offset, std::uint64_t length) {
    auto read = read_file(file, offset, length);
    if (!read) return "(" + std::string(files::name(read.error().outcome)) + ")";
    return text_of(read->data);
  }
  static std::string text_of(const std::vector<Slice>& data) {
    std::string text;
    for (const Slice& slice : data) {
      text.append(reinterpret_cast<const char*>(slice.bytes.data()), slice.bytes.size());
    }
    return text;
  }
  static Slice slice_of(std::string_view text) {
    return copy_to_slice(std::as_bytes(std::span(text)));
  }
  files::Write write_of(const files::Handle& file, std::uint64_t offset, std::string_view text) {
    return {file.file, offset, {slice_of(text)}};
  }
  static files::RequestId id_of(std::uint32_t xid) {
    files::RequestId id;
    id.client.fill(std::byte{0xcc});
    id.xid = xid;
    return id;
  }
  Attempt<files::Listing> list(const files::Handle& directory, std::uint64_t cookie = 0,
                               std::size_t limit = files::max_listed, bool dots = false) {
    files::ListRequest request{.cookie = cookie, .limit = limit, .inodes = false, .dots = dots};
    return ask<files::Listing>(
        [&](auto done) { store().list(directory, request, std::move(done)); });
  }

  // ---- who serves ----
  // The node that serves dies and comes back, with what its NVRAM and the disks have.
  void reboot() {
    mirror.disconnect();
    start_engine(self);
    assume_again();
  }
  // Blue takes over what its NVRAM has, if the mailbox says that this is all, and what the disks
  // have.
  void take_over() {
    ASSERT_EQ(self, red);
    mirror.disconnect();
    run(Duration(0));
    start_engine(blue);
    assume_again(mark.first == Durability::mirrored);
  }
  void give_back() {
    service->release();
    ASSERT_TRUE(scheduler.run_until([&] { return last<ReleasedFact>() != nullptr; }));
    start_engine(red);
    assume_again(false);
  }
  void consistency_point() {
    storage->start_consistency_point();
    run(milliseconds(200));
  }

  files::Handle root;

 private:
  void assume_again(bool replay = true) {
    auto o = order(replay);
    if (!replay) mark = {Durability::write_through, {}};
    service->assume(o, self == blue);  // blue knows that red is down
    ASSERT_TRUE(scheduler.run_until(
        [&] { return last<AssumedFact>() != nullptr || last<AssumeFailedFact>() != nullptr; }));
    ASSERT_TRUE(last<AssumedFact>()) << last<AssumeFailedFact>()->why;
    if (self == red) mirror.connect();
    open_root();
  }
};

}  // namespace duet::node
