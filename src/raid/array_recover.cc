// Before anything else: the journals of the disks, and what they say about stripes whose write was
// interrupted. Such a stripe is a torn one whose untorn parity is in the record: it is mended like
// one (array_write.cc). Doing it twice, or half, changes nothing.
#include "raid/array_impl.h"

namespace duet::raid {

struct Array::Impl::Recovery {
  std::uint64_t id = 0;
  std::uint64_t generation = 0;
  struct Latest {
    std::uint64_t generation = 0;
    std::uint64_t sequence = 0;
    JournalStripe stripe;
  };
  std::map<StripeKey, Latest> stripes;
  std::vector<JournalFailure> failures;
};

namespace {

constexpr std::uint64_t journal_size = (reserved_blocks - note_slots) * block_size;

}  // namespace

void Array::Impl::format(ports::Done<void> done) {
  const auto id = begin(std::move(done));
  erase_journals(note_slots, [self = shared_from_this(), id](Status status) {
    self->opened();
    self->end(id, std::move(status));
  });
}

void Array::Impl::opened() {
  background = true;
  start_rebuilds();
  look_for_spares();
}

void Array::Impl::recover(std::uint64_t number, std::vector<Slice> records,
                          ports::Done<void> done) {
  auto recovery = std::make_shared<Recovery>();
  recovery->id = begin(std::move(done));
  recovery->generation = number;
  generation = number + 1;
  for (const Slice& record : records) {
    if (!take_record(recovery, record)) event("a stripe journal record of the log is damaged");
  }
  auto join = this->join([self = shared_from_this(), recovery](Status status) {
    if (!status) return self->end(recovery->id, std::move(status));
    self->apply_records(recovery);
  });
  for (std::uint32_t member = 0; member < layout.members.size() && running(); ++member) {
    const bool may_hold = layout.members[member].state == MemberState::in_sync &&
                          groups[layout.members[member].group]->geometry.parity != 0;
    if (may_hold && device_of(member)) read_journal(recovery, member, scheduler.now(), join);
  }
}

// Every record has copies on more members than may be away.
void Array::Impl::read_journal(const std::shared_ptr<Recovery>& recovery, std::uint32_t member,
                               Instant since, const std::shared_ptr<Join>& join) {
  auto buffer = make_raw_buffer(journal_size);
  auto self = shared_from_this();
  device_of(member)->read(note_slots, buffer.bytes,
                          [self, recovery, member, since, buffer, join](Result<void> status) {
                            if (!self->running()) return join->add(self->stopped());
                            if (status) return self->take_journal(recovery, buffer.slice());
                            if (status.error().code == ErrorCode::reservation_conflict) {
                              self->fence(status.error());
                              return join->add(self->stopped());
                            }
                            if (status.error().code == ErrorCode::io_error) {
                              return self->read_journal_blocks(recovery, member, join);
                            }
                            if (self->scheduler.now() - since >= self->options.patience) return;
                            self->scheduler.at(self->scheduler.now() + reconnect_delay,
                                               [self, recovery, member, since, join] {
                                                 self->read_journal(recovery, member, since, join);
                                               });
                          });
}

// Around blocks that cannot be read.
void Array::Impl::read_journal_blocks(const std::shared_ptr<Recovery>& recovery,
                                      std::uint32_t member, const std::shared_ptr<Join>& join) {
  auto area = make_buffer(journal_size);
  auto self = shared_from_this();
  auto all = this->join(
      [self, recovery, area, join](Status) { self->take_journal(recovery, area.slice()); });
  for (std::uint64_t block = note_slots; block < reserved_blocks; ++block) {
    auto part = make_raw_buffer(block_size);
    device_of(member)->read(block, part.bytes, [area, block, part, all](Result<void> status) {
      if (!status) return;
      const auto at = (block - note_slots) * block_size;
      std::memcpy(area.bytes.subspan(at).data(), part.bytes.data(), block_size);
    });
  }
}

void Array::Impl::take_journal(const std::shared_ptr<Recovery>& recovery, const Slice& area) {
  for (std::uint64_t at = 0; at < area.bytes.size(); at += block_size) {
    const Bytes rest = area.bytes.subspan(at);
    if (journal_blocks(rest) != 0) take_record(recovery, {area.owner, rest});
  }
}

bool Array::Impl::take_record(const std::shared_ptr<Recovery>& recovery, const Slice& bytes) {
  auto record = decode_journal(bytes);
  if (!record) return false;
  if (record->generation <= recovery->generation) return true;
  sequence = std::max(sequence, record->sequence);
  for (const JournalFailure& failure : record->failures) recovery->failures.push_back(failure);
  for (JournalStripe& stripe : record->stripes) {
    if (stripe.group >= groups.size()) continue;
    const GroupColumns& of = *groups[stripe.group];
    const bool fits = of.geometry.parity == (stripe.q.bytes.empty() ? 1u : 2u) &&
                      stripe.stripe >= reserved_blocks && stripe.stripe < of.blocks &&
                      stripe.written != 0 && (stripe.written & ~of.geometry.data_mask()) == 0;
    if (!fits) continue;
    auto& latest = recovery->stripes[stripe_key(stripe.group, stripe.stripe)];
    if (std::pair(record->generation, record->sequence) <
        std::pair(latest.generation, latest.sequence)) {
      continue;
    }
    latest = {record->generation, record->sequence, std::move(stripe)};
  }
  return true;
}

void Array::Impl::apply_records(const std::shared_ptr<Recovery>& recovery) {
  for (const JournalFailure& failure : recovery->failures) {
    if (failure.member >= layout.members.size()) continue;
    const Member& member = layout.members[failure.member];
    if (member.disk != failure.disk || member.state == MemberState::failed) continue;
    if (!bears_absence(failure.member)) {
      return end(recovery->id, fail(ErrorCode::io_error,
                                    describe(failure.member) +
                                        " has missed writes, and its group is lost without"));
    }
    drop_member(failure.member, "it missed writes before the interruption");
  }
  std::vector<StripeWrite> stripes;
  for (const auto& [key, latest] : recovery->stripes) {
    const GroupColumns& of = *groups[group_of(key)];
    auto parity = make_raw_buffer(std::size_t{of.geometry.parity} * block_size);
    std::memcpy(parity.bytes.data(), latest.stripe.p.bytes.data(), block_size);
    if (of.geometry.parity == 2) {
      std::memcpy(parity.bytes.data() + block_size, latest.stripe.q.bytes.data(), block_size);
    }
    const ColumnMask written = latest.stripe.written;
    states[group_of(key)].open[stripe_of(key)] = {written, written, true, parity, parity, 0};
    stripes.push_back({key, 0, std::vector<Slice>(of.geometry.columns())});
  }
  if (!stripes.empty()) {
    event("parity of " + std::to_string(stripes.size()) + " interrupted stripes is made right");
  }
  auto self = shared_from_this();
  write_stripes(std::move(stripes), [self, recovery](Status mended) {
    if (!mended) return self->end(recovery->id, std::move(mended));
    self->flush([self, recovery](Status flushed) {
      if (!flushed) return self->end(recovery->id, std::move(flushed));
      self->erase_journals(self->unpublished.empty() ? note_slots : ring_begin,
                           [self, recovery](Status status) {
                             self->opened();
                             self->end(recovery->id, std::move(status));
                           });
    });
  });
}

// Records that decided once must not decide again: they may be of another pool.
void Array::Impl::erase_journals(std::uint64_t from, Finish done) {
  auto join = this->join(std::move(done));
  if (!running()) return join->add(stopped());
  const std::vector<Slice> zeros(reserved_blocks - from, zero_block());
  for (std::uint32_t member = 0; member < layout.members.size(); ++member) {
    // What an absent one bears, others bear, too: it must not be failed for this.
    if (!reachable(member)) continue;
    write_member(member, from, zeros, true,
                 [join](Status status) { join->add(std::move(status)); });
  }
}

}  // namespace duet::raid
