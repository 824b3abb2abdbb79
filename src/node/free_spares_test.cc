// Spares between RAID, the dumps that they bear, and the supervisor.
#include "node/free_spares.h"

#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "node/core_bench.h"

namespace duet::node {
namespace {

using coredump::Attribute;

// ---- what the supervisor knows ----

struct FreeSparesAlone : testing::Test {
  FreeSparesFact last() const { return told.empty() ? FreeSparesFact{} : told.back(); }
  void on_disk(Result<void> r = {}) { std::exchange(waiting, nullptr)(std::move(r)); }

  std::vector<FreeSparesFact> told;
  std::uint64_t now = 0, number = 7;
  ports::Done<void> waiting;
  int asked = 0;
  FreeSpares spares{
      {[this](const FreeSparesFact& fact) { told.push_back(fact); }, [this] { return now; },
       [this](ports::Done<void> done) {
         ++asked;
         waiting = std::move(done);
       }},
      number};
};

TEST_F(FreeSparesAlone, OneMoreWaitsForTheDisksOneLessDoesNot) {
  spares.look();
  EXPECT_EQ(asked, 0);
  now = 0b110;
  spares.look();
  spares.look();
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(told.empty());
  on_disk();
  EXPECT_EQ(last().disks, 0b110u);
  EXPECT_EQ(last().number, 8u);
  now = 0b010;
  spares.look();
  EXPECT_EQ(last().disks, 0b010u);
  spares.look();
  EXPECT_EQ(told.size(), 2u);
  now = 0b011;
  spares.look();
  now = 0b010;  // not any more when the disks say so
  on_disk();
  EXPECT_EQ(told.size(), 2u);
  now = 0b011;
  spares.look();
  on_disk(fail(ErrorCode::cancelled, "closed"));
  EXPECT_EQ(told.size(), 2u);
  spares.look();
  EXPECT_EQ(asked, 4);
}

TEST_F(FreeSparesAlone, RaidTakesOneWhenThatIsHeard) {
  now = 0b11;
  spares.look();
  on_disk();
  int taken = 0;
  now = 0b10;
  spares.take(0, [&] { ++taken; });
  EXPECT_EQ(last().disks, 0b10u);
  const auto first = last().number;
  spares.heard(first - 1);
  EXPECT_EQ(taken, 0);
  // Once more, as the first one gave up waiting.
  spares.take(0, [&] { taken += 10; });
  spares.heard(first);
  EXPECT_EQ(taken, 0);
  spares.heard(first + 1);
  spares.heard(first + 1);
  EXPECT_EQ(taken, 10);
  EXPECT_EQ(last().disks, 0b10u);
}

TEST_F(FreeSparesAlone, OneThatIsTakenMeanwhileIsNotFree) {
  EXPECT_MARK(spare_taken_before_it_was_free);
  now = 1;
  spares.look();
  spares.take(0, [] {});
  on_disk();  // it may be a member there
  EXPECT_EQ(last().disks, 0u);
  spares.look();
  on_disk();
  EXPECT_EQ(last().disks, 1u);
  spares.close();
  EXPECT_EQ(last().disks, 0u);
}

// ---- an identity with a spare ----

class SpareTest : public testing::Test, protected CoreBench {
 protected:
  DiskId spare_id() const { return shelf.labels[spare].id; }
  raid::Array::Disk spare_disk() const {
    return {spare_id(), disks[spare].get(), disk::data_area(TestShelf::disk_size)->offset};
  }
  void serve_with_spare() {
    serve_files();
    ASSERT_TRUE(storage->array()->add_spare(spare_disk()));
    consistency_point();
    watch_spare();
  }
  void look() {
    service->look_at_spares();
    run();
  }
  const raid::Member& member(std::uint32_t n) const {
    return storage->array()->layout().members[n];
  }
  std::uint64_t said_free() const {
    const auto* fact = last<FreeSparesFact>();
    return fact == nullptr ? 0 : fact->disks;
  }
  bool rebuilt(std::uint32_t n) {
    return scheduler.run_until([&] {
      return member(n).disk == spare_id() && member(n).state == raid::MemberState::in_sync;
    });
  }
  // What the header said, and whether the supervisor knew, when the first block was written.
  void watch_spare() {
    shelf.media[spare]->latency = [this](simulation::DiskOperation operation, std::uint64_t offset,
                                         std::uint64_t) -> std::optional<Duration> {
      if (operation == simulation::DiskOperation::write && offset >= disk::data_offset && !first) {
        first = {attribute(), said_free()};
      }
      const bool chunk = operation == simulation::DiskOperation::read && offset > 0;
      return chunk ? std::optional<Duration>(milliseconds(40)) : std::nullopt;
    };
  }
  std::optional<std::pair<Attribute, std::uint64_t>> first;
};

TEST_F(SpareTest, TheSupervisorHearsWhichAreFree) {
  serve_with_spare();
  look();
  EXPECT_EQ(said_free(), 1U << spare);
  EXPECT_EQ(count<FreeSparesFact>(), 1u);
  look();
  EXPECT_EQ(count<FreeSparesFact>(), 1u);
  service->hand_over();
  ASSERT_TRUE(scheduler.run_until([&] { return last<HandedOverFact>() != nullptr; }));
  EXPECT_EQ(said_free(), 0u);
}

// C9. What the supervisor does not answer, because it dumps, nobody waits for.
TEST_F(SpareTest, NoneIsTakenBeforeTheSupervisorHasHeard) {
  serve_with_spare();
  look();
  supervisor_hears = false;
  ASSERT_TRUE(storage->array()->fail_member(1));
  run(seconds(30));
  EXPECT_FALSE(first);
  EXPECT_EQ(member(1).state, raid::MemberState::failed);
  EXPECT_EQ(said_free(), 0u);
  auto file = create_file("degraded");
  ASSERT_TRUE(change(write_of(file, 0, "still served")));
  EXPECT_EQ(content(file, 0, 12), "still served");
  supervisor_hears = true;
  ASSERT_TRUE(rebuilt(1));
  EXPECT_EQ(first->second, 0u);
  look();
  EXPECT_EQ(said_free(), 0u);
}

// C6, of a dump that is being collected, and of one that is not yet.
class DumpedSpareTest : public SpareTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Collected, DumpedSpareTest, testing::Bool());

TEST_P(DumpedSpareTest, TheDumpIsGoneBeforeTheFirstBlockIsWrittenOverIt) {
  put_dump({});
  serve_with_spare();
  if (GetParam()) {
    service->collect_dump(spare);
    run(milliseconds(100));
  }
  ASSERT_EQ(attribute(), Attribute::completed);
  ASSERT_TRUE(storage->array()->fail_member(1));
  ASSERT_TRUE(rebuilt(1));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->first, Attribute::inactive);
  EXPECT_NE(said("coredump.dropped"), "");
  EXPECT_TRUE(core_ids().empty());
}

