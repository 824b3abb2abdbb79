// A randomized model of a pair around one log: two NVRAM regions whose unpersisted lines are lost
// in a crash, a mirror whose writes land late, torn or not at all, a mailbox and a superblock that
// become durable before the owner hears of it. Whatever happens, every acknowledged record is found
// again, in order, with its bytes (I1, I4, I8, I9), and after the faults stop everything is
// acknowledged and mirrored (I18).
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <random>

#include "nvlog/log.h"
#include "nvlog/sim_nvram.h"

namespace duet::nvlog {
namespace {

constexpr std::uint64_t region_size = 0x28000;
const NodeId identity{1};
const ClusterId cluster{1};

class World {
 public:
  World(std::uint64_t seed, bool persistent)
      : random_(seed),
        intensity_(std::array{100u, 25u, 8u}[seed % 3]),
        persistent_(persistent),
        layout_(*RegionLayout::of_size(region_size)) {
    for (unsigned i = 0; i < 2; ++i) {
      nvram_[i] = std::make_unique<SimNvram>(region_size, persistent);
      format(i);
    }
    serve(0);
  }

  void run(unsigned steps) {
    for (unsigned i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) step();
    calm_down();
  }

  unsigned recoveries = 0, takeovers = 0, givebacks = 0, replayed = 0, acknowledged = 0,
           elsewhere = 0;

 private:
  struct Entry {
    std::uint64_t sequence;
    std::uint64_t tag;
  };
  struct Transfer {
    MirrorWrite write;
    bool landed = false;
  };

  bool chance(unsigned percent) { return random_() % 100 < percent; }
  // Some worlds crash all the time, in others an owner lives long enough for slow disasters.
  bool fault(unsigned percent) { return chance(percent) && chance(intensity_); }
  unsigned other() const { return 1 - owner_; }
  static std::vector<std::byte> payload(std::uint64_t tag) {
    std::mt19937_64 r(tag);
    std::vector<std::byte> bytes(8 + r() % (tag % 16 == 0 ? 12000 : 1500));
    for (auto& b : bytes) b = std::byte(r());
    return bytes;
  }
  void format(unsigned node) {
    ASSERT_TRUE(format_region(*nvram_[node], cluster, NodeId(node + 1), {}).has_value());
  }

  // --- what happens ---------------------------------------------------------------------------
  void step() {
    switch (random_() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
        append();
        break;
      case 4:
      case 5:
      case 6:
        land();
        break;
      case 7:
      case 8:
        complete();
        break;
      case 9:
        if (chance(60)) link_up();
        break;
      case 10:
        if (chance(30)) cut_link();
        break;
      case 11:
        mark_progress();
        break;
      case 12:
        consistency_point_progress();
        break;
      case 13:
        if (chance(30)) event(PartnerDown{chance(50)});
        break;
      case 14:
        if (fault(25))
          crash();
        else if (fault(10))
          giveback();
        break;
      case 15:
        if (fault(30))
          nvram_[owner_]->crash_in(1 + random_() % 6, random_());
        else if (chance(20))
          partner_loses_power();
        break;
    }
    if (nvram_[owner_]->dead()) crash();
    if (log_->mirror_state() == MirrorState::complete && log_->marked() == Durability::mirrored &&
        !log_->requested())
      fragile_ = false;
  }

  void append() {
    for (unsigned n = random_() % 4; n > 0; --n) {
      std::uint64_t tag = next_tag_++;
      auto bytes = payload(tag);
      Slice whole = copy_to_slice(bytes);
      std::size_t cut = random_() % (bytes.size() + 1);
      std::vector<Slice> slices{{whole.owner, whole.bytes.first(cut)},
                                {whole.owner, whole.bytes.subspan(cut)}};
      auto sequence = log_->append(RecordKind::write, {tag, 0, bytes.size(), 0}, slices);
      if (!sequence) {
        EXPECT_EQ(sequence.error().code, ErrorCode::no_space);
        break;
      }
      chain_.push_back({sequence->value(), tag});
      // Dead in the middle of this one: nobody waits for it, and it may or may not be found.
      if (nvram_[owner_]->dead()) return;
    }
    if (chance(70)) event(Commit{});
  }

