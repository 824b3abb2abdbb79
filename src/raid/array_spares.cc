// Who comes in: spares, replacement, and the claims without which no new disk is used.
#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "raid/array_impl.h"

namespace duet::raid {

// ---- claims ----

//  none --claim--> asked --ok--> granted --an order takes the disk, drop_claim--> none
//                    |   +-ok, no order has asked--> taken for the member, or none
//                    +-refused, claim_patience--> none; a spare rests before it is asked for again
void Array::Impl::claim(const Disk& disk, std::optional<std::uint32_t> member, Finish done) {
  auto [it, fresh] = claims.try_emplace(disk.id);
  if (!fresh) return done(fail(ErrorCode::busy, "disk " + to_string(disk.id) + " is being taken"));
  const std::uint64_t number = ++last_claim;
  it->second.number = number;
  it->second.member = member;
  it->second.done = std::move(done);
  it->second.limit = scheduler.at(
      scheduler.now() + claim_patience, [self = shared_from_this(), id = disk.id, number] {
        self->claim_answered(id, number, fail(ErrorCode::timed_out, "the claim is not answered"));
      });
  owner.claim(disk, [self = shared_from_this(), id = disk.id, number](Result<void> status) {
    self->claim_answered(id, number, std::move(status));
  });
}

// An answer that comes too late does not count: the disk has to be claimed anew.
void Array::Impl::claim_answered(DiskId disk, std::uint64_t number, Status status) {
  auto it = claims.find(disk);
  if (it == claims.end() || it->second.number != number || it->second.granted) {
    MARK(claim_answered_late);
    return;
  }
  scheduler.cancel(it->second.limit);
  Finish done = std::move(it->second.done);
  if (status) {
    it->second.granted = true;
  } else {
    claims.erase(it);
  }
  done(std::move(status));
}

void Array::Impl::drop_claim(DiskId disk) {
  auto it = claims.find(disk);
  if (it == claims.end() || !it->second.granted) return;
  claims.erase(it);
  look_for_spares();
}

Status Array::Impl::check_claim(DiskId disk) const {
  auto it = claims.find(disk);
  if (!owner.claim || (it != claims.end() && it->second.granted)) return {};
  return fail(ErrorCode::busy, "disk " + to_string(disk) + " is not claimed");
}

void Array::claim(const Disk& disk, ports::Done<void> done) {
  const auto id = impl_->begin(std::move(done));
  if (!impl_->running()) return;
  if (!impl_->owner.claim) return impl_->end(id, {});
  impl_->claim(disk, {}, [impl = impl_, id](Status status) { impl->end(id, std::move(status)); });
}

void Array::drop_claim(DiskId disk) {
  impl_->drop_claim(disk);
}

std::vector<Array::Disk> Array::free_spares() const {
  std::vector<Disk> free;
  for (const DiskId& spare : impl_->layout.spares) {
    auto device = impl_->devices.find(spare);
    if (device == impl_->devices.end() || impl_->claims.contains(spare)) continue;
    free.push_back(device->second->disk());
  }
  return free;
}

// ---- spares ----

// Now, and again as long as a member has failed that a spare may still help.
void Array::Impl::look_for_spares() {
  if (!running() || !automatic_spares) return;
  std::erase_if(resting, [this](const auto& entry) { return entry.second <= scheduler.now(); });
  for (std::uint32_t i = 0; i < layout.members.size(); ++i) {
    if (layout.members[i].state == MemberState::failed) take_spare(i);
  }
  bool again = false;
  for (std::uint32_t i = 0; i < layout.members.size(); ++i) {
    if (layout.members[i].state != MemberState::failed) continue;
    again = again || std::ranges::any_of(layout.spares, [this, i](const DiskId& spare) {
              return use_of(i, spare) != Use::never;
            });
  }
  if (!again || std::exchange(spare_look_due, true)) return;
  scheduler.at(scheduler.now() + spare_retry_delay, [self = shared_from_this()] {
    self->spare_look_due = false;
    self->look_for_spares();
  });
}

Array::Impl::Use Array::Impl::use_of(std::uint32_t member, DiskId spare) const {
  auto found = devices.find(spare);
  if (found == devices.end() || !found->second->connected()) return Use::later;
  const auto needed = layout.groups[layout.members[member].group].blocks;
  if (found->second->blocks() < needed) return Use::never;
  return claims.contains(spare) || resting.contains(spare) ? Use::later : Use::now;
}

void Array::Impl::take_spare(std::uint32_t number) {
  const auto for_it = [number](const auto& entry) { return entry.second.member == number; };
  if (std::ranges::any_of(claims, for_it)) return;
  std::vector<DiskId> missed;
  for (const DiskId& spare : layout.spares) {
    auto device = devices.find(spare);
    if (device == devices.end() || !device->second->connected()) missed.push_back(spare);
    if (use_of(number, spare) != Use::now) continue;
    if (!owner.claim) {
      if (replace(number, spare)) return;
      continue;
    }
    return claim(device->second->disk(), number,
                 [self = shared_from_this(), number, spare](const Status& status) {
                   self->spare_claimed(number, spare, status);
                 });
  }
  if (missed.empty() || !owner.spare_missed) return;
  MARK(spare_is_missed);
  owner.spare_missed(missed[spares_missed++ % missed.size()]);
}

void Array::Impl::spare_claimed(std::uint32_t number, DiskId spare, const Status& status) {
  if (!running()) return;
  if (!status) {
    MARK(spare_claim_refused);
    resting[spare] = scheduler.now() + spare_retry_delay;
  } else if (!replace(number, spare)) {
    MARK(spare_claimed_in_vain);  // the member is back by itself, or the spare is gone
    claims.erase(spare);
  }
  look_for_spares();
}

Status Array::Impl::replace(std::uint32_t number, DiskId disk) {
  if (number >= layout.members.size()) return fail(ErrorCode::not_found, "no such member");
  Member& member = layout.members[number];
  if (member.state != MemberState::failed) {
    return fail(ErrorCode::invalid, describe(number) + " has not failed");
  }
  auto spare = std::ranges::find(layout.spares, disk);
  if (spare == layout.spares.end() && member.disk != disk) {
    return fail(ErrorCode::not_found, "disk " + to_string(disk) + " is no spare");
  }
  auto found = devices.find(disk);
  if (found == devices.end() || !found->second->connected()) {
    return fail(ErrorCode::invalid, "disk " + to_string(disk) + " is not at hand");
  }
  if (found->second->blocks() < layout.groups[member.group].blocks) {
    return fail(ErrorCode::invalid, "disk " + to_string(disk) + " is too small");
  }
  if (spare != layout.spares.end()) {
    if (auto claimed = check_claim(disk); !claimed) return claimed;
    layout.spares.erase(spare);
    claims.erase(disk);
  }
  member.disk = disk;
  member.kept_out = false;
  member.state = MemberState::rebuilding;
  member.rebuilt = 0;
  members[number].valid = 0;
  members[number].slow = false;
  ++members[number].incarnation;
  event("disk " + to_string(disk) + " takes the place of member " + std::to_string(number));
  changed();
  start_rebuilds();
  return {};
}

// ---- orders ----

Status Array::add_spare(const Disk& disk) {
  Layout grown = impl_->layout;
  grown.spares.push_back(disk.id);
  if (auto status = check(grown); !status) return status;
  if (disk.port == nullptr) return duet::fail(ErrorCode::invalid, "the disk is not at hand");
  impl_->layout = std::move(grown);
  impl_->devices[disk.id] = std::make_shared<Device>(impl_->scheduler, disk, impl_->options);
  impl_->changed();
  impl_->look_for_spares();
  return {};
}

Status Array::remove_spare(DiskId disk) {
  auto& spares = impl_->layout.spares;
  auto found = std::ranges::find(spares, disk);
  if (found == spares.end()) return duet::fail(ErrorCode::not_found, "no such spare");
  spares.erase(found);
  impl_->devices.erase(disk);
  impl_->changed();
  return {};
}

Status Array::replace_member(std::uint32_t member, DiskId spare) {
  return impl_->replace(member, spare);
}

void Array::set_automatic_spares(bool on) {
  impl_->automatic_spares = on;
  impl_->look_for_spares();
}

}  // namespace duet::raid
