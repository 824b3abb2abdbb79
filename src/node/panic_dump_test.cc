#include "node/panic_dump.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "disk/reservation_key.h"
#include "node/core_source_fixture.h"
#include "simulation/scheduler.h"

namespace duet::node {
namespace {

using coredump::AbortReason;
using coredump::Attribute;

class Bench {
 public:
  static inline const ClusterId cluster{0x1234};
  static constexpr NodeId red{1}, blue{2};
  static constexpr std::uint64_t disk_size = 24 << 20;

  explicit Bench(int disks = 1) {
    order.cluster = cluster;
    order.holder = disk::make_key(cluster, red, disk::KeyRole::supervisor, Epoch(7));
    order.limit = seconds(10);
    order.dump.node = red;
    order.dump.epoch = Epoch(7);
    order.dump.boot_nonce = BootNonce(99);
    order.dump.reason = "test";
    for (int i = 0; i < disks; ++i) add(disk::Role::coredump);
  }

  void add(disk::Role role, bool left = false) {
    auto i = media.size();
    simulation::FakeMedium::Options options;
    options.name = "red/" + std::to_string(i);
    options.size = disk_size;
    options.seed = i + 1;
    media.push_back(std::make_unique<simulation::FakeMedium>(scheduler, options));
    disk::Label label;
    label.cluster = cluster;
    label.id.bytes[0] = static_cast<std::uint8_t>(i + 1);
    label.owner = red;
    label.role = role;
    if (role == disk::Role::data) label.disks_in_pool = 1;
    label.size = disk_size;
    label.pool[0] = 1;
    label.pool_name = "pool";
    auto block = disk::encode_label(label);
    ASSERT_TRUE(block) << block.error().message;
    for (int copy : {0, 1}) media[i]->poke(disk::label_copy(copy).offset, *block);
    paths.push_back(media[i]->connect());
    order.disks.push_back({paths[i].get(), label.id, left});
    do_well([&](auto done) { paths[i]->register_key(order.holder, std::move(done)); });
    do_well([&](auto done) {
      paths[i]->reserve(order.holder, ports::ReservationType::write_exclusive_registrants_only,
                        std::move(done));
    });
  }
  template <class F>
  void do_well(F&& f) {
    std::optional<Result<void>> result;
    f([&](Result<void> r) { result = std::move(r); });
    EXPECT_TRUE(scheduler.run_until([&] { return result.has_value(); }, seconds(5)));
    EXPECT_TRUE(result && *result);
  }
  // The partner takes the disk.
  void fence(std::size_t i) {
    thief = media[i]->connect();
    auto key = disk::make_key(cluster, blue, disk::KeyRole::supervisor, Epoch(8));
    do_well([&](auto done) { thief->register_key(key, std::move(done)); });
    do_well([&](auto done) {
      thief->preempt(key, order.holder, ports::ReservationType::exclusive_access_registrants_only,
                     true, std::move(done));
    });
  }
  void start() {
    for (std::size_t i = 0; i < media.size(); ++i) {
      media[i]->watch = [this, i](const simulation::DiskEvent& event) {
        if (!event.ended && !event.flush) writes.emplace_back(i, event.offset);
      };
    }
    dump.emplace(
        scheduler, source, order, [this] { ++changes; },
        [this](PanicDump::Outcome o) {
          outcome = std::move(o);
          over_at = scheduler.now();
        });
    began = scheduler.now();
    dump->start();
  }
  bool run_to_end() {
    return scheduler.run_until([&] { return outcome.has_value(); }, seconds(30));
  }
  void run_to_phase(PanicDump::Phase phase) {
    EXPECT_TRUE(scheduler.run_until([&] { return dump->progress().phase == phase; }, seconds(30)));
  }
  std::size_t writes_to(std::size_t i) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(writes, [&](const auto& w) { return w.first == i; }));
  }

  simulation::SimulatedScheduler scheduler;
  FakeCoreSource source{scheduler};
  std::vector<std::unique_ptr<simulation::FakeMedium>> media;
  std::vector<std::unique_ptr<simulation::FakeDisk>> paths;
  std::unique_ptr<simulation::FakeDisk> thief;
  PanicDump::Order order;
  std::optional<PanicDump> dump;
  std::vector<std::pair<std::size_t, std::uint64_t>> writes;  // medium, offset
  int changes = 0;
  std::optional<PanicDump::Outcome> outcome;
  Instant began{}, over_at{};
};

