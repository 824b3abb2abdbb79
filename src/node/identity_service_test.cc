#include "node/identity_service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/coverage_expect.h"
#include "node/identity_bench.h"

namespace duet::node {
namespace {

using Bench = IdentityBench;
constexpr NodeId red = Bench::red, blue = Bench::blue;
constexpr const char* address = Bench::address;
constexpr std::uint64_t lun_size = Bench::lun_size;

// ---- assume ----

TEST(IdentityService, AssumesAnIdentityWithoutALog) {
  Bench b;
  EXPECT_TRUE(b.service->idle());
  b.assume(false);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.last<AssumedFact>()->replayed, 0u);
  EXPECT_TRUE(b.service->serving());
  EXPECT_TRUE(b.listening());
  EXPECT_EQ(b.shelf.registrations(0), 2u);
  auto report = b.service->report();
  EXPECT_TRUE(report.serving);
  EXPECT_GT(report.log_size, 0u);
}

TEST(IdentityService, EverythingAcknowledgedIsReplayedFromTheOwnRing) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  {
    auto client = b.client();
    ASSERT_TRUE(client.logged_in());
    for (std::uint32_t i = 0; i < 8; ++i) {
      auto written = client.write(i * 8, static_cast<char>('a' + i));
      ASSERT_TRUE(written && written->good()) << i;
    }
  }
  b.start_engine(red);
  EXPECT_FALSE(b.listening());
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_GE(b.last<AssumedFact>()->replayed, 8u);
  auto client = b.client();
  ASSERT_TRUE(client.logged_in());
  for (std::uint32_t i = 0; i < 8; ++i) {
    auto read = client.read(i * 8);
    ASSERT_TRUE(read && read->good()) << i;
    EXPECT_EQ(read->data, std::string(4096, static_cast<char>('a' + i)));
  }
}

TEST(IdentityService, DyingInTheReplayReplaysFromTheBeginning) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  ASSERT_TRUE(b.client().write(0, 'x')->good());
  for (int attempt = 0; attempt < 3; ++attempt) {
    b.start_engine(red);
    b.assume(true);  // its consistency point cannot end
    EXPECT_FALSE(b.last<AssumedFact>());
    EXPECT_FALSE(b.listening()) << "nothing is served before what was replayed is on disk";
  }
  b.start_engine(red);
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'x'));
}

TEST(IdentityService, ThePartnerReplaysTheMirror) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  ASSERT_TRUE(b.client().write(8, 'm')->good());
  b.start_engine(blue);
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_GE(b.last<AssumedFact>()->replayed, 1u);
  auto client = b.client();
  EXPECT_EQ(client.read(8)->data, std::string(4096, 'm'));
  // Its own writes go without a mirror, and are safe on disk.
  EXPECT_TRUE(client.write(16, 'n')->good());
  EXPECT_EQ(b.service->report().mode, Durability::write_through);
}

TEST(IdentityService, ADamagedLogIsNamedAndNotServed) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  {
    auto client = b.client();
    for (std::uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(client.write(i * 8, 'a')->good());
  }
  b.start_engine(red);
  // In the data of the first write.
  auto ring = b.ring(b.nvram);
  std::string pattern(64, 'a');
  auto needle = std::as_bytes(std::span(pattern));
  auto found = std::ranges::search(ring, needle);
  ASSERT_FALSE(found.empty());
  found.front() ^= std::byte{1};
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("acknowledged writes may be lost"),
            std::string::npos)
      << b.last<AssumeFailedFact>()->why;
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("records"), std::string::npos);
  b.expect_nothing_left();
  // It may be tried again, with the same answer; and without the log, when the operator says so.
  b.told.clear();
  b.assume(true);
  EXPECT_TRUE(b.last<AssumeFailedFact>());
  b.told.clear();
  b.assume(false);
  EXPECT_FALSE(b.last<AssumeFailedFact>());
}

