// What a simulated initiator makes of its answers.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "simulator/client.h"

namespace duet::simulator {

using scsi::SenseKey;
using scsi::StatusCode;

namespace {

constexpr std::uint8_t lun_not_supported_asc = 0x25;

}  // namespace

std::string Client::name(const Command& command) const {
  constexpr const char* names[] = {"TEST UNIT READY",
                                   "INQUIRY",
                                   "READ",
                                   "WRITE",
                                   "UNMAP or WRITE SAME",
                                   "COMPARE AND WRITE",
                                   "SYNCHRONIZE CACHE",
                                   "PERSISTENT RESERVE OUT",
                                   "PERSISTENT RESERVE IN"};
  return fmt::format("client {}, identity {} LUN {}: {} of {} blocks at {}", options_.number,
                     options_.identity.value(), command.lun->number,
                     names[static_cast<int>(command.kind)], command.range.count,
                     command.range.first);
}

void Client::untouched(Command& command) {
  if (command.attempt) history_.refused(*std::exchange(command.attempt, std::nullopt));
  if (command.kind == Kind::reserve_out) {
    command.lun->reservations->end(ReservationModel::Outcome::none);
  }
}

void Client::uncertain(Command& command) {
  if (!command.attempt) return;
  const AttemptId attempt = *std::exchange(command.attempt, std::nullopt);
  // One that may take effect any number of times until the next login says it all.
  if (command.kind == Kind::read || command.perhaps_in == counters_.sessions) {
    return history_.refused(attempt);
  }
  command.perhaps_in = counters_.sessions;
  perhaps_.push_back(attempt);
}

void Client::judge(const CommandPtr& command, const ClientSession::Answer& answer) {
  switch (answer.status) {
    case StatusCode::good:
      return good(command, answer);
    case StatusCode::reservation_conflict:
      return conflict(command);
    case StatusCode::busy:
    case StatusCode::task_set_full:
      ++counters_.busy;
      untouched(*command);
      return retry(command, back_off(*command));
    case StatusCode::check_condition:
      if (answer.sense) return check_condition(command, *answer.sense);
      break;
    case StatusCode::task_aborted:
      uncertain(*command);
      return retry(command, back_off(*command));
    case StatusCode::condition_met:
    case StatusCode::aca_active:
      break;
  }
  violate_("I18", fmt::format("{}: answered with status {:#x}", name(*command),
                              static_cast<unsigned>(answer.status)));
  uncertain(*command);
  retry(command, back_off(*command));
}

void Client::good(const CommandPtr& pointer, const ClientSession::Answer& answer) {
  Command& command = *pointer;
  const Instant now = scheduler_.now();
  ++counters_.good;
  SharedLun& lun = *command.lun;
  const bool writes = command.kind == Kind::write || command.kind == Kind::zero ||
                      command.kind == Kind::compare_and_write;
  if (lun.reservations && (writes || command.kind == Kind::read)) {
    const auto access = writes ? scsi::AccessClass::writes : scsi::AccessClass::reads;
    if (!lun.reservations->may_pass(command.since, nexus_, access)) {
      violate_("I15", name(command) + " passed a reservation that excludes it");
    }
  }
  switch (command.kind) {
    case Kind::read: {
      last_good_ = now;
      const AttemptId attempt = *std::exchange(command.attempt, std::nullopt);
      if (answer.data.size() != command.request.data_in) {
        violate_("I13", fmt::format("{}: GOOD with {} bytes", name(command), answer.data.size()));
        history_.refused(attempt);
        break;
      }
      history_.good_read(attempt, answer.data, now);
      for (std::uint32_t i = 0; i < command.range.count; ++i) {
        const std::uint64_t number = command.range.first + i;
        auto block = Bytes(answer.data).subspan(std::size_t{i} * block_size, block_size);
        if (auto stamp = read_block(block, command.range, number)) {
          seen_[{lun.number, number}] = *stamp;
        }
      }
      break;
    }
    case Kind::write:
    case Kind::zero:
    case Kind::compare_and_write:
      last_good_ = now;
      history_.good(*std::exchange(command.attempt, std::nullopt), now);
      for (std::uint32_t i = 0; i < command.range.count; ++i) {
        seen_[{lun.number, command.range.first + i}] = command.value;
      }
      if (on_acknowledged) on_acknowledged(command.range, command.value);
      break;
    case Kind::reserve_out:
      lun.reservations->end(ReservationModel::Outcome::good);
      break;
    case Kind::reserve_in:
      lun.reservations->check_report(command.since, command.report, answer.data);
      break;
    case Kind::serial: {
      auto [known, first] = serials_.emplace(lun.number, answer.data);
      if (!first && known->second != answer.data) {
        violate_("I15", name(command) + ": the unit has another serial number than before");
      }
      break;
    }
    case Kind::test_ready:
    case Kind::flush:
      break;
  }
  finished(pointer);
}

void Client::conflict(const CommandPtr& command) {
  ++counters_.conflicts;
  ReservationModel* model = command->lun->reservations.get();
  if (command->kind == Kind::reserve_out) {
    model->end(ReservationModel::Outcome::conflict);
    return finished(command);
  }
  const auto access =
      command->kind == Kind::read ? scsi::AccessClass::reads : scsi::AccessClass::writes;
  if (model == nullptr || !model->may_conflict(command->since, nexus_, access)) {
    violate_("I15", name(*command) + " met a reservation that should not be");
  }
  untouched(*command);
  finished(command);
}

void Client::check_condition(const CommandPtr& command, const scsi::Sense& sense) {
  switch (sense.key) {
    case SenseKey::unit_attention:
      ++counters_.attentions;
      untouched(*command);
      return retry(command, command->failures++ < 8 ? Duration{} : back_off(*command));
    case SenseKey::miscompare:
      if (command->kind != Kind::compare_and_write) break;
      ++counters_.mismatches;
      history_.mismatch(
          *std::exchange(command->attempt, std::nullopt),
          std::min(sense.information.value_or(0) / block_size, command->range.count - 1),
          scheduler_.now());
      for (std::uint32_t i = 0; i < command->range.count; ++i) {
        seen_.erase({command->lun->number, command->range.first + i});
      }
      return finished(command);
    case SenseKey::not_ready:
      ++counters_.not_ready;
      uncertain(*command);
      return retry(command, back_off(*command));
    case SenseKey::medium_error:
    case SenseKey::hardware_error:
    case SenseKey::aborted_command:
      ++counters_.errors;
      uncertain(*command);
      return retry(command, back_off(*command));
    case SenseKey::illegal_request:
      if (sense.asc == lun_not_supported_asc && options_.lun_may_be_gone()) {
        uncertain(*command);
        return retry(command, back_off(*command));
      }
      if (command->kind != Kind::reserve_out) break;
      command->lun->reservations->end(ReservationModel::Outcome::check_condition);
      return finished(command);
    case SenseKey::no_sense:
    case SenseKey::data_protect:
      break;
  }
  violate_("I18", fmt::format("{}: a permanent error: sense {:x}/{:02x}/{:02x}", name(*command),
                              static_cast<unsigned>(sense.key), sense.asc, sense.ascq));
  uncertain(*command);
  retry(command, back_off(*command));
}

}  // namespace duet::simulator