TEST(PanicDump, AWholeDump) {
  Bench b;
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_TRUE(b.outcome->complete) << b.outcome->text;
  auto found = find_dump(*b.media[0]);
  ASSERT_TRUE(found.header);
  EXPECT_EQ(found.header->attribute, Attribute::completed);
  EXPECT_EQ(found.header->boot_nonce, BootNonce(99));
  EXPECT_EQ(found.header->epoch, Epoch(7));
  EXPECT_EQ(found.header->core_done, b.source.memory.size());
  EXPECT_EQ(found.header->core_total, b.source.memory.size());
  EXPECT_TRUE(found.complete);
  EXPECT_EQ(found.core, b.source.memory);
  ASSERT_TRUE(found.information);
  EXPECT_EQ(found.information->reason, "test");
  EXPECT_GE(b.changes, 1);
  // C1: both copies are active before the first chunk is begun, and header and room are all that
  // is ever written (I11).
  ASSERT_GE(b.writes.size(), 3u);
  EXPECT_EQ(b.writes[0].second, coredump::header_copy(0).offset);
  EXPECT_EQ(b.writes[1].second, coredump::header_copy(1).offset);
  EXPECT_EQ(b.writes[2].second, disk::data_offset);
  for (const auto& [medium, offset] : b.writes) {
    EXPECT_TRUE(offset >= disk::data_offset || offset == coredump::header_copy(0).offset ||
                offset == coredump::header_copy(1).offset);
  }
  EXPECT_EQ(b.writes.back().second, coredump::header_copy(1).offset) << "the last word";
}

TEST(PanicDump, TheHeaderTellsOfProgressAlsoWithoutAny) {
  Bench b;
  b.start();
  b.run_to_phase(PanicDump::Phase::streaming);
  b.source.piece_time = seconds(3);
  b.scheduler.run_for(milliseconds(200));
  auto before = find_dump(*b.media[0]).header;
  b.scheduler.run_for(seconds(2));
  auto after = find_dump(*b.media[0]).header;
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->attribute, Attribute::active);
  EXPECT_GE(after->sequence, before->sequence + 2) << "every second at least";
  EXPECT_GT(after->elapsed, before->elapsed);
  auto progress = b.dump->progress();
  EXPECT_EQ(progress.disk, "red/0");
  EXPECT_GT(progress.left, Duration{});
  EXPECT_LE(progress.left, b.order.limit);
}

TEST(PanicDump, OnlyDisksThatMayBe) {
  Bench b(0);
  b.add(disk::Role::data);
  b.add(disk::Role::spare);
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_FALSE(b.outcome->complete);
  EXPECT_NE(b.outcome->text.find("red/0 holds_data, red/1 drafted"), std::string::npos)
      << b.outcome->text;
  EXPECT_TRUE(b.writes.empty());
  EXPECT_EQ(b.source.begun, 0);

  Bench left(0);
  left.add(disk::Role::data);
  left.add(disk::Role::spare, true);
  left.start();
  ASSERT_TRUE(left.run_to_end());
  EXPECT_TRUE(left.outcome->complete) << left.outcome->text;
  EXPECT_EQ(left.writes_to(0), 0u);
  EXPECT_TRUE(find_dump(*left.media[1]).complete);
}

TEST(PanicDump, ADiskThatBecameAnotherIsNotWritten) {
  Bench b;
  b.order.disks[0].expected.bytes[5] = 9;
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_NE(b.outcome->text.find("other_disk"), std::string::npos) << b.outcome->text;
  EXPECT_TRUE(b.writes.empty());
}

TEST(PanicDump, ADiskWithoutAPathOrThatHangsIsPassedOver) {
  Bench b(3);
  b.paths[0]->disconnect();
  b.media[1]->latency = [](auto...) { return seconds(20); };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_TRUE(b.outcome->complete) << b.outcome->text;
  EXPECT_LE(b.over_at - b.began, PanicDump::look_limit + seconds(1));
  EXPECT_TRUE(find_dump(*b.media[2]).complete);
}

// ---- the disk fails ----

TEST(PanicDump, TheNextDiskWhenTheFirstRefusesTheMark) {
  Bench b(2);
  b.media[0]->fault = [](auto operation, auto...) -> std::optional<ErrorCode> {
    if (operation != simulation::DiskOperation::write) return std::nullopt;
    return ErrorCode::io_error;
  };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_TRUE(b.outcome->complete) << b.outcome->text;
  EXPECT_FALSE(find_dump(*b.media[0]).header);
  EXPECT_TRUE(find_dump(*b.media[1]).complete);
}

// C2: the first disk must not say active when the second one does.
TEST(PanicDump, AMarkOnOneCopyIsTakenBackBeforeTheNextDisk) {
  Bench b(2);
  int failed = 0;
  b.media[0]->fault = [&](auto operation, auto offset, auto) -> std::optional<ErrorCode> {
    bool second = operation == simulation::DiskOperation::write &&
                  offset == coredump::header_copy(1).offset && failed == 0;
    if (!second) return std::nullopt;
    ++failed;
    return ErrorCode::io_error;
  };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_TRUE(b.outcome->complete) << b.outcome->text;
  auto first = find_dump(*b.media[0]);
  ASSERT_TRUE(first.header);
  EXPECT_EQ(first.header->attribute, Attribute::aborted);
  EXPECT_EQ(first.header->abort_reason, AbortReason::disk_failed);
  EXPECT_TRUE(find_dump(*b.media[1]).complete);
}