TEST_F(SpareTest, OneThatKeepsItsHeaderIsNotTaken) {
  put_dump({});
  serve_with_spare();
  shelf.media[spare]->fault = [](simulation::DiskOperation operation, std::uint64_t offset,
                                 std::uint64_t) -> std::optional<ErrorCode> {
    const bool header = offset == coredump::header_copy(0).offset;
    if (operation == simulation::DiskOperation::write && header) return ErrorCode::io_error;
    return {};
  };
  ASSERT_TRUE(storage->array()->fail_member(1));
  run(seconds(20));
  EXPECT_FALSE(first);
  EXPECT_EQ(member(1).state, raid::MemberState::failed);
  shelf.media[spare]->fault = nullptr;
  ASSERT_TRUE(rebuilt(1));
  EXPECT_EQ(first->first, Attribute::inactive);
}

// The member failed, and the node died before the answer.
TEST_F(SpareTest, WhoServesNextTakesItWhenItServes) {
  serve_with_spare();
  supervisor_hears = false;
  ASSERT_TRUE(storage->array()->fail_member(1));
  consistency_point();
  supervisor_hears = true;
  EXPECT_MARK(disk_claimed_while_not_serving);
  reboot();
  ASSERT_TRUE(rebuilt(1));
}

// The spare is left to the dump of its home node, and the survivor needs it.
TEST_F(SpareTest, TheSurvivorAsksForOneThatIsLeftToADump) {
  serve_with_spare();
  put_dump({});
  start_engine(blue);
  watch_spare();
  auto o = order(false);
  o.absent = {spare};
  service->assume(o, true);
  ASSERT_TRUE(scheduler.run_until([&] { return last<AssumedFact>() != nullptr; }));
  run();
  EXPECT_EQ(last<DiskNeededFact>(), nullptr) << "nothing lacks it";
  ASSERT_TRUE(storage->array()->fail_member(1));
  ASSERT_NE(last<DiskNeededFact>(), nullptr);
  EXPECT_EQ(last<DiskNeededFact>()->identity, red);
  EXPECT_EQ(last<DiskNeededFact>()->disk, spare_id());
  run(seconds(5));
  EXPECT_FALSE(first);
  EXPECT_EQ(attribute(), Attribute::completed);
  service->disk_returned(spare);
  ASSERT_TRUE(rebuilt(1));
  EXPECT_EQ(first->first, Attribute::inactive);
  EXPECT_EQ(count<FreeSparesFact>(), 0u) << "blue dumps to no disk of red";
  admin::PoolReply status;
  service->pool_order({admin::PoolVerb::status, red}, [&](admin::PoolReply r) { status = r; });
  run();
  ASSERT_EQ(status.report.size(), 1u) << status.why;
  for (const auto& each : status.report[0].disks) {
    if (each.member == "m1") EXPECT_EQ(each.path, shelf.engine[spare]->name()) << "it is known";
  }
}

}  // namespace
}  // namespace duet::node
