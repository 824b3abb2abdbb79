// One identity as an engine serves it: disks registered, pool open, log replayed, target up; and
// the ways back: released to its owner, or handed over to the partner that will take over.
//
//   idle --prepare--> preparing -> prepared        (drop, failure, limit: back to idle)
//    | assume                          | assume
//    +---> registering -> replaying -> serving     (any failure: AssumeFailed, back to idle)
//                                        | release, hand over
//    +-----------------------------------+
//    v                     failure, limit, cancel: serving again
//   flushing -> draining -+-> closing -> unregistering -> idle: Released
//                         +-> storing -> parting -> idle: HandedOver
//
// Flushing is a consistency point while clients are still served, so that what is left after
// draining is short. Registering reads the pool at the same time as it verifies the registration.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "filesystem/storage.h"
#include "node/config.h"
#include "node/core_files.h"
#include "node/engine_channel.h"
#include "node/file_service.h"
#include "node/free_spares.h"
#include "node/logged_storage.h"
#include "node/lun_target.h"
#include "node/pool_disks.h"
#include "node/pool_orders.h"
#include "node/watched_disk.h"
#include "nvlog/replay.h"
#include "pool/log_replay.h"
#include "ports/disk.h"
#include "ports/mirror_link.h"
#include "ports/nvram.h"
#include "ports/scheduler.h"
#include "ports/stream.h"

namespace duet::node {

class IdentityService {
 public:
  struct PoolHooks {  // of pool::Pool::Options
    std::function<void(DataBytes record, ports::Done<void> done)> journal;
    std::function<void(const raid::Array::Disk&, ports::Done<void> done)> claim;
    std::function<void(DiskId)> spare_missed;
  };
  struct Ports {
    ports::Scheduler& scheduler;
    ports::Nvram& nvram;
    const nvlog::RegionLayout& layout;
    ports::MirrorLink& mirror;
    ports::Network& network;
    std::vector<WatchedDisk*> disks;  // of this identity
    std::function<std::unique_ptr<pool::Pool>(LabelledPool, PoolHooks)> make_storage;
    std::function<void(FromEngine)> tell;           // the supervisor
    std::function<bool()> may_answer;               // the lease of this identity is valid
    std::function<std::int64_t()> wall_clock_ns{};  // since 1970; none: 0, and no schedules
    std::function<void(LogSequence written, LogSequence freed)> log_moved{};
  };
  static constexpr Duration drain_limit = seconds(5);  // of a release
  static constexpr Duration release_limit = seconds(20);
  static constexpr Duration prepare_limit = seconds(10);
  // Of a hand over: longer than any countdown, which ends it before.
  static constexpr Duration hand_over_limit = std::chrono::minutes(11);
  static constexpr Duration store_limit = milliseconds(500);  // for the mirror to take requests
  // For the partner to take a stripe journal record: a consistency point waits for it, so nothing
  // that waits for the consistency point may hold it up. Later: it goes to the disks.
  static constexpr Duration journal_limit = milliseconds(100);
  static constexpr Duration part_limit = milliseconds(200);  // for answers to leave
  static constexpr std::size_t max_stored_requests = 4096;   // more are forgotten

  IdentityService(const Config& config, NodeId identity, Ports ports);
  ~IdentityService();

  void assume(const AssumeOrder& order, bool partner_down);
  // An absent disk of the order that is served has been fenced.
  void disk_returned(std::uint8_t index);
  void release();
  void prepare();
  // The same, unasked and unanswered: when it cannot be, the assumption reads for itself.
  void warm_up();
  void drop_prepared();
  // Is the log whole? By the ring alone if that shows it, else with what the disks say: then the
  // identity is prepared, too. Changes nothing.
  void check_log(const CheckLogOrder& order);
  void hand_over();
  void cancel_hand_over();
  void grant(const GrantOrder& order);
  void on_mirror(bool up);
  void on_partner_down(bool down);
  void on_disk_reset();

  using LunDone = std::function<void(Result<std::vector<LunInfo>>)>;
  void create_lun(const std::string& name, std::uint64_t size, LunDone done, bool reserve = false);
  void delete_lun(const std::string& name, LunDone done);
  std::vector<LunInfo> luns() const;
  // Null: not served here. Valid until it is given away, or lost.
  files::FileStore* files() { return serving() ? files_.get() : nullptr; }
  void pool_order(const admin::PoolOrder& order, PoolOrders::Done done);
  void core_order(const admin::CoreOrder& order, CoreFiles::Done done);
  // ha::CollectDump, ha::CancelCollect.
  void collect_dump(std::uint8_t index);
  void cancel_collect(std::uint8_t index);
  // Now and then: which spares RAID leaves to a dump of ours.
  void look_at_spares();
  void free_spares_heard(std::uint64_t number);

  bool serving() const { return phase_ == Phase::serving || phase_ == Phase::flushing; }
  // Neither served nor about to be: prepared is idle, too.
  bool idle() const { return phase_ <= Phase::prepared; }
  EngineReport::PerIdentity report() const;

