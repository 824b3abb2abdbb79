// Stripe journal records: in the owner's NVRAM, or in the ring on the members of the group.
#include <algorithm>

#include "raid/array_impl.h"

namespace duet::raid {

void Array::Impl::journal(std::uint16_t group, std::vector<JournalStripe> stripes, const void* wave,
                          Finish done) {
  auto join = this->join(std::move(done));
  for (std::size_t at = 0; at < stripes.size(); at += max_record_stripes) {
    const auto count = std::min(stripes.size() - at, max_record_stripes);
    JournalRecord record{generation, ++sequence, {}, {}};
    const auto first = stripes.begin() + static_cast<std::ptrdiff_t>(at);
    record.stripes.assign(first, first + static_cast<std::ptrdiff_t>(count));
    journal_bytes(group, encode(record), wave,
                  [join](Status status) { join->add(std::move(status)); });
  }
}

void Array::Impl::journal_bytes(std::uint16_t group, DataBytes bytes, const void* wave,
                                Finish done) {
  auto to_ring = [self = shared_from_this(), group, wave](DataBytes record, Finish then) {
    self->states[group].ring_waiting.push_back({std::move(record), wave, std::move(then)});
    self->ring_next(group);
  };
  if (!owner.journal) return to_ring(std::move(bytes), std::move(done));
  auto copy = bytes;
  owner.journal(std::move(bytes), [self = shared_from_this(), to_ring, copy = std::move(copy),
                                   done = std::move(done)](Result<void> status) mutable {
    if (!self->running()) return done(self->stopped());
    if (status) return done({});
    to_ring(std::move(copy), std::move(done));
  });
}

// Where `count` blocks can go that no record needs any more.
std::optional<std::uint64_t> Array::Impl::ring_place(GroupState& state, std::uint64_t count) {
  std::uint64_t first = state.ring_next;
  if (first + count > ring_end) first = ring_begin;
  const bool taken = std::ranges::any_of(state.ring, [&](const RingRecord& record) {
    return record.first < first + count && first < record.first + record.count;
  });
  if (taken) return {};
  return first;
}

void Array::Impl::ring_next(std::uint16_t group) {
  GroupState& state = states[group];
  if (state.ring_busy || state.ring_waiting.empty()) return;
  if (!running()) {
    auto waiting = std::move(state.ring_waiting);
    state.ring_waiting.clear();
    for (RingWrite& write : waiting) write.done(stopped());
    return;
  }
  RingWrite& next = state.ring_waiting.front();
  const std::uint64_t count = (next.bytes.size() + block_size - 1) / block_size;
  state.ring_busy = true;
  auto self = shared_from_this();
  if (auto first = ring_place(state, count)) {
    state.ring_next = *first + count;
    state.ring.push_back({*first, count, next.wave, false, 0});
    auto write = std::make_shared<RingWrite>(std::move(next));
    state.ring_waiting.pop_front();
    write_copies(group, *first, std::move(write->bytes), [self, group, write](Status status) {
      self->states[group].ring_busy = false;
      write->done(std::move(status));
      self->ring_next(group);
    });
    return;
  }
  flush_group(group, [self, group, count](Status status) {
    GroupState& now = self->states[group];
    now.ring_busy = false;
    if (now.ring_waiting.empty()) return;
    if (status && self->ring_place(now, count)) return self->ring_next(group);
    // Of others that are under way the end brings room.
    const void* mine = now.ring_waiting.front().wave;
    const bool others = std::ranges::any_of(now.ring, [mine](const RingRecord& record) {
      return !record.stuck && record.ended == 0 && record.wave != mine;
    });
    if (status && others) return;
    auto done = std::move(now.ring_waiting.front().done);
    now.ring_waiting.pop_front();
    done(status ? fail(ErrorCode::no_space, "the stripe journal is full of failed writes")
                : std::move(status));
    self->ring_next(group);
  });
}

// To one member more than may fail; rather to those that are at hand.
void Array::Impl::write_copies(std::uint16_t group, std::uint64_t block, DataBytes bytes,
                               Finish done) {
  const std::size_t size = (bytes.size() + block_size - 1) / block_size * block_size;
  bytes.resize(size);
  const Slice data = copy_to_slice(bytes);
  auto join = this->join(std::move(done));
  const Columns of = groups[group];  // may change on the way
  std::vector<std::uint32_t> holders;
  for (const bool here : {true, false}) {
    for (const std::uint32_t member : of->members) {
      const bool may_hold = layout.members[member].state == MemberState::in_sync;
      if (may_hold && reachable(member) == here && holders.size() <= of->geometry.parity) {
        holders.push_back(member);
      }
    }
  }
  for (const std::uint32_t member : holders) {
    write_member(member, block, {data}, true,
                 [join](Status status) { join->add(std::move(status)); });
  }
}

void Array::Impl::ring_ended(std::uint16_t group, const void* wave, bool well) {
  GroupState& state = states[group];
  for (RingRecord& record : state.ring) {
    if (record.wave != wave) continue;
    record.wave = nullptr;
    record.stuck = !well;
    if (well) record.ended = operation;
  }
  ring_next(group);
}

void Array::Impl::ensure_noted(Finish done) {
  std::map<std::uint16_t, JournalRecord> records;
  for (auto& [member, failure] : unpublished) {
    if (!failure.noted) records[layout.members[member].group] = {};
  }
  if (records.empty()) return done({});
  if (!running()) return done(stopped());
  for (auto& [group, record] : records) {
    record.generation = generation;
    record.sequence = ++sequence;
    for (auto& [member, failure] : unpublished) {
      if (layout.members[member].group != group) continue;
      if (record.failures.size() == max_record_failures) {
        return done(fail(ErrorCode::busy, "too many members failed since the last superblock"));
      }
      record.failures.push_back({member, failure.disk});
    }
  }
  auto written = std::make_shared<std::map<std::uint16_t, JournalRecord>>(std::move(records));
  auto join = this->join(
      [self = shared_from_this(), written, done = std::move(done)](Status status) mutable {
        if (!status) return done(std::move(status));
        for (const auto& [group, record] : *written) {
          for (const JournalFailure& failure : record.failures) {
            auto found = self->unpublished.find(failure.member);
            if (found != self->unpublished.end() && found->second.disk == failure.disk) {
              found->second.noted = true;
            }
          }
        }
        // A member may have failed while the note was written.
        self->ensure_noted(std::move(done));
      });
  for (const auto& [group, record] : *written) {
    note(group, encode(record), [join](Status status) { join->add(std::move(status)); });
  }
}

void Array::Impl::note(std::uint16_t group, DataBytes bytes, Finish done) {
  auto to_slot = [self = shared_from_this(), group](DataBytes record, Finish then) {
    const std::uint64_t slot = note_slots + self->states[group].note_slot;
    self->states[group].note_slot ^= 1;
    self->write_copies(group, slot, std::move(record), std::move(then));
  };
  if (!owner.journal) return to_slot(std::move(bytes), std::move(done));
  auto copy = bytes;
  owner.journal(std::move(bytes), [self = shared_from_this(), to_slot, copy = std::move(copy),
                                   done = std::move(done)](Result<void> status) mutable {
    if (!self->running()) return done(self->stopped());
    if (status) return done({});
    to_slot(std::move(copy), std::move(done));
  });
}

}  // namespace duet::raid
