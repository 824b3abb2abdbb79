// Random file operations against a reference, while nodes fail, take over, give back and start
// again; consistency points, snapshots and LUN writes come in between. What a client may have been
// promised must be there, and requests that are sent again are executed once.
//
// DUET_MODEL_MINUTES=M goes on, with other seeds, for M minutes.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>

#include "base/sanitized.h"
#include "files/random_requests_fixture.h"
#include "node/file_bench.h"

namespace duet::node {
namespace {

constexpr std::uint64_t operations = sanitized ? 20'000 : 500'000;

using files::Handle;
using files::Outcome;
using files::Reference;
using files::RequestId;
using filesystem::FileType;
using filesystem::InodeNumber;

class FileModel : public testing::Test, protected FileBench, protected files::RandomRequests {
 protected:
  using FileBench::root;

  void begin(std::uint64_t seed) {
    random.seed(seed);
    serve_files();
    volume = root.file.volume;
    Reference::Node& top = reference.nodes.at(2);
    top.accessed = top.modified = top.changed = top.created = 0;
    top.changes = 0;
    scheduler.run_for(milliseconds(1));
  }
  Handle handle_of(std::uint64_t number) {
    return {{volume, InodeNumber(number)}, reference.nodes.at(number).created};
  }

  // ---- one request ----
  struct Sent {
    files::Request request;
    RequestId id;
  };
  void check(const Sent& sent, const Attempt<files::Changed>& answer, bool maybe_repeated) {
    const Outcome outcome = answer ? Outcome::ok : answer.error().outcome;
    if (outcome == Outcome::no_space) {  // the reference has no bounds
      ++full;
      return;
    }
    if (outcome == Outcome::read_only) {  // inode 1: the hidden directory
      ++hidden;
      return;
    }
    ASSERT_NE(outcome, Outcome::busy);
    ASSERT_NE(outcome, Outcome::not_served);
    const Outcome expected = reference.run(sent.request, answer ? answer->time : 0);
    ASSERT_EQ(files::name(outcome), files::name(expected))
        << (answer ? "" : answer.error().message);
    if (!answer) return;
    ++done[sent.request.index()];
    ASSERT_EQ(answer->file.file.inode.value(), reference.number);
    if (answer->repeated) {
      ASSERT_TRUE(maybe_repeated);
      ++executed_before;
    }
    for (const auto& change : answer->changes) {
      if (change.after.type == FileType::none || change.after.type == FileType::attributes) {
        continue;
      }
      compare_inode(change.after, change.file.inode.value());
    }
    if (!answer->changes.empty() || answer->repeated) remember(sent);
  }
  void remember(const Sent& sent) {
    latest.push_back(sent);
    if (latest.size() > 64) latest.pop_front();
  }
  void send(bool maybe_repeated = false) {
    Sent sent{some_request(), id_of(++xid)};
    check(sent, change(sent.request, sent.id), maybe_repeated);
  }
  // A client that has not heard: it asks again, and nothing happens.
  void send_again() {
    if (latest.empty()) return;
    const Sent& sent = latest[pick(latest.size())];
    auto again = change(sent.request, sent.id);
    ASSERT_TRUE(again) << files::name(again.error().outcome);
    ASSERT_TRUE(again->repeated) << "xid " << sent.id.xid << " of " << xid << ", kind "
                                 << sent.request.index();
    ++sent_again;
  }
  // Fails with a request in flight, which its client sends to whoever serves next.
  template <class Event>
  void fail_in_flight(Event event) {
    Sent sent{some_request(), id_of(++xid)};
    bool answered = false;
    store().change({sent.request, {}, sent.id}, [&](const auto&) { answered = true; });
    for (auto steps = pick(20); steps > 0 && !answered; --steps) scheduler.step();
    event();
    if (HasFatalFailure()) return;
    check(sent, change(sent.request, sent.id), true);
  }

  // ---- what happens besides ----
  void make_snapshot() {
    if (snapshots.size() == 3) {
      const auto oldest = snapshots.begin()->first;
      compare_snapshot(oldest);
      snapshots.erase(oldest);
      std::optional<Result<void>> gone;
      storage->delete_snapshot(oldest, [&](auto r) { gone = std::move(r); });
      ASSERT_TRUE(scheduler.run_until([&] { return gone.has_value(); }));
      ASSERT_TRUE(*gone) << gone->error().message;
    }
    std::optional<Result<pool::VolumeId>> made;
    storage->create_snapshot(volume, "s" + std::to_string(xid), 1,
                             [&](auto r) { made = std::move(r); });
    ASSERT_TRUE(scheduler.run_until([&] { return made.has_value(); }));
    ASSERT_TRUE(*made) << made->error().message;
    snapshots[**made] = reference;
  }
  void compare_snapshot(pool::VolumeId id) {
    std::swap(reference, snapshots.at(id));
    const auto live = std::exchange(volume, id);
    compare_all();
    volume = live;
    std::swap(reference, snapshots.at(id));
    ++snapshots_compared;
  }
  void write_lun() {
    auto client = this->client();
    const auto lba = static_cast<std::uint32_t>(8 * pick(64));
    const char c = static_cast<char>('a' + pick(26));
    ASSERT_TRUE(client.write(lba, c)->good());
    lun[lba] = c;
  }
  void compare_lun() {
    auto client = this->client();
    for (const auto& [lba, c] : lun) ASSERT_EQ(client.read(lba)->data, std::string(4096, c));
  }
  void happen() {
    switch (pick(12)) {
      case 0:
      case 1:
        storage->start_consistency_point();  // under way with what follows
        break;
      case 2:
        consistency_point();
        break;
      case 3:
        make_snapshot();
        break;
      case 4:
        if (!snapshots.empty()) compare_snapshot(snapshots.begin()->first);
        break;
      case 5:
      case 6:
        write_lun();
        break;
      case 7:
        fail_in_flight([this] { reboot(); });
        ++reboots;
        break;
      case 8:
      case 9:
        if (self == red) {
          fail_in_flight([this] { take_over(); });
          ++takeovers;
          break;
        }
        give_back();
        ++givebacks;
        break;
      case 10:
        run(milliseconds(50));
        break;
      default:
        compare_all();
        compare_lun();
    }
  }

