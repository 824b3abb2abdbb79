#include "filesystem/extent_pool.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/crc32c.h"

namespace duet::filesystem {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

std::unexpected<Error> no_such_lun(LunNumber lun) {
  return fail(ErrorCode::not_found, "there is no LUN " + std::to_string(lun.value()));
}

Status check_range(const Lun& lun, std::uint64_t offset, std::uint64_t length) {
  if (offset > lun.info.size || length > lun.info.size - offset) {
    return fail(ErrorCode::invalid, "beyond the end of LUN " + lun.info.name);
  }
  return {};
}

std::uint64_t total_size(const std::vector<Slice>& slices) {
  std::uint64_t size = 0;
  for (const Slice& slice : slices) size += slice.bytes.size();
  return size;
}

LunNumber lun_of(const Record& record) {
  return std::visit([](const auto& r) { return r.lun; }, record);
}

}  // namespace

ExtentPool::ExtentPool(ports::Scheduler& scheduler, Options options)
    : scheduler_(scheduler), options_(std::move(options)), clean_cache_(options_.read_cache) {
  ASSERT(!options_.disks.empty());
}

ExtentPool::~ExtentPool() {
  close();
}

void ExtentPool::fail_later(ports::Done<void>& done, Error error) {
  if (!done) return;
  scheduler_.post([done = std::exchange(done, nullptr), error = std::move(error)]() mutable {
    done(std::unexpected(std::move(error)));
  });
}

// ---- life ----

void ExtentPool::load(const std::optional<Superblock>& known, ports::Done<void> done,
                      std::function<Status(PoolMetadata)> then) {
  auto loaded = [session = std::weak_ptr(session_), done = std::move(done),
                 then = std::move(then)](Result<PoolMetadata> metadata) mutable {
    if (session.expired()) return done(fail(ErrorCode::cancelled, "the pool was closed"));
    if (!metadata) return done(std::unexpected(metadata.error()));
    done(then(std::move(*metadata)));
  };
  load_pool_metadata(scheduler_, options_.disks, options_.pool, known, std::move(loaded));
}

void ExtentPool::open(ports::Done<void> done) {
  if (state_ != StorageState::closed || session_ != nullptr) {
    return fail_later(done, {ErrorCode::refused, "the pool is open already"});
  }
  session_ = std::make_shared<Session>();
  auto finished = [this, session = std::weak_ptr(session_),
                   done = std::move(done)](Status status) mutable {
    if (!status && !session.expired()) session_.reset();  // may be opened again
    done(std::move(status));
  };
  load({}, std::move(finished), [this](PoolMetadata metadata) -> Status {
    superblock_ = std::move(metadata.superblock);
    table_ = LunTable(superblock_, std::move(*metadata.luns));
    applied_ = superblock_.position;
    state_ = StorageState::read_only;
    return {};
  });
}

void ExtentPool::activate(Epoch epoch, ports::Done<void> done) {
  const bool opening = state_ == StorageState::closed && session_ == nullptr;
  if (state_ != StorageState::read_only && !opening) {
    return fail_later(done, {ErrorCode::refused, "the pool is being opened, or active"});
  }
  std::optional<Superblock> known;
  if (opening) {
    session_ = std::make_shared<Session>();
  } else {
    known = superblock_;
  }
  auto before = state_;
  auto finished = [this, opening, session = std::weak_ptr(session_),
                   done = std::move(done)](Status status) mutable {
    if (!status && opening && !session.expired()) session_.reset();  // may be opened again
    done(std::move(status));
  };
  load(known, std::move(finished), [this, before, epoch](PoolMetadata metadata) -> Status {
    if (state_ != before) return fail(ErrorCode::refused, "the pool is active already");
    if (metadata.superblock.epoch > epoch) {
      return fail(ErrorCode::refused, "the pool was written in epoch " +
                                          std::to_string(metadata.superblock.epoch.value()) +
                                          ", later than " + std::to_string(epoch.value()));
    }
    superblock_ = std::move(metadata.superblock);
    if (metadata.luns) table_ = LunTable(superblock_, std::move(*metadata.luns));
    applied_ = superblock_.position;
    epoch_ = epoch;
    dirty_ = DirtyCache(superblock_.geometry.extent_size);
    clean_cache_.clear();
    ++flushes_;
    state_ = StorageState::active;
    set_health(lasting_health());
    return {};
  });
}

