// What a stripe costs beside the disks: parity, and the way from a batch to disk writes.
#include <benchmark/benchmark.h>

#include "raid/write_plan.h"

namespace duet::raid {
namespace {

void parity(benchmark::State& state) {
  const auto data = static_cast<std::uint32_t>(state.range(0));
  const bool dual = state.range(1) == 2;
  // More than the caches of a core hold, as in a consistency point.
  const std::size_t stripes = (std::size_t{64} << 20) / (data * block_size);
  auto memory = make_buffer(stripes * data * block_size);
  auto out = make_buffer(std::size_t{2} * block_size);
  std::size_t stripe = 0;
  for (auto _ : state) {
    ParitySum sum;
    for (std::uint32_t i = 0; i < data; ++i) {
      sum.add(i, memory.bytes.subspan((stripe * data + i) * block_size).data());
    }
    sum.store(out.bytes.data(), dual ? out.bytes.data() + block_size : nullptr, block_size);
    benchmark::ClobberMemory();
    stripe = (stripe + 1) % stripes;
  }
  state.SetBytesProcessed(state.iterations() * data * block_size);
}
BENCHMARK(parity)->ArgsProduct({{3, 8, 14, 28}, {1, 2}});

void rebuild_two(benchmark::State& state) {
  const Geometry geometry{static_cast<std::uint32_t>(state.range(0)), 2};
  auto memory = make_buffer(geometry.columns() * block_size);
  std::vector<std::byte*> columns;
  for (std::uint32_t i = 0; i < geometry.columns(); ++i) {
    columns.push_back(memory.bytes.subspan(i * block_size).data());
  }
  for (auto _ : state) {
    reconstruct(geometry, columns, 0b11, block_size);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * geometry.data * block_size);
}
BENCHMARK(rebuild_two)->Arg(8)->Arg(14);

// A consistency point of whole stripes, 8 data members.
void plan(benchmark::State& state) {
  constexpr std::uint32_t data = 8;
  Layout layout;
  layout.groups.push_back({Protection::dual, 1 << 20});
  for (std::uint32_t i = 0; i < data + 2; ++i) {
    DiskId id;
    id.bytes.fill(static_cast<std::uint8_t>(i + 1));
    const bool is_parity = i >= data;
    layout.members.push_back({id, 0, is_parity, static_cast<std::uint8_t>(is_parity ? i - data : i),
                              MemberState::in_sync, 0});
  }
  const auto groups = map_groups(layout);
  const Slice block = make_buffer(block_size).slice();
  const auto rows = static_cast<std::uint64_t>(state.range(0));
  std::vector<BlockWrite> batch;
  for (std::uint32_t member = 0; member < data; ++member) {
    for (std::uint64_t row = 0; row < rows; ++row) {
      batch.push_back({BlockAddress(member, reserved_blocks + row), block});
    }
  }
  for (auto _ : state) {
    auto stripes = plan_writes(layout, groups, batch);
    auto writes = merge_writes(*stripes, 0);
    benchmark::DoNotOptimize(writes.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(batch.size()) *
                          block_size);
}
BENCHMARK(plan)->Arg(256)->Arg(4096);

}  // namespace
}  // namespace duet::raid

BENCHMARK_MAIN();