  template <class E>
  void event(E e) {
    if (nvram_[owner_]->dead()) return;
    Actions actions;
    log_->on_event(e, actions);
    // A crash inside: what it would have ordered never left the node.
    if (!nvram_[owner_]->dead()) perform(actions);
  }

  void perform(const Actions& actions) {
    for (const Action& action : actions) {
      if (auto* write = std::get_if<MirrorWrite>(&action)) {
        ASSERT_TRUE(connected_);
        ASSERT_LE(link_.size(), Log::default_transfers_max);
        Extent window = layout_.section(identity);
        ASSERT_GE(write->offset, window.offset);
        ASSERT_LE(write->offset + write->length, window.offset + window.length);
        link_.push_back({*write});
      } else if (auto* mark = std::get_if<RequestMark>(&action)) {
        ASSERT_FALSE(pending_mark_.has_value());
        pending_mark_ = mark->mark;
        mark_durable_ = false;
      } else if (auto* ack = std::get_if<Acknowledge>(&action)) {
        check_acknowledge(ack->through);
        acknowledged_ = ack->through.value();
        while (promised_ < chain_.size() && chain_[promised_].sequence <= acknowledged_)
          ++promised_;
        ++acknowledged;
      } else {
        consistency_point_wanted_ = true;
      }
    }
  }

  // I4 by the durable state of the world alone.
  void check_acknowledge(LogSequence through) {
    ASSERT_GT(through.value(), acknowledged_);
    if (through <= superblock_.sequence) return;
    ASSERT_EQ(mark_.epoch, epoch_) << "acknowledged without a mark of this epoch";
    ASSERT_NE(mark_.mode, Durability::write_through);
    if (mark_.mode == Durability::local) {
      ASSERT_TRUE(persistent_);
      return;
    }
    auto plan = plan_replay(ring_of(other()), identity, superblock_, LogSequence(0));
    ASSERT_TRUE(plan.has_value());
    ASSERT_GE(plan->end.sequence, through) << "mirrored, but the partner could not replay it";
  }

  Bytes ring_of(unsigned node) {
    Extent at = layout_.ring(identity);
    return nvram_[node]->region().subspan(at.offset, at.length);
  }

  // --- mirror -----------------------------------------------------------------------------------
  Bytes source(const MirrorWrite& write) {
    return nvram_[owner_]->region().subspan(write.offset, write.length);
  }
  void land() {
    for (Transfer& t : link_)
      if (!t.landed) {
        nvram_[other()]->write_remote(t.write.offset, source(t.write));
        t.landed = true;
        return;
      }
  }
  void complete() {
    if (link_.empty() || !link_.front().landed) return;
    std::uint64_t id = link_.front().write.id;
    link_.pop_front();
    event(MirrorWritten{id});
  }
  // What is still under way may land in part, whole, or not at all.
  void lose_link() {
    for (Transfer& t : link_)
      if (!t.landed && chance(50)) {
        if (chance(50))
          nvram_[other()]->write_torn(t.write.offset, source(t.write), random_);
        else
          nvram_[other()]->write_remote(t.write.offset, source(t.write));
      }
    last_lost_ = link_.empty() ? 0 : link_.front().write.id;
    link_.clear();
    connected_ = false;
  }
  void cut_link() {
    if (!connected_) return;
    lose_link();
    if (chance(30) && last_lost_) event(MirrorFailed{last_lost_});
    event(MirrorDown{});
    if (chance(30) && last_lost_) event(MirrorWritten{last_lost_});  // stale
  }
  void link_up() {
    if (connected_) return;
    connected_ = true;
    duplicate_control_block(*nvram_[other()], layout_, identity);
    event(MirrorUp{});
  }

