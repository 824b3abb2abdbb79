#include "node/file_service.h"

#include <gtest/gtest.h>

#include <set>

#include "base/coverage_expect.h"
#include "node/file_bench.h"

namespace duet::node {
namespace {

using files::Create;
using files::CreateMode;
using files::Handle;
using files::MakeDirectory;
using files::Outcome;
using files::Remove;
using files::RemoveWhat;
using files::Rename;
using files::SetInode;

class FileServiceTest : public testing::Test, protected FileBench {
 protected:
  void SetUp() override { serve_files(); }
  Create create_of(const std::string& name) {
    return {root.file, name, {0644, 1, 2}, CreateMode::guarded, 0, {}};
  }
  Remove remove_of(const std::string& name) { return {root.file, name, RemoveWhat::any}; }
};

TEST_F(FileServiceTest, FilesAreMadeWrittenReadAndRemoved) {
  const Handle file = create_file("a");
  ASSERT_TRUE(change(write_of(file, 3, "hello")));
  EXPECT_EQ(content(file, 0, 100), std::string("\0\0\0hello", 8));
  EXPECT_EQ(content(file, 4, 3), "ell");
  auto end = read_file(file, 8, 10);
  ASSERT_TRUE(end);
  EXPECT_TRUE(end->end_of_file);
  EXPECT_TRUE(end->data.empty());
  EXPECT_EQ(end->inode.size, 8u);
  EXPECT_TRUE(read_file(file, std::uint64_t{1} << 60, 10)->end_of_file);
  ASSERT_TRUE(change(SetInode{file.file, {}, {}, {}, 4, {}, {}, {}}));
  EXPECT_EQ(content(file, 0, 100), std::string("\0\0\0h", 4));
  ASSERT_TRUE(change(files::SetAttribute{file.file, "x", files::SetMode::either, slice_of("y")}));
  auto value = ask<std::vector<std::byte>>(
      [&](auto done) { store().get_attribute(file, "x", std::move(done)); });
  ASSERT_TRUE(value);
  EXPECT_EQ(value->size(), 1u);
  auto names = ask<std::vector<std::string>>(
      [&](auto done) { store().list_attributes(file, std::move(done)); });
  EXPECT_EQ(*names, std::vector<std::string>{"x"});
  ASSERT_TRUE(change(files::MakeSymlink{root.file, "l", {0777, 0, 0}, "a"}));
  auto link = look_up(root, "l");
  ASSERT_TRUE(link);
  EXPECT_EQ(*ask<std::string>([&](auto d) { store().read_symlink(link->file, std::move(d)); }),
            "a");
  EXPECT_EQ(read_file(root, 0, 10).error().outcome, Outcome::is_directory);
  EXPECT_EQ(read_file(link->file, 0, 10).error().outcome, Outcome::invalid);
  auto space = ask<files::Space>([&](auto done) { store().get_space(root, std::move(done)); });
  ASSERT_TRUE(space);
  EXPECT_GT(space->free, 0u);
  EXPECT_LE(space->free, space->size);
  ASSERT_TRUE(change(remove_of("a")));
  EXPECT_EQ(get(file).error().outcome, Outcome::stale);
  EXPECT_EQ(content(file, 0, 10), "(stale)");
  EXPECT_EQ(outcome_of(write_of(file, 0, "x")), Outcome::stale);
}

TEST_F(FileServiceTest, HandlesOfAnotherGenerationAreStale) {
  Handle file = create_file("a");
  EXPECT_NE(file.generation, 0);
  files::Change good{write_of(file, 0, "x"), {file}, {}};
  EXPECT_TRUE(change(good));
  ++file.generation;
  EXPECT_EQ(get(file).error().outcome, Outcome::stale);
  EXPECT_EQ(read_file(file, 0, 1).error().outcome, Outcome::stale);
  files::Change bad{write_of(file, 0, "x"), {file}, {}};
  EXPECT_EQ(change(bad).error().outcome, Outcome::stale);
  // What LUNs hold cannot be named.
  const Handle lun{{pool::Pool::first_volume, filesystem::InodeNumber(3)}, 0};
  EXPECT_EQ(get(lun).error().outcome, Outcome::stale);
  EXPECT_EQ(read_file(lun, 0, 512).error().outcome, Outcome::stale);
  EXPECT_EQ(outcome_of(write_of(lun, 0, "x")), Outcome::stale);
}

// What is answered is in both NVRAMs, and what a look shows, too.
TEST_F(FileServiceTest, NothingIsAnsweredBeforeItIsDurable) {
  mirror.hold();
  std::optional<Attempt<files::Changed>> made;
  std::optional<Attempt<files::Found>> found, other;
  std::optional<Attempt<files::Listing>> listed;
  std::optional<Attempt<filesystem::Inode>> seen;
  const Handle before = root;
  store().change({create_of("a"), {}, {}}, [&](auto r) { made = std::move(r); });
  store().look_up(before, "a", [&](auto r) { found = std::move(r); });
  store().look_up(before, "b", [&](auto r) { other = std::move(r); });
  store().list(before, {}, [&](auto r) { listed = std::move(r); });
  store().get(before, [&](auto r) { seen = std::move(r); });
  run(milliseconds(20));
  EXPECT_FALSE(made || found || other || listed || seen);
  mirror.release();
  run(milliseconds(20));
  ASSERT_TRUE(made && found && other && listed && seen);
  EXPECT_TRUE(made->has_value());
  EXPECT_TRUE(found->has_value());
  EXPECT_EQ(other->error().outcome, Outcome::no_entry);
}

TEST_F(FileServiceTest, OfManyAtOnceExactlyOneMakesTheName) {
  int made = 0, there = 0;
  for (int i = 0; i < 64; ++i) {
    store().change({create_of("same"), {}, {}}, [&](auto r) {
      if (r)
        ++made;
      else if (r.error().outcome == Outcome::exists)
        ++there;
    });
  }
  run();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(there, 63);
}

TEST_F(FileServiceTest, CookiesStayGoodThroughChangesAndTakeovers) {
  std::set<std::string> stay, seen;
  for (int i = 0; i < 300; ++i) {
    const std::string name = "f" + std::to_string(i);
    create_file(name);
    if (i % 3 != 0) stay.insert(name);
  }
  std::uint64_t cookie = 0;
  for (int part = 0;; ++part) {
    auto listing = list(root, cookie, 50);
    ASSERT_TRUE(listing);
    for (const auto& name : listing->names) {
      EXPECT_TRUE(seen.insert(name.name).second) << name.name;
      cookie = name.cookie;
    }
    if (listing->end) break;
    if (part == 1) {
      for (int i = 0; i < 300; i += 3) outcome_of(remove_of("f" + std::to_string(i)));
    }
    if (part == 2) take_over();
  }
  for (const auto& name : stay) EXPECT_TRUE(seen.contains(name)) << name;
}

// ---- exactly once ----

TEST_F(FileServiceTest, ARequestThatComesAgainIsAnsweredNotExecuted) {
  auto made = change(create_of("a"), id_of(1));
  ASSERT_TRUE(made);
  EXPECT_MARK(file_request_repeated);
  auto again = change(create_of("a"), id_of(1));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->repeated);
  EXPECT_TRUE(again->created);
  EXPECT_EQ(again->file, made->file);
  EXPECT_EQ(again->time, made->time);
  EXPECT_EQ(again->directories, made->directories);
  ASSERT_EQ(again->directories.size(), 1u);
  ASSERT_TRUE(change(remove_of("a"), id_of(2)));
  EXPECT_TRUE(change(remove_of("a"), id_of(2)));
  EXPECT_EQ(outcome_of(remove_of("a"), id_of(3)), Outcome::no_entry);
  EXPECT_EQ(outcome_of(remove_of("a"), id_of(1)), Outcome::no_entry) << "another kind";
}

TEST_F(FileServiceTest, RepliesAreKeptWhileConsistencyPointsAreUnderWay) {
  for (std::uint32_t i = 1; i <= 40; ++i) {
    if (i % 2 == 0) storage->start_consistency_point();
    ASSERT_TRUE(change(create_of("n" + std::to_string(i)), id_of(i)));
  }
  take_over();
  for (std::uint32_t i = 1; i <= 40; ++i) {
    auto again = change(create_of("n" + std::to_string(i)), id_of(i));
    ASSERT_TRUE(again) << i;
    EXPECT_TRUE(again->repeated) << i;
  }
}

// The reply was lost with its node: executed before the last consistency point, after it, or not at
// all, the next owner executes it once in all.
TEST_F(FileServiceTest, ExactlyOnceAcrossATakeover) {
  for (const bool contained : {false, true}) {
    for (const bool by_partner : {false, true}) {
      const std::string name = "n" + std::to_string(contained) + std::to_string(by_partner);
      const std::uint32_t xid = 100 + (contained ? 10 : 0) + (by_partner ? 1 : 0);
      ASSERT_TRUE(change(create_of(name)));
      ASSERT_TRUE(change(remove_of(name), id_of(xid)));
      if (contained) consistency_point();
      if (by_partner) {
        take_over();
      } else {
        reboot();
      }
      auto again = change(remove_of(name), id_of(xid));
      ASSERT_TRUE(again) << files::name(again.error().outcome) << " " << name;
      EXPECT_TRUE(again->repeated);
      EXPECT_EQ(outcome_of(remove_of(name), id_of(xid + 1000)), Outcome::no_entry);
      if (by_partner) give_back();
      EXPECT_TRUE(change(remove_of(name), id_of(xid))) << "after a giveback, too";
    }
  }
}

// A rename over a name, sent again after a takeover while the client does not know what became of
// it: at every step of the first try.
TEST_F(FileServiceTest, ARequestInFlightAtTheTakeoverIsExecutedOnce) {
  for (int steps = 0; steps < 12; ++steps) {
    const std::string from = "from" + std::to_string(steps), to = "to" + std::to_string(steps);
    const Handle file = create_file(from);
    create_file(to);
    const auto id = id_of(5000 + static_cast<std::uint32_t>(steps));
    bool answered = false;
    store().change({Rename{root.file, from, root.file, to}, {}, id},
                   [&](auto r) { answered = r.has_value(); });
    for (int i = 0; i < steps; ++i) scheduler.step();
    take_over();
    auto again = change(Rename{root.file, from, root.file, to}, id);
    ASSERT_TRUE(again) << steps;
    if (answered) EXPECT_TRUE(again->repeated) << steps;
    EXPECT_EQ(there(from), Outcome::no_entry);
    auto found = look_up(root, to);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->file, file);
    give_back();
  }
}