TEST(IdentityService, ALogIsLookedAtBeforeAnythingIsChanged) {
  Bench b;
  b.reservation = ports::ReservationType::write_exclusive_registrants_only;
  b.serve();
  ASSERT_TRUE(b.client().write(0, 'z')->good());
  b.refuse_writes(true);
  {
    auto client = b.client();
    for (std::uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(client.write(i * 8, 'a')->good());
  }
  b.start_engine(blue);
  auto registrations = b.shelf.registrations(0);
  CheckLogOrder order{Bench::red, b.mark.first, Epoch(b.epoch), b.mark.second};
  b.service->check_log(order);
  ASSERT_TRUE(b.last<LogCheckedFact>()) << "at once: the ring alone shows it";
  EXPECT_TRUE(b.last<LogCheckedFact>()->sound) << b.last<LogCheckedFact>()->why;
  b.told.clear();
  auto ring = b.ring(b.partner);
  std::string pattern(64, 'a');
  auto found = std::ranges::search(ring, std::as_bytes(std::span(pattern)));
  ASSERT_FALSE(found.empty());
  found.front() ^= std::byte{1};
  b.service->check_log(order);
  b.run();
  ASSERT_TRUE(b.last<LogCheckedFact>());
  EXPECT_FALSE(b.last<LogCheckedFact>()->sound);
  EXPECT_NE(b.last<LogCheckedFact>()->why.find("records"), std::string::npos)
      << b.last<LogCheckedFact>()->why;
  EXPECT_EQ(b.shelf.registrations(0), registrations) << "nothing was changed";
  EXPECT_TRUE(b.service->idle());
}

TEST(IdentityService, ADiskThatIsNotFencedIsNotTouched) {
  Bench b;
  b.serve();
  b.start_engine(blue);
  auto o = b.order(false);
  o.absent = {1};
  auto before = b.shelf.registrations(1);
  int touched = 0;
  b.shelf.media[1]->fault = [&](simulation::DiskOperation, std::uint64_t,
                                std::uint64_t) -> std::optional<ErrorCode> {
    ++touched;
    return {};
  };
  b.service->assume(o, false);
  b.run();
  // Served without it if the pool can do without, else refused by name.
  if (!b.last<AssumedFact>()) {
    ASSERT_TRUE(b.last<AssumeFailedFact>());
    EXPECT_NE(b.last<AssumeFailedFact>()->why.find(b.shelf.disks()[1]->name()), std::string::npos)
        << b.last<AssumeFailedFact>()->why;
  }
  EXPECT_EQ(touched, 0);
  EXPECT_EQ(b.shelf.registrations(1), before);
  if (!b.last<AssumedFact>()) return;
  b.service->disk_returned(1);
  b.run();
  EXPECT_EQ(b.shelf.registrations(1), before + 1);
}

TEST(IdentityService, AFailedAttemptLeavesNoWriteBehind) {
  EXPECT_MARK(assume_failed_while_writing);
  Bench b;
  using simulation::DiskOperation;
  b.shelf.media[0]->latency = [](DiskOperation what, auto, auto) {
    return what == DiskOperation::write ? std::optional<Duration>(milliseconds(700)) : std::nullopt;
  };
  b.shelf.media[1]->fault = [](DiskOperation what, auto, auto) {
    return what == DiskOperation::write ? std::optional(ErrorCode::reservation_conflict)
                                        : std::nullopt;
  };
  b.service->assume(b.order(false), false);
  bool written = false;
  while (!b.last<AssumeFailedFact>()) {
    ASSERT_TRUE(b.scheduler.step());
    written |= b.disks[0]->writing();
  }
  EXPECT_TRUE(written);
  EXPECT_FALSE(b.disks[0]->writing());
  b.expect_nothing_left();
}

TEST(IdentityService, WithoutAnyFencedDiskNothingIsServed) {
  Bench b;
  auto o = b.order(false);
  o.absent = {0, 1};
  b.service->assume(o, false);
  b.run();
  EXPECT_TRUE(b.last<AssumeFailedFact>());
  b.assume(false);
  EXPECT_TRUE(b.last<AssumedFact>());
}

// What is served supersedes what was being prepared: nobody waits for that answer any more.
TEST(IdentityService, AnOrderToAssumeOvertakesThePreparation) {
  Bench b;
  b.serve();
  b.start_engine(blue);
  b.reservation = ports::ReservationType::write_exclusive_registrants_only;
  auto o = b.order(false);
  b.service->prepare();
  b.service->assume(o, false);
  b.run();
  EXPECT_TRUE(b.last<AssumedFact>());
  EXPECT_FALSE(b.last<PreparedFact>());
  b.service->prepare();
  b.run();
  ASSERT_TRUE(b.last<PreparedFact>());
  EXPECT_FALSE(b.last<PreparedFact>()->prepared) << "it is served";
}

// What lies before the consistency point does not matter: the disks say where that is.
TEST(IdentityService, DamageBeforeTheConsistencyPointIsNone) {
  Bench b;
  b.reservation = ports::ReservationType::write_exclusive_registrants_only;
  b.serve();
  auto control = nvlog::read_control_block(b.partner.region(), b.layout, red);
  {
    auto client = b.client();
    for (std::uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(client.write(i * 8, 'a')->good());
  }
  b.storage->start_consistency_point();
  b.run();
  b.start_engine(blue);
  // As if the control block had not followed.
  auto ring = b.ring(b.partner);
  std::string pattern(64, 'a');
  auto found = std::ranges::search(ring, std::as_bytes(std::span(pattern)));
  ASSERT_FALSE(found.empty());
  found.front() ^= std::byte{1};
  control.generation = 1000000;
  auto bytes = nvlog::encode(control);
  auto at = b.layout.control_block(red, 0);
  std::ranges::copy(bytes, b.partner.region().subspan(at.offset).begin());
  b.service->check_log({red, b.mark.first, Epoch(b.epoch), b.mark.second});
  EXPECT_FALSE(b.last<LogCheckedFact>()) << "the disks are asked";
  b.run();
  ASSERT_TRUE(b.last<LogCheckedFact>());
  EXPECT_TRUE(b.last<LogCheckedFact>()->sound) << b.last<LogCheckedFact>()->why;
  b.assume(true);
  EXPECT_TRUE(b.last<AssumedFact>());
}

// A resumed takeover: the log is our own, though the identity is the partner's; and the other way
// round the home node may have no more than the mirror.
TEST(IdentityService, WhatAHoleMeansFollowsFromWhoseLogItIsNotFromWhoseIdentity) {
  for (NodeId node : {red, blue}) {
    for (bool own : {false, true}) {
      Bench b;
      b.reservation = ports::ReservationType::write_exclusive_registrants_only;
      b.serve();
      b.refuse_writes(true);
      b.mirror.hold();
      auto client = b.client();
      client.patience = milliseconds(1);
      for (std::uint32_t i = 0; i < 3; ++i) {
        EXPECT_FALSE(client.write(i * 8, static_cast<char>('1' + i)));
      }
      std::string pattern(64, '2');
      auto ours = b.ring(b.nvram), theirs = b.ring(b.partner);
      auto found = std::ranges::search(ours, std::as_bytes(std::span(pattern)));
      ASSERT_FALSE(found.empty());
      found.front() = std::byte{0};
      std::ranges::copy(ours, theirs.begin());
      b.start_engine(node);
      b.refuse_writes(false);
      CheckLogOrder look{red, b.mark.first, Epoch(b.epoch), b.mark.second, own};
      b.service->check_log(look);
      b.run();
      ASSERT_TRUE(b.last<LogCheckedFact>());
      EXPECT_EQ(b.last<LogCheckedFact>()->sound, own);
      auto order = b.order(true);
      order.own_log = own;
      b.service->assume(order, false);
      b.run();
      EXPECT_EQ(b.last<AssumedFact>() != nullptr, own) << int{node.value()};
      EXPECT_EQ(b.last<AssumeFailedFact>() == nullptr, own) << int{node.value()};
    }
  }
}

TEST(IdentityService, AHoleInTheMirrorIsDamageThoughNothingProvesALoss) {
  Bench b;
  b.serve();
  b.refuse_writes(true);
  b.mirror.hold();
  auto client = b.client();
  client.patience = milliseconds(1);
  EXPECT_FALSE(client.write(0, '1'));
  EXPECT_FALSE(client.write(8, '2'));
  EXPECT_FALSE(client.write(16, '3'));
  // All three reached the partner's NVRAM in the end, but for the second, torn.
  auto ours = b.ring(b.nvram), theirs = b.ring(b.partner);
  std::ranges::copy(ours, theirs.begin());
  std::string pattern(64, '2');
  auto found = std::ranges::search(theirs, std::as_bytes(std::span(pattern)));
  ASSERT_FALSE(found.empty());
  found.front() = std::byte{0};
  b.start_engine(blue);
  b.refuse_writes(false);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("damaged"), std::string::npos);
  b.expect_nothing_left();
}

// A valid record of a kind that nobody knows.
TEST(IdentityService, AnUnknownRecordFailsTheReplayInsteadOfHangingIt) {
  Bench b;
  b.serve();
  b.append_to_log({static_cast<nvlog::RecordKind>(99), {}, {}});
  b.assume(true);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("cannot be applied"), std::string::npos)
      << b.last<AssumeFailedFact>()->why;
  b.expect_nothing_left();
}

