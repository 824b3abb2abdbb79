// Planned ends and beginnings: prepare, hand over, cancel; what becomes of requests in flight.
#include <gtest/gtest.h>

#include "base/coverage.h"
#include "iscsi/stored_request.h"
#include "node/identity_bench.h"

namespace duet::node {
namespace {

using Bench = IdentityBench;
constexpr NodeId red = Bench::red, blue = Bench::blue;

// The stored requests in a log.
std::vector<iscsi::StoredRequest> stored_requests(Bench& b, simulation::FakeNvram& nvram) {
  auto control = nvlog::read_control_block(nvram.region(), b.layout, red);
  auto plan = nvlog::plan_replay(b.ring(nvram), red, control.tail, {});
  std::vector<iscsi::StoredRequest> found;
  for (std::size_t i = 0; plan && i < plan->size(); ++i) {
    auto view = plan->record(b.ring(nvram), i);
    if (view.header.kind != nvlog::RecordKind::stored_request) continue;
    auto request = iscsi::decode_stored_request(view.payload);
    EXPECT_TRUE(request);
    if (request) found.push_back(*request);
  }
  return found;
}

void hang_reads(Bench& b, TestClient& client) {
  b.start_slow_read(client, seconds(3));
}

// ---- prepare ----

TEST(Prepare, ReadsAheadWritesNothingAndIsUsedByTheAssumption) {
  Bench b;
  b.reservation = ports::ReservationType::write_exclusive_registrants_only;
  b.serve();
  auto owner = std::move(b.service);  // red's engine serves on
  auto owners_config = std::move(b.config);
  auto* owners_storage = b.storage;
  auto owners_paths = std::move(b.shelf.engine);
  auto owners_disks = std::move(b.disks);
  b.start_engine(blue);
  b.service->prepare();
  b.run();
  ASSERT_TRUE(b.last<PreparedFact>());
  EXPECT_TRUE(b.last<PreparedFact>()->prepared) << b.last<PreparedFact>()->why;
  EXPECT_TRUE(b.service->idle());
  EXPECT_NE(b.storage, owners_storage);
  EXPECT_EQ(b.storage->state(), filesystem::StorageState::read_only);
  EXPECT_EQ(b.shelf.registrations(0), 2u) << "supervisor and engine of the owner";
  b.service->prepare();
  EXPECT_EQ(b.count<PreparedFact>(), 2u);
}

TEST(Prepare, WhatChangedSinceIsReadAgain) {
  Bench b;
  b.reservation = ports::ReservationType::write_exclusive_registrants_only;
  b.serve();
  b.start_engine(blue);
  b.service->prepare();
  b.run();
  ASSERT_TRUE(b.last<PreparedFact>()->prepared);
  auto waiting = std::move(b.service);
  auto waiting_config = std::move(b.config);
  auto paths = std::move(b.shelf.engine);
  auto disks = std::move(b.disks);
  auto* prepared_storage = b.storage;
  // The owner goes on: a new LUN, data in its last consistency point, and data in its log only.
  b.start_engine(red);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  ASSERT_EQ(b.create("late", 8192), "");
  {
    auto client = b.client();
    ASSERT_TRUE(client.write(0, 'c')->good());
    b.storage->start_consistency_point();
    b.run();
    b.refuse_writes(true);
    ASSERT_TRUE(client.write(8, 'l')->good());
  }
  b.service = std::move(waiting);
  b.config = std::move(waiting_config);
  b.disks = std::move(disks);
  b.shelf.engine = std::move(paths);
  b.self = blue;
  b.storage = prepared_storage;
  b.refuse_writes(false);
  b.told.clear();
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.service->luns().size(), 2u);
  auto client = b.client();
  EXPECT_EQ(client.read(0)->data, std::string(4096, 'c'));
  EXPECT_EQ(client.read(8)->data, std::string(4096, 'l'));
}

TEST(Prepare, FailsCleanlyAndMayBeTriedAgain) {
  Bench b;
  b.shelf.labels[1].owner = blue;
  b.shelf.write_label(1);
  b.service->prepare();
  b.run();
  ASSERT_TRUE(b.last<PreparedFact>());
  EXPECT_FALSE(b.last<PreparedFact>()->prepared);
  EXPECT_NE(b.last<PreparedFact>()->why.find("shelf1/1"), std::string::npos);
  b.shelf.labels[1].owner = red;
  b.shelf.write_label(1);
  b.service->prepare();
  b.run();
  EXPECT_TRUE(b.last<PreparedFact>()->prepared);
}

TEST(Prepare, DisksThatHangEndItAtItsLimit) {
  Bench b;
  b.slow_reads(seconds(60));
  b.service->prepare();
  b.run(IdentityService::prepare_limit + seconds(1));
  ASSERT_TRUE(b.last<PreparedFact>());
  EXPECT_FALSE(b.last<PreparedFact>()->prepared);
  b.slow_reads({});
  b.run(seconds(60));  // the late answers do no harm
  EXPECT_EQ(b.count<PreparedFact>(), 1u);
  b.assume(false);
  EXPECT_TRUE(b.last<AssumedFact>());
}

TEST(Prepare, DroppedAtAnyStepItLeavesNothing) {
  for (int steps = 0; steps < 30; ++steps) {
    Bench b;
    b.service->prepare();
    for (int i = 0; i < steps; ++i) b.scheduler.step();
    b.service->drop_prepared();
    b.run();
    b.expect_nothing_left_but(1);
    b.assume(false);
    EXPECT_TRUE(b.last<AssumedFact>()) << steps;
  }
}

TEST(Prepare, AssumingInTheMiddleOfItStartsAfresh) {
  for (int steps = 0; steps < 30; ++steps) {
    Bench b;
    b.service->prepare();
    for (int i = 0; i < steps; ++i) b.scheduler.step();
    b.assume(false);
    EXPECT_TRUE(b.last<AssumedFact>()) << steps;
    EXPECT_TRUE(b.service->serving());
  }
}

TEST(Prepare, WarmingUpIsUnaskedAndUnanswered) {
  Bench b;
  b.service->warm_up();
  b.run();
  EXPECT_FALSE(b.last<PreparedFact>());
  EXPECT_EQ(b.storage->state(), filesystem::StorageState::read_only);
  b.assume(false);
  EXPECT_TRUE(b.last<AssumedFact>());
  // Kept out by the partner: nothing comes of it, and nothing is told.
  Bench kept_out;
  kept_out.shelf.reserve(blue, Epoch(1));
  kept_out.service->warm_up();
  kept_out.run();
  EXPECT_TRUE(kept_out.told.empty());
  kept_out.assume(false);
  EXPECT_TRUE(kept_out.last<AssumedFact>());
}

TEST(Prepare, WhatIsServedIsNotPrepared) {
  Bench b;
  b.serve();
  b.service->prepare();
  ASSERT_TRUE(b.last<PreparedFact>());
  EXPECT_FALSE(b.last<PreparedFact>()->prepared);
  b.service->drop_prepared();
  EXPECT_TRUE(b.service->serving());
}

// ---- hand over ----

TEST(HandOver, TheLastWritesAreReplayedByThePartner) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'h')->good());
  b.service->hand_over();
  b.run();
  ASSERT_TRUE(b.last<HandedOverFact>());
  EXPECT_EQ(b.last<HandedOverFact>()->stored, 0u);
  EXPECT_TRUE(client.closed());
  EXPECT_EQ(client.events(), (std::vector<std::uint8_t>{1, 3}));
  EXPECT_FALSE(b.listening());
  b.start_engine(blue);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(b.client().read(0)->data, std::string(4096, 'h'));
}