TEST(PanicDump, NoOtherDiskWhileOneIsInDoubt) {
  Bench b(2);
  b.media[0]->fault = [](auto operation, auto...) -> std::optional<ErrorCode> {
    if (operation != simulation::DiskOperation::write) return std::nullopt;
    return ErrorCode::timed_out;
  };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_FALSE(b.outcome->complete);
  EXPECT_EQ(b.writes_to(1), 0u);

  Bench slow(2);
  slow.media[0]->latency = [](auto operation, auto...) -> std::optional<Duration> {
    if (operation != simulation::DiskOperation::write) return std::nullopt;
    return seconds(20);
  };
  slow.start();
  ASSERT_TRUE(slow.run_to_end());
  EXPECT_NE(slow.outcome->text.find("does not answer"), std::string::npos) << slow.outcome->text;
  EXPECT_EQ(slow.writes_to(1), 0u);
}

TEST(PanicDump, AWriteThatFailsLaterAborts) {
  Bench b(2);
  b.media[0]->fault = [](auto operation, auto offset, auto) -> std::optional<ErrorCode> {
    if (operation != simulation::DiskOperation::write) return std::nullopt;
    return offset > disk::data_offset + (2 << 20) ? std::optional(ErrorCode::io_error)
                                                  : std::nullopt;
  };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_FALSE(b.outcome->complete);
  auto found = find_dump(*b.media[0]);
  ASSERT_TRUE(found.header);
  EXPECT_EQ(found.header->attribute, Attribute::aborted);
  EXPECT_EQ(found.header->abort_reason, AbortReason::disk_failed);
  EXPECT_LE(found.header->stored, 3u << 20) << "what failed is not called stored";
  EXPECT_GE(found.core.size(), 1u << 20) << "the front is a truncated core";
  EXPECT_EQ(b.writes_to(1), 0u) << "C2";
}

TEST(PanicDump, ADiskThatTakesNothingAnyMore) {
  Bench b;
  b.start();
  b.run_to_phase(PanicDump::Phase::streaming);
  b.media[0]->fault = [](auto...) { return ErrorCode::io_error; };
  ASSERT_TRUE(b.run_to_end());
  EXPECT_FALSE(b.outcome->complete);
  EXPECT_EQ(find_dump(*b.media[0]).header->attribute, Attribute::active) << "the partner's limit";

  Bench hangs;
  hangs.start();
  hangs.run_to_phase(PanicDump::Phase::streaming);
  hangs.media[0]->latency = [](auto...) { return seconds(60); };
  ASSERT_TRUE(hangs.run_to_end());
  EXPECT_LE(hangs.over_at - hangs.began, hangs.order.limit + PanicDump::close_limit + seconds(1));
}

TEST(PanicDump, ADiskThatIsFull) {
  Bench b;
  b.source.memory = FakeCoreSource(b.scheduler).memory;
  while (b.source.memory.size() < 30u << 20) {
    auto half = b.source.memory;
    b.source.memory.insert(b.source.memory.end(), half.begin(), half.end());
  }
  b.start();
  ASSERT_TRUE(b.run_to_end());
  auto found = find_dump(*b.media[0]);
  ASSERT_TRUE(found.header);
  EXPECT_EQ(found.header->attribute, Attribute::aborted);
  EXPECT_EQ(found.header->abort_reason, AbortReason::disk_full);
  EXPECT_GT(found.core.size(), 16u << 20);
  EXPECT_TRUE(std::equal(found.core.begin(), found.core.end(), b.source.memory.begin()));
}

TEST(PanicDump, TheTimeLimit) {
  Bench b;
  b.order.limit = milliseconds(700);
  b.source.piece_time = milliseconds(200);
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_LE(b.over_at - b.began, milliseconds(900));
  auto found = find_dump(*b.media[0]);
  ASSERT_TRUE(found.header);
  EXPECT_EQ(found.header->attribute, Attribute::aborted);
  EXPECT_EQ(found.header->abort_reason, AbortReason::time_limit);
  EXPECT_GT(found.header->stored, 0u);
}

// ---- the partner takes the disk: C7 ----

TEST(PanicDump, FencedBeforeTheMark) {
  Bench b(2);
  b.fence(0);
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_TRUE(b.outcome->complete) << "what is another's is not chosen: " << b.outcome->text;
  EXPECT_EQ(b.writes_to(0), 0u);
}