TEST(IdentityService, AWrongHolderFailsAndLeavesNoRegistration) {
  Bench b;
  auto order = b.order(false);
  b.shelf.reserve(blue, Epoch(9));  // took it in between
  b.service->assume(order, false);
  b.run();
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("disk shelf1/"), std::string::npos);
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("node 2 supervisor"), std::string::npos)
      << b.last<AssumeFailedFact>()->why;
  EXPECT_FALSE(b.last<AssumedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, AShelfOfSomebodyElseFails) {
  Bench b;
  b.shelf.labels[1].owner = blue;
  b.shelf.write_label(1);
  b.assume(false);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("shelf1/1"), std::string::npos);
  b.expect_nothing_left();
}

TEST(IdentityService, AnAddressThatCannotBeHadFailsAndMayBeTriedAgain) {
  Bench b;
  b.network.refuse_to_listen = true;
  b.assume(false);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find(address), std::string::npos);
  b.expect_nothing_left();
  b.network.refuse_to_listen = false;
  b.assume(false);
  EXPECT_TRUE(b.last<AssumedFact>());
  EXPECT_TRUE(b.listening());
}

TEST(IdentityService, WhatIsServedCannotBeAssumedAgain) {
  Bench b;
  b.assume(false);
  b.assume(false);
  ASSERT_TRUE(b.last<AssumeFailedFact>());
  EXPECT_NE(b.last<AssumeFailedFact>()->why.find("already"), std::string::npos);
  EXPECT_TRUE(b.service->serving());
}