 private:
  enum class Phase : std::uint8_t {
    idle,
    preparing,
    prepared,
    registering,
    replaying,
    serving,
    flushing,
    draining,
    storing,
    parting,
    closing,
    unregistering,
  };
  enum class Goal : std::uint8_t { release, hand_over };
  bool home() const { return identity_ == config_.self; }
  // Without those that the order says are not fenced: they are not to be touched.
  std::vector<ports::Disk*> usable_disks() const;
  std::vector<ports::Disk*> settled_disks() const;
  // A callback that counts only while the attempt it was made in goes on.
  template <class F>
  auto in_this_attempt(F f) {
    return
        [this, alive = alive_, attempt = attempt_, f = std::move(f)](auto&&... arguments) mutable {
          if (*alive && attempt == attempt_) f(std::forward<decltype(arguments)>(arguments)...);
        };
  }
  void add_disk(ports::Disk& disk);

  void with_storage(std::function<void(Status)> then);
  void watch_storage();
  void start_preparing();
  void prepared(Status status);
  Status look_at_log(const CheckLogOrder& order, const nvlog::LogPosition& from) const;
  Result<nvlog::ReplayPlan> plan_log(const nvlog::Mark& mark, bool own_log,
                                     const nvlog::LogPosition& from) const;
  void activate();
  void open_pool();
  void verified(Result<void> r);
  void activated(Result<void> r);
  void replay();
  std::vector<Slice> stripe_records(const nvlog::LogPosition& position) const;
  void keep_stripe_record(DataBytes record, ports::Done<void> done);
  void apply_log();
  pool::LogReplay::Item item(const nvlog::RecordView& view, const nvlog::LogPosition& position);
  void log_applied(const nvlog::LogPosition& end);
  void serve();
  void export_lun(const filesystem::LunInfo& lun);
  Status withdraw_luns(std::vector<LunNumber> luns, ports::Task then);
  void log_deletion(LunNumber lun, LunDone done);
  void start_files();
  void start_orders();
  // identity_dumps.cc
  void start_cores();
  bool pool_writes_to(const DiskId& id) const;
  PoolHooks pool_hooks();
  void start_spares();
  std::uint64_t free_spares() const;
  std::optional<std::uint8_t> index_of(const ports::Disk* disk) const;
  void claim_disk(const raid::Array::Disk& disk, ports::Done<void> done);
  void spare_missed(const DiskId& id);
  std::string not_served() const;
  void end_orders();
  void failed(std::string why);
  void settle(const std::function<void()>& then);
  void given_up(const std::string& why);
  void stop_everything();

  void on_consistency_point(const nvlog::LogPosition& position);
  void end_service(Goal goal, Duration limit);
  void drain();
  void drained();
  void close_pool();
  void closed();
  void unregister();
  void store_requests();
  void stored(std::uint64_t count);
  void handed_over();
  void end_failed(const std::string& why);

  void log(std::uint8_t severity, std::string phase, std::string text);
  LunInfo info(const filesystem::LunInfo& lun) const;

  const Config& config_;
  NodeId identity_;
  Ports ports_;
  Phase phase_ = Phase::idle;
  std::uint64_t attempt_ = 0;
  AssumeOrder order_;
  bool partner_down_ = false;
  bool asked_ = false;                     // to prepare: somebody waits for the answer
  std::optional<CheckLogOrder> checking_;  // preparing for its answer
  bool verified_ = false;  // while registering: the reservation is ours on every disk
  bool active_ = false;    // ... and the pool is read
  std::uint64_t replayed_ = 0;
  std::uint64_t dropped_ = 0;  // stored requests met in the replay
  LogSequence awaited_;        // by replaying and flushing: a consistency point that reaches it
  std::unique_ptr<pool::Pool> storage_;
  std::vector<pool::Pool::Disk> labelled_;  // what it was made of
  std::unique_ptr<pool::LogReplay> replay_;
  std::unique_ptr<LoggedStorage> logged_;
  std::unique_ptr<LunTarget> target_;
  std::unique_ptr<FileService> files_;
  std::unique_ptr<PoolOrders> orders_;
  std::unique_ptr<CoreFiles> cores_;
  std::unique_ptr<FreeSpares> spares_;  // of our own identity
  std::uint64_t spares_told_ = 0;       // number of the last fact
  std::unique_ptr<SnapshotKeeper> snapshots_;
  std::set<LunNumber> deleting_;
  Goal goal_{};
  std::uint64_t ends_ = 0;        // attempts to end the service; one may be cancelled
  ports::TimerId limit_timer_{};  // of preparing, release, hand over
  ports::TimerId step_timer_{};   // of draining and storing
  std::size_t draining_ = 0;      // services that draining waits for
  std::size_t closing_ = 0;       // what closing still waits for
  std::uint64_t stored_ = 0;
  bool handed_over_ = false;
  std::uint64_t consistency_points_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
