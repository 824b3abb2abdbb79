#include "simulation/fake_disk.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace duet::simulation {
namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t page_sectors = DiskImage::page_size / sector;

std::uint64_t total_size(const std::vector<Slice>& data) {
  std::uint64_t size = 0;
  for (const Slice& slice : data) size += slice.bytes.size();
  return size;
}
Slice join(const std::vector<Slice>& data, std::uint64_t size) {
  auto joined = make_buffer(size);
  std::uint64_t at = 0;
  for (const Slice& slice : data) {
    std::ranges::copy(slice.bytes, joined.bytes.subspan(at).begin());
    at += slice.bytes.size();
  }
  return joined.slice();
}

bool all_registrants(ports::ReservationType type) {
  return type == ports::ReservationType::write_exclusive_all_registrants ||
         type == ports::ReservationType::exclusive_access_all_registrants;
}
bool registrants_may(ports::ReservationType type) {
  return all_registrants(type) ||
         type == ports::ReservationType::write_exclusive_registrants_only ||
         type == ports::ReservationType::exclusive_access_registrants_only;
}
bool others_may_read(ports::ReservationType type) {
  return type == ports::ReservationType::write_exclusive ||
         type == ports::ReservationType::write_exclusive_registrants_only ||
         type == ports::ReservationType::write_exclusive_all_registrants;
}

}  // namespace

void PowerSupply::count() {
  ++operations_;
  if (countdown_ == 0) return;
  --countdown_;
  if (countdown_ == 0) cut();
}
void PowerSupply::cut() {
  on_ = false;
  countdown_ = 0;
  for (FakeMedium* medium : media_) medium->power_cut();
}
void PowerSupply::restore() {
  on_ = true;
  countdown_ = 0;
  for (FakeMedium* medium : media_) medium->power_restore();
}

FakeMedium::FakeMedium(ports::Scheduler& scheduler, Options options, PowerSupply* power)
    : scheduler_(scheduler),
      options_(std::move(options)),
      power_(power),
      random_(options_.seed),
      bytes_(options_.size) {
  ASSERT(options_.size % options_.block_size == 0 && options_.block_size % sector == 0);
  if (power_ != nullptr) power_->media_.push_back(this);
}

FakeMedium::~FakeMedium() {
  ASSERT(paths_.empty());
  if (power_ != nullptr) std::erase(power_->media_, this);
}

std::unique_ptr<FakeDisk> FakeMedium::connect() {
  return std::unique_ptr<FakeDisk>(new FakeDisk(*this, ++last_nexus_));
}

void FakeMedium::power_cut() {
  if (!powered_) return;
  powered_ = false;
  for (const auto& [page, cached] : cache_) {
    for (std::uint64_t i = 0; i < page_sectors; ++i) {
      if ((cached.sectors >> i & 1) == 0 || !random_.chance(1, 2)) continue;
      bytes_.write(page * DiskImage::page_size + i * sector,
                   Bytes(cached.bytes).subspan(i * sector, sector));
    }
  }
  cache_.clear();
  // Each write in flight may have landed in part: none, some or all of its sectors.
  for (const auto& [id, operation] : in_flight_) {
    const std::uint64_t odds = random_.below(5);
    std::uint64_t offset = operation.offset;
    for (const Slice& slice : operation.data) {
      for (std::uint64_t at = 0; at < slice.bytes.size(); at += sector, offset += sector) {
        if (random_.chance(odds, 4)) store(offset, slice.bytes.subspan(at, sector), true);
      }
    }
  }
  for (FakeDisk* path : paths_) {
    abort(path, ErrorCode::disconnected);
    path->tell_connection(false);
  }
}

void FakeMedium::power_restore() {
  if (powered_) return;
  powered_ = true;
  for (FakeDisk* path : paths_) {
    path->tell_connection(path->connected_);
    path->tell(ports::Attention::power_on_or_reset);
  }
}

void FakeMedium::load(DiskImage image) {
  ASSERT(image.size() == options_.size && in_flight_.empty());
  cache_.clear();
  bytes_ = std::move(image);
}

std::vector<std::byte> FakeMedium::peek(std::uint64_t offset, std::uint64_t size) const {
  std::vector<std::byte> seen(size);
  look(offset, seen);
  return seen;
}