  // ---- comparing ----
  void compare_names(std::uint64_t number, const Reference::Node& node) {
    std::map<std::string, std::uint64_t> names;
    for (std::uint64_t cookie = 0;;) {
      auto part = list(handle_of(number), cookie, 7 + pick(50));
      ASSERT_TRUE(part) << files::name(part.error().outcome);
      for (const auto& name : part->names) {
        ASSERT_TRUE(names.emplace(name.name, name.inode.value()).second) << name.name;
        cookie = name.cookie;
      }
      if (part->end) break;
    }
    ASSERT_EQ(names, node.children);
  }
  void compare_all() {
    for (const auto& [number, node] : reference.nodes) {
      SCOPED_TRACE(testing::Message() << "inode " << number);
      const Handle file = handle_of(number);
      auto inode = get(file);
      ASSERT_TRUE(inode) << files::name(inode.error().outcome) << inode.error().message;
      compare_inode(*inode, number);
      if (node.type == FileType::directory) {
        compare_names(number, node);
      } else if (node.type == FileType::symlink) {
        auto target =
            ask<std::string>([&](auto answer) { store().read_symlink(file, std::move(answer)); });
        ASSERT_TRUE(target);
        ASSERT_EQ(*target, node.data);
      } else if (node.type != FileType::special) {
        ASSERT_TRUE(content(file, 0, node.data.size() + 100) == node.data);
      }
      if (node.attributes.empty()) continue;
      auto names = ask<std::vector<std::string>>(
          [&](auto answer) { store().list_attributes(file, std::move(answer)); });
      ASSERT_TRUE(names);
      ASSERT_EQ(names->size(), node.attributes.size());
      for (const auto& [name, value] : node.attributes) {
        auto read = ask<std::vector<std::byte>>(
            [&, &of = name](auto answer) { store().get_attribute(file, of, std::move(answer)); });
        ASSERT_TRUE(read);
        ASSERT_TRUE(std::ranges::equal(*read, std::as_bytes(std::span(value)))) << name;
      }
    }
    ++compared;
  }

  void go(std::uint64_t seed, std::uint64_t count) {
    begin(seed);
    for (std::uint64_t i = 0; i < count && !HasFatalFailure(); ++i) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", operation " << i);
      now = scheduler.now().time_since_epoch() / std::chrono::nanoseconds(1);
      if (one_in(60)) {
        send_again();
      } else if (one_in(300)) {
        happen();
      } else {
        send();
      }
    }
    if (HasFatalFailure()) return;
    compare_all();
    for (const auto& [id, as_of] : snapshots) compare_snapshot(id);
    sum += count;
  }

  std::map<pool::VolumeId, Reference> snapshots;
  std::map<std::uint32_t, char> lun;
  std::deque<Sent> latest;  // executed, and answered
  std::uint32_t xid = 0;
  std::map<std::size_t, std::uint64_t> done;
  std::uint64_t full = 0, hidden = 0, executed_before = 0, sent_again = 0, reboots = 0,
                takeovers = 0, givebacks = 0, compared = 0, snapshots_compared = 0, sum = 0;
};

TEST_F(FileModel, RandomOperationsFailuresAndTakeovers) {
  go(2026, operations);
  std::cout << sum << " file operations; " << takeovers << " takeovers, " << givebacks
            << " givebacks, " << reboots << " reboots, " << compared << " times compared, "
            << snapshots_compared << " snapshots; " << sent_again << " sent again, "
            << executed_before << " executed before a failure, " << full << " found it full\n";
  EXPECT_EQ(done.size(), std::variant_size_v<files::Request>);
  EXPECT_GT(takeovers, 5u);
  EXPECT_GT(givebacks, 5u);
  EXPECT_GT(reboots, 3u);
  EXPECT_GT(sent_again, 100u);
  EXPECT_GT(executed_before, 0u);
  EXPECT_LT(full, operations / 10);
}

// For a longer search: each seed a cluster of its own.
class LongFileModel : public FileModel {
 public:
  void TestBody() override {}
  using FileModel::go;
  using FileModel::sum;
};

TEST(FileModelLong, AsLongAsWanted) {
  const char* minutes = std::getenv("DUET_MODEL_MINUTES");
  if (minutes == nullptr) GTEST_SKIP() << "DUET_MODEL_MINUTES is not set";
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::minutes(std::strtoul(minutes, nullptr, 10));
  std::uint64_t sum = 0, seed = 1;
  for (; std::chrono::steady_clock::now() < end && !testing::Test::HasFatalFailure(); ++seed) {
    LongFileModel model;
    model.go(seed, 20'000);
    sum += model.sum;
  }
  std::cout << sum << " file operations of " << seed - 1 << " seeds\n";
}

}  // namespace
}  // namespace duet::node
