// A node panics and dumps to a disk while its partner takes over (cluster.h): every state of the
// header, set before, during and after the partner's scan. docs/protocols/coredump.md.
#include <gtest/gtest.h>

#include "base/coverage_expect.h"
#include "coredump/header.h"
#include "coredump/release.h"
#include "ha/cluster_fixture.h"

namespace duet::ha::testing {
namespace {

using coredump::Attribute;

constexpr std::uint8_t spare = 3;
constexpr DiskRef dump_disk{red, spare};
constexpr Duration mark_grace = coredump::ReleaseLimits{}.mark_grace;

// What the supervisor of red writes.
class Dumper {
 public:
  explicit Dumper(Cluster& c) : c_(c) {
    header_.cluster = ClusterId(c.mailbox(red)->cluster);
    header_.disk.bytes.fill(16 * 1 + spare + 1);
    header_.node = red;
    header_.limit = seconds(60);
    header_.epoch = c.snapshot(red).boot_epoch;
    header_.boot_nonce = c.snapshot(red).nonce;
    header_.room = std::uint64_t{63} << 20;
    header_.core_total = 1000000;
    header_.sequence = 0;
  }
  coredump::Header& header() { return header_; }
  void write(Attribute attribute) {
    ++header_.sequence;
    header_.attribute = attribute;
    header_.abort_reason = attribute == Attribute::aborted ? coredump::AbortReason::disk_full
                                                           : coredump::AbortReason::none;
    auto block = *coredump::encode_header(header_);
    for (int copy : {0, 1}) {
      c_.write(red, dump_disk, coredump::header_copy(copy).offset, block,
               [this](Status status) { last = std::move(status); });
    }
  }
  // Goes on for so long, a step each half second.
  void go_on(Duration time) {
    for (auto end = c_.now() + time; c_.now() < end;) {
      c_.run_for(milliseconds(500));
      header_.core_done += 1000;
      header_.elapsed += milliseconds(500);
      write(Attribute::active);
    }
  }
  std::optional<Status> last;

