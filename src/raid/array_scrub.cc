// Scrub: parity against data, in all stripes with live blocks of groups that lack nobody.
#include "raid/array_impl.h"

namespace duet::raid {

void Array::scrub(std::uint64_t rate, ports::Done<std::uint64_t> mismatches,
                  std::function<bool(BlockAddress)> live) {
  impl_->start_scrub(rate, std::move(mismatches), std::move(live));
}

Progress Array::scrub_progress() const {
  Progress progress;
  if (!impl_->scrub) return progress;
  progress.running = true;
  progress.done = impl_->scrub->passed + impl_->scrub->row;
  for (const Group& group : impl_->layout.groups) progress.total += group.blocks;
  return progress;
}

void Array::Impl::start_scrub(std::uint64_t rate, ports::Done<std::uint64_t> done,
                              std::function<bool(BlockAddress)> live) {
  auto next = std::make_shared<Scrub>();
  next->rate = rate;
  next->live = live ? std::move(live) : owner.live;
  const auto id = begin([next, done = std::move(done)](Result<void> status) mutable {
    if (!status) return done(std::unexpected(status.error()));
    done(next->mismatches);
  });
  if (scrub) return end(id, fail(ErrorCode::busy, "a scrub is running"));
  if (!running()) return;
  next->id = id;
  scrub = next;
  scheduler.post([self = shared_from_this()] { self->scrub_rows(); });
}

void Array::Impl::scrub_rows() {
  if (!running()) {
    scrub = nullptr;
    return;
  }
  if (scrub->group == groups.size()) {
    auto ended = std::move(scrub);
    scrub = nullptr;
    return end(ended->id, {});
  }
  auto self = shared_from_this();
  const Columns of = groups[scrub->group];
  const std::uint64_t look_to = std::min(of->blocks, scrub->row + rows_per_look);
  const bool worth =
      of->geometry.parity != 0 && readable_columns(*of, of->blocks - 1) == of->geometry.all();
  if (!worth) scrub->row = of->blocks;
  while (scrub->row < look_to && !row_live(*of, scrub->row, scrub->live)) ++scrub->row;
  if (scrub->row == of->blocks) {
    scrub->passed += of->blocks;
    ++scrub->group;
    scrub->row = 0;
    return scheduler.post([self] { self->scrub_rows(); });
  }
  if (scrub->row == look_to) return scheduler.post([self] { self->scrub_rows(); });
  scrub->end = std::min(of->blocks, scrub->row + rows_per_step);
  scrub->begin = scheduler.now();
  lock_rows(scrub->group, scrub->row, scrub->end, [self, of] { self->scrub_locked(of); });
}

void Array::Impl::scrub_locked(const Columns& of) {
  auto self = shared_from_this();
  auto join = this->join([self](Status) { self->scrub_step_ended(); });
  for (std::uint64_t row = scrub->row; row < scrub->end; ++row) {
    auto open = states[scrub->group].open.find(row);
    const bool torn = open != states[scrub->group].open.end() && open->second.torn != 0;
    if (torn || !row_live(*of, row, scrub->live)) continue;
    read_stripe(of, stripe_key(scrub->group, row), of->geometry.all(), 0,
                [self, of, join, row](Result<StripeImage> image) {
                  if (image) self->scrub_row(of, row, *image, join);
                });
  }
}

void Array::Impl::scrub_row(const Columns& of, std::uint64_t row, const StripeImage& image,
                            const std::shared_ptr<Join>& join) {
  const Geometry& geometry = of->geometry;
  // What was on a medium that could not be read has been made from the others.
  ColumnMask wrong = image.bad;
  std::vector<OwnedBuffer> good = image.columns;
  if (image.present == geometry.all()) {
    std::vector<std::byte*> columns;
    for (const OwnedBuffer& column : image.columns) columns.push_back(column.bytes.data());
    const Mismatch mismatch = compare(geometry, columns, block_size);
    wrong = mismatch.columns;
    for (std::uint32_t i = 0; i < columns.size(); ++i) {
      if ((wrong >> i & 1) == 0) continue;
      good[i] = make_raw_buffer(block_size);
      columns[i] = good[i].bytes.data();
    }
    if (wrong != 0) {
      reconstruct(geometry, columns, wrong, block_size);
      ++scrub->mismatches;
      event("stripe " + std::to_string(row) + " of group " + std::to_string(scrub->group) +
            (mismatch.located ? ": a block that disagreed with the others has been repaired"
                              : ": parity has been made from data again"));
    }
  }
  for (std::uint32_t i = 0; i < good.size(); ++i) {
    if ((wrong >> i & 1) == 0) continue;
    const std::uint32_t member = of->members[i];
    write_member(member, row, {good[i].slice()}, false,
                 [self = shared_from_this(), join, member](Status s) {
                   if (s) ++self->members[member].repaired;
                 });
  }
}

void Array::Impl::scrub_step_ended() {
  const std::uint64_t moved = scrub->end - scrub->row;
  unlock_rows(scrub->group, scrub->row, scrub->end);
  scrub->row = scrub->end;
  Duration pause(0);
  if (scrub->rate != 0) pause = Duration(moved * block_size * 1'000'000'000ull / scrub->rate);
  const Instant next = std::max(scheduler.now(), scrub->begin + pause);
  scheduler.at(next, [self = shared_from_this()] { self->scrub_rows(); });
}

}  // namespace duet::raid
