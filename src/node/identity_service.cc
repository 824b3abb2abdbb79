#include "node/identity_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/coverage.h"
#include "iscsi/stored_request.h"
#include "node/disk_registration.h"
#include "nvlog/control_block.h"
#include "nvlog/replay.h"

namespace duet::node {
namespace {

enum : std::uint8_t { info_severity, notice_severity, warning_severity, error_severity };

std::string to_text(std::uint64_t naa) {
  return fmt::format("{:016x}", naa);
}

EngineReport::Mirror mirror_of(std::optional<nvlog::MirrorState> state) {
  using enum EngineReport::Mirror;
  if (!state) return none;
  switch (*state) {
    case nvlog::MirrorState::down:
      return down;
    case nvlog::MirrorState::resync:
      return resync;
    case nvlog::MirrorState::complete:
      return complete;
  }
  UNREACHABLE();
}

}  // namespace

IdentityService::IdentityService(const Config& config, NodeId identity, Ports ports)
    : config_(config), identity_(identity), ports_(std::move(ports)) {}

IdentityService::~IdentityService() {
  *alive_ = false;
  stop_everything();
}

// Makes the storage of the labelled disks if there is none.
void IdentityService::with_storage(std::function<void(Status)> then) {
  if (storage_ && storage_->state() != filesystem::StorageState::closed) return then({});
  read_pool_disks(usable_disks(), config_.cluster, identity_,
                  in_this_attempt([this, then = std::move(then)](Result<LabelledPool> pool) {
                    if (!pool) return then(std::unexpected(pool.error()));
                    for (const std::string& why : pool->missing) {
                      log(warning_severity, "pool.disk_missing", why);
                    }
                    labelled_ = pool->disks;
                    storage_ = ports_.make_storage(std::move(*pool), pool_hooks());
                    watch_storage();
                    then({});
                  }));
}

IdentityService::PoolHooks IdentityService::pool_hooks() {
  return {[this](DataBytes record, ports::Done<void> recorded) {
            keep_stripe_record(std::move(record), std::move(recorded));
          },
          [this](const raid::Array::Disk& disk, ports::Done<void> claimed) {
            claim_disk(disk, std::move(claimed));
          },
          [this](const DiskId& id) { spare_missed(id); }};
}

void IdentityService::watch_storage() {
  storage_->on_stripe_records([this](const nvlog::LogPosition& p) { return stripe_records(p); });
  storage_->on_consistency_point([this](const nvlog::LogPosition& p) { on_consistency_point(p); });
  storage_->on_fenced([this](const std::string& why) {
    log(error_severity, "engine.fenced", why);
    ports_.tell(FencedFact{identity_});
  });
  storage_->on_health([this](const std::string& health) {
    log(health.empty() ? info_severity : warning_severity, "pool.health",
        health.empty() ? "the pool is well again" : health);
  });
}

std::vector<ports::Disk*> IdentityService::usable_disks() const {
  std::vector<ports::Disk*> disks;
  for (std::size_t i = 0; i < ports_.disks.size(); ++i) {
    if (std::ranges::find(order_.absent, i) == order_.absent.end()) {
      disks.push_back(ports_.disks[i]);
    }
  }
  return disks;
}

// Of those, where nothing more can land.
std::vector<ports::Disk*> IdentityService::settled_disks() const {
  auto disks = usable_disks();
  for (WatchedDisk* disk : ports_.disks) {
    if (disk->writing()) std::erase(disks, disk);
  }
  return disks;
}

void IdentityService::disk_returned(std::uint8_t index) {
  if (std::erase(order_.absent, index) == 0 || idle()) return;
  log(notice_severity, "disk.usable", ports_.disks[index]->name() + " is fenced again");
  ports::Disk* disk = ports_.disks[index];
  disk->register_key(order_.key, in_this_attempt([this, disk](Result<void> registered) {
                       if (registered) add_disk(*disk);
                     }));
}

// One that was not there when the storage was made. What is wrong with it the next assumption says.
void IdentityService::add_disk(ports::Disk& disk) {
  read_returned_disk(disk, config_.cluster, identity_,
                     in_this_attempt([this, &disk](Result<LabelledPool> pool) {
                       if (!storage_ || !pool) return;
                       for (const auto& member : pool->disks) {
                         storage_->disk_returned(disk, member.id, member.data);
                         if (orders_) orders_->disk_found(member);
                       }
                     }));
}

// ---- prepare ----

void IdentityService::prepare() {
  if (phase_ == Phase::prepared) return ports_.tell(PreparedFact{identity_, true, {}});
  asked_ = true;
  if (phase_ == Phase::preparing) return;  // its answer comes
  if (phase_ != Phase::idle) {
    return ports_.tell(PreparedFact{identity_, false, "it is being served or released here"});
  }
  start_preparing();
}

void IdentityService::warm_up() {
  if (phase_ != Phase::idle) return;
  asked_ = false;
  start_preparing();
}

void IdentityService::start_preparing() {
  ++attempt_;
  phase_ = Phase::preparing;
  limit_timer_ = ports_.scheduler.at(
      ports_.scheduler.now() + prepare_limit,
      in_this_attempt([this] { prepared(fail(ErrorCode::timed_out, "the disks do not answer")); }));
  with_storage([this](Status status) {
    if (!status) return prepared(std::move(status));
    storage_->open(in_this_attempt([this](Result<void> r) { prepared(std::move(r)); }));
  });
}

void IdentityService::prepared(Status status) {
  ports_.scheduler.cancel(limit_timer_);
  auto checking = std::exchange(checking_, {});
  if (!status) {
    drop_prepared();
  } else {
    phase_ = Phase::prepared;
  }
  if (checking) {
    // Disks that cannot be read show no damage; assuming will meet it, or not.
    auto sound = status ? look_at_log(*checking, storage_->position()) : Status();
    ports_.tell(LogCheckedFact{identity_, sound.has_value(),
                               sound ? std::string() : sound.error().message});
  }
  if (!asked_) return;
  ports_.tell(
      PreparedFact{identity_, status.has_value(), status ? std::string() : status.error().message});
}

void IdentityService::drop_prepared() {
  if (phase_ != Phase::preparing && phase_ != Phase::prepared) return;
  ++attempt_;
  checking_.reset();
  stop_everything();
  storage_.reset();  // labels are read anew, too
  phase_ = Phase::idle;
}

// ---- the log ----

Result<nvlog::ReplayPlan> IdentityService::plan_log(const nvlog::Mark& mark, bool own_log,
                                                    const nvlog::LogPosition& from) const {
  auto region = Bytes(ports_.nvram.region());
  auto control = nvlog::read_control_block(region, ports_.layout, identity_);
  auto extent = ports_.layout.ring(identity_);
  auto plan = nvlog::plan_replay(region.subspan(extent.offset, extent.length), identity_, from,
                                 nvlog::required_sequence(mark, control));
  if (!plan) return plan;
  // A gap in the ring of who served is what a power loss leaves of records that were never
  // acknowledged. In a mirror, written in order, it is damage, and what is missing may have been.
  bool damaged = plan->reason == nvlog::ReplayEnd::lost ||
                 (plan->reason == nvlog::ReplayEnd::unfinished && !own_log);
  if (!damaged) return plan;
  MARK(replay_refused_damaged);
  return fail(ErrorCode::invalid,
              "the log is damaged, acknowledged writes may be lost: " + plan->why);
}

Status IdentityService::look_at_log(const CheckLogOrder& order,
                                    const nvlog::LogPosition& from) const {
  auto plan = plan_log({order.durability, order.log_epoch, order.since}, order.own_log, from);
  if (!plan) return std::unexpected(plan.error());
  return {};
}

// The control block says where the log began not long ago: whole from there is whole. If not, what
// was before the consistency point may have been overwritten since, and the disks decide.
void IdentityService::check_log(const CheckLogOrder& order) {
  if (!idle()) {
    return ports_.tell(LogCheckedFact{identity_, false, "it is being served or released here"});
  }
  auto control = nvlog::read_control_block(ports_.nvram.region(), ports_.layout, identity_);
  if (look_at_log(order, control.tail)) return ports_.tell(LogCheckedFact{identity_, true, {}});
  drop_prepared();  // what was prepared may be older
  checking_ = order;
  asked_ = false;
  start_preparing();
}

// ---- assume ----

void IdentityService::assume(const AssumeOrder& order, bool partner_down) {
  if (!idle()) {
    ports_.tell(AssumeFailedFact{identity_, "it is being served or released already"});
    return;
  }
  if (phase_ == Phase::preparing) drop_prepared();
  ++attempt_;
  // What was prepared may rest on a disk that must not be touched now.
  if (!order.absent.empty()) drop_prepared();
  order_ = order;
  if (usable_disks().empty()) {
    order_ = {};
    return ports_.tell(AssumeFailedFact{identity_, "no disk of the identity is fenced"});
  }
  partner_down_ = partner_down;
  replayed_ = dropped_ = 0;
  verified_ = active_ = handed_over_ = false;
  phase_ = Phase::registering;
  register_engine(usable_disks(), order.key, order.holder, in_this_attempt([this] { activate(); }),
                  in_this_attempt([this](Result<void> r) { verified(std::move(r)); }));
}

void IdentityService::verified(Result<void> r) {
  if (!r) return failed(r.error().message);
  verified_ = true;
  if (active_) replay();
}

// What was prepared is used as far as it is still true: activation reads the superblocks again.
void IdentityService::activate() {
  if (!storage_ || storage_->state() == filesystem::StorageState::closed) return open_pool();
  read_pool_disks(usable_disks(), config_.cluster, identity_,
                  in_this_attempt([this](Result<LabelledPool> now) {
                    const auto same = [](const pool::Pool::Disk& a, const pool::Pool::Disk& b) {
                      return a.id == b.id && a.disk == b.disk;
                    };
                    // The pool has grown since it was prepared.
                    if (now && !std::ranges::equal(now->disks, labelled_, same)) {
                      MARK(prepared_pool_has_other_disks);
                      storage_->close();
                    }
                    open_pool();
                  }));
}

void IdentityService::open_pool() {
  with_storage([this](Status status) {
    if (!status) return failed(status.error().message);
    storage_->activate(order_.epoch,
                       in_this_attempt([this](Result<void> r) { activated(std::move(r)); }));
  });
}

void IdentityService::activated(Result<void> r) {
  if (!r) return failed("the pool cannot be opened: " + r.error().message);
  active_ = true;
  if (verified_) replay();
}

// Everything replayed is on disk before anything new is taken: the log is freed by the consistency
// point that contains it, never before, and dying in the middle replays from the beginning.
void IdentityService::replay() {
  phase_ = Phase::replaying;
  awaited_ = {};
  if (order_.replay) return apply_log();
  log_applied(storage_->position());
}

void IdentityService::log_applied(const nvlog::LogPosition& end) {
  // A record that names no LUN takes all of the pool offline: no consistency point would ever come.
  if (storage_->state() != filesystem::StorageState::active) {
    MARK(replay_not_applicable);
    return failed("the log cannot be applied: " + storage_->health());
  }
  if (end.sequence <= storage_->position().sequence) return serve();
  awaited_ = end.sequence;
  storage_->start_consistency_point();  // on_consistency_point goes on
}

// A stripe journal record counts when both NVRAMs have it. The consistency point that waits for it
// may be what everything else waits for, so the answer comes soon.
void IdentityService::keep_stripe_record(DataBytes record, ports::Done<void> done) {
  auto answer = std::make_shared<ports::Done<void>>(std::move(done));
  const auto refuse = [answer] {
    if (*answer) std::exchange(*answer, nullptr)(fail(ErrorCode::refused, "not in both NVRAMs"));
  };
  if (!logged_) return ports_.scheduler.post(refuse);
  ports_.scheduler.at(ports_.scheduler.now() + journal_limit, refuse);
  logged_->store(nvlog::RecordKind::stripe_journal, {copy_to_slice(record)},
                 [answer, refuse](Result<std::size_t> stored) {
                   if (!stored || *stored == 0) return refuse();
                   if (*answer) std::exchange(*answer, nullptr)({});
                 });
}

// Those of a consistency point that did not end. What is wrong with the log the replay says later.
std::vector<Slice> IdentityService::stripe_records(const nvlog::LogPosition& position) const {
  std::vector<Slice> records;
  if (phase_ != Phase::registering || !order_.replay) return records;
  const auto extent = ports_.layout.ring(identity_);
  const Bytes ring = Bytes(ports_.nvram.region()).subspan(extent.offset, extent.length);
  auto plan = nvlog::plan_replay(ring, identity_, position, {});
  for (std::size_t i = 0; plan && i < plan->size(); ++i) {
    auto view = plan->record(ring, i);
    if (view.header.kind == nvlog::RecordKind::stripe_journal) {
      records.push_back({nullptr, view.payload});
    }
  }
  return records;
}

void IdentityService::apply_log() {
  auto plan = plan_log({order_.durability, order_.log_epoch, order_.since}, order_.own_log,
                       storage_->position());
  if (!plan) return failed(plan.error().message);
  auto source = [this, plan = std::make_shared<nvlog::ReplayPlan>(*plan),
                 at = std::size_t{0}]() mutable -> std::optional<pool::LogReplay::Item> {
    if (at == plan->size()) return {};
    auto extent = ports_.layout.ring(identity_);
    Bytes ring = Bytes(ports_.nvram.region()).subspan(extent.offset, extent.length);
    auto view = plan->record(ring, at++);
    return item(view, {view.header.epoch, view.header.sequence, view.end % ring.size(),
                       view.end / ring.size()});
  };
  replay_ = std::make_unique<pool::LogReplay>(
      ports_.scheduler, *storage_, std::move(source),
      [this](const std::string& why) { log(error_severity, "replay.poison", why); });
  replay_->start(in_this_attempt(
      [this, end = plan->end, reason = plan->reason](const Result<std::uint64_t>& applied) {
        auto ended = std::exchange(replay_, nullptr);  // we are called by it
        if (!applied && storage_->state() == filesystem::StorageState::active) {
          return failed("the log cannot be applied: " + applied.error().message);
        }
        replayed_ = applied.value_or(0);
        log(notice_severity, "replay.applied",
            fmt::format("{} records of the log of {} applied ({})", replayed_,
                        config_.name_of(identity_), nvlog::name(reason)));
        if (dropped_ > 0) {
          log(info_severity, "replay.dropped",
              fmt::format("{} requests that {} had received but not begun: their clients send them "
                          "again",
                          dropped_, config_.name_of(identity_)));
        }
        log_applied(end);
      }));
}

pool::LogReplay::Item IdentityService::item(const nvlog::RecordView& view,
                                            const nvlog::LogPosition& position) {
  if (static_cast<std::uint8_t>(view.header.kind) < nvlog::first_opaque_kind ||
      view.header.kind == nvlog::RecordKind::stripe_journal) {
    return {position, {}};
  }
  if (view.header.kind == nvlog::RecordKind::stored_request) {
    // The login of its initiator ends the session it came in, and with it this task (RFC 7143
    // 6.3.5): executing it here could execute it twice.
    MARK(stored_request_dropped);
    if (auto request = iscsi::decode_stored_request(view.payload); !request) {
      log(warning_severity, "replay.poison", request.error().message);
    }
    ++dropped_;
    return {position, {}};
  }
  // The payload stays where it is: nothing is served, and nothing written to the ring, before the
  // consistency point that contains it.
  filesystem::LogRecord record{view.header.kind, view.header.words, {}};
  if (!view.payload.empty()) record.payload.push_back({nullptr, view.payload});
  return {position, std::move(record)};
}

void IdentityService::serve() {
  LoggedStorage::Hooks hooks;
  hooks.want_durability = [this](Durability mode, LogSequence since) {
    ports_.tell(DurabilityWantedFact{identity_, mode, since});
  };
  hooks.failed = [this](const std::string& why) {
    log(error_severity, "storage.failed", why);
    UNREACHABLE();  // what was admitted could not be applied: memory is wrong, panic
  };
  hooks.log_moved = ports_.log_moved;
  // The partner's log, served after a takeover, has no mirror: its other copy was the partner's
  // own.
  logged_ = std::make_unique<LoggedStorage>(ports_.scheduler, ports_.nvram, ports_.layout,
                                            identity_, *storage_, home() ? &ports_.mirror : nullptr,
                                            std::move(hooks));
  if (auto started = logged_->start(order_.epoch, config_.self, partner_down_); !started) {
    return failed("the log cannot be started: " + started.error().message);
  }
  target_ = std::make_unique<LunTarget>(ports_.scheduler, ports_.network,
                                        config_.services[identity_.value()], !home(), *logged_,
                                        ports_.may_answer);
  deleting_.clear();
  for (const auto& lun : storage_->luns()) export_lun(lun);
  if (auto started = target_->start(); !started) {
    return failed("the target cannot be brought up: " + started.error().message);
  }
  start_files();
  start_orders();
  start_cores();
  start_spares();
  phase_ = Phase::serving;
  ports_.tell(AssumedFact{identity_, replayed_});
}

void IdentityService::start_files() {
  files_ =
      std::make_unique<FileService>(ports_.scheduler, *storage_, *logged_, ports_.wall_clock_ns);
  files_->start(in_this_attempt([this](const Result<void>& r) {
    if (r && files_->damaged_replies() == 0) return;
    log(error_severity, "files.replies",
        r ? fmt::format("{} places of the reply log of {} are damaged: those requests could be "
                        "executed twice",
                        files_->damaged_replies(), config_.name_of(identity_))
          : "no files are served: the reply log cannot be read: " + r.error().message);
    if (!r) files_->stop();
  }));
}

void IdentityService::start_orders() {
  const auto now = [clock = ports_.wall_clock_ns] { return clock ? clock() : 0; };
  PoolOrders::Ports ports{
      ports_.scheduler,
      *storage_,
      [this] { return usable_disks(); },
      now,
      [this](LunNumber number) {
        const auto* lun = storage_->find(number);
        if (lun != nullptr && !target_->exported(number)) export_lun(*lun);
      },
      [this] {
        const auto sessions = target_->sessions();
        return sessions.empty() ? std::string() : sessions.front().initiator_name;
      },
      [this](std::vector<LunNumber> luns, ports::Task then) {
        return withdraw_luns(std::move(luns), std::move(then));
      },
      [this](const std::vector<LunNumber>& luns) {
        for (const LunNumber lun : luns) deleting_.erase(lun);
      },
      [this](std::string phase, std::string text) {
        log(notice_severity, std::move(phase), std::move(text));
      },
      [this] { return files_.get(); },
  };
  orders_ =
      std::make_unique<PoolOrders>(PoolOrders::Identity{config_.cluster,
                                                        identity_,
                                                        config_.name_of(identity_),
                                                        {ports_.disks.begin(), ports_.disks.end()},
                                                        config_.shelves[identity_.value()].luns},
                                   std::move(ports), labelled_);
  std::vector<SnapshotSchedule> schedules;
  for (const auto& schedule : config_.snapshots) {
    if (schedule.identity == identity_) schedules.push_back(schedule);
  }
  snapshots_ = std::make_unique<SnapshotKeeper>(
      ports_.scheduler, *storage_, ports_.wall_clock_ns,
      [this](std::string phase, std::string text) {
        log(warning_severity, std::move(phase), std::move(text));
      },
      std::move(schedules));
}

void IdentityService::end_orders() {
  if (spares_) spares_->close();
  spares_.reset();
  if (cores_) cores_->close();
  cores_.reset();
  snapshots_.reset();
  if (orders_) orders_->close();
  orders_.reset();
}

std::string IdentityService::not_served() const {
  return "the pool of " + config_.name_of(identity_) +
         " is not served here now: see `duet status` for who does";
}

void IdentityService::pool_order(const admin::PoolOrder& order, PoolOrders::Done done) {
  if (serving() && orders_) return orders_->carry_out(order, std::move(done));
  admin::PoolReply refusal;
  refusal.why = not_served();
  done(std::move(refusal));
}

void IdentityService::export_lun(const filesystem::LunInfo& lun) {
  if (auto added = target_->add(lun); !added) {
    log(error_severity, "lun.offline",
        fmt::format("LUN {} ({}) of {} is not exported: {}", lun.name, lun.number.value(),
                    config_.name_of(identity_), added.error().message));
  }
}

void IdentityService::failed(std::string why) {
  MARK(assume_failed_in_engine);
  if (!order_.absent.empty()) {
    why += " (not fenced, so not used:";
    for (auto index : order_.absent) {
      why += " disk " + (index < ports_.disks.size() ? ports_.disks[index]->name() : "?");
    }
    why += ")";
  }
  ++attempt_;
  stop_everything();
  phase_ = Phase::unregistering;
  settle([this, why] {
    unregister_engine(usable_disks(),
                      in_this_attempt([this, why](Result<void>) { given_up(why); }));
  });
}

// The next attempt, or the partner's, may not meet a write of this one.
void IdentityService::settle(const std::function<void()>& then) {
  for (WatchedDisk* disk : ports_.disks) {
    if (!disk->writing()) continue;
    MARK(assume_failed_while_writing);
    return disk->when_settled(in_this_attempt([this, then] { settle(then); }));
  }
  then();
}

void IdentityService::given_up(const std::string& why) {
  phase_ = Phase::idle;
  if (!std::exchange(order_, {}).absent.empty()) storage_.reset();
  ports_.tell(AssumeFailedFact{identity_, why});
}

void IdentityService::stop_everything() {
  ports_.scheduler.cancel(limit_timer_);
  ports_.scheduler.cancel(step_timer_);
  spares_.reset();
  cores_.reset();
  snapshots_.reset();
  orders_.reset();
  target_.reset();
  files_.reset();
  logged_.reset();
  replay_.reset();
  if (storage_) storage_->close();
}

// ---- serving ----

void IdentityService::grant(const GrantOrder& order) {
  if (logged_) logged_->on_grant(order.mode, order.since);
}

void IdentityService::on_mirror(bool up) {
  if (logged_) logged_->on_mirror(up);
}

void IdentityService::on_disk_reset() {
  if (storage_) storage_->disks_were_reset();
}

void IdentityService::on_partner_down(bool down) {
  partner_down_ = down;
  if (logged_) logged_->on_partner_down(down);
}

void IdentityService::on_consistency_point(const nvlog::LogPosition& position) {
  ++consistency_points_;
  if (logged_) logged_->on_consistency_point(position);
  if (position.sequence < awaited_) return;
  if (phase_ == Phase::replaying && !replay_) serve();
  if (phase_ == Phase::flushing) drain();
}

void IdentityService::create_lun(const std::string& name, std::uint64_t size, LunDone done,
                                 bool reserve) {
  if (phase_ != Phase::serving)
    return done(fail(ErrorCode::refused, "the identity is not served here now"));
  auto record = storage_->prepare_create(name, size, reserve);
  if (!record) return done(std::unexpected(record.error()));
  logged_->submit(std::move(*record), in_this_attempt([this, name, done](Result<void> r) {
                    if (!r) return done(std::unexpected(r.error()));
                    for (const auto& lun : storage_->luns()) {
                      if (lun.name != name) continue;
                      export_lun(lun);
                      return done(std::vector<LunInfo>{info(lun)});
                    }
                    done(fail(ErrorCode::not_found, "deleted meanwhile"));
                  }));
}

void IdentityService::delete_lun(const std::string& name, LunDone done) {
  if (phase_ != Phase::serving)
    return done(fail(ErrorCode::refused, "the identity is not served here now"));
  auto luns = storage_->luns();
  auto it = std::ranges::find(luns, name, &filesystem::LunInfo::name);
  if (it == luns.end()) return done(fail(ErrorCode::not_found, "no LUN '" + name + "'"));
  auto number = it->number;
  if (!deleting_.insert(number).second) {
    return done(fail(ErrorCode::refused, "'" + name + "' is being deleted or restored already"));
  }
  // First nobody uses it any more, then it goes. An offline LUN is not exported.
  if (!target_->exported(number)) return log_deletion(number, std::move(done));
  target_->remove(number, in_this_attempt([this, number, done = std::move(done)] {
                    log_deletion(number, done);
                  }));
}

// Nobody may delete them meanwhile.
Status IdentityService::withdraw_luns(std::vector<LunNumber> luns, ports::Task then) {
  for (const LunNumber lun : luns) {
    if (deleting_.contains(lun)) return fail(ErrorCode::busy, "a LUN is being deleted: try again");
  }
  auto left = std::make_shared<std::size_t>(1);
  auto last = std::make_shared<ports::Task>(std::move(then));
  const auto one_less = [left, last] {
    if (--*left == 0) (*last)();
  };
  for (const LunNumber lun : luns) {
    deleting_.insert(lun);
    if (!target_->exported(lun)) continue;
    ++*left;
    target_->remove(lun, in_this_attempt(one_less));
  }
  ports_.scheduler.post(in_this_attempt(one_less));
  return {};
}

void IdentityService::log_deletion(LunNumber lun, LunDone done) {
  const auto* there = storage_->find(lun);
  const std::string name = there == nullptr ? "" : there->name;
  const auto volume = storage_->volume_of(lun);
  logged_->submit(
      filesystem::LunDeleteRecord{lun},
      in_this_attempt([this, lun, name, volume, done = std::move(done)](Result<void> r) {
        deleting_.erase(lun);
        if (r && volume && orders_) orders_->lun_deleted(*volume, name);
        if (r) return done(std::vector<LunInfo>{});
        // It is still there, so clients get it back.
        const auto* left = storage_->find(lun);
        if (left != nullptr && !target_->exported(lun)) export_lun(*left);
        done(std::unexpected(r.error()));
      }));
}

LunInfo IdentityService::info(const filesystem::LunInfo& lun) const {
  return {identity_, lun.number, lun.name, lun.size, lun.serial, to_text(lun.naa), lun.reserved};
}

std::vector<LunInfo> IdentityService::luns() const {
  std::vector<LunInfo> all;
  if (!serving()) return all;
  for (const auto& lun : storage_->luns()) all.push_back(info(lun));
  return all;
}

EngineReport::PerIdentity IdentityService::report() const {
  EngineReport::PerIdentity r;
  r.identity = identity_;
  r.serving = serving();
  r.consistency_points = consistency_points_;
  if (!serving()) return r;
  // Nothing has been acknowledged under no mark: that is what write-through means, too.
  r.mode = logged_->durability().value_or(Durability::write_through);
  r.log_used = logged_->log_used();
  r.log_size = logged_->log_size();
  for (auto& session : target_->sessions()) {
    ++r.sessions;
    if (r.clients.size() < EngineReport::max_clients) r.clients.push_back(std::move(session.peer));
  }
  r.pool_health = storage_->health().substr(0, EngineReport::max_text);
  r.mirror = mirror_of(logged_->mirror_state());
  r.dirty = storage_->dirty_bytes();
  r.luns = static_cast<std::uint32_t>(storage_->luns().size());
  return r;
}

// ---- the end of the service: release, hand over ----

void IdentityService::release() {
  if (phase_ != Phase::serving) {
    ports_.tell(ReleaseFailedFact{identity_, "it is not served here"});
    return;
  }
  end_service(Goal::release, release_limit);
}

void IdentityService::hand_over() {
  if (handed_over_) return ports_.tell(HandedOverFact{identity_, stored_});
  if (phase_ != Phase::serving) {
    ports_.tell(HandOverFailedFact{identity_, "it is not served here"});
    return;
  }
  end_service(Goal::hand_over, hand_over_limit);
}

void IdentityService::cancel_hand_over() {
  if (handed_over_) return ports_.tell(HandedOverFact{identity_, stored_});
  bool under_way =
      goal_ == Goal::hand_over && (phase_ == Phase::flushing || phase_ == Phase::draining ||
                                   phase_ == Phase::storing || phase_ == Phase::parting);
  if (!under_way) {
    return ports_.tell(HandOverFailedFact{identity_, "it is not being handed over"});
  }
  end_failed("cancelled");
}

void IdentityService::end_service(Goal goal, Duration limit) {
  goal_ = goal;
  ++ends_;
  phase_ = Phase::flushing;
  limit_timer_ = ports_.scheduler.at(ports_.scheduler.now() + limit, in_this_attempt([this] {
                                       end_failed("the disks do not take what they have to");
                                     }));
  awaited_ = logged_->last();
  if (storage_->position().sequence >= awaited_) {
    drain();
  } else {
    storage_->start_consistency_point();
  }
}

void IdentityService::drain() {
  phase_ = Phase::draining;
  log(info_severity, goal_ == Goal::release ? "release.draining" : "handover.draining",
      "no new commands for " + config_.name_of(identity_));
  if (goal_ == Goal::release) {
    step_timer_ = ports_.scheduler.at(ports_.scheduler.now() + drain_limit, in_this_attempt([this] {
                                        end_failed("commands of clients do not end");
                                      }));
  }
  draining_ = 2;
  const auto one_less = in_this_attempt([this, end = ends_] {
    if (end == ends_ && phase_ == Phase::draining && --draining_ == 0) drained();
  });
  target_->drain(one_less);
  files_->drain(one_less);
}

void IdentityService::drained() {
  ports_.scheduler.cancel(step_timer_);
  if (goal_ == Goal::hand_over) return store_requests();
  close_pool();
}

// Release: what is left goes to the disks while the last answers leave.
void IdentityService::close_pool() {
  phase_ = Phase::closing;
  closing_ = 2;
  target_->part(ports_.scheduler.now() + part_limit, in_this_attempt([this] { closed(); }));
  logged_->flush(in_this_attempt([this](Result<void>) {
    storage_->deactivate(in_this_attempt([this](Result<void> r) {
      if (!r) return end_failed("the last consistency point failed: " + r.error().message);
      closed();
    }));
  }));
}

void IdentityService::closed() {
  if (--closing_ == 0) unregister();
}

void IdentityService::unregister() {
  phase_ = Phase::unregistering;
  ports_.scheduler.cancel(limit_timer_);
  ++attempt_;
  // From here on there is no way back: clients are sent away and the pool is closed.
  end_orders();
  target_.reset();
  files_.reset();
  logged_.reset();
  storage_->close();
  // A write that does not end is aborted with our key by who claims the disk: it stays there.
  unregister_engine(settled_disks(), in_this_attempt([this](Result<void>) {
                      phase_ = Phase::idle;
                      order_ = {};
                      ports_.tell(ReleasedFact{identity_});
                    }));
}

// Hand over: stored is what both NVRAMs hold; the rest is forgotten, nobody was promised anything.
void IdentityService::store_requests() {
  phase_ = Phase::storing;
  std::vector<Slice> payloads;
  for (const auto& request : target_->waiting_requests(max_stored_requests)) {
    payloads.push_back(copy_to_slice(iscsi::encode(request)));
  }
  step_timer_ = ports_.scheduler.at(ports_.scheduler.now() + store_limit,
                                    in_this_attempt([this] { stored(0); }));
  logged_->store(nvlog::RecordKind::stored_request, payloads,
                 in_this_attempt([this, end = ends_](Result<std::size_t> r) {
                   if (end == ends_) stored(r ? *r : 0);
                 }));
}

void IdentityService::stored(std::uint64_t count) {
  if (phase_ != Phase::storing) return;
  ports_.scheduler.cancel(step_timer_);
  stored_ = count;
  phase_ = Phase::parting;
  target_->part(ports_.scheduler.now() + part_limit, in_this_attempt([this] { handed_over(); }));
}

// The partner replays what the last consistency point does not hold. We neither answer nor write
// any more, but stay registered: its fencing takes that away.
void IdentityService::handed_over() {
  ++attempt_;
  end_orders();
  stop_everything();
  phase_ = Phase::idle;
  handed_over_ = true;
  ports_.tell(HandedOverFact{identity_, stored_});
}

void IdentityService::end_failed(const std::string& why) {
  ports_.scheduler.cancel(limit_timer_);
  ports_.scheduler.cancel(step_timer_);
  if (phase_ == Phase::closing) {
    // The pool admits nothing any more and its last consistency point is not known to be done: only
    // a new start from the log helps, and that is what fencing leads to.
    log(error_severity, "release.failed", why);
    ports_.tell(FencedFact{identity_});
    return;
  }
  // While flushing clients were served all the time.
  if (std::exchange(phase_, Phase::serving) != Phase::flushing) {
    target_->resume();
    files_->resume();
  }
  if (goal_ == Goal::release) {
    ports_.tell(ReleaseFailedFact{identity_, why});
  } else {
    ports_.tell(HandOverFailedFact{identity_, why});
  }
}

void IdentityService::log(std::uint8_t severity, std::string phase, std::string text) {
  ports_.tell(LogFact{severity, std::move(phase), std::move(text)});
}

}  // namespace duet::node
