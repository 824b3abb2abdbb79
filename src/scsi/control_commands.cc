// Commands about the unit itself (SPC-4 6, SBC-3 5).
#include <algorithm>
#include <utility>

#include "scsi/identity.h"
#include "scsi/logical_unit_state.h"
#include "scsi/opcodes.h"
#include "scsi/reservation_parameters.h"
#include "scsi/slices.h"

namespace duet::scsi {

namespace {

std::vector<std::byte> read_capacity10(const UnitConfig& config) {
  std::vector<std::byte> out(8);
  store_be(&out[0],
           static_cast<std::uint32_t>(std::min<std::uint64_t>(config.blocks - 1, 0xffffffff)));
  store_be(&out[4], config.block_size);
  return out;
}

// SBC-3 table 76.
std::vector<std::byte> read_capacity16(const UnitConfig& config) {
  std::vector<std::byte> out(32);
  store_be(&out[0], config.blocks - 1);
  store_be(&out[8], config.block_size);
  out[13] = config.block_size == 512 ? std::byte{3} : std::byte{0};  // physical blocks of 4 KiB
  if (config.thin) out[14] = std::byte{0xc0};                        // LBPME, LBPRZ
  return out;
}

}  // namespace

void LogicalUnit::State::control(Task& task, Actions& actions) {
  const auto answer = [&](Response response) { finish(task, std::move(response), actions); };
  const auto refuse = [&](const Sense& sense) { answer(check_condition(sense)); };
  std::visit(
      Overloaded{
          [&](const TestUnitReady&) { answer({}); },
          [&](const StartStopUnit& o) {
            // Nothing spins; stopping writes the cache out (SBC-3 5.25).
            if (o.eject) return refuse(sense::invalid_field_in_cdb);
            if (!o.start && !o.no_flush && o.power_condition == 0 && mode.write_cache)
              return flush(task, actions);
            answer({});
          },
          [&](const RequestSense& o) { answer(request_sense(task, o)); },
          [&](const Inquiry& o) {
            if (!o.vital_product_data) {
              if (o.page != 0) return refuse(sense::invalid_field_in_cdb);
              return answer(good(standard_inquiry(config), o.allocation));
            }
            auto page = vital_product_data(o.page, config, task.nexus.relative_target_port);
            if (!page) return refuse(sense::invalid_field_in_cdb);
            answer(good(std::move(*page), o.allocation));
          },
          [&](const ReportLuns&) {
            refuse(sense::invalid_opcode);
          },  // the target device answers it
          [&](const ModeSense& o) {
            auto data = mode_sense(o, config, mode);
            if (!data) return refuse(data.error());
            answer(good(std::move(*data), o.allocation));
          },
          [&](const ModeSelect& o) { mode_select_command(task, o, actions); },
          [&](const ReadCapacity10&) { answer(good(read_capacity10(config), 8)); },
          [&](const ReadCapacity16& o) { answer(good(read_capacity16(config), o.allocation)); },
          [&](const GetLbaStatus& o) { answer(lba_status(o)); },
          [&](const Reserve6&) {
            reserved_by = task.nexus;
            answer({});
          },
          [&](const Release6&) {
            if (reserved_by == task.nexus) reserved_by.reset();
            answer({});
          },
          [&](const PersistentReserveIn& o) {
            answer(good(encode_reservation_report(o.action, reservations), o.allocation));
          },
          [&](const PersistentReserveOut& o) { reservation_command(task, o, actions); },
          [&](const ReportSupportedOpcodes& o) {
            auto data = supported_opcodes(o, config.thin);
            if (!data) return refuse(data.error());
            answer(good(std::move(*data), o.allocation));
          },
          [&](const ReportTargetPortGroups& o) { answer(target_port_groups(o)); },
          [&](const auto&) { begin_medium(task, actions); },
      },
      *task.operation);
}

Response LogicalUnit::State::request_sense(const Task& task, const RequestSense& op) {
  auto& attentions = nexus_state(task.nexus).attentions;
  const auto attention = attentions.first();
  if (attention) attentions.remove(*attention);
  return good(encode_fixed(attention ? sense_of(*attention) : sense::none), op.allocation);
}

void LogicalUnit::State::mode_select_command(Task& task, const ModeSelect& op, Actions& actions) {
  auto next = mode_select(op, flatten(sub_slices(task.data_out, 0, op.length)), config, mode);
  if (!next) return finish(task, check_condition(next.error()), actions);
  const bool cache_goes_off = mode.write_cache && !next->write_cache;
  if (mode.write_cache != next->write_cache)
    add_attention(UnitAttention::mode_parameters_changed, &task.nexus);
  mode = *next;
  // From the answer on, all that was answered before is durable.
  if (cache_goes_off)
    flush(task, actions);
  else
    finish(task, {}, actions);
}

void LogicalUnit::State::go_on_control(Task& task, Actions& actions) {
  finish(task, {}, actions);
}

// Persist, then apply, then end what was preempted, then speak.
void LogicalUnit::State::reservation_command(Task& task, const PersistentReserveOut& op,
                                             Actions& actions) {
  if (op.length > total_size(task.data_out) || op.length > max_reservation_parameters)
    return finish(task, check_condition(sense::parameter_list_length_error), actions);
  auto request = decode_reservation_request(op, flatten(sub_slices(task.data_out, 0, op.length)));
  if (!request) return finish(task, check_condition(request.error()), actions);
  Reservations next = reservations;
  auto effects = next.apply(*request, task.nexus, config.target_ports);
  if (!effects) {
    if (const auto* sense = std::get_if<Sense>(&effects.error()))
      return finish(task, check_condition(*sense), actions);
    return finish(task, {.status = StatusCode::reservation_conflict, .sense = {}, .data_in = {}},
                  actions);
  }
  const bool unchanged = next == reservations;
  const bool persist = !unchanged && (config.reservations_always_persist || next.persists() ||
                                      reservations.persists());
  task.effects = std::move(*effects);
  task.next_reservations = std::move(next);
  if (!persist) return apply_reservations(task, actions);
  const bool keep = config.reservations_always_persist || task.next_reservations->persists();
  auto state = keep ? task.next_reservations->serialize()
                    : task.next_reservations->without_registrations().serialize();
  reservations_changing = true;
  task.work_is_reservations = true;
  actions.push_back(StoreReservations{new_work(task), std::move(state)});
}

void LogicalUnit::State::apply_reservations(Task& task, Actions& actions) {
  reservations = std::move(*task.next_reservations);
  for (const auto& [nexus, attention] : task.effects.attentions)
    nexus_state(nexus).attentions.add(attention);
  if (task.effects.abort.empty()) {
    if (task.aborted)
      finish_aborted(task, actions);
    else
      finish(task, {}, actions);
    return;
  }
  // From here no command of a preempted nexus starts. Those that run must end before the answer.
  const auto preempted = std::exchange(task.effects.abort, {});
  const WaitId wait = begin_wait({.request = {}, .preempt = task.aborted ? nullptr : &task});
  if (task.aborted) finish_aborted(task, actions);
  abort_all(
      wait,
      [&](const Task& other) {
        return &other != &task && std::ranges::find(preempted, other.nexus) != preempted.end();
      },
      actions);
  end_wait(wait, actions);
}

// One group with all ports, active/optimized (SPC-4 6.37).
Response LogicalUnit::State::target_port_groups(const ReportTargetPortGroups& op) const {
  std::vector<std::byte> group(8 + 4u * config.target_ports);
  group[1] = std::byte{0x01};             // only active/optimized
  store_be(&group[2], std::uint16_t{1});  // group number
  group[7] = static_cast<std::byte>(std::min<int>(config.target_ports, 255));
  for (std::uint16_t port = 1; port <= config.target_ports; ++port)
    store_be(&group[4 + 4u * port + 2], port);
  std::vector<std::byte> out(op.extended_header ? 8 : 4);
  if (op.extended_header) out[4] = std::byte{0x10};  // no implicit transition time
  out.insert(out.end(), group.begin(), group.end());
  store_be(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  return good(std::move(out), op.allocation);
}

// We do not ask the store: "mapped or in an unknown state" (SBC-3 table 62), which is always true.
Response LogicalUnit::State::lba_status(const GetLbaStatus& op) const {
  std::vector<std::byte> out(24);
  store_be(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  store_be(&out[8], op.lba);
  store_be(&out[16],
           static_cast<std::uint32_t>(std::min<std::uint64_t>(config.blocks - op.lba, 0xffffffff)));
  return good(std::move(out), op.allocation);
}

}  // namespace duet::scsi
