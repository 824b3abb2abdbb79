#include "coredump/release.h"

#include <gtest/gtest.h>

namespace duet::coredump {
namespace {

constexpr DiskId the_disk{{0xa0}};
constexpr Instant start{seconds(1000)};
const FailedNode node{ClusterId(77), NodeId(1), Epoch(7), BootNonce(5)};
const ReleaseLimits limits;

Header header(Attribute attribute, std::uint64_t sequence = 1) {
  Header h;
  h.sequence = sequence;
  h.cluster = node.cluster;
  h.disk = the_disk;
  h.attribute = attribute;
  h.node = node.node;
  h.limit = seconds(60);
  h.epoch = node.epoch;
  h.boot_nonce = *node.boot_nonce;
  return h;
}

constexpr Writer writers[] = {Writer::panicking, Writer::silent, Writer::gone};

struct Release : ::testing::Test {
  DiskRelease release{the_disk, node, limits, start};
  Decision at(Duration after, Writer writer = Writer::panicking, bool needed = false) const {
    return release.may_take(writer, needed, start + after);
  }
  Decision leave_until(Duration after) const { return {Take::leave, start + after}; }
  Decision take(Take why) const { return {why, {}}; }
};

TEST_F(Release, RedundancyBeatsEverything) {
  for (Writer w : writers) EXPECT_EQ(at({}, w, true), take(Take::needed));
  for (int a = 1; a <= 4; ++a) {
    release.on_header(header(static_cast<Attribute>(a), static_cast<std::uint64_t>(a)), start);
    for (Writer w : writers) EXPECT_EQ(at({}, w, true), take(Take::needed));
  }
}

TEST_F(Release, FinishedIsTakenAtOnce) {
  for (Attribute a : {Attribute::completed, Attribute::aborted}) {
    DiskRelease r(the_disk, node, limits, start);
    r.on_header(header(a), start);
    for (Writer w : writers) EXPECT_EQ(r.may_take(w, false, start), take(Take::finished));
  }
}

TEST_F(Release, ActiveIsLeftUnlessTheWriterIsGone) {
  release.on_header(header(Attribute::active), start);
  EXPECT_EQ(at({}, Writer::panicking), leave_until(limits.stall_limit));
  EXPECT_EQ(at({}, Writer::silent), leave_until(limits.stall_limit));
  EXPECT_EQ(at({}, Writer::gone), take(Take::writer_gone));
  EXPECT_EQ(release.header()->sequence, 1U);
}

TEST_F(Release, AStandingSequenceIsAStalledDump) {
  release.on_header(header(Attribute::active, 1), start);
  release.on_header(header(Attribute::active, 2), start + seconds(4));
  EXPECT_EQ(at(seconds(8)), leave_until(seconds(9)));
  release.on_header(header(Attribute::active, 2), start + seconds(8));
  release.on_header(header(Attribute::active, 1), start + seconds(8));  // overtaken
  EXPECT_EQ(at(seconds(9)), take(Take::stalled));
}

TEST_F(Release, TheSmallerLimitEndsEvenALivelyDump) {
  for (bool own : {true, false}) {
    ReleaseLimits l;
    l.own_limit = own ? seconds(20) : seconds(90);
    DiskRelease r(the_disk, node, l, start);
    Duration end = own ? seconds(20) : seconds(60);
    // First seen 1 s after the panic; the limit counts from there.
    for (std::uint64_t s = 1; seconds(s) < end + seconds(1); ++s) {
      r.on_header(header(Attribute::active, s), start + seconds(s));
      auto d = r.may_take(Writer::panicking, false, start + seconds(s));
      ASSERT_EQ(d.take, Take::leave) << s;
      ASSERT_LE(d.until, start + seconds(1) + end);
    }
    r.on_header(header(Attribute::active, 99), start + end + seconds(1));
    EXPECT_EQ(r.may_take(Writer::panicking, false, start + end + seconds(1)),
              take(Take::limit_over));
  }
}

TEST_F(Release, AHeaderThatFlickersGainsNoTime) {
  for (std::uint64_t s = 0; s < 60; ++s) {
    release.on_header(header(Attribute::active, s + 1), start + seconds(s));
    release.on_header(fail(ErrorCode::invalid, "damaged"), start + seconds(s));
  }
  release.on_header(header(Attribute::active, 100), start + seconds(60));
  EXPECT_EQ(at(seconds(60)), take(Take::limit_over));
}

TEST_F(Release, NothingActiveIsWaitedForDuringTheGraceOnly) {
  auto old_epoch = header(Attribute::active);
  old_epoch.epoch = Epoch(6);
  auto old_boot = header(Attribute::active);
  old_boot.boot_nonce = BootNonce(4);
  auto other_node = header(Attribute::active);
  other_node.node = NodeId(2);
  auto other_disk = header(Attribute::active);
  other_disk.disk = DiskId{{0xa1}};
  auto other_cluster = header(Attribute::active);
  other_cluster.cluster = ClusterId(78);
  const Result<Header> none_active[] = {header(Attribute::inactive),
                                        old_epoch,
                                        old_boot,
                                        other_node,
                                        other_disk,
                                        other_cluster,
                                        fail(ErrorCode::not_found, "none"),
                                        fail(ErrorCode::invalid, "damaged"),
                                        fail(ErrorCode::io_error, "medium"),
                                        fail(ErrorCode::unsupported_version, "newer")};
  for (const auto& h : none_active) {
    DiskRelease r(the_disk, node, limits, start);
    r.on_header(h, start);
    EXPECT_EQ(r.may_take(Writer::panicking, false, start), leave_until(limits.mark_grace));
    EXPECT_EQ(r.may_take(Writer::panicking, false, start + limits.mark_grace), take(Take::no_dump));
    EXPECT_EQ(r.may_take(Writer::silent, false, start), take(Take::no_dump));
    EXPECT_EQ(r.may_take(Writer::gone, false, start), take(Take::no_dump));
    // Active within the grace, after such a look.
    r.on_header(header(Attribute::active, 2), start + seconds(1));
    EXPECT_EQ(r.may_take(Writer::panicking, false, start + seconds(3)), leave_until(seconds(6)));
  }
}

TEST_F(Release, NeverReadIsNotActive) {
  EXPECT_EQ(at({}), leave_until(limits.mark_grace));
  EXPECT_EQ(at(limits.mark_grace), take(Take::no_dump));
  EXPECT_EQ(at({}, Writer::silent), take(Take::no_dump));
}

TEST_F(Release, WithoutAKnownBootAnyOfThatEpochCounts) {
  FailedNode unknown = node;
  unknown.boot_nonce.reset();
  DiskRelease r(the_disk, unknown, limits, start);
  auto h = header(Attribute::active);
  h.boot_nonce = BootNonce(123);
  h.epoch = Epoch(8);  // newer than the mailbox that was read
  r.on_header(h, start);
  EXPECT_EQ(r.may_take(Writer::silent, false, start).take, Take::leave);
}

// Every interleaving of looks and writer, over every attribute: an answer that leaves the disk
// always names an instant, and the disk is free there at the latest (C4).
TEST_F(Release, WhateverIsSeenTheWaitIsBounded) {
  for (int seen = 0; seen <= 4; ++seen) {
    for (Writer w : writers) {
      DiskRelease r(the_disk, node, limits, start);
      Instant now = start;
      std::uint64_t sequence = 1;
      int asked = 0;
      for (;; ++asked) {
        if (seen > 0) r.on_header(header(static_cast<Attribute>(seen), sequence++), now);
        auto d = r.may_take(w, false, now);
        if (d.take != Take::leave) break;
        ASSERT_GT(d.until, now);
        now = d.until;
      }
      EXPECT_LE(now, start + limits.own_limit);
      EXPECT_LE(asked, 13);
    }
  }
}

TEST(ReleaseNames, AreAllThere) {
  for (int t = 0; t <= 6; ++t) EXPECT_NE(name(static_cast<Take>(t)), "?");
  EXPECT_EQ(name(static_cast<Take>(7)), "?");
}

}  // namespace
}  // namespace duet::coredump
