// Rebuilding: the rows of a group in order, with their locks held; rows without live blocks are
// passed over, as whatever is written there later goes to the new member, too.
#include "raid/array_impl.h"

namespace duet::raid {
namespace {

// The step is done again, however short the interruption was.
Status interrupted() {
  return fail(ErrorCode::disconnected, "the member that is being rebuilt was away");
}

}  // namespace

void Array::Impl::start_rebuilds() {
  for (std::uint16_t group = 0; group < groups.size() && background; ++group) {
    if (!states[group].rebuilding) rebuild_next(group);
  }
  for (const Joining& joining : layout.joining) {
    if (background && !growths.contains(joining.disk)) start_growth(joining, nullptr, 0);
  }
}

bool Array::Impl::row_live(const GroupColumns& of, std::uint64_t row,
                           const std::function<bool(BlockAddress)>& live) {
  for (std::uint32_t column = 0; column < of.geometry.data; ++column) {
    if (live(BlockAddress(of.members[column], row))) return true;
  }
  return false;
}

void Array::Impl::lock_rows(std::uint16_t group, std::uint64_t from, std::uint64_t to,
                            ports::Task then) {
  auto shared = std::make_shared<ports::Task>(std::move(then));
  auto self = shared_from_this();
  for (std::uint64_t row = from; row < to; ++row) {
    const bool held = locks.lock(stripe_key(group, row), [self, group, row, to, shared] {
      self->lock_rows(group, row + 1, to, [shared] { (*shared)(); });
    });
    if (!held) return;
  }
  (*shared)();
}

void Array::Impl::unlock_rows(std::uint16_t group, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t row = from; row < to; ++row) locks.unlock(stripe_key(group, row));
}

void Array::Impl::rebuild_next(std::uint16_t group) {
  states[group].rebuilding = false;
  if (!running()) return;
  bool away = false;
  for (const std::uint32_t member : groups[group]->members) {
    if (layout.members[member].state != MemberState::rebuilding) continue;
    if (!reachable(member)) {
      away = away || device_of(member) != nullptr;
      continue;
    }
    states[group].rebuilding = true;
    auto rebuild = std::make_shared<Rebuild>();
    rebuild->group = group;
    rebuild->member = member;
    rebuild->incarnation = members[member].incarnation;
    rebuild->row = std::max(members[member].valid, reserved_blocks);
    rebuild->published = scheduler.now();
    // It may bear the stripe journal of another pool.
    const std::vector<Slice> zeros(reserved_blocks - note_slots, zero_block());
    write_member(member, note_slots, zeros, true,
                 [self = shared_from_this(), rebuild](Status) { self->rebuild_rows(rebuild); });
    return;
  }
  // Until it is back, or fails by the first write that it misses.
  if (away) {
    states[group].rebuilding = true;
    scheduler.at(scheduler.now() + rebuild_retry_delay,
                 [self = shared_from_this(), group] { self->rebuild_next(group); });
  }
}

bool Array::Impl::rebuild_goes_on(const Rebuild& rebuild) const {
  const Member& member = layout.members[rebuild.member];
  return running() && member.state == MemberState::rebuilding &&
         members[rebuild.member].incarnation == rebuild.incarnation && reachable(rebuild.member);
}

void Array::Impl::rebuild_rows(const std::shared_ptr<Rebuild>& rebuild) {
  if (!rebuild_goes_on(*rebuild)) return rebuild_next(rebuild->group);
  rebuild->of = groups[rebuild->group];
  const std::uint64_t blocks = rebuild->of->blocks;
  const std::uint64_t look_to = std::min(blocks, rebuild->row + rows_per_look);
  while (rebuild->row < look_to && !row_live(*rebuild->of, rebuild->row, owner.live))
    ++rebuild->row;
  auto& valid = members[rebuild->member].valid;
  valid = std::max(valid, rebuild->row);
  auto self = shared_from_this();
  if (rebuild->row == blocks) return rebuild_publish(rebuild, true);
  if (scheduler.now() - rebuild->published >= publish_interval) {
    return rebuild_publish(rebuild, false);
  }
  if (rebuild->row == look_to) {
    return scheduler.post([self, rebuild] { self->rebuild_rows(rebuild); });
  }
  rebuild->end = std::min(blocks, rebuild->row + rows_per_step);
  rebuild->begin = scheduler.now();
  lock_rows(rebuild->group, rebuild->row, rebuild->end,
            [self, rebuild] { self->rebuild_locked(rebuild); });
}

