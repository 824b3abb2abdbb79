#include "simulator/replay_rehearsal.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "disk/label.h"
#include "nvlog/replay.h"
#include "pool/log_replay.h"
#include "pool/pool.h"

namespace duet::simulator {

namespace {

using ports::Done;

constexpr Duration limit = seconds(60);  // of the rehearsal's own time
constexpr std::uint64_t read_size = 64 << 10;

// What a unit holds, and what was written since to this copy of it.
class CopiedDisk final : public ports::Disk {
 public:
  CopiedDisk(ports::Scheduler& scheduler, const SimUnit& unit, std::uint64_t& writes_left)
      : scheduler_(scheduler),
        unit_(unit),
        writes_left_(writes_left),
        geometry_{unit.options().size, unit.options().block_size, false, unit.options().name},
        written_(unit.options().size / page_size) {}

  const std::string& name() const override { return unit_.options().name; }
  bool connected() const override { return true; }
  const ports::DiskGeometry& geometry() const override { return geometry_; }
  void on_connection(std::move_only_function<void(bool)>) override {}
  void on_attention(std::move_only_function<void(ports::Attention)>) override {}

  void read(std::uint64_t offset, MutableBytes into, Done<void> done) override {
    unit_.peek(offset, into);
    while (!into.empty()) {
      const std::uint64_t skip = offset % page_size;
      const auto part = into.first(std::min<std::size_t>(into.size(), page_size - skip));
      if (const auto& page = written_[offset / page_size]) {
        std::copy_n(page->begin() + static_cast<std::ptrdiff_t>(skip), part.size(), part.begin());
      }
      offset += part.size();
      into = into.subspan(part.size());
    }
    answer(std::move(done));
  }
  void write(std::uint64_t offset, std::vector<Slice> data, bool, Done<void> done) override {
    if (writes_left_ == 0) return;  // it dies here
    --writes_left_;
    for (const auto& slice : data) {
      for (Bytes rest = slice.bytes; !rest.empty();) {
        const std::uint64_t skip = offset % page_size;
        const auto part = rest.first(std::min<std::size_t>(rest.size(), page_size - skip));
        auto& page = written_[offset / page_size];
        if (!page) {
          page = std::make_unique<Page>();
          unit_.peek(offset - skip, *page);
        }
        std::ranges::copy(part, page->begin() + static_cast<std::ptrdiff_t>(skip));
        offset += part.size();
        rest = rest.subspan(part.size());
      }
    }
    answer(std::move(done));
  }
  void flush(Done<void> done) override { answer(std::move(done)); }
  void register_key(ReservationKey, Done<void> done) override { answer(std::move(done)); }
  void reserve(ReservationKey, ports::ReservationType, Done<void> done) override {
    answer(std::move(done));
  }
  void release(ReservationKey, ports::ReservationType, Done<void> done) override {
    answer(std::move(done));
  }
  void preempt(ReservationKey, ReservationKey, ports::ReservationType, bool,
               Done<void> done) override {
    answer(std::move(done));
  }
  void read_keys(Done<ports::RegisteredKeys> done) override { done(ports::RegisteredKeys{}); }
  void read_reservation(Done<ports::ReservationState> done) override {
    done(ports::ReservationState{});
  }

 private:
  void answer(Done<void> done) {
    scheduler_.post([done = std::move(done)]() mutable { done({}); });
  }

  ports::Scheduler& scheduler_;
  const SimUnit& unit_;
  std::uint64_t& writes_left_;
  ports::DiskGeometry geometry_;
  static constexpr std::uint64_t page_size = 4096;
  using Page = std::array<std::byte, page_size>;
  std::vector<std::unique_ptr<Page>> written_;  // by number; none: as the unit has it
};

class Stage {
 public:
  Stage(const std::vector<std::unique_ptr<SimUnit>>& units, Bytes ring, NodeId identity)
      : ring_(ring), identity_(identity) {
    for (const auto& unit : units) {
      disks_.push_back(std::make_unique<CopiedDisk>(process_, *unit, writes_left_));
    }
  }