 private:
  Cluster& c_;
  coredump::Header header_;
};

class Dump : public PairTest {
 protected:
  static Options with_spares() {
    auto o = options();
    o.disks = 6;
    o.spares = 2;
    o.redundancy = 1;
    return o;
  }
  // Both serve; red says that RAID leaves the spare.
  static void begin(Cluster& c) {
    start(c);
    c.send(red, FreeSpares{1U << spare});
    c.run_for(milliseconds(500));
    c.hold_reboot(red);
  }
  static void panic(Cluster& c) {
    c.panic_engine(red);
    // As soon as without a dump.
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(2)))
        << c.describe() << c.history();
  }
  static std::vector<std::uint8_t> absent(const Cluster& c) {
    return c.snapshot(blue).identities[0].absent_disks;
  }
  static const std::vector<DumpSnapshot>& left(const Cluster& c) {
    static std::vector<DumpSnapshot> seen;
    seen = c.snapshot(blue).identities[0].left_to_dump;
    return seen;
  }
  static Result<coredump::Header> header(Cluster& c) {
    auto copy = [&](int n) { return c.disk(dump_disk).read(coredump::header_copy(n).offset); };
    return coredump::choose_header(copy(0), copy(1));
  }
  static bool taken(Cluster& c, Duration limit) {
    return c.run_until([&] { return absent(c).empty(); }, limit);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Dump, ::testing::Range<std::uint64_t>(1, 4));

enum class When { before, in_the_grace };
enum class End { completed, aborted, stalled, limit, partner_boots, power_off };
struct Row {
  When when;
  End end;
  std::string_view take;
  Attribute attribute;
};
constexpr Row rows[] = {
    {When::before, End::completed, "finished", Attribute::completed},
    {When::before, End::aborted, "finished", Attribute::aborted},
    {When::before, End::stalled, "stalled", Attribute::aborted},
    {When::before, End::limit, "limit_over", Attribute::aborted},
    {When::before, End::partner_boots, "writer_gone", Attribute::aborted},
    {When::before, End::power_off, "stalled", Attribute::aborted},
    {When::in_the_grace, End::completed, "finished", Attribute::completed},
    {When::in_the_grace, End::aborted, "finished", Attribute::aborted},
    {When::in_the_grace, End::stalled, "stalled", Attribute::aborted},
    {When::in_the_grace, End::limit, "limit_over", Attribute::aborted},
    {When::in_the_grace, End::partner_boots, "writer_gone", Attribute::aborted},
    {When::in_the_grace, End::power_off, "stalled", Attribute::aborted},
};

TEST_P(Dump, is_left_alone_until_it_is_over_and_then_collected) {
  EXPECT_MARK(dump_disks_left);
  EXPECT_MARK(dump_found);
  for (const auto& row : rows) {
    SCOPED_TRACE(std::to_string(&row - rows));
    Cluster c(with_spares());
    begin(c);
    Dumper d(c);
    d.header().limit = seconds(row.end == End::limit ? 4 : 60);
    if (row.when == When::before) d.write(Attribute::active), c.run_for(milliseconds(300));
    panic(c);
    EXPECT_EQ(absent(c), std::vector<std::uint8_t>{spare}) << c.history();
    if (row.when == When::in_the_grace) c.run_for(milliseconds(700)), d.write(Attribute::active);
    d.go_on(seconds(3));
    if (row.end != End::limit) {
      ASSERT_EQ(left(c).size(), 1u) << c.history();
      EXPECT_GT(left(c)[0].until, c.now());
      EXPECT_EQ(left(c)[0].total, 1000000u);
      EXPECT_FALSE(c.logged(blue, "takeover.disk_taken"));
    }
    EXPECT_TRUE(c.serves(blue, red));
    switch (row.end) {
      case End::completed:
        d.write(Attribute::completed);
        break;
      case End::aborted:
        d.write(Attribute::aborted);
        break;
      case End::stalled:
        break;
      case End::limit:
        d.go_on(seconds(3));
        break;
      case End::partner_boots:
        c.let_reboot(red);
        break;
      case End::power_off:
        c.power_off(red);
        break;
    }
    ASSERT_TRUE(taken(c, seconds(7))) << c.describe() << c.history();
    EXPECT_NE(c.history().find(std::string("is taken: ") + std::string(row.take)),
              std::string::npos)
        << c.history();
    ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(1)))
        << c.history();
    ASSERT_TRUE(header(c));
    EXPECT_EQ(header(c)->attribute, row.attribute);
    EXPECT_CLEAN(c);
  }
}

TEST_P(Dump, that_is_never_marked_costs_the_grace_and_no_service) {
  Cluster c(with_spares());
  begin(c);
  panic(c);
  EXPECT_EQ(absent(c), std::vector<std::uint8_t>{spare});
  c.run_for(seconds(1));
  EXPECT_EQ(absent(c), std::vector<std::uint8_t>{spare});
  ASSERT_TRUE(taken(c, mark_grace + seconds(1))) << c.history();
  // After the grace: red is fenced there, and its header does not reach the disk.
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(seconds(3));
  ASSERT_TRUE(d.last);
  EXPECT_FALSE(*d.last);
  EXPECT_FALSE(header(c)) << "nothing was written";
  EXPECT_FALSE(c.logged(blue, "dump.collecting"));
  EXPECT_CLEAN(c);
}

// A completed dump of another boot, and a header of another node's memory, mean nothing now.
TEST_P(Dump, of_another_boot_is_not_waited_for) {
  Cluster c(with_spares());
  begin(c);
  Dumper d(c);
  d.header().boot_nonce = BootNonce(77);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  ASSERT_TRUE(taken(c, mark_grace + seconds(1))) << c.history();
  EXPECT_NE(c.history().find("is taken: no_dump"), std::string::npos);
  // But it is a dump, and is saved like any.
  EXPECT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(1)));
  EXPECT_EQ(header(c)->attribute, Attribute::aborted);
  EXPECT_CLEAN(c);
}

