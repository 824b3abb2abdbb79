#include "nvlog/log.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <sstream>

#include "nvlog/sim_nvram.h"

namespace duet::nvlog {
namespace {

constexpr std::uint64_t region_size = 0x28000;
const NodeId one{1};

// A log on a fresh region, driven by hand. What it orders is kept in `actions`.
struct Driver {
  explicit Driver(bool persistent = true, bool partner_down = false)
      : nvram(region_size, persistent) {
    EXPECT_TRUE(format_region(nvram, ClusterId(1), one, {}).has_value());
    Log::Options options;
    options.persistent = persistent;
    log = std::make_unique<Log>(nvram, layout, one, empty_plan({}), options);
    Actions first;
    EXPECT_TRUE(log->start(Epoch(1), one, partner_down, first).has_value());
    note(first);
  }
  void note(const Actions& ordered) {
    actions.insert(actions.end(), ordered.begin(), ordered.end());
    for (const Action& action : ordered) {
      if (auto* write = std::get_if<MirrorWrite>(&action)) writes.push_back(*write);
      if (auto* request = std::get_if<RequestMark>(&action)) mark = request->mark;
    }
  }
  void event(const Event& e) {
    if (std::holds_alternative<MirrorUp>(e) || std::holds_alternative<MirrorDown>(e))
      writes.clear();
    Actions ordered;
    log->on_event(e, ordered);
    note(ordered);
  }
  LogSequence append(std::size_t size = 100) {
    auto sequence = log->append(RecordKind::write, {1, 2, size, 0},
                                std::vector<Slice>{make_buffer(size).slice()});
    EXPECT_TRUE(sequence.has_value());
    return sequence.value_or(LogSequence(0));
  }
  void written() {
    ASSERT_FALSE(writes.empty());
    std::uint64_t id = writes.front().id;
    writes.pop_front();
    event(MirrorWritten{id});
  }
  void all_written() {
    while (!writes.empty()) written();
  }
  void marked() { event(DurabilityMarked{mark}); }
  void consistent() { event(ConsistencyPointDone{log->last()}); }
  void mirrored() {
    marked();
    event(MirrorUp{});
    all_written();
    marked();
    EXPECT_EQ(log->marked(), Durability::mirrored);
  }
  template <class A>
  unsigned count() const {
    unsigned n = 0;
    for (const Action& action : actions) n += std::holds_alternative<A>(action);
    return n;
  }