void FakeMedium::look(std::uint64_t offset, MutableBytes into) const {
  bytes_.read(offset, into);
  for (auto it = cache_.lower_bound(offset / DiskImage::page_size);
       it != cache_.end() && it->first * DiskImage::page_size < offset + into.size(); ++it) {
    for (std::uint64_t i = 0; i < page_sectors; ++i) {
      if ((it->second.sectors >> i & 1) == 0) continue;
      const std::uint64_t begin = it->first * DiskImage::page_size + i * sector;
      const std::uint64_t from = std::max(begin, offset);
      const std::uint64_t to = std::min(begin + sector, offset + into.size());
      if (from >= to) continue;
      std::ranges::copy(Bytes(it->second.bytes).subspan(from % DiskImage::page_size, to - from),
                        into.subspan(from - offset).begin());
    }
  }
}

void FakeMedium::poke(std::uint64_t offset, Bytes bytes) {
  flush();
  bytes_.write(offset, bytes);
}

void FakeMedium::start(InFlight operation, std::uint64_t size) {
  const std::uint64_t id = ++last_operation_;
  Duration time(random_.below(static_cast<std::uint64_t>(options_.latency_max.count()) + 1));
  if (latency) time = latency(operation.operation, operation.offset, size).value_or(time);
  operation.timer = scheduler_.at(scheduler_.now() + time, [this, id] { complete(id); });
  if (operation.operation == DiskOperation::write) {
    writes_in_flight_max_ = std::max(writes_in_flight_max_, ++writes_in_flight_);
  }
  ++operation.path->in_flight_;
  if (watch && operation.operation != DiskOperation::read) {
    watch({id, false, operation.operation == DiskOperation::flush, operation.durable,
           operation.offset, operation.data});
  }
  in_flight_.emplace(id, std::move(operation));
}

void FakeMedium::complete(std::uint64_t id) {
  auto node = in_flight_.extract(id);
  InFlight& ended = node.mapped();
  --ended.path->in_flight_;
  switch (ended.operation) {
    case DiskOperation::read:
      if (!ended.into.empty()) look(ended.offset, ended.into);
      break;
    case DiskOperation::write:
      --writes_in_flight_;
      store(ended.offset, ended.data, ended.durable);
      break;
    case DiskOperation::flush:
      flush();
      break;
  }
  if (watch && ended.operation != DiskOperation::read) {
    watch({id, true, ended.operation == DiskOperation::flush, ended.durable, ended.offset, {}});
  }
  ended.done({});
}

void FakeMedium::abort(FakeDisk* path, ErrorCode code) {
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    if (it->second.path != path) {
      ++it;
      continue;
    }
    scheduler_.cancel(it->second.timer);
    scheduler_.post([done = std::move(it->second.done), code, name = options_.name]() mutable {
      done(fail(code, name + ": aborted"));
    });
    if (it->second.operation == DiskOperation::write) --writes_in_flight_;
    it = in_flight_.erase(it);
  }
  path->in_flight_ = 0;
}

void FakeMedium::store(std::uint64_t offset, const std::vector<Slice>& data, bool durable) {
  for (const Slice& slice : data) {
    store(offset, slice.bytes, durable);
    offset += slice.bytes.size();
  }
}

void FakeMedium::store(std::uint64_t offset, Bytes data, bool durable) {
  const bool through = durable || !options_.volatile_cache;
  if (through) bytes_.write(offset, data);
  if (through && cache_.empty()) return;
  while (!data.empty()) {
    const std::uint64_t page = offset / DiskImage::page_size;
    const std::uint64_t at = offset % DiskImage::page_size;
    const std::uint64_t part = std::min<std::uint64_t>(data.size(), DiskImage::page_size - at);
    const auto sectors =
        static_cast<std::uint8_t>(((1u << (part + sector - 1) / sector) - 1) << at / sector);
    if (through) {
      auto cached = cache_.find(page);
      if (cached != cache_.end()) {
        cached->second.sectors &= static_cast<std::uint8_t>(~sectors);
        if (cached->second.sectors == 0) cache_.erase(cached);
      }
    } else {
      CachedPage& cached = cache_[page];
      cached.sectors |= sectors;
      std::ranges::copy(data.first(part), cached.bytes.begin() + static_cast<std::ptrdiff_t>(at));
    }
    offset += part;
    data = data.subspan(part);
  }
}

void FakeMedium::flush() {
  for (const auto& [page, cached] : cache_) {
    const bool whole = cached.sectors == 0xff;
    const std::uint64_t step = whole ? page_sectors : 1;
    for (std::uint64_t i = 0; i < page_sectors; i += step) {
      if ((cached.sectors >> i & 1) == 0) continue;
      bytes_.write(page * DiskImage::page_size + i * sector,
                   Bytes(cached.bytes).subspan(i * sector, step * sector));
    }
  }
  cache_.clear();
}