void ExtentPool::deactivate(ports::Done<void> done) {
  if (state_ != StorageState::active || deactivated_) {
    return fail_later(done, {ErrorCode::refused, "the pool is not active"});
  }
  deactivated_ = std::move(done);
  if (point_) return;  // its end goes on from here
  scheduler_.post([this, session = std::weak_ptr(session_)] {
    if (!session.expired() && !point_) finish_deactivation();
  });
}

void ExtentPool::finish_deactivation() {
  if (!deactivated_ || state_ != StorageState::active) return;
  if (!clean()) return begin_consistency_point();
  state_ = StorageState::read_only;
  std::exchange(deactivated_, nullptr)({});
}

void ExtentPool::close() {
  session_.reset();
  if (retry_ != ports::TimerId()) scheduler_.cancel(std::exchange(retry_, {}));
  state_ = StorageState::closed;
  point_.reset();
  pending_ = {};
  again_ = false;
  dirty_ = DirtyCache();
  clean_cache_.clear();
  ++flushes_;
  table_ = LunTable();
  superblock_ = {};
  applied_ = {};
  health_.clear();
  fail_later(deactivated_, {ErrorCode::cancelled, "the pool was closed"});
}

// ---- LUNs ----

std::vector<LunInfo> ExtentPool::luns() const {
  std::vector<LunInfo> infos;
  for (const auto& [number, lun] : table_.all()) infos.push_back(lun->info);
  return infos;
}

const LunInfo* ExtentPool::find(LunNumber number) const {
  const Lun* lun = table_.find(number);
  return lun == nullptr ? nullptr : &lun->info;
}

Capacity ExtentPool::capacity() const {
  std::uint64_t unit = superblock_.geometry.extent_size;
  return {superblock_.geometry.extents() * unit, table_.free_extents() * unit, unit};
}

Result<LogRecord> ExtentPool::prepare_create(const std::string& name, std::uint64_t size) const {
  if (state_ != StorageState::active || deactivated_) {
    return fail(ErrorCode::refused, "the pool is not active");
  }
  auto record = table_.prepare_create(name, size);
  if (!record) return std::unexpected(record.error());
  return encode(*record);
}

// ---- changes ----

// What apply needs, apart from room in memory.
Status ExtentPool::check(const Record& record) const {
  if (const auto* create = std::get_if<LunCreateRecord>(&record))
    return table_.check_create(*create);
  const Lun* lun = table_.find(lun_of(record));
  if (lun == nullptr) return no_such_lun(lun_of(record));
  if (const auto* write = std::get_if<WriteRecord>(&record)) {
    return check_range(*lun, write->offset, total_size(write->data));
  }
  if (const auto* zero = std::get_if<ZeroRecord>(&record)) {
    return check_range(*lun, zero->offset, zero->length);
  }
  if (const auto* reservations = std::get_if<ReservationsRecord>(&record)) {
    return table_.check_reservations(*reservations);
  }
  return {};
}

Status ExtentPool::admit(const LogRecord& log_record) const {
  if (state_ != StorageState::active || deactivated_) {
    return fail(ErrorCode::refused, "the pool is not active");
  }
  auto record = decode(log_record);
  if (!record) return std::unexpected(record.error());
  if (auto status = check(*record); !status) return status;
  std::uint64_t cost = 0;
  if (const auto* write = std::get_if<WriteRecord>(&*record)) {
    cost = dirty_.write_cost(total_size(write->data));
  } else if (const auto* zero = std::get_if<ZeroRecord>(&*record)) {
    cost = dirty_.zero_cost(zero->length);
  }
  const Lun* lun = table_.find(lun_of(*record));
  if (lun != nullptr && !lun->info.offline.empty() &&
      !std::holds_alternative<LunDeleteRecord>(*record)) {
    return fail(ErrorCode::refused, "LUN " + lun->info.name + " is offline: " + lun->info.offline);
  }
  // A record larger than the bound goes in alone.
  if (std::uint64_t used = dirty_bytes(); cost > 0 && used > 0 && used + cost > dirty_limit()) {
    return fail(ErrorCode::busy, "too much data waits for the next consistency point");
  }
  return {};
}