  SimNvram nvram;
  RegionLayout layout = *RegionLayout::of_size(region_size);
  std::unique_ptr<Log> log;
  Actions actions;
  std::deque<MirrorWrite> writes;
  Mark mark;
};

// ---------------------------------------------------------------------------------------------
// The table: every state against every event. "marked>requested mirror: actions", where the mode is
// m, l, w or - (none), and the actions are W (mirror write), M (request mark), A (acknowledge
// through), C (start consistency point). One request, record 2, has been appended before the event.

std::string letter(std::optional<Durability> mode) {
  return mode ? std::string(1, name(*mode)[0]) : "-";
}

std::string describe(const Driver& d) {
  std::ostringstream out;
  out << letter(d.log->marked()) << ">" << letter(d.log->requested()) << " "
      << name(d.log->mirror_state());
  for (const Action& action : d.actions) {
    if (std::holds_alternative<MirrorWrite>(action)) out << " W";
    if (auto* m = std::get_if<RequestMark>(&action)) out << " M" << letter(m->mark.mode);
    if (auto* a = std::get_if<Acknowledge>(&action)) out << " A" << a->through.value();
    if (std::holds_alternative<StartConsistencyPoint>(action)) out << " C";
  }
  return out.str();
}

struct State {
  const char* name;
  std::function<std::unique_ptr<Driver>()> reach;
  std::vector<const char*> expected;  // in the order of `events`
};
struct NamedEvent {
  const char* name;
  std::function<void(Driver&)> happen;
};

std::unique_ptr<Driver> with(bool partner_down, const std::function<void(Driver&)>& steps) {
  auto d = std::make_unique<Driver>(true, partner_down);
  steps(*d);
  return d;
}

const std::vector<NamedEvent> events = {
    {"Commit", [](Driver& d) { d.event(Commit{}); }},
    {"MirrorUp", [](Driver& d) { d.event(MirrorUp{}); }},
    {"MirrorDown", [](Driver& d) { d.event(MirrorDown{}); }},
    {"MirrorWritten",
     [](Driver& d) { d.event(MirrorWritten{d.writes.empty() ? 0 : d.writes.front().id}); }},
    {"MirrorWritten all", [](Driver& d) { d.all_written(); }},
    {"MirrorWritten stale", [](Driver& d) { d.event(MirrorWritten{999}); }},
    {"MirrorFailed",
     [](Driver& d) { d.event(MirrorFailed{d.writes.empty() ? 0 : d.writes.front().id}); }},
    {"MirrorFailed stale", [](Driver& d) { d.event(MirrorFailed{999}); }},
    {"Marked", [](Driver& d) { d.marked(); }},
    {"Marked unasked",
     [](Driver& d) { d.event(DurabilityMarked{{Durability::local, Epoch(9), LogSequence(9)}}); }},
    {"PointDone", [](Driver& d) { d.consistent(); }},
    {"PointDone old", [](Driver& d) { d.event(ConsistencyPointDone{LogSequence(0)}); }},
    {"PartnerDown", [](Driver& d) { d.event(PartnerDown{true}); }},
    {"PartnerUp", [](Driver& d) { d.event(PartnerDown{false}); }},
    {"Drain", [](Driver& d) { d.event(Drain{}); }},
    {"Stop", [](Driver& d) { d.event(Stop{}); }},
};

const std::vector<State> states = {
#include "nvlog/log_table.inc"
};

TEST(LogTable, EveryStateAndEvent) {
  bool print = std::getenv("DUET_PRINT_TABLE") != nullptr;
  for (const State& state : states) {
    if (!print) {
      ASSERT_EQ(state.expected.size(), events.size()) << state.name;
    }
    for (std::size_t i = 0; i < events.size(); ++i) {
      auto d = state.reach();
      if (std::string(state.name) != "stopped" && std::string(state.name) != "draining")
        d->append();
      d->actions.clear();
      events[i].happen(*d);
      if (print)
        std::printf("      \"%s\",%*s// %s\n", describe(*d).c_str(),
                    static_cast<int>(40 - describe(*d).size()), "", events[i].name);
      else
        EXPECT_EQ(describe(*d), state.expected[i]) << state.name << ", " << events[i].name;
    }
    if (print) std::printf("---- %s\n", state.name);
  }
}

// ---------------------------------------------------------------------------------------------
// Rules that need more than one event to show.

TEST(Log, GroupCommitIsOneTransfer) {
  Driver d;
  d.mirrored();
  for (int i = 0; i < 10; ++i) d.append();
  d.actions.clear();
  d.event(Commit{});
  ASSERT_EQ(d.count<MirrorWrite>(), 1u);
  EXPECT_EQ(d.writes.front().length, 10 * stored_size(100));
  EXPECT_EQ(d.writes.front().through, d.log->last());
  d.written();
  EXPECT_EQ(d.log->acknowledged(), d.log->last());
  EXPECT_EQ(d.count<Acknowledge>(), 1u);
}

TEST(Log, TransfersUnderWayAreBounded) {
  Driver d;
  d.mirrored();
  for (std::size_t i = 0; i < Log::default_transfers_max + 3; ++i) {
    d.append();
    d.event(Commit{});
  }
  EXPECT_EQ(d.writes.size(), Log::default_transfers_max);
  // What waited goes in one.
  d.written();
  EXPECT_EQ(d.writes.size(), Log::default_transfers_max);
  EXPECT_EQ(d.writes.back().through, d.log->last());
}

TEST(Log, CompletionsOutOfOrderAcknowledgeInOrder) {
  Driver d;
  d.mirrored();
  LogSequence first = d.append();
  d.event(Commit{});
  d.append();
  d.event(Commit{});
  LogSequence before = d.log->acknowledged();
  d.event(MirrorWritten{d.writes[1].id});
  EXPECT_EQ(d.log->acknowledged(), before);
  EXPECT_LT(before, first);
  d.event(MirrorWritten{d.writes[0].id});
  EXPECT_EQ(d.log->acknowledged(), d.log->last());
}

TEST(Log, FullLogHoldsBackAndDemandsAConsistencyPoint) {
  Driver d;
  d.mirrored();
  d.actions.clear();
  while (true) {
    auto sequence =
        d.log->append(RecordKind::write, {}, std::vector<Slice>{make_buffer(4000).slice()});
    if (!sequence) {
      EXPECT_EQ(sequence.error().code, ErrorCode::no_space);
      break;
    }
  }
  d.event(Commit{});
  EXPECT_EQ(d.count<StartConsistencyPoint>(), 1u);
  d.all_written();
  EXPECT_EQ(d.count<StartConsistencyPoint>(), 1u);  // once
  d.consistent();
  EXPECT_EQ(d.log->live_bytes(), 0u);
  d.append();
}

TEST(Log, HighWaterDemandsAConsistencyPointEarly) {
  Driver d;
  d.mirrored();
  while (d.log->live_bytes() * 2 < d.log->capacity()) {
    EXPECT_EQ(d.count<StartConsistencyPoint>(), 0u);
    d.append(1000);
    d.event(Commit{});
    d.all_written();
  }
  EXPECT_EQ(d.count<StartConsistencyPoint>(), 1u);
}

TEST(Log, SpaceUnderTransferIsNotFreed) {
  Driver d;
  d.mirrored();
  d.consistent();
  d.all_written();
  std::uint64_t live = d.log->live_bytes();
  d.append();
  d.event(Commit{});
  d.consistent();  // on disk before it is at the partner
  EXPECT_EQ(d.log->acknowledged(), d.log->last());
  EXPECT_EQ(d.log->live_bytes(), live + stored_size(100));
  d.written();
  EXPECT_EQ(d.log->live_bytes(), 0u);
}

TEST(Log, VolatileNvramNeverCarriesAnAcknowledgementAlone) {
  Driver d(false, true);
  d.marked();
  EXPECT_EQ(d.log->marked(), Durability::write_through);
  LogSequence sequence = d.append();
  d.event(Commit{});
  EXPECT_LT(d.log->acknowledged(), sequence);
  d.consistent();
  EXPECT_EQ(d.log->acknowledged(), sequence);
}

TEST(Log, LocalAcknowledgementsAreOnDiskBeforeWriteThroughIsMarked) {
  Driver d(true, true);
  d.marked();
  LogSequence sequence = d.append();
  d.event(Commit{});
  EXPECT_EQ(d.log->acknowledged(), sequence);
  d.event(PartnerDown{false});
  EXPECT_FALSE(d.log->requested().has_value());
  EXPECT_EQ(d.count<StartConsistencyPoint>(), 1u);
  d.append();  // more of these may not move the goal
  d.event(Commit{});
  EXPECT_EQ(d.log->acknowledged(), sequence);
  d.event(ConsistencyPointDone{sequence});
  EXPECT_EQ(d.log->requested(), Durability::write_through);
}

TEST(Log, ResyncCopiesTheLiveRangeAndCountsOnlyAfterTheMark) {
  Driver d(true, true);
  d.marked();
  for (int i = 0; i < 10; ++i) d.append(1000);
  LogSequence freed(5);
  d.event(ConsistencyPointDone{freed});
  d.actions.clear();
  d.event(MirrorUp{});
  EXPECT_EQ(d.writes.front().length, d.log->live_bytes());
  EXPECT_EQ(d.writes.front().through, d.log->last());
  LogSequence meanwhile = d.append();  // acknowledged under `local`
  d.event(Commit{});
  EXPECT_EQ(d.log->acknowledged(), meanwhile);
  d.all_written();
  EXPECT_EQ(d.log->requested(), Durability::mirrored);
  EXPECT_GE(d.mark.sequence, meanwhile);
  LogSequence later = d.append();  // the mailbox may say either: both rules hold
  d.event(Commit{});
  EXPECT_EQ(d.log->acknowledged(), meanwhile);
  d.marked();
  EXPECT_EQ(d.log->acknowledged(), meanwhile);
  d.written();
  EXPECT_EQ(d.log->acknowledged(), later);
}

TEST(Log, AReturningMirrorGetsTheWholeLiveRange) {
  Driver d;
  d.mirrored();
  d.append();
  d.event(Commit{});
  d.all_written();
  d.event(MirrorDown{});
  d.event(MirrorUp{});  // what it holds is unknown: it may have lost its memory
  EXPECT_EQ(d.writes.front().length, d.log->live_bytes());
  EXPECT_EQ(d.writes.front().offset, d.layout.ring(one).offset);
}

TEST(Log, ALogUnderLoadStillGetsThroughAResync) {
  Driver d(true, true);
  d.marked();
  d.event(MirrorUp{});
  for (unsigned i = 0; d.log->mirror_state() == MirrorState::resync; ++i) {
    ASSERT_LT(i, 20u);
    d.append(3000);
    d.event(Commit{});
    d.written();
  }
}

TEST(Log, DrainLeavesNothingBehind) {
  Driver d;
  d.mirrored();
  d.append();
  d.event(Drain{});
  EXPECT_EQ(d.log->append(RecordKind::zero, {}, {}).error().code, ErrorCode::refused);
  EXPECT_FALSE(d.log->drained());
  d.consistent();
  EXPECT_FALSE(d.log->drained());
  d.marked();
  EXPECT_TRUE(d.log->drained());
  // The next owner starts at the superblock's position, on either ring.
  LogPosition position = d.log->position(d.log->last());
  EXPECT_EQ(decide_replay({d.mark, false, position.epoch, Epoch(0)}), ReplayDecision::start_fresh);
}

TEST(Log, StartRefusesAnEpochThatIsNotNew) {
  Driver d;
  auto plan = plan_replay(d.nvram.region().subspan(d.layout.ring(one).offset, d.layout.ring_size()),
                          one, {}, LogSequence(0));
  for (std::uint64_t epoch : {0, 1}) {
    Log again(d.nvram, d.layout, one, *plan, {});
    Actions actions;
    auto started = again.start(Epoch(epoch), one, false, actions);
    ASSERT_FALSE(started.has_value());
    EXPECT_EQ(started.error().code, ErrorCode::refused);
  }
}

TEST(Log, ReplayedRecordsAreAcknowledgedAnew) {
  Driver d;
  d.append();
  auto plan = plan_replay(d.nvram.region().subspan(d.layout.ring(one).offset, d.layout.ring_size()),
                          one, {}, LogSequence(0));
  ASSERT_EQ(plan->size(), 2u);
  Log::Options options;
  options.persistent = true;
  Log again(d.nvram, d.layout, one, *plan, options);
  Actions actions;
  ASSERT_TRUE(again.start(Epoch(2), one, false, actions).has_value());
  EXPECT_EQ(again.acknowledged(), LogSequence(0));
  // write_through may not be marked while records that were promised are only in the log.
  EXPECT_FALSE(again.requested().has_value());
  EXPECT_EQ(actions, (Actions{StartConsistencyPoint{}}));
  actions.clear();
  again.on_event(ConsistencyPointDone{LogSequence(2)}, actions);
  EXPECT_EQ(again.acknowledged(), LogSequence(2));
  EXPECT_EQ(again.requested(), Durability::write_through);
}

TEST(Log, ATransferNeverCrossesTheEndOfTheRing) {
  Driver d;
  d.mirrored();
  Extent ring = d.layout.ring(one);
  for (int i = 0; i < 500; ++i) {
    d.append(3000);
    d.event(Commit{});
    for (const MirrorWrite& write : d.writes)
      if (write.offset >= ring.offset) {
        EXPECT_LE(write.offset + write.length, ring.offset + ring.length);
      }
    d.all_written();
    if (i % 5 == 0) d.consistent();
  }
  EXPECT_EQ(d.log->ignored_events(), 0u);
}

}  // namespace
}  // namespace duet::nvlog