  // --- mailbox and consistency points: durable first, told later
  // ----------------------------------
  void mark_progress() {
    if (!pending_mark_) return;
    if (!mark_durable_) {
      mark_ = *pending_mark_;
      mark_owner_ = owner_;
      mark_durable_ = true;
      if (chance(50)) return;
    }
    Mark mark = *pending_mark_;
    pending_mark_.reset();
    event(DurabilityMarked{mark});
  }
  void consistency_point_progress() {
    if (!point_) {
      if (consistency_point_wanted_ || chance(5)) {
        point_ = log_->position(log_->last());
        point_count_ = chain_.size();
        point_durable_ = false;
        consistency_point_wanted_ = false;
      }
      return;
    }
    if (!point_durable_) {
      superblock_ = *point_;
      superblock_count_ = point_count_;
      point_durable_ = true;
      if (chance(50)) return;
    }
    LogSequence sequence = point_->sequence;
    point_.reset();
    event(ConsistencyPointDone{sequence});
  }

  // --- failures and recovery
  // -----------------------------------------------------------------------
  void forget_owner() {
    if (connected_) lose_link();
    log_.reset();
    pending_mark_.reset();
    point_.reset();
    consistency_point_wanted_ = false;
  }

  void crash() {
    forget_owner();
    bool power = chance(50);
    // Volatile memory survives one power loss at a time; the copy has to be whole again before the
    // next.
    bool may_lose = persistent_ || !fragile_;
    nvram_[owner_]->restart(power && may_lose);
    if (power && may_lose && !persistent_) {
      fragile_ = true;
      format(owner_);
    }
    if (persistent_ && chance(20)) nvram_[other()]->restart(true);  // both at once
    recover(chance(50) ? other() : owner_);
  }

  void partner_loses_power() {
    if (!persistent_ && fragile_) return;
    cut_link();
    if (nvram_[owner_]->dead()) return;
    nvram_[other()]->restart(true);
    if (!persistent_) {
      format(other());
      fragile_ = true;
    }
  }

  void recover(unsigned node) {
    if (!try_serve(node)) {
      ++elsewhere;
      ASSERT_TRUE(try_serve(1 - node)) << "neither node may serve";
    }
    ++recoveries;
  }

  void serve(unsigned node) { ASSERT_TRUE(try_serve(node)); }

  bool try_serve(unsigned node) {
    auto control = read_control_block(nvram_[node]->region(), layout_, identity);
    auto decision = decide_replay({mark_, mark_owner_ == node, superblock_.epoch, control.epoch});
    if (decision == ReplayDecision::elsewhere || decision == ReplayDecision::lost) return false;
    if (node != owner_) ++takeovers;
    owner_ = node;
    epoch_ = epoch_.next();  // into the mailbox, first of all
    ReplayPlan plan = empty_plan(superblock_);
    if (decision == ReplayDecision::replay)
      plan = *plan_replay(ring_of(node), identity, superblock_, required_sequence(mark_, control));
    EXPECT_NE(plan.reason, ReplayEnd::lost) << plan.why;
    check_recovered(plan);
    if (chance(50)) check_recovered(plan);  // I8: planning and reading change nothing
    Log::Options options;
    options.persistent = persistent_;
    options.transfer_bytes_max = 4096;
    log_ = std::make_unique<Log>(*nvram_[node], layout_, identity, plan, options);
    Actions actions;
    if (chance(20)) nvram_[node]->crash_in(1 + random_() % 2, random_());
    auto started = log_->start(epoch_, NodeId(node + 1), chance(50), actions);
    if (nvram_[node]->dead()) {
      forget_owner();
      nvram_[node]->restart();
      return try_serve(node);
    }
    if (!started) {
      EXPECT_EQ(started.error().code, ErrorCode::no_space);
      superblock_ = plan.end;
      superblock_count_ = chain_.size();
      return try_serve(node);
    }
    perform(actions);
    return true;
  }

  // What the pool and the log give together begins with all that was ever acknowledged, in order.
  // After that there may be records that nobody was promised; as long as no owner has acknowledged
  // anything, they may even be those of another ring than last time.
  void check_recovered(const ReplayPlan& plan) {
    ASSERT_LE(superblock_count_, chain_.size());
    std::vector<Entry> found(chain_.begin(),
                             chain_.begin() + static_cast<std::ptrdiff_t>(superblock_count_));
    for (std::size_t i = 0; i < plan.size(); ++i) {
      RecordView record = plan.record(ring_of(owner_), i);
      ASSERT_GT(record.header.sequence, superblock_.sequence);  // I9
      if (record.header.kind != RecordKind::write) continue;
      Entry entry{record.header.sequence.value(), record.header.words[0]};
      ASSERT_TRUE(std::ranges::equal(record.payload, payload(entry.tag)));
      ASSERT_LT(entry.tag, next_tag_);
      if (!found.empty()) {
        ASSERT_GT(entry.tag, found.back().tag);
      }
      found.push_back(entry);
      ++replayed;
    }
    ASSERT_GE(found.size(), promised_) << "acknowledged record lost";
    for (std::size_t i = 0; i < promised_; ++i) {
      ASSERT_EQ(found[i].tag, chain_[i].tag);
      ASSERT_EQ(found[i].sequence, chain_[i].sequence);
    }
    chain_ = found;
    acknowledged_ = superblock_.sequence.value();  // a new log acknowledges replayed records anew
  }