// ---- bounds, and the end of the service ----

TEST_F(FileServiceTest, MoreThanTheLogHoldsWaitsForConsistencyPoints) {
  const Handle file = create_file("big");
  const std::string data(60 << 10, 'd');
  int done = 0, failed = 0;
  EXPECT_MARK(log_waits_for_space);
  for (int i = 0; i < 80; ++i) {  // 4.7 MiB; the ring has 2
    store().change({write_of(file, static_cast<std::uint64_t>(i % 20) << 16, data), {}, {}},
                   [&](auto r) { ++(r ? done : failed); });
  }
  auto client = this->client();
  EXPECT_TRUE(client.write(0, 'l')->good()) << "LUNs go on behind";
  run(seconds(5));
  EXPECT_EQ(done, 80);
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(content(file, 0, 4), "dddd");
}

TEST_F(FileServiceTest, TooManyAtOnceAreBusy) {
  mirror.hold();
  std::size_t busy = 0, good = 0;
  EXPECT_MARK(too_many_file_operations);
  for (std::size_t i = 0; i < FileService::max_operations + 10; ++i) {
    store().change({create_of("n" + std::to_string(i)), {}, {}}, [&](auto r) {
      if (r)
        ++good;
      else if (r.error().outcome == Outcome::busy)
        ++busy;
    });
  }
  run(milliseconds(10));
  EXPECT_EQ(busy, 10u);
  mirror.release();
  run(seconds(5));
  EXPECT_EQ(good, FileService::max_operations);
}

