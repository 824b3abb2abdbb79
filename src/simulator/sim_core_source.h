// The memory of a simulated engine that panicked and stands still: the pieces of a raw dump, made
// by the code that ships, at the speed that chance gives it.
#pragma once

#include <memory>
#include <vector>

#include "coredump/dump_writer.h"
#include "simulator/sim_scheduler.h"

namespace duet::simulator {

// Whose memory, and what is in it: what comes of a dump is compared with it.
struct DumpedMemory {
  NodeId node;
  BootNonce boot;
  Epoch epoch;
  std::vector<std::byte> bytes;
};

class SimCoreSource final : public ports::CoreSource {
 public:
  static constexpr std::size_t piece_size = 16 << 10;  // bytes of memory
  static constexpr std::size_t max_pieces = 12;
  // What no compression makes small enough for the disk.
  static constexpr std::size_t large_piece_size = 1 << 20;
  static constexpr std::size_t large_pieces = 18;
  static constexpr unsigned large_out_of = 16;
  // A dump takes none of the node's time at all, or far more than its limit allows.
  static constexpr Duration piece_min = milliseconds(1), piece_max = seconds(8);

  // `supervisor` reads the memory.
  SimCoreSource(Process& supervisor, std::uint64_t seed);
  ~SimCoreSource() override { *alive_ = false; }

  // Its threads do nothing any more, for good.
  bool stopped() const { return stopped_; }
  void process_ended() { ended_ = true; }
  // Called with the memory when a dump of it begins.
  std::function<void(const std::shared_ptr<DumpedMemory>&)> on_begin;

  void stop(ports::Done<void> done) override;
  void begin(Dump dump) override;
  void next(ports::Done<Piece> done) override;

 private:
  void fill();
  void later(Duration time, std::function<void(const Status& alive)> then);

  Process& supervisor_;
  Random random_;
  std::shared_ptr<DumpedMemory> memory_ = std::make_shared<DumpedMemory>();
  std::size_t piece_size_ = piece_size;
  Duration piece_time_{};
  bool stopped_ = false, ended_ = false;
  std::unique_ptr<coredump::DumpWriter> writer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::simulator
