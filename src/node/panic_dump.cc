#include "node/panic_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/coverage.h"
#include "coredump/release.h"

namespace duet::node {

using coredump::AbortReason;
using coredump::Attribute;

// Label, header and reservation of one disk, as far as they have come. Reads fill the blocks, so it
// lives as long as they do.
struct PanicDump::Look {
  Disk disk;
  std::array<std::vector<std::byte>, disk::label_copies> labels;
  std::array<std::vector<std::byte>, coredump::header_copies> headers;
  int labels_read = 0, headers_read = 0;
  bool reserved = false;
  bool taken = false;     // somebody else has reserved it
  bool given_up = false;  // tried already

  coredump::DumpCandidate candidate() const {
    coredump::DumpCandidate c;
    c.expected = disk.expected;
    c.raid_left_it = disk.raid_left_it;
    if (given_up) return c;
    c.medium_size = disk.disk->geometry().size;
    if (labels_read == disk::label_copies) c.label = disk::choose_label(labels[0], labels[1]);
    if (headers_read == coredump::header_copies) {
      c.header = coredump::choose_header(headers[0], headers[1]);
    }
    c.reserved = reserved;
    return c;
  }
};

// While a disk may still be marked the partner leaves it.
static_assert(PanicDump::stop_limit + PanicDump::look_limit + PanicDump::mark_limit <
              coredump::ReleaseLimits{}.mark_grace);

PanicDump::PanicDump(ports::Scheduler& scheduler, ports::CoreSource& source, Order order,
                     std::function<void()> on_change, std::function<void(Outcome)> on_over)
    : scheduler_(scheduler),
      source_(source),
      order_(std::move(order)),
      on_change_(std::move(on_change)),
      on_over_(std::move(on_over)) {}

PanicDump::~PanicDump() {
  *alive_ = false;
  for (auto timer : {timer_, beat_timer_}) scheduler_.cancel(timer);
}

void PanicDump::limit(Duration time, std::function<void()> then) {
  scheduler_.cancel(timer_);
  timer_ = scheduler_.at(scheduler_.now() + time, guarded(std::move(then)));
}

//  stopping -> choosing -> marking -> streaming -> closing -> over
//      |           | no disk  | ^ |       |            ^
//      +-----------+--------- | +-+       +- conflict -|--> over, nothing is written any more
//                             | next disk +-- end, limit, disk full, write failed, process gone
//                             +- left in doubt --> over
void PanicDump::start() {
  limit(stop_limit, [this] { over(false, "no dump: the threads of the engine do not stop"); });
  source_.stop(guarded([this](Result<void> stopped) {
    if (!stopped) return over(false, "no dump: " + stopped.error().message);
    look();
  }));
}

void PanicDump::process_gone() {
  if (phase_ == Phase::stopping || phase_ == Phase::choosing) {
    return over(false, "no dump: the engine has ended");
  }
  if (phase_ == Phase::streaming) {
    close(Attribute::aborted, AbortReason::process_gone, "the engine has ended");
  }
}

void PanicDump::stop(const std::string& why) {
  if (phase_ == Phase::stopping || phase_ == Phase::choosing) return over(false, "no dump: " + why);
  if (phase_ == Phase::marking) stopped_ = why;  // it is not known what is on the disk
  close(Attribute::aborted, AbortReason::cancelled, why);
}

// ---- which disk ----

void PanicDump::look() {
  phase_ = Phase::choosing;
  auto open = std::make_shared<std::size_t>(1);  // ours, until all is asked for
  auto one_less = [this, open] {
    if (--*open == 0 && phase_ == Phase::choosing) looked();
  };
  limit(look_limit, [this] { looked(); });
  for (const Disk& disk : order_.disks) {
    auto look = std::make_shared<Look>();
    look->disk = disk;
    looks_.push_back(look);
    if (!disk.disk->connected()) continue;
    auto read = [&](disk::Area area, std::vector<std::byte>& block, int& count) {
      ++*open;
      block.resize(area.size);
      disk.disk->read(area.offset, block,
                      [this, alive = alive_, look, one_less, &count](Result<void> r) {
                        if (!*alive || phase_ == Phase::over) return;
                        if (r) ++count;
                        one_less();
                      });
    };
    for (int copy = 0; copy < disk::label_copies; ++copy) {
      read(disk::label_copy(copy), look->labels[static_cast<std::size_t>(copy)], look->labels_read);
    }
    for (int copy = 0; copy < coredump::header_copies; ++copy) {
      read(coredump::header_copy(copy), look->headers[static_cast<std::size_t>(copy)],
           look->headers_read);
    }
    ++*open;
    disk.disk->read_reservation(guarded([this, look, one_less](Result<ports::ReservationState> r) {
      look->reserved = r && r->reserved && r->holder == order_.holder;
      look->taken = r && !look->reserved;
      one_less();
    }));
  }
  one_less();
}

void PanicDump::looked() {
  phase_ = Phase::marking;
  mark();
}

void PanicDump::mark() {
  if (stopped_) return over(false, "no dump: " + *stopped_);
  std::vector<coredump::DumpCandidate> candidates;
  for (const auto& look : looks_) candidates.push_back(look->candidate());
  auto chosen = coredump::choose_dump_disk(candidates, order_.cluster, order_.dump.node);
  if (!chosen) {
    std::string why;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      // The partner's fence ends our reads, too: say so, rather than that they did not come back.
      auto refused = looks_[i]->taken ? coredump::Refusal::not_reserved
                                      : refusal(candidates[i], order_.cluster, order_.dump.node);
      why += fmt::format("{}{} {}", why.empty() ? "" : ", ", looks_[i]->disk.disk->name(),
                         looks_[i]->given_up ? "failed" : name(refused));
    }
    return over(false, "no dump: no disk for it: " + why);
  }
  const auto& look = looks_[chosen->candidate];
  disk_ = look->disk.disk;
  header_ = {};
  header_.sequence = chosen->sequence;
  header_.cluster = order_.cluster;
  header_.disk = look->disk.expected;
  header_.attribute = Attribute::active;
  header_.node = order_.dump.node;
  header_.limit = std::chrono::ceil<milliseconds>(order_.limit);
  header_.epoch = order_.dump.epoch;
  header_.boot_nonce = order_.dump.boot_nonce;
  header_.room = chosen->room;
  began_ = scheduler_.now();
  limit(mark_limit, [this] { over(false, "no dump: " + disk_->name() + " does not answer"); });
  auto first_copy = std::make_shared<bool>(false);
  write_header(
      [this, look, first_copy](Result<void> r) {
        if (r) return active();
        look->given_up = true;
        mark_failed(r.error(), *first_copy);
      },
      first_copy);
}

