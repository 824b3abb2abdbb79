// A disk of the array with bounded work under way. Writes and flushes are tried again until the
// patience is over; reads are not, as the other members can answer.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "raid/array.h"

namespace duet::raid {

inline constexpr Duration write_retry_delay = milliseconds(50);
inline constexpr unsigned min_write_tries = 2;

class Device : public std::enable_shared_from_this<Device> {
 public:
  Device(ports::Scheduler& scheduler, Array::Disk disk, const Array::Options& options)
      : scheduler_(scheduler),
        disk_(disk),
        patience_(options.patience),
        writes_max_(options.writes_per_disk),
        reads_max_(options.reads_per_disk) {}

  const Array::Disk& disk() const { return disk_; }
  bool connected() const { return !given_up_ && disk_.port->connected(); }
  // Blocks of its data area.
  std::uint64_t blocks() const;

  // Blocks of the data area. `into` stays valid until done.
  void read(std::uint64_t block, MutableBytes into, ports::Done<void> done);
  void write(std::uint64_t block, std::vector<Slice> data, bool durable, ports::Done<void> done);
  // At once if nothing was written since the last one.
  void flush(ports::Done<void> done);
  // Nothing new reaches the disk; what waits ends with `cancelled`.
  void give_up();

 private:
  enum class Kind : std::uint8_t { read, write, flush };
  struct Operation {
    Kind kind = Kind::read;
    std::uint64_t offset = 0;
    MutableBytes into;
    std::vector<Slice> data;
    bool durable = false;
    ports::Done<void> done;
    unsigned tries = 0;
    Instant begin{};
    std::uint64_t dirty = 0;  // of a flush: what it covers
  };
  using Pointer = std::shared_ptr<Operation>;

  void start_next();
  void issue(const Pointer& operation);
  void ended(const Pointer& operation, Status status);
  void finish(const Pointer& operation, Status status);

  ports::Scheduler& scheduler_;
  Array::Disk disk_;
  Duration patience_;
  std::size_t writes_max_;
  std::size_t reads_max_;
  std::deque<Pointer> reads_;
  std::deque<Pointer> writes_;
  std::size_t reading_ = 0;
  std::size_t writing_ = 0;
  // Writes into the cache so far, and of them, known to be on the medium. Who had the disk before
  // may have left something in its cache.
  std::uint64_t written_ = 1;
  std::uint64_t flushed_ = 0;
  bool given_up_ = false;
};

}  // namespace duet::raid
