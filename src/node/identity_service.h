// One identity as an engine serves it: disks registered, pool open, log replayed, target up; and
// the way back.
//
//   idle --assume--> registering -> opening -> replaying -> serving
//     ^                 |  any failure: AssumeFailed, back to idle
//     |                                                      | release
//     +-- unregistering <- closing <- draining <- flushing <-+
//                                        | failure: ReleaseFailed, serving again
//
// Flushing is a consistency point while clients are still served, so that the one after draining is
// short.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "filesystem/storage.h"
#include "node/config.h"
#include "node/engine_channel.h"
#include "node/logged_storage.h"
#include "node/lun_target.h"
#include "node/pool_disks.h"
#include "ports/disk.h"
#include "ports/mirror_link.h"
#include "ports/nvram.h"
#include "ports/scheduler.h"
#include "ports/stream.h"

namespace duet::node {

class IdentityService {
 public:
  struct Ports {
    ports::Scheduler& scheduler;
    ports::Nvram& nvram;
    const nvlog::RegionLayout& layout;
    ports::MirrorLink& mirror;
    ports::Network& network;
    std::vector<ports::Disk*> disks;  // of this identity
    std::function<std::unique_ptr<filesystem::Storage>(LabelledPool)> make_storage;
    std::function<void(FromEngine)> tell;  // the supervisor
    std::function<bool()> may_answer;      // the lease of this identity is valid
  };
  static constexpr Duration drain_limit = seconds(5);
  static constexpr Duration release_limit = seconds(20);

  IdentityService(const Config& config, NodeId identity, Ports ports);
  ~IdentityService();

  void assume(const AssumeOrder& order, bool partner_down);
  void release();
  void grant(const GrantOrder& order);
  void on_mirror(bool up);
  void on_partner_down(bool down);

  using LunDone = std::function<void(Result<std::vector<LunInfo>>)>;
  void create_lun(const std::string& name, std::uint64_t size, LunDone done);
  void delete_lun(const std::string& name, LunDone done);
  std::vector<LunInfo> luns() const;

  bool serving() const { return phase_ == Phase::serving || phase_ == Phase::flushing; }
  bool idle() const { return phase_ == Phase::idle; }
  EngineReport::PerIdentity report() const;

 private:
  enum class Phase : std::uint8_t {
    idle,
    registering,
    opening,
    replaying,
    serving,
    flushing,
    draining,
    closing,
    unregistering,
  };
  bool home() const { return identity_ == config_.self; }
  template <class F>
  auto in_this_attempt(F f);

  void registered(Result<void> r);
  void open_pool();
  void opened(Result<void> r);
  void activated(Result<void> r);
  void replay();
  Status apply_log(std::uint64_t& replayed, nvlog::LogPosition& end);
  void serve();
  void export_lun(const filesystem::LunInfo& lun);
  void log_deletion(LunNumber lun, LunDone done);
  void failed(const std::string& why);
  void stop_everything();

  void on_consistency_point(const nvlog::LogPosition& position);
  void drain();
  void close_pool();
  void unregister();
  void released();
  void release_failed(const std::string& why);

  void log(std::uint8_t severity, std::string phase, std::string text);
  LunInfo info(const filesystem::LunInfo& lun) const;

  const Config& config_;
  NodeId identity_;
  Ports ports_;
  Phase phase_ = Phase::idle;
  std::uint64_t attempt_ = 0;
  AssumeOrder order_;
  bool partner_down_ = false;
  std::uint64_t replayed_ = 0;
  LogSequence awaited_;  // by replaying and flushing: a consistency point that reaches it
  std::unique_ptr<filesystem::Storage> storage_;
  std::unique_ptr<LoggedStorage> logged_;
  std::unique_ptr<LunTarget> target_;
  std::set<LunNumber> deleting_;
  ports::TimerId release_timer_{};
  std::uint64_t consistency_points_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace duet::node
