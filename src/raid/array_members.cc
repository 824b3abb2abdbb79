// Who is in: failing, growth. Spares: array_spares.cc.
#include <algorithm>
#include <utility>

#include "raid/array_impl.h"

namespace duet::raid {

Status Array::Impl::bears_absence(std::uint32_t number) const {
  const Member& member = layout.members[number];
  std::uint32_t out = 1;
  for (const std::uint32_t other : groups[member.group]->members) {
    if (other != number && layout.members[other].state != MemberState::in_sync) ++out;
  }
  if (out <= parity_count(layout.groups[member.group].protection)) return {};
  return fail(ErrorCode::refused, "group " + std::to_string(member.group) +
                                      " would be lost without " + describe(number));
}

// When a whole shelf is away, to fail whoever was asked first would help nobody.
Status Array::Impl::bears_loss(std::uint32_t number) const {
  if (auto status = bears_absence(number); !status) return status;
  const Member& member = layout.members[number];
  std::uint32_t out = 1;
  for (const std::uint32_t other : groups[member.group]->members) {
    const bool here = layout.members[other].state == MemberState::in_sync && reachable(other);
    if (other != number && !here) ++out;
  }
  if (out <= parity_count(layout.groups[member.group].protection)) return {};
  return fail(ErrorCode::disconnected,
              "too many members of group " + std::to_string(member.group) + " are away");
}

bool Array::Impl::fail_member(std::uint32_t number, const std::string& why) {
  if (layout.members[number].state == MemberState::failed) return true;
  if (!bears_loss(number)) return false;
  drop_member(number, why);
  return true;
}

void Array::Impl::drop_member(std::uint32_t number, const std::string& why, bool kept_out) {
  Member& member = layout.members[number];
  event(describe(number) + " has failed: " + why);
  member.state = MemberState::failed;
  member.kept_out = kept_out;
  member.rebuilt = 0;
  ++members[number].incarnation;
  // Of several since the last superblock the first is the one that superblock takes for a member.
  unpublished.try_emplace(number, Unpublished{member.disk, false});
  // What waits for this disk is not needed any more. It may come back as a new one.
  if (auto found = devices.find(member.disk); found != devices.end()) {
    const Disk disk = found->second->disk();
    found->second->give_up();
    found->second = std::make_shared<Device>(scheduler, disk, options);
  }
  changed();
  look_for_spares();
}

void Array::Impl::open_group(std::uint16_t group) {
  states[group].opening = true;
  auto join = this->join([self = shared_from_this(), group](Status) {
    // A failure shows when the group is written.
    self->states[group].opening = false;
    for (ports::Task& task : std::exchange(self->states[group].when_open, {})) task();
  });
  const std::vector<Slice> zeros(reserved_blocks - note_slots, zero_block());
  const Columns of = groups[group];  // may change on the way
  for (const std::uint32_t member : of->members) {
    write_member(member, note_slots, zeros, true, [join](Status) {});
  }
}

void Array::Impl::changed() {
  ++layout_version;
  groups = map_groups(layout);
  ASSERT(check(layout).has_value());
  if (!closed && owner.layout_changed) owner.layout_changed();
}

Status Array::fail_member(std::uint32_t member) {
  if (member >= impl_->layout.members.size())
    return duet::fail(ErrorCode::not_found, "no such member");
  Member& named = impl_->layout.members[member];
  if (named.state == MemberState::failed) {
    if (!std::exchange(named.kept_out, true)) impl_->changed();
    return {};
  }
  if (auto status = impl_->bears_loss(member); !status) {
    return duet::fail(ErrorCode::refused, status.error().message);
  }
  impl_->drop_member(member, "the operator says so", true);
  return {};
}

void Array::disk_returned(const Disk& disk) {
  if (disk.port == nullptr) return;
  auto& device = impl_->devices[disk.id];
  const bool known =
      device && device->disk().port == disk.port && device->disk().data_offset == disk.data_offset;
  if (!known) {  // else what is under way goes on
    if (device) device->give_up();
    device = std::make_shared<Device>(impl_->scheduler, disk, impl_->options);
  }
  impl_->start_rebuilds();
  impl_->look_for_spares();
}

std::vector<MemberReport> Array::report() const {
  std::vector<MemberReport> reports;
  for (std::uint32_t i = 0; i < impl_->layout.members.size(); ++i) {
    const auto& state = impl_->members[i];
    reports.push_back({i, impl_->layout.members[i], impl_->reachable(i), state.slow,
                       state.read_errors, state.repaired});
  }
  return reports;
}

Status Array::add_group(Protection protection, const std::vector<Disk>& disks,
                        std::uint64_t blocks) {
  Layout grown = impl_->layout;
  const auto number = static_cast<std::uint16_t>(grown.groups.size());
  grown.groups.push_back({protection, blocks});
  const std::size_t parity = parity_count(protection);
  for (const Disk& disk : disks) std::erase(grown.spares, disk.id);
  for (std::size_t i = 0; i < disks.size(); ++i) {
    if (disks[i].port == nullptr) return duet::fail(ErrorCode::invalid, "a disk is not at hand");
    const bool is_parity = i + parity >= disks.size();
    const std::size_t role = is_parity ? i + parity - disks.size() : i;
    grown.members.push_back(
        {disks[i].id, number, is_parity, static_cast<std::uint8_t>(role), MemberState::in_sync, 0});
    if (Device(impl_->scheduler, disks[i], impl_->options).blocks() < blocks) {
      return duet::fail(ErrorCode::invalid, "a disk is too small");
    }
  }
  if (auto status = check(grown); !status) return status;
  for (const Disk& disk : disks) {
    if (auto claimed = impl_->check_claim(disk.id); !claimed) return claimed;
  }
  impl_->layout = std::move(grown);
  for (const Disk& disk : disks) {
    impl_->claims.erase(disk.id);
    impl_->devices[disk.id] = std::make_shared<Device>(impl_->scheduler, disk, impl_->options);
  }
  impl_->members.resize(impl_->layout.members.size());
  impl_->states.resize(impl_->layout.groups.size());
  impl_->changed();
  impl_->open_group(number);
  return {};
}

void Array::add_member(std::uint16_t group, const Disk& disk, ports::Done<std::uint32_t> done) {
  impl_->add_member(group, disk, std::move(done));
}

void Array::Impl::add_member(std::uint16_t group, const Disk& disk,
                             ports::Done<std::uint32_t> done) {
  auto number = std::make_shared<std::uint32_t>(0);
  const auto id = begin([done = std::move(done), number](Result<void> status) mutable {
    if (!status) return done(std::unexpected(status.error()));
    done(*number);
  });
  if (group >= groups.size() || disk.port == nullptr) {
    return end(id, duet::fail(ErrorCode::not_found, "no such group or disk"));
  }
  if (groups[group]->geometry.data + count_joining(group) >= max_group_data) {
    return end(id, duet::fail(ErrorCode::invalid, "the group has as many disks as it can"));
  }
  Layout grown = layout;
  std::erase(grown.spares, disk.id);
  grown.joining.push_back({disk.id, group});
  if (auto status = check(grown); !status) return end(id, status);
  auto device = std::make_shared<Device>(scheduler, disk, options);
  if (device->blocks() < groups[group]->blocks) {
    return end(id, duet::fail(ErrorCode::invalid, "the disk is too small"));
  }
  if (auto claimed = check_claim(disk.id); !claimed) return end(id, claimed);
  layout = std::move(grown);
  claims.erase(disk.id);
  devices[disk.id] = std::move(device);
  changed();
  start_growth(layout.joining.back(), number, id);
}

std::size_t Array::Impl::count_joining(std::uint16_t group) const {
  return static_cast<std::size_t>(std::ranges::count(layout.joining, group, &Joining::group));
}

// A disk that is away joins when it is back.
void Array::Impl::start_growth(const Joining& joining, std::shared_ptr<std::uint32_t> number,
                               std::uint64_t id) {
  auto found = devices.find(joining.disk);
  if (found == devices.end() || !found->second->connected()) return;
  auto growth =
      std::make_shared<Growth>(Growth{joining.group, found->second, std::move(number), id, {}, 0});
  for (std::uint64_t i = 0; i < max_disk_write_blocks; ++i) growth->zeros.push_back(zero_block());
  growths[joining.disk] = growth;
  zero_next(growth);
}

// An operator may try again.
void Array::Impl::growth_failed(const std::shared_ptr<Growth>& growth, Status status) {
  const DiskId disk = growth->device->disk().id;
  if (growths.erase(disk) > 0 && running()) {
    event("disk " + to_string(disk) + " does not join: " + status.error().message);
    std::erase_if(layout.joining, [&](const Joining& j) { return j.disk == disk; });
    devices.erase(disk);
    changed();
  }
  end(growth->id, std::move(status));
}

// Zeros do not change the parity of the stripes that gain a column.
void Array::Impl::zero_next(const std::shared_ptr<Growth>& growth) {
  const auto found = growths.find(growth->device->disk().id);
  if (!running() || found == growths.end() || found->second != growth) return;
  const std::uint64_t blocks = groups[growth->group]->blocks;
  if (growth->next >= blocks) {
    growth->device->flush([self = shared_from_this(), growth](Result<void> status) {
      if (!self->running()) return self->end(growth->id, std::move(status));
      if (!status) return self->growth_failed(growth, std::move(status));
      self->join_group(growth);
    });
    return;
  }
  const std::uint64_t count = std::min(blocks - growth->next, max_disk_write_blocks + 0ul);
  std::vector<Slice> zeros(growth->zeros.begin(),
                           growth->zeros.begin() + static_cast<std::ptrdiff_t>(count));
  growth->device->write(growth->next, std::move(zeros), false,
                        [self = shared_from_this(), growth, count](Result<void> status) {
                          if (!status) return self->growth_failed(growth, std::move(status));
                          growth->next += count;
                          const auto pause = self->pause_for(count);
                          self->scheduler.at(self->scheduler.now() + pause,
                                             [self, growth] { self->zero_next(growth); });
                        });
}

void Array::Impl::join_group(const std::shared_ptr<Growth>& growth) {
  const DiskId disk = growth->device->disk().id;
  if (growths.erase(disk) == 0) return end(growth->id, fail(ErrorCode::cancelled, "called off"));
  Layout grown = layout;
  std::erase_if(grown.joining, [&](const Joining& j) { return j.disk == disk; });
  const auto role = static_cast<std::uint8_t>(groups[growth->group]->geometry.data);
  grown.members.push_back({disk, growth->group, false, role, MemberState::in_sync, 0});
  ASSERT(check(grown).has_value());  // add_member left room for all that join
  layout = std::move(grown);
  members.resize(layout.members.size());
  if (growth->number) *growth->number = static_cast<std::uint32_t>(layout.members.size() - 1);
  event("disk " + to_string(disk) + " has joined group " + std::to_string(growth->group));
  changed();
  end(growth->id, {});
}

std::vector<Array::Growing> Array::growing() const {
  std::vector<Growing> all;
  for (const Joining& joining : impl_->layout.joining) {
    auto found = impl_->growths.find(joining.disk);
    all.push_back({joining, found == impl_->growths.end() ? 0 : found->second->next});
  }
  return all;
}

Status Array::stop_joining(DiskId disk) {
  if (std::erase_if(impl_->layout.joining, [&](const Joining& j) { return j.disk == disk; }) == 0) {
    return duet::fail(ErrorCode::not_found, "the disk does not join");
  }
  if (auto growth = impl_->growths.extract(disk); !growth.empty()) {
    impl_->end(growth.mapped()->id, duet::fail(ErrorCode::cancelled, "called off"));
  }
  impl_->devices.erase(disk);
  impl_->changed();
  return {};
}

Duration Array::Impl::pause_for(std::uint64_t blocks) const {
  if (options.rebuild_rate == 0) return Duration(0);
  return Duration(blocks * block_size * 1'000'000'000ull / options.rebuild_rate);
}

}  // namespace duet::raid