void Array::Impl::rebuild_locked(const std::shared_ptr<Rebuild>& rebuild) {
  auto self = shared_from_this();
  auto join =
      this->join([self, rebuild](Status status) { self->rebuild_step_ended(rebuild, status); });
  if (!rebuild_goes_on(*rebuild)) return join->add(interrupted());
  const std::uint32_t column = column_of(layout.members[rebuild->member], rebuild->of->geometry);
  const ColumnMask bit = ColumnMask{1} << column;
  for (std::uint64_t row = rebuild->row; row < rebuild->end; ++row) {
    auto open = states[rebuild->group].open.find(row);
    const ColumnMask torn = open == states[rebuild->group].open.end() ? 0 : open->second.torn;
    // The next write of a torn stripe brings its parity and its torn columns.
    const bool comes = torn != 0 && (bit & (torn | rebuild->of->geometry.parity_mask())) != 0;
    if (comes || !row_live(*rebuild->of, row, owner.live)) continue;
    read_stripe(rebuild->of, stripe_key(rebuild->group, row), bit, bit,
                [self, rebuild, join, row, column](Result<StripeImage> image) {
                  self->rebuild_row(*rebuild, row, column, std::move(image), join);
                });
  }
}

void Array::Impl::rebuild_row(const Rebuild& rebuild, std::uint64_t row, std::uint32_t column,
                              Result<StripeImage> image, const std::shared_ptr<Join>& join) {
  if (!image && image.error().code == ErrorCode::io_error) {
    // The checksum of the block will tell its reader.
    return event("block " + std::to_string(row) + " of " + describe(rebuild.member) +
                 " is lost: " + image.error().message);
  }
  if (!image) return join->add(std::unexpected(image.error()));
  if (!rebuild_goes_on(rebuild)) return join->add(interrupted());
  write_member(rebuild.member, row, {image->columns[column].slice()}, false,
               [join](Status status) { join->add(std::move(status)); });
}

void Array::Impl::rebuild_step_ended(const std::shared_ptr<Rebuild>& rebuild,
                                     const Status& status) {
  auto self = shared_from_this();
  const bool on = rebuild_goes_on(*rebuild);
  const std::uint64_t first = rebuild->row;
  const std::uint64_t moved = rebuild->end - first;
  if (on && status) {
    rebuild->row = rebuild->end;
    auto& valid = members[rebuild->member].valid;
    valid = std::max(valid, rebuild->row);
  }
  unlock_rows(rebuild->group, first, rebuild->end);
  const Duration pause = status ? pause_for(moved) : Duration(reconnect_delay);
  const Instant next = std::max(scheduler.now(), rebuild->begin + pause);
  scheduler.at(next, [self, rebuild] { self->rebuild_rows(rebuild); });
}

// What the layout says is rebuilt, is durable.
void Array::Impl::rebuild_publish(const std::shared_ptr<Rebuild>& rebuild, bool last) {
  const std::uint64_t row = rebuild->row;
  flush_member(rebuild->member, [self = shared_from_this(), rebuild, row, last](Status status) {
    if (!self->rebuild_goes_on(*rebuild)) return self->rebuild_next(rebuild->group);
    rebuild->published = self->scheduler.now();
    if (!status) {
      self->scheduler.at(self->scheduler.now() + reconnect_delay,
                         [self, rebuild] { self->rebuild_rows(rebuild); });
      return;
    }
    Member& member = self->layout.members[rebuild->member];
    member.rebuilt = last ? 0 : row;
    if (last) {
      member.state = MemberState::in_sync;
      self->event(self->describe(rebuild->member) + " is rebuilt");
      self->changed();
      return self->rebuild_next(rebuild->group);
    }
    // No reason to encode a layout again that is under way to the disks.
    if (self->owner.layout_changed) self->owner.layout_changed();
    self->rebuild_rows(rebuild);
  });
}

Progress Array::rebuild_progress() const {
  Progress progress;
  for (std::uint32_t i = 0; i < impl_->layout.members.size(); ++i) {
    const Member& member = impl_->layout.members[i];
    if (member.state != MemberState::rebuilding) continue;
    progress.running = true;
    progress.done += impl_->members[i].valid;
    progress.total += impl_->layout.groups[member.group].blocks;
  }
  return progress;
}

}  // namespace duet::raid