// The next disk is tried only when this one cannot say active any more (C2).
void PanicDump::mark_failed(const Error& error, bool first_copy) {
  if (error.code == ErrorCode::reservation_conflict) return disk_failed(error);
  bool nothing_written =
      !first_copy && (error.code == ErrorCode::io_error || error.code == ErrorCode::busy ||
                      error.code == ErrorCode::invalid);
  if (nothing_written) return mark();
  MARK(panic_dump_mark_retracted);
  header_.attribute = Attribute::aborted;
  header_.abort_reason = AbortReason::disk_failed;
  write_header([this](Result<void> r) {
    if (r) return mark();
    over(false, "no dump: " + disk_->name() + " failed: " + r.error().message);
  });
}

// Copy 0 durable before copy 1 is begun.
void PanicDump::write_header(std::function<void(Result<void>)> done,
                             std::shared_ptr<bool> first_copy) {
  header_.elapsed = elapsed();
  auto block = coredump::encode_header(header_);
  ASSERT(block.has_value());
  ++header_.sequence;
  auto slice = copy_to_slice(*block);
  disk_->write(coredump::header_copy(0).offset, {slice}, true,
               guarded([this, slice, done = std::move(done), first_copy](Result<void> r) {
                 if (!r) return done(std::move(r));
                 if (first_copy) *first_copy = true;
                 disk_->write(coredump::header_copy(1).offset, {slice}, true,
                              guarded([done](Result<void> r1) { done(std::move(r1)); }));
               }));
}

// ---- the raw dump ----

void PanicDump::active() {
  phase_ = Phase::streaming;
  limit(began_ + order_.limit - scheduler_.now(),
        [this] { close(Attribute::aborted, AbortReason::time_limit, "the time limit is over"); });
  order_.dump.room = header_.room;
  source_.begin(order_.dump);
  beat_timer_ = scheduler_.at(scheduler_.now() + header_interval, guarded([this] { beat(); }));
  on_change_();
  if (stopped_) return stop(*stopped_);
  pull();
}

void PanicDump::pull() {
  if (phase_ != Phase::streaming || pulling_ || pulled_last_) return;
  if (writes_.size() >= writes_in_flight) return;
  pulling_ = true;
  source_.next(guarded([this](Result<ports::CoreSource::Piece> piece) {
    pulling_ = false;
    if (phase_ != Phase::streaming) return;
    if (piece) {
      write(std::move(*piece));
      return pull();
    }
    bool full = piece.error().code == ErrorCode::no_space;
    close(Attribute::aborted, full ? AbortReason::disk_full : AbortReason::process_gone,
          piece.error().message);
  }));
}

void PanicDump::write(ports::CoreSource::Piece piece) {
  const auto size = piece.blocks.bytes.size();
  ASSERT(size <= header_.room - laid_out_);
  auto offset = disk::data_offset + laid_out_;
  laid_out_ += size;
  writes_.push_back({laid_out_, piece.core_done, false});
  pulled_last_ = piece.last;
  core_total_ = piece.core_total;
  disk_->write(offset, {std::move(piece.blocks)}, false,
               guarded([this, end = laid_out_](Result<void> r) { written(end, r); }));
}

