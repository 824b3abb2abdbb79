#include "node/engine.h"

#include <algorithm>
#include <utility>

#include "ha/health.h"
#include "node/test_panic.h"
#include "nvlog/control_block.h"
#include "pool/pool.h"

namespace duet::node {
namespace {

std::uint32_t to_us(Duration d) {
  return static_cast<std::uint32_t>(
      std::min<std::int64_t>(d / std::chrono::microseconds(1), std::int64_t{1} << 31));
}

EngineReport::Disk disk_report(NodeId shelf, std::size_t index, WatchedDisk& disk) {
  auto [slowest, average] = disk.take_latency();
  const auto& figures = disk.figures();
  return {shelf,
          static_cast<std::uint8_t>(index),
          disk.connected(),
          figures.operations,
          figures.errors,
          to_us(slowest),
          to_us(average),
          figures.last_error.substr(0, EngineReport::max_text)};
}

}  // namespace

Engine::Engine(const Config& config, const nvlog::OpenedRegion& region, Ports ports)
    : config_(config), region_(region), ports_(std::move(ports)) {
  watch_disks();
  for (std::uint8_t n : {1, 2}) make_service(NodeId(n));
}

Engine::~Engine() = default;

void Engine::watch_disks() {
  for (std::uint8_t n : {1, 2}) {
    for (auto*& disk : ports_.disks[n]) {
      watched_[n].push_back(std::make_unique<WatchedDisk>(ports_.scheduler, *disk));
      disk = watched_[n].back().get();
      disk->on_attention([this, n](ports::Attention attention) {
        if (attention == ports::Attention::power_on_or_reset) services_[n]->on_disk_reset();
      });
    }
  }
}

void Engine::make_service(NodeId identity) {
  auto n = identity.value();
  std::vector<WatchedDisk*> disks;
  for (const auto& disk : watched_[n]) disks.push_back(disk.get());
  IdentityService::Ports p{
      ports_.scheduler,
      ports_.nvram,
      region_.layout,
      ports_.mirror,
      ports_.network,
      std::move(disks),
      [this](LabelledPool labelled,
             IdentityService::PoolHooks hooks) -> std::unique_ptr<pool::Pool> {
        pool::Pool::Options options;
        options.pool = labelled.pool;
        options.disks = std::move(labelled.disks);
        options.read_cache = config_.cache_size;
        options.metadata_cache = config_.metadata_cache;
        options.dirty_limit = config_.dirty_limit;
        options.point_age = config_.point_age;
        options.journal = std::move(hooks.journal);
        options.claim = std::move(hooks.claim);
        options.spare_missed = std::move(hooks.spare_missed);
        return std::make_unique<pool::Pool>(ports_.scheduler, std::move(options));
      },
      [this](const FromEngine& fact) { tell(fact); },
      [this, identity] { return ports_.shared.lease_valid(identity, ports_.scheduler.now()); },
      ports_.wall_clock_ns,
      {},
  };
  if (identity == config_.self) {
    p.log_moved = [this](LogSequence written, LogSequence freed) {
      ports_.shared.log_written.store(written.value(), std::memory_order_relaxed);
      ports_.shared.log_freed.store(freed.value(), std::memory_order_relaxed);
    };
  }
  services_[n] = std::make_unique<IdentityService>(config_, identity, std::move(p));
}

void Engine::start(std::function<void()> on_orphaned) {
  ports_.supervisor.on_message([this](Bytes bytes) { on_message(bytes); });
  ports_.supervisor.on_closed([on_orphaned = std::move(on_orphaned)]() mutable { on_orphaned(); });
  ports_.mirror.on_outgoing([this](bool up) {
    services_[config_.self.value()]->on_mirror(up);
    tell(LogFact{0, up ? "mirror.up" : "mirror.down",
                 up ? "the partner's NVRAM takes our log" : "the mirror connection is gone"});
  });
  show_progress();
  report();
  auto limit = ports_.scheduler.now() + disk_wait;
  wait_for_disks(limit);
}

// Ready means able to assume an identity at once; without our own disks for long, ready all the
// same: the partner's may be needed.
void Engine::wait_for_disks(Instant limit) {
  bool connected = std::ranges::all_of(ports_.disks[config_.self.value()],
                                       [](const auto* disk) { return disk->connected(); });
  if (!connected && ports_.scheduler.now() < limit) {
    ports_.scheduler.at(ports_.scheduler.now() + disk_look,
                        [this, limit] { wait_for_disks(limit); });
    return;
  }
  tell(kept_health());
  ReadyFact ready;
  ready.nvram =
      load_le<std::uint64_t>(reinterpret_cast<const std::byte*>(region_.header.uuid.data()));
  ready.persistent = ports_.nvram.persistent();
  ready.mirror_port = ports_.mirror.port();
  tell(ready);
  // Our own identity is what we shall be asked for. Nothing is written; while the partner keeps us
  // out nothing is read either.
  if (connected) services_[config_.self.value()]->warm_up();
}

void Engine::show_progress() {
  ports_.shared.engine_progress.fetch_add(1, std::memory_order_relaxed);
  ports_.scheduler.at(ports_.scheduler.now() + progress_interval, [this] { show_progress(); });
}

void Engine::report() {
  EngineReport r;
  r.mirror_outgoing = ports_.mirror.outgoing_up();
  r.mirror_incoming = ports_.mirror.incoming_up();
  r.cache_limit = 2 * config_.cache_size;
  if (ports_.memory_in_use) r.memory = ports_.memory_in_use();
  for (std::uint8_t n : {1, 2}) {
    r.identities.push_back(services_[n]->report());
    for (std::size_t i = 0; i < watched_[n].size(); ++i) {
      r.disks.push_back(disk_report(NodeId(n), i, *watched_[n][i]));
    }
  }
  tell(r);
  services_[config_.self.value()]->look_at_spares();
  ports_.scheduler.at(ports_.scheduler.now() + report_interval, [this] { report(); });
}

void Engine::on_message(Bytes bytes) {
  auto message = unarchive<ToEngine>(bytes);
  // Supervisor and engine are of one build; anything else must not be guessed at.
  ASSERT(message.has_value());
  std::visit([this](const auto& o) { order(o); }, *message);
}

IdentityService* Engine::service(NodeId identity) {
  ASSERT(identity.value() == 1 || identity.value() == 2);
  return services_[identity.value()].get();
}

// ---- mirror ----

// An offer is repeated until its log is mirrored: a connection that is up, or coming up, is left
// alone, or a resync that takes longer than that would begin anew for ever.
void Engine::order(const DialMirrorOrder& o) {
  std::pair wanted{o.port, o.partner_nonce};
  if (std::exchange(dialled_, wanted) == wanted) return;
  ports_.mirror.dial(config_.partner_address, o.port, o.partner_nonce);
}

void Engine::order(const HangUpMirrorOrder&) {
  dialled_.reset();
  ports_.mirror.hang_up();
}

void Engine::order(const OpenWindowOrder& o) {
  // A window into a log that we serve ourselves would let the partner write into our live log.
  ASSERT(service(o.identity)->idle());
  nvlog::duplicate_control_block(ports_.nvram, region_.layout, o.identity);
  auto section = region_.layout.section(o.identity);
  ports_.mirror.open_window(section.offset, section.length, o.partner_nonce);
}

void Engine::order(const CloseWindowOrder&) {
  ports_.mirror.close_window();
  tell(WindowClosedFact{});
}

// ---- identities ----

void Engine::order(const CheckLogOrder& o) {
  service(o.identity)->check_log(o);
}

void Engine::order(const AssumeOrder& o) {
  // Whoever forgot to close the window must not have it open while the log is read (T3).
  if (o.identity != config_.self) ports_.mirror.close_window();
  service(o.identity)->assume(o, partner_down_);
}

void Engine::order(const DiskReturnedNote& o) {
  service(o.identity)->disk_returned(o.index);
}

void Engine::order(const CollectDumpOrder& o) {
  service(o.identity)->collect_dump(o.index);
}

void Engine::order(const CancelCollectOrder& o) {
  service(o.identity)->cancel_collect(o.index);
}

void Engine::order(const FreeSparesHeardNote& o) {
  services_[config_.self.value()]->free_spares_heard(o.number);
}

void Engine::order(const ReleaseOrder& o) {
  service(o.identity)->release();
}

void Engine::order(const PrepareOrder& o) {
  service(o.identity)->prepare();
}

void Engine::order(const DropPreparedOrder& o) {
  service(o.identity)->drop_prepared();
}

void Engine::order(const HandOverOrder& o) {
  service(o.identity)->hand_over();
}

void Engine::order(const CancelHandOverOrder& o) {
  service(o.identity)->cancel_hand_over();
}

void Engine::order(const GrantOrder& o) {
  service(o.identity)->grant(o);
}

void Engine::order(const PartnerFencedNote& o) {
  partner_down_ = o.fenced;
  for (std::uint8_t n : {1, 2}) services_[n]->on_partner_down(o.fenced);
}

// ---- health records ----

HealthKeptFact Engine::kept_health() const {
  auto page = [this](NodeId node) {
    auto at = region_.layout.health_record(node);
    auto bytes = ports_.nvram.region().subspan(at.offset, ha::health_record_size);
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  return {page(config_.self), page(config_.partner())};
}

void Engine::order(const KeepHealthOrder& o) {
  auto keep = [this](NodeId node, const std::vector<std::byte>& record) {
    if (record.size() != ha::health_record_size) return;
    auto at = region_.layout.health_record(node);
    ports_.nvram.copy(ports_.nvram.region().subspan(at.offset, record.size()), record);
  };
  keep(config_.self, o.own);
  keep(config_.partner(), o.partner);
}

// ---- LUNs ----

IdentityService::LunDone Engine::answer(std::uint64_t request) {
  return [this, request](Result<std::vector<LunInfo>> r) {
    LunAnswer a;
    a.request = request;
    a.ok = r.has_value();
    if (r) {
      a.luns = std::move(*r);
    } else {
      a.why = r.error().message;
    }
    tell(a);
  };
}

void Engine::order(const LunCreateOrder& o) {
  service(o.identity)->create_lun(o.name, o.size, answer(o.request), o.reserve);
}

void Engine::order(const LunDeleteOrder& o) {
  service(o.identity)->delete_lun(o.name, answer(o.request));
}

void Engine::order(const TestPanicOrder& o) {
  if (config_.test_panics) panic_on_purpose(static_cast<PanicKind>(o.kind));
}

void Engine::order(const PoolAsk& o) {
  service(o.order.identity)->pool_order(o.order, [this, request = o.request](admin::PoolReply r) {
    tell(PoolAnswer{request, std::move(r)});
  });
}

void Engine::order(const CoreAsk& o) {
  service(o.order.identity)->core_order(o.order, [this, request = o.request](admin::CoreReply r) {
    tell(CoreAnswer{request, std::move(r)});
  });
}

void Engine::order(const LunListOrder& o) {
  std::vector<LunInfo> all;
  for (std::uint8_t n : {1, 2}) {
    auto luns = services_[n]->luns();
    all.insert(all.end(), luns.begin(), luns.end());
  }
  answer(o.request)(std::move(all));
}

}  // namespace duet::node
