// Storage over a node's data disks, first version: LUNs are fully allocated from fixed extents and
// written in place (docs/formats/pool.md, docs/protocols/consistency_point.md). The log makes
// in-place writes safe: what a torn consistency point leaves behind is written again by the replay.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "filesystem/clean_cache.h"
#include "filesystem/consistency_point.h"
#include "filesystem/dirty_cache.h"
#include "filesystem/lun_table.h"
#include "filesystem/pool_metadata.h"
#include "filesystem/read_plan.h"
#include "filesystem/storage.h"

namespace duet::filesystem {

class ExtentPool : public Storage {
 public:
  struct Options {
    disk::PoolId pool{};
    std::vector<PoolDisk> disks;               // all of the pool, by position; they outlive it
    std::uint64_t dirty_limit = 256ull << 20;  // bytes
    std::uint64_t read_cache = 64ull << 20;    // bytes
    Duration retry_delay = milliseconds(200);  // after a consistency point that failed
  };
  // Reads up to here go into the read cache; larger ones would only sweep it out.
  static constexpr std::uint64_t cached_read_max = 64 << 10;

  // Disk reads that one read has under way: a range of which every other block is in memory has
  // many.
  static constexpr std::size_t disk_reads_per_read = 16;

  ExtentPool(ports::Scheduler& scheduler, Options options);
  ~ExtentPool() override;

  StorageState state() const override { return state_; }
  void open(ports::Done<void> done) override;
  void activate(Epoch epoch, ports::Done<void> done) override;
  void deactivate(ports::Done<void> done) override;
  void close() override;

  std::vector<LunInfo> luns() const override;
  const LunInfo* find(LunNumber lun) const override;
  Capacity capacity() const override;
  Result<LogRecord> prepare_create(const std::string& name, std::uint64_t size) const override;

  Status admit(const LogRecord& record) const override;
  Status apply(const LogPosition& position, const LogRecord& record) override;
  void skip(const LogPosition& position) override;
  void read(LunNumber lun, std::uint64_t offset, std::uint64_t length,
            ports::Done<std::vector<Slice>> done) override;

  void start_consistency_point() override;
  bool needs_consistency_point() const override;
  std::uint64_t dirty_bytes() const override;
  std::uint64_t dirty_limit() const override { return options_.dirty_limit; }
  LogPosition position() const override { return superblock_.position; }
  void on_consistency_point(std::function<void(const LogPosition&)> callback) override;
  void on_fenced(std::function<void(const std::string&)> callback) override;
  void on_health(std::function<void(const std::string&)> callback) override;
  const std::string& health() const override { return health_; }

 private:
  struct Session {};  // from open to close; who holds it weakly learns that it is over
  struct ReadInFlight;
  // What the consistency point under way changes here once it is done.
  struct Pending {
    std::vector<std::pair<std::shared_ptr<Lun>, std::map<std::uint32_t, std::uint64_t>>> masks;
    std::vector<ExtentPlace> freed;
  };

  void load(const std::optional<Superblock>& known, ports::Done<void> done,
            std::function<Status(PoolMetadata)> then);
  Status check(const Record& record) const;
  void change(const Record& record);
  Status poison(const LogRecord& record, const Error& error);
  Status check_read(LunNumber lun, std::uint64_t offset, std::uint64_t length) const;
  void read_next(const std::shared_ptr<ReadInFlight>& read);
  void read_done(const std::shared_ptr<ReadInFlight>& read);
  void keep(const ReadInFlight& read);
  void keep(const DiskWrite& write);

  bool clean() const;
  void begin_consistency_point();
  std::vector<std::byte> encode_table(Superblock& next);
  void run_consistency_point();
  void on_consistency_point_done(Status status);
  void finish_deactivation();
  void fence(const std::string& why);
  std::string lasting_health() const;  // what is wrong although the disks work
  void set_health(std::string health);
  void fail_later(ports::Done<void>& done, Error error);

  ports::Scheduler& scheduler_;
  Options options_;
  StorageState state_ = StorageState::closed;
  std::shared_ptr<Session> session_;
  Superblock superblock_;  // the last one on the disks
  LogPosition applied_;    // the last record in memory
  Epoch epoch_;
  LunTable table_;
  DirtyCache dirty_;  // changes for the next consistency point
  CleanCache clean_cache_;
  std::uint64_t flushes_ = 0;  // changes whenever blocks of the disks may have changed
  std::shared_ptr<ConsistencyPoint> point_;
  Pending pending_;
  bool again_ = false;
  ports::TimerId retry_;
  ports::Done<void> deactivated_;
  std::string health_;
  std::function<void(const LogPosition&)> on_consistency_point_;
  std::function<void(const std::string&)> on_fenced_;
  std::function<void(const std::string&)> on_health_;
};

}  // namespace duet::filesystem