bool FakeMedium::may_read(const FakeDisk* path) const {
  return !holder_ || others_may_read(type_) || may_write(path);
}
bool FakeMedium::may_write(const FakeDisk* path) const {
  if (!holder_) return true;
  return *holder_ == path->nexus_ || (registrants_may(type_) && registered_.contains(path->nexus_));
}

FakeDisk::FakeDisk(FakeMedium& medium, std::uint64_t nexus) : medium_(medium), nexus_(nexus) {
  geometry_ = {medium_.options_.size, medium_.options_.block_size, medium_.options_.volatile_cache,
               medium_.options_.name};
  medium_.paths_.insert(this);
}
FakeDisk::~FakeDisk() {
  medium_.abort(this, ErrorCode::cancelled);
  medium_.paths_.erase(this);
}

const std::string& FakeDisk::name() const {
  return medium_.options_.name;
}
void FakeDisk::on_connection(std::move_only_function<void(bool)> callback) {
  on_connection_ = std::move(callback);
}
void FakeDisk::on_attention(std::move_only_function<void(ports::Attention)> callback) {
  on_attention_ = std::move(callback);
}
void FakeDisk::tell_connection(bool connected) {
  medium_.scheduler_.post([this, connected, alive = std::weak_ptr(alive_)] {
    if (!alive.expired() && on_connection_) on_connection_(connected);
  });
}
void FakeDisk::tell(ports::Attention attention) {
  medium_.scheduler_.post([this, attention, alive = std::weak_ptr(alive_)] {
    if (!alive.expired() && on_attention_) on_attention_(attention);
  });
}

void FakeDisk::disconnect() {
  if (!connected_) return;
  connected_ = false;
  // What was in flight on the lost path may still have happened.
  for (const auto& [id, operation] : medium_.in_flight_) {
    if (operation.path == this && operation.operation == DiskOperation::write &&
        medium_.random_.chance(1, 2)) {
      medium_.store(operation.offset, operation.data, false);
    }
  }
  medium_.abort(this, ErrorCode::disconnected);
  tell_connection(false);
}
void FakeDisk::reconnect() {
  if (connected_) return;
  connected_ = true;
  if (medium_.powered_) tell_connection(true);
}

std::optional<Error> FakeDisk::refuse(DiskOperation operation, std::uint64_t offset,
                                      std::uint64_t size) {
  if (!connected()) return Error{ErrorCode::disconnected, name() + ": no path"};
  if (in_flight_ >= medium_.options_.queue_depth)
    return Error{ErrorCode::busy, name() + ": queue full"};
  const std::uint64_t mask = geometry_.block_size - 1;
  if ((offset & mask) != 0 || (size & mask) != 0 || offset > geometry_.size ||
      size > geometry_.size - offset) {
    return Error{ErrorCode::invalid, name() + ": not aligned or beyond the end"};
  }
  bool allowed =
      operation == DiskOperation::read ? medium_.may_read(this) : medium_.may_write(this);
  if (!allowed) return Error{ErrorCode::reservation_conflict, name() + ": reservation conflict"};
  if (medium_.fault) {
    if (auto code = medium_.fault(operation, offset, size))
      return Error{*code, name() + ": injected"};
  }
  return {};
}

void FakeDisk::read(std::uint64_t offset, MutableBytes into, ports::Done<void> done) {
  if (auto error = refuse(DiskOperation::read, offset, into.size())) {
    return refused(std::move(*error), std::move(done));
  }
  // A disk may take the data at any time until it answers: by chance, at the beginning or the end.
  const bool early = medium_.random_.chance(1, 2);
  if (early) medium_.look(offset, into);
  const std::uint64_t size = into.size();
  if (early) into = {};
  medium_.start({this, DiskOperation::read, false, offset, {}, into, std::move(done), {}}, size);
}

void FakeDisk::write(std::uint64_t offset, std::vector<Slice> data, bool durable,
                     ports::Done<void> done) {
  const std::uint64_t size = total_size(data);
  if (auto error = refuse(DiskOperation::write, offset, size)) {
    return refused(std::move(*error), std::move(done));
  }
  medium_.bytes_written_ += size;
  if (std::ranges::any_of(data, [](const Slice& s) { return s.bytes.size() % sector != 0; })) {
    data = {join(data, size)};
  }
  medium_.start(
      {this, DiskOperation::write, durable, offset, std::move(data), {}, std::move(done), {}},
      size);
  if (medium_.power_ != nullptr) medium_.power_->count();
}

void FakeDisk::flush(ports::Done<void> done) {
  if (auto error = refuse(DiskOperation::flush, 0, 0)) {
    return refused(std::move(*error), std::move(done));
  }
  medium_.start({this, DiskOperation::flush, false, 0, {}, {}, std::move(done), {}}, 0);
  if (medium_.power_ != nullptr) medium_.power_->count();
}