  enum class Got : std::uint8_t { failed, nothing, replayed };
  // Up to so many writes to the disks.
  Got replay(std::uint64_t writes) {
    writes_left_ = writes;
    pool::Pool::Options options;
    options.dirty_limit = 16u << 20;
    options.read_cache = 0;
    for (auto& disk : disks_) {
      auto label = label_of(*disk);
      if (!label) return Got::failed;
      if (label->role != disk::Role::data) continue;
      options.pool = label->pool;
      options.disks.push_back({disk.get(), label->id, *disk::data_area(label->size)});
    }
    pool_ = std::make_unique<pool::Pool>(process_, std::move(options));
    pool_->on_stripe_records([this](const nvlog::LogPosition& since) { return stripes(since); });
    if (!wait([&](auto done) { pool_->activate(Epoch(0xffff'ffff), std::move(done)); })) {
      return writes_left_ == 0 ? Got::replayed : Got::failed;
    }
    auto plan = nvlog::plan_replay(ring_, identity_, pool_->position(), LogSequence(0));
    if (!plan || plan->reason != nvlog::ReplayEnd::clean) return Got::failed;
    if (plan->size() == 0) return Got::nothing;
    if (!from_) from_ = plan->from;
    end_ = plan->end;
    if (!apply(*plan)) return writes_left_ == 0 ? Got::replayed : Got::failed;
    bool done = false;
    pool_->on_consistency_point(
        [&](const auto& position) { done = done || position.sequence >= end_.sequence; });
    pool_->start_consistency_point();
    run([&] { return done; });
    pool_->on_consistency_point(nullptr);
    return done || writes_left_ == 0 ? Got::replayed : Got::failed;
  }

  std::optional<ReplayRehearsal::Outcome> look() {
    ReplayRehearsal::Outcome outcome{*from_, end_, 0xcbf29ce484222325};
    const auto mix = [&](std::uint64_t value) {
      outcome.digest = (outcome.digest ^ value) * 0x9e3779b97f4a7c15;
      outcome.digest ^= outcome.digest >> 29;
    };
    for (const auto& lun : pool_->luns()) {
      mix(lun.number.value());
      for (char c : lun.name) mix(static_cast<std::uint8_t>(c));
      for (std::byte b : lun.reservations) mix(std::to_integer<std::uint64_t>(b));
      for (std::uint64_t at = 0; at < lun.size; at += read_size) {
        std::optional<Result<std::vector<Slice>>> read;
        pool_->read(lun.number, at, std::min(read_size, lun.size - at),
                    [&](Result<std::vector<Slice>> result) { read = std::move(result); });
        run([&] { return read.has_value(); });
        if (!read || !*read) return std::nullopt;
        for (const auto& slice : **read) {
          for (std::size_t i = 0; i + 8 <= slice.bytes.size(); i += 8) {
            mix(load_le<std::uint64_t>(&slice.bytes[i]));
          }
        }
      }
    }
    return outcome;
  }

 private:
  std::optional<disk::Label> label_of(CopiedDisk& disk) {
    for (int copy : {0, 1}) {
      std::vector<std::byte> block(disk::area_block_size);
      if (!wait([&](auto done) {
            disk.read(disk::label_copy(copy).offset, block, std::move(done));
          })) {
        continue;
      }
      if (auto label = disk::decode_label(block)) return *label;
    }
    return std::nullopt;
  }

  std::vector<Slice> stripes(const nvlog::LogPosition& since) const {
    std::vector<Slice> records;
    auto plan = nvlog::plan_replay(ring_, identity_, since, LogSequence(0));
    for (std::size_t i = 0; plan && i < plan->size(); ++i) {
      auto view = plan->record(ring_, i);
      if (view.header.kind == nvlog::RecordKind::stripe_journal) {
        records.push_back({nullptr, view.payload});
      }
    }
    return records;
  }

  // As the engine does it (node/identity_service.cc). Poison takes its LUN offline.
  bool apply(const nvlog::ReplayPlan& plan) {
    std::size_t at = 0;
    const auto next = [&]() -> std::optional<pool::LogReplay::Item> {
      if (at == plan.size()) return {};
      const auto view = plan.record(ring_, at++);
      pool::LogReplay::Item item;
      item.position = {view.header.epoch, view.header.sequence, view.end % ring_.size(),
                       view.end / ring_.size()};
      const bool of_log = static_cast<std::uint8_t>(view.header.kind) < nvlog::first_opaque_kind;
      if (of_log || view.header.kind == nvlog::RecordKind::stored_request ||
          view.header.kind == nvlog::RecordKind::stripe_journal) {
        return item;
      }
      item.record = filesystem::LogRecord{view.header.kind, view.header.words, {}};
      if (!view.payload.empty()) item.record->payload.push_back({nullptr, view.payload});
      return item;
    };
    pool::LogReplay replay(process_, *pool_, next, [](const std::string&) {});
    std::optional<bool> applied;
    replay.start([&](const Result<std::uint64_t>& r) { applied = r.has_value(); });
    run([&] { return applied.has_value(); });
    return applied.value_or(false);
  }

  template <class Condition>
  void run(Condition condition) {
    const Instant end = clock_.now() + limit;
    while (!condition() && clock_.step(end)) {
    }
  }
  template <class Start>
  bool wait(Start start) {
    std::optional<Status> result;
    start([&](Status status) { result = std::move(status); });
    run([&] { return result.has_value(); });
    return result && result->has_value();
  }

  Clock clock_;
  Random random_{1};
  Process process_{clock_, random_, "rehearsal"};
  Bytes ring_;
  NodeId identity_;
  std::uint64_t writes_left_ = 0;
  std::vector<std::unique_ptr<CopiedDisk>> disks_;
  std::unique_ptr<pool::Pool> pool_;
  std::optional<nvlog::LogPosition> from_;
  nvlog::LogPosition end_;
};

}  // namespace

std::optional<ReplayRehearsal::Outcome> ReplayRehearsal::replay(
    std::optional<std::uint64_t> cut_off) const {
  Stage stage(units_, ring_, identity_);
  if (cut_off && stage.replay(*cut_off) != Stage::Got::replayed) return std::nullopt;
  const auto got = stage.replay(~std::uint64_t{0});
  // A cut behind the end of the consistency point leaves nothing to be replayed.
  if (got == Stage::Got::failed || (got == Stage::Got::nothing && !cut_off)) return std::nullopt;
  return stage.look();
}

}  // namespace duet::simulator