// What has begun is answered; what has not is in both logs, dropped by the partner, and executed
// once, when its client sends it again.
TEST(HandOver, RequestsThatHaveNotBegunAreStoredInBothNvramsAndExecutedOnce) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(16, '0', 1)->good());
  hang_reads(b, client);
  b.service->hand_over();
  b.run();
  EXPECT_FALSE(b.last<HandedOverFact>()) << "a read has begun and has not ended";
  client.start_compare_and_write(16, '0', '1');
  auto compare_tag = client.last_task();
  client.start_write(8, 'w');
  b.run(seconds(4));
  ASSERT_TRUE(b.last<HandedOverFact>());
  EXPECT_EQ(b.last<HandedOverFact>()->stored, 2u);
  EXPECT_TRUE(client.answer()) << "of the read";
  EXPECT_FALSE(client.answer());
  for (auto* nvram : {&b.nvram, &b.partner}) {
    auto stored = stored_requests(b, *nvram);
    ASSERT_EQ(stored.size(), 2u);
    EXPECT_EQ(stored[0].initiator_name, iscsi::testing::initiator_name);
    EXPECT_EQ(stored[0].initiator_task_tag, compare_tag);
    EXPECT_EQ(stored[0].cdb[0], 0x89);
    EXPECT_EQ(stored[1].cdb[0], 0x2a);
    EXPECT_EQ(stored[1].relative_target_port, 1);
  }
  b.slow_reads({});
  auto dropped = coverage::count("stored_request_dropped");
  b.start_engine(blue);
  b.assume(true);
  ASSERT_TRUE(b.last<AssumedFact>());
  EXPECT_EQ(coverage::count("stored_request_dropped"), dropped + 2);
  auto again = b.client();
  EXPECT_EQ(again.read(16, 1)->data, std::string(512, '0')) << "not executed by the replay";
  again.start_compare_and_write(16, '0', '1');
  EXPECT_TRUE(again.answer()->good());
  EXPECT_EQ(again.read(16, 1)->data, std::string(512, '1'));
}

