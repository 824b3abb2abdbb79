// Performs the store actions of a logical unit on files. What needs no waiting is done at once on
// the event loop, the rest by the workers; a fault of the test control may hold or fail it.
//
// Guarantee: after the StoreDone of a piece of work, nothing of it reaches the medium any more, and
// after power_off() nothing of any.
//
// Durable when: with `sync`, on the device (fdatasync). Without, in the kernel's page cache: it
// survives the end of this process, not of the machine. With a write cache, writes that are not
// asked to be durable stay in memory until a flush, and power_off() loses them.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "ports/scheduler.h"
#include "scsi/logical_unit_io.h"
#include "shelf/disk_file.h"
#include "shelf/volatile_cache.h"
#include "shelf/workers.h"

namespace duet::shelf {

inline constexpr std::uint64_t max_cache_bytes = 64u << 20;  // beyond it writes go through

struct StoreConfig {
  std::filesystem::path data;
  std::filesystem::path reservations;
  std::uint64_t size = 0;
  std::uint32_t block_size = 512;
  bool sync = false;
};

class FileStore {
 public:
  // `ready` is called on the event loop when take_done() has something, not from inside perform().
  FileStore(StoreConfig config, DiskFile file, ports::Scheduler& scheduler, Workers& workers,
            std::function<void()> ready);
  ~FileStore();
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;

  // Requires: a store action. Afterwards look at take_done(): much is done at once.
  void perform(scsi::Action&& action);
  std::vector<scsi::StoreDone> take_done();

  void set_failing(bool failing) { failing_ = failing; }
  void set_delay(Duration delay) { delay_ = delay; }  // for work given from now on
  Duration delay() const { return delay_; }
  bool failing() const { return failing_; }

  // Loses the write cache and all work under way. Waits for what a thread is doing just now.
  void power_off();

 private:
  using Outcome = scsi::StoreDone::Outcome;
  struct Held {
    scsi::Action action;
    ports::TimerId timer;
  };
  struct Life {};  // gone: what comes back from a worker belongs to a power cycle that is over

  void start(scsi::Action&& action);
  void abort(scsi::StoreTag tag);
  void read(const scsi::StoreRead& work);
  void write(const scsi::StoreWrite& work);
  void zero(const scsi::StoreZero& work);
  void flush(scsi::StoreTag tag);
  void store_reservations(const scsi::StoreReservations& work);
  void done(scsi::StoreTag tag, Outcome outcome, std::vector<Slice> data = {});
  template <class Job, class Then>
  void in_thread(Job job, Then then);

  StoreConfig config_;
  std::shared_ptr<const DiskFile> file_;
  ports::Scheduler& scheduler_;
  Workers& workers_;
  std::function<void()> ready_;
  VolatileCache cache_;
  bool failing_ = false;
  Duration delay_{0};
  std::unordered_map<scsi::StoreTag, Held> held_;  // not begun: slow disk
  std::vector<scsi::StoreDone> done_;
  std::shared_ptr<Life> life_ = std::make_shared<Life>();
};

}  // namespace duet::shelf