void PanicDump::written(std::uint64_t end, const Result<void>& result) {
  std::ranges::find(writes_, end, &Write::end)->done = true;
  bool fenced = !result && result.error().code == ErrorCode::reservation_conflict;
  write_failed_ = write_failed_ || !result;
  for (; !writes_.empty() && writes_.front().done; writes_.pop_front()) {
    if (write_failed_) continue;
    stored_ = writes_.front().end;
    core_done_ = writes_.front().core_done;
  }
  if (fenced || (!result && phase_ == Phase::streaming)) return disk_failed(result.error());
  if (phase_ == Phase::closing) return close_if_quiet();
  if (pulled_last_ && writes_.empty()) {
    return close(Attribute::completed, AbortReason::none, "the core is written");
  }
  pull();
}

// The sign of life: also when no piece was finished.
void PanicDump::beat() {
  beat_timer_ = scheduler_.at(scheduler_.now() + header_interval, guarded([this] { beat(); }));
  if (header_busy_ || phase_ != Phase::streaming) return;
  header_busy_ = true;
  note_progress();
  write_header([this](const Result<void>& r) {
    header_busy_ = false;
    if (!r) return disk_failed(r.error());
    on_change_();
    close_if_quiet();
  });
}

void PanicDump::note_progress() {
  header_.stored = stored_;
  header_.core_done = core_done_;
  header_.core_total = core_total_;
}

// ---- the end ----

void PanicDump::disk_failed(const Error& error) {
  if (*last_word_) return closed();
  if (error.code == ErrorCode::reservation_conflict) {
    MARK(panic_dump_fenced);
    return over(false, disk_->name() + " has been taken by the partner");
  }
  if (phase_ == Phase::closing) {  // nothing that can be said to the disk helps
    return over(false, closing_why_ + "; then " + disk_->name() + ": " + error.message);
  }
  close(Attribute::aborted, AbortReason::disk_failed, disk_->name() + " failed: " + error.message);
}

void PanicDump::close(Attribute attribute, AbortReason reason, std::string why) {
  if (phase_ != Phase::streaming) return;
  phase_ = Phase::closing;
  closing_ = {attribute, reason};
  closing_why_ = std::move(why);
  limit(close_limit, [this] {
    if (*last_word_) return closed();
    over(false, closing_why_ + "; the header could not be written");
  });
  close_if_quiet();
}

// After the last write has ended, so that nothing of ours lands after the header's last word.
void PanicDump::close_if_quiet() {
  if (phase_ != Phase::closing || header_busy_ || !writes_.empty()) return;
  header_busy_ = true;
  header_.attribute = closing_.attribute;
  header_.abort_reason = closing_.reason;
  note_progress();
  disk_->flush(guarded([this](const Result<void>& flushed) {
    if (!flushed) return disk_failed(flushed.error());
    write_header(
        [this](const Result<void>& r) {
          if (!r) return disk_failed(r.error());
          closed();
        },
        last_word_);
  }));
}

// One durable copy of the last header is enough: the partner may take the disk as soon as it sees
// that, and the other copy does not get there.
void PanicDump::closed() {
  bool complete = closing_.attribute == Attribute::completed;
  over(complete, complete ? fmt::format("{} bytes of core on {} in {} ms", core_done_,
                                        disk_->name(), elapsed().count())
                          : fmt::format("{}; {} of {} bytes of core are on {}", closing_why_,
                                        core_done_, core_total_, disk_->name()));
}

void PanicDump::over(bool complete, std::string text) {
  ASSERT(phase_ != Phase::over);
  phase_ = Phase::over;
  for (auto timer : {timer_, beat_timer_}) scheduler_.cancel(timer);
  scheduler_.post(
      [alive = alive_, done = std::move(on_over_), outcome = Outcome{complete, std::move(text)}] {
        if (*alive) done(outcome);
      });
}

milliseconds PanicDump::elapsed() const {
  return std::chrono::duration_cast<milliseconds>(scheduler_.now() - began_);
}

PanicDump::Progress PanicDump::progress() const {
  Progress p;
  p.phase = phase_;
  if (disk_ == nullptr) return p;
  p.disk = disk_->name();
  p.done = core_done_;
  p.total = core_total_;
  p.elapsed = elapsed();
  auto until_limit = std::max(Duration{}, began_ + order_.limit - scheduler_.now());
  p.left = until_limit;
  if (core_done_ > 0 && core_total_ >= core_done_) {
    double rest = static_cast<double>(core_total_ - core_done_) / static_cast<double>(core_done_);
    auto estimate = std::chrono::duration<double>(p.elapsed) * rest;
    p.left = std::min(until_limit, std::chrono::ceil<Duration>(estimate));
  }
  return p;
}

}  // namespace duet::node
