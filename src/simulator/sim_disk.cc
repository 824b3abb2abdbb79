#include "simulator/sim_disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "initiator/scsi_replies.h"
#include "simulator/world.h"

namespace duet::simulator {

using initiator::CommandKind;
using initiator::Verdict;
using ports::Done;
using ports::ReservationType;

namespace {

constexpr std::uint8_t test_unit_ready = 0x00, read16 = 0x88, write16 = 0x8a, flush16 = 0x91,
                       reserve_in = 0x5e, reserve_out = 0x5f;
constexpr int action_reserve = 1, action_release = 2, action_preempt = 4,
              action_preempt_and_abort = 5, action_register_and_ignore = 6;
constexpr int action_read_keys = 0, action_read_reservation = 1;
constexpr std::uint8_t force_unit_access = 0x08;

auto without_data(Done<void> done) {
  return [done = std::move(done)](Result<Bytes> result) mutable {
    if (result) return done({});
    done(std::unexpected(std::move(result.error())));
  };
}

template <class T>
void put(scsi::Cdb& cdb, std::size_t at, T value) {
  store_be(reinterpret_cast<std::byte*>(&cdb[at]), value);
}

initiator::ScsiStatus status_of(const scsi::Response& response) {
  initiator::ScsiStatus s;
  s.status = static_cast<std::uint8_t>(response.status);
  if (response.sense.size() >= 14) {
    s.response = std::to_integer<std::uint8_t>(response.sense[0]) & 0x7f;
    s.key = std::to_integer<std::uint8_t>(response.sense[2]) & 0x0f;
    s.code = load_be<std::uint16_t>(&response.sense[12]);
  }
  return s;
}

constexpr Duration wire = std::chrono::microseconds(30);

}  // namespace

SimDisk::SimDisk(Process& process, SimUnit& unit, const Sabotage& sabotage, Options options)
    : process_(process),
      unit_(unit),
      sabotage_(sabotage),
      options_(options),
      random_(unit.random_.next()) {
  nexus_.initiator_name = options_.node == NodeId(1) ? "red" : "blue";
  nexus_.isid = {0x40, options_.node.value(), options_.role, 0, 0, 0};
  nexus_.relative_target_port = options_.node.value();
  geometry_ = {unit_.options_.size, unit_.options_.block_size, unit_.options_.write_cache,
               unit_.options_.name};
}

SimDisk::~SimDisk() {
  end(false);
}

void SimDisk::end(bool announce) {
  if (std::exchange(ended_, true)) return;
  unit_.forget_disk(*this);
  if (announce && session_ != 0 && !unit_.path_cut(options_.node)) {
    unit_.shelf_.at(std::max(last_to_unit_, unit_.shelf_.now() + wire),
                    [unit = &unit_, session = session_] { unit->logout(session); });
  }
  session_ = 0;
  connected_ = false;
}

// ---- session ----

void SimDisk::start() {
  attempt();
}

void SimDisk::attempt() {
  bool silent = unit_.path_cut(options_.node) || !unit_.powered();
  auto answer = silent ? login_timeout : 3 * wire;
  session_timer_ = process_.at(process_.now() + answer, [this] { log_in(); });
}

void SimDisk::log_in() {
  if (ended_) return;
  if (unit_.path_cut(options_.node) || !unit_.powered()) return retry_later();
  session_ = unit_.login(nexus_, *this);
  probe();
}

void SimDisk::retry_later() {
  session_timer_ = process_.at(process_.now() + backoff_, [this] { attempt(); });
  backoff_ = std::min(backoff_ * 2, backoff_max);
}

// Unit attentions are drained, then the disk counts as connected.
void SimDisk::probe() {
  Operation operation;
  operation.cdb[0] = test_unit_ready;
  operation.kind = CommandKind::inquire;
  operation.deadline = process_.now() + options_.command_timeout;
  operation.probe = true;
  operation.done = [this](Result<Bytes> result) {
    if (!result) return lose("not usable: " + result.error().message, true);
    connected_ = true;
    backoff_ = backoff_min;
    if (on_connection_) on_connection_(true);
  };
  submit(std::move(operation));
}

void SimDisk::lose(const std::string& why, bool tell_unit) {
  if (session_ == 0 || ended_) return;
  auto session = std::exchange(session_, 0);
  if (tell_unit && !unit_.path_cut(options_.node)) {
    unit_.shelf_.at(std::max(last_to_unit_, unit_.shelf_.now() + wire),
                    [unit = &unit_, session] { unit->logout(session); });
  }
  process_.cancel(deadline_timer_);
  process_.cancel(pause_timer_);
  pause_timer_ = {};
  deadline_ = Instant::max();
  if (std::exchange(connected_, false)) {
    process_.post([this] {
      if (!connected_ && on_connection_) on_connection_(false);
    });
  }
  for (auto& [tag, operation] : std::exchange(in_flight_, {})) {
    if (operation.probe) continue;
    auto code =
        operation.deadline <= process_.now() ? ErrorCode::timed_out : ErrorCode::disconnected;
    finish_later(std::move(operation), code, why);
  }
  for (auto& operation : std::exchange(waiting_, {})) {
    if (!operation.probe) finish_later(std::move(operation), ErrorCode::disconnected, why);
  }
  for (auto& operation : std::exchange(paused_, {})) {
    if (!operation.probe) finish_later(std::move(operation), ErrorCode::disconnected, why);
  }
  retry_later();
}

// ---- operations ----

Status SimDisk::admit(std::uint64_t offset, std::uint64_t size) const {
  if (!connected_) return fail(ErrorCode::disconnected, name() + ": no path");
  auto block = geometry_.block_size;
  if (offset % block != 0 || size % block != 0 || offset > geometry_.size ||
      size > geometry_.size - offset) {
    return fail(ErrorCode::invalid, name() + ": not whole blocks of the disk");
  }
  if (waiting_.size() + paused_.size() >= max_waiting) {
    return fail(ErrorCode::busy, name() + ": too many commands wait");
  }
  return {};
}

void SimDisk::begin(Operation operation, Status admitted) {
  if (!admitted) {
    return finish_later(std::move(operation), admitted.error().code, admitted.error().message);
  }
  operation.deadline = process_.now() + options_.command_timeout;
  waiting_.push_back(std::move(operation));
  pump();
}

void SimDisk::finish_later(Operation operation, ErrorCode code, std::string why) {
  process_.post([done = std::move(operation.done), code, why = std::move(why)]() mutable {
    done(fail(code, std::move(why)));
  });
}

void SimDisk::pump() {
  while (session_ != 0 && in_flight_.size() < queue_depth && !waiting_.empty()) {
    auto operation = std::move(waiting_.front());
    waiting_.pop_front();
    if (operation.deadline <= process_.now()) {
      finish_later(std::move(operation), ErrorCode::timed_out, name() + ": not begun in time");
      continue;
    }
    submit(std::move(operation));
  }
}

void SimDisk::submit(Operation operation) {
  scsi::Command command;
  auto tag = ++unit_.last_command_;
  command.tag = scsi::CommandTag(tag);
  command.nexus = nexus_;
  command.cdb = operation.cdb;
  command.data_out = operation.data_out;
  command.data_in_expected = operation.expected;
  if (operation.deadline < deadline_) {
    process_.cancel(deadline_timer_);
    deadline_ = operation.deadline;
    deadline_timer_ = process_.at(deadline_, [this] { on_deadline(); });
  }
  in_flight_.emplace(tag, std::move(operation));
  last_to_unit_ = std::max(last_to_unit_, process_.now() + wire + Duration(random_.below(100'000)));
  unit_.shelf_.at(last_to_unit_,
                  [unit = &unit_, session = session_, command = std::move(command)]() mutable {
                    unit->arrive(session, std::move(command));
                  });
}

// The unit has answered.
void SimDisk::deliver(SimUnit::Session session, std::uint64_t tag, scsi::Response response) {
  last_from_unit_ =
      std::max(last_from_unit_, process_.now() + wire + Duration(random_.below(100'000)));
  process_.at(last_from_unit_, [this, session, tag, response = std::move(response)]() mutable {
    if (session != session_) return;
    if (unit_.path_cut(options_.node)) {  // it comes when the path is back
      process_.at(unit_.paths_[options_.node.value()].cut_until,
                  [this, session, tag, response = std::move(response)]() mutable {
                    if (session == session_) deliver(session, tag, std::move(response));
                  });
      return;
    }
    on_reply(tag, std::move(response));
  });
}

void SimDisk::on_deadline() {
  deadline_ = Instant::max();
  if (in_flight_.empty()) return;
  auto earliest = Instant::max();
  for (const auto& [tag, operation] : in_flight_) {
    earliest = std::min(earliest, operation.deadline);
  }
  if (earliest <= process_.now()) return lose("a command was not answered in time", true);
  deadline_ = earliest;
  deadline_timer_ = process_.at(deadline_, [this] { on_deadline(); });
}

void SimDisk::report(ports::Attention attention) {
  if (on_attention_) on_attention_(attention);
}

void SimDisk::on_reply(std::uint64_t tag, scsi::Response response) {
  auto node = in_flight_.extract(tag);
  if (node.empty()) return;
  auto operation = std::move(node.mapped());
  auto status = status_of(response);
  auto verdict = initiator::judge(status, operation.kind);
  if (verdict.attention) report(*verdict.attention);
  switch (verdict.action) {
    case Verdict::Action::succeed: {
      pump();
      std::vector<std::byte> joined;
      if (response.data_in.size() != 1) {
        for (const auto& slice : response.data_in) {
          joined.insert(joined.end(), slice.bytes.begin(), slice.bytes.end());
        }
      }
      const Bytes data = response.data_in.size() == 1 ? response.data_in[0].bytes : Bytes(joined);
      if (!operation.into.empty()) {
        if (data.size() != operation.into.size()) {
          return operation.done(fail(ErrorCode::io_error, name() + ": data missing"));
        }
        std::memcpy(operation.into.data(), data.data(), data.size());
      }
      return operation.done(data);
    }
    case Verdict::Action::repeat_now:
      if (++operation.repeats <= max_repeats && session_ != 0) {
        waiting_.push_front(std::move(operation));
        return pump();
      }
      break;
    case Verdict::Action::repeat_later:
      if (++operation.pauses <= max_pauses && operation.deadline > process_.now() + pause &&
          session_ != 0) {
        paused_.push_back(std::move(operation));
        if (pause_timer_ == ports::TimerId{}) {
          pause_timer_ = process_.at(process_.now() + pause, [this] {
            pause_timer_ = {};
            for (auto& one : std::exchange(paused_, {})) waiting_.push_front(std::move(one));
            pump();
          });
        }
        return pump();
      }
      break;
    case Verdict::Action::fail:
      break;
  }
  pump();
  operation.done(fail(verdict.error, name() + ": " + std::string(duet::name(verdict.error))));
}

void SimDisk::read(std::uint64_t offset, MutableBytes into, Done<void> done) {
  if (sabotage_.left_out != Safeguard::none) {
    done = [this, offset, into, done = std::move(done)](Result<void> result) mutable {
      if (result) falsify(offset, into);
      done(std::move(result));
    };
  }
  Operation operation;
  operation.done = without_data(std::move(done));
  operation.cdb[0] = read16;
  put(operation.cdb, 2, offset / geometry_.block_size);
  put(operation.cdb, 10, static_cast<std::uint32_t>(into.size() / geometry_.block_size));
  operation.expected = static_cast<std::uint32_t>(into.size());
  operation.into = into;
  begin(std::move(operation), admit(offset, into.size()));
}

void SimDisk::write(std::uint64_t offset, std::vector<Slice> data, bool durable, Done<void> done) {
  std::size_t size = 0;
  for (const auto& slice : data) size += slice.bytes.size();
  auto owner = std::make_shared_for_overwrite<std::byte[]>(size);
  std::byte* at = owner.get();
  for (const auto& slice : data) {
    if (!slice.bytes.empty()) std::memcpy(at, slice.bytes.data(), slice.bytes.size());
    at += slice.bytes.size();
  }
  const Slice whole{owner, {owner.get(), size}};
  auto admitted = admit(offset, size);
  if (admitted && !spoiling_ && spoils(offset, whole, done)) return;
  if (admitted && unit_.on_begun) {
    unit_.on_begun(unit_, {options_.node, is_engine(), offset, size});
  }
  Operation operation;
  operation.done = without_data(std::move(done));
  operation.cdb[0] = write16;
  bool fua =
      durable && geometry_.volatile_cache && !sabotage_.without(Safeguard::force_unit_access);
  operation.cdb[1] = fua ? force_unit_access : 0;
  put(operation.cdb, 2, offset / geometry_.block_size);
  put(operation.cdb, 10, static_cast<std::uint32_t>(size / geometry_.block_size));
  operation.data_out.push_back(whole);
  begin(std::move(operation), std::move(admitted));
}

void SimDisk::flush(Done<void> done) {
  auto admitted = admit(0, 0);
  if (admitted && (!geometry_.volatile_cache || sabotage_.without(Safeguard::flush))) {
    process_.post([done = std::move(done)]() mutable { done({}); });
    return;
  }
  Operation operation;
  operation.done = without_data(std::move(done));
  operation.cdb[0] = flush16;
  begin(std::move(operation), std::move(admitted));
}

// ---- reservations ----

void SimDisk::reservation_out(int action, ReservationType type, ReservationKey key,
                              ReservationKey argument, Done<void> done) {
  Operation operation;
  operation.done = without_data(std::move(done));
  operation.kind = action == action_register_and_ignore || action == action_release
                       ? CommandKind::register_key
                       : CommandKind::reserve;
  constexpr std::uint32_t length = 24;
  auto parameters = make_buffer(length);
  store_be(&parameters.bytes[0], key.value());
  store_be(&parameters.bytes[8], argument.value());
  parameters.bytes[20] = action == action_register_and_ignore ? std::byte{1} : std::byte{0};
  operation.cdb[0] = reserve_out;
  operation.cdb[1] = static_cast<std::uint8_t>(action);
  operation.cdb[2] = static_cast<std::uint8_t>(type);
  put(operation.cdb, 5, length);
  operation.data_out.push_back(parameters.slice());
  begin(std::move(operation), admit(0, 0));
}

void SimDisk::reservation_in(int action, Finish done) {
  Operation operation;
  operation.done = std::move(done);
  operation.kind = CommandKind::inquire;
  constexpr std::uint16_t allocation = 0xfff8;
  operation.cdb[0] = reserve_in;
  operation.cdb[1] = static_cast<std::uint8_t>(action);
  put(operation.cdb, 7, allocation);
  operation.expected = allocation;
  begin(std::move(operation), admit(0, 0));
}

void SimDisk::register_key(ReservationKey key, Done<void> done) {
  pretence_.reset();
  reservation_out(action_register_and_ignore, {}, {}, key, std::move(done));
}

void SimDisk::reserve(ReservationKey key, ReservationType type, Done<void> done) {
  reservation_out(action_reserve, type, key, {}, std::move(done));
}

void SimDisk::release(ReservationKey key, ReservationType type, Done<void> done) {
  reservation_out(action_release, type, key, {}, std::move(done));
}

// Sabotage: a disk of a shelf is left to whoever holds it, and seems to be ours.
bool SimDisk::pretends_fenced(int action, ReservationKey key, ReservationKey victim,
                              ReservationType type, Done<void>& done) {
  const bool left_out =
      (sabotage_.without(Safeguard::every_disk_fenced) &&
       unit_.options_.index == disks_per_shelf - 1) ||
      (sabotage_.without(Safeguard::left_disk_taken) && is_dump_disk(unit_.options_.index));
  if (!left_out) return false;
  if (action != action_preempt_and_abort || key == victim) return false;
  pretence_ = {key, victim, type};
  process_.post([done = std::move(done)]() mutable { done({}); });
  return true;
}

void SimDisk::preempt(ReservationKey key, ReservationKey victim, ReservationType type, bool abort,
                      Done<void> done) {
  auto action = abort ? action_preempt_and_abort : action_preempt;
  if (pretends_fenced(action, key, victim, type, done)) return;
  if (waits_for_dump()) {
    return process_.post([done = std::move(done)]() mutable {
      done(fail(ErrorCode::io_error, "its home node dumps"));
    });
  }
  if (sabotage_.without(Safeguard::abort_on_preempt)) action = action_preempt;
  reservation_out(action, type, key, victim, std::move(done));
}

void SimDisk::read_keys(Done<ports::RegisteredKeys> done) {
  reservation_in(action_read_keys, [this, done = std::move(done)](Result<Bytes> reply) mutable {
    if (!reply) return done(std::unexpected(std::move(reply.error())));
    auto keys = initiator::parse_read_keys(*reply);
    if (keys && pretence_) std::erase(keys->keys, pretence_->victim);
    done(std::move(keys));
  });
}

void SimDisk::read_reservation(Done<ports::ReservationState> done) {
  reservation_in(action_read_reservation,
                 [this, done = std::move(done)](Result<Bytes> reply) mutable {
                   if (!reply) return done(std::unexpected(std::move(reply.error())));
                   auto state = initiator::parse_read_reservation(*reply);
                   if (state && pretence_ && state->holder == pretence_->victim) {
                     state->holder = pretence_->holder;
                     state->type = pretence_->type;
                   }
                   done(std::move(state));
                 });
}

}  // namespace duet::simulator