TEST(IdentityService, BeingFencedIsTold) {
  Bench b;
  b.serve();
  b.shelf.reserve(blue, Epoch(9));  // preempts the engine's registration, too
  auto client = b.client();
  client.write(0, 'x');
  b.mirror.disconnect();  // write-through: a consistency point must come
  b.run();
  EXPECT_TRUE(b.last<FencedFact>());
}

TEST(IdentityService, WithoutALeaseNoReplyLeaves) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'x')->good());
  b.lease = false;
  EXPECT_FALSE(client.read(0));
  EXPECT_TRUE(client.closed());
}

// ---- release ----

TEST(IdentityService, ReleaseBringsEverythingToDiskAndLeavesNothing) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'r')->good());
  b.service->release();
  b.run();
  EXPECT_TRUE(b.last<ReleasedFact>());
  EXPECT_FALSE(b.last<ReleaseFailedFact>());
  EXPECT_TRUE(client.closed());
  b.expect_nothing_left();
  // Without any log all is there, at the other node.
  b.start_engine(blue);
  b.assume(false);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'r'));
}

TEST(IdentityService, WhatWasReleasedCanBeAssumedAgainByTheSameEngine) {
  Bench b;
  b.serve();
  ASSERT_TRUE(b.client().write(0, 'r')->good());
  b.service->release();
  b.run();
  ASSERT_TRUE(b.last<ReleasedFact>());
  b.assume(false);
  EXPECT_EQ(b.count<AssumedFact>(), 2u);
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'r'));
}

