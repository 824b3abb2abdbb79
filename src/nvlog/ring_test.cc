#include "nvlog/ring.h"

#include <gtest/gtest.h>

#include <fstream>

#include "nvlog/sim_nvram.h"

namespace duet::nvlog {
namespace {

const NodeId one{1};

struct RingTest : testing::Test {
  SimNvram nvram{0x28000};
  Extent extent = RegionLayout::of_size(0x28000)->ring(one);
  Bytes bytes() { return nvram.region().subspan(extent.offset, extent.length); }
  Ring fresh() { return Ring(nvram, extent, one, empty_plan({})); }
  static std::vector<Slice> data(std::size_t size, unsigned seed = 0) {
    auto buffer = make_buffer(size);
    for (std::size_t i = 0; i < size; ++i) buffer.bytes[i] = std::byte(i * 7 + seed);
    return {buffer.slice()};
  }
  // Starts `epoch`, then appends `count` writes of `size` bytes.
  static void fill(Ring& ring, std::uint64_t epoch, unsigned count, std::size_t size) {
    ASSERT_TRUE(ring.append(RecordKind::epoch_start, {epoch}, {}, LogSequence(0)).has_value());
    for (unsigned i = 0; i < count; ++i)
      ASSERT_TRUE(
          ring.append(RecordKind::write, {3, i, size}, data(size, i), ring.last()).has_value());
  }
};

TEST_F(RingTest, WorkedExampleOfTheFormatDocument) {
  Ring ring(nvram, extent, one, empty_plan({Epoch(5), LogSequence(150), 0, 2}));
  auto buffer = make_buffer(16);
  for (unsigned i = 0; i < 16; ++i) buffer.bytes[i] = std::byte(i);
  // Gathered from two slices: the same record as from one.
  std::vector<Slice> slices{{buffer.owner, buffer.bytes.first(5)},
                            {buffer.owner, buffer.bytes.subspan(5)}};
  auto sequence = ring.append(RecordKind::write, {3, 0x1000, 16}, slices, LogSequence(148));
  ASSERT_TRUE(sequence.has_value());
  EXPECT_EQ(*sequence, LogSequence(151));
  EXPECT_EQ(ring.head(), 0x20080u);
  std::ifstream file(DUET_CORPUS "/nvlog/record.golden", std::ios::binary);
  std::string golden((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(to_hex(bytes().first(80)), to_hex(std::as_bytes(std::span(golden))));
}

TEST_F(RingTest, HeaderGolden) {
  RegionHeader header{ClusterId(0x1122334455667788), NodeId(2), {0xaa, 0xbb}, 0x28000};
  std::ifstream file(DUET_CORPUS "/nvlog/region_header.golden", std::ios::binary);
  std::string golden((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(to_hex(encode(header)), to_hex(std::as_bytes(std::span(golden))));
}

TEST_F(RingTest, ReplaysWhatWasAppended) {
  Ring ring = fresh();
  fill(ring, 1, 5, 1000);
  auto plan = plan_replay(bytes(), one, {}, LogSequence(0));
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->reason, ReplayEnd::clean) << plan->why;
  ASSERT_EQ(plan->size(), 6u);
  EXPECT_EQ(plan->end, ring.position_after(ring.last()));
  for (unsigned i = 0; i < 5; ++i) {
    auto record = plan->record(bytes(), i + 1);
    EXPECT_EQ(record.header.words, (Words{3, i, 1000, 0}));
    EXPECT_TRUE(std::ranges::equal(record.payload, data(1000, i)[0].bytes));
    EXPECT_EQ(record.header.proves_acknowledged(), LogSequence(i + 1));
  }
}

TEST_F(RingTest, StartsAfterTheConsistencyPoint) {  // I9
  Ring ring = fresh();
  fill(ring, 1, 5, 100);
  for (std::uint64_t s = 0; s <= 6; ++s) {
    auto plan = plan_replay(bytes(), one, ring.position_after(LogSequence(s)), LogSequence(0));
    ASSERT_EQ(plan->size(), 6 - s);
    if (s < 6) {
      EXPECT_EQ(plan->record(bytes(), 0).header.sequence, LogSequence(s + 1));
    }
  }
}

TEST_F(RingTest, FullRingRefusesAndKeepsWhatLives) {
  Ring ring = fresh();
  fill(ring, 1, 0, 0);
  unsigned count = 0;
  while (true) {
    auto sequence = ring.append(RecordKind::write, {0, count}, data(4000, count), LogSequence(0));
    if (!sequence) {
      EXPECT_EQ(sequence.error().code, ErrorCode::no_space);
      break;
    }
    ++count;
  }
  EXPECT_EQ(count, (0x10000u - marker_reserve - 64) / 4096);
  EXPECT_EQ(plan_replay(bytes(), one, {}, LogSequence(0))->size(), count + 1);
  // The reserve lets epochs start all the same.
  for (std::uint64_t epoch = 2; epoch < 10; ++epoch)
    EXPECT_TRUE(ring.append(RecordKind::epoch_start, {epoch}, {}, LogSequence(0)).has_value());
  while (ring.append(RecordKind::epoch_start, {ring.epoch().value() + 1}, {}, LogSequence(0))) {
  }
  EXPECT_GE(ring.live_bytes(), ring.capacity() - record_header_size);
  EXPECT_FALSE(ring.append(RecordKind::zero, {}, {}, LogSequence(0)).has_value());
  EXPECT_EQ(plan_replay(bytes(), one, {}, LogSequence(0))->end.sequence, ring.last());
}

TEST_F(RingTest, TooLargeIsInvalid) {
  Ring ring = fresh();
  EXPECT_EQ(ring.max_payload(), 0x10000u / 4 - 64);
  auto sequence = ring.append(RecordKind::write, {}, data(ring.max_payload() + 1), LogSequence(0));
  EXPECT_EQ(sequence.error().code, ErrorCode::invalid);
}

TEST_F(RingTest, LargestPayloadOfTheFormat) {
  SimNvram large(32 * 1024 * 1024);
  Extent at = RegionLayout::of_size(large.region().size())->ring(one);
  Ring ring(large, at, one, empty_plan({}));
  EXPECT_EQ(ring.max_payload(), nvlog::max_payload);
  ASSERT_TRUE(
      ring.append(RecordKind::write, {}, data(nvlog::max_payload), LogSequence(0)).has_value());
  auto plan = plan_replay(large.region().subspan(at.offset, at.length), one, {}, LogSequence(1));
  EXPECT_EQ(plan->reason, ReplayEnd::clean);
  EXPECT_EQ(plan->size(), 1u);
  EXPECT_FALSE(
      ring.append(RecordKind::write, {}, data(nvlog::max_payload + 1), LogSequence(0)).has_value());
}

TEST_F(RingTest, GoesRoundManyTimes) {
  Ring ring = fresh();
  fill(ring, 1, 0, 0);
  std::mt19937_64 random(7);
  LogPosition from;
  for (unsigned i = 0; i < 3000; ++i) {
    std::size_t size = random() % 9000;
    auto sequence = ring.append(RecordKind::write, {0, i}, data(size, i), LogSequence(0));
    if (!sequence) {
      LogSequence freed(ring.freed().value() + 1 +
                        random() % (ring.last().value() - ring.freed().value()));
      from = ring.position_after(freed);
      ring.free_through(freed);
      EXPECT_EQ(ring.position_after(freed), from);
      continue;
    }
    EXPECT_EQ(*sequence, ring.last());
    auto plan = plan_replay(bytes(), one, from, LogSequence(0));
    EXPECT_EQ(plan->reason, ReplayEnd::clean) << plan->why;
    ASSERT_EQ(plan->end, ring.position_after(ring.last())) << i;
    ASSERT_EQ(plan->ends.back(), ring.head());
  }
  EXPECT_GT(ring.head() / ring.capacity(), 50u);
}

TEST_F(RingTest, ContinuesAfterAReplay) {
  Ring ring = fresh();
  fill(ring, 1, 5, 5000);
  ring.free_through(LogSequence(2));
  auto plan = plan_replay(bytes(), one, ring.position_after(LogSequence(2)), LogSequence(0));
  Ring again(nvram, extent, one, *plan);
  EXPECT_EQ(again.last(), ring.last());
  EXPECT_EQ(again.live_bytes(), ring.live_bytes());
  fill(again, 4, 3, 100);
  auto next = plan_replay(bytes(), one, ring.position_after(LogSequence(2)), LogSequence(0));
  EXPECT_EQ(next->size(), 8u);
  EXPECT_EQ(next->end.epoch, Epoch(4));
  EXPECT_EQ(again.position_after(LogSequence(6)).epoch, Epoch(1));
  EXPECT_EQ(again.position_after(LogSequence(7)).epoch, Epoch(4));
  again.free_through(LogSequence(8));
  EXPECT_EQ(again.position_after(LogSequence(8)).epoch, Epoch(4));
}

TEST_F(RingTest, EveryDamagedBitEndsTheLogThere) {
  Ring ring = fresh();
  fill(ring, 1, 3, 100);  // records 2, 3, 4 at 64, 256, 448
  std::vector<std::byte> saved(bytes().begin(), bytes().end());
  for (std::size_t bit = 256 * 8; bit < (256 + 164) * 8; ++bit) {
    nvram.region()[extent.offset + bit / 8] ^= std::byte(1 << (bit % 8));
    auto plan = plan_replay(bytes(), one, {}, LogSequence(0));
    EXPECT_EQ(plan->end.sequence, LogSequence(2)) << bit;
    // Record 4 proves that 3 was acknowledged.
    EXPECT_EQ(plan->reason, ReplayEnd::lost);
    EXPECT_EQ(plan->gap_first, LogSequence(3));
    EXPECT_EQ(plan->gap_last, LogSequence(3));
    nvram.region()[extent.offset + bit / 8] ^= std::byte(1 << (bit % 8));
  }
  EXPECT_TRUE(std::ranges::equal(saved, bytes()));
}

TEST_F(RingTest, WhyTheLogEnds) {
  Ring ring = fresh();
  for (int i = 0; i < 4; ++i)
    ASSERT_TRUE(
        ring.append(RecordKind::write, {}, data(10), LogSequence(i < 3 ? 0 : 1)).has_value());
  auto plan = [&](std::uint64_t required) {
    return *plan_replay(bytes(), one, {}, LogSequence(required));
  };
  EXPECT_EQ(plan(4).reason, ReplayEnd::clean);
  EXPECT_EQ(plan(5).reason, ReplayEnd::lost);  // the mailbox knew of one more
  EXPECT_EQ(plan(5).gap_last, LogSequence(5));
  nvram.region()[extent.offset + 2 * 128 + 64] ^= std::byte{1};  // record 3
  EXPECT_EQ(plan(0).reason, ReplayEnd::unfinished);              // 4 proves only 1
  EXPECT_EQ(plan(0).gap_first, LogSequence(3));
  EXPECT_EQ(plan(0).gap_last, LogSequence(3));
  EXPECT_EQ(plan(3).reason, ReplayEnd::lost);
  nvram.region()[extent.offset + 64] ^= std::byte{1};  // record 1
  EXPECT_EQ(plan(0).reason, ReplayEnd::lost);
  EXPECT_EQ(plan(0).gap_first, LogSequence(1));
  EXPECT_EQ(plan(0).size(), 0u);
}

TEST_F(RingTest, OlderEpochsAreIgnored) {
  Ring old = fresh();
  fill(old, 5, 4, 0);
  // The consistency point is of epoch 6, at a place where an old record of the next sequence lies.
  LogPosition position = old.position_after(LogSequence(2));
  EXPECT_EQ(plan_replay(bytes(), one, position, LogSequence(0))->size(), 3u);
  position.epoch = Epoch(6);
  auto plan = plan_replay(bytes(), one, position, LogSequence(0));
  EXPECT_EQ(plan->size(), 0u);
  EXPECT_EQ(plan->reason, ReplayEnd::clean);
  // A new owner continues there; what is left of the old one behind its head stays ignored.
  Ring next(nvram, extent, one, *plan);
  fill(next, 7, 0, 0);
  plan = plan_replay(bytes(), one, position, LogSequence(0));
  EXPECT_EQ(plan->size(), 1u);
  EXPECT_EQ(plan->reason, ReplayEnd::clean);
}

TEST_F(RingTest, AHigherEpochNeedsItsMarker) {
  Ring ring = fresh();
  fill(ring, 5, 2, 0);
  LogPosition position = ring.position_after(LogSequence(1));
  position.epoch = Epoch(4);
  EXPECT_EQ(plan_replay(bytes(), one, position, LogSequence(0))->size(), 0u);
}

TEST_F(RingTest, OtherIdentitysRecordsAreNotOurs) {
  Ring ring = fresh();
  fill(ring, 1, 2, 0);
  EXPECT_EQ(plan_replay(bytes(), NodeId(2), {}, LogSequence(0))->size(), 0u);
}

TEST_F(RingTest, ForeignPositions) {
  EXPECT_FALSE(plan_replay(bytes(), one, {Epoch(1), LogSequence(1), 0x10000, 0}, LogSequence(0))
                   .has_value());
  EXPECT_FALSE(
      plan_replay(bytes(), one, {Epoch(1), LogSequence(1), 1, 0}, LogSequence(0)).has_value());
  EXPECT_FALSE(plan_replay(bytes(), one, {Epoch(1), LogSequence(1), 0, lap_limit}, LogSequence(0))
                   .has_value());
  EXPECT_TRUE(
      plan_replay(bytes(), one, {Epoch(1), LogSequence(1), 0xffc0, lap_limit - 1}, LogSequence(0))
          .has_value());
}

TEST(DecideReplay, EveryRow) {
  using enum ReplayDecision;
  struct Row {
    std::optional<Durability> mode;
    bool ours, current;
    ReplayDecision decision;
  };
  using D = Durability;
  const Row rows[] = {
      {std::nullopt, false, false, start_fresh},
      {std::nullopt, false, true, replay},
      {std::nullopt, true, false, start_fresh},
      {std::nullopt, true, true, replay},
      {D::mirrored, false, false, elsewhere},
      {D::mirrored, false, true, replay},
      {D::mirrored, true, false, elsewhere},
      {D::mirrored, true, true, replay},
      {D::local, false, false, elsewhere},
      {D::local, false, true, elsewhere},
      {D::local, true, false, lost},
      {D::local, true, true, replay},
      {D::write_through, false, false, start_fresh},
      {D::write_through, false, true, replay},
      {D::write_through, true, false, start_fresh},
      {D::write_through, true, true, replay},
  };
  for (const Row& row : rows) {
    Mark mark;
    if (row.mode) mark = {*row.mode, Epoch(5), LogSequence(9)};
    std::uint64_t least = row.mode ? 5 : 3;
    EXPECT_EQ(decide_replay({mark, row.ours, Epoch(3), Epoch(row.current ? least : least - 1)}),
              row.decision);
    // A consistency point of a later epoch than the mark holds all that was acknowledged under it.
    EXPECT_EQ(decide_replay({mark, row.ours, Epoch(6), Epoch(row.current ? 6 : 5)}),
              row.current ? replay : start_fresh);
  }
}

TEST(RequiredSequence, OfMarkAndControlBlock) {
  ControlBlock control;
  control.acknowledged = LogSequence(7);
  EXPECT_EQ(required_sequence({}, control), LogSequence(7));
  EXPECT_EQ(required_sequence({Durability::mirrored, Epoch(1), LogSequence(9)}, control),
            LogSequence(9));
  EXPECT_EQ(required_sequence({Durability::local, Epoch(1), LogSequence(3)}, control),
            LogSequence(7));
  EXPECT_EQ(required_sequence({Durability::write_through, Epoch(1), LogSequence(9)}, control),
            LogSequence(7));
}

}  // namespace
}  // namespace duet::nvlog
