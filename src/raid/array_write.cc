// Writing. A batch goes in waves of stripes whose locks it holds: read what partial stripes need,
// journal, write, release. Waves take their locks in ascending order.
#include <algorithm>
#include <bit>

#include "raid/array_impl.h"

namespace duet::raid {

struct Array::Impl::Batch {
  std::uint64_t id = 0;
  std::vector<StripeWrite> stripes;
  std::size_t next = 0;
  unsigned waves = 0;  // under way
  bool locking = false;
  Status status;
};

struct Array::Impl::Work {
  ColumnMask written = 0;  // of this batch, and zeros
  bool full = false;       // nothing else of the stripe is live
  bool plain = false;      // no parity member takes writes
  bool idle = false;       // nothing to do
  bool journaled = false;  // needs a record
  ColumnMask touched = 0;  // since the stripe was last durable
  OwnedBuffer untouched;   // P and Q of what was not touched
  OwnedBuffer rest;        // P and Q of what is not written now
};

struct Array::Impl::Wave {
  std::shared_ptr<Batch> batch;
  std::uint16_t group = 0;
  Columns of;  // as of when the locks were had
  std::vector<StripeWrite> stripes;
  std::vector<Work> work;  // by stripe
};

namespace {

OwnedBuffer parity_buffer(const Geometry& geometry) {
  return make_raw_buffer(std::size_t{geometry.parity} * block_size);
}
std::byte* q_of(const Geometry& geometry, const OwnedBuffer& buffer) {
  return geometry.parity == 2 ? buffer.bytes.data() + block_size : nullptr;
}
void store(const Geometry& geometry, const ParitySum& sum, const OwnedBuffer& into) {
  sum.store(into.bytes.data(), q_of(geometry, into), block_size);
}

void set_parity(const Geometry& geometry, const ParitySum& sum, StripeWrite& stripe) {
  const OwnedBuffer parity = parity_buffer(geometry);
  store(geometry, sum, parity);
  for (std::uint32_t i = 0; i < geometry.parity; ++i) {
    stripe.columns[geometry.data + i] = {
        parity.owner, parity.bytes.subspan(std::size_t{i} * block_size, block_size)};
  }
}

}  // namespace

void Array::Impl::write(std::uint64_t number, std::vector<BlockWrite> blocks,
                        ports::Done<void> done) {
  const auto id = begin(std::move(done));
  auto plan = plan_writes(layout, groups, std::move(blocks));
  if (!plan) return end(id, std::unexpected(plan.error()));
  generation = std::max(generation, number);
  auto batch = std::make_shared<Batch>();
  batch->id = id;
  batch->stripes = std::move(*plan);
  start_waves(batch);
}

void Array::Impl::write_stripes(std::vector<StripeWrite> stripes, Finish done) {
  auto batch = std::make_shared<Batch>();
  batch->id = begin([done = std::move(done)](Result<void> status) mutable { done(status); });
  std::ranges::sort(stripes, {}, &StripeWrite::key);
  batch->stripes = std::move(stripes);
  start_waves(batch);
}

void Array::Impl::start_waves(const std::shared_ptr<Batch>& batch) {
  while (batch->status && !batch->locking && batch->waves < max_waves &&
         batch->next < batch->stripes.size()) {
    auto wave = std::make_shared<Wave>();
    wave->batch = batch;
    wave->group = group_of(batch->stripes[batch->next].key);
    wave->of = groups[wave->group];
    std::size_t partial = 0;
    while (batch->next < batch->stripes.size() && wave->stripes.size() < max_wave_stripes) {
      StripeWrite& stripe = batch->stripes[batch->next];
      if (group_of(stripe.key) != wave->group) break;
      if (wave->of->geometry.parity != 0 && stripe.written != wave->of->geometry.data_mask() &&
          ++partial > max_wave_partial) {
        break;
      }
      wave->stripes.push_back(std::move(stripe));
      ++batch->next;
    }
    ++batch->waves;
    batch->locking = true;
    lock_wave(wave, 0);
  }
  if (batch->waves != 0) return;
  if (!batch->status) return end(batch->id, batch->status);
  ensure_noted([self = shared_from_this(), batch](Status status) {
    self->end(batch->id, std::move(status));
  });
}

void Array::Impl::lock_wave(const std::shared_ptr<Wave>& wave, std::size_t from) {
  for (std::size_t i = from; i < wave->stripes.size(); ++i) {
    const bool held = locks.lock(wave->stripes[i].key, [self = shared_from_this(), wave, i] {
      self->lock_wave(wave, i + 1);
    });
    if (!held) return;
  }
  wave->batch->locking = false;
  // Members may have joined since the batch was planned.
  wave->of = groups[wave->group];
  for (StripeWrite& stripe : wave->stripes) widen(stripe, wave->of->geometry);
  if (!running()) {
    release_wave(wave, stopped());
  } else if (states[wave->group].opening) {
    states[wave->group].when_open.push_back(
        [self = shared_from_this(), wave] { self->prepare_wave(wave); });
  } else if (states[wave->group].open.size() > max_open_stripes) {
    flush_group(wave->group, [self = shared_from_this(), wave](Status status) {
      if (!status) return self->release_wave(wave, status);
      self->prepare_wave(wave);
    });
  } else {
    prepare_wave(wave);
  }
  // With the last lock the next wave may begin to take its own.
  if (from != 0) start_waves(wave->batch);
}

void Array::Impl::widen(StripeWrite& stripe, const Geometry& geometry) {
  if (stripe.columns.size() != geometry.columns()) stripe.columns.resize(geometry.columns());
}

void Array::Impl::prepare_wave(const std::shared_ptr<Wave>& wave) {
  wave->work.resize(wave->stripes.size());
  auto join = this->join([self = shared_from_this(), wave](Status status) {
    if (!status) return self->release_wave(wave, status);
    self->journal_wave(wave);
  });
  if (wave->of->geometry.parity == 0) return;
  for (std::size_t i = 0; i < wave->stripes.size(); ++i) prepare(wave, i, join);
}

// Decides how a stripe is written, and gets what its parity needs.
void Array::Impl::prepare(const std::shared_ptr<Wave>& wave, std::size_t index,
                          const std::shared_ptr<Join>& join) {
  StripeWrite& stripe = wave->stripes[index];
  Work& work = wave->work[index];
  const Geometry& geometry = wave->of->geometry;
  auto& open = states[wave->group].open;
  auto found = open.find(stripe_of(stripe.key));
  const ColumnMask torn = found == open.end() ? 0 : found->second.torn;
  work.written = stripe.written | torn;
  if (stripe.written == 0) {
    work.idle = torn == 0;  // to be mended, and has been meanwhile
    if (!work.idle) prepare_mend(wave, index, found->second, join);
    return;
  }
  const ColumnMask others = geometry.data_mask() & ~work.written;
  work.full = true;
  for (std::uint32_t column = 0; column < geometry.data; ++column) {
    if ((others >> column & 1) == 0) continue;
    const BlockAddress address(wave->of->members.at(column), stripe_of(stripe.key));
    if (owner.live(address)) work.full = false;
  }
  ++(others == 0 ? write_figures.full_stripes
     : work.full ? write_figures.filled_stripes
                 : write_figures.partial_stripes);
  const ColumnMask writable = written_columns(*wave->of);
  work.plain = (writable & geometry.parity_mask()) == 0;
  if (work.full && !work.plain) work.written = geometry.data_mask();
  for (std::uint32_t column = 0; column < geometry.data; ++column) {
    const bool zeros = (work.written >> column & 1) != 0 && stripe.columns[column].bytes.empty();
    if (zeros) stripe.columns[column] = zero_block();
  }
  if (work.plain) {
    // Records for this stripe that are still there must not decide what its parity will be.
    work.journaled = !work.full;
    work.touched = geometry.data_mask();
    work.untouched = zero_parity();
    return;
  }
  if (work.full) return parity_of(wave, index, {}, false);

  const ColumnMask can = readable_columns(*wave->of, stripe_of(stripe.key)) | torn;
  const ColumnMask old = (work.written & ~torn) | (torn != 0 ? 0 : geometry.parity_mask());
  const bool can_read = (others & ~can) == 0;
  const bool can_modify = (old & ~can) == 0;
  const bool modify = can_modify && (!can_read || std::popcount(old) <= std::popcount(others));
  read_stripe(wave->of, stripe.key, modify ? old | geometry.parity_mask() : others, 0,
              [self = shared_from_this(), wave, index, join, modify](Result<StripeImage> image) {
                if (!image) return join->add(std::unexpected(image.error()));
                self->parity_of(wave, index, *image, modify);
              });
}

// The parity of a torn stripe, with the torn columns as they are on the disks; where they cannot be
// read, zeros.
void Array::Impl::prepare_mend(const std::shared_ptr<Wave>& wave, std::size_t index,
                               const Open& open, const std::shared_ptr<Join>& join) {
  Work& work = wave->work[index];
  work.written = open.torn;
  work.touched = open.touched;
  work.untouched = open.untouched;
  work.rest = open.rest;
  auto image = std::make_shared<StripeImage>();
  image->columns.resize(wave->of->geometry.columns());
  auto self = shared_from_this();
  auto arrived = this->join(
      [self, wave, index, image, join](Status) { self->mend_with(wave, index, *image); });
  const std::uint64_t row = stripe_of(wave->stripes[index].key);
  for (std::uint32_t column = 0; column < wave->of->geometry.data; ++column) {
    const std::uint32_t member = wave->of->members[column];
    if ((work.written >> column & 1) == 0 || !readable(member, row)) continue;
    auto buffer = make_raw_buffer(block_size);
    device_of(member)->read(row, buffer.bytes,
                            [image, buffer, column, arrived](Result<void> status) {
                              if (status) image->columns[column] = buffer;
                            });
  }
}

void Array::Impl::mend_with(const std::shared_ptr<Wave>& wave, std::size_t index,
                            const StripeImage& image) {
  const Geometry& geometry = wave->of->geometry;
  StripeWrite& stripe = wave->stripes[index];
  Work& work = wave->work[index];
  ParitySum sum;
  sum.add_sum(work.rest.bytes.data(), q_of(geometry, work.rest));
  for (std::uint32_t column = 0; column < geometry.data; ++column) {
    if ((work.written >> column & 1) == 0) continue;
    sum.add(column, image.columns[column].bytes.data());
    if (image.columns[column].bytes.empty()) stripe.columns[column] = zero_block();
  }
  set_parity(geometry, sum, stripe);
}

// What is kept of the stripe, what was not touched at all, and the new parity.
void Array::Impl::parity_of(const std::shared_ptr<Wave>& wave, std::size_t index,
                            const StripeImage& image, bool modify) {
  const Geometry& geometry = wave->of->geometry;
  StripeWrite& stripe = wave->stripes[index];
  Work& work = wave->work[index];
  auto& open = states[wave->group].open;
  auto found = open.find(stripe_of(stripe.key));
  const bool known = found != open.end();
  work.touched = work.written | (known ? found->second.touched : 0);
  const ColumnMask torn = known ? found->second.torn : 0;
  ParitySum rest;
  ParitySum untouched;
  if (modify) {
    rest.add_sum(image.columns[geometry.data].bytes.data(),
                 geometry.parity == 2 ? image.columns[geometry.data + 1].bytes.data() : nullptr);
    if (known) {
      const OwnedBuffer& before = found->second.untouched;
      untouched.add_sum(before.bytes.data(), q_of(geometry, before));
    } else {
      untouched = rest;
    }
  }
  for (std::uint32_t column = 0; column < geometry.data && !work.full; ++column) {
    const ColumnMask bit = ColumnMask{1} << column;
    const std::byte* block = image.columns[column].bytes.data();
    const bool written = (work.written & bit) != 0;
    if (written != modify || (torn & bit) != 0) continue;
    rest.add(column, block);
    const bool first_touch = !known || (found->second.touched & bit) == 0;
    if (modify ? first_touch : (work.touched & bit) == 0) untouched.add(column, block);
  }
  if (!work.full) {
    work.rest = parity_buffer(geometry);
    store(geometry, rest, work.rest);
    work.untouched = parity_buffer(geometry);
    store(geometry, untouched, work.untouched);
    work.journaled = work.touched != geometry.data_mask() && (work.written & ~torn) != 0;
  }
  ParitySum sum;
  if (!work.full) sum.add_sum(work.rest.bytes.data(), q_of(geometry, work.rest));
  for (std::uint32_t column = 0; column < geometry.data; ++column) {
    if ((work.written >> column & 1) != 0) sum.add(column, stripe.columns[column].bytes.data());
  }
  set_parity(geometry, sum, stripe);
}

void Array::Impl::journal_wave(const std::shared_ptr<Wave>& wave) {
  ensure_noted([self = shared_from_this(), wave](Status status) {
    if (!status) return self->release_wave(wave, status);
    std::vector<JournalStripe> records;
    const Geometry& geometry = wave->of->geometry;
    for (std::size_t i = 0; i < wave->stripes.size(); ++i) {
      const Work& work = wave->work[i];
      if (!work.journaled) continue;
      JournalStripe record{wave->group, stripe_of(wave->stripes[i].key), work.touched, {}, {}};
      record.p = {work.untouched.owner, work.untouched.bytes.first(block_size)};
      if (geometry.parity == 2) {
        record.q = {work.untouched.owner, work.untouched.bytes.subspan(block_size, block_size)};
      }
      records.push_back(std::move(record));
    }
    if (records.empty()) return self->issue_wave(wave);
    self->journal(wave->group, std::move(records), wave.get(), [self, wave](Status written) {
      if (!written) {
        self->ring_ended(wave->group, wave.get(), true);
        return self->release_wave(wave, written);
      }
      self->issue_wave(wave);
    });
  });
}

void Array::Impl::issue_wave(const std::shared_ptr<Wave>& wave) {
  if (!running()) return release_wave(wave, stopped());
  auto& open = states[wave->group].open;
  for (std::size_t i = 0; i < wave->stripes.size(); ++i) {
    const Work& work = wave->work[i];
    if (work.idle || wave->of->geometry.parity == 0) continue;
    if (work.plain) {
      open.erase(stripe_of(wave->stripes[i].key));
      continue;
    }
    Open& entry = open[stripe_of(wave->stripes[i].key)];
    entry.torn = work.written;
    entry.failed = false;
    if (work.full) {
      entry.touched = work.written;
      entry.rest = entry.untouched = zero_parity();
    } else {
      entry.touched = work.touched;
      entry.rest = work.rest;
      entry.untouched = work.untouched;
    }
  }
  auto join = this->join(
      [self = shared_from_this(), wave](Status status) { self->end_wave(wave, status); });
  for (ColumnWrite& write : merge_writes(wave->stripes, 0)) {
    write_member(wave->of->members.at(write.column), write.block, std::move(write.data), false,
                 [join](Status status) { join->add(std::move(status)); });
  }
}

void Array::Impl::end_wave(const std::shared_ptr<Wave>& wave, const Status& status) {
  ++operation;
  auto& open = states[wave->group].open;
  for (std::size_t i = 0; i < wave->stripes.size(); ++i) {
    auto found = open.find(stripe_of(wave->stripes[i].key));
    if (found == open.end() || wave->work[i].idle) continue;
    Open& entry = found->second;
    entry.ended = operation;
    entry.failed = !status;
    if (!status) continue;
    if (wave->work[i].full) {
      open.erase(found);
      continue;
    }
    entry.torn = 0;
    entry.rest = {};
  }
  ring_ended(wave->group, wave.get(), status.has_value());
  if (!status) return release_wave(wave, status);
  ensure_noted(
      [self = shared_from_this(), wave](Status noted) { self->release_wave(wave, noted); });
}

void Array::Impl::release_wave(const std::shared_ptr<Wave>& wave, const Status& status) {
  for (const StripeWrite& stripe : wave->stripes) locks.unlock(stripe.key);
  Batch& batch = *wave->batch;
  if (batch.status && !status) batch.status = status;
  --batch.waves;
  start_waves(wave->batch);
}

}  // namespace duet::raid
