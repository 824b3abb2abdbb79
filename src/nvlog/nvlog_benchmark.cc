// What an append costs: CRC, copy and fence of 4 KiB, into memory without flushing.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "nvlog/log.h"

namespace duet::nvlog {
namespace {

class MemoryNvram final : public ports::Nvram {
 public:
  MutableBytes region() override { return bytes_; }
  bool persistent() const override { return true; }
  void copy(MutableBytes to, Bytes from) override {
    std::memcpy(to.data(), from.data(), from.size());
    persist(to);
  }
  void persist(Bytes) override { std::atomic_thread_fence(std::memory_order_seq_cst); }

 private:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(64 * 1024 * 1024);
};

// Append, commit, acknowledge under `local`, with a consistency point when the log is half full.
void append(benchmark::State& state) {
  MemoryNvram nvram;
  (void)format_region(nvram, ClusterId(1), NodeId(1), {});
  Log::Options options;
  options.persistent = true;
  Log log(nvram, *RegionLayout::of_size(nvram.region().size()), NodeId(1), empty_plan({}), options);
  Actions actions;
  (void)log.start(Epoch(1), NodeId(1), true, actions);
  log.on_event(DurabilityMarked{std::get<RequestMark>(actions.at(0)).mark}, actions);
  auto size = static_cast<std::size_t>(state.range(0));
  std::vector<Slice> payload{make_buffer(size).slice()};
  for (auto _ : state) {
    (void)log.append(RecordKind::write, {1, 0, size, 0}, payload);
    actions.clear();
    log.on_event(Commit{}, actions);
    for (const Action& action : actions)
      if (std::holds_alternative<StartConsistencyPoint>(action)) {
        actions.clear();
        log.on_event(ConsistencyPointDone{log.last()}, actions);
        break;
      }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * size));
}
BENCHMARK(append)->Arg(512)->Arg(4096)->Arg(65536)->Arg(1048576);

void crc(benchmark::State& state) {
  auto buffer = make_buffer(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(buffer.bytes));
}
BENCHMARK(crc)->Arg(4096);

}  // namespace
}  // namespace duet::nvlog

BENCHMARK_MAIN();
