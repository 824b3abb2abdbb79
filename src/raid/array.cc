#include "raid/array.h"

#include <utility>

#include "raid/array_impl.h"

namespace duet::raid {

const Slice& zero_block() {
  static const Slice zeros = make_buffer(block_size).slice();
  return zeros;
}

const OwnedBuffer& zero_parity() {
  static const OwnedBuffer zeros = make_buffer(std::size_t{2} * block_size);
  return zeros;
}

Array::Impl::Impl(ports::Scheduler& s, Options o, Owner w)
    : scheduler(s),
      options(std::move(o)),
      owner(std::move(w)),
      layout(options.layout),
      groups(map_groups(layout)),
      states(groups.size()),
      members(layout.members.size()),
      locks(s) {
  ASSERT(check(layout).has_value());
  note_bearers();
  for (const Disk& disk : options.disks) {
    if (disk.port != nullptr) {
      devices[disk.id] = std::make_shared<Device>(scheduler, disk, options);
    }
  }
  for (std::size_t i = 0; i < members.size(); ++i) members[i].valid = layout.members[i].rebuilt;
}

std::uint64_t Array::Impl::begin(ports::Done<void> done) {
  under_way.emplace(++last_operation, std::move(done));
  const std::uint64_t id = last_operation;
  if (!running()) end(id, stopped());
  return id;
}

void Array::Impl::end(std::uint64_t id, Status status) {
  auto node = under_way.extract(id);
  if (node.empty()) return;
  scheduler.post([done = std::move(node.mapped()), status = std::move(status)]() mutable {
    done(std::move(status));
  });
}

std::shared_ptr<Join> Array::Impl::join(Finish done) {
  return std::make_shared<Join>(
      [self = shared_from_this(), done = std::move(done)](Status status) mutable {
        if (!self->closed) done(std::move(status));
      });
}

void Array::Impl::event(const std::string& text) {
  if (!closed && owner.event) owner.event(text);
}

Status Array::Impl::stopped() const {
  if (fenced) return fail(ErrorCode::reservation_conflict, "a reservation keeps us out");
  return fail(ErrorCode::cancelled, "the array was closed");
}

void Array::Impl::close() {
  if (closed) return;
  closed = true;
  for (auto& [id, device] : devices) device->give_up();
  while (!under_way.empty()) {
    end(under_way.begin()->first, fail(ErrorCode::cancelled, "the array was closed"));
  }
  // What waits holds this array.
  locks.close();
  for (const auto& [disk, claim] : claims) scheduler.cancel(claim.limit);
  auto asked = std::exchange(claims, {});
  for (GroupState& state : states) {
    auto writes = std::move(state.ring_waiting);
    state.ring_waiting.clear();
    auto tasks = std::move(state.when_open);
    state.when_open.clear();
  }
}

void Array::Impl::fence(const Error& error) {
  if (!running()) return;
  fenced = true;
  for (auto& [id, device] : devices) device->give_up();
  while (!under_way.empty()) end(under_way.begin()->first, stopped());
  if (owner.fenced) owner.fenced(error.message);
}

std::shared_ptr<Device> Array::Impl::device_of(std::uint32_t member) const {
  auto found = devices.find(layout.members[member].disk);
  return found == devices.end() ? nullptr : found->second;
}

bool Array::Impl::reachable(std::uint32_t member) const {
  auto device = device_of(member);
  return device != nullptr && device->connected();
}

bool Array::Impl::readable(std::uint32_t member, std::uint64_t block) const {
  switch (layout.members[member].state) {
    case MemberState::in_sync:
      return reachable(member);
    case MemberState::rebuilding:
      return block < members[member].valid && reachable(member);
    case MemberState::failed:
      return false;
  }
  UNREACHABLE();
}

ColumnMask Array::Impl::readable_columns(const GroupColumns& group, std::uint64_t stripe) const {
  ColumnMask mask = 0;
  for (std::uint32_t column = 0; column < group.members.size(); ++column) {
    if (readable(group.members[column], stripe)) mask |= ColumnMask{1} << column;
  }
  return mask;
}

ColumnMask Array::Impl::written_columns(const GroupColumns& group) const {
  ColumnMask mask = 0;
  for (std::uint32_t column = 0; column < group.members.size(); ++column) {
    const bool in = layout.members[group.members[column]].state != MemberState::failed;
    if (in) mask |= ColumnMask{1} << column;
  }
  return mask;
}

std::string Array::Impl::describe(std::uint32_t member) const {
  auto device = device_of(member);
  return "member " + std::to_string(member) + " (" +
         (device ? device->disk().port->name() : "disk " + to_string(layout.members[member].disk)) +
         ")";
}

void Array::Impl::missed(std::uint32_t member, Instant since, Finish done) {
  if (!running()) return done(stopped());
  if (fail_member(member, "its disk is absent")) return done({});
  // Others are away, too, perhaps for a moment only.
  if (!bears_absence(member) || scheduler.now() - since >= options.patience) {
    return done(fail(ErrorCode::disconnected, describe(member) + " is absent"));
  }
  scheduler.at(scheduler.now() + reconnect_delay,
               [self = shared_from_this(), member, since, done = std::move(done)]() mutable {
                 self->missed(member, since, std::move(done));
               });
}

void Array::Impl::write_member(std::uint32_t member, std::uint64_t block, std::vector<Slice> data,
                               bool durable, Finish done) {
  if (!running()) return done(stopped());
  if (layout.members[member].state == MemberState::failed) return done({});
  auto device = device_of(member);
  if (!device) return missed(member, scheduler.now(), std::move(done));
  const std::uint64_t incarnation = members[member].incarnation;
  device->write(block, std::move(data), durable,
                [self = shared_from_this(), member, incarnation,
                 done = std::move(done)](Result<void> status) mutable {
                  self->member_answered(member, incarnation, std::move(status), std::move(done));
                });
}

void Array::Impl::member_answered(std::uint32_t member, std::uint64_t incarnation, Status status,
                                  Finish done) {
  if (status) return done({});
  if (!running()) return done(stopped());
  if (status.error().code == ErrorCode::reservation_conflict) {
    fence(status.error());
    return done(stopped());
  }
  const bool gone = members[member].incarnation != incarnation;
  if (gone || fail_member(member, status.error().message)) return done({});
  done(std::move(status));
}

Array::Array(ports::Scheduler& scheduler, Options options, Owner owner)
    : impl_(std::make_shared<Impl>(scheduler, std::move(options), std::move(owner))) {}
Array::~Array() {
  impl_->close();
}

void Array::format(ports::Done<void> done) {
  impl_->format(std::move(done));
}
void Array::recover(std::uint64_t generation, std::vector<Slice> records, ports::Done<void> done) {
  impl_->recover(generation, std::move(records), std::move(done));
}
void Array::read(std::vector<BlockRead> blocks, ports::Done<void> done) {
  impl_->read(std::move(blocks), std::move(done));
}
void Array::write(std::uint64_t generation, std::vector<BlockWrite> blocks,
                  ports::Done<void> done) {
  impl_->write(generation, std::move(blocks), std::move(done));
}
void Array::flush(ports::Done<void> done) {
  const auto id = impl_->begin(std::move(done));
  impl_->flush([impl = impl_, id](Status status) { impl->end(id, std::move(status)); });
}
void Array::write_everywhere(std::uint64_t block, Slice data, ports::Done<void> done) {
  impl_->write_everywhere(block, data, std::move(done));
}
const WriteFigures& Array::write_figures() const {
  return impl_->write_figures;
}
const Layout& Array::layout() const {
  return impl_->layout;
}
void Array::close() {
  impl_->close();
}

}  // namespace duet::raid
