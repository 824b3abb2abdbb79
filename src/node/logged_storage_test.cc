#include "node/logged_storage.h"

#include <gtest/gtest.h>

#include <string>

#include "node/test_shelf.h"
#include "simulation/fake_mirror.h"
#include "simulation/fake_nvram.h"

namespace duet::node {
namespace {

using filesystem::WriteRecord;

constexpr LunNumber lun{0};
constexpr std::uint64_t block = 4096;
constexpr std::uint64_t header = 2 * 4096, overhead = 3 * 4096;  // of the region, of a section

std::vector<Slice> filled(std::uint64_t size, char c) {
  auto buffer = make_buffer(size);
  std::ranges::fill(buffer.bytes, static_cast<std::byte>(c));
  return {buffer.slice()};
}

// What became of a call: nothing yet, or how it ended.
struct Outcome {
  std::optional<Result<void>> result;
  bool ok() const { return result && result->has_value(); }
  bool failed(ErrorCode code) const { return result && !*result && result->error().code == code; }
};

struct Setup {
  bool mirror = true;
  bool persistent = true;
  bool partner_down = false;
  std::uint64_t ring = 1 << 20;
  std::uint64_t dirty_limit = 4 << 20;
};

class Bench {
 public:
  explicit Bench(Setup s = {})
      : setup(s),
        nvram(header + 2 * (overhead + s.ring), s.persistent),
        partner(nvram.region().size(), s.persistent) {
    pool::Pool::Options options;
    options.pool = shelf.labels[0].pool;
    options.disks = shelf.pool_disks();
    options.dirty_limit = s.dirty_limit;
    pool.emplace(scheduler, std::move(options));
    pool->on_consistency_point([this](const nvlog::LogPosition& position) {
      ++consistency_points;
      if (logged) logged->on_consistency_point(position);
    });
    EXPECT_TRUE(shelf.wait([&](auto done) { pool->open(std::move(done)); }));
    EXPECT_TRUE(shelf.wait([&](auto done) { pool->activate(Epoch(1), std::move(done)); }));
    LoggedStorage::Hooks hooks;
    hooks.want_durability = [this](Durability mode, LogSequence since) {
      wanted.emplace_back(mode, since);
      if (granting) grant();
    };
    hooks.failed = [](const std::string& why) { ADD_FAILURE() << why; };
    mirror.on_outgoing([this](bool up) { logged->on_mirror(up); });
    logged.emplace(scheduler, nvram, layout, NodeId(1), *pool, s.mirror ? &mirror : nullptr,
                   std::move(hooks));
  }
  // Started, one LUN, everything granted; the mirror complete if there is one.
  void start() {
    start_only();
    granting = true;
    grant();
    if (setup.mirror) mirror.connect();
    auto record = pool->prepare_create("data", 1 << 20);
    ASSERT_TRUE(record);
    Outcome created;
    logged->submit(std::move(*record), into(created));
    run();
    ASSERT_TRUE(created.ok());
    ASSERT_TRUE(logged->idle());
    granting = false;
    forget_wanted();
  }
  void forget_wanted() {
    wanted.clear();
    granted = 0;
  }
  void start_only() {
    auto started = logged->start(Epoch(1), NodeId(1), setup.partner_down);
    ASSERT_TRUE(started) << started.error().message;
  }

  void run(Duration time = seconds(1)) { scheduler.run_for(time); }
  // Everything that was posted, no time passes: no disk operation ends.
  void turn() { scheduler.run_for(Duration(0)); }
  // Not from inside the call that asked: as the supervisor answers.
  void grant() {
    scheduler.post([this] {
      if (wanted.empty() || wanted.size() == granted) return;
      granted = wanted.size();
      logged->on_grant(wanted.back().first, wanted.back().second);
    });
  }
  // Consistency points cannot end while the disks are refused.
  void refuse_disks(bool refused) {
    for (auto& medium : shelf.media) {
      medium->fault = [refused](simulation::DiskOperation operation, std::uint64_t,
                                std::uint64_t) -> std::optional<ErrorCode> {
        if (!refused || operation == simulation::DiskOperation::read) return {};
        return ErrorCode::timed_out;
      };
    }
  }