TEST_P(Dump, gives_way_to_redundancy) {
  EXPECT_MARK(dump_disk_needed);
  Cluster c(with_spares());
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  d.go_on(seconds(2));
  ASSERT_EQ(left(c).size(), 1u);
  c.send(blue, DiskNeeded{red, d.header().disk});
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "disk.returned"); }, seconds(3)))
      << c.history();
  EXPECT_EQ(header(c)->attribute, Attribute::inactive) << "before RAID hears of the disk (C6)";
  c.run_for(seconds(1));
  EXPECT_FALSE(c.logged(blue, "dump.collecting"));
  EXPECT_CLEAN(c);
}

TEST_P(Dump, gives_way_to_service_that_fails) {
  EXPECT_MARK(takeover_needs_the_disks_left);
  Cluster c(with_spares());
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  bool told = false;
  c.on_handled = [&](NodeId node, const Event& event) {
    if (node != blue || told || !std::holds_alternative<IdentityAssumed>(event)) return;
    told = true;
    c.send(blue, AssumeFailed{red, "a member is missing"});
  };
  c.panic_engine(red);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "disk.returned"); }, seconds(3)))
      << c.history();
  EXPECT_EQ(header(c)->attribute, Attribute::inactive);
}

TEST_P(Dump, no_other_takeover_leaves_a_disk) {
  for (auto how : {How::off, How::pause}) {
    Cluster c(with_spares());
    begin(c);
    hit(c, red, how);
    ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
        << c.history();
    EXPECT_TRUE(absent(c).empty());
    EXPECT_CLEAN(c);
  }
  // A spare that RAID may have taken is fenced at once.
  Cluster c(with_spares());
  begin(c);
  c.send(red, FreeSpares{0});
  c.run_for(milliseconds(500));
  panic(c);
  EXPECT_TRUE(absent(c).empty());
  EXPECT_CLEAN(c);
}

TEST_P(Dump, a_dedicated_disk_needs_no_word) {
  auto o = with_spares();
  o.dedicated = true;
  Cluster c(o);
  begin(c);
  EXPECT_EQ(c.snapshot(blue).partner_dump_disks, 2u);
  c.send(red, FreeSpares{0});
  c.run_for(milliseconds(500));
  EXPECT_EQ(c.snapshot(blue).partner_dump_disks, 1u);
  panic(c);
  EXPECT_EQ(absent(c), std::vector<std::uint8_t>{spare + 1});
  ASSERT_TRUE(taken(c, mark_grace + seconds(1))) << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Dump, outlives_a_reboot_of_the_survivor) {
  Cluster c(with_spares());
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  d.go_on(seconds(1));
  c.panic_engine(blue);
  d.go_on(seconds(2));
  ASSERT_TRUE(c.run_until([&] { return survivor_serves_both(c, blue); }, seconds(5)))
      << c.describe() << c.history();
  EXPECT_EQ(absent(c), std::vector<std::uint8_t>{spare}) << c.history();
  d.write(Attribute::completed);
  ASSERT_TRUE(taken(c, seconds(3))) << c.history();
  EXPECT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(1)));
  EXPECT_CLEAN(c);
}

TEST_P(Dump, whose_disk_loses_its_path_is_taken_when_that_is_back) {
  EXPECT_MARK(dump_disk_lost);
  Cluster c(with_spares());
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  c.cut_path(blue, dump_disk);
  c.run_for(seconds(1));
  EXPECT_TRUE(left(c).empty());
  EXPECT_EQ(absent(c), std::vector<std::uint8_t>{spare});
  c.restore_path(blue, dump_disk);
  ASSERT_TRUE(taken(c, seconds(3))) << c.history();
  EXPECT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(1)));
  EXPECT_EQ(header(c)->attribute, Attribute::aborted);
  EXPECT_CLEAN(c);
}