  void settle() {
    for (unsigned i = 0; i < 400; ++i) {
      land();
      complete();
      mark_progress();
      consistency_point_progress();
      event(Commit{});
    }
  }

  void giveback() {
    settle();
    if (nvram_[owner_]->dead()) return;
    event(Drain{});
    settle();
    if (nvram_[owner_]->dead()) return;
    ASSERT_TRUE(log_->drained());
    ASSERT_EQ(superblock_count_, chain_.size());
    forget_owner();
    ++givebacks;
    serve(other());
  }

  void calm_down() {
    if (testing::Test::HasFatalFailure()) return;
    nvram_[owner_]->crash_in(0, 0);
    event(PartnerDown{false});
    link_up();
    settle();
    append();
    event(Commit{});
    settle();
    ASSERT_EQ(log_->mirror_state(), MirrorState::complete);
    ASSERT_EQ(log_->marked(), Durability::mirrored);
    ASSERT_FALSE(log_->requested().has_value());
    if (!chain_.empty()) {
      ASSERT_GE(log_->acknowledged().value(), chain_.back().sequence);
    }
    ASSERT_LT(log_->live_bytes() * 100, log_->capacity() * 75);
  }

  std::mt19937_64 random_;
  unsigned intensity_;  // percent
  bool persistent_;
  RegionLayout layout_;
  std::unique_ptr<SimNvram> nvram_[2];
  std::unique_ptr<Log> log_;
  unsigned owner_ = 0;

  std::vector<Entry> chain_;  // appended by the chain of owners, in order
  std::size_t promised_ = 0;  // the first entries that were acknowledged
  std::uint64_t next_tag_ = 1;
  std::uint64_t acknowledged_ = 0;

  Epoch epoch_;  // mailbox
  Mark mark_;
  unsigned mark_owner_ = 0;
  std::optional<Mark> pending_mark_;
  bool mark_durable_ = false;

  LogPosition superblock_;
  std::size_t superblock_count_ = 0;
  std::optional<LogPosition> point_;
  std::size_t point_count_ = 0;
  bool point_durable_ = false;
  bool consistency_point_wanted_ = false;

  bool connected_ = false;
  std::deque<Transfer> link_;
  std::uint64_t last_lost_ = 0;
  bool fragile_ = false;
};

// Sharded, so that each test is short under the sanitizers too.
class LogModel : public testing::TestWithParam<std::tuple<bool, unsigned>> {};

TEST_P(LogModel, NothingAcknowledgedIsLost) {
  constexpr unsigned seeds = 250;
  auto [persistent, shard] = GetParam();
  unsigned recoveries = 0, takeovers = 0, givebacks = 0, replayed = 0, acknowledged = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(shard * seeds + seed));
    World world(shard * seeds + seed, persistent);
    world.run(300);
    if (HasFailure()) return;
    recoveries += world.recoveries;
    takeovers += world.takeovers;
    givebacks += world.givebacks;
    replayed += world.replayed;
    acknowledged += world.acknowledged;
  }
  // The interesting things did happen.
  EXPECT_GT(recoveries, 700u);
  EXPECT_GT(takeovers, 200u);
  EXPECT_GT(givebacks, 100u);
  EXPECT_GT(replayed, 3000u);
  EXPECT_GT(acknowledged, 1000u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, LogModel,
                         testing::Combine(testing::Bool(), testing::Range(0u, 8u)));

}  // namespace
}  // namespace duet::nvlog