TEST(PanicDump, AConflictOnTheMarkEndsIt) {
  Bench b(2);
  b.media[0]->fault = [](auto operation, auto...) -> std::optional<ErrorCode> {
    if (operation != simulation::DiskOperation::write) return std::nullopt;
    return ErrorCode::reservation_conflict;
  };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_FALSE(b.outcome->complete);
  EXPECT_TRUE(b.writes.empty()) << "C7: on no disk";
}

TEST(PanicDump, FencedWhileItWrites) {
  Bench b(2);
  b.start();
  b.run_to_phase(PanicDump::Phase::streaming);
  b.fence(0);
  b.writes.clear();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_FALSE(b.outcome->complete);
  EXPECT_NE(b.outcome->text.find("taken by the partner"), std::string::npos) << b.outcome->text;
  b.scheduler.run_for(seconds(3));
  EXPECT_TRUE(b.writes.empty()) << "C7";
}

TEST(PanicDump, FencedAsSoonAsItIsComplete) {
  Bench b;
  b.media[0]->fault = [&b](auto operation, std::uint64_t offset, auto) -> std::optional<ErrorCode> {
    bool second = operation == simulation::DiskOperation::write &&
                  offset == coredump::header_copy(1).offset &&
                  find_dump(*b.media[0]).header->attribute == Attribute::completed;
    return second ? std::optional(ErrorCode::reservation_conflict) : std::nullopt;
  };
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_TRUE(b.outcome->complete) << b.outcome->text;
  EXPECT_TRUE(find_dump(*b.media[0]).complete);
}

// ---- the process ----

TEST(PanicDump, AnEngineThatCannotBeStopped) {
  Bench b;
  b.source.cannot_stop = Error{ErrorCode::not_found, "it is gone"};
  b.start();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_NE(b.outcome->text.find("it is gone"), std::string::npos);
  EXPECT_TRUE(b.writes.empty());

  Bench hangs;
  hangs.source.stops = false;
  hangs.start();
  ASSERT_TRUE(hangs.run_to_end());
  EXPECT_LE(hangs.over_at - hangs.began, PanicDump::stop_limit + milliseconds(10));
  EXPECT_TRUE(hangs.writes.empty());
}

TEST(PanicDump, TheEngineEndsMeanwhile) {
  Bench early;
  early.start();
  early.dump->process_gone();
  ASSERT_TRUE(early.run_to_end());
  EXPECT_TRUE(early.writes.empty());

  Bench b;
  b.start();
  b.run_to_phase(PanicDump::Phase::streaming);
  b.scheduler.run_for(milliseconds(20));
  b.dump->process_gone();
  b.dump->process_gone();
  ASSERT_TRUE(b.run_to_end());
  EXPECT_EQ(find_dump(*b.media[0]).header->abort_reason, AbortReason::process_gone);

  Bench source;
  source.start();
  source.run_to_phase(PanicDump::Phase::streaming);
  source.source.broken = Error{ErrorCode::not_found, "no such process"};
  ASSERT_TRUE(source.run_to_end());
  EXPECT_EQ(find_dump(*source.media[0]).header->abort_reason, AbortReason::process_gone);
}

TEST(PanicDump, StoppedEarly) {
  using enum PanicDump::Phase;
  for (auto phase : {stopping, choosing, marking, streaming}) {
    SCOPED_TRACE(static_cast<int>(phase));
    Bench b;
    b.start();
    b.run_to_phase(phase);
    b.dump->stop("nobody serves");
    b.dump->stop("nobody serves");
    ASSERT_TRUE(b.run_to_end());
    EXPECT_FALSE(b.outcome->complete);
    EXPECT_NE(b.outcome->text.find("nobody serves"), std::string::npos) << b.outcome->text;
    if (phase == stopping || phase == choosing) {
      EXPECT_TRUE(b.writes.empty());
    } else {  // what may be active is taken back
      auto found = find_dump(*b.media[0]);
      EXPECT_EQ(found.header->attribute, Attribute::aborted);
      EXPECT_EQ(found.header->abort_reason, AbortReason::cancelled);
    }
  }
}

TEST(PanicDump, TheSequenceGoesOnFromTheDumpBefore) {
  Bench b;
  b.start();
  ASSERT_TRUE(b.run_to_end());
  auto first = find_dump(*b.media[0]).header->sequence;
  b.order.dump.boot_nonce = BootNonce(100);
  b.outcome.reset();
  b.start();
  ASSERT_TRUE(b.run_to_end());
  auto found = find_dump(*b.media[0]);
  EXPECT_GT(found.header->sequence, first);
  EXPECT_EQ(found.header->boot_nonce, BootNonce(100));
  EXPECT_TRUE(found.complete);
}

}  // namespace
}  // namespace duet::node