void ExtentPool::change(const Record& record) {
  std::visit(Overloaded{
                 [this](const WriteRecord& r) {
                   dirty_.write(table_.find(r.lun)->instance, r.offset, r.data);
                 },
                 [this](const ZeroRecord& r) {
                   dirty_.zero(table_.find(r.lun)->instance, r.offset, r.length);
                 },
                 [this](const LunCreateRecord& r) { table_.create(r); },
                 [this](const LunDeleteRecord& r) {
                   dirty_.drop(table_.find(r.lun)->instance);
                   table_.remove(r.lun);
                 },
                 [this](const ReservationsRecord& r) { table_.set_reservations(r); },
             },
             record);
}

Status ExtentPool::apply(const LogPosition& position, const LogRecord& log_record) {
  if (state_ != StorageState::active) return fail(ErrorCode::refused, "the pool is not active");
  if (position.sequence <= applied_.sequence) return {};  // I8, I9
  auto record = decode(log_record);
  Status status;
  if (!record) {
    status = std::unexpected(record.error());
  } else {
    status = check(*record);
  }
  if (!status) {
    Error error{status.error().code, "log record " + std::to_string(position.sequence.value()) +
                                         ": " + status.error().message};
    status = poison(log_record, error);
    if (state_ == StorageState::active) applied_ = position;
    return status;
  }
  change(*record);
  applied_ = position;
  return {};
}

// Never skips a bad record silently, and never dies of it: the partner would replay it and die,
// too.
Status ExtentPool::poison(const LogRecord& record, const Error& error) {
  std::uint64_t number = record.words[0];
  Lun* lun = nullptr;
  if (record.kind >= nvlog::RecordKind::write && record.kind <= nvlog::RecordKind::reservations &&
      number <= max_lun_number) {
    lun = table_.find(LunNumber(static_cast<std::uint16_t>(number)));
  }
  if (lun != nullptr) {
    table_.take_offline(lun->info.number, error.message);
    set_health(lasting_health());
  } else {
    state_ = StorageState::offline;
    fail_later(deactivated_, {ErrorCode::refused, error.message});
    set_health("offline: " + error.message);
  }
  return std::unexpected(error);
}

void ExtentPool::skip(const LogPosition& position) {
  if (state_ == StorageState::active && position.sequence > applied_.sequence) applied_ = position;
}

// ---- trouble ----

void ExtentPool::fence(const std::string& why) {
  if (state_ != StorageState::active && state_ != StorageState::offline) return;
  state_ = StorageState::fenced;
  point_.reset();
  if (retry_ != ports::TimerId()) scheduler_.cancel(std::exchange(retry_, {}));
  fail_later(deactivated_, {ErrorCode::reservation_conflict, why});
  std::weak_ptr session = session_;
  set_health("fenced: " + why);
  if (!session.expired() && on_fenced_) on_fenced_(why);
}

void ExtentPool::set_health(std::string health) {
  if (health == health_) return;
  health_ = std::move(health);
  if (on_health_) on_health_(health_);
}

std::string ExtentPool::lasting_health() const {
  for (const auto& [number, lun] : table_.all()) {
    if (!lun->info.offline.empty()) {
      return "LUN " + lun->info.name + " is offline: " + lun->info.offline;
    }
  }
  return {};
}

void ExtentPool::on_consistency_point(std::function<void(const LogPosition&)> callback) {
  on_consistency_point_ = std::move(callback);
}
void ExtentPool::on_fenced(std::function<void(const std::string&)> callback) {
  on_fenced_ = std::move(callback);
}
void ExtentPool::on_health(std::function<void(const std::string&)> callback) {
  on_health_ = std::move(callback);
}

}  // namespace duet::filesystem
