// Commands that read and write blocks (SBC-3 5).
#include <algorithm>

#include "scsi/identity.h"
#include "scsi/logical_unit_state.h"
#include "scsi/slices.h"

namespace duet::scsi {

namespace {

Response miscompare(std::uint64_t offset) {
  Sense sense = sense::miscompare;
  sense.information = static_cast<std::uint32_t>(offset);
  return check_condition(sense);
}

}  // namespace

std::optional<Sense> LogicalUnit::State::check_extent(std::uint64_t lba, std::uint64_t count,
                                                      bool limited) const {
  if (lba > config.blocks || count > config.blocks - lba || (count == 0 && lba == config.blocks)) {
    return sense::lba_out_of_range;
  }
  if (limited && count > config.max_transfer / config.block_size)
    return sense::invalid_field_in_cdb;
  return std::nullopt;
}

// Blocks of data-out that arrived whole. A WRITE with less data than its CDB asks for writes those
// and the transport reports the rest as residual overflow (RFC 7143 11.4.5.1).
std::uint64_t LogicalUnit::State::arrived(const Task& task, std::uint64_t blocks) const {
  return std::min<std::uint64_t>(blocks, total_size(task.data_out) / config.block_size);
}

// Everything that can be wrong before the first piece of work.
std::optional<Sense> LogicalUnit::State::check_medium(const Task& task) const {
  const auto& operation = *task.operation;
  const auto given = total_size(task.data_out);
  const bool exact = std::holds_alternative<CompareAndWrite>(operation) ||
                     std::holds_alternative<WriteSame>(operation);
  if (exact && given != task.data_out_wanted) return sense::invalid_field_in_cdb;
  const bool may_be_short = std::holds_alternative<Write>(operation) ||
                            std::holds_alternative<WriteAndVerify>(operation) ||
                            std::holds_alternative<PersistentReserveOut>(operation);
  // Elsewhere less data than asked for would change what the command means (SPC-4: 0E/03).
  if (!may_be_short && given < task.data_out_wanted)
    return Sense{SenseKey::illegal_request, 0x0e, 0x03};
  return std::visit(
      Overloaded{
          [&](const Read& o) { return check_extent(o.lba, o.blocks, true); },
          [&](const Write& o) { return check_extent(o.lba, o.blocks, true); },
          [&](const WriteAndVerify& o) { return check_extent(o.lba, o.blocks, true); },
          [&](const Verify& o) { return check_extent(o.lba, o.blocks, true); },
          [&](const OrWrite& o) { return check_extent(o.lba, o.blocks, true); },
          [&](const Prefetch& o) { return check_extent(o.lba, o.blocks, false); },
          [&](const SynchronizeCache& o) { return check_extent(o.lba, o.blocks, false); },
          [&](const GetLbaStatus& o) { return check_extent(o.lba, 1, false); },
          [&](const CompareAndWrite& o) -> std::optional<Sense> {
            if (o.blocks > max_compare_and_write(config)) return sense::invalid_field_in_cdb;
            return check_extent(o.lba, o.blocks, true);
          },
          [&](const WriteSame& o) -> std::optional<Sense> {
            if (o.blocks == 0 || (o.unmap && !config.thin)) return sense::invalid_field_in_cdb;
            if (auto s = check_extent(o.lba, o.blocks, false)) return s;
            if (o.blocks > max_write_same_bytes / config.block_size)
              return sense::invalid_field_in_cdb;
            return std::nullopt;
          },
          [](const auto&) { return std::optional<Sense>{}; },
      },
      operation);
}

// Requires: check_medium found nothing. Control commands do not come here.
void LogicalUnit::State::begin_medium(Task& task, Actions& actions) {
  const auto nothing_to_do = [&](std::uint64_t blocks) {
    if (blocks == 0) finish(task, {}, actions);
    return blocks == 0;
  };
  std::visit(Overloaded{
                 [&](const Read& o) {
                   if (!nothing_to_do(o.blocks)) read(task, bytes(o.lba), bytes(o.blocks), actions);
                 },
                 [&](const Write& o) {
                   const auto blocks = arrived(task, o.blocks);
                   if (!nothing_to_do(blocks))
                     write(task, bytes(o.lba), sub_slices(task.data_out, 0, bytes(blocks)),
                           durable(o.force_unit_access), actions);
                 },
                 [&](const WriteAndVerify& o) {
                   const auto blocks = arrived(task, o.blocks);
                   if (!nothing_to_do(blocks))
                     write(task, bytes(o.lba), sub_slices(task.data_out, 0, bytes(blocks)), true,
                           actions);
                 },
                 [&](const Verify& o) {
                   if (!nothing_to_do(o.blocks)) read(task, bytes(o.lba), bytes(o.blocks), actions);
                 },
                 [&](const OrWrite& o) {
                   if (!nothing_to_do(o.blocks)) read(task, bytes(o.lba), bytes(o.blocks), actions);
                 },
                 [&](const CompareAndWrite& o) {
                   if (!nothing_to_do(o.blocks)) read(task, bytes(o.lba), bytes(o.blocks), actions);
                 },
                 [&](const WriteSame& o) { begin_write_same(task, o, actions); },
                 [&](const Unmap&) { go_on_unmap(task, actions); },
                 [&](const SynchronizeCache&) {
                   // Without a write cache all that was answered is durable.
                   if (mode.write_cache)
                     flush(task, actions);
                   else
                     finish(task, {}, actions);
                 },
                 // Nothing to fetch into: "the cache could not hold all" (SBC-3 5.10) is GOOD, not
                 // CONDITION MET.
                 [&](const Prefetch&) { finish(task, {}, actions); },
                 [](const auto&) { UNREACHABLE(); },
             },
             *task.operation);
}

void LogicalUnit::State::go_on_medium(Task& task, std::vector<Slice>&& data, Actions& actions) {
  std::visit(
      Overloaded{
          [&](const Read&) {
            Response response;
            response.data_in = std::move(data);
            finish(task, std::move(response), actions);
          },
          [&](const WriteAndVerify& o) {
            const auto size = bytes(arrived(task, o.blocks));
            if (task.step++ == 0) return read(task, bytes(o.lba), size, actions);
            const auto wrong = o.compare
                                   ? first_difference(data, sub_slices(task.data_out, 0, size))
                                   : std::nullopt;
            finish(task, wrong ? miscompare(*wrong) : Response{}, actions);
          },
          [&](const Verify& o) { verify(task, o, std::move(data), actions); },
          [&](const OrWrite& o) { or_write(task, o, std::move(data), actions); },
          [&](const CompareAndWrite& o) { compare_and_write(task, o, std::move(data), actions); },
          [&](const WriteSame& o) { go_on_write_same(task, o, actions); },
          [&](const Unmap&) { go_on_unmap(task, actions); },
          [&](const ModeSelect&) { go_on_control(task, actions); },
          [&](const auto&) { finish(task, {}, actions); },
      },
      *task.operation);
}

void LogicalUnit::State::verify(Task& task, const Verify& op, std::vector<Slice>&& data,
                                Actions& actions) {
  std::optional<std::uint64_t> wrong;
  if (op.compare == 1)
    wrong = first_difference(data, sub_slices(task.data_out, 0, bytes(op.blocks)));
  if (op.compare == 3) {
    const auto block = sub_slices(task.data_out, 0, config.block_size);
    for (std::uint64_t i = 0; i < op.blocks && !wrong; ++i)
      if (auto at = first_difference(sub_slices(data, bytes(i), config.block_size), block))
        wrong = bytes(i) + *at;
  }
  finish(task, wrong ? miscompare(*wrong) : Response{}, actions);
}

// Atomic because it has its blocks alone from the read to the end of the write.
void LogicalUnit::State::compare_and_write(Task& task, const CompareAndWrite& op,
                                           std::vector<Slice>&& data, Actions& actions) {
  if (task.step++ == 1) return finish(task, {}, actions);
  const auto size = bytes(op.blocks);
  if (auto wrong = first_difference(data, sub_slices(task.data_out, 0, size)))
    return finish(task, miscompare(*wrong), actions);
  write(task, bytes(op.lba), sub_slices(task.data_out, size, size), durable(op.force_unit_access),
        actions);
}

void LogicalUnit::State::or_write(Task& task, const OrWrite& op, std::vector<Slice>&& data,
                                  Actions& actions) {
  if (task.step++ == 1) return finish(task, {}, actions);
  const auto old = flatten(data);
  const auto given = flatten(sub_slices(task.data_out, 0, bytes(op.blocks)));
  ASSERT(old.size() == given.size());
  auto merged = make_buffer(old.size());
  std::ranges::transform(old, given, merged.bytes.begin(), std::bit_or<>());
  write(task, bytes(op.lba), {merged.slice()}, durable(op.force_unit_access), actions);
}

void LogicalUnit::State::begin_write_same(Task& task, const WriteSame& op, Actions& actions) {
  const auto block =
      op.no_data_out ? std::vector<Slice>{} : sub_slices(task.data_out, 0, config.block_size);
  if (all_zero(block)) {  // unmapped blocks read as zeros too (LBPRZ)
    task.progress = bytes(op.blocks);
    return zero(task, bytes(op.lba), bytes(op.blocks), durable(false), actions);
  }
  // Pieces of the largest transfer, each the same repeated block.
  const auto piece = std::min<std::uint64_t>(
      bytes(op.blocks), config.max_transfer / config.block_size * config.block_size);
  auto buffer = make_buffer(piece);
  const auto one = flatten(block);
  for (std::size_t at = 0; at < piece; at += one.size())
    std::memcpy(&buffer.bytes[at], one.data(), one.size());
  task.pattern = {buffer.slice()};
  go_on_write_same(task, op, actions);
}

void LogicalUnit::State::go_on_write_same(Task& task, const WriteSame& op, Actions& actions) {
  const auto left = bytes(op.blocks) - task.progress;
  if (left == 0) return finish(task, {}, actions);
  const auto size = std::min(left, total_size(task.pattern));
  const auto offset = bytes(op.lba) + task.progress;
  task.progress += size;
  write(task, offset, sub_slices(task.pattern, 0, size), durable(false), actions);
}

// SBC-3 5.28. All descriptors are checked before the first is performed.
void LogicalUnit::State::go_on_unmap(Task& task, Actions& actions) {
  constexpr std::size_t header = 8, entry = 16;
  if (task.data_out_wanted == 0) return finish(task, {}, actions);
  const auto list = flatten(
      sub_slices(task.data_out, 0, std::min<std::uint64_t>(task.data_out_wanted, 1u << 16)));
  if (list.size() < header)
    return finish(task, check_condition(sense::parameter_list_length_error), actions);
  const std::size_t described = load_be<std::uint16_t>(&list[2]) / entry;
  const std::size_t count = std::min(described, (list.size() - header) / entry);
  const auto descriptor = [&](std::size_t i) {
    const auto* p = &list[header + i * entry];
    return std::pair(load_be<std::uint64_t>(p), load_be<std::uint32_t>(p + 8));
  };
  if (task.step++ == 0) {
    if (count > max_unmap_descriptors)
      return finish(task, check_condition(sense::invalid_field_in_parameters), actions);
    for (std::size_t i = 0; i < count; ++i) {
      const auto [lba, blocks] = descriptor(i);
      if (blocks == 0 && lba <= config.blocks) continue;
      if (auto s = check_extent(lba, blocks, false))
        return finish(task, check_condition(*s), actions);
    }
  }
  while (task.progress < count) {
    const auto [lba, blocks] = descriptor(task.progress++);
    if (blocks != 0) return zero(task, bytes(lba), bytes(blocks), durable(false), actions);
  }
  finish(task, {}, actions);
}

}  // namespace duet::scsi