TEST(IdentityService, WhileItDrainsNewCommandsWaitAndThenTheirClientComesBack) {
  Bench b;
  b.serve();
  auto client = b.client();
  b.start_slow_read(client, seconds(3));
  b.service->release();
  b.run();
  EXPECT_FALSE(b.listening());
  EXPECT_FALSE(b.last<ReleasedFact>());
  EXPECT_FALSE(client.write(0, 'e')) << "received, but not begun";
  EXPECT_FALSE(client.closed());
  b.run(seconds(4));
  EXPECT_TRUE(b.last<ReleasedFact>());
  EXPECT_TRUE(client.answer()) << "the read had begun: its answer left";
  EXPECT_FALSE(client.answer());
  EXPECT_EQ(client.events(), (std::vector<std::uint8_t>{1, 3})) << "log out; session dropped";
  EXPECT_TRUE(client.closed());
  b.expect_nothing_left();
  b.slow_reads({});
  b.start_engine(blue);
  b.assume(false);
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, '\0')) << "never executed";
}

TEST(IdentityService, ACommandThatHangsMakesTheReleaseFailAndServiceGoesOn) {
  Bench b;
  b.serve();
  auto client = b.client();
  b.start_slow_read(client, seconds(30));
  b.service->release();
  b.run(IdentityService::drain_limit + seconds(1));
  ASSERT_TRUE(b.last<ReleaseFailedFact>());
  EXPECT_FALSE(b.last<ReleasedFact>());
  EXPECT_TRUE(b.service->serving());
  EXPECT_TRUE(b.listening());
  b.slow_reads({});
  EXPECT_TRUE(client.write(0, 'w')->good());
  EXPECT_TRUE(b.client().logged_in());
  // What hung has ended: now it works.
  b.run(seconds(30));
  b.service->release();
  b.run(seconds(10));
  EXPECT_TRUE(b.last<ReleasedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, DisksThatTakeNoConsistencyPointMakeTheReleaseFail) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'w')->good());
  b.refuse_writes(true);
  b.service->release();
  b.run();
  EXPECT_TRUE(client.write(8, 'x')->good()) << "served while it flushes";
  b.run(IdentityService::release_limit);
  ASSERT_TRUE(b.last<ReleaseFailedFact>());
  EXPECT_TRUE(b.service->serving());
  EXPECT_TRUE(b.listening());
  // The next one drains as the first would have: nobody gets in.
  b.refuse_writes(false);
  b.start_slow_read(client, seconds(2));
  b.service->release();
  b.run(milliseconds(500));
  EXPECT_FALSE(b.last<ReleasedFact>());
  EXPECT_FALSE(b.listening());
  b.run(seconds(10));
  EXPECT_TRUE(b.last<ReleasedFact>());
  b.expect_nothing_left();
}

TEST(IdentityService, ReleasingTwiceReleasesOnce) {
  Bench b;
  b.serve();
  ASSERT_TRUE(b.client().write(0, 'w')->good());
  b.service->release();
  b.service->release();
  EXPECT_EQ(b.count<ReleaseFailedFact>(), 1u);
  b.run();
  EXPECT_EQ(b.count<ReleasedFact>(), 1u);
  b.service->release();
  EXPECT_EQ(b.count<ReleaseFailedFact>(), 2u);
  b.run();
  EXPECT_EQ(b.count<ReleasedFact>(), 1u);
  b.expect_nothing_left();
}

