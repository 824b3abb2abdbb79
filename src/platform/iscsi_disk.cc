#include "platform/iscsi_disk.h"

#include <fmt/format.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <algorithm>
#include <optional>

#include "base/assert.h"
#include "initiator/scsi_replies.h"

namespace duet::platform {

using initiator::CommandKind;
using initiator::judge;
using initiator::parse_read_keys;
using initiator::parse_read_reservation;
using initiator::ScsiStatus;
using initiator::Verdict;

using ports::Attention;
using ports::Done;
using ports::ReservationType;

struct IscsiDisk::Operation {
  enum class What : std::uint8_t { read, write, flush, reservation_out, reservation_in };
  Operation(What w, Finish d) : what(w), done(std::move(d)) {}
  What what;
  CommandKind kind = CommandKind::transfer;
  bool durable = false;
  int action = 0;  // PERSISTENT RESERVE service action
  ReservationType type{};
  ReservationKey key;
  ReservationKey argument;  // service action reservation key
  Finish done;
  Instant deadline{};
  std::size_t parts = 0;       // not yet ended
  std::optional<Error> error;  // the first one
};

struct IscsiDisk::Part {
  std::shared_ptr<Operation> operation;
  std::uint64_t offset = 0;  // bytes
  std::uint32_t size = 0;    // bytes
  MutableBytes into;
  std::vector<Slice> data;
  int repeats = 0;
  int pauses = 0;
};

namespace {

IscsiDiskOptions with_unit(IscsiDiskOptions options) {
  options.session.isid.unit = options.lun;
  if (options.name.empty()) {
    options.name = fmt::format("{}/{}", options.session.target, options.lun);
  }
  return options;
}

auto without_data(Done<void> done) {
  return [done = std::move(done)](Result<Bytes> result) mutable {
    if (result) return done({});
    done(std::unexpected(std::move(result.error())));
  };
}

// Takes the first `size` bytes off `data`.
std::vector<Slice> take_front(std::deque<Slice>& data, std::uint64_t size) {
  std::vector<Slice> front;
  while (size > 0) {
    Slice& slice = data.front();
    auto n = std::min<std::uint64_t>(size, slice.bytes.size());
    front.push_back({slice.owner, slice.bytes.first(n)});
    slice.bytes = slice.bytes.subspan(n);
    if (slice.bytes.empty()) data.pop_front();
    size -= n;
  }
  if (front.size() <= IscsiDisk::max_slices) return front;
  OwnedBuffer whole;
  std::size_t total = 0;
  for (const Slice& slice : front) total += slice.bytes.size();
  whole = make_buffer(total);
  std::size_t at = 0;
  for (const Slice& slice : front) {
    std::memcpy(whole.bytes.data() + at, slice.bytes.data(), slice.bytes.size());
    at += slice.bytes.size();
  }
  return {whole.slice()};
}

}  // namespace

IscsiDisk::IscsiDisk(EventLoop& loop, IscsiDiskOptions options)
    : loop_(loop),
      options_(with_unit(std::move(options))),
      max_transfer_(options_.max_transfer),
      session_(loop, options_.session) {
  ASSERT(options_.max_transfer >= 4096 && options_.max_transfer % 4096 == 0);
  ASSERT(options_.queue_depth > 0);
}

IscsiDisk::~IscsiDisk() {
  loop_.cancel(pause_timer_);
  loop_.cancel(prepare_timer_);
}

Status IscsiDisk::start() {
  return session_.start([this](bool logged_in) { on_session(logged_in); });
}

const std::string& IscsiDisk::last_error() const {
  return stranger_.empty() ? session_.last_error() : stranger_;
}

void IscsiDisk::on_connection(std::move_only_function<void(bool)> callback) {
  on_connection_ = std::move(callback);
}

void IscsiDisk::on_attention(std::move_only_function<void(Attention)> callback) {
  on_attention_ = std::move(callback);
}

void IscsiDisk::disconnect() {
  auto lost = std::exchange(waiting_, {});
  for (Part& part : paused_) lost.push_back(std::move(part));
  paused_.clear();
  loop_.cancel(pause_timer_);
  pause_timer_ = {};
  for (Part& part : lost) finish_later(std::move(part), {ErrorCode::disconnected, last_error()});
  if (std::exchange(connected_, false) && on_connection_) on_connection_(false);
}

void IscsiDisk::report(Attention attention) {
  ask_caching();  // it may have changed with whatever happened
  if (on_attention_) on_attention_(attention);
}

// ---- operations ----

Status IscsiDisk::admit(std::uint64_t offset, std::uint64_t size) const {
  if (!connected_) {
    return fail(ErrorCode::disconnected, fmt::format("{}: {}", name(), last_error()));
  }
  if (offset % geometry_.block_size != 0 || size % geometry_.block_size != 0 ||
      offset > geometry_.size || size > geometry_.size - offset || size > max_operation) {
    return fail(
        ErrorCode::invalid,
        fmt::format("{}: {} bytes at {} are not whole blocks of the disk", name(), size, offset));
  }
  if (waiting_.size() + paused_.size() >= options_.max_waiting) {
    return fail(ErrorCode::busy,
                fmt::format("{}: {} commands are waiting", name(), waiting_.size()));
  }
  return {};
}

// Requires: parts only if admitted. No parts: nothing to do, done at once.
void IscsiDisk::start_operation(std::shared_ptr<Operation> operation, Status admitted,
                                std::vector<Part> parts) {
  if (!admitted || parts.empty()) {
    loop_.post([operation, admitted = std::move(admitted), alive = std::weak_ptr(alive_)] {
      if (alive.expired()) return;
      if (admitted) return operation->done(Bytes{});
      operation->done(std::unexpected(admitted.error()));
    });
    return;
  }
  operation->deadline = loop_.now() + options_.command_timeout;
  operation->parts = parts.size();
  for (Part& part : parts) {
    part.operation = operation;
    waiting_.push_back(std::move(part));
  }
  pump();
}

void IscsiDisk::read(std::uint64_t offset, MutableBytes into, Done<void> done) {
  auto operation =
      std::make_shared<Operation>(Operation::What::read, without_data(std::move(done)));
  auto admitted = admit(offset, into.size());
  std::vector<Part> parts;
  while (admitted && !into.empty()) {
    auto n = std::min<std::size_t>(into.size(), max_transfer_);
    parts.push_back({.operation = {},
                     .offset = offset,
                     .size = static_cast<std::uint32_t>(n),
                     .into = into.first(n),
                     .data = {}});
    into = into.subspan(n);
    offset += n;
  }
  start_operation(std::move(operation), std::move(admitted), std::move(parts));
}

void IscsiDisk::write(std::uint64_t offset, std::vector<Slice> data, bool durable,
                      Done<void> done) {
  auto operation =
      std::make_shared<Operation>(Operation::What::write, without_data(std::move(done)));
  operation->durable = durable;
  std::uint64_t size = 0;
  std::deque<Slice> rest;
  for (Slice& slice : data) {
    size += slice.bytes.size();
    if (!slice.bytes.empty()) rest.push_back(std::move(slice));
  }
  auto admitted = admit(offset, size);
  std::vector<Part> parts;
  while (admitted && size > 0) {
    auto n = std::min<std::uint64_t>(size, max_transfer_);
    parts.push_back({.operation = {},
                     .offset = offset,
                     .size = static_cast<std::uint32_t>(n),
                     .into = {},
                     .data = take_front(rest, n)});
    size -= n;
    offset += n;
  }
  start_operation(std::move(operation), std::move(admitted), std::move(parts));
}

void IscsiDisk::flush(Done<void> done) {
  auto operation =
      std::make_shared<Operation>(Operation::What::flush, without_data(std::move(done)));
  auto admitted = admit(0, 0);
  std::vector<Part> parts;
  if (admitted && geometry_.volatile_cache) parts.emplace_back();
  start_operation(std::move(operation), std::move(admitted), std::move(parts));
}

void IscsiDisk::register_key(ReservationKey key, Done<void> done) {
  reservation_out(SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY, {}, {}, key,
                  [this, done = std::move(done)](Status result) mutable {
                    // A reservation of others may have hidden the caching page until now.
                    if (result && !caching_known_) ask_caching();
                    done(std::move(result));
                  });
}

void IscsiDisk::reserve(ReservationKey key, ReservationType type, Done<void> done) {
  reservation_out(SCSI_PERSISTENT_RESERVE_RESERVE, type, key, {}, std::move(done));
}

void IscsiDisk::release(ReservationKey key, ReservationType type, Done<void> done) {
  reservation_out(SCSI_PERSISTENT_RESERVE_RELEASE, type, key, {}, std::move(done));
}

void IscsiDisk::preempt(ReservationKey key, ReservationKey victim, ReservationType type, bool abort,
                        Done<void> done) {
  reservation_out(
      abort ? SCSI_PERSISTENT_RESERVE_PREEMPT_AND_ABORT : SCSI_PERSISTENT_RESERVE_PREEMPT, type,
      key, victim, std::move(done));
}

void IscsiDisk::reservation_out(int action, ReservationType type, ReservationKey key,
                                ReservationKey argument, Done<void> done) {
  bool same_whenever = action == SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY ||
                       action == SCSI_PERSISTENT_RESERVE_RELEASE;
  auto operation =
      std::make_shared<Operation>(Operation::What::reservation_out, without_data(std::move(done)));
  operation->kind = same_whenever ? CommandKind::register_key : CommandKind::reserve;
  operation->action = action;
  operation->type = type;
  operation->key = key;
  operation->argument = argument;
  start_operation(std::move(operation), admit(0, 0), std::vector<Part>(1));
}

void IscsiDisk::reservation_in(int action, Finish done) {
  auto operation = std::make_shared<Operation>(Operation::What::reservation_in, std::move(done));
  operation->kind = CommandKind::inquire;
  operation->action = action;
  start_operation(std::move(operation), admit(0, 0), std::vector<Part>(1));
}

void IscsiDisk::read_keys(Done<ports::RegisteredKeys> done) {
  reservation_in(SCSI_PERSISTENT_RESERVE_READ_KEYS,
                 [done = std::move(done)](Result<Bytes> reply) mutable {
                   if (!reply) return done(std::unexpected(std::move(reply.error())));
                   done(parse_read_keys(*reply));
                 });
}

void IscsiDisk::read_reservation(Done<ports::ReservationState> done) {
  reservation_in(SCSI_PERSISTENT_RESERVE_READ_RESERVATION,
                 [done = std::move(done)](Result<Bytes> reply) mutable {
                   if (!reply) return done(std::unexpected(std::move(reply.error())));
                   done(parse_read_reservation(*reply));
                 });
}

// ---- commands ----

ScsiCommand IscsiDisk::make_command(const Part& part) const {
  const Operation& operation = *part.operation;
  ScsiCommand command;
  auto block_size = static_cast<int>(geometry_.block_size);
  auto block = part.offset / geometry_.block_size;
  switch (operation.what) {
    case Operation::What::read:
      command.task.reset(scsi_cdb_read16(block, part.size, block_size, 0, 0, 0, 0, 0));
      command.data_in = part.into;
      break;
    case Operation::What::write: {
      int fua = operation.durable && geometry_.volatile_cache ? 1 : 0;
      command.task.reset(scsi_cdb_write16(block, part.size, block_size, 0, 0, fua, 0, 0));
      command.data_out = part.data;
      break;
    }
    case Operation::What::flush:
      command.task.reset(scsi_cdb_synchronizecache16(0, 0, 0, 0));  // the whole disk
      break;
    case Operation::What::reservation_out: {
      scsi_persistent_reserve_out_basic parameters{};
      parameters.reservation_key = operation.key.value();
      parameters.service_action_reservation_key = operation.argument.value();
      bool registers = operation.action == SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY;
      parameters.aptpl = registers ? 1 : 0;  // SPC-4 6.16.3: ignored by the other actions
      command.task.reset(scsi_cdb_persistent_reserve_out(
          static_cast<scsi_persistent_out_sa>(operation.action), SCSI_PERSISTENT_RESERVE_SCOPE_LU,
          static_cast<scsi_persistent_out_type>(operation.type), &parameters));
      break;
    }
    case Operation::What::reservation_in: {
      constexpr std::uint16_t allocation_length = 0xfff8;  // thousands of keys
      command.task.reset(scsi_cdb_persistent_reserve_in(
          static_cast<scsi_persistent_in_sa>(operation.action), allocation_length));
      break;
    }
  }
  return command;
}

// Never calls back from inside.
void IscsiDisk::pump() {
  while (connected_ && in_flight_ < options_.queue_depth && !waiting_.empty()) {
    Part part = std::move(waiting_.front());
    waiting_.pop_front();
    Instant deadline = part.operation->deadline;
    if (deadline <= loop_.now()) {
      finish_later(std::move(part), {ErrorCode::timed_out, name() + ": not begun in time"});
      continue;
    }
    ++in_flight_;
    auto command = make_command(part);
    session_.submit(options_.lun, std::move(command), deadline,
                    [this, part = std::move(part)](Result<ScsiReply> reply) mutable {
                      on_reply(std::move(part), std::move(reply));
                    });
  }
}

void IscsiDisk::on_reply(Part part, Result<ScsiReply> reply) {
  ASSERT(in_flight_ > 0);
  --in_flight_;
  if (!reply) {
    pump();
    return finish(std::move(part), std::unexpected(reply.error()));
  }
  auto verdict = judge(reply->status, part.operation->kind);
  if (verdict.attention) {
    std::weak_ptr alive = alive_;
    report(*verdict.attention);
    if (alive.expired()) return;
  }
  auto failed = [&](ErrorCode code) {
    const ScsiStatus& s = reply->status;
    return fail(code, fmt::format("{}: {} (status {:02x}, sense {:x}/{:04x})", name(),
                                  duet::name(code), s.status, s.key, s.code));
  };
  switch (verdict.action) {
    case Verdict::Action::succeed:
      pump();
      if (part.operation->what == Operation::What::read && reply->data_in_missing != 0) {
        return finish(std::move(part), failed(ErrorCode::io_error));
      }
      return finish(std::move(part), reply->data_in);
    case Verdict::Action::repeat_now:
      if (++part.repeats <= max_repeats) {
        waiting_.push_front(std::move(part));
        return pump();
      }
      break;
    case Verdict::Action::repeat_later:
      if (++part.pauses <= max_pauses && part.operation->deadline > loop_.now() + pause) {
        paused_.push_back(std::move(part));
        if (pause_timer_ == ports::TimerId{}) {
          pause_timer_ = loop_.at(loop_.now() + pause, [this] { resume_paused(); });
        }
        return pump();
      }
      break;
    case Verdict::Action::fail:
      break;
  }
  pump();
  finish(std::move(part), failed(verdict.error));
}

void IscsiDisk::resume_paused() {
  pause_timer_ = {};
  while (!paused_.empty()) {
    waiting_.push_front(std::move(paused_.back()));
    paused_.pop_back();
  }
  pump();
}

// May destroy the disk: the last thing a caller does.
void IscsiDisk::finish(Part part, Result<Bytes> result) {
  auto operation = std::move(part.operation);
  if (!result && !operation->error) operation->error = result.error();
  ASSERT(operation->parts > 0);
  if (--operation->parts > 0) return;
  if (operation->error) return operation->done(std::unexpected(*operation->error));
  operation->done(std::move(result));
}

void IscsiDisk::finish_later(Part part, Error error) {
  loop_.post([this, part = std::move(part), error = std::move(error),
              alive = std::weak_ptr(alive_)]() mutable {
    if (!alive.expired()) finish(std::move(part), std::unexpected(std::move(error)));
  });
}

}  // namespace duet::platform