TEST(HandOver, AWriteWhoseDataIsNotAllHereIsStoredAndAskedForNoMore) {
  Bench b;
  b.serve();
  auto client = b.client();
  hang_reads(b, client);
  b.service->hand_over();
  b.run(milliseconds(100));
  client.start_write_without_data(0, 2048);  // 1 MiB: needs ready to transfer
  b.run(seconds(4));
  ASSERT_TRUE(b.last<HandedOverFact>());
  EXPECT_EQ(b.last<HandedOverFact>()->stored, 1u);
  EXPECT_EQ(client.transfers_asked_for(), 0u);
}

TEST(HandOver, WithoutAMirrorRequestsAreForgotten) {
  Bench b;
  b.serve();
  auto client = b.client();
  hang_reads(b, client);
  b.service->hand_over();
  b.run();
  client.start_write(8, 'w');
  b.mirror.disconnect();
  b.run(seconds(4));
  ASSERT_TRUE(b.last<HandedOverFact>());
  EXPECT_EQ(b.last<HandedOverFact>()->stored, 0u);
  EXPECT_TRUE(stored_requests(b, b.partner).empty());
}

TEST(HandOver, AMirrorThatHangsDelaysItByALimitOnly) {
  Bench b;
  b.serve();
  auto client = b.client();
  hang_reads(b, client);
  b.service->hand_over();
  b.run();
  client.start_write(8, 'w');
  b.mirror.hold();
  b.run(milliseconds(2000));
  EXPECT_FALSE(b.last<HandedOverFact>());
  b.run(IdentityService::store_limit + milliseconds(500));
  ASSERT_TRUE(b.last<HandedOverFact>());
  EXPECT_EQ(b.last<HandedOverFact>()->stored, 0u);
}