TEST(IdentityService, AnEngineThatEndsInTheMiddleIsNotCalledBack) {
  for (int steps = 0; steps < 60; ++steps) {
    Bench b;
    b.service->assume(b.order(false), false);
    for (int i = 0; i < steps; ++i) b.scheduler.step();
    b.service.reset();
    b.run();
    EXPECT_FALSE(b.listening());
  }
}

// ---- LUNs ----

TEST(IdentityService, LunsAreCreatedAndDeleted) {
  Bench b;
  b.serve();
  EXPECT_NE(b.create("data", lun_size).find("data"), std::string::npos);
  EXPECT_NE(b.create("bad name", lun_size), "");
  EXPECT_NE(b.create("huge", 1ull << 50), "");
  EXPECT_EQ(b.create("more", 8192), "");
  ASSERT_EQ(b.service->luns().size(), 2u);
  EXPECT_EQ(b.service->luns()[1].name, "more");
  EXPECT_EQ(b.service->report().luns, 2u);
  EXPECT_EQ(b.service->luns()[1].naa.size(), 16u);

  auto client = b.client();
  client.lun = 1;
  EXPECT_TRUE(client.write(0, 'm')->good() || client.write(0, 'm')->good());  // attention first
  EXPECT_EQ(b.remove("more"), "");
  EXPECT_NE(b.remove("more"), "");
  EXPECT_NE(b.remove("none"), "");
  EXPECT_EQ(b.service->luns().size(), 1u);
  EXPECT_FALSE(client.read(0)->good());
}

TEST(IdentityService, DeletingALunTwiceAtOnceDeletesItOnce) {
  Bench b;
  b.serve();
  auto client = b.client();
  b.start_slow_read(client, seconds(2));  // keeps the LUN in use
  std::vector<std::string> answers;
  auto answer = [&](Result<std::vector<LunInfo>> r) {
    answers.push_back(r ? "" : r.error().message);
  };
  b.service->delete_lun("data", answer);
  b.service->delete_lun("data", answer);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_NE(answers[0].find("already"), std::string::npos);
  b.run(seconds(5));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1], "");
  EXPECT_TRUE(b.service->luns().empty());
  EXPECT_EQ(b.create("data", lun_size), "");
}

TEST(IdentityService, TwoLunsOfOneNameAtOnceAreOne) {
  Bench b;
  b.serve();
  std::vector<bool> created;
  auto answer = [&](const Result<std::vector<LunInfo>>& r) { created.push_back(r.has_value()); };
  b.service->create_lun("twin", 4096, answer);
  b.service->create_lun("twin", 4096, answer);
  b.run();
  EXPECT_EQ(std::ranges::count(created, true), 1);
  EXPECT_EQ(b.service->luns().size(), 2u);
}

// A record in the log that breaks the rules takes its LUN offline: it is not exported then.
TEST(IdentityService, ALunThatIsOfflineCanBeDeleted) {
  Bench b;
  b.serve();
  auto poison = filesystem::encode(filesystem::ZeroRecord{b.service->luns()[0].number, 0, 4096});
  poison.words[2] = 1;
  b.append_to_log(poison);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  ASSERT_EQ(b.storage->luns().size(), 1u);
  ASSERT_FALSE(b.storage->luns()[0].offline.empty());
  EXPECT_EQ(b.remove("data"), "");
  EXPECT_TRUE(b.service->luns().empty());
}

TEST(IdentityService, WhoIsNotServingRefuses) {
  Bench b;
  EXPECT_NE(b.create("data", lun_size), "");
  EXPECT_NE(b.remove("data"), "");
  EXPECT_TRUE(b.service->luns().empty());
  EXPECT_FALSE(b.service->report().serving);
  b.service->release();
  EXPECT_TRUE(b.last<ReleaseFailedFact>());
  // And orders that come too late do no harm.
  b.service->grant({red, Durability::mirrored, {}});
  b.service->on_mirror(true);
  b.service->on_partner_down(true);
}

}  // namespace
}  // namespace duet::node
