// The engine of a node: the storage operating system. Obeys its supervisor (engine_channel.h),
// serves up to two identities, and shares one NVRAM region and one mirror link between them.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "node/config.h"
#include "node/engine_channel.h"
#include "node/identity_service.h"
#include "node/watched_disk.h"
#include "nvlog/region.h"
#include "ports/disk.h"
#include "ports/message_channel.h"
#include "ports/mirror_link.h"
#include "ports/nvram.h"
#include "ports/scheduler.h"
#include "ports/shared_state.h"
#include "ports/stream.h"

namespace duet::node {

class Engine {
 public:
  struct Ports {
    ports::Scheduler& scheduler;
    ports::Nvram& nvram;
    ports::MirrorLink& mirror;
    ports::Network& network;
    ports::MessageChannel& supervisor;
    ports::SharedState& shared;
    std::array<std::vector<ports::Disk*>, 3>
        disks;  // by home node, in the order of the configuration
    // Bytes that this process has resident; may be absent.
    std::function<std::uint64_t()> memory_in_use{};
    std::function<std::int64_t()> wall_clock_ns{};  // since 1970; none: no snapshot schedules
  };
  static constexpr Duration progress_interval = milliseconds(100);
  static constexpr Duration report_interval = milliseconds(500);
  static constexpr Duration disk_wait = seconds(3);
  static constexpr Duration disk_look = milliseconds(5);

  // `region`: the opened region in ports.nvram.
  Engine(const Config& config, const nvlog::OpenedRegion& region, Ports ports);
  ~Engine();

  // Tells the supervisor that we are ready. `on_orphaned`: the supervisor is gone, and so must we
  // be.
  void start(std::function<void()> on_orphaned);

 private:
  void on_message(Bytes bytes);
  void order(const DialMirrorOrder& o);
  void order(const HangUpMirrorOrder& o);
  void order(const OpenWindowOrder& o);
  void order(const CloseWindowOrder& o);
  void order(const CheckLogOrder& o);
  void order(const AssumeOrder& o);
  void order(const DiskReturnedNote& o);
  void order(const CollectDumpOrder& o);
  void order(const CancelCollectOrder& o);
  void order(const FreeSparesHeardNote& o);
  void order(const ReleaseOrder& o);
  void order(const PrepareOrder& o);
  void order(const DropPreparedOrder& o);
  void order(const HandOverOrder& o);
  void order(const CancelHandOverOrder& o);
  void order(const GrantOrder& o);
  void order(const PartnerFencedNote& o);
  void order(const KeepHealthOrder& o);
  void order(const LunCreateOrder& o);
  void order(const LunDeleteOrder& o);
  void order(const LunListOrder& o);
  void order(const PoolAsk& o);
  void order(const TestPanicOrder& o);
  void order(const CoreAsk& o);

  void tell(const FromEngine& fact) { ports_.supervisor.send(archive(fact)); }
  IdentityService* service(NodeId identity);
  IdentityService::LunDone answer(std::uint64_t request);
  void watch_disks();
  void make_service(NodeId identity);
  HealthKeptFact kept_health() const;
  void wait_for_disks(Instant limit);
  void show_progress();
  void report();

  const Config& config_;
  nvlog::OpenedRegion region_;
  Ports ports_;
  std::array<std::vector<std::unique_ptr<WatchedDisk>>, 3> watched_;  // what ports_.disks became
  std::array<std::unique_ptr<IdentityService>, 3> services_;
  bool partner_down_ = false;
  std::optional<std::pair<std::uint16_t, BootNonce>> dialled_;  // the partner's mirror
};

}  // namespace duet::node