void FakeDisk::refused(Error error, ports::Done<void> done) {
  medium_.scheduler_.post([done = std::move(done), error = std::move(error)]() mutable {
    done(std::unexpected(std::move(error)));
  });
}

Status FakeDisk::check_registered(ReservationKey key) const {
  auto found = medium_.registered_.find(nexus_);
  if (found != medium_.registered_.end() && found->second == key) return {};
  return fail(ErrorCode::reservation_conflict, name() + ": not registered with this key");
}

void FakeDisk::reservation_out(std::move_only_function<Status()> change, ports::Done<void> done) {
  Status status;
  if (!connected()) {
    status = fail(ErrorCode::disconnected, name() + ": no path");
  } else {
    status = change();
  }
  medium_.scheduler_.post(
      [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

void FakeDisk::register_key(ReservationKey key, ports::Done<void> done) {
  reservation_out(
      [this, key]() -> Status {
        ++medium_.generation_;
        if (key != ReservationKey(0)) {
          medium_.registered_[nexus_] = key;
          return {};
        }
        medium_.registered_.erase(nexus_);
        if (medium_.holder_ == nexus_) medium_.holder_.reset();
        return {};
      },
      std::move(done));
}

void FakeDisk::reserve(ReservationKey key, ports::ReservationType type, ports::Done<void> done) {
  reservation_out(
      [this, key, type]() -> Status {
        if (auto status = check_registered(key); !status) return status;
        bool same = medium_.holder_ == nexus_ && medium_.type_ == type;
        if (medium_.holder_ && !same) {
          return fail(ErrorCode::reservation_conflict, name() + ": already reserved");
        }
        medium_.holder_ = nexus_;
        medium_.type_ = type;
        return {};
      },
      std::move(done));
}

void FakeDisk::release(ReservationKey key, ports::ReservationType type, ports::Done<void> done) {
  reservation_out(
      [this, key, type]() -> Status {
        if (auto status = check_registered(key); !status) return status;
        if (medium_.holder_ != nexus_) return {};  // SPC-4 5.12.11.2.2: good, nothing released
        if (medium_.type_ != type) return fail(ErrorCode::invalid, name() + ": other type");
        medium_.holder_.reset();
        return {};
      },
      std::move(done));
}

void FakeDisk::preempt(ReservationKey key, ReservationKey victim, ports::ReservationType type,
                       bool abort, ports::Done<void> done) {
  reservation_out(
      [this, key, victim, type, abort]() -> Status {
        if (auto status = check_registered(key); !status) return status;
        bool holder_goes = false;
        if (medium_.holder_) {
          auto holder = medium_.registered_.find(*medium_.holder_);
          holder_goes = holder != medium_.registered_.end() && holder->second == victim;
        }
        bool known = std::ranges::any_of(medium_.registered_,
                                         [&](const auto& entry) { return entry.second == victim; });
        if (!known) return fail(ErrorCode::reservation_conflict, name() + ": no such key");
        ++medium_.generation_;
        for (FakeDisk* path : medium_.paths_) {
          auto found = medium_.registered_.find(path->nexus_);
          if (path == this || found == medium_.registered_.end() || found->second != victim)
            continue;
          if (abort) medium_.abort(path, ErrorCode::cancelled);
          path->tell(ports::Attention::registrations_preempted);
        }
        std::erase_if(medium_.registered_, [&](const auto& entry) {
          return entry.first != nexus_ && entry.second == victim;
        });
        if (holder_goes) {
          medium_.holder_ = nexus_;
          medium_.type_ = type;
        }
        return {};
      },
      std::move(done));
}

void FakeDisk::read_keys(ports::Done<ports::RegisteredKeys> done) {
  Result<ports::RegisteredKeys> result;
  if (connected()) {
    result->generation = medium_.generation_;
    for (const auto& [nexus, key] : medium_.registered_) result->keys.push_back(key);
  } else {
    result = fail(ErrorCode::disconnected, name() + ": no path");
  }
  medium_.scheduler_.post(
      [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void FakeDisk::read_reservation(ports::Done<ports::ReservationState> done) {
  Result<ports::ReservationState> result;
  if (connected()) {
    result->generation = medium_.generation_;
    result->reserved = medium_.holder_.has_value();
    if (medium_.holder_) {
      result->holder = medium_.registered_[*medium_.holder_];
      result->type = medium_.type_;
    }
  } else {
    result = fail(ErrorCode::disconnected, name() + ": no path");
  }
  medium_.scheduler_.post(
      [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

}  // namespace duet::simulation
