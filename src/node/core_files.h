// The core files of an identity that is served here: makes them of raw dumps, one after the other
// (core_collector.h), and obeys `duet core`. One for each time that the identity is served.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/control.h"
#include "node/core_collector.h"
#include "node/core_folder.h"
#include "ports/scheduler.h"

namespace duet::node {

class CoreFiles {
 public:
  struct Report {  // ha::DumpCollection
    std::uint8_t index = 0;
    std::uint64_t bytes_done = 0, bytes_total = 0;
    bool over = false;
  };
  struct Ports {
    ports::Scheduler& scheduler;
    files::FileStore& store;  // outlives us
    std::function<bool()> clients_wait;
    std::function<bool(const DiskId&)> in_use;
    std::function<void(const Report&)> tell;
    std::function<void(std::uint8_t severity, std::string phase, std::string text)> log;
  };
  using Done = std::function<void(admin::CoreReply)>;

  static constexpr Duration report_interval = milliseconds(500);
  static constexpr std::size_t max_orders = 64;  // under way

  CoreFiles(Ports ports, CoreCollector::Rules rules);
  ~CoreFiles();

  // Whether the disk bears a dump shows when it is read. Reports follow, the last one says `over`.
  void collect(std::uint8_t index, ports::Disk& disk);
  // The dump stays as it is.
  void cancel(std::uint8_t index);
  // RAID is about to write to the disk; `then` ok: its header says that there is no dump. Asked
  // once more for the same disk, the first one hears `busy`. Errors: that, those of the disk.
  void disk_needed(std::uint8_t index, ports::Disk& disk, ports::Done<void> then);

  // Once answered, unless we are gone before.
  void carry_out(const admin::CoreOrder& order, Done done);
  // The identity goes: who waits is told.
  void close();

 private:
  struct Waiting {
    std::uint8_t index = 0;
    ports::Disk* disk = nullptr;
    ports::Done<void> needed_by;  // RAID waits
  };
  struct GivenUp {  // RAID does not wait for cores
    std::unique_ptr<CoreCollector> collector;
    ports::Done<void> needed_by;
  };
  void next();
  std::unique_ptr<CoreCollector> make_collector(ports::Disk& disk);
  void collected(const CoreCollector::Outcome& outcome);
  void log_end(const ports::Disk& disk, const CoreCollector::Outcome& outcome) const;
  void answer(ports::Done<void> needed_by, const CoreCollector::Outcome& outcome);
  void retire(std::unique_ptr<CoreCollector> ended);
  void report();
  void tell_over(const Waiting& of) const;

  using Cores = std::vector<CoreFolder::Core>;
  void with_cores(Done done, std::function<void(Cores, Done)> use);
  void with_core(const std::string& id, Done done,
                 std::function<void(const CoreFolder::Core&, Done)> use);
  void list(std::shared_ptr<Cores> cores, std::size_t at, std::shared_ptr<admin::CoreReply> reply,
            Done done);
  void show(const CoreFolder::Core& core, Done done);
  void read(const CoreFolder::Core& core, std::uint64_t offset, Done done);
  void remove(const CoreFolder::Core& core, Done done);
  std::optional<admin::CoreItem> collecting_item() const;
  admin::CoreItem item(const CoreFolder::Core& core, std::string details) const;
  Done counted(Done done);

  Ports ports_;
  CoreCollector::Rules rules_;
  CoreFolder folder_;
  std::deque<Waiting> waiting_;  // the first one is being collected
  std::unique_ptr<CoreCollector> collector_;
  std::map<std::uint8_t, GivenUp> given_up_;
  ports::TimerId report_timer_{};
  std::map<std::uint64_t, Done> orders_;  // under way
  std::uint64_t last_order_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