// A giveback while the dump is collected: by order only, and the rest goes home with the disk.
TEST_P(Dump, that_is_collected_softly_vetoes_the_giveback) {
  EXPECT_MARK(dump_collection_cancelled);
  auto o = with_spares();
  o.auto_giveback = true;
  o.collect = seconds(30);
  Cluster c(o);
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  d.go_on(seconds(1));
  d.write(Attribute::completed);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(3)));
  c.let_reboot(red);
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::mbwait; }, seconds(10)))
      << c.describe() << c.history();
  c.run_for(seconds(2));
  EXPECT_EQ(c.state(red), NodeState::mbwait) << "it gives back by itself only when it is saved";
  const auto vetoes = c.snapshot(blue).giveback_vetoes;
  ASSERT_EQ(vetoes.size(), 1u);
  EXPECT_EQ(vetoes[0].reason, Reason::coredump_in_progress);
  EXPECT_FALSE(vetoes[0].hard);
  EXPECT_NE(vetoes[0].detail.find("is collected"), std::string::npos) << vetoes[0].detail;
  c.send(blue, DumpCollection{dump_disk, 1000, 2000, false});
  c.run_for(milliseconds(10));
  EXPECT_NE(c.snapshot(blue).giveback_vetoes[0].detail.find("done in"), std::string::npos);
  auto refused = c.order(blue, {.verb = OperatorVerb::giveback, .node = red});
  c.run_for(milliseconds(100));
  ASSERT_TRUE(c.answer_to(refused));
  EXPECT_EQ(c.answer_to(refused)->outcome, OperatorAnswer::Outcome::refused);
  c.order(blue,
          {.verb = OperatorVerb::giveback, .node = red, .overrides = {"coredump_in_progress"}});
  ASSERT_TRUE(c.run_until([&] { return c.state(red) == NodeState::up; }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_TRUE(c.run_until([&] { return c.logged(red, "dump.collecting"); }, seconds(2)))
      << "at home";
  EXPECT_CLEAN(c);
}

TEST_P(Dump, a_saved_one_vetoes_nothing) {
  auto o = with_spares();
  o.auto_giveback = true;
  Cluster c(o);
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  d.write(Attribute::completed);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(3)));
  c.let_reboot(red);
  ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(10)))
      << c.describe() << c.history();
  EXPECT_CLEAN(c);
}

TEST_P(Dump, a_collection_without_word_is_cancelled) {
  EXPECT_MARK(dump_collection_without_word);
  auto o = with_spares();
  o.collect = seconds(1000);
  Cluster c(o);
  begin(c);
  Dumper d(c);
  d.write(Attribute::active);
  c.run_for(milliseconds(300));
  panic(c);
  d.write(Attribute::completed);
  ASSERT_TRUE(c.run_until([&] { return c.logged(blue, "dump.collecting"); }, seconds(3)));
  EXPECT_EQ(c.snapshot(blue).identities[0].collected.size(), 1u);
  c.run_for(DumpCollector::patience + seconds(1));
  EXPECT_TRUE(c.snapshot(blue).identities[0].collected.empty());
  EXPECT_CLEAN(c);
}

// Whenever either node dies while the other one dumps or takes, both serve again in the end, and
// the disk is where it belongs.
TEST_P(Dump, a_death_at_every_moment) {
  for (auto victim : {red, blue}) {
    for (int step = 0; step < 14; ++step) {
      SCOPED_TRACE(std::to_string(victim.value()) + " at " + std::to_string(step));
      auto o = with_spares();
      o.auto_giveback = true;
      Cluster c(o);
      begin(c);
      Dumper d(c);
      c.panic_engine(red);
      bool dead = false;
      for (int i = 0; i < 14; ++i) {
        c.run_for(milliseconds(170));
        if (i == 3) d.write(Attribute::active);
        if (i > 3 && i < 10) d.write(Attribute::active);
        if (i == 10) d.write(Attribute::completed);
        if (i == step) c.power_off(victim), dead = true;
      }
      ASSERT_TRUE(dead);
      c.let_reboot(red);
      c.run_for(milliseconds(500));
      c.power_on(victim);
      ASSERT_TRUE(c.run_until([&] { return both_mirrored(c); }, seconds(40)))
          << c.describe() << c.history();
      c.run_for(seconds(6));
      EXPECT_TRUE(c.snapshot(red).identities[0].absent_disks.empty()) << c.history();
      EXPECT_EQ(c.disk(dump_disk).holder_key(), c.disk({red, 5}).holder_key());
      EXPECT_CLEAN(c);
    }
  }
}

}  // namespace
}  // namespace duet::ha::testing
