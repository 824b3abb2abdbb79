// Reading: runs of neighbours from the disk; what a checksum finds wrong, or does not come, from
// the rest of its stripe (array_rescue.cc).
#include "raid/array_read.h"

#include <algorithm>
#include <utility>

#include "base/crc32c.h"

namespace duet::raid {

void Array::Impl::read(std::vector<BlockRead> blocks, ports::Done<void> done) {
  const auto id = begin(std::move(done));
  if (!running()) return;
  auto batch = std::make_shared<ReadBatch>();
  batch->id = id;
  batch->blocks = std::move(blocks);
  batch->runs = plan_reads(batch->blocks);
  next_runs(batch);
}

void Array::Impl::next_runs(const std::shared_ptr<ReadBatch>& batch) {
  while (running() && batch->under_way < max_reads_under_way && batch->next < batch->runs.size()) {
    ++batch->under_way;
    start_run(batch, batch->runs[batch->next++]);
  }
  if (batch->under_way == 0) end(batch->id, batch->status);
}

// With one data column, every column is a copy of it. The data column is preferred all the same:
// what the owner reads to verify it is what scrub then compares the copies with.
std::uint32_t Array::Impl::choose_copy(const GroupColumns& of, std::uint64_t end) {
  const auto good = [&](std::uint32_t column) {
    return readable(of.members[column], end - 1) && !members[of.members[column]].slow;
  };
  if (readable(of.members[0], end - 1) && members[of.members[0]].slow) {
    // Asked now and then, to learn that it is well again.
    if (++members[of.members[0]].asides % asides_per_try == 0) return 0;
  }
  for (std::uint32_t column = 0; column < of.members.size(); ++column) {
    if (good(column)) return column;
  }
  return 0;
}

void Array::Impl::start_run(const std::shared_ptr<ReadBatch>& batch, ReadRun part) {
  auto run = std::make_shared<RunRead>();
  run->batch = batch;
  run->first = part.first;
  run->answered.resize(part.count);
  const BlockAddress address = batch->blocks[part.first].address;
  const std::uint64_t end_block = address.block() + part.count;
  if (address.member() >= layout.members.size() || layout.members[address.member()].parity ||
      end_block > groups[layout.members[address.member()].group]->blocks) {
    for (std::size_t i = 0; i < part.count; ++i) {
      give_up(run, i, {ErrorCode::io_error, "an address outside the pool"});
    }
    return;
  }
  run->group = layout.members[address.member()].group;
  run->of = groups[run->group];
  run->column = layout.members[address.member()].role;
  if (run->of->geometry.data == 1) run->column = choose_copy(*run->of, end_block);
  run->block = address.block();
  const std::uint32_t member = run->of->members[run->column];
  if (!readable(member, end_block - 1)) {
    for (std::size_t i = 0; i < part.count; ++i) rescue(run, i, Trouble::away, false);
    return;
  }
  run->buffer = make_raw_buffer(part.count * block_size);
  run->hedge = scheduler.at(scheduler.now() + options.hedge_after,
                            [self = shared_from_this(), run] { self->hedge(run); });
  device_of(member)->read(
      run->block, run->buffer.bytes,
      [self = shared_from_this(), run](Result<void> status) { self->run_arrived(run, status); });
}

void Array::Impl::run_arrived(const std::shared_ptr<RunRead>& run, const Status& status) {
  scheduler.cancel(run->hedge);
  if (!running()) return;
  if (!status && status.error().code == ErrorCode::reservation_conflict) {
    return fence(status.error());
  }
  MemberCounters& counters = members[run->of->members[run->column]];
  if (status && counters.slow && !run->hedged && ++counters.prompt >= prompt_to_be_trusted) {
    counters.slow = false;
  }
  for (std::size_t i = 0; i < run->answered.size(); ++i) {
    if (run->answered[i]) continue;
    const Bytes block = run->buffer.bytes.subspan(i * block_size, block_size);
    if (!status) {
      const bool medium = status.error().code == ErrorCode::io_error;
      rescue(run, i, medium ? Trouble::unreadable : Trouble::away, false);
    } else if (crc32c(block) == run->batch->blocks[run->first + i].crc) {
      answer(run, i, block);
    } else {
      rescue(run, i, Trouble::wrong, false);
    }
  }
}

void Array::Impl::hedge(const std::shared_ptr<RunRead>& run) {
  if (!running()) return;
  const std::uint32_t member = run->of->members[run->column];
  run->hedged = true;
  members[member].prompt = 0;
  if (!members[member].slow) event(describe(member) + " is slow");
  members[member].slow = true;
  const ColumnMask others =
      readable_columns(*run->of, run->block) & ~(ColumnMask{1} << run->column);
  if (static_cast<std::uint32_t>(std::popcount(others)) < run->of->geometry.data) return;
  for (std::size_t i = 0; i < run->answered.size(); ++i) {
    if (!run->answered[i]) rescue(run, i, Trouble::away, true);
  }
}

void Array::Impl::answer(const std::shared_ptr<RunRead>& run, std::size_t index, Bytes block) {
  if (!running() || run->answered[index]) return;
  const MutableBytes into = run->batch->blocks[run->first + index].into;
  std::memcpy(into.data(), block.data(), block_size);
  settle(run, index);
}

void Array::Impl::give_up(const std::shared_ptr<RunRead>& run, std::size_t index, Error error) {
  if (!running() || run->answered[index]) return;
  const BlockAddress address = run->batch->blocks[run->first + index].address;
  error.message = "block " + std::to_string(address.block()) + " of member " +
                  std::to_string(address.member()) + ": " + error.message;
  if (run->batch->status) run->batch->status = std::unexpected(std::move(error));
  settle(run, index);
}

void Array::Impl::settle(const std::shared_ptr<RunRead>& run, std::size_t index) {
  run->answered[index] = true;
  if (++run->settled < run->answered.size()) return;
  --run->batch->under_way;
  // Not from inside: a run may end as it begins.
  scheduler.post([self = shared_from_this(), batch = run->batch] { self->next_runs(batch); });
}

}  // namespace duet::raid
