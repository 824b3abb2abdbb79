// Durability: flushing the members' caches, and the fixed blocks that all members bear.
#include "raid/array_impl.h"

namespace duet::raid {

void Array::Impl::flush(Finish done) {
  mend_torn([self = shared_from_this(), done = std::move(done)](Status mended) mutable {
    if (!mended) return done(std::move(mended));
    auto join = self->join([self, done = std::move(done)](Status status) mutable {
      if (!status) return done(std::move(status));
      self->ensure_noted(std::move(done));
    });
    const auto count = static_cast<std::uint16_t>(self->groups.size());
    for (std::uint16_t group = 0; group < count; ++group) {
      self->flush_group(group, [join](Status status) { join->add(std::move(status)); });
    }
  });
}

void Array::Impl::flush_group(std::uint16_t group, Finish done) {
  const std::uint64_t start = ++operation;
  auto join = this->join(
      [self = shared_from_this(), group, start, done = std::move(done)](Status status) mutable {
        if (status) self->group_flushed(group, start);
        done(std::move(status));
      });
  if (!running()) return join->add(stopped());
  const Columns of = groups[group];  // may change on the way
  for (const std::uint32_t member : of->members) {
    flush_member(member, [join](Status status) { join->add(std::move(status)); });
  }
}

// What ended before the flush began needs no journal any more.
void Array::Impl::group_flushed(std::uint16_t group, std::uint64_t start) {
  GroupState& state = states[group];
  bool failed = false;
  for (const auto& [stripe, open] : state.open) failed = failed || open.failed;
  std::erase_if(state.open, [start](const auto& entry) {
    return entry.second.torn == 0 && entry.second.ended < start;
  });
  std::erase_if(state.ring, [start, failed](const RingRecord& record) {
    // A record of a wave that failed is needed until its stripes have been written again.
    if (record.stuck) return !failed;
    return record.ended != 0 && record.ended < start;
  });
}

void Array::Impl::flush_member(std::uint32_t member, Finish done) {
  auto device = device_of(member);
  // An absent one has nothing in its cache: the first write that it misses fails it.
  if (!device || layout.members[member].state == MemberState::failed) return done({});
  const std::uint64_t incarnation = members[member].incarnation;
  device->flush([self = shared_from_this(), member, incarnation,
                 done = std::move(done)](Result<void> status) mutable {
    self->member_answered(member, incarnation, std::move(status), std::move(done));
  });
}

// Writes zeros where writes have failed, so that the parity of these stripes is right again.
void Array::Impl::mend_torn(Finish done) {
  std::vector<StripeWrite> stripes;
  const auto count = static_cast<std::uint16_t>(groups.size());
  for (std::uint16_t group = 0; group < count; ++group) {
    for (const auto& [stripe, open] : states[group].open) {
      if (!open.failed) continue;
      stripes.push_back(
          {stripe_key(group, stripe), 0, std::vector<Slice>(groups[group]->geometry.columns())});
    }
  }
  if (stripes.empty()) return done({});
  write_stripes(std::move(stripes), std::move(done));
}

void Array::Impl::write_everywhere(std::uint64_t block, const Slice& data, ports::Done<void> done) {
  const auto id = begin(std::move(done));
  if (data.bytes.empty() || data.bytes.size() % block_size != 0 ||
      block + data.bytes.size() / block_size > note_slots) {
    return end(id, fail(ErrorCode::invalid, "not in the fixed blocks of the members"));
  }
  const std::uint64_t version = layout_version;
  auto self = shared_from_this();
  const auto send = [self, block, data](bool bearers, Finish then) {
    auto join = self->join(std::move(then));
    for (std::uint32_t member = 0; member < self->layout.members.size(); ++member) {
      if (self->bearers.contains(self->layout.members[member].disk) != bearers) continue;
      self->write_member(member, block, {data}, true,
                         [join](Status status) { join->add(std::move(status)); });
    }
  };
  // Who was not in sync by the last superblock must not be the only one to bear the next.
  send(true, [self, send, id, version](Status old) {
    const auto changed = [self, version] { return version != self->layout_version; };
    const auto busy = fail(ErrorCode::busy, "the layout has changed");
    if (!old) return self->end(id, std::move(old));
    if (changed()) return self->end(id, busy);
    send(false, [self, id, changed, busy](Status status) {
      if (status && changed()) status = busy;
      if (status) {
        self->unpublished.clear();
        self->note_bearers();
      }
      self->end(id, std::move(status));
    });
  });
}

void Array::Impl::note_bearers() {
  bearers.clear();
  for (const Member& member : layout.members) {
    if (member.state == MemberState::in_sync) bearers.insert(member.disk);
  }
}

}  // namespace duet::raid