// The log is full of what the partner has not got yet, and no consistency point frees that.
TEST_F(FileServiceTest, ALogThatTransfersHoldIsWaitedForInPeace) {
  EXPECT_MARK(turn_without_room);
  const Handle file = create_file("a");
  mirror.hold();
  const std::string data(64 << 10, 'x');
  int good = 0;
  for (int i = 0; i < 100; ++i) {
    store().change({write_of(file, static_cast<std::uint64_t>(i) << 16, data), {}, {}},
                   [&](const auto& r) { good += r.has_value(); });
  }
  int turns = 0;
  bool over = false;
  scheduler.at(scheduler.now() + milliseconds(50), [&] { over = true; });
  while (!over && ++turns < 100'000) scheduler.step();
  EXPECT_LT(turns, 20'000) << "time passes";
  mirror.release();
  run(seconds(5));
  EXPECT_EQ(good, 100);
}

TEST_F(FileServiceTest, AHandOverCompletesWhatHasBegunAndThePartnerHasIt) {
  create_file("before");
  mirror.hold();
  std::optional<Attempt<files::Changed>> in_flight, late;
  store().change({create_of("in flight"), {}, id_of(7)}, [&](auto r) { in_flight = std::move(r); });
  auto& old = store();
  service->hand_over();
  mirror.release();
  // While it drains nothing new is begun.
  bool drained = scheduler.run_until([&] { return service->files() == nullptr; }, seconds(5));
  ASSERT_TRUE(drained);
  old.change({create_of("late"), {}, id_of(8)}, [&](auto r) { late = std::move(r); });
  run();
  ASSERT_TRUE(last<HandedOverFact>());
  ASSERT_TRUE(in_flight);
  EXPECT_TRUE(in_flight->has_value());
  ASSERT_TRUE(late);
  EXPECT_EQ(late->error().outcome, Outcome::not_served);
  take_over();
  EXPECT_EQ(there("before"), Outcome::ok);
  EXPECT_EQ(there("in flight"), Outcome::ok);
  EXPECT_EQ(there("late"), Outcome::no_entry);
  auto again = change(create_of("in flight"), id_of(7));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->repeated);
  EXPECT_TRUE(change(create_of("late"), id_of(8)));
}

TEST_F(FileServiceTest, ACancelledHandOverGoesOnWithWhatWasHeldBack) {
  // A read that takes long keeps it draining.
  auto client = this->client();
  start_slow_read(client, seconds(2));
  auto& files = store();
  service->hand_over();
  run(milliseconds(100));
  std::optional<Attempt<files::Changed>> held;
  files.change({create_of("held"), {}, {}}, [&](auto r) { held = std::move(r); });
  run(milliseconds(100));
  EXPECT_FALSE(held);
  service->cancel_hand_over();
  slow_reads({});
  run();
  ASSERT_TRUE(held);
  EXPECT_TRUE(held->has_value());
  EXPECT_EQ(there("held"), Outcome::ok);
}

TEST_F(FileServiceTest, WriteThroughAnswersAfterTheConsistencyPoint) {
  take_over();
  service->on_partner_down(false);  // alive, and out of reach
  run();
  ASSERT_EQ(service->report().mode, Durability::write_through);
  refuse_writes(true);
  std::optional<Attempt<files::Changed>> made;
  store().change({create_of("a"), {}, {}}, [&](auto r) { made = std::move(r); });
  run();
  EXPECT_FALSE(made);
  refuse_writes(false);
  run(seconds(2));
  ASSERT_TRUE(made);
  EXPECT_TRUE(made->has_value());
}

// ---- snapshots ----

TEST_F(FileServiceTest, SnapshotsAreInAHiddenDirectory) {
  const Handle file = create_file("a");
  ASSERT_TRUE(change(write_of(file, 0, "old")));
  std::optional<Result<pool::VolumeId>> snapshot;
  storage->create_snapshot(root.file.volume, "monday", 77,
                           [&](auto r) { snapshot = std::move(r); });
  ASSERT_TRUE(scheduler.run_until([&] { return snapshot.has_value(); }));
  ASSERT_TRUE(*snapshot);
  ASSERT_TRUE(change(write_of(file, 0, "new")));
  ASSERT_TRUE(change(Create{root.file, "b", {}, CreateMode::guarded, 0, {}}));

  const auto listed = list(root);
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->names.size(), 2u) << "it is not listed";
  auto hidden = look_up(root, ".snapshot");
  ASSERT_TRUE(hidden);
  EXPECT_EQ(hidden->inode.mode, 040555);
  EXPECT_EQ(get(hidden->file)->entries, 1u);
  auto names = list(hidden->file, 0, 10, true);
  ASSERT_TRUE(names);
  ASSERT_EQ(names->names.size(), 3u);
  EXPECT_EQ(names->names[2].name, "monday");
  EXPECT_TRUE(list(hidden->file, names->names[2].cookie)->names.empty());
  EXPECT_EQ(list(hidden->file, ~std::uint64_t{0}).error().outcome, Outcome::invalid);
  EXPECT_EQ(look_up(hidden->file, "..")->file, root);
  EXPECT_EQ(look_up(hidden->file, "sunday").error().outcome, Outcome::no_entry);
  auto monday = look_up(hidden->file, "monday");
  ASSERT_TRUE(monday);
  EXPECT_EQ(look_up(monday->file, "..")->file, hidden->file);
  EXPECT_EQ(look_up(monday->file, "b").error().outcome, Outcome::no_entry);
  auto old = look_up(monday->file, "a");
  ASSERT_TRUE(old);
  EXPECT_EQ(content(old->file, 0, 10), "old");
  EXPECT_EQ(content(file, 0, 10), "new");

  // Nothing in it changes.
  EXPECT_EQ(outcome_of(write_of(old->file, 0, "x")), Outcome::read_only);
  EXPECT_EQ(outcome_of(Remove{monday->file.file, "a", RemoveWhat::any}), Outcome::read_only);
  EXPECT_EQ(outcome_of(MakeDirectory{hidden->file.file, "x", {}}), Outcome::read_only);
  EXPECT_EQ(outcome_of(MakeDirectory{root.file, ".snapshot", {}}), Outcome::exists);
  EXPECT_EQ(outcome_of(remove_of(".snapshot")), Outcome::read_only);
  EXPECT_EQ(outcome_of(Rename{root.file, "b", root.file, ".snapshot"}), Outcome::exists);
  EXPECT_EQ(outcome_of(Rename{hidden->file.file, "monday", root.file, "x"}), Outcome::read_only);
  EXPECT_EQ(read_file(hidden->file, 0, 1).error().outcome, Outcome::is_directory);

  // Handles stay good at the partner; those of a snapshot that is deleted are stale.
  take_over();
  EXPECT_EQ(content(old->file, 0, 10), "old");
  std::optional<Result<void>> gone;
  storage->delete_snapshot(**snapshot, [&](auto r) { gone = std::move(r); });
  ASSERT_TRUE(scheduler.run_until([&] { return gone.has_value(); }));
  EXPECT_EQ(get(old->file).error().outcome, Outcome::stale);
  EXPECT_TRUE(list(hidden->file)->names.empty());
}