  ports::Done<void> into(Outcome& outcome) {
    return [this, &outcome](Result<void> r) {
      EXPECT_FALSE(outcome.result) << "answered twice";
      outcome.result = std::move(r);
      order.push_back(&outcome);
    };
  }
  void write(Outcome& outcome, std::uint64_t offset, char c, std::uint64_t size = block) {
    logged->submit(WriteRecord{lun, offset, filled(size, c)}, into(outcome));
  }
  // The first character of what is read; '!': an error; '?': no answer yet.
  struct Reading {
    char seen = '?';
    ErrorCode code{};
  };
  void read(Reading& reading, std::uint64_t offset, std::uint64_t size = block) {
    logged->read(lun, offset, size, [&reading](Result<std::vector<Slice>> r) {
      EXPECT_EQ(reading.seen, '?') << "answered twice";
      reading.seen = r ? std::to_integer<char>(r->front().bytes.front()) : '!';
      if (!r) reading.code = r.error().code;
    });
  }
  char read_now(std::uint64_t offset) {
    Reading reading;
    read(reading, offset);
    run();
    return reading.seen;
  }

  Setup setup;
  simulation::SimulatedScheduler scheduler;
  TestShelf shelf{scheduler, NodeId(1)};
  simulation::FakeNvram nvram, partner;
  nvlog::RegionLayout layout = *nvlog::RegionLayout::of_size(nvram.region().size());
  simulation::FakeMirror mirror{scheduler, nvram, partner};
  std::optional<pool::Pool> pool;
  std::optional<LoggedStorage> logged;
  std::vector<std::pair<Durability, LogSequence>> wanted;
  std::size_t granted = 0;
  bool granting = false;
  std::size_t consistency_points = 0;
  std::vector<const Outcome*> order;  // of the answers
};

// ---- acknowledgement ----

TEST(LoggedStorage, AcknowledgesAfterTheMirrorWriteAndNotBefore) {
  Bench b;
  b.start();
  ASSERT_EQ(b.logged->durability(), Durability::mirrored);
  b.refuse_disks(true);
  b.mirror.hold();
  Outcome write;
  b.write(write, 0, 'a');
  b.run();
  EXPECT_FALSE(write.result);
  EXPECT_EQ(b.mirror.under_way(), 1u);
  b.mirror.release();
  b.turn();
  EXPECT_TRUE(write.ok());
}

TEST(LoggedStorage, AcknowledgesNothingBeforeTheModeIsGranted) {
  Bench b;
  b.start();
  b.mirror.disconnect();
  b.run();
  b.granting = true;
  b.grant();  // write-through
  b.run();
  ASSERT_EQ(b.logged->durability(), Durability::write_through);
  b.granting = false;
  b.forget_wanted();
  b.refuse_disks(true);
  b.mirror.connect();
  Outcome write;
  b.write(write, 0, 'a');
  b.run();
  // It is in both NVRAMs, but the mailbox does not say yet that this counts.
  EXPECT_EQ(b.mirror.under_way(), 0u);
  ASSERT_EQ(b.wanted.size(), 1u);
  EXPECT_EQ(b.wanted[0].first, Durability::mirrored);
  EXPECT_FALSE(write.result);
  // A grant of something else is none.
  b.logged->on_grant(Durability::local, b.wanted[0].second);
  b.logged->on_grant(Durability::mirrored, b.wanted[0].second.next());
  b.run();
  EXPECT_FALSE(write.result);
  b.grant();
  b.turn();
  EXPECT_TRUE(write.ok());
}

TEST(LoggedStorage, NothingIsAcknowledgedAfterMirrorLossUntilTheConsistencyPoint) {
  Bench b;
  b.start();
  b.refuse_disks(true);
  Outcome before, during, after;
  b.write(before, 0, 'a');
  b.run();
  ASSERT_TRUE(before.ok());  // in both NVRAMs, not on disk
  b.mirror.hold();
  b.write(during, block, 'b');
  b.turn();
  b.mirror.disconnect();
  b.write(after, 2 * block, 'c');
  b.run();
  EXPECT_FALSE(during.result);
  EXPECT_FALSE(after.result);
  // Not even asked for: `before` would be lost with our NVRAM.
  EXPECT_TRUE(b.wanted.empty());
  b.refuse_disks(false);
  b.run();
  EXPECT_TRUE(during.ok());
  EXPECT_TRUE(after.ok());
  ASSERT_FALSE(b.wanted.empty());
  EXPECT_EQ(b.wanted[0].first, Durability::write_through);
  b.grant();
  b.run();
  EXPECT_EQ(b.logged->durability(), Durability::write_through);
  // From here on each change waits for its consistency point.
  b.refuse_disks(true);
  Outcome late;
  b.write(late, 0, 'd');
  b.run();
  EXPECT_FALSE(late.result);
  b.refuse_disks(false);
  b.run();
  EXPECT_TRUE(late.ok());
}

TEST(LoggedStorage, LocalModeAcknowledgesAtOnceAfterTheGrant) {
  Bench b({.mirror = false, .partner_down = true});
  b.start_only();
  ASSERT_EQ(b.wanted.size(), 1u);
  EXPECT_EQ(b.wanted[0].first, Durability::local);
  auto record = b.pool->prepare_create("data", 1 << 20);
  ASSERT_TRUE(record);
  b.refuse_disks(true);
  Outcome created;
  b.logged->submit(std::move(*record), b.into(created));
  b.run();
  EXPECT_FALSE(created.result);
  b.grant();
  b.turn();
  EXPECT_TRUE(created.ok());
  Outcome write;
  b.write(write, 0, 'a');
  b.turn();
  EXPECT_TRUE(write.ok());
}

TEST(LoggedStorage, VolatileNvramIsNeverLocal) {
  Bench b({.mirror = false, .persistent = false, .partner_down = true});
  b.start();
  b.refuse_disks(true);
  Outcome write;
  b.write(write, 0, 'a');
  b.run();
  EXPECT_FALSE(write.result);
  EXPECT_EQ(b.logged->durability(), Durability::write_through);
  b.refuse_disks(false);
  b.run();
  EXPECT_TRUE(write.ok());
}

TEST(LoggedStorage, APartnerThatGoesDownAllowsLocal) {
  Bench b;
  b.start();
  b.refuse_disks(true);
  Outcome before, write;
  b.write(before, 0, 'b');
  b.run();
  ASSERT_TRUE(before.ok());
  b.mirror.disconnect();
  b.write(write, 0, 'a');
  b.run();
  EXPECT_FALSE(write.result);
  ASSERT_TRUE(b.wanted.empty());
  b.logged->on_partner_down(true);
  b.turn();
  ASSERT_EQ(b.wanted.size(), 1u);
  EXPECT_EQ(b.wanted[0].first, Durability::local);
  b.grant();
  b.turn();
  EXPECT_TRUE(write.ok());
}

TEST(LoggedStorage, AFailedMirrorWriteIsAMirrorLost) {
  Bench b;
  b.start();
  b.refuse_disks(true);
  b.mirror.fail_next();
  Outcome write;
  b.write(write, 0, 'a');
  b.run();
  EXPECT_FALSE(write.result);
  b.refuse_disks(false);
  b.granting = true;
  b.grant();
  b.run();
  EXPECT_TRUE(write.ok());
  EXPECT_EQ(b.logged->durability(), Durability::write_through);
  b.mirror.connect();
  b.run();
  EXPECT_EQ(b.logged->durability(), Durability::mirrored);
  auto ring = b.layout.ring(NodeId(1));
  EXPECT_TRUE(std::ranges::equal(b.nvram.region().subspan(ring.offset, b.logged->log_used()),
                                 b.partner.region().subspan(ring.offset, b.logged->log_used())));
}

// ---- group commit ----

// A partner that stands still: what waits for its NVRAM is acknowledged from the disks.
TEST(LoggedStorage, AMirrorThatIsLateCostsItsPatienceOnce) {
  Bench b;
  b.start();
  b.mirror.hold();
  Outcome first;
  b.write(first, 0, 'a');
  b.run(LoggedStorage::mirror_patience - milliseconds(10));
  EXPECT_FALSE(first.result);
  b.run(milliseconds(60));
  EXPECT_TRUE(first.ok());
  EXPECT_EQ(b.logged->durability(), Durability::mirrored) << "nothing was given up";
  // From now on it is not waited for.
  for (int i = 0; i < 5; ++i) {
    Outcome next;
    b.write(next, 4096, 'b');
    b.run(milliseconds(50));
    EXPECT_TRUE(next.ok()) << i;
  }
  auto points = b.consistency_points;
  EXPECT_GE(points, 6u);
  // It goes on, and is enough again.
  b.mirror.release();
  b.run(milliseconds(10));
  Outcome again;
  b.write(again, 8192, 'c');
  b.run(milliseconds(20));
  EXPECT_TRUE(again.ok());
  EXPECT_EQ(b.consistency_points, points);
}

TEST(LoggedStorage, AMirrorInTimeCausesNoConsistencyPoint) {
  Bench b;
  b.start();
  auto points = b.consistency_points;
  for (int i = 0; i < 50; ++i) {
    Outcome outcome;
    b.write(outcome, 0, 'a');
    b.run(milliseconds(10));
    EXPECT_TRUE(outcome.ok());
  }
  EXPECT_EQ(b.consistency_points, points);
}

TEST(LoggedStorage, OneMirrorWriteForAllChangesOfATurn) {
  Bench b;
  b.start();
  auto before = b.mirror.writes();
  Outcome writes[5];
  for (auto& write : writes) {
    b.write(write, static_cast<std::uint64_t>(&write - writes) * block, 'a');
  }
  b.turn();
  EXPECT_EQ(b.mirror.writes(), before + 1);
  for (auto& write : writes) EXPECT_TRUE(write.ok());
}

// ---- reads ----

TEST(LoggedStorage, AReadThatOverlapsAnUnacknowledgedWriteIsHeldBack) {
  Bench b;
  b.start();
  Outcome old;
  b.write(old, 0, 'o', 4 * block);
  b.run();
  b.mirror.hold();
  Outcome write;
  b.write(write, block, 'n', 2 * block);
  Bench::Reading before, first, last, around, after;
  b.read(before, 0);
  b.read(first, block);
  b.read(last, 2 * block);
  b.read(around, 0, 4 * block);
  b.read(after, 3 * block);
  b.run(LoggedStorage::mirror_patience / 2);
  EXPECT_EQ(before.seen, 'o');
  EXPECT_EQ(after.seen, 'o');
  EXPECT_EQ(first.seen, '?');
  EXPECT_EQ(last.seen, '?');
  EXPECT_EQ(around.seen, '?');
  b.mirror.release();
  b.turn();
  EXPECT_TRUE(write.ok());
  EXPECT_EQ(first.seen, 'n');
  EXPECT_EQ(last.seen, 'n');
  EXPECT_EQ(around.seen, 'o');
}

TEST(LoggedStorage, AReadWaitsForTheNewestChangeItShows) {
  Bench b;
  b.start();
  b.mirror.hold();
  Outcome first, second;
  b.write(first, 0, '1');
  b.turn();
  b.write(second, 0, '2');
  b.turn();
  Bench::Reading reading;
  b.read(reading, 0);
  b.run(LoggedStorage::mirror_patience / 2);
  EXPECT_EQ(reading.seen, '?');
  b.mirror.release();
  b.run();
  EXPECT_EQ(reading.seen, '2');
}

TEST(LoggedStorage, AZeroedRangeIsHeldBackToo) {
  Bench b;
  b.start();
  b.mirror.hold();
  Outcome zero;
  b.logged->submit(filesystem::ZeroRecord{lun, 0, 8 * block}, b.into(zero));
  Bench::Reading inside, beyond;
  b.read(inside, 7 * block);
  b.read(beyond, 8 * block);
  b.run(LoggedStorage::mirror_patience / 2);
  EXPECT_EQ(inside.seen, '?');
  EXPECT_EQ(beyond.seen, '\0');
  b.mirror.release();
  b.run();
  EXPECT_EQ(inside.seen, '\0');
}

// ---- back-pressure ----

TEST(LoggedStorage, AFullLogHoldsChangesBackInOrder) {
  Bench b({.ring = 64 << 10});
  b.start();
  b.refuse_disks(true);
  Outcome writes[20];
  for (int i = 0; i < 20; ++i) {
    // The small ones would still fit where a large one does not, and must not overtake.
    b.write(writes[i], 0, static_cast<char>('a' + i), i % 2 == 0 ? 2 * block : 512);
  }
  b.run();
  EXPECT_TRUE(writes[0].ok());
  EXPECT_FALSE(writes[19].result);
  EXPECT_FALSE(b.logged->idle());
  b.refuse_disks(false);
  b.run();
  ASSERT_EQ(b.order.size(), 21u);  // with the LUN
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(writes[i].ok()) << i;
    EXPECT_EQ(b.order[i + 1], &writes[i]) << i;
  }
  EXPECT_TRUE(b.logged->idle());
  EXPECT_EQ(b.read_now(0), 'a' + 19);
  EXPECT_EQ(b.read_now(block), 'a' + 18);
}

TEST(LoggedStorage, FullMemoryHoldsChangesBackInOrder) {
  Bench b({.dirty_limit = 64 << 10});
  b.start();
  b.refuse_disks(true);
  Outcome writes[40];
  for (int i = 0; i < 40; ++i) {
    b.write(writes[i], static_cast<std::uint64_t>(i) * block, static_cast<char>('A' + i));
  }
  b.run();
  EXPECT_TRUE(writes[0].ok());
  EXPECT_FALSE(writes[39].result);
  EXPECT_LE(b.pool->dirty_bytes(), b.pool->dirty_limit());
  b.refuse_disks(false);
  b.run();
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(b.order[i + 1], &writes[i]) << i;
  EXPECT_EQ(b.read_now(39 * block), 'A' + 39);
}

TEST(LoggedStorage, AtMostSoManyChangesWait) {
  Bench b({.ring = 64 << 10});
  b.start();
  b.refuse_disks(true);
  Outcome fill[8];
  for (auto& write : fill) b.write(write, 0, 'f', 3 * block);  // the last ones wait
  b.turn();
  std::size_t waiting = 0;
  for (auto& write : fill) waiting += write.ok() ? 0 : 1;
  ASSERT_GT(waiting, 0u);
  std::vector<Outcome> many(LoggedStorage::max_waiting - waiting);
  for (auto& write : many) b.write(write, 0, 'm', 512);
  Outcome too_many;
  b.write(too_many, 0, 't', 512);
  EXPECT_FALSE(too_many.result) << "answered from inside the call";
  b.turn();
  EXPECT_TRUE(too_many.failed(ErrorCode::busy));
  EXPECT_FALSE(many.back().result);
  b.refuse_disks(false);
  b.run(seconds(60));
  EXPECT_TRUE(many.back().ok());
}

TEST(LoggedStorage, AChangeThatCanNeverBeIsRefusedAndHoldsNobodyBack) {
  Bench b;
  b.start();
  Outcome beyond, unknown, good;
  b.write(beyond, 1 << 20, 'x');
  b.logged->submit(WriteRecord{LunNumber(7), 0, filled(block, 'x')}, b.into(unknown));
  b.write(good, 0, 'g');
  b.run();
  EXPECT_TRUE(beyond.failed(ErrorCode::invalid));
  EXPECT_TRUE(unknown.failed(ErrorCode::not_found));
  EXPECT_TRUE(good.ok());
}

// ---- flush ----

TEST(LoggedStorage, FlushWaitsForEverythingSubmittedBefore) {
  Bench b({.ring = 64 << 10});
  b.start();
  Outcome idle;
  b.logged->flush(b.into(idle));
  EXPECT_FALSE(idle.result);
  b.turn();
  EXPECT_TRUE(idle.ok());

  b.mirror.hold();
  Outcome write, flush;
  b.write(write, 0, 'a');
  b.logged->flush(b.into(flush));
  b.run(LoggedStorage::mirror_patience / 2);
  EXPECT_FALSE(flush.result);
  b.mirror.release();
  b.run();
  EXPECT_TRUE(flush.ok());

  // What waits for room in the log has been submitted, too.
  b.refuse_disks(true);
  Outcome writes[8], behind;
  for (auto& each : writes) b.write(each, 0, 'w', 3 * block);
  b.logged->flush(b.into(behind));
  b.run();
  ASSERT_FALSE(writes[7].result);
  EXPECT_FALSE(behind.result);
  b.refuse_disks(false);
  b.run();
  EXPECT_TRUE(behind.ok());
  EXPECT_EQ(b.order.back(), &behind);
}

// A transfer that is under way keeps its part of the log beyond the consistency point.
TEST(LoggedStorage, SpaceThatATransferFreesIsUsed) {
  for (bool lost : {false, true}) {
    Bench b({.ring = 64 << 10});
    b.start();
    b.granting = true;
    b.mirror.hold();
    Outcome writes[8];
    for (auto& each : writes) b.write(each, 0, 'w', 3 * block);
    b.run();
    ASSERT_TRUE(writes[0].ok()) << "on disk, as the mirror is late";
    ASSERT_FALSE(writes[7].result);
    if (lost) {
      b.mirror.disconnect();
    } else {
      b.mirror.release();
    }
    b.run();
    EXPECT_TRUE(writes[7].ok()) << lost;
  }
}

// ---- end ----

TEST(LoggedStorage, StopEndsEverythingWithCancelled) {
  Bench b({.ring = 64 << 10});
  b.start();
  b.refuse_disks(true);
  b.mirror.hold();
  Outcome writes[8], flush, flush_waiting;
  Bench::Reading held, planned;
  b.write(writes[0], 0, 'w');
  b.logged->flush(b.into(flush));
  b.read(held, 0);
  b.run();
  b.read(planned, 0);  // still at the storage
  for (int i = 1; i < 8; ++i) b.write(writes[i], 0, 'w', 3 * block);
  b.logged->flush(b.into(flush_waiting));
  b.turn();
  b.logged->stop();
  b.turn();
  for (auto& write : writes) EXPECT_TRUE(write.failed(ErrorCode::cancelled));
  EXPECT_TRUE(flush.failed(ErrorCode::cancelled));
  EXPECT_TRUE(flush_waiting.failed(ErrorCode::cancelled));
  EXPECT_EQ(held.seen, '!');
  EXPECT_EQ(planned.seen, '!');
  EXPECT_EQ(held.code, ErrorCode::cancelled);

  // Nothing that comes later is acknowledged either, whatever becomes of mirror and disks.
  Outcome late, late_flush;
  b.write(late, 0, 'l');
  b.logged->flush(b.into(late_flush));
  b.mirror.release();
  b.refuse_disks(false);
  b.run();
  EXPECT_TRUE(late.failed(ErrorCode::cancelled));
  EXPECT_TRUE(late_flush.failed(ErrorCode::cancelled));
  b.logged->stop();
}

TEST(LoggedStorage, LateCompletionsFindItGone) {
  Bench b;
  b.start();
  b.mirror.hold();
  Outcome write;
  b.write(write, 0, 'w');
  Bench::Reading reading;
  b.read(reading, 0);
  b.logged.reset();
  EXPECT_TRUE(write.failed(ErrorCode::cancelled));
  b.mirror.release();
  b.run();
  EXPECT_EQ(reading.seen, '!');
}

TEST(LoggedStorage, BeforeTheStartNothingIsTaken) {
  Bench b;
  Outcome write;
  b.write(write, 0, 'w');
  b.turn();
  EXPECT_TRUE(write.failed(ErrorCode::cancelled));
  EXPECT_EQ(b.logged->durability(), std::nullopt);
}

TEST(LoggedStorage, AnEpochThatIsNotNewIsRefused) {
  Bench b;
  b.start();
  LoggedStorage second(b.scheduler, b.nvram, b.layout, NodeId(1), *b.pool, nullptr, {});
  auto started = second.start(Epoch(0), NodeId(1), false);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::refused);
  EXPECT_FALSE(second.started());
}

}  // namespace
}  // namespace duet::node