TEST(HandOver, CancelledWhileItDrainsTheSameSessionGoesOn) {
  Bench b;
  b.serve();
  auto client = b.client();
  hang_reads(b, client);
  b.service->hand_over();
  b.run(milliseconds(500));
  client.start_write(8, 'w');
  client.start_compare_and_write(64, '\0', 'x');
  b.run(milliseconds(500));
  EXPECT_FALSE(b.listening());
  b.service->cancel_hand_over();
  ASSERT_TRUE(b.last<HandOverFailedFact>());
  EXPECT_EQ(b.last<HandOverFailedFact>()->why, "cancelled");
  b.slow_reads({});
  b.run(seconds(3));
  EXPECT_FALSE(b.last<HandedOverFact>());
  EXPECT_TRUE(b.listening());
  EXPECT_FALSE(client.closed());
  int good = 0;
  while (auto answer = client.answer()) good += answer->good() ? 1 : 0;
  EXPECT_EQ(good, 3) << "the read, and what had waited";
  EXPECT_EQ(client.read(8)->data, std::string(4096, 'w'));
  EXPECT_TRUE(client.events().empty());
  EXPECT_TRUE(b.client().logged_in());
  // And again, to the end.
  b.service->hand_over();
  b.run();
  EXPECT_TRUE(b.last<HandedOverFact>());
}

TEST(HandOver, CancelledAtAnyStepItIsServedOrHandedOverNothingBetween) {
  int cancelled = 0, too_late = 0;
  for (int steps = 0; steps < 60; ++steps) {
    Bench b;
    b.serve();
    auto client = b.client();
    ASSERT_TRUE(client.write(0, 'a')->good());
    client.start_write(8, 'b');
    b.service->hand_over();
    for (int i = 0; i < steps; ++i) b.scheduler.step();
    b.service->cancel_hand_over();
    b.run();
    if (b.last<HandOverFailedFact>()) {
      ++cancelled;
      EXPECT_FALSE(b.last<HandedOverFact>());
      EXPECT_TRUE(b.service->serving());
      EXPECT_TRUE(b.listening());
      auto other = b.client();
      ASSERT_TRUE(other.logged_in()) << steps;
      EXPECT_EQ(other.read(0)->data, std::string(4096, 'a'));
    } else {
      ++too_late;
      EXPECT_TRUE(b.last<HandedOverFact>());
      EXPECT_FALSE(b.listening());
      EXPECT_TRUE(b.service->idle());
    }
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_GT(too_late, 0);
}

TEST(HandOver, DisksThatTakeNoConsistencyPointDoNotStopTheService) {
  Bench b;
  b.serve();
  auto client = b.client();
  ASSERT_TRUE(client.write(0, 'w')->good());
  b.refuse_writes(true);
  b.service->hand_over();
  b.run(seconds(20));
  EXPECT_TRUE(client.write(8, 'x')->good()) << "served while it flushes";
  EXPECT_TRUE(b.listening());
  b.service->cancel_hand_over();
  EXPECT_TRUE(b.last<HandOverFailedFact>());
  EXPECT_TRUE(b.service->serving());
}

TEST(HandOver, OrdersThatDoNotFitAreAnsweredAndChangeNothing) {
  Bench b;
  b.service->hand_over();
  EXPECT_EQ(b.count<HandOverFailedFact>(), 1u);
  b.service->cancel_hand_over();
  EXPECT_EQ(b.count<HandOverFailedFact>(), 2u);
  b.serve();
  b.service->cancel_hand_over();
  EXPECT_EQ(b.count<HandOverFailedFact>(), 3u);
  b.service->hand_over();
  b.service->release();
  EXPECT_TRUE(b.last<ReleaseFailedFact>());
  b.run();
  ASSERT_TRUE(b.last<HandedOverFact>());
  b.service->cancel_hand_over();  // too late
  b.service->hand_over();
  EXPECT_EQ(b.count<HandedOverFact>(), 3u);
  // The next owner failed: this engine may assume it again.
  b.assume(true);
  EXPECT_TRUE(b.last<AssumedFact>());
}

TEST(HandOver, AnEngineThatEndsInTheMiddleIsNotCalledBack) {
  for (int steps = 0; steps < 60; ++steps) {
    Bench b;
    b.serve();
    auto client = b.client();
    client.start_write(8, 'b');
    b.service->hand_over();
    for (int i = 0; i < steps; ++i) b.scheduler.step();
    b.service.reset();
    b.run();
    EXPECT_FALSE(b.listening());
  }
}

}  // namespace
}  // namespace duet::node