// ---- the online check ----

TEST_F(FileServiceTest, TheCheckLooksIntoDirectoriesAndNamesWhatIsWrong) {
  const Handle file = create_file("a");
  ASSERT_TRUE(change(MakeDirectory{root.file, "d", {0755, 0, 0}}));
  ASSERT_TRUE(change(files::Link{file.file, root.file, "second"}));
  ASSERT_TRUE(change(files::CreateVdisk{root.file.volume, 8192, {}, root.file.inode, "disk"}));
  const auto check = [this] {
    consistency_point();
    admin::PoolReply reply;
    const auto keep = [&](admin::PoolReply r) { reply = std::move(r); };
    service->pool_order({admin::PoolVerb::check, red}, keep);
    run(seconds(20));
    service->pool_order({admin::PoolVerb::status, red}, keep);
    run();
    std::string text = reply.report.at(0).check.last;
    for (const auto& problem : reply.report.at(0).problems) text += "\n" + problem;
    return text;
  };
  EXPECT_NE(check().find("0 problems"), std::string::npos) << check();
  // A file without a name, and one with more links than names.
  bool done = false;
  storage->run(
      [&](filesystem::View& view) -> Status {
        auto inode = view.inode(file.file);
        auto next = view.next_inode(root.file.volume);
        if (!inode) return std::unexpected(inode.error());
        if (!next) return std::unexpected(next.error());
        inode->links = 7;
        view.set_inode(file.file, *inode);
        inode->links = 1;
        const auto orphan = view.allocate_inode(root.file.volume);
        view.set_inode({root.file.volume, orphan}, *inode);
        return {};
      },
      [&](Result<void> r) { done = r.has_value(); });
  run();
  ASSERT_TRUE(done);
  const std::string found = check();
  const std::string first = "inode " + std::to_string(file.file.inode.value()) + " of volume files";
  EXPECT_NE(found.find("2 problems"), std::string::npos) << found;
  EXPECT_NE(found.find(first + " has the link count 7 and 2 names"), std::string::npos) << found;
  EXPECT_NE(found.find("has the link count 1 and 0 names"), std::string::npos) << found;
}

}  // namespace
}  // namespace duet::node
